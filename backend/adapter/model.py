"""`LabelStudioMLBase` on top, the same predictor underneath (protocol notes §4).

The SDK's server makes a new instance for every request, so nothing is kept in one: model
and caches live in `Services`, which `create_app` binds to a class of its own. Answers are
those of our own server with the limits of the SDK's: errors come as status 500 without a
readable reason, and there is no `/versions`.
"""

import json
from typing import Any, ClassVar

from flask import Flask
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase

from ..labelstudio.tasks import PredictRequest, SetupRequest
from ..learning.intake import read_event
from ..services import Services


class CliperBackend(LabelStudioMLBase):  # type: ignore[misc]  # the SDK is not typed
    """One request's worth of the SDK's interface."""

    services: ClassVar[Services]

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        # The SDK stores the config per project, where another request may replace it.
        self._request_config = label_config
        super().__init__(project_id, label_config)

    def setup(self) -> None:
        """Name the version of this config's predictions; checks the config, runs no model.

        Raises BadRequest, ConfigError, ModelLoading, ModelFailed.
        """
        if self._request_config is not None:
            self._name_version(self.get("extra_params"))

    def set_extra_params(self, extra_params: Any) -> None:
        """They arrive after the construction, and the version follows from them."""
        as_text = extra_params if isinstance(extra_params, str) else json.dumps(extra_params)
        super().set_extra_params(as_text)
        if self._request_config is not None:
            self._name_version(extra_params)

    def _name_version(self, extra_params: Any) -> None:
        asked = SetupRequest.from_json(
            {
                "schema": self._request_config,
                "project": self.project_id,
                "extra_params": extra_params or None,
            }
        )
        self.set("model_version", self.services.predictor.setup(asked))

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """One entry per task, in order; a task that could not be predicted has no `result`.

        A plain list, because the SDK's `ModelResponse` takes no such entry.
        Raises BadRequest, ConfigError, ModelLoading, ModelFailed, Busy.
        """
        request = PredictRequest.from_json(
            {
                "tasks": tasks,
                "label_config": self._request_config,
                "project": self.project_id,
                "params": {"context": context or None},
            }
        )
        outcomes = self.services.predictor.predict(request)
        return [json.loads(outcome.to_json()) for outcome in outcomes]

    def fit(self, event: str, data: dict[str, Any], **additional_params: Any) -> dict[str, str]:
        """Acknowledge at once: the annotator's Submit waits for this answer, for a second at most.

        What it means is found out afterwards; of what the SDK knows no event for, nobody hears.
        """
        told = read_event({**data, "action": event})
        if told is not None and self.services.intake is not None:
            self.services.intake.changed(*told)
        return {"event": event}


def create_app(services: Services) -> Flask:
    """The SDK's Flask app around these services. One per process: the app belongs to the SDK."""
    bound = type(CliperBackend.__name__, (CliperBackend,), {"services": services})
    user, password = services.basic_auth or (None, None)
    app: Flask = init_app(bound, basic_auth_user=user, basic_auth_pass=password)
    return app
