"""Takes Label Studio's events and sees to it that somebody learns from them.

An annotator's Submit waits for the answer to an event, so what a request does is to leave it here.
One thread does the rest: reads which project and tasks it is about, writes that down in the store,
and has a job of learning placed; while the store is away it tries again. A project is watched until
everything written down is settled, so an event that comes while a job is just ending is not lost.
"""

import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import ServiceError, UnknownJob
from ..jobs.base import CANCELLED, ENDED, Job, Jobs
from ..prelabel.works import LabelStudio
from ..storage.base import Storage
from .records import LOG, Changed, Records
from .works import LEARN, Asked

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 64 * 1_000_000  # of events that nobody has read yet
MOST_UNREAD: Final = 1000  # events
MOST_NUMBERS: Final = 10_000  # tasks and annotations of one project; more: all of it
MOST_PROJECTS: Final = 1000  # with something to write down or to settle
MOST_JOBS: Final = 4  # placed at a time, so that events leave room for what people ask for
LOOK: Final = 2.0  # seconds between two looks whether everything is settled
LATEST: Final = 600.0  # seconds until a job that settles nothing is placed again
NAMED: Final = 20  # projects in /health

PROJECT = Changed()  # its label config may be another one
EVERYTHING = Changed(everything=True)


def read_event(body: object) -> tuple[int, Changed] | None:
    """Project, and what may have changed in it; None for what is not about annotations.

    Of what people have sent only numbers are kept. Source: protocol notes §1.6; the SDK lists
    ANNOTATION_DELETED besides.
    """
    if not isinstance(body, Mapping):
        return None
    project = _number(body.get("project"))
    action = body.get("action")
    if project is None or not isinstance(action, str):
        return None
    if action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"):
        named = {task for one in _many(body.get("annotation")) if (task := _task_of(one))}
        return project, Changed(tasks=frozenset(named | set(_numbers(body.get("task")))))
    if action in ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED"):
        gone = [*_many(body.get("annotations")), *_many(body.get("annotation"))]
        return project, Changed(
            annotations=frozenset(_numbers(gone)),
            tasks=frozenset({task for one in gone if (task := _task_of(one))}),
        )
    if action == "TASKS_DELETED":
        return project, Changed(tasks=frozenset(_numbers(body.get("tasks"))))
    if action == "PROJECT_UPDATED":
        return project, PROJECT
    if action == "START_TRAINING":
        return project, EVERYTHING
    return None


def _many(given: object) -> list[Any]:
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _number(given: object) -> int | None:
    """Of an object with an `id`, or the number itself, as `12` or `12.1795190531`."""
    value = given.get("id") if isinstance(given, Mapping) else given
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).partition(".")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _numbers(given: object) -> Iterator[int]:
    return (number for one in _many(given) if (number := _number(one)) is not None)


def _task_of(annotation: object) -> int | None:
    return _number(annotation.get("task")) if isinstance(annotation, Mapping) else None


@dataclass
class _Watch:
    """A project with something to settle; times are seconds from anywhen.

    job     id of the job that was placed last
    line    oldest line of its log then
    pause   until the next one is placed, if nothing is settled
    """

    job: str | None = None
    line: int = 0
    pause: float = 0.0
    not_before: float = 0.0


class Intake:
    """For many threads; nothing runs until `start`."""

    def __init__(
        self,
        storage: Storage,
        jobs: Jobs,
        studio: LabelStudio,
        *,
        wake: Callable[[Job], None],
        look: float = LOOK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` hears of jobs that were placed. `look`: seconds, see `LOOK`."""
        self._storage, self._jobs, self._studio = storage, jobs, studio
        self._wake, self._look, self._clock = wake, look, clock
        self._lock = threading.Lock()  # of the next six
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._pending: OrderedDict[int, Changed] = OrderedDict()
        self._trouble: str | None = None
        self._found = False
        self._watched: OrderedDict[int, _Watch] = OrderedDict()
        self._woken, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to write events down; first find what earlier processes left."""
        self._thread.start()

    def __call__(self, body: bytes) -> None:
        """An event as it came; at once. What is no event is no error."""
        with self._lock:
            room = len(self._unread) < MOST_UNREAD
            room = room and self._unread_bytes + len(body) <= MOST_BYTES
            if room:
                self._unread.append(body)
                self._unread_bytes += len(body)
        if not room:  # the thread does not keep up: read here, so that only numbers are kept
            self._read(body)
        self._woken.set()

    def changed(self, project: int, changed: Changed) -> None:
        """As an event; at once."""
        self._add(project, changed)
        self._woken.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """Write down what can be written down in the time; the rest is lost, and found again by
        reading the project anew."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        with self._lock:
            left = len(self._unread) + len(self._pending)
        if left:
            logger.error("%d events could not be written down: %s", left, self._trouble)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`, at once."""
        with self._lock:
            pending = len(self._unread) + sum(max(1, one.count) for one in self._pending.values())
            unsettled = list(self._watched)[:NAMED]
            return {"pending": pending, "unsettled": unsettled, "trouble": self._trouble}

    # -- the thread's own -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._woken.clear()
            closing = self._closing.is_set()
            try:
                self._read_all()
                self._write_down()
                if not closing:
                    self._find()
                    self._watch()
                trouble = None
            except ServiceError as error:  # the store is away, or there are too many jobs
                trouble = str(error)
            except Exception as error:  # a thread that ends silently would lose every event
                logger.exception("events cannot be taken in")
                trouble = f"{type(error).__name__}, see the log of the service"
            self._say(trouble)
            if closing:
                return
            self._woken.wait(self._look)

    def _say(self, trouble: str | None) -> None:
        with self._lock:
            before, self._trouble = self._trouble, trouble
        if trouble is not None and before is None:
            logger.warning("events wait: %s", trouble)
        elif trouble is None and before is not None:
            logger.info("events are taken in again")

    def _read_all(self) -> None:
        while True:
            with self._lock:
                if not self._unread:
                    return
                body = self._unread.popleft()
                self._unread_bytes -= len(body)
            self._read(body)

    def _read(self, body: bytes) -> None:
        try:
            event = read_event(json.loads(body))
        except (ValueError, RecursionError):
            event = None
        if event is not None:
            self._add(*event)

    def _add(self, project: int, changed: Changed) -> None:
        with self._lock:
            together = self._pending.get(project, PROJECT) | changed
            if together.count > MOST_NUMBERS:
                logger.warning("too many events of project %d: it is read anew", project)
                together = EVERYTHING
            self._pending[project] = together
            if len(self._pending) > MOST_PROJECTS:
                lost, _ = self._pending.popitem(last=False)
                self._found = False  # so it is read anew, if it is known
                logger.error("events of too many projects: those of project %d are lost", lost)

    def _write_down(self) -> None:
        """Raises StorageAway; what is not written stays pending. Written twice does no harm."""
        while True:
            with self._lock:
                if not self._pending:
                    return
                project, changed = next(iter(self._pending.items()))
            self._records(project).note(changed)
            with self._lock:
                if self._pending.get(project) is changed:
                    del self._pending[project]  # else more came meanwhile; all is noted again
                self._watched[project] = _Watch()

    def _find(self) -> None:
        """Once, projects that earlier processes left unsettled, and those known: what happened
        while no service ran, nobody told us."""
        if self._found:
            return
        self._found = True
        try:
            self._find_all()
        except BaseException:
            self._found = False
            raise

    def _find_all(self) -> None:
        origin = self._studio.scope(1).origin
        for log, _ in self._storage.logs():
            number = log.scope.project
            if log.path != LOG or log.scope.origin != origin or not number.isdigit():
                continue
            records = self._records(int(number))
            if not records.oldest_unsettled():
                if not records.is_known():
                    continue
                records.note(EVERYTHING)
            with self._lock:
                self._watched.setdefault(int(number), _Watch())

    def _watch(self) -> None:
        """Place jobs where something is to be settled. Raises StorageAway, TooManyJobs."""
        with self._lock:
            watched = list(self._watched.items())
        open_jobs = 0
        for project, watch in watched:
            if open_jobs >= MOST_JOBS:
                return
            line = self._records(project).oldest_unsettled()
            if not line:
                self._unwatch(project, watch)
                continue
            open_jobs += self._place(project, watch, line)

    def _place(self, project: int, watch: _Watch, line: int) -> bool:
        """Whether there is a job for the project now."""
        state = self._state(watch.job)
        if state is not None and state not in ENDED:
            return True
        if state == CANCELLED:  # somebody wanted it so; the next event is another matter
            return False
        now = self._clock()
        if line != watch.line:
            watch.pause, watch.not_before = 0.0, now
        if now < watch.not_before:
            return False
        job, new = self._jobs.place(
            LEARN, Asked(project=project).to_json(), scope=self._studio.scope(project)
        )
        watch.job, watch.line = job.id, line
        watch.pause = min(max(2 * watch.pause, self._look), LATEST)
        watch.not_before = now + watch.pause
        if new:
            self._wake(job)
        return True

    def _state(self, job: str | None) -> str | None:
        """None where there is none, or nobody remembers it."""
        try:
            return None if job is None else self._jobs.get(job).state
        except UnknownJob:
            return None

    def _unwatch(self, project: int, watch: _Watch) -> None:
        with self._lock:
            if self._watched.get(project) is watch:
                del self._watched[project]

    def _records(self, project: int) -> Records:
        return Records(self._storage, self._studio.scope(project))
