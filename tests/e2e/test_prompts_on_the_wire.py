"""What the editor sends a backend when an annotator prompts it, and what it does with answers."""

from collections.abc import Iterator

import numpy as np
import pytest

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.labelstudio import rle
from tests.doubles.spy_backend import SpyBackend, spy_backend

from .browser import Browser
from .editor import Editor, Json
from .pictures import TWO_BOXES

WORDS = ("red", "blue")
STROKE = [(20.0, 20.0), (30.0, 25.0), (40.0, 20.0)]
BRUSH_DELAY_MS = 1200  # how long the editor would wait after a stroke, by its own source


@pytest.fixture(scope="module")
def browser(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium") / "profile") as window:
        account = label_studio.account
        window.log_in(label_studio.url, account.email, account.password)
        yield window


@pytest.fixture
def spy() -> Iterator[SpyBackend]:
    with spy_backend() as backend:
        yield backend


def config(*controls: str) -> str:
    """A picture, BrushLabels `masks` and the given control tags, all with the same labels."""
    labels = "".join(f'<Label value="{word}"/>' for word in WORDS)
    tags = "".join(
        f'<{control.split()[0]} toName="photo" {" ".join(control.split()[1:])}>'
        f"{labels}</{control.split()[0]}>"
        for control in controls
    )
    return f'<View><Image name="photo" value="$image"/>{tags}</View>'


PROMPTS = config(
    'BrushLabels name="masks"',
    'KeyPointLabels name="tips" smart="true"',
    'RectangleLabels name="boxes" smart="true"',
    'EllipseLabels name="ovals" smart="true"',
)


def opened(
    browser: Browser,
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    spy: SpyBackend,
    label_config: str = PROMPTS,
) -> Editor:
    """A task of a new project, already predicted, in the editor; the spy is its backend."""
    project = api.create_project("prompts", label_config)
    (task,) = api.upload(project, {"two.png": TWO_BOXES.to_png()}).values()
    api.connect(project, spy.url, is_interactive=True)
    api.retrieve_predictions(project)
    return Editor(browser, label_studio.url, project, task)


def context(browser: Browser, spy: SpyBackend, count: int) -> list[Json]:
    """What the `count`-th prompt holds; there must be no more than that."""
    browser.until(lambda: len(spy.prompts()) >= count, f"prompt number {count}")
    prompts = spy.prompts()
    assert len(prompts) == count
    result: list[Json] = prompts[-1]["params"]["context"]["result"]
    return result


def mask(name: str, label: str) -> Json:
    """A brush region over what the word means."""
    height, width = TWO_BOXES.size_hw
    opacity = np.where(TWO_BOXES.truth(label), np.uint8(255), np.uint8(0))
    return {
        "id": name,
        "from_name": "masks",
        "to_name": "photo",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": list(rle.encode(opacity)), "brushlabels": [label]},
    }


def test_key_points_of_a_label_come_together_and_alt_makes_one_negative(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    editor = opened(browser, api, label_studio, spy)

    first = editor.point_at("tips", "red", (30, 30))
    (alone,) = context(browser, spy, 1)
    second = editor.point_at("tips", "red", (70, 60), negative=True)
    both = context(browser, spy, 2)
    editor.point_at("tips", "blue", (50, 80))
    other_label = context(browser, spy, 3)

    assert alone["id"] == first["id"]
    assert (alone["type"], alone["from_name"], alone["to_name"]) == (
        "keypointlabels", "tips", "photo"
    )  # fmt: skip
    assert (alone["original_width"], alone["original_height"]) == TWO_BOXES.size_hw[::-1]
    assert alone["value"]["keypointlabels"] == alone["value"]["labels"] == ["red"]
    assert alone["value"]["x"] == pytest.approx(30, abs=0.5)
    assert alone["value"]["y"] == pytest.approx(30, abs=0.5)
    assert [item["id"] for item in both] == [first["id"], second["id"]], "the newest comes last"
    assert [item["is_positive"] for item in both] == [True, False]
    assert [item["value"]["labels"] for item in other_label] == [["blue"]]


def test_rectangles_come_without_a_sign_and_without_the_key_points_beside_them(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    editor = opened(browser, api, label_studio, spy)

    editor.point_at("tips", "red", (80, 80))
    context(browser, spy, 1)
    editor.box("boxes", "red", (10, 10), (45, 50))
    (item,) = context(browser, spy, 2)

    assert (item["type"], item["from_name"]) == ("rectanglelabels", "boxes")
    assert "is_positive" not in item
    value = item["value"]
    assert value.keys() == {"x", "y", "width", "height", "rotation", "rectanglelabels"}
    assert [value[name] for name in ("x", "y", "width", "height")] == pytest.approx(
        [10, 10, 35, 40], abs=0.5
    )


def test_a_rectangle_of_the_plain_tool_goes_with_the_next_smart_one_of_its_label(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    editor = opened(browser, api, label_studio, spy)

    corners = [(60.0, 60.0), (65.0, 70.0), (70.0, 80.0)]
    plain = editor.draw("RectangleTool", "boxes", "red", corners, smart=False)
    prompt = editor.box("boxes", "red", (10, 10), (45, 50))

    sent = context(browser, spy, 1)
    assert (plain["smart"], prompt["smart"]) == (False, True)
    assert [item["id"] for item in sent] == [plain["id"], prompt["id"]]


@pytest.mark.parametrize("only", ["", ' smartOnly="true"'])
@pytest.mark.parametrize(
    ("control", "tool"), [("BrushLabels", "BrushTool"), ("BitmaskLabels", "BitmaskTool")]
)
def test_a_stroke_of_a_smart_brush_sends_nothing(
    browser: Browser,
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    spy: SpyBackend,
    control: str,
    tool: str,
    only: str,
):
    strokes = f'{control} name="strokes" smart="true"{only}'
    editor = opened(
        browser, api, label_studio, spy, config(strokes, 'KeyPointLabels name="tips" smart="true"')
    )

    stroke = editor.draw(tool, "strokes", "red", STROKE)
    browser.wait_in_page(BRUSH_DELAY_MS)  # timers run in order: one set by the stroke is over
    point = editor.point_at("tips", "red", (80, 80))

    assert not stroke["smart"], "the editor forgets that the brush was a smart one"
    assert [item["id"] for item in context(browser, spy, 1)] == [point["id"]]


def test_ellipses_and_polygons_have_no_smart_tool(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    outlines = config(
        'EllipseLabels name="ovals" smart="true"', 'PolygonLabels name="rings" smart="true"'
    )
    editor = opened(browser, api, label_studio, spy, outlines)

    for tool in ("EllipseTool", "PolygonTool"):
        assert editor.has_tool(tool, smart=False)
        assert not editor.has_tool(tool, smart=True)


def test_an_answer_replaces_the_one_before_and_accepting_it_removes_the_prompts(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    spy.answer = lambda context: [mask(f"answer-{len(context['result'])}", "red")]
    editor = opened(browser, api, label_studio, spy)

    def suggested() -> list[str]:
        return [suggestion["id"] for suggestion in editor.suggestions()]

    editor.point_at("tips", "red", (30, 30))
    browser.until(lambda: suggested() == ["answer-1"], "the first answer")
    editor.point_at("tips", "red", (40, 40))
    browser.until(lambda: suggested() == ["answer-2"], "the second answer instead of the first")
    editor.accept()
    accepted = editor.regions()
    third = editor.point_at("tips", "red", (70, 20))  # on the mask it would select the mask

    assert [(region["id"], region["type"]) for region in accepted] == [("answer-2", "brushregion")]
    assert [item["id"] for item in context(browser, spy, 3)] == [third["id"]]


def test_submitting_stores_the_prompt_and_loses_the_suggestion_nobody_accepted(
    browser: Browser, api: LabelStudioApi, label_studio: LabelStudioServer, spy: SpyBackend
):
    spy.answer = lambda context: [mask("answer", "red")]
    editor = opened(browser, api, label_studio, spy)

    point = editor.point_at("tips", "red", (30, 30))
    browser.until(editor.suggestions, "the answer")
    task = spy.prompts()[-1]["tasks"][0]["id"]
    editor.submit()

    (stored,) = api.call("GET", f"/api/tasks/{task}/annotations/")
    assert [(item["id"], item["type"]) for item in stored["result"]] == [
        (point["id"], "keypointlabels")
    ]
