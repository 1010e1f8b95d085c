"""The configs of the documentation, run through the whole service."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.labelstudio.options import OPTIONS
from cliper_model import Label, Vocabulary

from ..docs.pages import FENCE, ROOT, blocks
from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer
from ..doubles.pictures import COLOURS, encoded
from .conftest import Service, StartService

PAGE = ROOT / "docs" / "reference" / "ten-configs.md"
LABEL_CONFIG = ROOT / "docs" / "reference" / "label-config.md"
ADDRESS = "/data/upload/1/street.png"
DATA = {"image": ADDRESS, "images": [ADDRESS, ADDRESS]}

CAR, AIRPLANE, NOTHING = "red", "blue", "yellow"  # what things look like

Rows = Counter[tuple[str, str, str]]


def street() -> bytes:
    """Two cars and one airplane on grey."""
    pixels = np.full((60, 100, 3), 120, np.uint8)
    pixels[40:55, 10:35] = COLOURS[CAR]
    pixels[40:55, 60:90] = COLOURS[CAR]
    pixels[5:20, 20:70] = COLOURS[AIRPLANE]
    return encoded(pixels)


def sections() -> list[tuple[str, str, Rows]]:
    """Heading, config and the table below it, for every section of the page."""
    found = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        config = next(iter(FENCE.finditer(section)))[3]
        lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
        rows: Rows = Counter()
        for line in lines:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not set(cells[0]) <= {"-"}:
                rows[cells[0], cells[1], cells[2]] = int(cells[3])
        found.append((section.splitlines()[0], config, rows))
    return found


class Street(ColourSegmenter):
    """Knows cars and airplanes; of other words the first means cars, the second airplanes."""

    def read(self, labels, *, background=None, preset=None) -> Vocabulary:
        looks = itertools.chain((CAR, AIRPLANE), itertools.repeat(NOTHING))
        known = {"Car": CAR, "Airplane": AIRPLANE, "Boat": NOTHING}
        seen = [Label(one.name, (known.get(one.name) or next(looks),)) for one in labels]
        return super().read(seen, background=(), preset=preset)


@pytest.fixture
def street_service(start_service: StartService) -> Service:
    source = replace(colour_source(Street()), check_words=lambda profile, labels: None)
    return start_service(source)


def counted(result: list[dict]) -> Rows:
    rows: Rows = Counter()
    for region in result:
        kind, value = region["type"], region["value"]
        labels = [] if kind in ("brush", "polygon") else value[kind]
        for label in labels or [""]:
            rows[kind, region["from_name"], label] += 1
    return rows


def test_there_are_ten() -> None:
    assert len(sections()) == 10


@pytest.mark.parametrize(
    ("heading", "config", "rows"), sections(), ids=lambda value: str(value)[:30]
)
def test_a_common_config_gets_what_its_table_says(
    street_service: Service, files: FileServer, heading: str, config: str, rows: Rows
):
    files.put(ADDRESS, street())

    (entry,) = street_service.predict(config, DATA).get_json()["results"]

    assert counted(entry["result"]) == rows
    assert LabelInterface(config).validate_prediction(entry, return_errors=True) == []


@pytest.mark.parametrize(
    "block", [one for one in blocks("xml") if one.page in (LABEL_CONFIG, PAGE)], ids=str
)
def test_every_example_of_the_reference_page_predicts_what_label_studio_accepts(
    street_service: Service, files: FileServer, block
):
    files.put(ADDRESS, street())
    data = {
        **{key: ADDRESS for key in ("image", "url", "file")},
        "images": [ADDRESS],
        "labels": ["cat", {"value": "dog", "alias": "d"}],
        "page": 1,
    }
    version = street_service.setup(block.text)
    for _, host in street_service.services.models.others:
        host.join()

    (entry,) = street_service.predict(block.text, data).get_json()["results"]

    assert entry["model_version"] == version.get_json()["model_version"]
    assert entry["result"], entry
    interface = LabelInterface(block.text)
    if "$labels" not in block.text:  # the validator has no task to take labels from
        assert interface.validate_prediction(entry, return_errors=True) == []


def test_every_option_has_an_example_on_the_page() -> None:
    examples = "".join(one.text for one in blocks("xml") if one.page == LABEL_CONFIG)

    assert not [name for name in OPTIONS if f'{name}="' not in examples]
