"""What the adapter relies on, checked on whichever SDK the suite runs with."""

from typing import Any

import pytest
from pydantic import ValidationError

from . import colours
from .conftest import Sdk

CONFIG = colours.config("red")


def serving(sdk: Sdk, monkeypatch: pytest.MonkeyPatch, model: type) -> Any:
    monkeypatch.setattr(sdk.api, "BASIC_AUTH", None)
    return sdk.api.init_app(model).test_client()


def setup_body(project: str) -> dict[str, Any]:
    return {"project": f"{project}.1795190531", "schema": CONFIG, "extra_params": None}


def predict_body(project: str) -> dict[str, Any]:
    return {
        "tasks": [{"id": 1, "data": {}}],
        "project": f"{project}.1795190531",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": None},
    }


def test_every_request_gets_a_new_instance_whose_setup_has_run(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Noting(sdk.model.LabelStudioMLBase):  # type: ignore[misc,name-defined]
        def setup(self) -> None:
            made.append(self)
            self.set("model_version", "noting")

        def predict(self, tasks: Any, context: Any = None, **kwargs: Any) -> Any:
            assert made[-1] is self
            assert context is None
            return []

    client = serving(sdk, monkeypatch, Noting)
    answer = client.post("/setup", json=setup_body("101"))
    assert answer.get_json() == {"model_version": "noting"}
    client.post("/predict", json=predict_body("101"))
    assert len(made) == 2
    assert made[0] is not made[1]


def test_a_list_reaches_label_studio_as_it_is(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(sdk.model.LabelStudioMLBase):  # type: ignore[misc,name-defined]
        def predict(self, tasks: Any, context: Any = None, **kwargs: Any) -> Any:
            return [{"error": "could not"}]

    answer = serving(sdk, monkeypatch, Plain).post("/predict", json=predict_body("102"))
    assert answer.get_json() == {"results": [{"error": "could not"}]}


def test_a_model_response_cannot_hold_a_prediction_without_result(sdk: Sdk) -> None:
    """The reason why the adapter answers with a list."""
    with pytest.raises(ValidationError, match="result"):
        sdk.response.ModelResponse(predictions=[{"error": "could not"}])


def test_a_version_that_looks_semantic_comes_back_as_no_string(sdk: Sdk) -> None:
    model = sdk.model.LabelStudioMLBase(project_id="104", label_config=CONFIG)
    model.set("model_version", "1.2.3")
    assert not isinstance(model.model_version, str)
    assert str(model.model_version) == model.get("model_version") == "1.2.3"


def test_the_store_is_shared_by_instances_of_one_project_only(sdk: Sdk) -> None:
    first = sdk.model.LabelStudioMLBase(project_id="105", label_config=CONFIG)
    first.set("note", "kept")
    assert sdk.model.LabelStudioMLBase(project_id="105", label_config=CONFIG).get("note") == "kept"
    assert not sdk.model.LabelStudioMLBase(project_id="106", label_config=CONFIG).has("note")


def test_fit_runs_inside_the_request_and_only_for_known_events(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Fitting(sdk.model.LabelStudioMLBase):  # type: ignore[misc,name-defined]
        def fit(self, event: str, data: Any, **additional_params: Any) -> Any:
            seen.append(event)

    client = serving(sdk, monkeypatch, Fitting)
    for action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING",
                   "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"):  # fmt: skip
        body = {"action": action, "project": {"id": 107, "label_config": CONFIG}}
        client.post("/webhook", json=body)
    assert seen == ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING"]


def test_there_is_no_versions_route(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serving(sdk, monkeypatch, sdk.model.LabelStudioMLBase)
    assert client.get("/versions").status_code == 404
