"""What the routes work with; `wiring` builds it, `app` hands it to Flask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .jobs.desk import JobDesk
from .learning.intake import Intake
from .learning.teaching import StoredTeaching
from .model_host import ModelHost
from .model_pool import ModelPool
from .predictor import Predictor
from .prelabel.unfinished import Unfinished
from .row_shelf import KeptRows
from .storage.base import Storage


@dataclass(frozen=True, kw_only=True)
class Services:
    """One object graph per process.

    basic_auth  user and password; None leaves doors open
    api_token   opens our own endpoints, without a password
    webhook_secret  events come to an address that holds it; None: to anybody's
    storage     what outlives the process; None: nothing does
    jobs        None where no long work is done
    unfinished  None where requests leave what they have no time for
    intake      takes events in; None where nothing is learnt from corrections
    teaching    what was learnt; None likewise
    rows        text rows of all models of the process
    missing     settings without which nothing is learnt
    """

    models: ModelPool
    predictor: Predictor
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    api_token: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    storage: Storage | None = None
    jobs: JobDesk | None = None
    unfinished: Unfinished | None = None
    intake: Intake | None = None
    teaching: StoredTeaching | None = None
    missing: tuple[str, ...] = ()
    rows: KeptRows | None = None

    @property
    def model(self) -> ModelHost:
        """The service's own."""
        return self.models.own

    def start(self) -> None:
        """Begin to load the model, and to look at the store and for jobs, in the background."""
        self.model.start()
        self.predictor.look_at_store()
        if self.jobs is not None:
            self.jobs.runner.start()
        if self.intake is not None:
            self.intake.start()

    def take_in(self, event: bytes) -> None:
        """An event of Label Studio's, as it came; at once."""
        if self.intake is not None:
            self.intake(event)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`: store, device, text rows, jobs, and what is done without being asked.
        Asks nobody."""
        facts: dict[str, Any] = {
            "storage": dict(self.predictor.storage_facts()),
            **self.predictor.device_facts(),
        }
        if self.rows is not None:
            facts["rows"] = dict(self.rows.facts())
        if self.jobs is not None:
            facts["jobs"] = dict(self.jobs.runner.facts())
            facts["prelabel"] = self.unfinished.facts() if self.unfinished else {"auto": False}
        facts["learning"] = self._learning()
        return facts

    def _learning(self) -> Mapping[str, Any]:
        if self.intake is None or self.teaching is None:
            return {"on": False, "missing": list(self.missing)}
        events, taught = self.intake.facts(), self.teaching.facts()
        return {"on": True, **events, **taught, "trouble": events["trouble"] or taught["trouble"]}

    def close(self) -> None:
        """Hand back the job at work, let go of the device, and of the store last."""
        if self.intake is not None:
            self.intake.close()
        if self.unfinished is not None:
            self.unfinished.close()
        if self.jobs is not None:
            self.jobs.runner.close()
        self.predictor.close()
        if self.storage is not None:
            self.storage.close()
