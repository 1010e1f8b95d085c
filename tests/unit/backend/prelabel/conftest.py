"""A project in a Label Studio in memory, and a predictor that does what its script says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from backend.desks import Desk
from backend.labelstudio.tasks import Task
from backend.outcomes import NotPredicted, Outcome, Predicted
from backend.plan import Plan
from backend.prelabel.progress import Progress
from backend.prelabel.run import Hooks
from backend.prelabel.writing import Writer
from backend.studio.project import StudioProject

from ....doubles.moments import Moments
from ..studio.conftest import make_studio, moments, project, server, studio  # noqa: F401

VERSION = "demo-cliper-12345678"
OLDER = "demo-cliper-00000000"
THEIRS = "somebody-1"

Script = Callable[[Task], Outcome]


def found(task: Task, name: str = "seg") -> Predicted:
    region = f'[{{"id":"r","from_name":"{name}","note":"{task.id}"}}]'.encode()
    return Predicted(regions=(region,), score=0.5, model_version=VERSION, count=1)


def unreachable(task: Task) -> NotPredicted:
    return NotPredicted(reason="nobody answers", passing=True, kind="Unreachable")


def broken(task: Task) -> NotPredicted:
    return NotPredicted(reason="truncated", kind="ImageBroken")


@dataclass
class Scripted:
    """Predicts as `script` says; `asked` are the tasks, `open` how many streams go on."""

    script: Script = found
    version: str = VERSION
    asked: list[int] = field(default_factory=list)
    extras: list[object] = field(default_factory=list)
    projects: list[str | None] = field(default_factory=list)
    open: int = 0

    def desk(
        self,
        config: str,
        extra_params: object = None,
        *,
        project: str | None = None,  # noqa: F811  # a keyword, no fixture
    ) -> Desk:
        self.extras.append(extra_params)
        self.projects.append(project)
        plan = Plan(wanted=(), prompts=(), identities={}, version=self.version)
        return Desk(plan=plan, segmenters={})

    def stream(
        self, tasks: Iterator[Task], desk: Desk, spend: Callable[[str, float], None]
    ) -> Iterator[tuple[Task, Outcome]]:
        self.open += 1
        try:
            for task in tasks:
                assert isinstance(task.id, int)
                self.asked.append(task.id)
                yield task, self.script(task)
        finally:
            self.open -= 1


@pytest.fixture
def predictor() -> Scripted:
    return Scripted()


@pytest.fixture
def progress() -> Progress:
    return Progress()


@pytest.fixture
def hooks(moments: Moments) -> Hooks:  # noqa: F811
    return Hooks(told=lambda progress: None, pause=lambda: None, wait=moments.pause)


MakeWriter = Callable[..., Writer]


@pytest.fixture
def make_writer(
    project: StudioProject,  # noqa: F811
    progress: Progress,
    moments: Moments,  # noqa: F811
) -> MakeWriter:
    def make(version: str = VERSION, **options: object) -> Writer:
        given = {"pause": moments.pause, "clock": moments, **options}
        return Writer(project, version, progress, **given)  # type: ignore[arg-type]

    return make


def prediction(name: str = "seg", version: str = VERSION, padding: int = 0) -> str:
    """As the predictor writes it, of about `padding` bytes."""
    region = f'{{"from_name":"{name}","note":"{"x" * padding}"}}'
    return f'{{"result":[{region}],"score":0.5,"model_version":"{version}"}}'


def fill(writer: Writer, tasks: Sequence[int]) -> None:
    for task in tasks:
        writer.add(task, prediction())
