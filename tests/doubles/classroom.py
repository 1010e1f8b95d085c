"""A Label Studio, an examiner and a fit that learning can be tried on: quick, exact, in memory.

What an annotation says is one number: what is learnt follows from these numbers in order.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from backend.errors import ImageMissing, StudioRefused, Unreachable
from backend.jobs.base import Handle, Job
from backend.labelstudio.tasks import Task
from backend.learning.evidence import AsItWas, Cells, Evidence, Sample, Truth
from backend.learning.fit import Taught, Verdict
from backend.learning.records import LeftOut
from backend.learning.works import LEARN, Asked, LearningWorks
from backend.lessons import Lesson
from backend.storage.base import Scope, Storage
from backend.studio.project import Filters, Listed, ProjectFacts
from backend.studying import Course
from cliper_model.segmenter import Vocabulary

SCOPE = Scope("http://ls.example:80", "7")
CONFIG = "<View/>"
NOTHING, NO_PICTURE, MEANS_NOTHING, STUMBLES = 0, -1, -2, -3  # what annotations say besides
MOST_WHOLE = 6


@dataclass
class Classroom:
    """The project: task -> annotation -> what it says. `asked` counts questions; before the one
    with the number `held_at`, `meanwhile` happens."""

    tasks: dict[int, dict[int, int]] = field(default_factory=dict)
    config: str = CONFIG
    there: bool = True
    asked: int = 0
    held_at: int | None = None
    meanwhile: Callable[[], object] = lambda: None
    waits_for: str | None = None
    last: int = 100

    def _ask(self) -> None:
        self.asked += 1
        if self.asked == self.held_at:
            self.meanwhile()

    def annotate(self, task: int, says: int) -> int:
        self.last += 1
        self.tasks.setdefault(task, {})[self.last] = says
        return self.last

    def task_of(self, annotation: int) -> int | None:
        return next((task for task, known in self.tasks.items() if annotation in known), None)

    # -- as a Source --------------------------------------------------------------------

    def facts(self) -> ProjectFacts:
        self._ask()
        if not self.there:
            raise StudioRefused("GET /api/projects/7", 404, "Not found.")
        return ProjectFacts(
            id=7, key="7.1", title="", label_config=self.config, model_version=None,
            tasks=len(self.tasks), listing_predicts=False,
        )  # fmt: skip

    def connections(self) -> list[Any]:
        return []

    def tasks_(self, numbers: Sequence[int]) -> dict[int, Listed]:
        self._ask()
        return {
            number: Listed(task=Task(number), annotations=1, predictions=0)
            for number in numbers
            if number in self.tasks
        }

    def submitted(self, task: int) -> list[Any]:
        self._ask()
        told = [{"id": number, "says": s} for number, s in self.tasks.get(task, {}).items()]
        return told

    def ids(self, filters: Filters = (), *, size: int) -> Iterator[int]:
        self._ask()
        return iter([task for task, annotations in self.tasks.items() if annotations])

    @contextmanager
    def opened(self, handle: Handle, project: int) -> Iterator["Opened"]:
        yield Opened(self)


class Opened:
    """Implements Source."""

    def __init__(self, room: Classroom) -> None:
        self._room = room
        self.facts, self.connections = room.facts, room.connections
        self.tasks, self.submitted, self.ids = room.tasks_, room.submitted, room.ids

    @property
    def waits_for(self) -> str | None:
        return self._room.waits_for


def evidence(task: int, annotation: int, says: int, model: str = "m") -> Evidence:
    """Six places in two groups."""
    rng = np.random.default_rng(abs(says))
    shares = np.array([[255, 255, 200, 0, 0, 10]], np.uint8)
    sample = Sample(
        grid_hw=(2, 3),
        cells=Cells.of(rng.normal(size=(6, 4)).astype(np.float32), most_bytes=10_000),
        truths={"seg": Truth(asked=("cat",), labels=("cat",), shares=shares, rest=True)},
        before={"seg": AsItWas(quality=0.5, agreement=None, presence={"cat": 0.5})},
        models={"seg": model},
    )
    return Evidence(
        task=task,
        annotation=annotation,
        stamp=f"{annotation}: {says}",
        weight=1.0,
        samples=(sample,),
    )


def latest(annotations: Sequence[Any]) -> Any | None:
    says = [one for one in annotations if one["says"] != NOTHING]
    return max(says, key=lambda one: int(one["id"]), default=None)


@dataclass
class StubExaminer:
    """Implements Examiner and Examination. `examined` are the tasks, in order."""

    model: str = "m"
    names: tuple[str, ...] = ("cat",)
    away: bool = False  # pictures cannot be had for a while
    examined: list[int] = field(default_factory=list)

    def sit_down(self, facts: ProjectFacts, extra_params: object) -> "StubExaminer":
        return self

    @property
    def courses(self) -> Sequence[Course]:
        return [course(self.model, self.names)]

    def stamp(self, annotations: Sequence[Any]) -> str | None:
        found = latest(annotations)
        return None if found is None else f"{found['id']}: {found['says']}"

    def examine(self, task: Task, annotations: Sequence[Any]) -> Evidence | LeftOut | None:
        assert isinstance(task.id, int)
        self.examined.append(task.id)
        if self.away:
            raise Unreachable("the picture's server does not answer")
        found = latest(annotations)
        if found is None:
            return None
        if found["says"] == NO_PICTURE:
            raise ImageMissing("a picture that is gone")
        if found["says"] == STUMBLES:
            raise ZeroDivisionError("a secret")
        if found["says"] == MEANS_NOTHING:
            return LeftOut(task=task.id, reason="it means nothing")
        return evidence(task.id, found["id"], found["says"], self.model)


def course(model: str = "m", names: tuple[str, ...] = ("cat",)) -> Course:
    rows = torch.eye(4)[: len(names)]
    return Course(
        control="seg",
        model=model,
        names=names,
        words=tuple((name,) for name in names),
        vocabulary=Vocabulary(
            labels=names, preset="objects", rows=rows, row_class=tuple(range(len(names))),
            mean_row=None,
        ),
        gains=rows.T,
    )  # fmt: skip


def learn(told: Sequence[Evidence], about: Course) -> Taught:
    """Every bit of the evidence, in its order, decides; three in four are better."""
    digest = hashlib.sha256(b"".join(one.to_bytes() for one in told)).digest()
    better = digest[0] % 4 != 0
    bias = np.frombuffer(digest[:4], np.uint8).astype(np.float16)
    nothing = Lesson(model=about.model)
    found = Lesson(
        model=about.model, labels=about.names, weights=np.zeros((4, 4), np.float16), bias=bias
    )
    verdict = Verdict(better=better, reason="because", tasks=len(told))
    return Taught(lesson=found if better else nothing, candidate=found, verdict=verdict)


class Alone:
    """Implements Handle, for a work nobody stops."""

    def __init__(self, asked: Asked) -> None:
        self.job = Job(id="1", kind=LEARN, scope=SCOPE, params=asked.to_json(), key="")
        self.told: list[Mapping[str, Any]] = []

    def tell(self, progress: Mapping[str, Any]) -> None:
        self.told.append(progress)

    def pause(self) -> None:
        return

    def wait(self, seconds: float) -> None:
        raise AssertionError(f"there is nothing to wait for, {seconds} seconds least of all")


def run(
    storage: Storage,
    room: Classroom,
    examiner: StubExaminer | None = None,
    *,
    most_whole: int = MOST_WHOLE,
    learn: Callable[[Sequence[Evidence], Course], Taught] = learn,
    clock: Callable[[], float] = lambda: 1000.0,
    **asked: bool,
) -> Any:
    """One job from beginning to end; its result."""
    works = LearningWorks(
        room.opened,
        examiner or StubExaminer(),
        storage,
        learn=learn,
        most_whole=most_whole,
        clock=clock,
    )
    return works.works()[LEARN](Alone(Asked(project=7, **asked)))
