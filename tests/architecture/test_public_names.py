"""`__all__` says exactly what a module offers."""

import ast
import importlib

import pytest

from .source import Module, modules

WITH_ALL = [
    module
    for module in modules()
    if any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for node in module.tree.body
    )
]


def listed(module: Module) -> list[str]:
    node = next(
        node
        for node in module.tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(node.value)
    return names


def test_the_package_users_import_lists_its_names() -> None:
    assert "cliper_model" in [module.name for module in WITH_ALL]


@pytest.mark.parametrize("module", WITH_ALL, ids=lambda module: module.name)
def test_every_listed_name_exists_once(module: Module) -> None:
    names = listed(module)
    assert len(names) == len(set(names))
    loaded = importlib.import_module(module.name)
    for name in names:
        assert getattr(loaded, name) is not None


@pytest.mark.parametrize("module", WITH_ALL, ids=lambda module: module.name)
def test_every_function_and_class_without_underscore_is_listed(module: Module) -> None:
    defined = {
        node.name
        for node in module.tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    assert defined <= set(listed(module))


def test_every_module_says_what_it_is_about() -> None:
    assert not [
        module.name
        for module in modules()
        if module.path.stat().st_size and not ast.get_docstring(module.tree)
    ]
