"""`cliper sources` on small folders; networks are fakes but for one run with the shipped model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from backend.__main__ import main
from backend.cli import sources
from backend.errors import BadRequest
from cliper_model.backbones import feature_sources
from cliper_model.demo.scene_folder import write_scene_folder
from cliper_model.errors import WeightsMissing

SIZE_WH = (48, 32)


class Colours:
    """Red, green and blue themselves, one value per 8 x 8 px."""

    multiple = 8

    def __init__(self, name: str, noise: float = 0.0) -> None:
        self.name, self.noise = name, noise

    def features(self, pixels: Tensor) -> Tensor:
        drawn = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.avg_pool2d(pixels + self.noise * drawn, 8)[0]


def paint(path: Path, colours: tuple[tuple[int, int, int], ...], size_wh: Any = SIZE_WH) -> None:
    picture = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for part, colour in zip(np.array_split(picture, len(colours), axis=1), colours, strict=True):
        part[:] = colour
    Image.fromarray(picture).save(path)


def label(path: Path, numbers: tuple[int, ...], size_wh: Any = SIZE_WH) -> None:
    mask = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    for part, number in zip(np.array_split(mask, len(numbers), axis=1), numbers, strict=True):
        part[:] = number
    Image.fromarray(mask).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures, red beside blue, with label maps."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name in ("a", "b"):
        paint(images / f"{name}.jpg", ((255, 0, 0), (0, 0, 255)))
        label(masks / f"{name}.png", (1, 2))
    return images, masks


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources are here, one that sees well and one that sees badly; all others are not."""

    def load(name: str, *_: Any) -> Colours:
        noise = {"dino-vitb8": 0.2, "sam-vitb": 3.0}
        if name not in noise:
            raise WeightsMissing(name, [], f"put {name} into a folder")
        return Colours(name, noise[name])

    monkeypatch.setattr(sources, "load", load)


def asked(folders: tuple[Path, Path], *more: str) -> list[str]:
    return ["sources", "--images", str(folders[0]), "--masks", str(folders[1]), *more]


@pytest.mark.usefixtures("fakes")
def test_the_table_puts_the_best_separation_first_and_names_what_is_missing(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folders)) == 0

    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].split()[:5] == ["source", "grid", "same", "other", "separation"]
    assert [line.split()[0] for line in lines[1:]] == ["dino-vitb8", "sam-vitb"]
    missing = [line for line in told.err.splitlines() if line.startswith("not here: ")]
    assert len(missing) == len(feature_sources.names()) - 2
    assert any("put unet into a folder" in line for line in missing)


@pytest.mark.usefixtures("fakes")
def test_json_holds_the_numbers_of_the_table(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folders, "--json", "--short-side", "64", "--source", "dino-vitb8")) == 0

    told = json.loads(capsys.readouterr().out)
    (row,) = told["sources"]
    assert (row["name"], row["pictures"], row["grid_hw"]) == ("dino-vitb8", 2, [8, 12])
    assert row["same"] > 0.8
    assert row["auc"] > 0.99
    assert row["boundary_f"] > row["chance_f"] > 0
    assert told["missing"] == {}


@pytest.mark.usefixtures("fakes")
def test_a_source_asked_for_by_name_must_be_here(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folders, "--source", "dino-vits16")) == 2
    assert capsys.readouterr().err.startswith("cliper: put dino-vits16 into a folder")


@pytest.mark.usefixtures("fakes")
def test_an_unknown_source_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folders, "--source", "dyno")) == 2
    assert "unknown feature source 'dyno'" in capsys.readouterr().err


@pytest.mark.usefixtures("fakes")
def test_a_limit_takes_the_first_pictures_by_name(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked(folders, "--limit", "1", "--json")) == 0
    assert {row["pictures"] for row in json.loads(capsys.readouterr().out)["sources"]} == {1}
    assert main(asked(folders, "--limit", "0")) == 2
    assert "--limit must be at least 1" in capsys.readouterr().err


@pytest.mark.usefixtures("fakes")
def test_pictures_of_one_class_alone_cannot_be_measured(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        label(folders[1] / f"{name}.png", (1, 1))

    assert main(asked(folders)) == 2
    assert "shows two classes" in capsys.readouterr().err


# --- what stops before any network is loaded -------------------------------------------------


def swap(images: Path, masks: Path) -> None:
    for path in images.iterdir():
        Image.open(path).save(masks / f"{path.stem}.png")


WRONG: list[tuple[str, Callable[[Path, Path], object], str]] = [
    ("no picture", lambda images, _: [path.unlink() for path in images.iterdir()], "no picture in"),
    (
        "no mask at all",
        lambda _, masks: [path.unlink() for path in masks.iterdir()],
        "there is no mask in .* swapped",
    ),
    ("one mask missing", lambda _, masks: (masks / "a.png").unlink(), "1 of 2 pictures .* a.jpg"),
    (
        "one picture missing",
        lambda images, _: (images / "b.jpg").unlink(),
        "1 masks .* have no picture .* that of b;",
    ),
    ("pictures for masks", swap, "is a colour picture .* swapped"),
    (
        "another size",
        lambda _, masks: label(masks / "b.png", (1, 2), (32, 48)),
        "b.png has 32 x 48 pixels, its picture b.jpg 48 x 32",
    ),
    (
        "a damaged mask",
        lambda _, masks: (masks / "a.png").write_bytes(b"nothing"),
        "a.png is not a picture that can be read",
    ),
    (
        "two pictures of one stem",
        lambda images, _: paint(images / "a.png", ((1, 2, 3),)),
        "a.jpg and a.png .* same stem",
    ),
]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(change, sentence) for _, change, sentence in WRONG],
    ids=[name for name, *_ in WRONG],
)
def test_folders_that_do_not_fit_stop_first(
    change: Callable[[Path, Path], object],
    sentence: str,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(sources, "load", never)
    change(*folders)

    with pytest.raises(BadRequest, match=sentence):
        sources.check(sources.pair(*folders), None)
    assert main(asked(folders)) == 2


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--masks must be a folder"):
        sources.pair(tmp_path, tmp_path / "nothing")


def test_numbers_above_the_names_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    label(folders[1] / "b.png", (1, 0, 255, 3))
    pairs = sources.pair(*folders)

    sources.check(pairs, ("sky", "sea", "sand"))
    with pytest.raises(BadRequest, match=r"b.png holds the number 3, and --names has 2 classes"):
        sources.check(pairs, ("sky", "sea"))


def test_names_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("sky\nhouse|home\n", encoding="utf-8")

    assert sources.read_names(path) == ("sky", "house")
    path.write_text("sky\n\nhouse\n", encoding="utf-8")
    with pytest.raises(BadRequest, match="must name a class on every line"):
        sources.read_names(path)
    with pytest.raises(BadRequest, match="cannot be read"):
        sources.read_names(tmp_path / "none.txt")


# --- a mask per label ------------------------------------------------------------------------


def test_scenes_with_a_mask_per_label_are_read_from_one_folder(tmp_path: Path) -> None:
    pictures = write_scene_folder(2, 3, tmp_path, size_hw=(48, 64))

    pairs = sources.pair(tmp_path, tmp_path)

    assert [each.image for each in pairs] == sorted(pictures)
    sources.check(pairs, None)
    numbers = sources.label_numbers(pairs, None)
    label_map = sources.truth(pairs[0], numbers)
    assert label_map.shape == (48, 64)
    for name, path in pairs[0].masks:
        painted = np.asarray(Image.open(path)) > 0
        assert set(np.unique(label_map[painted])) <= {numbers[name], 255}


def test_what_two_masks_claim_is_unknown(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", ((255, 0, 0),))
    label(tmp_path / "a__sea.png", (255, 255, 0))
    label(tmp_path / "a__sky.png", (0, 255, 255))
    (each,) = sources.pair(tmp_path, tmp_path)

    label_map = sources.truth(each, sources.label_numbers([each], None))

    assert label_map[0, [0, 20, 40]].tolist() == [1, 255, 2]


def test_a_mask_of_an_unlisted_label_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", ((255, 0, 0),))
    label(tmp_path / "a__sea.png", (255,))
    pairs = sources.pair(tmp_path, tmp_path)

    with pytest.raises(BadRequest, match="a mask of 'sea', which --names does not list"):
        sources.check(pairs, ("sky",))


# --- pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("multiple", "size_hw"), [(16, (160, 320)), (14, (154, 322)), (1, (160, 320))]
)
def test_sides_become_whole_multiples(multiple: int, size_hw: tuple[int, int]) -> None:
    image = np.zeros((100, 200, 3), np.uint8)

    pixels = sources.prepare(image, short_side=160, multiple=multiple)

    assert tuple(pixels.shape) == (1, 3, *size_hw)


def test_a_long_strip_does_not_take_all_memory() -> None:
    strip = np.full((4, 20000, 3), 255, np.uint8)

    pixels = sources.prepare(strip, short_side=336, multiple=8)

    height, width = pixels.shape[-2:]
    assert height * width // 64 <= sources.MOST_PLACES
    assert pixels.max() <= 1.0


# --- the shipped model -----------------------------------------------------------------------


def test_the_demo_profile_measures_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene_folder(2, 3, tmp_path, size_hw=(48, 64))
    folders = (tmp_path, tmp_path)

    sources_asked = ("--source", "clip", "--source", "diffusion-s")
    status = main(asked(folders, "--profile", "demo", "--device", "cpu", "--json", *sources_asked))

    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert {row["name"] for row in told["sources"]} == {"clip", "diffusion-s"}
    assert all(row["separation"] > 0.05 and row["auc"] > 0.55 for row in told["sources"])
