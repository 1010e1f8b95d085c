"""What the service asks of the networks: one look per picture, whatever is asked of it."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backend.labelstudio import label_config
from backend.labelstudio.tasks import PredictRequest, SetupRequest, Task
from backend.model_host import ModelHost, ModelSource
from backend.model_pool import ModelPool
from backend.outcomes import Predicted
from backend.painting import Painted, image_result
from backend.plan import vocabularies
from backend.predictor import Limits, Predictor
from cliper_model import Decision, Segmentation, presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity
from cliper_model.stages import tidy

from ...doubles.calls import counting_calls, of
from ...doubles.pictures import stripes
from .test_predictor import Album
from .test_prompting import point

IDENTITY = Identity(method="cliper", revision=1, profile="tiny")
PICTURE = stripes("red", "green", "blue", height=60, width=25)
MANY = 1000
MIB = 2**20


class Counted:
    """A predictor on whole toy networks, and how often their modules ran so far."""

    def __init__(self, predictor: Predictor, calls: Counter[str]) -> None:
        self.predictor, self.calls = predictor, calls

    def predict(self, config: str, context: Any = None) -> Predicted:
        tasks = (Task(1, {"image": "a"}),)
        (outcome,) = self.predictor.predict(
            PredictRequest(tasks=tasks, label_config=config, context=context)
        )
        assert isinstance(outcome, Predicted)
        return outcome

    @property
    def looks(self) -> tuple[int, int, int]:
        """CLIP, VAE encoder and U-Net."""
        return tuple(
            self.calls[name] for name in ("vision.conv1", "vae.encoder.conv_in", "unet.conv_in")
        )


@pytest.fixture
def counted() -> Iterator[Counted]:
    method = Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=IDENTITY,
    )
    source = ModelSource(
        profile=lambda: "tiny",
        fetch=lambda name, progress: None,
        identify=lambda name: IDENTITY,
        load=lambda name, progress: method,
        describe=lambda _: {},
        check_words=lambda name, labels: None,
    )
    model = ModelHost(source)
    model.start()
    model.join()
    limits = Limits(budget=600, fetch_timeout=5, waiting=2, result_bytes=10**7, state_bytes=10**8)
    predictor = Predictor(ModelPool(model), Album(a=PICTURE), limits)
    with counting_calls(
        vision=method.clip.vision,
        text=method.clip._model.transformer,
        vae=method.diffusion.vae,
        unet=method.diffusion.unet,
    ) as calls:
        yield Counted(predictor, calls)
    predictor.close()


def config(*labels: str, tag: str = "BrushLabels", attributes: str = "") -> str:
    """Words in one short sentence each, and every label is there."""
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        f'<View><Image name="image" value="$image"/><{tag} name="seg" toName="image" '
        f'model_prompt="{{}}" {attributes}>{inside}</{tag}></View>'
    )


def many(tag: str) -> str:
    labels = [f"thing {number}" for number in range(MANY)]
    return config(*labels, tag=tag, attributes='model_score_threshold="0" model_background=""')


def test_the_same_picture_and_config_twice_is_one_look(counted: Counted) -> None:
    first = counted.predict(config("house", "tree"))
    after_first = Counter(counted.calls)
    second = counted.predict(config("house", "tree"))

    assert counted.looks == (1, 1, 1)
    assert counted.calls == after_first
    assert first == second


def test_another_label_config_reads_its_words_and_looks_no_second_time(counted: Counted) -> None:
    counted.predict(config("house", "tree"))
    read = sum(of(counted.calls, "text").values())
    counted.predict(config("car", "tree"))

    assert counted.looks == (1, 1, 1)
    assert sum(of(counted.calls, "text").values()) > read


def test_other_thresholds_and_a_click_run_no_network(counted: Counted) -> None:
    counted.predict(config("house", "tree"))
    before = Counter(counted.calls)
    counted.predict(config("house", "tree", attributes='model_score_threshold="0.1"'))
    click = point(50, 50, "tree", to_name="image")
    smart = config("house", "tree").replace(
        "</View>",
        '<KeyPointLabels name="tips" toName="image" smart="true"><Label value="tree"/>'
        "</KeyPointLabels></View>",
    )
    clicked = counted.predict(smart, context={"result": [click]})

    assert json.loads(clicked.to_json())["result"]
    assert counted.calls == before


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_a_thousand_labels_are_set_up_and_predicted(counted: Counted, tag: str) -> None:
    version = counted.predictor.setup(SetupRequest(label_config=many(tag)))
    told = counted.predict(many(tag))

    assert told.model_version == version
    assert len(told.presences[0]) == MANY
    regions = json.loads(told.to_json())["result"]
    assert regions
    assert {region["type"] for region in regions} == {tag.lower()}
    assert counted.looks == (1, 1, 1)


def found(size_hw: tuple[int, int], **places: tuple[slice, slice]) -> Segmentation:
    """Of a thousand labels those named by their number, such as `l7`."""
    label_map = np.zeros(size_hw, np.int32)
    for name, place in places.items():
        label_map[place] = int(name[1:])
    return Segmentation(
        labels=tuple(f"thing {number}" for number in range(MANY)),
        label_map=label_map,
        confidence=np.ones(MANY, np.float32),
        presence=np.ones(MANY, np.float32),
    )


def test_crumbs_are_looked_for_only_where_labels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = tidy._pieces

    def noted(mask: Any, connectivity: int) -> Any:
        asked.append(mask.size)
        return original(mask, connectivity)

    monkeypatch.setattr(tidy, "_pieces", noted)
    segmentation = found((1000, 1200), l7=np.s_[100:300, 100:300], l900=np.s_[500:520, 700:705])

    tidied = tidy.tidy(segmentation, min_piece=0.0005)

    assert asked == [200 * 200, 20 * 5]
    assert np.flatnonzero(tidied.areas).tolist() == [7 - 1]


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_of_many_labels_only_the_written_regions_take_memory(tag: str) -> None:
    """Every label fills a row of its own; a mask of each would take 700 MiB."""
    size_hw = (MANY, 700)
    rows = {f"l{number}": np.s_[number - 1 : number, :] for number in range(1, MANY + 1)}
    (one,) = vocabularies(label_config.parse(many(tag)), ())
    painted = Painted(one=one, segmentation=found(size_hw, **rows), decision=Decision())

    tracemalloc.start()
    result = image_result([painted], size_hw=size_hw, index=None, seed="seed")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert result.count == one.most_regions
    assert peak < 60 * MIB
