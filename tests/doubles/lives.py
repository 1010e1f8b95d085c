"""Services that are killed, and what must hold of all their lives together.

`Nursery` starts real services (gunicorn, threads, a store) within moments, `Site` is a Label Studio
with two projects, one that is corrected and one that is pre-labelled, and `Site.kill_somewhere` is
one life with a violent end. Used by tests with a few lives and by `benchmarks/kills_everything.py`
with many.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import requests

from backend.demo.processes import LOOPBACK
from backend.jobs.base import DONE, FAILED
from backend.jobs.book import JobBook
from backend.learning.records import ACTIVE, Gone, Kept, Records
from backend.learning.spool import EVENT, NUMBERS
from backend.storage.base import Scope, Storage
from backend.storage.open import open_storage

from .corrections import address, painted
from .label_studio import LEGACY_TOKEN
from .pictures import brush_config, stripes
from .studio_server import Call, Fault, StudioServer
from .waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
LABELS = ("house", "tree")
CONFIG = brush_config(LABELS)
WIDE = 24  # pixels of one stripe; a picture has two, and is as high as both
COLOURS = ("red", "green", "blue", "white")
MOST_CALLS = 20  # of Label Studio's API, at one of which a life ends
LONGEST = 1.5  # seconds; other lives end somewhere within
MARTYR = "died 5 times at the same place"  # a dead letter; whoever asks again gets a new job
NEW = 6  # tasks that come with every life
JSON = {"Content-Type": "application/json"}


@dataclass
class Life:
    """One service; `url` answers from the beginning, since its socket was there before it.

    `auth`: user and password, where it asks for them.
    """

    pid: int
    url: str
    log: Path
    auth: tuple[str, str] | None = None

    def post(self, route: str, body: Any, *, timeout: float = PATIENCE) -> requests.Response:
        return requests.post(
            f"{self.url}{route}",
            data=json.dumps(body),
            headers=JSON,
            timeout=timeout,
            auth=self.auth,
        )

    def get(self, route: str) -> Any:
        return requests.get(f"{self.url}{route}", timeout=PATIENCE, auth=self.auth).json()

    def kill(self) -> None:
        """SIGKILL for all its processes, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """SIGTERM, and wait until it is gone."""
        os.kill(self.pid, signal.SIGTERM)
        until(lambda: not self.is_alive(), f"the service ends; see {self.log}")

    def is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Nursery:
    """Starts services; as a context manager it leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives: list[Life] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.nursery"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._hear() == "ready"

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def life(self, environ: Mapping[str, str], *, host: str = LOOPBACK, port: int = 0) -> Life:
        """`environ`: settings beside those every service here has. `port` 0: any that is free."""
        log = self._folder / "service.log"
        settings = {"HOST": "127.0.0.1", "PROFILE": "demo", "THREADS": "8", **environ}
        assert self._process.stdin is not None
        told = {"environ": settings, "log": str(log), "host": host, "port": port}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._hear())
        self._lives.append(Life(said["pid"], f"http://{host}:{said['port']}", log))
        return self._lives[-1]

    def end_all(self) -> None:
        """Kill whatever lives."""
        while self._lives:
            self._lives.pop().kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@dataclass
class Site:
    """A Label Studio with a project that people correct and one that is pre-labelled, and a store.

    acknowledged  annotations whose event was answered with 200
    """

    nursery: Nursery
    server: StudioServer
    store: str
    folder: Path
    corrected: int = 12  # tasks
    listed: int = 12  # tasks, at first
    acknowledged: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    school: int = 0
    work: int = 0

    def __post_init__(self) -> None:
        self.school = self._project(self.corrected)
        self.work = self._project(self.listed)
        self.storage: Storage = open_storage(self.store, max_blob_bytes=10**8)
        self.book = JobBook(self.storage)

    def _project(self, tasks: int) -> int:
        number = self.server.project(label_config=CONFIG)
        told = [{"image": address(picture(n))} for n in range(tasks)]
        self.server.add(number, *told)
        return number

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LABEL_STUDIO_URL": self.server.url,
            "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
            "STORAGE": self.store,
            "SPOOL_DIR": str(self.folder / "events"),
        }

    def life(self, *, host: str = LOOPBACK, port: int = 0, **environ: str) -> Life:
        return self.nursery.life({**self.environ, **environ}, host=host, port=port)

    def records(self, storage: Storage | None = None) -> Records:
        return Records(storage or self.storage, Scope.of(self.server.url, str(self.school)))

    # -- what people do -----------------------------------------------------------------

    def correct(self, chance: random.Random, *lives: Life) -> bool:
        """Somebody corrects, changes or deletes; Label Studio tells one of the services. Whether it
        was acknowledged."""
        task = chance.choice(self.server.ids(self.school))
        with self.server.lock:
            there = [n for n, one in self.server.annotations.items() if one["task"] == task]
            if there and chance.random() < 0.3:
                number = chance.choice(there)
                del self.server.annotations[number]
                action = "ANNOTATIONS_DELETED"
                told: dict[str, Any] = {"annotations": [{"id": number}]}
            else:
                number = self.server.annotate(task)
                n = self.server.ids(self.school).index(task)
                self.server.annotations[number] |= {
                    "result": said_of(n, chance.randint(0, WIDE // 2)),
                    "created_at": self.server.now(),
                    "updated_at": self.server.now(),
                    "ground_truth": False,
                    "lead_time": 30.0,
                }
                action = "ANNOTATION_CREATED"
                told = {"task": {"id": task}, "annotation": {"id": number, "task": task}}
        self.counts[action] += 1
        body = {"action": action, "project": {"id": self.school}, **told}
        try:
            chance.choice(lives).post("/webhook", body).raise_for_status()
        except requests.RequestException:
            return False  # Label Studio does not send it again
        self.acknowledged.add(number)
        return True

    def ask(self, life: Life) -> str:
        """Have the other project pre-labelled; the id of the job, "" where nobody answered."""
        try:
            answer = life.post("/jobs", {"kind": "prelabel", "project": self.work})
            answer.raise_for_status()
        except requests.RequestException:
            return ""
        return str(answer.json()["id"])

    # -- one life -----------------------------------------------------------------------

    def kill_somewhere(self, chance: random.Random) -> str:
        """A life that is killed before or after a request it makes, at some moment, or right after
        it answered; where."""
        how = chance.choice(["before request", "after request", "at a moment", "after an answer"])
        at, seconds = chance.randint(1, MOST_CALLS), chance.uniform(0.0, LONGEST)
        life = self.life()
        count, done = 0, threading.Event()

        def before(call: Call) -> Fault | None:
            nonlocal count
            count += 1
            if count != at or done.is_set():
                return None
            done.set()
            if how == "after request":
                self.server.answer(call)
            life.kill()
            return Fault(drop=True)

        if how.endswith("request"):
            self.server.before = before
        new = [{"image": address(picture(chance.randrange(99)))} for _ in range(NEW)]
        self.server.add(self.work, *new)
        self.ask(life)
        for _ in range(chance.randint(1, 4)):
            self.correct(chance, life)
        if how == "at a moment":
            done.wait(seconds)
        while how.endswith("request") and not done.wait(0.05):
            if self.is_settled():
                how = "idle, not"
                break
        self.server.before = lambda call: None
        life.kill()
        return f"{how} {at}" if "request" in how or "idle" in how else how

    def is_settled(self) -> bool:
        """Whether nothing waits anywhere: no event, no line of the log, no job."""
        waiting = any(one.suffix in (EVENT, NUMBERS) for one in self.folder.glob("events/*/*"))
        return (
            not waiting
            and not self.records().oldest_unsettled()
            and all(job.ended for job in self.book.all())
        )

    def settle(self, *lives: Life, patience: float = PATIENCE) -> None:
        """Wait until nothing is left to do."""
        until(self.is_settled, f"all is settled; see {self.folder}", patience=patience)

    # -- what must hold -----------------------------------------------------------------

    def what_is_wrong(self) -> list[str]:
        """Nothing lost, nothing doubled; else one sentence each."""
        wrong = []
        with self.server.lock:
            newest: dict[int, int] = {}
            for number, one in sorted(self.server.annotations.items()):
                newest[one["task"]] = number
            predictions = Counter(
                (one["task"], one["model_version"]) for one in self.server.predictions.values()
            )
        known = {one.task: one for one in self.records().states()}
        for task, number in newest.items():
            found = known.get(task)
            if not isinstance(found, Kept) or found.annotation != number:
                wrong.append(f"correction {number} of task {task} is lost: {found}")
        for task, one in known.items():
            if task not in newest and not isinstance(one, Gone):
                wrong.append(f"task {task} counts, though its corrections are gone: {one}")
        for (task, version), count in predictions.items():
            if count > 1:
                wrong.append(f"task {task} has {count} predictions of {version}")
        predicted = {task for task, _ in predictions}
        if lost := set(self.server.ids(self.work)) - predicted:
            wrong.append(f"tasks {sorted(lost)} have no prediction")
        versions = self.records().versions()
        active, _ = self.records().active()
        on = [one for one in versions if one.state == ACTIVE]
        if len(on) != (active.digest is not None) or any(one.digest != active.digest for one in on):
            wrong.append(f"{len(on)} versions are active, in use is {active}")
        if len({one.made_from for one in versions}) != len(versions):
            wrong.append("a version is remembered twice")
        wrong += [
            f"a correction counts twice in {one.digest}"
            for one in versions
            if len(set(one.chosen)) != len(one.chosen)
        ]
        wrong += [
            f"job {job.id} ({job.kind}) is {job.state}: {job.reason}"
            for job in self.book.all()
            if job.state != DONE and not (job.state == FAILED and MARTYR in str(job.reason))
        ]
        return wrong

    def undisturbed(self, begin: Callable[..., Life] | None = None) -> Mapping[str, Any]:
        """What a service makes of the same annotations that nobody ever killed, in a new store.
        `begin`: such a service with these settings."""
        store = f"sqlite:{self.folder / 'undisturbed.sqlite'}"
        life = (begin or self.life)(STORAGE=store, SPOOL_DIR=str(self.folder / "undisturbed"))
        life.post("/webhook", {"action": "START_TRAINING", "project": {"id": self.school}})
        storage = open_storage(store, max_blob_bytes=10**8)
        records = self.records(storage)
        until(lambda: bool(JobBook(storage).all()) and not records.oldest_unsettled())
        found = in_use(records)
        life.kill()
        storage.close()
        return found


def in_use(records: Records) -> Mapping[str, Any]:
    """What follows from corrections: which version, made from what."""
    active, _ = records.active()
    kept = {one.task: (one.annotation, one.digest) for one in records.kept().values()}
    return {"digest": active.digest, "tasks": active.tasks, "from": active.made_from, "kept": kept}


def picture(number: int) -> np.ndarray:
    """Two stripes of two colours."""
    left, right = COLOURS[number % len(COLOURS)], COLOURS[(number + 1) % len(COLOURS)]
    return stripes(left, right, height=2 * WIDE, width=WIDE)


def said_of(number: int, less: int) -> list[Any]:
    """What somebody paints: the left stripe is a house, but for `less` columns."""
    mask = np.zeros((2 * WIDE, 2 * WIDE), bool)
    mask[:, : WIDE - less] = True
    tree = np.zeros_like(mask)
    tree[:, WIDE:] = True
    return [*painted("house", mask), *painted("tree", tree)]
