"""Every format, from a label config to paint on the screen of a real editor.

The server validates predictions strictly. Screenshots are kept in `.cache/screenshots`.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.labelstudio.regions import FORMATS, TAGS

from .browser import Browser
from .conftest import CHECKOUT
from .pictures import TWO_BOXES
from .test_browser import TOOLS, inner, opacity

PAINTS = {"red": "#FFFF00", "blue": "#00FF00"}
SCREENSHOTS = CHECKOUT / ".cache" / "screenshots"
LABELS = "".join(f'<Label value="{word}" background="{paint}"/>' for word, paint in PAINTS.items())
RASTERS = {"brushlabels": 0.99, "bitmasklabels": 0.99, "brush": 0.99, "bitmask": 0.99}
OUTLINES = {
    "polygonlabels": 0.97,
    "vectorlabels": 0.97,
    "rectanglelabels": 0.97,
    "polygon": 0.97,
    "rectangle": 0.97,
}
KINDS = (*(kind for kind in TAGS if kind.endswith("labels")), "brush", "bitmask", "rectangle")
COVER = 0.15  # of the paint inside a thing: outlines are filled thinly, masks thickly


def config_of(kind: str) -> str:
    """One control of this kind; a tag without labels gets a Labels tag beside it."""
    tag = TAGS[kind]
    inside = (
        f'<{tag} name="shapes" toName="photo" opacity="0.6" closable="true">{LABELS}</{tag}>'
        if kind.endswith("labels")
        else f'<Labels name="words" toName="photo">{LABELS}</Labels>'
        f'<{tag} name="shapes" toName="photo" opacity="0.6"/>'
    )
    return f'<View><Image name="photo" value="$image"/>{inside}</View>'


@pytest.fixture(scope="module")
def browser(
    label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """One window, logged in, for all formats."""
    account = label_studio.account
    with Browser(tmp_path_factory.mktemp("chromium") / "profile") as window:
        window.log_in(label_studio.url, account.email, account.password)
        yield window


def predicted(api: LabelStudioApi, service: str, config: str) -> tuple[int, int, list[dict]]:
    """A project with one picture: its number, its task, and what is stored for it."""
    project = api.create_project("a format", config)
    (task,) = api.upload(project, {"two.png": TWO_BOXES.to_png()}).values()
    api.connect(project, service)
    api.retrieve_predictions(project)
    (stored,) = api.predictions(project)
    return project, task, stored["result"]


def masks_of(result: list[dict], kind: str) -> dict[str, np.ndarray]:
    """Label -> mask, decoded; a pair is put together by its id."""
    names = {one["id"]: one["value"]["labels"][0] for one in result if one["type"] == "labels"}
    masks: dict[str, np.ndarray] = {}
    for region in result:
        if region["type"] != kind:
            continue
        label = names[region["id"]] if names else region["value"][kind][0]
        mask = FORMATS[kind].decode(region, TWO_BOXES.size_hw)
        masks[label] = masks.get(label, np.zeros_like(mask)) | mask
    return masks


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_stored_decoded_and_drawn(
    browser: Browser,
    api: LabelStudioApi,
    label_studio: LabelStudioServer,
    service: str,
    kind: str,
):
    project, task, result = predicted(api, service, config_of(kind))

    masks = masks_of(result, kind)
    assert masks.keys() == PAINTS.keys()
    for word, mask in masks.items():
        truth = TWO_BOXES.truth(word)
        if kind in (RASTERS | OUTLINES):
            least = (RASTERS | OUTLINES)[kind]
            assert (mask & truth).sum() / (mask | truth).sum() >= least
        elif kind == "ellipselabels":
            assert (mask & truth).sum() / (mask | truth).sum() > 0.8
        else:
            assert truth[mask].all()

    regions = browser.open_prediction(label_studio.url, project, task)
    assert len(regions) == len(PAINTS)
    picture = TWO_BOXES.image.astype(float)
    things = [TWO_BOXES.truth(word) | masks[word] for word in PAINTS]  # ellipses bulge
    outside = inner(~np.logical_or.reduce(things))
    _, visible = browser.painted_picture(TWO_BOXES.size_hw, until=lambda now: True)
    outside &= inner(visible)
    outside[:, TOOLS:] = False

    def inside(word: str) -> np.ndarray:
        return inner(masks[word]) & inner(visible)

    def covers(now: np.ndarray) -> dict[str, float]:
        """How well every thing is covered with its paint: a low percentile, from 0 to 1."""
        return {
            word: float(np.percentile(opacity(now, picture, paint)[inside(word)], 5))
            for word, paint in PAINTS.items()
            if kind != "keypointlabels"  # a dot of some pixels
        }

    def untouched(now: np.ndarray) -> float:
        return float((np.abs(now[outside] - picture[outside]).max(axis=1) < 12).mean())

    def drawn(now: np.ndarray) -> bool:
        return all(cover > COVER for cover in covers(now).values()) and untouched(now) > 0.99

    shown, _ = browser.painted_picture(TWO_BOXES.size_hw, until=drawn)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    browser.screenshot(SCREENSHOTS / f"{kind}.png")
    assert [word for word, cover in covers(shown).items() if cover <= COVER] == []
    assert untouched(shown) > 0.99, "something is painted where nothing was found"
