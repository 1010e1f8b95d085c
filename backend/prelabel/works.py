"""Pre-labelling and undo as jobs: what they are asked, and what they do with their handle."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ..desks import Desk
from ..errors import (
    BadRequest,
    ConfigError,
    DeviceLost,
    ModelFailed,
    ModelLoading,
    StudioRefused,
)
from ..jobs.base import Handle, Hopeless, Works, notes_of
from ..jobs.desk import JobKind
from ..labelstudio.tasks import Task
from ..looking import Spend, spend_nothing
from ..outcomes import Outcome
from ..storage.base import Json, Scope, Storage
from ..storage.patience import patiently
from ..studio.client import Patience, Studio
from ..studio.project import StudioProject
from .progress import UNDONE, Progress
from .run import Hooks, Predicts, prelabel
from .undo import is_ours, undo
from .wanted import Wanted

logger = logging.getLogger(__name__)

PRELABEL, UNDO = "prelabel", "undo"
LOOK_AGAIN = 1.0  # seconds between two looks whether the model is there
NEVER = (BadRequest, ConfigError, ModelFailed, StudioRefused)  # trying again does not help

Watch = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class LabelStudio:
    """Which Label Studio the jobs work on, and with which token."""

    url: str
    token: str
    verify: bool = True
    patience: Patience = Patience()  # noqa: RUF009  # a frozen value
    timeout: float = 120.0  # seconds for one answer

    def scope(self, project: int) -> Scope:
        return Scope.of(self.url, str(project))

    def open(self, wait: Callable[[float], None], *, rest: float = 0.0) -> Studio:
        """`wait` and `rest` as in `Studio`."""
        return Studio(
            self.url,
            self.token,
            verify=self.verify,
            timeout=self.timeout,
            patience=self.patience,
            pause=wait,
            rest=rest,
        )


def telling(label_studio: LabelStudio, handle: Handle, *, rest: float = 0.0) -> Studio:
    """A client for a job; while it waits for Label Studio, the job's progress says so under
    `waits_for`."""

    def wait(seconds: float) -> None:
        progress = handle.job.progress
        if progress.get("waits_for") != studio.waits_for:
            handle.tell({**progress, "waits_for": studio.waits_for})
        handle.wait(seconds)

    studio = label_studio.open(wait, rest=rest)
    return studio


class ProjectWorks:
    """The works over one Label Studio and one predictor; for many jobs, one after the other."""

    def __init__(
        self,
        studio: LabelStudio,
        predictor: Predicts,
        storage: Storage,
        *,
        watch: Watch = lambda _: None,
    ) -> None:
        """`watch` hears of every task."""
        self._studio, self._predictor, self._storage = studio, predictor, storage
        self._watch = watch

    def works(self) -> Works:
        """By kind of job."""
        return {PRELABEL: self._prelabel, UNDO: self._undo}

    def _prelabel(self, handle: Handle) -> Json:
        wanted = Wanted.from_json(handle.job.params)
        progress = Progress()
        noted = _Noted(self._storage, handle)
        studio = telling(self._studio, handle)
        hooks = Hooks(
            told=lambda now: self._tell(now, handle, studio),
            pause=handle.pause,
            wait=handle.wait,
            noted=noted.read,
            note=noted.note,
        )
        with hopeless(), closing(studio):
            patient = _Patient(self._predictor, handle, progress)
            prelabel(StudioProject(studio, wanted.project), patient, wanted, progress, hooks)
        return progress.to_json()

    def _undo(self, handle: Handle) -> Json:
        params = handle.job.params
        progress = Progress(dealt=UNDONE)
        studio = telling(self._studio, handle)

        def pause() -> None:
            self._tell(progress, handle, studio)
            handle.pause()

        with hopeless(), closing(studio):
            undo(
                StudioProject(studio, params["project"]),
                params["version"],
                progress,
                dry_run=params["dry_run"],
                pause=pause,
            )
        self._tell(progress, handle, studio)
        return progress.to_json()

    def _tell(self, progress: Progress, handle: Handle, studio: Studio) -> None:
        self._watch(progress)
        handle.tell({**progress.to_json(), "waits_for": studio.waits_for})


def kinds(studio: LabelStudio) -> Mapping[str, JobKind]:
    """What may be asked for over HTTP."""
    return {
        PRELABEL: JobKind(
            read=lambda body: Wanted.from_json(body).to_json(),
            scope=lambda params: studio.scope(params["project"]),
        ),
        UNDO: JobKind(read=read_undo, scope=lambda params: studio.scope(params["project"])),
    }


def read_undo(body: Mapping[str, Json]) -> Mapping[str, Json]:
    """`{"project": 12, "version": "demo-cliper-1a2b3c4d"}`. Raises BadRequest."""
    unknown = sorted(set(body) - {"project", "version", "dry_run"})
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r}; known are project, version, dry_run")
    project = Wanted.from_json({"project": body.get("project")}).project
    version, dry_run = body.get("version"), body.get("dry_run", False)
    if not isinstance(version, str) or not is_ours(version):
        raise BadRequest(f"version must be one of this service's, got {version!r}")
    if not isinstance(dry_run, bool):
        raise BadRequest(f"dry_run must be true or false, got {dry_run!r}")
    return {"project": project, "version": version, "dry_run": dry_run}


class _Patient:
    """A predictor that waits for its models, which load in the background."""

    def __init__(self, predictor: Predicts, handle: Handle, progress: Progress) -> None:
        self._predictor, self._handle, self._progress = predictor, handle, progress

    def desk(self, config: str, extra_params: object = None, *, project: str | None = None) -> Desk:
        while True:
            try:
                return self._predictor.desk(config, extra_params, project=project)
            except ModelLoading as loading:
                self._progress.phase = str(loading)
                self._handle.tell(self._progress.to_json())
                self._handle.wait(LOOK_AGAIN)

    def stream(
        self, tasks: Iterator[Task], desk: Desk, spend: Spend = spend_nothing
    ) -> Iterator[tuple[Task, Outcome]]:
        return self._predictor.stream(tasks, desk, spend)


class _Noted:
    """Tasks a job has written: only a log tells them from those that had the version before."""

    def __init__(self, storage: Storage, handle: Handle) -> None:
        self._storage = patiently(storage, tell=say_waiting, sleep=handle.wait)
        self._log = notes_of(handle.job)

    def read(self) -> set[int]:
        done: set[int] = set()
        last = 0
        while lines := self._storage.entries(self._log, after=last):
            done.update(task for line in lines for task in line.value)
            last = lines[-1].number
        return done

    def note(self, tasks: Sequence[int]) -> None:
        self._storage.append(self._log, list(tasks))


def say_waiting(sentence: str | None) -> None:
    """For `patiently`: what is waited for, on the log."""
    if sentence is not None:
        logger.warning("waiting for the store: %s", sentence)


@contextmanager
def hopeless() -> Iterator[None]:
    """What trying again does not mend ends the job at once."""
    try:
        yield
    except DeviceLost:  # mended by starting the service again: the job waits for it
        raise
    except NEVER as error:
        raise Hopeless(str(error)) from error
