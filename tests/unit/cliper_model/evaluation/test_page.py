"""docs/evaluation.md says what the data files say, and its commands can be typed."""

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from backend.cli import evaluate
from backend.settings import Settings
from cliper_model import profiles
from cliper_model.evaluation import benchmarks

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts" / "write_evaluation_docs.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_data_files_say(script: ModuleType):
    """Made anew with `python scripts/write_evaluation_docs.py`."""
    assert PAGE.read_text(encoding="utf-8") == script.page()


def test_every_command_beside_a_figure_is_one_cliper_takes(script: ModuleType):
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    commands = re.findall(r"`cliper evaluate ([^`]*)`", PAGE.read_text(encoding="utf-8"))

    assert len(commands) > 80
    for command in set(commands):
        args = parser.parse_args(shlex.split(command))
        profile = profiles.get(args.profile, method=args.method, features=args.features)
        variant = str(args.side) if args.method == "cliptrase" else profile.clip
        assert benchmarks.get(args.dataset).numbers_of(args.method or "cliper", variant)
        evaluate.refuse_what_does_nothing(args, Settings(), args.profile)


def test_the_published_tables_are_those_of_the_specifications(script: ModuleType):
    def found(name: str, **wanted: object) -> list[float]:
        rows = benchmarks.get(name).published
        return [row["miou"] for row in rows if wanted.items() <= row.items()]

    large = "ViT-L-14-quickgelu"
    assert found("voc21", method="cliper", clip=large, windows=True, refinement=True) == [72.2]
    assert found("cityscapes", method="cliper", clip=large, windows=False, refinement=False) == [
        37.9
    ]
    assert found("ade20k", method="proxyclip", clip="ViT-H-14") == [24.2]
    assert found("context459", method="cliptrase", side=336) == [9.95]
    assert found("coco-stuff", method="maskclip+", clip="ViT-B-16-quickgelu") == [18.0]
