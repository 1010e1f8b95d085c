"""The answer of `predict`, as the SDK models it."""

from label_studio_sdk.label_interface.objects import PredictionValue
from pydantic import BaseModel, ConfigDict


class ModelResponse(BaseModel):
    """Every prediction becomes a full object here: one without `result` is not possible."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str | None = None
    predictions: list[list[PredictionValue] | PredictionValue]

    def has_model_version(self) -> bool:
        return bool(self.model_version)

    def set_version(self, version: str) -> None:
        self.model_version = version
        self.update_predictions_version()

    def update_predictions_version(self) -> None:
        for entry in self.predictions:
            for prediction in entry if isinstance(entry, list) else [entry]:
                prediction.model_version = prediction.model_version or self.model_version
