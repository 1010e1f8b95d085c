import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend import overlay
from backend.__main__ import main
from backend.cli import segment
from backend.errors import BadRequest
from cliper_model.errors import BadImage
from cliper_model.segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    Scores,
    Vocabulary,
)

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColourState(ImageState):
    """Keeps the picture itself."""

    def __init__(self, image: np.ndarray) -> None:
        super().__init__(size_hw=(image.shape[0], image.shape[1]))
        object.__setattr__(self, "image", image)


class ByColour:
    """A segmenter that finds pure colours by their names."""

    identity = Identity(method="colours", revision=7, profile="fast", weights={"eye": "abc"})

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Label], Sequence[str] | None, str | None]] = []

    def read(
        self,
        labels: Sequence[Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        self.asked.append((labels, background, preset))
        return Vocabulary(
            labels=tuple(label.name for label in labels),
            preset=preset or "objects",
            rows=torch.zeros(len(labels), 1),
            row_class=tuple(range(len(labels))),
            mean_row=None,
            background=tuple(background or ("ground",)),
        )

    def observe(self, image: np.ndarray) -> ColourState:
        if image.shape[1] == 13:  # the picture that is too much
            raise MemoryError
        if image.shape[1] == 14:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 68719476736 bytes")
        if image.shape[1] == 15:
            raise BadImage("a line")
        return ColourState(image)

    def score(self, state: ColourState, vocabulary: Vocabulary) -> Scores:
        maps = np.stack(
            [
                (state.image == COLOURS.get(name, (1, 2, 3))).all(axis=2)
                for name in vocabulary.labels
            ]
        ).astype(np.float32)
        peak = maps.max(axis=(1, 2))
        return Scores(
            labels=vocabulary.labels,
            maps=maps,
            strength=peak,
            presence=peak,
            size_hw=state.size_hw,
        )

    def decision(self, preset: str) -> Decision:
        return Decision(background_threshold=0.5)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ByColour:
    found = ByColour()
    monkeypatch.setattr(segment, "_load", lambda args, settings: (found, "fast"))
    return found


def picture(path: Path, *, turned: bool = False, width: int = 8) -> Path:
    """Red above green: left third red when `turned` as a phone stores it."""
    image = Image.new("RGB", (width, 6), COLOURS["green"])
    image.paste(COLOURS["red"], (0, 0, width, 2))
    exif = Image.Exif()
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)
    return path


def cliper(*arguments: object) -> int:
    return main(["segment", *map(str, arguments)])


def test_each_picture_gets_a_label_map_an_overlay_and_a_report(tmp_path: Path, model: ByColour):
    image, out = picture(tmp_path / "field.png"), tmp_path / "out"

    assert cliper(image, "--labels", "red, green, blue", "--out", out) == 0

    label_map = Image.open(out / "field.labels.png")
    expected = np.full((6, 8), 2)
    expected[:2] = 1
    assert label_map.mode == "P"
    assert np.array_equal(np.asarray(label_map), expected)
    report = json.loads((out / "field.json").read_text())
    assert (report["width"], report["height"]) == (8, 6)
    assert report["model"] == {
        "method": "colours", "revision": 7, "profile": "fast", "weights": {"eye": "abc"},
    }  # fmt: skip
    red, green, blue = report["labels"]
    assert (red["name"], red["value"], red["area"], red["presence"]) == ("red", 1, 16, 1.0)
    assert red["box_xyxy"] == [0, 0, 8, 2]
    assert (green["area"], green["score"]) == (32, 1.0)
    assert (blue["area"], blue["box_xyxy"]) == (0, None)
    assert math.isclose(report["score"], 1.0)
    assert report["seconds"] >= 0


def test_the_palette_of_the_label_map_is_the_one_in_the_report(tmp_path: Path, model: ByColour):
    image, out = picture(tmp_path / "field.png"), tmp_path / "out"
    cliper(image, "--labels", "red, green", "--out", out)

    shown = np.asarray(Image.open(out / "field.labels.png").convert("RGB"))
    report = json.loads((out / "field.json").read_text())

    assert shown[0, 0].tolist() == report["labels"][0]["colour"]
    assert shown[5, 0].tolist() == report["labels"][1]["colour"]


def test_the_overlay_tints_masks_and_puts_a_legend_beside_the_picture(
    tmp_path: Path, model: ByColour
):
    image, out = picture(tmp_path / "field.png"), tmp_path / "out"
    cliper(image, "--labels", "red", "--out", out)

    sheet = np.asarray(Image.open(out / "field.overlay.png"))
    colour = np.array(overlay.colours(1)[0])

    assert sheet.shape[1] > 8 + 40
    assert (sheet[1, 0] == colour).all()  # outline towards the green
    assert np.abs(sheet[0, 0] - (colour + COLOURS["red"]) / 2).max() <= 1  # inside: half and half
    assert (sheet[5, 0] == COLOURS["green"]).all()
    legend = sheet[:, 8:]
    assert (legend == colour).all(axis=2).any()


def test_a_turned_photo_is_segmented_upright(tmp_path: Path, model: ByColour):
    upright, turned = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", turned=True)
    out = tmp_path / "out"

    assert cliper(upright, turned, "--labels", "red, green", "--out", out) == 0

    first, second = (np.asarray(Image.open(out / f"{name}.labels.png")) for name in "ab")
    assert np.array_equal(first, second)


def test_folders_are_searched_deeply_and_keep_their_structure(tmp_path: Path, model: ByColour):
    for name in ("a.png", "deep/er/b.png", ".hidden/c.png", "notes.txt"):
        picture(tmp_path / "in" / name) if name.endswith("png") else (
            tmp_path / "in" / name
        ).write_text("no picture")

    assert cliper(tmp_path / "in", "--labels", "red", "--out", tmp_path / "out") == 0

    reports = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.json"))
    assert reports == [Path("a.json"), Path("deep/er/b.json")]


def test_results_inside_the_folder_are_not_taken_for_pictures(tmp_path: Path, model: ByColour):
    picture(tmp_path / "a.png")
    out = tmp_path / "out"

    for _ in range(2):
        assert cliper(tmp_path, "--labels", "red", "--out", out) == 0

    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [
        "a.json", "a.labels.png", "a.overlay.png",
    ]  # fmt: skip


def test_pictures_that_differ_in_their_suffix_or_folder_do_not_overwrite_each_other(
    tmp_path: Path,
):
    for name in ("x/a.png", "x/a.jpg", "y/a.png"):
        picture(tmp_path / name)
    given = [tmp_path / "x" / "a.png", tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.png"]

    jobs, failures = segment.plan(given, Path("out"))

    assert failures == []
    assert [str(job.target) for job in jobs] == ["out/a.png", "out/a.jpg", "out/a.png-2"]


def test_broken_pictures_do_not_stop_the_others_and_get_a_sentence_each(
    tmp_path: Path, model: ByColour, capsys: pytest.CaptureFixture[str]
):
    picture(tmp_path / "good.png")
    whole = picture(tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) - 20])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    picture(tmp_path / "huge.png", width=13)
    picture(tmp_path / "enormous.png", width=14)
    picture(tmp_path / "thin.png", width=15)

    status = cliper(tmp_path, tmp_path / "gone.png", "--labels", "red", "--out", tmp_path / "out")

    said = capsys.readouterr().err
    assert status == 1
    assert (tmp_path / "out" / "good.json").is_file()
    for name, reason in (
        ("gone.png", "there is no such file"),
        ("cut.png", "truncated or damaged"),
        ("empty.png", "the file is empty (0 bytes)"),
        ("text.jpg", "not a picture"),
        ("huge.png", "not enough memory"),
        ("enormous.png", "not enough memory"),
        ("thin.png", "expected an RGB picture"),
    ):
        line = next(line for line in said.splitlines() if f"{name}:" in line)
        assert reason in line
    assert "1 of 8 pictures segmented" in said


def test_a_folder_without_pictures_is_a_sentence_and_loads_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(segment, "_load", pytest.fail)

    assert cliper(tmp_path, "--labels", "red", "--out", tmp_path / "out") == 1
    assert "there is no picture in this folder" in capsys.readouterr().err


def test_json_lines_go_to_standard_output_one_per_picture(
    tmp_path: Path, model: ByColour, capsys: pytest.CaptureFixture[str]
):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)

    cliper(tmp_path, "--labels", "red", "--out", tmp_path / "out", "--json")

    lines = capsys.readouterr().out.splitlines()
    assert [Path(json.loads(line)["image"]).name for line in lines] == ["a.png", "b.png"]


def test_labels_have_synonyms_and_blanks_do_not_matter():
    assert segment.parse_labels(" sky,house | home|big  cottage ,, ") == [
        Label("sky"),
        Label("house", ("house", "home", "big cottage")),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" , |", "names nothing"),
        ("sky, house, sky|air", "names 'sky' twice"),
        (",".join(f"w{n}" for n in range(256)), "at most 255 labels, got 256"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(text: str, sentence: str):
    with pytest.raises(BadRequest, match=sentence):
        segment.parse_labels(text)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ((), None),
        (("--background", ""), ()),
        (("--background", "sea, wet sand"), ("sea", "wet sand")),
    ],
)
def test_background_words_reach_the_model_as_given(
    tmp_path: Path, model: ByColour, option: tuple[str, ...], expected: tuple[str, ...] | None
):
    image = picture(tmp_path / "a.png")

    cliper(image, "--labels", "red", "--out", tmp_path / "o", "--preset", "whole-scene", *option)

    assert model.asked == [([Label("red")], expected, "whole-scene")]


def test_neighbouring_labels_get_distinct_colours():
    palette = overlay.colours(255)

    assert len(set(palette[:34])) == 34
    for one, other in pairwise(palette):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 100


def test_the_border_of_the_picture_is_no_outline():
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True

    assert np.array_equal(np.argwhere(overlay.outline(mask)), [[row, 1] for row in range(4)])
