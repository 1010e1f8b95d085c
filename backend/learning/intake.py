"""Takes Label Studio's events and sees to it that somebody learns from them.

An annotator's Submit waits for the answer to an event, so what a request does is to leave it here:
in memory, and in a file of the `spool`, so that whoever is killed after the answer loses nothing.
One thread does the rest: reads which project and tasks it is about, writes that down in the store,
and has a job of learning placed; while the store is away it tries again. A project is watched until
everything written down is settled, so an event that comes while a job is just ending is not lost.

What waits on disk while the store is away is soon one small file per project, of numbers only.
"""

import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..errors import ServiceError, UnknownJob
from ..jobs.base import CANCELLED, ENDED, Job, Jobs
from ..labelstudio import bounded_json
from ..prelabel.works import LabelStudio
from ..storage.base import Storage
from .records import LOG, Changed, Records
from .spool import NUMBERS, Spool
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

Event = tuple[int, Changed]  # project, and what may have changed in it


def read_event(body: object) -> Event | None:
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


def _kept(project: int, changed: Changed) -> bytes:
    """What waits of a project, as the spool has it."""
    return json.dumps({"project": project, "waits": list(changed.to_lines())}).encode()


def read_kept(body: object) -> Event:
    """What `_kept` made. Raises ValueError where it did not."""
    project = _number(body.get("project")) if isinstance(body, Mapping) else None
    lines = body.get("waits") if isinstance(body, Mapping) else None
    if project is None or not isinstance(lines, list):
        raise ValueError("is not of our making")
    changed = PROJECT
    for line in lines:
        if not isinstance(line, Mapping):
            raise ValueError("is not of our making")
        changed |= Changed(
            tasks=frozenset(_numbers(line.get("tasks"))),
            annotations=frozenset(_numbers(line.get("annotations"))),
            everything=line.get("all") is True,
        )
    return project, changed


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
        spool: Spool | None = None,
        look: float = LOOK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` hears of jobs that were placed. `spool` None: what is not in the store yet ends
        with the process. `look`: seconds, see `LOOK`."""
        self._storage, self._jobs, self._studio = storage, jobs, studio
        self._wake, self._spool, self._look, self._clock = wake, spool, look, clock
        self._lock = threading.Lock()  # of the next nine
        self._unread: deque[tuple[bytes, str | None]] = deque()  # events and their files
        self._unread_bytes = 0
        self._pending: OrderedDict[int, Changed] = OrderedDict()
        self._files: dict[int, list[str]] = {}  # by project, where what is pending lies on disk
        self._bare: set[int] = set()  # projects of which something pending is in memory only
        self._left = spool is not None  # there may be files that nobody has read
        self._brief: dict[int, str] = {}  # by project, its file of numbers; the thread's own
        self._trouble: str | None = None
        self._found = False
        self._watched: OrderedDict[int, _Watch] = OrderedDict()
        self._woken, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to write events down; first find what earlier processes left."""
        self._thread.start()

    def __call__(self, body: bytes) -> None:
        """An event as it came; at once. What is no event is no error. From the return on it
        survives the end of the process, unless the spool is in trouble."""
        with self._lock:
            room = len(self._unread) < MOST_UNREAD
            room = room and self._unread_bytes + len(body) <= MOST_BYTES
            if room:  # taken before the file is written, so that many at once stay within it
                self._unread_bytes += len(body)
        if not room:  # the thread does not keep up: read here, so that only numbers are kept
            self._read(body, None)
            return self._woken.set()
        name = None if self._spool is None else self._spool.keep(body)
        with self._lock:
            self._unread.append((body, name))
        self._woken.set()

    def changed(self, project: int, changed: Changed) -> None:
        """As an event; at once."""
        self._add(project, changed, self._keep(project, changed))
        self._woken.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """Write down what can be written down in the time; the rest stays in the spool. Without
        one it is lost, and found again by reading the project anew."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        with self._lock:
            left = len(self._unread) + len(self._pending)
            on_disk = sum(1 for _, name in self._unread if name)
            on_disk += sum(1 for project in self._pending if project not in self._bare)
        if left > on_disk:
            logger.error("%d events could not be written down: %s", left - on_disk, self._trouble)
        elif left:
            logger.warning("events wait on disk for the next start: %s", self._trouble)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`, at once. `spooled`: files on disk that wait for the store."""
        spool = self._spool
        with self._lock:
            pending = len(self._unread) + sum(max(1, one.count) for one in self._pending.values())
            unsettled = list(self._watched)[:NAMED]
            trouble = self._trouble
        return {
            "pending": pending,
            "spooled": 0 if spool is None else len(spool),
            "unsettled": unsettled,
            "trouble": trouble or (None if spool is None else spool.trouble),
        }

    # -- the thread's own -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._woken.clear()
            closing = self._closing.is_set()
            trouble = self._trouble_of(partial(self._take_in, closing=closing))
            trouble = self._trouble_of(partial(self._keep_what_waits, trouble)) or trouble
            self._say(trouble)
            if closing:
                return
            self._woken.wait(self._look)

    def _trouble_of(self, work: Callable[[], None]) -> str | None:
        """Why it cannot be done now, one sentence; whatever it is, the thread goes on."""
        try:
            work()
        except ServiceError as error:  # the store is away, or there are too many jobs
            return str(error)
        except Exception as error:  # a thread that ends silently would lose every event
            logger.exception("events cannot be taken in")
            return f"{type(error).__name__}, see the log of the service"
        return None

    def _take_in(self, *, closing: bool) -> None:
        self._read_all()
        self._write_down()
        if closing:
            return
        self._read_left()
        self._write_down()
        self._find()
        self._watch()

    def _keep_what_waits(self, trouble: str | None) -> None:
        """Have it on disk, as little as it can be."""
        if self._spool is not None:
            self._spool.try_again()
            if trouble is not None:
                self._tidy(self._spool)

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
                body, name = self._unread.popleft()
                self._unread_bytes -= len(body)
            self._read(body, name)

    def _read(self, body: bytes, name: str | None) -> None:
        """`name`: of the file it is in already. What cannot be read is no loss for the others."""
        ours = name is not None and name.endswith(NUMBERS)
        event: Event | None = None
        try:
            told = bounded_json.loads(body)
            event = read_kept(told) if ours else read_event(told)
        except ValueError as error:
            logger.warning("%s is left out: it %s", name or "an event", error)
        except Exception:
            logger.exception("%s is left out", name or "an event")
        if event is not None:
            self._add(*event, name or self._keep(*event))
        elif name is not None and self._spool is not None:
            self._spool.drop([name])

    def _read_left(self) -> None:
        """What earlier processes left on disk, or there was no room for in memory. After
        `_write_down`, so that little is pending; what there is no room for waits for another
        round."""
        if self._spool is None:
            return
        with self._lock:
            left, self._left = self._left, False
        if not left:
            return
        complete = False
        try:
            for name, body in self._spool.left():
                self._read(body, name)
                with self._lock:
                    room = len(self._pending) < MOST_PROJECTS
                if not room:
                    break
            else:
                complete = self._spool.unreadable is None
        finally:
            if not complete:
                with self._lock:
                    self._left = True

    def _keep(self, project: int, changed: Changed) -> str | None:
        if self._spool is None:
            return None
        return self._spool.keep(_kept(project, changed), ends=NUMBERS)

    def _add(self, project: int, changed: Changed, name: str | None) -> None:
        """`name`: of its file, if it has one."""
        with self._lock:
            together = self._pending.get(project, PROJECT) | changed
            if together.count > MOST_NUMBERS:
                logger.warning("too many events of project %d: it is read anew", project)
                together = EVERYTHING
            self._pending[project] = together
            if name is not None:
                self._files.setdefault(project, []).append(name)
            else:
                self._bare.add(project)
            if len(self._pending) > MOST_PROJECTS:
                lost, _ = self._pending.popitem(last=False)
                on_disk = self._files.pop(lost, [])
                self._found = False  # so it is read anew, if it is known
                if self._spool is not None and on_disk:
                    self._spool.let_go(on_disk)
                    self._left = True
                if lost in self._bare:
                    self._bare.remove(lost)
                    logger.error("events of too many projects: those of project %d are lost", lost)

    def _write_down(self) -> None:
        """Raises StorageAway; what is not written stays pending. Written twice does no harm. What
        comes meanwhile may have to wait for another round, so that everything gets its turn."""
        with self._lock:
            projects = list(self._pending)
        for project in projects:
            with self._lock:
                changed = self._pending.get(project)
                names = list(self._files.get(project, ()))
            if changed is None:  # too many projects
                continue
            self._records(project).note(changed)
            with self._lock:
                if self._pending.get(project) is changed:
                    del self._pending[project]  # else more came meanwhile; all is noted again
                    self._bare.discard(project)
                later = [one for one in self._files.pop(project, ()) if one not in names]
                if later:
                    self._files[project] = later
                self._watched[project] = _Watch()
            if self._spool is not None:
                self._spool.drop(names)

    def _tidy(self, spool: Spool) -> None:
        """Of what waits: one file of numbers per project in place of events as they came."""
        with self._lock:
            waiting = [
                (project, changed, list(self._files.get(project, ())))
                for project, changed in self._pending.items()
                if project in self._bare
                or self._files.get(project, []) != [self._brief.get(project)]
            ]
            self._brief = {one: name for one, name in self._brief.items() if one in self._pending}
        waiting.sort(key=lambda one: not one[2])  # first those that make room for the others
        for project, changed, names in waiting:
            kept = spool.keep(_kept(project, changed), ends=NUMBERS, replaces=names)
            if kept is None:
                return
            with self._lock:
                if project not in self._pending:  # too many projects: read from disk later
                    spool.let_go([kept])
                    self._left = True
                    continue
                later = [one for one in self._files.get(project, ()) if one not in names]
                self._files[project] = [kept, *later]
                self._brief[project] = kept
                if self._pending[project] is changed:
                    self._bare.discard(project)
            spool.drop(names)

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
