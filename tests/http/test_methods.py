"""Every method behind the same routes, on the shipped weights."""

import numpy as np
import pytest

from backend.labelstudio.regions import FORMATS
from backend.settings import Settings
from backend.wiring import real_model
from cliper_model import profiles
from cliper_model.demo.scenes import LABELS, make_scene

from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded
from .conftest import StartService

METHODS = [name for name in profiles.methods() if "student" not in profiles.method_card(name).needs]


@pytest.mark.parametrize("method", METHODS)
def test_a_scene_opens_with_masks_of_the_chosen_method(
    method: str, start_service: StartService, files: FileServer
):
    scene = make_scene(np.random.default_rng((11, 4)))
    files.put("/data/upload/1/scene.png", encoded(scene.image))
    chosen = {"profile": "demo", "method": method, "device": "cpu"}
    service = start_service(real_model(Settings(**chosen)), **chosen)
    config = brush_config(LABELS)

    health = service.client.get("/health").get_json()
    version = service.setup(config).get_json()["model_version"]
    (answer,) = service.predict(config, {"image": "/data/upload/1/scene.png"}).get_json()["results"]

    assert health["method"] == method
    assert version.startswith(f"demo-{method}-")
    assert answer["model_version"] == version
    size_hw = scene.image.shape[:2]
    truth = scene.label_map()
    right = 0
    for region in answer["result"]:
        mask = FORMATS["brushlabels"].decode(region, size_hw)
        number = LABELS.index(region["value"]["brushlabels"][0]) + 1
        assert mask.shape == size_hw
        right += int((mask & (truth == number)).sum())
    assert right > 0.05 * truth.size  # even plain CLIP finds some of it


def test_versions_of_methods_differ(start_service: StartService):
    config = brush_config(["tree", "house"])
    versions = set()
    for method in METHODS:
        chosen = {"profile": "demo", "method": method, "device": "cpu"}
        service = start_service(real_model(Settings(**chosen)), **chosen)
        versions.add(service.setup(config).get_json()["model_version"])

    assert len(versions) == len(METHODS)
