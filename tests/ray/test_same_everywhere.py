"""One picture, one answer: the service, the plain engine and Ray give the same label maps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.labelstudio import rle
from backend.labelstudio.tasks import PredictRequest, Task
from backend.outcomes import Predicted
from backend.settings import Settings
from backend.wiring import build
from cliper_model.demo.scenes import make_scene

from ..doubles.pictures import brush_config
from ..doubles.ray_runs import started, stop

WORDS = ("sky", "grass", "house", "tree", "car", "sun")
SCENES = 6
FIRST_SEED = 90_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("same")
    (folder / "pictures").mkdir()
    for number in range(SCENES):
        scene = make_scene(np.random.default_rng(FIRST_SEED + number))
        Image.fromarray(scene.image).save(folder / "pictures" / f"{number}.png")
    (folder / "config.xml").write_text(brush_config(WORDS))
    return folder


def masks(regions: list[Any]) -> dict[str, np.ndarray]:
    """Label -> where it is; regions of a label joined."""
    found: dict[str, np.ndarray] = {}
    for one in regions:
        size_hw = (one["original_height"], one["original_width"])
        mask = rle.decode(one["value"]["rle"], size_hw=size_hw) > 0
        for label in one["value"]["brushlabels"]:
            found[label] = found[label] | mask if label in found else mask
    return found


def by_service(root: Path) -> dict[str, list[Any]]:
    services = build(Settings(profile="demo", local_files_document_root=root / "pictures"))
    services.model.start()
    services.model.join()
    names = [f"{number}.png" for number in range(SCENES)]
    tasks = [Task(n, {"image": f"/data/local-files/?d={name}"}) for n, name in enumerate(names)]
    request = PredictRequest(tasks=tuple(tasks), label_config=brush_config(WORDS))
    outcomes = services.predictor.predict(request)
    services.close()
    assert all(isinstance(one, Predicted) for one in outcomes)
    return {
        name: json.loads(one.to_json())["result"] for name, one in zip(names, outcomes, strict=True)
    }


def by_engine(root: Path, engine: str) -> dict[str, list[Any]]:
    words = ["-m", "backend", "prelabel", "--profile", "demo", "--engine", engine]
    words += ["--input", str(root / "pictures"), "--output", str(root / engine)]
    words += ["--config", str(root / "config.xml"), "--format", "jsonl"]
    words += ["--concurrency", "1"] if engine == "ray" else []
    run = started(words, root / engine, root / f"{engine}.log")
    try:
        assert run.end() == 0, run.log.read_text()
    finally:
        stop(run)
    return {row.id: json.loads(row.result or "[]") for row in run.output.read()}


def test_service_plain_engine_and_ray_give_the_same_label_maps(root: Path) -> None:
    service, plain, ray = by_service(root), by_engine(root, "plain"), by_engine(root, "ray")

    assert service.keys() == plain.keys() == ray.keys()
    assert any(service.values())
    for name, regions in service.items():
        wanted = masks(regions)
        for other in (plain[name], ray[name]):
            found = masks(other)
            assert found.keys() == wanted.keys()
            for label, mask in wanted.items():
                np.testing.assert_array_equal(found[label], mask)
