"""Every example in the documentation is one a reader can use."""

import ast
import importlib
import json
import re
import shlex
import subprocess

import pytest
import yaml

from backend.labelstudio import label_config
from backend.plan import vocabularies

from .commands import hub_variables, parser_of, settings_variables
from .pages import ROOT, Block, blocks

OURS = ("backend", "cliper_model")
NEEDS_THE_SDK = {"backend.adapter.model": ("create_app", "CliperBackend")}
OTHERS_VARIABLES = {  # of Label Studio, of the compose file, of the build of an image
    "BASE",
    "EXTRAS",
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP",
    "LABEL_STUDIO_SSRF_PROTECTION_ENABLED",
    "LABEL_STUDIO_PUBLIC_URL",
    "CUDA_VISIBLE_DEVICES",
    "ONCE",
}
SHELL = blocks("shell", "bash", "sh")
PYTHON = [block for block in blocks("python") if not block.said("file")]  # others: test_extend


def commands(block: Block) -> list[list[str]]:
    """The lines of a shell example as words, variables in front left in."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def test_there_are_examples() -> None:
    assert len(SHELL) >= 5
    assert PYTHON
    assert blocks("xml")


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_example_compiles_and_imports_what_exists(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module in NEEDS_THE_SDK:
            assert {alias.name for alias in node.names} <= set(NEEDS_THE_SDK[node.module])
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            module = importlib.import_module(name)
            if isinstance(node, ast.ImportFrom) and name.split(".")[0] in OURS:
                for alias in node.names:
                    found = hasattr(module, alias.name)
                    assert found or importlib.import_module(f"{name}.{alias.name}")


@pytest.mark.parametrize("block", blocks("xml"), ids=str)
def test_a_label_config_example_can_be_used(block: Block) -> None:
    read = label_config.parse(block.text)
    assert not read.warnings
    for one in vocabularies(read, ()):
        assert one.sought or one.control.labels_key is not None


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_example_is_valid_shell(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_cliper_command_in_an_example_is_accepted_by_cliper(block: Block) -> None:
    for words in commands(block):
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words[:1] == ["cliper"] and words[1] != "--help":
            parser = parser_of(words[1])
            if "--help" not in words:
                parser.parse_args(words[2:])


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_variable_in_an_example_is_one_somebody_reads(block: Block) -> None:
    known = {name for names in settings_variables().values() for name in names}
    for words in commands(block):
        assigned = {
            match[1] for word in words if (match := re.match(r"([A-Z][A-Z_]+)=", word)) is not None
        }
        others = compose_variables() | balancer_variables() | OTHERS_VARIABLES
        assert assigned <= known | hub_variables() | others


def compose_variables() -> set[str]:
    """What the compose files themselves read."""
    files = (file.read_text(encoding="utf-8") for file in ROOT.glob("docker-compose*.yml"))
    return {name for text in files for name in re.findall(r"\$\{([A-Z][A-Z_]+)", text)}


def balancer_variables() -> set[str]:
    """What the balancer's configuration reads."""
    text = (ROOT / "docker" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
    return set(re.findall(r"^ +presetenv ([A-Z_]+) ", text, re.MULTILINE))


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_make_target_in_an_example_exists(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands(block):
        if words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            for target in targets:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_data_examples_can_be_parsed() -> None:
    for block in blocks("json", "yaml"):
        assert (json.loads if block.language == "json" else yaml.safe_load)(block.text) is not None
