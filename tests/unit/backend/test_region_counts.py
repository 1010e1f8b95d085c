"""No crowd of specks: drawn scenes get about as many regions as there are things in them."""

import json
from collections.abc import Iterator
from statistics import median

import cv2
import numpy as np
import pytest

from backend.demo.projects import Picture, everything
from backend.labelstudio.tasks import PredictRequest, Task
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import Predicted
from backend.predictor import Predictor
from backend.settings import Settings
from backend.wiring import limits, real_model
from cliper_model.demo.scenes import LABELS

SCENES = 12
SEED = 12  # of scenes that no option was chosen on
SMALLEST = 0.0005  # share of the picture: the default of model_min_area
MOST = 1.5  # regions per true one


class Album:
    """Scenes by name, as arrays."""

    def __init__(self, scenes: tuple[Picture, ...]) -> None:
        self._images = {scene.name: scene.image for scene in scenes}

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        return address.encode()

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return self._images[data.decode()]


@pytest.fixture(scope="module")
def scenes() -> tuple[Picture, ...]:
    return everything(SCENES, SEED).pictures


@pytest.fixture(scope="module")
def predictor(scenes: tuple[Picture, ...]) -> Iterator[Predictor]:
    """The use case around the demo weights that are shipped."""
    settings = Settings(profile="demo", device="cpu", predict_budget=600)
    model = ModelHost(real_model(settings))
    model.start()
    model.join()
    use_case = Predictor(ModelPool(model), Album(scenes), limits(settings))
    yield use_case
    use_case.close()


def true_pieces(scene: Picture) -> int:
    """Connected pieces of the truth, as large as the smallest that is kept."""
    count = 0
    for mask in scene.truth.values():
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
        count += int((stats[1:, cv2.CC_STAT_AREA] >= SMALLEST * mask.size).sum())
    return count


@pytest.mark.parametrize(
    ("tag", "attributes"), [("PolygonLabels", ""), ("BrushLabels", 'model_instances="true"')]
)
def test_a_scene_gets_about_as_many_regions_as_it_has_pieces(
    predictor: Predictor, scenes: tuple[Picture, ...], tag: str, attributes: str
):
    labels = "".join(f'<Label value="{label}"/>' for label in LABELS)
    config = (
        '<View><Image name="image" value="$image"/>'
        f'<{tag} name="masks" toName="image" {attributes}>{labels}</{tag}></View>'
    )
    tasks = tuple(Task(scene.name, {"image": scene.name}) for scene in scenes)

    outcomes = predictor.predict(PredictRequest(tasks=tasks, label_config=config))

    assert all(isinstance(outcome, Predicted) for outcome in outcomes)
    found = [len(json.loads(outcome.to_json())["result"]) for outcome in outcomes]
    truth = [true_pieces(scene) for scene in scenes]
    assert median(found) <= MOST * median(truth)
    assert median(found) >= median(truth) / MOST, "things are missing, not specks"
