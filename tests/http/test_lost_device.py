"""A graphics card that is lost, or out of memory, while the service runs."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from backend.looking import answers

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from .conftest import StartService

CONFIG = brush_config(["red"])
SENTENCE = "the device is lost ({}); start the service again"


@dataclass
class Card:
    """A device that does what it is asked, or nothing more. `asked`: by which names."""

    is_lost: bool = False
    asked: list[str | None] = field(default_factory=list)

    def answers(self, device: str | None) -> bool:
        self.asked.append(device)
        return not self.is_lost


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
        RuntimeError(
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
        ),
    ],
    ids=["accelerator", "assert", "launch", "no handle"],
)
def test_a_lost_device_is_said_once_for_all_and_nothing_is_loaded_again(
    start_service: StartService, files: FileServer, error: RuntimeError
):
    files.put("/data/upload/1/a.png", encoded(stripes("red", "green")))
    segmenter, card = raises(error), Card(is_lost=True)
    source = colour_source(segmenter, details={"device": "cuda:1"})
    service = start_service(source, answers=card.answers)
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
    assert card.asked == ["cuda:1"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (accelerator_error(), "the model failed on this picture ("),
        (RuntimeError("CUDA error: invalid configuration argument"), "the model failed on this"),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            "not enough memory for this picture",
        ),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(h)`"
            ),
            "not enough memory for this picture",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            "not enough memory for this picture",
        ),
    ],
)
def test_a_device_that_still_answers_loses_nothing_but_that_picture(
    start_service: StartService,
    files: FileServer,
    caplog: pytest.LogCaptureFixture,
    error: RuntimeError,
    sentence: str,
):
    files.put("/data/upload/1/a.png", encoded(stripes("red", "green")))
    files.put("/data/upload/1/b.png", encoded(stripes("green", "red")))
    segmenter = raises(error)
    service = start_service(colour_source(segmenter), answers=Card().answers)

    failed = service.predict(CONFIG, {"image": "/data/upload/1/a.png"})
    segmenter.on_observe = lambda pixels: None
    well = service.predict(CONFIG, {"image": "/data/upload/1/b.png"})

    assert failed.status_code == 200
    assert failed.get_json()["results"][0]["error"].startswith(sentence)
    assert sentence in caplog.text
    assert "result" in well.get_json()["results"][0]
    assert service.client.get("/health").get_json()["device_lost"] is None


def test_a_device_is_asked_by_letting_it_compute(monkeypatch: pytest.MonkeyPatch):
    assert answers("cpu")
    assert not answers("cuda:99")

    def fail(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(torch, "ones", fail)
    error = accelerator_error()
    assert not answers("cpu")
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
    assert answers("cpu")


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
