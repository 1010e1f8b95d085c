"""Settings of the machine never reach the version."""

import pytest

from backend.labelstudio.tasks import SetupRequest
from backend.settings import Settings
from backend.wiring import build

from ...doubles.colours import colour_source
from ...doubles.pictures import brush_config


def version(**settings) -> str:
    services = build(Settings(**settings), source=colour_source())
    services.start()
    services.model.join()
    try:
        return services.predictor.setup(SetupRequest(label_config=brush_config()))
    finally:
        services.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"threads": 3},
        {"device": "cuda:1"},
        {"dtype": "bfloat16"},
        {"result_cache_mb": 0.0},
        {"label_studio_api_key": "f" * 40, "label_studio_url": "http://label-studio:8080"},
        {"basic_auth": ("a", "b")},
        {"predict_budget": 5.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_device_precision_threads_cache_and_tokens_do_not_count(settings):
    assert version(**settings) == version()


def test_the_default_threshold_of_the_service_does_count():
    assert version(options={"model_score_threshold": 0.2}) != version()
