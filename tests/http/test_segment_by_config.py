"""`cliper segment --config` writes what `/predict` answers and the page shows, pixel for pixel."""

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.labelstudio.regions import FORMATS
from backend.settings import Settings
from backend.wiring import real_model
from cliper_model.demo.scenes import LABELS, make_scene

from ..doubles.label_studio import FileServer
from ..doubles.pictures import encoded
from .conftest import Service, StartService
from .test_ui import Page, label_map, unpacked

SCENES = 6


class Seen(NamedTuple):
    """What the page gives of a picture; `layers` where masks overlap."""

    saved: np.ndarray
    drawn: np.ndarray
    layers: dict[str, np.ndarray]


DEMO = {"profile": "demo", "device": "cpu"}


def config(attributes: str, *, also: str = "") -> str:
    """All words of the demo weights but the last three, which are background."""
    labels = "".join(f'<Label value="{word}"/>' for word in LABELS[:-3])
    return (
        '<View><Image name="image" value="$image"/><BrushLabels name="seg" toName="image" '
        f"{attributes}>{labels}{also}</BrushLabels></View>"
    )


APART = {
    "numbers of its own": config(
        f'model_score_threshold="0.35" model_background="{",".join(LABELS[-3:])}" '
        'model_holes="true"',
        also='<Label value="Background" model_fill="true"/>',
    ),
    "pieces": config(
        'model_instances="true" model_smooth="3" model_min_area="0.4%" model_max_regions="4"'
    ),
}
OVERLAPPING = config('model_overlap="true" model_mask_threshold="0.4" model_background=""')


@pytest.fixture
def scenes(tmp_path: Path, files: FileServer) -> list[Path]:
    """Drawn pictures, in a folder and on the server."""
    (tmp_path / "in").mkdir()
    paths = []
    for number in range(SCENES):
        path = tmp_path / "in" / f"{number}.png"
        path.write_bytes(encoded(make_scene(np.random.default_rng((17, number))).image))
        files.put(f"/data/upload/1/{path.name}", path.read_bytes())
        paths.append(path)
    return paths


def segmented(text: str, scenes: list[Path]) -> Path:
    """Where the command's files are."""
    folder = scenes[0].parents[1]
    (folder / "config.xml").write_text(text)
    given = ["--config", str(folder / "config.xml"), "--out", str(folder / "out")]
    more = [word for name, value in DEMO.items() for word in (f"--{name}", value)]
    assert main(["segment", *map(str, scenes), *given, *more]) == 0
    return folder / "out"


def predicted(service: Service, text: str, scenes: list[Path]) -> list[dict[str, np.ndarray]]:
    """Masks by label, scene by scene."""
    addresses = ({"image": f"/data/upload/1/{path.name}"} for path in scenes)
    found = []
    for entry in service.predict(text, *addresses).get_json()["results"]:
        masks: dict[str, np.ndarray] = {}
        for region in entry["result"]:
            size_hw = region["original_height"], region["original_width"]
            (label,) = region["value"]["brushlabels"]
            mask = FORMATS["brushlabels"].decode(region, size_hw)
            masks[label] = masks.get(label, np.zeros(size_hw, bool)) | mask
        found.append(masks)
    return found


def shown(service: Service, text: str, scenes: list[Path]) -> list[Seen]:
    """The label map that the page saves, the one it draws, and its layers, scene by scene."""
    page = Page(service)
    found = []
    for path in scenes:
        picture = page.picture(path.read_bytes(), path.name)
        told = page.pane(picture, text)
        names = [label["name"] for label in told["labels"]]
        saved = page.post("api/exports/labels", json={"picture": picture, "config": text})
        layers: dict[str, np.ndarray] = {}
        if told["layers"] is not None:
            bits = np.frombuffer(unpacked(told["layers"]), np.uint8).reshape(len(names), -1)
            high, wide = told["map_hw"]
            flat = np.unpackbits(bits, axis=1)[:, : high * wide].astype(bool)
            layers = dict(zip(names, flat.reshape(-1, high, wide), strict=True))
        saved_map = np.asarray(Image.open(io.BytesIO(saved.data)))
        found.append(Seen(saved=saved_map, drawn=label_map(told), layers=layers))
    return found


@pytest.fixture
def service(start_service: StartService) -> Service:
    return start_service(real_model(Settings(**DEMO)), **DEMO)


@pytest.mark.parametrize("name", APART)
def test_page_command_and_service_give_the_same_label_map(
    service: Service, scenes: list[Path], name: str
):
    out = segmented(APART[name], scenes)

    answers = predicted(service, APART[name], scenes)
    labels_found = set()
    pages = shown(service, APART[name], scenes)
    for path, masks, seen in zip(scenes, answers, pages, strict=True):
        labels = json.loads((out / f"{path.stem}.json").read_text())["labels"]
        written = np.asarray(Image.open(out / f"{path.stem}.labels.png"))
        expected = np.zeros(written.shape, np.uint8)
        for label in labels:
            if label["name"] in masks:
                expected[masks[label["name"]]] = label["value"]
            assert label["area"] == np.count_nonzero(masks.get(label["name"], 0))
        assert np.array_equal(written, expected)
        assert np.array_equal(seen.saved, expected)
        assert np.array_equal(seen.drawn, expected)
        labels_found |= set(masks)

    assert len(labels_found) >= 4
    assert (
        service.setup(APART[name]).get_json()["model_version"]
        == (json.loads((out / "0.json").read_text())["model_version"])
    )


def test_masks_that_overlap_have_files_of_their_own(service: Service, scenes: list[Path]):
    out = segmented(OVERLAPPING, scenes)

    answers = predicted(service, OVERLAPPING, scenes)
    overlapping = 0
    pages = shown(service, OVERLAPPING, scenes)
    for path, masks, seen in zip(scenes, answers, pages, strict=True):
        labels = json.loads((out / f"{path.stem}.json").read_text())["labels"]
        first = np.asarray(Image.open(out / f"{path.stem}.labels.png"))
        files = {one.name for one in out.glob(f"{path.stem}.mask-*.png")}
        value = {one["name"]: one["value"] for one in labels}
        assert files == {f"{path.stem}.mask-{value[name]}.png" for name in masks}
        for name, mask in masks.items():
            file = out / f"{path.stem}.mask-{value[name]}.png"
            assert np.array_equal(np.asarray(Image.open(file)), mask)
            assert mask[first == value[name]].all()
            assert np.array_equal(seen.layers[name], mask)
        union = np.logical_or.reduce([*masks.values(), np.zeros(first.shape, bool)])
        assert np.array_equal(first > 0, union)
        assert np.array_equal(seen.saved, first)
        assert np.array_equal(seen.drawn, first)
        overlapping += np.count_nonzero(sum(mask.astype(int) for mask in masks.values()) > 1)

    assert overlapping > 0
