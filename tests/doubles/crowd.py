"""People and a Label Studio that keep several replicas busy through one address; what must hold.

What is asked follows from a seed. A third of the tasks is opened one by one, as Label Studio does:
`/health`, `/setup`, then `/predict`, and the answer is stored. Most others are retrieved several at
once, and the rest is pre-labelled by a job. Meanwhile people click, correct tasks of a project of
their own, and open tasks of that one, too.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import requests

from backend.jobs.base import RUNNING

from .corrections import address
from .fleet import Fleet, is_ready
from .lives import COLOURS, CONFIG, LABELS, WIDE, Life, Site, in_use, picture
from .pictures import COLOURS as PAINTS
from .pictures import encoded
from .waiting import PATIENCE, until

Json = Any
AT_ONCE: Final = 4  # requests; one service predicts for 6 at a time (THREADS less 2)
HELD: Final = 4  # tasks that are being opened when a replica is killed
KILLS: Final = 2
BULK: Final = (2, 8)  # tasks of one request, from and to
FEWEST_CORRECTIONS: Final = 14  # so that something is learnt
SIDE: Final = 2 * WIDE  # pixels of a picture
LABELLED: Final = "".join(f'<Label value="{label}"/>' for label in LABELS)
CLICKED: Final = (
    '<View><Image name="image" value="$image"/>'
    f'<BrushLabels name="seg" toName="image">{LABELLED}</BrushLabels>'
    f'<KeyPointLabels name="tips" toName="image" smart="true">{LABELLED}</KeyPointLabels></View>'
)

Step = Callable[[], None]
Begin = Callable[..., Life]
Asked = tuple[str, int]  # "masks" or "click", and a task


class NoAnswer(Exception):
    """Something that Label Studio's user would see as an error; one sentence."""


class Crowd:
    """Everything that is asked of a site's services, and what came back.

    wrong  one sentence each, in the order they were noticed
    """

    def __init__(self, site: Site, *, tasks: int, seed: int) -> None:
        self.site, self.wrong = site, list[str]()
        self._chance = random.Random(seed)
        self._lock = threading.Lock()  # of what follows
        self._given: dict[Asked, str] = {}
        self._versions: set[str] = set()
        self._learnt: dict[str | None, str] = {}  # digest of what is in use -> version
        self._taught: dict[tuple[str, int], str] = {}  # version and task -> answer
        self.jobs: set[str] = set()
        self.counts: Counter[str] = Counter()
        opened, retrieved = tasks * 3 // 10, tasks * 4 // 10
        self.project = site.server.project(label_config=CONFIG)
        self._opened = self._new_tasks(opened + retrieved)
        self._retrieved = self._opened[opened:]
        del self._opened[opened:]
        listed = [{"image": address(distinct(n))} for n in range(tasks - opened - retrieved)]
        site.server.add(site.work, *listed)
        self._records = site.records()

    def _new_tasks(self, count: int) -> list[int]:
        """Whose pictures lie in Label Studio, each under the number of its task."""
        found = []
        for number in range(count):
            with self.site.server.lock:
                (task,) = self.site.server.add(self.project, {})
                path = f"/data/upload/{self.project}/{task}.png"
                self.site.server.tasks[task]["data"]["image"] = path
                self.site.server.files[path] = encoded(distinct(10_000 + number))
            found.append(task)
        return found

    # -- what is done -------------------------------------------------------------------

    def steps(self, front: Life) -> list[Step]:
        """All but what is kept for the kills, in an order of the seed's."""
        chance, several = self._chance, list[Step]()
        several += [partial(self.open, front, task) for task in self._opened[KILLS * HELD :]]
        left = list(self._retrieved)
        while left:
            count = chance.randint(*BULK)
            several.append(partial(self.retrieve, front, left[:count]))
            del left[:count]
        some = len(self._retrieved) // 4 + 1
        known = self._opened + self._retrieved
        several += [partial(self.click, front, chance.choice(known)) for _ in range(some)]
        several += [partial(self.open_taught, front, chance.randrange(99)) for _ in range(some)]
        several += [partial(self.ask_for_job, front) for _ in range(some // 4)]
        several += [partial(self.list_versions, front) for _ in range(some // 4)]
        several += [
            partial(self.correct, front, random.Random(chance.random()))
            for _ in range(max(some, FEWEST_CORRECTIONS))
        ]
        chance.shuffle(several)
        return [partial(self.ask_for_job, front), partial(self.open_taught, front, 0), *several]

    def run(self, steps: Sequence[Step], between: Mapping[int, Step]) -> None:
        """`AT_ONCE` at a time. `between`: what is done before the step of that number, when all
        before it have ended."""
        room = threading.Semaphore(AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE) as pool:

            def done(step: Step) -> None:
                try:
                    self._noticed(step)
                finally:
                    room.release()

            for number, step in enumerate(steps):
                if number in between:
                    for _ in range(AT_ONCE):
                        room.acquire()
                    between[number]()
                    room.release(AT_ONCE)
                room.acquire()
                pool.submit(done, step)

    def while_opening(self, front: Life, kill: int, do: Step) -> int:
        """`do()` while some tasks are being opened whose pictures are on their way; how many of
        these were begun anew because of it."""
        tasks = self._opened[kill * HELD : (kill + 1) * HELD]
        gate, server = threading.Event(), self.site.server
        names = "|".join(map(str, tasks))
        pattern = rf"^GET /data/upload/\d+/({names})\.png$"
        server.fail(times=HELD, only=pattern, gate=gate)
        with ThreadPoolExecutor(HELD) as pool:
            try:
                for task in tasks:
                    pool.submit(self._noticed, partial(self.open, front, task))
                until(lambda: len(server.asked(pattern)) >= HELD, "pictures are fetched")
                do()
            finally:
                gate.set()
        return len(server.asked(pattern)) - HELD

    def _noticed(self, step: Step) -> None:
        try:
            step()
        except (NoAnswer, requests.RequestException) as error:
            self._say(f"{type(error).__name__}: {error}")
        except Exception as error:  # a thread's: it would be heard of nowhere else
            self._say(f"{getattr(step, 'func', step)}: {error!r}")

    def _say(self, sentence: str) -> None:
        with self._lock:
            self.wrong.append(sentence)

    # -- what people do -----------------------------------------------------------------

    def open(self, front: Life, task: int) -> None:
        """A task without predictions is opened."""
        self._looked_after(front)
        self._store(self._setup(front), [task], self._predict(front, [task], CONFIG))
        self._count("opened")

    def retrieve(self, front: Life, tasks: Sequence[int]) -> None:
        """Predictions of several tasks are retrieved at once."""
        self._looked_after(front)
        self._store(self._setup(front), tasks, self._predict(front, tasks, CONFIG))
        self._count("retrieved", len(tasks))

    def click(self, front: Life, task: int) -> None:
        """Somebody clicks into a picture."""
        (entry,) = self._predict(front, [task], CLICKED, context=clicked(task))
        self._give(("click", task), entry)
        self._count("clicks")

    def correct(self, front: Life, chance: random.Random) -> None:
        """See `Site.correct`; Label Studio sends no password with an event."""
        if not self.site.correct(chance, replace(front, auth=None)):
            raise NoAnswer("an event was not acknowledged")
        self._count("events")

    def open_taught(self, front: Life, number: int) -> None:
        """A task of the project that is corrected. One version is in use at a time, whoever
        answers, and the same version always says the same."""
        ids = self.site.server.ids(self.site.school)
        at = number % len(ids)
        before = self._records.active()
        (entry,) = self._predict(front, [ids[at]], CONFIG, project=self.site.school)
        after = self._records.active()
        version, said = entry["model_version"], shown(entry)
        with self._lock:
            if before == after and self._learnt.setdefault(after[0].digest, version) != version:
                self.wrong.append(f"{version} was in use beside {self._learnt[after[0].digest]}")
            if self._taught.setdefault((version, at), said) != said:
                self.wrong.append(f"task {ids[at]} has two answers of {version}")
        self._count("opened of what was corrected")

    def ask_for_job(self, front: Life) -> None:
        """Pre-labelling of a project; asked again while it is under way, it is the same job."""
        job = self.site.ask(front)
        if not job:
            raise NoAnswer("a job was not taken")
        with self._lock:
            self.jobs.add(job)

    def list_versions(self, front: Life) -> None:
        answer = requests.get(f"{front.url}/versions", timeout=PATIENCE, auth=front.auth)
        if answer.status_code != 200 or not isinstance(answer.json().get("versions"), list):
            raise NoAnswer(f"/versions was answered {answer.status_code}: {answer.text[:200]}")

    # -- parts --------------------------------------------------------------------------

    def _count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self.counts[what] += times

    def _looked_after(self, front: Life) -> None:
        told = front.get("/health")
        if told.get("status") != "UP":
            raise NoAnswer(f"/health was answered {told}")

    def _setup(self, front: Life) -> str:
        answer = front.post("/setup", {"schema": CONFIG, "project": f"{self.project}.1"})
        if answer.status_code != 200:
            raise NoAnswer(f"/setup was answered {answer.status_code}: {answer.text[:200]}")
        version = str(answer.json()["model_version"])
        with self._lock:
            self._versions.add(version)
        return version

    def _predict(
        self,
        front: Life,
        tasks: Sequence[int],
        config: str,
        *,
        project: int | None = None,
        context: Json = None,
    ) -> list[Json]:
        """One entry with a result per task. Raises NoAnswer."""
        with self.site.server.lock:
            told = [{"id": one, "data": self.site.server.tasks[one]["data"]} for one in tasks]
        body = {
            "tasks": told,
            "label_config": config,
            "project": f"{project or self.project}.1",
            "params": {"login": None, "password": None, "context": context},
        }
        answer = front.post("/predict", body)
        if answer.status_code != 200:
            raise NoAnswer(f"tasks {tasks}: {answer.status_code} {answer.text[:200]}")
        entries: list[Json] = answer.json()["results"]
        if len(entries) != len(tasks):
            raise NoAnswer(f"{len(entries)} entries for {len(tasks)} tasks")
        for task, entry in zip(tasks, entries, strict=True):
            if "result" not in entry:
                raise NoAnswer(f"task {task} has no result but {str(entry)[:200]}")
        return entries

    def _store(self, version: str, tasks: Sequence[int], entries: Sequence[Json]) -> None:
        """As Label Studio does with what it is answered."""
        for task, entry in zip(tasks, entries, strict=True):
            self._give(("masks", task), entry)
            given = entry["model_version"]
            if given != version:
                self._say(f"/setup said {version} and task {task} has {given}")
            self.site.server.predict(task, given, result=entry["result"], score=entry.get("score"))
            with self._lock:
                self._versions.add(given)

    def _give(self, what: Asked, entry: Json) -> None:
        said = shown(entry)
        with self._lock:
            if self._given.setdefault(what, said) != said:
                self.wrong.append(f"{what} was answered in two ways")

    # -- the end ------------------------------------------------------------------------

    def what_is_wrong(self, begin: Begin | None = None) -> list[str]:
        """All there is, once everything is settled. `begin`: a service with these settings that
        nobody disturbs, to ask for the right answers; None: the site's own."""
        begin = begin or self.site.life
        wrong = [*self.wrong, *self.site.what_is_wrong()]
        if len(self._versions) != 1:
            wrong.append(f"versions before anything was learnt: {sorted(self._versions)}")
        wrong += self._miscounted(self._opened + self._retrieved)
        wrong += self._miscounted(self.site.server.ids(self.site.work))
        alone = begin(STORAGE="memory:", SPOOL_DIR=str(self.site.folder / "alone"))
        until(partial(is_ready, alone), f"the model is there; see {alone.log}")
        wrong += self._differing(alone)
        alone.kill()
        found, right = in_use(self._records), self.site.undisturbed(begin)
        if found != right:
            wrong.append(f"in use is {found}, and {right} where nobody was killed")
        return wrong

    def _miscounted(self, tasks: Sequence[int]) -> Iterator[str]:
        for task in tasks:
            versions = self.site.server.versions(task)
            if versions != [*self._versions]:
                yield f"task {task} has predictions of {versions}"

    def _differing(self, alone: Life) -> Iterator[str]:
        """Answers that are not those of a service nobody disturbs."""
        with self.site.server.lock:
            stored = {one["task"]: shown(one) for one in self.site.server.predictions.values()}
        clicks = [task for kind, task in self._given if kind == "click"]
        for first in range(0, len(ids := sorted(stored)), BULK[1]):
            several = ids[first : first + BULK[1]]
            for task, entry in zip(several, self._predict(alone, several, CONFIG), strict=True):
                if stored[task] != shown(entry):
                    yield f"task {task} has other masks than a service gives alone"
                if self._given.get(("masks", task), stored[task]) != stored[task]:
                    yield f"task {task} was answered one way and stored another"
        for task in clicks:
            (entry,) = self._predict(alone, [task], CLICKED, context=clicked(task))
            if self._given["click", task] != shown(entry):
                yield f"a click on task {task} has another mask than a service gives alone"

    @property
    def versions_taught(self) -> int:
        """How many were seen in the project that is corrected."""
        return len({version for version, _ in self._taught})


def through_two_kills(crowd: Crowd, fleet: Fleet, *, patience: float = PATIENCE) -> Json:
    """Everything the crowd asks, while the replica at work on the job is killed, comes back, and
    then the other one is killed; what it came to. `patience`: seconds for what is left at the end.
    """
    front, killed, anew = fleet.front, list[int](), list[int]()
    at_work: list[int | None] = []

    def kill(number: int | None) -> None:
        at_work.append(fleet.who_runs(_running(crowd.site)))
        killed.append(at_work[0] or 0 if number is None else number)
        anew.append(crowd.while_opening(front, len(anew), partial(fleet.kill, killed[-1])))

    def kill_other() -> None:
        fleet.wait_until_ready(patience)  # the first one is back
        kill(1 - killed[0])

    begun = time.monotonic()
    steps = crowd.steps(front)
    at = [len(steps) * share // 10 for share in (3, 5, 8)]
    crowd.run(
        steps,
        {at[0]: partial(kill, None), at[1]: lambda: fleet.start(killed[0]), at[2]: kill_other},
    )
    fleet.start(killed[1])  # with what it had on disk
    crowd.site.settle(patience=patience)
    fleet.wait_until_ready(patience)
    final = [partial(crowd.open_taught, front, at) for at in range(2 * crowd.site.corrected)]
    crowd.run(final, {})
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "steps": len(steps) + len(final),
        "killed": killed,
        "at_work_on_a_job_before": at_work,
        "opened_anew_after_a_kill": anew,
        "asked": dict(crowd.counts),
        "jobs": len(crowd.jobs),
        "corrections": len(crowd.site.records().kept()),
        "versions_learnt": len(crowd.site.records().versions()),
        "versions_seen_where_corrected": crowd.versions_taught,
        "predictions": len(crowd.site.server.predictions),
    }


def _running(site: Site) -> Any:
    return next((job for job in site.book.all() if job.state == RUNNING), None)


def distinct(number: int) -> np.ndarray:
    """Two stripes like `picture`'s; no two numbers below a million have the same."""
    pixels = picture(number).copy()
    edge = WIDE // 2 + number % WIDE
    pixels[:, :edge] = PAINTS[COLOURS[number % len(COLOURS)]]
    pixels[:, edge:] = PAINTS[COLOURS[(number + 1) % len(COLOURS)]]
    pixels[0, 0] = (number % 100, number // 100 % 100, number // 10_000 % 100)
    return pixels


def clicked(task: int) -> Json:
    """A point in the picture of a task, as the editor sends it."""
    value = {
        "x": 100 * (task % SIDE + 0.5) / SIDE,
        "y": 50.0,
        "width": 0.26,
        "keypointlabels": [LABELS[task % len(LABELS)]],
    }
    item = {
        "id": "click",
        "from_name": "tips",
        "to_name": "image",
        "type": "keypointlabels",
        "original_width": SIDE,
        "original_height": SIDE,
        "image_rotation": 0,
        "is_positive": True,
        "value": value,
    }
    return {"result": [item]}


def shown(entry: Json) -> str:
    """Score and masks of an entry or a prediction; the numbers of its regions do not count."""
    regions = [[one["from_name"], one["type"], one["value"]] for one in entry["result"]]
    return json.dumps([entry.get("score"), *sorted(regions, key=json.dumps)], sort_keys=True)
