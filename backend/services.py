"""What the routes work with; `wiring` builds it, `app` hands it to Flask."""

from dataclasses import dataclass

from .jobs.desk import JobDesk
from .model_host import ModelHost
from .model_pool import ModelPool
from .predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Services:
    """One object graph per process. `basic_auth` is (user, password), None leaves doors open;
    `jobs` is None where no long work is done."""

    models: ModelPool
    predictor: Predictor
    basic_auth: tuple[str, str] | None = None
    jobs: JobDesk | None = None

    @property
    def model(self) -> ModelHost:
        """The service's own."""
        return self.models.own

    def start(self) -> None:
        """Begin to load the model, and to look for jobs, in the background."""
        self.model.start()
        if self.jobs is not None:
            self.jobs.runner.start()

    def close(self) -> None:
        """Hand back the job at work, and let go of the device."""
        if self.jobs is not None:
            self.jobs.runner.close()
        self.predictor.close()
