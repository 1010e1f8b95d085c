"""What the routes work with; `wiring` builds it, `app` hands it to Flask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import condition
from .errors import DeviceLost, ModelFailed, ModelLoading
from .jobs.desk import JobDesk
from .learning.intake import Intake
from .learning.teaching import StoredTeaching
from .metrics.meters import Meters
from .metrics.scrape import Now
from .model_host import READY, ModelHost
from .model_pool import ModelPool
from .playground.playground import Playground
from .predictor import Predictor
from .prelabel.unfinished import Unfinished
from .projects.overview import Projects
from .row_shelf import KeptRows
from .storage.base import Storage

MOST_REQUEST_BYTES = 512 * 1_000_000  # tasks arrive with all their annotations


@dataclass(frozen=True, kw_only=True)
class Services:
    """One object graph per process.

    basic_auth  user and password; None leaves doors open
    api_token   opens our own endpoints, without a password
    webhook_secret  events come to an address that holds it; None: to anybody's
    storage     what outlives the process; None: nothing does
    jobs        None where no long work is done
    projects    for people in front of a browser; None where no Label Studio is known
    unfinished  None where requests leave what they have no time for
    intake      takes events in; None where nothing is learnt from corrections
    teaching    what was learnt; None likewise
    playground  what the pages show; None where there are none
    rows        text rows of all models of the process
    most_request_bytes  of a request's body
    missing     settings without which nothing is learnt
    meters      what is counted for `/metrics`
    open_metrics  `/metrics` asks for no password
    version     of the program
    """

    predictor: Predictor
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    api_token: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    storage: Storage | None = None
    jobs: JobDesk | None = None
    projects: Projects | None = None
    unfinished: Unfinished | None = None
    intake: Intake | None = None
    teaching: StoredTeaching | None = None
    missing: tuple[str, ...] = ()
    playground: Playground | None = None
    rows: KeptRows | None = None
    meters: Meters = field(default_factory=Meters)
    open_metrics: bool = False
    version: str = "unknown"
    most_request_bytes: int = MOST_REQUEST_BYTES

    @property
    def models(self) -> ModelPool:
        """Of the device that speaks for the service."""
        return self.predictor.crew.leading.models

    @property
    def model(self) -> ModelHost:
        """The service's own."""
        return self.models.own

    def start(self) -> None:
        """Begin to load the model, on every device, and to look at the store and for jobs, in the
        background."""
        self.predictor.crew.start()
        self.predictor.look_at_store()
        if self.jobs is not None:
            self.jobs.runner.start()
        if self.intake is not None:
            self.intake.start()

    def take_in(self, event: bytes) -> None:
        """An event of Label Studio's, as it came; at once."""
        self.meters.event()
        if self.intake is not None:
            self.intake(event)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`: store, devices, text rows, jobs, and what is done without being asked.
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

    def degraded(self, facts: Mapping[str, Any]) -> list[str]:
        """One sentence per reason why not all is as it should be; `facts` as above. Asks nobody."""
        return condition.degraded(
            self.model.status,
            [(choice, host.status) for choice, host in self.predictor.crew.others()],
            facts,
            device=self.predictor.crew.takes_work,
        )

    def not_ready(self) -> str | None:
        """Why predictions do not work, in words that anybody may read; None: they do.

        A model that failed is tried again from here too: where a proxy sends requests only to who
        is ready, nobody else would ask for it.
        """
        try:
            self.model.segmenter()
        except ModelLoading as loading:
            return str(loading)
        except DeviceLost as lost:
            return str(lost)
        except ModelFailed:
            return "the model could not be loaded"
        return None if self.predictor.crew.takes_work else "the device takes no more work"

    def now(self) -> Now:
        """How things are, for `/metrics`. Asks nobody but what `/health` asks."""
        facts, status = self.facts(), self.model.status
        learning, jobs = facts["learning"], facts.get("jobs")
        model = None
        loaded = self.model.loaded
        if loaded is not None:
            identity = loaded.identity
            model = {
                "profile": identity.profile,
                "method": identity.method,
                "revision": str(identity.revision),
                "device": str(status.details.get("device") or "unknown"),
                "dtype": str(status.details.get("dtype") or "unknown"),
            }
        return Now(
            version=self.version,
            ready=loaded is not None and self.predictor.crew.takes_work,
            degraded=len(self.degraded(facts)),
            waiting={one["name"]: one["waiting"] for one in facts["devices"]},
            devices={one["name"]: one["state"] == READY for one in facts["devices"]},
            model_state=status.state,
            model=model,
            other_models=len(self.models.others),
            fallbacks=len(condition.fallbacks(status, facts)),
            storage_up=facts["storage"]["trouble"] is None,
            learning=learning["on"],
            pending=learning.get("pending", 0),
            spooled=learning.get("spooled", 0),
            unsettled=len(learning.get("unsettled", ())),
            trouble=learning.get("trouble") is not None,
            jobs=None if jobs is None else jobs.get("open"),
        )

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
