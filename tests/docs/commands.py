"""Commands and variables the documentation may mention, taken from the code."""

import argparse
import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from backend.labelstudio.options import WIDE
from backend.settings import OWN_VARIABLES

from .pages import ROOT


def cli_docs() -> ModuleType:
    """`scripts/write_cli_docs.py` as a module."""
    return _script("write_cli_docs")


def preset_docs() -> ModuleType:
    """`scripts/write_preset_docs.py` as a module."""
    return _script("write_preset_docs")


def method_docs() -> ModuleType:
    """`scripts/write_method_docs.py` as a module."""
    return _script("write_method_docs")


def speed_docs() -> ModuleType:
    """`scripts/write_speed_docs.py` as a module."""
    return _script("write_speed_docs")


def scale_docs() -> ModuleType:
    """`scripts/write_scale_docs.py` as a module."""
    return _script("write_scale_docs")


def metrics_docs() -> ModuleType:
    """`scripts/write_metrics_docs.py` as a module."""
    return _script("write_metrics_docs")


def http_docs() -> ModuleType:
    """`scripts/write_http_docs.py` as a module."""
    return _script("write_http_docs")


def label_config_docs() -> ModuleType:
    """`scripts/write_label_config_docs.py` as a module."""
    return _script("write_label_config_docs")


def licence_docs() -> ModuleType:
    """`scripts/write_licence_docs.py` as a module."""
    return _script("write_licence_docs")


def audit() -> ModuleType:
    """`scripts/audit.py` as a module."""
    return _script("audit")


def script(name: str) -> ModuleType:
    """`scripts/NAME.py` as a module."""
    return _script(name)


def site() -> ModuleType:
    """`docs/conf.py` as a module."""
    return _module(ROOT / "docs" / "conf.py")


def _script(name: str) -> ModuleType:
    return _module(ROOT / "scripts" / f"{name}.py")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(command: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = cli_docs().parser_of(command)
    return parser


def settings_variables() -> dict[str, list[str]]:
    """Field of Settings -> the variables it is read from, the current name first."""
    tree = ast.parse((ROOT / "backend" / "settings.py").read_text(encoding="utf-8"))
    reader = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "from_environ"
    )
    made = next(
        node.value
        for node in ast.walk(reader)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call)
    )
    found = {keyword.arg or "": _names(keyword.value) for keyword in made.keywords}
    pairs = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "basic_auth"
    )
    found["basic_auth"] = _names(pairs)
    found["options"] = [
        name.upper() for option in WIDE if option.name not in OWN_VARIABLES for name in option.names
    ]
    return found


def _names(tree: ast.AST) -> list[str]:
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z_]{2,}", text)]


def hub_variables() -> set[str]:
    """What the download of weights reads."""
    source = (ROOT / "cliper_model" / "backbones" / "weights.py").read_text(encoding="utf-8")
    return set(re.findall(r"environ\.get\(\"([A-Z_]+)\"", source)) - {"MODEL_DIR"}
