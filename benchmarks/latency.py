"""How long one prediction takes inside the service: cold, cached, a click, other words.

Without HTTP, and with pictures inside their tasks: `benchmarks/lanes.py` and
`benchmarks/clicks.py` measure what a network and Label Studio add.
"""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from backend.labelstudio.tasks import PredictRequest, Task
from backend.outcomes import Predicted
from backend.predictor import Predictor
from cliper_model.shapes import Image

from .responsiveness import summarise
from .throughput import brush_config

SMART = {"KeyPointLabels": 'name="tips" toName="photo" smart="true"'}
SEED = 0  # of where clicks are


def measure(
    predictor: Predictor,
    pictures: Iterable[Image],
    words: Sequence[str],
    others: Sequence[str],
    *,
    warm_up: int,
) -> dict[str, dict[str, float]]:
    """Milliseconds and looks of four requests for every picture, one after the other.

    cold           a picture never seen
    cached         the same again
    click          a key point on it
    changed words  the same picture with `others`, whose text rows are kept

    The first `warm_up` pictures are not counted. Raises RuntimeError where a picture is not
    predicted.
    """
    asks = _Asking(predictor, words, others)
    times: dict[str, list[float]] = {}
    looks: dict[str, int] = {}
    for number, picture in enumerate(pictures):
        for kind, request in asks.about(number, picture).items():
            before = asks.looks()
            elapsed = asks.ask(request)
            if number >= warm_up:
                times.setdefault(kind, []).append(elapsed)
                looks[kind] = looks.get(kind, 0) + asks.looks() - before
    return {kind: {**summarise(each), "looks": looks[kind]} for kind, each in times.items()}


class _Asking:
    def __init__(self, predictor: Predictor, words: Sequence[str], others: Sequence[str]) -> None:
        self._predictor, self._words = predictor, words
        self._config = brush_config(words, more=SMART)
        self._other_config = brush_config(others)
        self._random = np.random.default_rng(SEED)

    def about(self, number: int, picture: Image) -> Mapping[str, PredictRequest]:
        tasks = (Task(number, {"image": inside_a_task(picture)}),)
        same = PredictRequest(tasks=tasks, label_config=self._config)
        return {
            "cold": same,
            "cached": same,
            "click": PredictRequest(tasks=tasks, label_config=self._config, context=self._click()),
            "changed words": PredictRequest(tasks=tasks, label_config=self._other_config),
        }

    def ask(self, request: PredictRequest) -> float:
        """Milliseconds."""
        begun = time.perf_counter()
        (outcome,) = self._predictor.predict(request)
        elapsed = 1000 * (time.perf_counter() - begun)
        if not isinstance(outcome, Predicted):
            raise RuntimeError(f"picture {request.tasks[0].id} was not predicted: {outcome}")
        return elapsed

    def looks(self) -> int:
        return int(self._predictor.device_facts()["queue"]["looks"])

    def _click(self) -> dict[str, Any]:
        """As the editor sends it; anywhere, for any of the words."""
        x, y = self._random.uniform(0, 100, 2)
        word = str(self._random.choice(list(self._words)))
        value = {"x": float(x), "y": float(y), "width": 0.26, "keypointlabels": [word]}
        point = {"from_name": "tips", "to_name": "photo", "type": "keypointlabels", "value": value}
        return {"result": [{**point, "is_positive": True}]}


def inside_a_task(picture: Image) -> str:
    """The address of a picture that travels inside its task, as PNG."""
    _, file = cv2.imencode(".png", picture[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(file.tobytes()).decode()
