"""What the routes work with; `wiring` builds it, `app` hands it to Flask."""

from dataclasses import dataclass

from .model_host import ModelHost
from .model_pool import ModelPool
from .predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Services:
    """One object graph per process. `basic_auth` is (user, password), None leaves doors open."""

    models: ModelPool
    predictor: Predictor
    basic_auth: tuple[str, str] | None = None

    @property
    def model(self) -> ModelHost:
        """The service's own."""
        return self.models.own

    def start(self) -> None:
        """Begin to load the model in the background."""
        self.model.start()

    def close(self) -> None:
        """Let go of the device."""
        self.predictor.close()
