"""The page of limits says what the code says."""

import ast
import importlib
import re
from functools import reduce

import pytest

from backend.labelstudio.options import OPTIONS
from backend.settings import SPARE_THREADS, Settings

from .commands import settings_variables
from .pages import ROOT

PAGE = ROOT / "docs" / "reference" / "limits.md"
READERS = (  # modules that read what comes from outside: every bound of theirs is on the page
    "api/body", "cli/dataset_run", "dataset/fetching", "dataset/listing", "dataset/plain",
    "dataset/ray_engine", "errors", "images/fetch", "images/tiff", "jobs/desk",
    "labelstudio/bounded_json",
    "labelstudio/label_config", "labelstudio/options", "labelstudio/regions/percent",
    "labelstudio/rle", "labelstudio/tasks", "plan", "playground/claims", "playground/kept",
    "playground/panes", "playground/playground", "prelabel/wanted",
)  # fmt: skip
BOUND = re.compile(r"(MOST|LONGEST|MAX|DEEPEST|FARTHEST)(_\w+)?")
NO_BOUNDS = {  # named like one
    "backend.labelstudio.rle.LONGEST_RUN": "a field of the code, which splits longer runs",
    "backend.labelstudio.options.MOST_SMOOTH": "a value people choose; its page is label-config.md",
}


def rows() -> list[list[str]]:
    """What, most, set by, why, what then; of every table."""
    text = PAGE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in ("what", "---")]


def names() -> list[str]:
    return [re.findall(r"`([\w.]+)`", row[2])[0] for row in rows()]


def value_of(name: str) -> float:
    """Of a setting, or of a constant by its whole name."""
    if name.isupper():
        if name.startswith("MODEL_"):
            return float(OPTIONS[name.lower()].preset)
        (field,) = [one for one, known in settings_variables().items() if name in known]
        return float(getattr(Settings(), field))
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return float(reduce(getattr, parts[cut:], found))  # type: ignore[arg-type]
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize("row", rows(), ids=names())
def test_every_limit_is_the_code_s(row: list[str]):
    assert len(row) == 5
    assert all(row)
    (name,) = re.findall(r"`([\w.]+)`", row[2])
    less = SPARE_THREADS if row[2].endswith(f" less {SPARE_THREADS}") else 0

    assert float(row[1].replace(",", "")) == value_of(name) - less


@pytest.mark.parametrize("module", READERS)
def test_every_bound_of_what_reads_from_outside_is_on_the_page(module: str):
    tree = ast.parse((ROOT / "backend" / f"{module}.py").read_text(encoding="utf-8"))
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and BOUND.fullmatch(target.id)
    ]
    found = {f"backend.{module.replace('/', '.')}.{target.id}" for target in targets}

    assert found - set(NO_BOUNDS) <= set(names())


def test_every_setting_that_bounds_something_is_on_the_page():
    bounding = {
        known[0]
        for field, known in settings_variables().items()
        if field.startswith("max_") or field.endswith(("_mb", "_budget", "_timeout", "most_tasks"))
    }

    assert bounding <= set(names())
