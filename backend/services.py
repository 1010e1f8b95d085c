"""What the routes work with; `wiring` builds it, `app` hands it to Flask."""

from dataclasses import dataclass

from .model_host import ModelHost
from .predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Services:
    """One object graph per process. `basic_auth` is (user, password), None leaves doors open."""

    model: ModelHost
    predictor: Predictor
    basic_auth: tuple[str, str] | None = None

    def start(self) -> None:
        """Begin to load the model in the background."""
        self.model.start()

    def close(self) -> None:
        """Let go of the device."""
        self.predictor.close()
