"""The base class, with the habits an adapter has to live with."""

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.label_interface import LabelInterface

from .cache import Cache
from .response import ModelResponse

CACHE = Cache(os.environ.get("MODEL_DIR", "."))  # opened by the import, as in the original

SEMANTIC_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")


@dataclass(frozen=True)
class Version:
    """A parsed version; JSON does not know what to do with it."""

    text: str

    def __str__(self) -> str:
        return self.text


class LabelStudioMLBase:
    INITIAL_MODEL_VERSION = "0.0.1"

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.model_version:
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        """For subclasses."""

    def use_label_config(self, label_config: str) -> None:
        self.label_interface = LabelInterface(config=label_config)
        if self.get("label_config") != label_config:
            self.set("label_config", label_config)
            self.set("parsed_label_config", json.dumps({}))

    def get(self, key: str) -> str | None:
        return CACHE[self.project_id, key]

    def set(self, key: str, value: str) -> None:
        CACHE[self.project_id, key] = value

    def has(self, key: str) -> bool:
        return (self.project_id, key) in CACHE

    def set_extra_params(self, extra_params: str) -> None:
        self.set("extra_params", extra_params)

    @property
    def extra_params(self) -> Any:
        return json.loads(self.get("extra_params") or "{}")

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")

    @property
    def parsed_label_config(self) -> Any:
        return json.loads(self.get("parsed_label_config") or "{}")

    @property
    def model_version(self) -> Version | str | None:
        text = self.get("model_version")
        return Version(text) if text and SEMANTIC_VERSION.fullmatch(text) else text

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any] | ModelResponse | None:
        """For subclasses."""

    def fit(self, event: str, data: dict[str, Any], **additional_params: Any) -> Any:
        """For subclasses."""
