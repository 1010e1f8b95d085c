"""A graphics card that is lost, or out of memory, while the service runs."""

import numpy as np
import pytest
import torch

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from .conftest import StartService

CONFIG = brush_config(["red"])
SENTENCE = "the device is lost ({}); start the service again"


def raises(error: BaseException) -> ColourSegmenter:
    def fail(pixels: np.ndarray) -> None:
        raise error

    return ColourSegmenter(on_observe=fail)


def accelerator_error() -> RuntimeError:
    """As newer versions of torch raise it; older ones raise a plain RuntimeError."""
    kind = getattr(torch, "AcceleratorError", type("AcceleratorError", (RuntimeError,), {}))
    return kind("CUDA error: an illegal memory access was encountered")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "error",
    [
        accelerator_error(),
        RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("CUDA error: unspecified launch failure"),
    ],
    ids=["accelerator", "assert", "launch"],
)
def test_a_lost_device_is_said_once_for_all_and_nothing_is_loaded_again(
    start_service: StartService, files: FileServer, error: RuntimeError
):
    files.put("/data/upload/1/a.png", encoded(stripes("red", "green")))
    segmenter = raises(error)
    service = start_service(colour_source(segmenter))
    assert service.client.get("/health").get_json()["device_lost"] is None
    sentence = SENTENCE.format(type(error).__name__)

    for _ in range(2):
        answer = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})

        assert (answer.status_code, answer.get_json()) == (503, {"error": sentence})
    health = service.client.get("/health").get_json()
    assert health["device_lost"] == sentence
    assert health["model"]["state"] == "failed"
    assert health["model"]["reason"] == sentence
    assert service.setup(CONFIG).status_code == 503
    assert len(segmenter.looks) == 1


def test_memory_that_ran_out_loses_nothing_but_that_picture(
    start_service: StartService, files: FileServer
):
    files.put("/data/upload/1/a.png", encoded(stripes("red", "green")))
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    service = start_service(colour_source(raises(error)))

    answer = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})

    assert answer.status_code == 200
    health = service.client.get("/health").get_json()
    assert (health["device_lost"], health["model"]["state"]) == (None, "ready")
