"""Nothing is kept in modules or classes, and the environment is read at the rim only."""

import ast
from collections.abc import Iterator

from .source import Module, modules

# Who may read the environment, and why.
READERS = {
    "backend.__main__": "an entry point: whether it says how freed memory is treated",
    "backend.adapter._wsgi": "an entry point: hands it to Settings",
    "backend.cli": "entry points: hand it to Settings",
    "backend.demo.processes": "what a child process inherits",
    "backend.learning.apart": "what a child process inherits",
    "backend.wiring": "hands it to Settings",
    "cliper_model.backbones.weights": "where the model hub's own tools keep their files",
    "cliper_model.demo.parallel": "memory settings of the training's worker processes",
}
PICKLERS = {"pickle", "dill", "joblib", "shelve", "cloudpickle"}
MUTABLE_CALLS = {
    "dict", "list", "set", "bytearray", "defaultdict", "OrderedDict", "deque", "Counter",
    "WeakValueDictionary", "WeakKeyDictionary",
}  # fmt: skip
CHANGING_METHODS = {
    "append", "add", "update", "pop", "clear", "extend", "insert", "setdefault", "remove",
    "discard", "popitem", "sort", "reverse",
}  # fmt: skip


def test_the_environment_is_read_at_the_rim_only() -> None:
    readers = {
        module.name
        for module, node in nodes()
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "putenv")
        and ast.unparse(node.value) == "os"
    }
    assert not {
        name
        for name in readers
        if not any(name == known or name.startswith(f"{known}.") for known in READERS)
    }


def test_no_module_and_no_class_keeps_something_that_changes() -> None:
    """A constant table has an upper-case name or is Final; state belongs into an object."""
    kept = [
        f"{module.name}, line {node.lineno}: {name}"
        for module in modules()
        for body in (module.tree.body, *class_bodies(module.tree))
        for node, name in assigned(body)
        if is_mutable(node.value)
        and not is_table(name)
        and not (isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation))
    ]
    assert not kept


def test_no_function_rebinds_a_module_variable() -> None:
    assert not [
        f"{module.name}, line {node.lineno}"
        for module, node in nodes()
        if isinstance(node, ast.Global)
    ]


def test_no_function_changes_a_module_table() -> None:
    """What has an upper-case name is never stored into after its definition."""
    changed = []
    for module in modules():
        tables = {name for node, name in assigned(module.tree.body) if is_mutable(node.value)}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                target: ast.expr | None = node.value
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CHANGING_METHODS
            ):
                target = node.func.value
            else:
                continue
            if isinstance(target, ast.Name) and target.id in tables:
                changed.append(f"{module.name}, line {node.lineno}: {target.id}")
    assert not changed


def test_no_file_can_make_us_run_its_code() -> None:
    """Nothing is unpickled: torch reads tensors only, and no pickling library is used."""
    unsafe = []
    for module, node in nodes():
        if isinstance(node, ast.Import):
            bad = bool({alias.name for alias in node.names} & PICKLERS)
        elif isinstance(node, ast.ImportFrom) and node.module in PICKLERS:
            bad = [alias.name for alias in node.names] != ["UnpicklingError"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            bad = options.get("weights_only") != "True"
        else:
            continue
        if bad:
            unsafe.append(f"{module.name}, line {node.lineno}")
    assert not unsafe


def nodes() -> Iterator[tuple[Module, ast.AST]]:
    return ((module, node) for module in modules() for node in ast.walk(module.tree))


def assigned(body: list[ast.stmt]) -> Iterator[tuple[ast.Assign | ast.AnnAssign, str]]:
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield node, target.id
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node, node.target.id


def class_bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    return (node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)):
        return True
    if isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name in MUTABLE_CALLS
    return False


def is_table(name: str) -> bool:
    return name.strip("_").isupper() or name in ("__all__", "__slots__")
