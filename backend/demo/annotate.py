"""Put a project into Label Studio, let the service pre-annotate it, read back what is stored."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import requests

from .errors import Incomplete, ModelNotThere
from .label_studio_api import LabelStudioApi
from .projects import Mask, Project
from .report import Answer

PATIENCE = 300.0  # seconds without a new prediction, or until the model is loaded


def wait_for_model(service: str) -> None:
    """Return once the service at this address has its model. Raises ModelNotThere."""
    deadline = time.monotonic() + PATIENCE
    while True:
        model = requests.get(f"{service}/health", timeout=30).json()["model"]
        if model["state"] == "ready":
            return
        if model["state"] == "failed" or time.monotonic() > deadline:
            raise ModelNotThere(model["reason"] or f"{model['state']}, {model['progress']} %")
        time.sleep(0.5)


def annotate(api: LabelStudioApi, service: str, project: Project) -> tuple[int, list[Answer]]:
    """Create, upload, connect, retrieve, decode; returns the project's id and one answer each.

    `service` is the address of our backend. Retrieving is repeated as long as tasks are left,
    since one request ends after its time budget and the next goes on. Raises Incomplete when
    nothing new came for `PATIENCE` seconds.
    """
    number = api.create_project(project.title, project.label_config)
    tasks = api.upload(number, {picture.name: picture.to_png() for picture in project.pictures})
    api.connect(number, service)
    stored = _retrieve_all(api, number, tasks)
    return number, [answer_of(stored[tasks[picture.name]]) for picture in project.pictures]


def answer_of(prediction: dict[str, Any]) -> Answer:
    """A stored prediction as masks; regions of one label are joined."""
    masks: dict[str, Mask] = {}
    regions = []
    for region in prediction["result"]:
        label = region["value"]["brushlabels"][0]
        regions.append(label)
        mask = decode(region)
        masks[label] = masks[label] | mask if label in masks else mask
    return Answer(masks=masks, regions=regions, model_version=prediction["model_version"])


def decode(region: dict[str, Any]) -> Mask:
    """A brush region's mask `[H, W]`, through Label Studio's own decoder rather than ours."""
    from label_studio_sdk.converter.brush import decode_rle  # seconds to import

    height, width = region["original_height"], region["original_width"]
    rgba = np.asarray(decode_rle(region["value"]["rle"])).reshape(height, width, 4)
    return np.asarray(rgba[..., 3] >= 128)


def _retrieve_all(
    api: LabelStudioApi, project: int, tasks: dict[str, int]
) -> dict[int, dict[str, Any]]:
    """Newest prediction of every task, by task id."""
    stored: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + PATIENCE
    while True:
        api.retrieve_predictions(project)
        before = len(stored)
        stored = {found["task"]: found for found in api.predictions(project)}
        if len(stored) == len(tasks):
            return stored
        if len(stored) > before:
            deadline = time.monotonic() + PATIENCE
        if time.monotonic() > deadline:
            raise Incomplete(_missing(tasks, stored), "see service.log for the reason")
        time.sleep(1)


def _missing(tasks: dict[str, int], stored: dict[int, dict[str, Any]]) -> Sequence[str]:
    return [name for name, task in tasks.items() if task not in stored]
