"""The comparison that a graphics card is measured by, on the processor with small weights."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import published, record, speed
from cliper_model.methods.cliper import Cliper

MOST_AT_ONCE = 2


class Here(speed.Child):
    """Computes in this process; what is asked and answered goes through JSON all the same."""

    def __init__(self, who: str, row: str, weights: Path, device: str) -> None:
        self.side = speed.SIDES[who](weights, speed.ROWS[row], device)

    def __exit__(self, *_: object) -> None:
        return

    def ask(self, what: str, **told: str) -> dict[str, Any]:
        answer = getattr(self.side, what)(**json.loads(json.dumps(told)))
        return dict(json.loads(json.dumps(answer)))


class Telling(speed.Child):
    """Computes nothing: what it answers is given. Of four pixels both sides see three alike."""

    def __init__(self, who: str, row: str, weights: Path, device: str) -> None:
        self.who = who

    def __exit__(self, *_: object) -> None:
        return

    def masks(self, folder: Path) -> dict[str, str]:
        path = folder / f"{self.who}.npy"
        np.save(path, np.arange(4) if self.who == "ours" else np.array([0, 1, 2, 0]))
        return {"path": str(path)}


@pytest.fixture
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Few pictures at once, small squares, and memory for two."""
    monkeypatch.setattr(speed, "WARM", 1)
    monkeypatch.setattr(speed, "BATCHES", (1, MOST_AT_ONCE, 4))
    monkeypatch.setattr(published, "SIDE", 128)
    row = replace(speed.ROWS["standard"], dtype="bfloat16")
    monkeypatch.setitem(speed.ROWS, "standard", row)
    observe_many = Cliper.observe_many

    def bounded(self: Cliper, images: Any) -> Any:
        if len(images) > MOST_AT_ONCE:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return observe_many(self, images)

    monkeypatch.setattr(Cliper, "observe_many", bounded)
    return folder


def a_picture(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_card_is_measured_at_as_many_pictures_as_its_memory_holds(
    small: Path, tmp_path: Path
) -> None:
    picture = a_picture(tmp_path / "photo.png")

    row = speed.compare_on_card(small, "standard", picture, 2, "cpu", Here)

    assert list(row["images_per_second_by_batch"]) == ["1", "2"]  # four had no room
    assert row["ours"]["at_once"] in (1, MOST_AT_ONCE)
    assert row["ours"]["dtype"] == "bfloat16"
    assert len(row["pairs"]) == 2
    assert 0 < row["share_of_bfloat16_peak"] < 1
    assert row["gflops_an_image"] > 0
    assert 0 <= row["equal_pixels"] <= 1
    assert {"CLIP", "scores", "VAE encoder", "U-Net"} <= set(row["stages"])


@pytest.mark.parametrize(
    ("together", "words", "bounds"), [(0.8, 0.004, [True, True]), (0.9, 0.006, [False, False])]
)
def test_what_a_card_is_judged_by(
    together: float, words: float, bounds: list[bool], tmp_path: Path
) -> None:
    """Ours 0.1 s for one, eight pictures in 0.8 or 0.9 s; the published form 1 s for one."""
    answers: dict[tuple[str, str], Any] = {
        ("ours", "cold"): {"seconds": 0.1},
        ("published", "cold"): {"seconds": 1.0},
        ("ours", "changed"): {"words": words, "thresholds": 0.001},
        ("ours", "peak"): {"megabytes": 4000},
        ("published", "peak"): {"megabytes": 9000},
        ("ours", "work"): {"flops": 16e12},
        ("ours", "stages"): {
            "setting": {"dtype": "float16"},
            "peaks": {"bfloat16_gflops": 80_000},
            "stages": {},
        },
    }

    class Told(Telling):
        def ask(self, what: str, **asked: str) -> dict[str, Any]:
            if what == "together":  # eight are the fastest, and sixteen have no room
                times = {"1": 0.2, "2": 0.3, "4": 0.5, "8": together}
                return {"seconds": times.get(asked["count"])}
            if what == "masks":
                return self.masks(tmp_path)
            return dict(answers.get((self.who, what), {}))

    row = speed.compare_on_card(tmp_path, "best", tmp_path / "photo.png", 3, "cuda", Told)

    assert row["ours"]["at_once"] == 8
    assert row["ours"]["images_per_second"] == round(8 / together, 1)
    assert row["published"]["images_per_second"] == 1.0
    assert row["times_faster"] == pytest.approx(8 / together, abs=0.005)
    assert row["images_per_second_by_batch"] == {
        "1": 5.0, "2": 6.7, "4": 8.0, "8": round(8 / together, 1)
    }  # fmt: skip
    assert row["equal_pixels"] == 0.75
    assert row["other_words_share_of_cold"] == pytest.approx(words / 0.1)
    assert row["gflops_an_image"] == 2000
    assert row["share_of_bfloat16_peak"] == pytest.approx(2e12 * 8 / together / 80e12, abs=5e-4)
    assert list(row["bounds"].values()) == bounds
    assert row["passed"] is all(bounds)


def stage(above: float) -> dict[str, float]:
    return {"above_floor": above}


@pytest.mark.parametrize(
    ("ours", "floors", "peak", "words", "bounds"),
    [
        (0.5, [1.4, 1.7, 1.6], 3000, 0.05, [True, True, True]),  # by time
        (0.6, [1.9, 1.3, 1.4], 3201, 0.06, [True, False, True]),  # by the floor's median
        (0.6, [1.4, 1.6, 1.7], 3200, 0.061, [False, True, False]),
    ],
)
def test_what_a_processor_is_judged_by(
    ours: float, floors: list[float], peak: int, words: float, bounds: list[bool], tmp_path: Path
) -> None:
    """The published form takes 4 s; the first round does not count, and stages are asked of a
    process that looks at no whole picture."""
    every = iter([9.0, *floors])
    in_parts: list[Telling] = []
    answers: dict[tuple[str, str], Any] = {
        ("ours", "cold"): {"seconds": ours},
        ("published", "cold"): {"seconds": 4.0},
        ("ours", "changed"): {"words": words, "thresholds": 0.001},
        ("ours", "peak"): {"megabytes": peak},
        ("published", "peak"): {"megabytes": 9000},
    }

    class Told(Telling):
        def ask(self, what: str, **told: str) -> dict[str, Any]:
            assert what == "stages" or self not in in_parts
            if what == "stages":
                in_parts.append(self)
                stages = {"CLIP": stage(next(every)), "scores": stage(1.0)}
                return {"setting": {"dtype": "bfloat16"}, "peaks": {"x": 1.0}, "stages": stages}
            if what == "masks":
                return self.masks(tmp_path)
            return dict(answers.get((self.who, what), {}))

    row = speed.compare(tmp_path, "standard", tmp_path / "photo.png", 3, "cpu", Told)

    assert len(in_parts) == 4
    assert len(set(in_parts)) == 1
    assert row["times_faster"] == pytest.approx(4 / ours, abs=0.005)
    assert row["pairs"] == [[ours, 4.0]] * 3
    assert row["equal_pixels"] == 0.75
    assert row["ours"] == {"seconds": ours, "peak_mb": peak, "dtype": "bfloat16"}
    assert row["stages"]["CLIP"]["above_floor_of_rounds"] == floors
    assert row["stages"]["CLIP"]["above_floor"] == sorted(floors)[1]
    assert list(row["bounds"].values()) == bounds
    assert row["passed"] is all(bounds)


def test_figures_of_a_card_go_into_a_file_of_their_own_and_a_missed_bound_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def compare(*told: Any) -> dict[str, Any]:
        asked.append(told)
        return {"passed": told[1] == "best"}

    monkeypatch.setattr(speed, "compare_on_card", compare)
    monkeypatch.setattr(speed, "write_clip", lambda weights, names: None)
    monkeypatch.setattr(speed, "subprocess", SimpleNamespace(run=lambda *_, **__: None))
    monkeypatch.setenv("COMMIT", "0123abc")
    monkeypatch.setattr(record, "write", partial(record.write, results=tmp_path))
    for rows, status in ((["best"], 0), (["standard", "best"], 1)):
        monkeypatch.setattr(
            "sys.argv", ["speed", "--device", "cuda:0", "--cache", str(tmp_path), "--rows", *rows]
        )
        assert speed.main() == status

    assert [one[1] for one in asked] == ["best", "standard", "best"]
    assert {one[4] for one in asked} == {"cuda:0"}
    written = json.loads((tmp_path / "proof-speed-cuda.json").read_text())
    assert written["rows"] == {"standard": {"passed": False}, "best": {"passed": True}}
    assert "proof-speed-cuda.json" in capsys.readouterr().out
