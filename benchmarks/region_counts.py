"""How many regions a picture gets, compared with how many things are in it.

    python -m benchmarks.region_counts [--scenes 60]

The demo weights on drawn scenes that serve no other purpose, all labels asked, through the
predictor: outlines, and brush masks piece by piece. The truth's regions are the connected pieces
of its masks that are as large as the smallest piece the service keeps. Writes
`results/proof-regions.json`; exit status 1 if the median of the former is more than 1.5 times
the median of the latter.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean, median
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from backend.demo.projects import Picture, everything
from backend.labelstudio.tasks import PredictRequest, Task
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import Predicted
from backend.predictor import Predictor
from backend.settings import Settings
from backend.wiring import limits, real_model
from cliper_model.demo.scenes import LABELS

from . import record
from .chain import labels_of

MOST = 1.5  # found per true one, of the medians
SEED = 11  # of the scenes; no option was chosen on them
SMALLEST = 0.0005  # share of the picture, the default of model_min_area
TAGS = {"PolygonLabels": "", "BrushLabels": 'model_instances="true"'}
VARIANTS = {  # attributes of the tag; the first is what comes unasked, the others for contrast
    "defaults": "",
    "no crumbs removed, no holes filled": 'model_min_area="0" model_holes="false"',
    "smallest piece 0.2 %": 'model_min_area="0.2%"',
}


class Album:
    """Pictures by name, as arrays."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._images = {picture.name: picture.image for picture in pictures}

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        return address.encode()

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        return self._images[data.decode()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Regions per picture against the truth.")
    parser.add_argument("--scenes", type=int, default=60)
    args = parser.parse_args()

    pictures = everything(args.scenes, SEED).pictures
    truth = [true_regions(picture) for picture in pictures]
    found: dict[str, Any] = {}
    with predictor_of(pictures) as predictor:
        for variant, attributes in VARIANTS.items():
            for tag, own in TAGS.items():
                counts = regions(predictor, pictures, config(tag, f"{own} {attributes}"))
                found.setdefault(variant, {})[tag] = figures(counts, truth)
                print(variant, tag, found[variant][tag], flush=True)
    passed = all(one["found per true one, medians"] <= MOST for one in found["defaults"].values())
    path = record.write(
        "proof-regions",
        {
            "seed": SEED,
            "scenes": args.scenes,
            "labels asked": len(LABELS),
            "smallest piece counted, share of the picture": SMALLEST,
            "regions per picture": found,
            "limit of the medians": MOST,
            "passed": passed,
        },
    )
    print(f"written to {path}")
    return 0 if passed else 1


@contextmanager
def predictor_of(pictures: Sequence[Picture]) -> Iterator[Predictor]:
    """The use case around the demo weights, as the service builds it, and these pictures."""
    settings = Settings(profile="demo", device="cpu", predict_budget=3600)
    model = ModelHost(real_model(settings))
    model.start()
    model.join()
    predictor = Predictor(ModelPool(model), Album(pictures), limits(settings))
    try:
        yield predictor
    finally:
        predictor.close()


def config(tag: str, attributes: str) -> str:
    """One control with every label the demo weights know."""
    return (
        '<View><Image name="image" value="$image"/>'
        f'<{tag} name="masks" toName="image" {attributes}>{labels_of(LABELS)}</{tag}></View>'
    )


def regions(predictor: Predictor, pictures: Sequence[Picture], label_config: str) -> list[int]:
    """Regions of every picture."""
    tasks = tuple(Task(picture.name, {"image": picture.name}) for picture in pictures)
    outcomes = predictor.predict(PredictRequest(tasks=tasks, label_config=label_config))
    counts = []
    for outcome in outcomes:
        if not isinstance(outcome, Predicted):
            raise SystemExit(f"a scene was not predicted: {outcome.reason}")
        counts.append(len(json.loads(outcome.to_json())["result"]))
    return counts


def true_regions(picture: Picture) -> int:
    """Connected pieces of the truth's masks, as small as the service's smallest."""
    return sum(
        int((stats[1:, cv2.CC_STAT_AREA] >= SMALLEST * mask.size).sum())
        for mask in picture.truth.values()
        for _, _, stats, _ in (
            cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4),
        )
    )


def figures(found: Sequence[int], truth: Sequence[int]) -> Mapping[str, float]:
    """Medians and means per picture, and how they compare."""
    return {
        "found, median": median(found),
        "found, mean": round(mean(found), 2),
        "found, most": max(found),
        "true, median": median(truth),
        "true, mean": round(mean(truth), 2),
        "true, most": max(truth),
        "found per true one, medians": round(median(found) / median(truth), 3),
        "found per true one, median over pictures": round(
            median(one / max(there, 1) for one, there in zip(found, truth, strict=True)), 3
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
