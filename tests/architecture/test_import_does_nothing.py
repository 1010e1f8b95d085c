"""Importing our modules writes no file, opens no connection and moves no process-wide switch."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .source import ROOT, imports, modules, top_level

NEEDS_THE_SDK = {"backend.adapter.model"}  # its vendor opens a cache on import
NAMES = [module.name for module in modules() if module.name not in NEEDS_THE_SDK]
OURS = {"backend", "cliper_model"}
STANDARD = sys.stdlib_module_names

WATCHED = """
import importlib, json, logging, os, sys

libraries, ours = json.loads(sys.stdin.read())
for name in libraries:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass  # a name inside a module, not a module

done = []
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)) and flags & (os.O_WRONLY | os.O_RDWR):
            done.append(f"opened {os.fsdecode(path)} for writing")
    elif event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove",
                   "os.rename", "os.putenv", "os.chdir", "_thread.start_new_thread"):
        done.append(f"{event} {arguments!r}"[:200])

def switches():
    import torch
    return {
        "environment": dict(os.environ),
        "log handlers": len(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "dtype": str(torch.get_default_dtype()),
        "path": list(sys.path),
    }

before = switches()
sys.addaudithook(watch)
for name in ours:
    importlib.import_module(name)
found = list(done)
moved = [name for name, value in switches().items() if value != before[name]]
print(json.dumps({"done": found, "moved": moved}))
"""


def python(script: str, folder: Path, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=given,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened while all our modules were imported, after the libraries they use."""
    foreign = sorted(
        {
            name
            for module in modules()
            if module.name not in NEEDS_THE_SDK
            for name in imports(module)
            if top_level(name) not in OURS | STANDARD
        }
    )
    folder = tmp_path_factory.mktemp("import")
    answer = python(WATCHED, folder, json.dumps([foreign, NAMES]))
    content: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return content


def test_importing_touches_nothing_outside(seen: dict[str, Any]) -> None:
    assert seen["done"] == []


def test_importing_moves_no_process_wide_switch(seen: dict[str, Any]) -> None:
    assert seen["moved"] == []


@pytest.mark.parametrize("name", ["backend.__main__", "backend.settings", "cliper_model"])
def test_what_answers_at_once_does_not_import_torch(name: str, tmp_path: Path) -> None:
    heavy = "{'torch', 'flask', 'diffusers'}"
    script = f"import sys, {name}; print(*sorted({heavy} & set(sys.modules)))"
    assert python(script, tmp_path).strip() == ""


@pytest.mark.parametrize("command", [[], ["serve"], ["doctor"]])
def test_help_is_shown_without_importing_torch(command: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from backend.__main__ import main\n"
        "try:\n"
        f"    main({[*command, '--help']!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert "usage: cliper" in python(script, tmp_path)


def test_an_initialiser_only_gives_names() -> None:
    """Imports and definitions; no call, loop or condition at the top of an `__init__.py`."""
    definitions = (
        ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef,
    )  # fmt: skip
    for module in modules():
        if module.path.name != "__init__.py":
            continue
        for node in module.tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            where = f"{module.name}, line {node.lineno}"
            assert docstring or typing_only or isinstance(node, definitions), where
