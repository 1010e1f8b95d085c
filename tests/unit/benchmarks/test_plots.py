"""A plot is the same file every time, and tells what it was drawn from."""

from pathlib import Path
from typing import Any

from benchmarks import plots

FIGURES: dict[str, Any] = {
    "demo": {
        "CLIP": {
            "seconds": 0.05,
            "floor_seconds": 0.04,
            "above_floor": 1.25,
            "gflops": {"float32": 2.0, "bfloat16": 1.0},
            "gigabytes": 0.5,
        },
        "decide": {"seconds": 0.01},
    }
}


def plot(figures: dict[str, Any]) -> plots.Plot:
    return plots.Plot(name="stages", alt="Every stage", figures=figures, draw=plots.stages)


def test_two_drawings_of_the_same_figures_are_equal(tmp_path: Path) -> None:
    first = plot(FIGURES).save(tmp_path).read_bytes()
    second = plot(FIGURES).save(tmp_path).read_bytes()

    assert first == second


def test_a_drawing_names_its_figures_and_no_date(tmp_path: Path) -> None:
    drawn = plot(FIGURES).save(tmp_path).read_text(encoding="utf-8")

    assert plot(FIGURES).digest in drawn
    assert plot({"demo": {"CLIP": FIGURES["demo"]["CLIP"]}}).digest not in drawn
    assert "dc:date" not in drawn
