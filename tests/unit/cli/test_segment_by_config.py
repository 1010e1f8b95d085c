"""What `cliper segment --config` reads, refuses and writes, with a model that sees colours."""

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend import wiring
from backend.__main__ import main
from backend.dataset.painter import Asked
from backend.settings import Settings

from ...doubles.colours import ColourSegmenter, colour_source
from ...doubles.pictures import brush_config, encoded, stripes

IMAGE = '<Image name="image" value="$image"/>'
TWO = (
    f'<View>{IMAGE}<BrushLabels name="masks/a" toName="image"><Label value="red" alias="r"/>'
    '</BrushLabels><PolygonLabels name="masks:a" toName="image"><Label value="blue"/>'
    '</PolygonLabels><Choices name="said" toName="image" model_fill="true">'
    '<Choice value="red"/></Choices></View>'
)


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch) -> ColourSegmenter:
    """The model of every run; of the settings it is made by nothing is left out."""
    found = ColourSegmenter()
    monkeypatch.setattr(wiring, "painter", partial(wiring.painter, source=colour_source(found)))
    return found


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red, green, blue: three stripes of 6 x 4 pixels."""
    path = tmp_path / "flag.png"
    path.write_bytes(encoded(stripes("red", "green", "blue")))
    return path


def cliper(picture: Path, config: str, *more: str) -> int:
    file = picture.with_name("config.xml")
    file.write_text(config, encoding="utf-8")
    out = str(picture.with_name("out"))
    return main(["segment", str(picture), "--config", str(file), "--out", out, *more])


def label_map(picture: Path, name: str) -> list[int]:
    """Its first row."""
    return np.asarray(Image.open(picture.with_name("out") / name))[0].tolist()


def test_a_tag_alone_has_files_named_like_the_picture(picture: Path, segmenter: ColourSegmenter):
    rest = '<Label value="Background" model_fill="true"/></BrushLabels>'
    text = brush_config(["blue", "red"]).replace("</BrushLabels>", rest)

    assert cliper(picture, text) == 0

    out = picture.with_name("out")
    assert sorted(path.name for path in out.iterdir()) == [
        "flag.json", "flag.labels.png", "flag.overlay.png",
    ]  # fmt: skip
    assert label_map(picture, "flag.labels.png") == [2, 2, 2, 2, 3, 3, 3, 3, 1, 1, 1, 1]
    report = json.loads((out / "flag.json").read_text())
    assert (report["control"], report["preset"], report["width"]) == ("seg", "objects", 12)
    assert report["model_version"].startswith("paintbox-colours-")
    assert [
        (one["name"], one["value"], one["area"], one["presence"]) for one in report["labels"]
    ] == [("blue", 1, 24, 0.9), ("red", 2, 24, 0.9), ("Background", 3, 24, None)]
    assert report["labels"][0]["box_xyxy"] == [8, 0, 12, 6]


def test_several_tags_have_files_of_their_own_and_a_line_of_json_each(
    picture: Path, segmenter: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    assert cliper(picture, TWO, "--json") == 0

    names = sorted(path.name for path in picture.with_name("out").glob("*.labels.png"))
    assert names == ["flag.masks_a-2.labels.png", "flag.masks_a.labels.png"]
    assert label_map(picture, names[0]) == [0] * 8 + [1] * 4
    assert label_map(picture, names[1]) == [1] * 4 + [0] * 8
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["control"] for one in lines] == ["masks/a", "masks:a"]
    assert [one["labels"][0]["name"] for one in lines] == ["r", "blue"]
    assert len(segmenter.looks) == 1


def test_what_an_earlier_tag_writes_is_not_written_twice(picture: Path, segmenter: ColourSegmenter):
    boxes = (
        '<RectangleLabels name="boxes" toName="image"><Label value="red"/><Label value="blue"/>'
        "</RectangleLabels></View>"
    )

    assert cliper(picture, brush_config(["red"]).replace("</View>", boxes)) == 0

    report = json.loads((picture.with_name("out") / "flag.boxes.json").read_text())
    assert [one["name"] for one in report["labels"]] == ["blue"]


def test_a_config_comes_by_standard_input(
    picture: Path, segmenter: ColourSegmenter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO(brush_config(["green"])))
    out = str(picture.with_name("out"))

    assert main(["segment", str(picture), "--config", "-", "--out", out]) == 0

    assert label_map(picture, "flag.labels.png") == [0] * 4 + [1] * 4 + [0] * 4


def test_options_of_the_environment_count(
    picture: Path, segmenter: ColourSegmenter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL_SCORE_THRESHOLD", "0.95")  # everything there has 0.9

    assert cliper(picture, brush_config(["green"])) == 0

    assert label_map(picture, "flag.labels.png") == [0] * 12


def test_options_of_the_command_choose_the_model(picture: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Settings] = []
    ours = wiring.painter

    def painter(settings: Settings, asked: Asked) -> object:
        made.append(settings)
        return ours(settings, asked, source=colour_source())

    monkeypatch.setattr(wiring, "painter", painter)
    monkeypatch.setenv("METHOD", "cliper")

    cliper(picture, brush_config(), "--profile", "demo", "--method", "proxyclip", "--device", "cpu")

    assert (made[0].profile, made[0].method, made[0].device) == ("demo", "proxyclip", "cpu")


@pytest.mark.parametrize(
    ("config", "more", "sentence"),
    [
        ("<View", (), "Config is not well-formed XML"),
        (brush_config(), ("--background", ""), "--background goes with --labels"),
        (brush_config(), ("--preset", "objects"), "--preset goes with --labels"),
        (
            brush_config([f"w{n}" for n in range(256)]),
            (),
            "'seg' has 256 labels; a label map holds at most 255",
        ),
        (
            f'<View>{IMAGE}<Choices name="c" toName="image" model_fill="true">'
            '<Choice value="red"/></Choices></View>',
            (),
            "the label config has no tag with masks",
        ),
        (
            f'<View>{IMAGE}<BrushLabels name="seg" toName="image" value="$labels"/></View>',
            (),
            "'seg' takes its labels from the data of a task",
        ),
        (
            f'<View>{IMAGE}<Image name="other" value="$other"/><BrushLabels name="a" '
            'toName="image"><Label value="red"/></BrushLabels><BrushLabels name="b" '
            'toName="other"><Label value="red"/></BrushLabels></View>',
            (),
            "the label config has 2 pictures per task",
        ),
    ],
)
def test_what_cannot_be_followed_is_a_sentence_before_a_model_is_loaded(
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    more: tuple[str, ...],
    sentence: str,
):
    monkeypatch.setattr(wiring, "painter", pytest.fail)

    assert cliper(picture, config, *more) == 2

    assert sentence in capsys.readouterr().err


def test_words_the_model_does_not_know_end_the_run(
    picture: Path, segmenter: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    assert cliper(picture, brush_config(["unicorn"])) == 2
    assert "does not know 'unicorn'" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_refused(picture: Path, capsys: pytest.CaptureFixture[str]):
    out = str(picture.with_name("out"))

    assert main(["segment", str(picture), "--config", str(picture), "--out", out]) == 2
    assert "cannot be read as text" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--labels", "red", "--config", "a.xml")])
def test_either_labels_or_a_config_is_given(picture: Path, more: tuple[str, ...]):
    with pytest.raises(SystemExit) as end:
        main(["segment", str(picture), "--out", "out", *more])
    assert end.value.code == 2


def test_a_list_of_pictures_in_the_config_is_a_list_of_one(
    picture: Path, segmenter: ColourSegmenter
):
    text = brush_config(["green"]).replace('value="$image"', 'valueList="$images"')

    assert cliper(picture, text) == 0

    assert label_map(picture, "flag.labels.png") == [0] * 4 + [1] * 4 + [0] * 4


def test_warnings_of_the_config_are_said(
    picture: Path, segmenter: ColourSegmenter, capsys: pytest.CaptureFixture[str]
):
    assert cliper(picture, brush_config(attributes='model_treshold="1"')) == 0
    assert "label config: 'seg' has an unknown attribute" in capsys.readouterr().err
