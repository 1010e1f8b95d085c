"""Write docs/reference/python.md from the public names of `cliper_model` and their docstrings.

    python scripts/write_python_docs.py

A test compares the page with the code, so it cannot fall behind.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "python.md"
WIDTH: Final = 100  # of a signature

SECTIONS: Final = {  # every public name once
    "Load a model": ("load", "identity"),
    "Ask for masks": ("Segmenter", "Label", "Segmentation"),
    "Step by step": ("ImageState", "Vocabulary", "Scores", "Decision", "decide"),
    "What masks depend on": ("Identity",),
}
HIDDEN: Final = {"kind"}  # fields that only say how something is written down
ENTRY: Final = re.compile(r"^(\S+(?:[,/] ?\S+)*)\s{2,}(\S.*)$")  # `name    what it is`

INTRODUCTION = """\
# Python API

`import cliper_model` and nothing else: the names below are all there are to rely on; every other module may change. Importing costs nothing until a name is used. Pictures are arrays `[height, width, 3]`, uint8, RGB.
Models are immutable and may be shared by threads.

Made by `python scripts/write_python_docs.py` from the code.

```python runnable
import numpy as np
from PIL import Image

import cliper_model
from cliper_model import Label

model = cliper_model.load("demo")
picture = np.asarray(Image.open("scene.png").convert("RGB"))

found = model.segment(picture, ["sky", Label("house", ("house", "cottage"))])
for index, label in enumerate(found.labels):
    print(label, found.mask(index).shape, bool(found.presence[index] > 0.5))

# another threshold, and no network runs again
state, words = model.observe(picture), model.read(["sky", "house"])
scores = model.score(state, words)
strict = cliper_model.Decision(presence_threshold=0.9)
print(cliper_model.decide(scores, strict).labels)
```

```text output
sky (192, 192) True
house (192, 192) True
('sky', 'house')
```

Large pictures: [`cliper_model.tiled`](../how-to/large-pictures.md). Another method or feature source: [methods](methods.md). Every step on one picture: [how CLIPer works](../how-cliper-works.md).

"""  # noqa: E501 - a page

ERRORS = """\
## Errors

Everything that can be expected to go wrong is a `cliper_model.errors.CliperError`, and its message is one sentence that says what to do:

```text
{tree}
```
"""  # noqa: E501 - a page


def page() -> str:
    """The whole page as Markdown. Raises ValueError where names and sections differ."""
    import cliper_model
    from cliper_model import errors

    listed = [name for names in SECTIONS.values() for name in names]
    if sorted(listed) != sorted(cliper_model.__all__):
        differing = sorted(set(listed) ^ set(cliper_model.__all__))
        raise ValueError(f"SECTIONS and cliper_model.__all__ differ in {', '.join(differing)}")
    parts = [INTRODUCTION]
    for title, names in SECTIONS.items():
        parts += [f"## {title}\n\n", *(entry(name) for name in names)]
    tree = inspect.cleandoc(errors.__doc__ or "").rpartition("\n\n")[2]
    parts.append(ERRORS.format(tree=tree.rstrip()))
    return "".join(parts)


def entry(name: str) -> str:
    """One public name: its signature or fields, what it says of itself, and its methods."""
    import cliper_model

    found = getattr(cliper_model, name)
    node = definition(found)
    if isinstance(node, ast.FunctionDef):
        return f"### {name}\n\n{code(signature(node))}{prose(ast.get_docstring(node))}"
    parts = [f"### {name}\n\n", prose(ast.get_docstring(node)), fields(found, node)]
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            parts.append(f"#### {name}.{member.name}\n\n")
            if not is_property(member):
                parts.append(code(signature(member, skip=("self", "cls"))))
            else:
                returns = ast.unparse(member.returns) if member.returns else "Any"
                parts.append(f"`{returns}`, a property.\n\n")
            parts.append(prose(ast.get_docstring(member)))
    return "".join(parts)


def definition(found: Any) -> ast.FunctionDef | ast.ClassDef:
    """The syntax tree of a function or class."""
    module = importlib.import_module(found.__module__)
    tree = ast.parse(inspect.getsource(module))
    return next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == found.__name__
    )


def signature(node: ast.FunctionDef, *, skip: tuple[str, ...] = ()) -> str:
    """`def name(arguments) -> result: ...`, one argument a line where it is long."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    pairs = [
        (one, value)
        for one, value in zip(plain, [*defaults, *arguments.defaults], strict=True)
        if one.arg not in skip
    ]
    words = [written(one, value) for one, value in pairs]
    if arguments.kwonlyargs:
        words.append("*")
        named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        words += [written(one, value) for one, value in named]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({', '.join(words)}){result}: ..."
    if len(line) <= WIDTH:
        return line
    return f"def {node.name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}: ..."


def written(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    equals = " = " if kind else "="
    return f"{argument.arg}{kind}" + (f"{equals}{ast.unparse(default)}" if default else "")


def is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(one) == "property" for one in node.decorator_list)


def fields(found: Any, node: ast.ClassDef) -> str:
    """A table of a data class's fields; nothing for a class without any."""
    lines = inspect.getsource(found).splitlines()
    rows = []
    for member in node.body:
        if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
            continue
        name = member.target.id
        if name in HIDDEN or name.startswith("_"):
            continue
        line = lines[(member.end_lineno or 0) - node.lineno + first_line(lines)]
        note = line.partition("  # ")[2]
        default = "" if member.value is None else plain(member.value)
        rows.append(f"| `{name}` | {cell(ast.unparse(member.annotation))} | {default} | {note} |")
    if not rows:
        return ""
    head = "| field | type | unless said | |\n| --- | --- | --- | --- |\n"
    return f"{head}{chr(10).join(rows)}\n\n"


def first_line(lines: list[str]) -> int:
    """Where the class itself begins, behind its decorators."""
    return next(n for n, line in enumerate(lines) if line.startswith("class "))


def plain(value: ast.expr) -> str:
    """A default as people read it."""
    text = ast.unparse(value)
    if text.startswith("field("):
        return "empty"
    return cell(text)


def cell(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def code(text: str) -> str:
    quoted = text.replace("'", '"')  # as the formatter writes it
    return f"```python\n{quoted}\n```\n\n"


def prose(docstring: str | None) -> str:
    """Paragraphs as they are; lines of the form `name    what it is` as a table."""
    text = "".join(
        table(paragraph) if is_table(paragraph) else f"{paragraph}\n\n"
        for paragraph in (docstring or "").split("\n\n")
        if paragraph.strip()
    )
    return text.replace("(specification §", "([specification](../specs/cliper.md) §")


def is_table(paragraph: str) -> bool:
    return ENTRY.match(paragraph.splitlines()[0]) is not None


def table(paragraph: str) -> str:
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in entries(paragraph))
    return f"| | |\n| --- | --- |\n{rows}\n"


def entries(paragraph: str) -> Iterator[tuple[str, str]]:
    """Names and meanings; a line that is indented goes on with the one above it."""
    name, words = "", list[str]()
    for line in paragraph.splitlines():
        found = ENTRY.match(line)
        if found and not line.startswith(" "):
            if name:
                yield name, " ".join(words)
            name, words = found[1], [found[2]]
        else:
            words.append(line.strip())
    yield name, " ".join(words)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
