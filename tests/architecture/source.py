"""The house as text: which module says what, without importing it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("backend", "cliper_model")


@dataclass(frozen=True)
class Module:
    """One Python file of the two packages."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return parsed(self.path)

    @property
    def package(self) -> str:
        """What relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def part(self) -> str:
        """`backend.api`, `backend.predictor`, `cliper_model`: what the arrows are drawn between."""
        first, *rest = self.name.split(".")
        return first if first == "cliper_model" or not rest else f"{first}.{rest[0]}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path))
    return tuple(found)


def imports(module: Module, tree: ast.AST | None = None) -> Iterator[str]:
    """Absolute names of everything a module imports, at its top or inside a function.

    `from a import b` counts as `a.b` where that is a module of ours, else as `a`.
    """
    known = {one.name for one in modules()}
    for node in ast.walk(tree or module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.package.split(".")
                above = parents[: len(parents) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base


def parts_used(module: Module) -> set[str]:
    """Parts of the house a module leans on, its own left out."""
    by_name = {one.name: one.part for one in modules()}
    used = set()
    for name in imports(module):
        while name and name not in by_name:
            name = name.rpartition(".")[0]
        if name:
            used.add(by_name[name])
    return used - {module.part}


def top_level(name: str) -> str:
    return name.split(".")[0]
