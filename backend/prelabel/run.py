"""One run over a project: tasks in, predictions in Label Studio, and a table of what failed.

    page of tasks ──> fetch, unpack ──> model ──> batch ──> Label Studio
      (selection)         (the predictor's stream)      (writer, a thread)

Nothing of a run is kept but in Label Studio itself: what has a prediction of the present version is
done. So a run may be killed at any point, and the next one goes on where it was.
"""

import logging
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..desks import Desk
from ..errors import ConfigError, ProjectChanged
from ..labelstudio.tasks import Task
from ..outcomes import NotPredicted, Outcome, Predicted
from ..plan import Plan
from ..studio.client import Json
from ..studio.project import PAGE, ProjectFacts, StudioProject, among, lacks_version
from .progress import Progress
from .selection import measure, select
from .undo import is_ours, undo
from .wanted import Wanted
from .writing import Writer, once_each

logger = logging.getLogger(__name__)

AGAIN = (3.0, 15.0)  # seconds before tasks whose servers did not answer are tried again


class Predicts(Protocol):
    """What a run asks of the predictor."""

    def desk(
        self, config: str, extra_params: object = None, *, project: str | None = None
    ) -> Desk: ...

    def stream(
        self, tasks: Iterator[Task], desk: Desk, spend: Callable[[str, float], None]
    ) -> Iterator[tuple[Task, Outcome]]: ...


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What a run tells, and asks, while it goes on.

    told   after every task
    pause  a good moment to stop: may raise
    wait   seconds to wait; may raise
    noted  tasks this run has written before it was interrupted; asked for where Label Studio does
           not tell them from others
    note   keeps them
    """

    told: Callable[[Progress], None]
    pause: Callable[[], None]
    wait: Callable[[float], None]
    noted: Callable[[], set[int]] = set
    note: Callable[[Sequence[int]], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Desked:
    """A project as a run found it, and the models ready for its label config."""

    facts: ProjectFacts
    desk: Desk

    @property
    def plan(self) -> Plan:
        return self.desk.plan


def sit_down(project: StudioProject, predictor: Predicts) -> Desked:
    """Read the project and what its connection says. Raises ConfigError, ModelFailed, ModelLoading,
    StudioRefused, StudioAway."""
    facts = project.facts()
    if not facts.label_config.strip():
        raise ConfigError(f"project {project.id} has no label config yet")
    connection = our_own(project.connections())
    desk = predictor.desk(
        facts.label_config, connection.get("extra_params"), project=str(project.id)
    )
    said = connection.get("model_version")
    if said and said != desk.plan.version:
        logger.warning(
            "the project's model says %s, this run will write %s: its settings differ from ours",
            said,
            desk.plan.version,
        )
    if facts.listing_predicts:
        logger.warning(
            "project %d asks its model for predictions whenever tasks are listed "
            "(evaluate_predictions_automatically); switch that off for long runs",
            project.id,
        )
    return Desked(facts=facts, desk=desk)


def our_own(connections: Sequence[Mapping[str, Json]]) -> Mapping[str, Json]:
    """Among the models of a project the one that gives versions like ours, else the first that
    has given none yet; what other models are told is not for us."""
    ours = [one for one in connections if is_ours(str(one.get("model_version") or ""))]
    new = [one for one in connections if not one.get("model_version")]
    return next(iter([*ours, *new]), {})


def prelabel(
    project: StudioProject,
    predictor: Predicts,
    wanted: Wanted,
    progress: Progress,
    hooks: Hooks,
) -> None:
    """Predict what is wanted and write it; the counts are in `progress`.

    Raises ConfigError, ModelFailed, ModelLoading, ProjectChanged, StudioRefused, StudioAway, and
    whatever the hooks raise.
    """
    seat = sit_down(project, predictor)
    if wanted.key is not None and wanted.key != seat.facts.key:
        raise ConfigError(
            f"project {project.id} of {project.studio.url} is not the one that asked; "
            "LABEL_STUDIO_URL is another Label Studio's"
        )
    wanted, version = _goes_on(wanted, hooks), seat.plan.version
    progress.version, progress.phase = version, "counting"
    _warn_of_lookalikes(project, version)
    measure(project, wanted, version, progress)
    hooks.told(progress)
    if wanted.dry_run:
        for _ in select(project, wanted, version, progress):
            hooks.pause()
        progress.phase = "counted"
        hooks.told(progress)
        return
    progress.begin()
    again = array("q")
    with Writer(
        project,
        version,
        progress,
        replacing=wanted.redo,
        written=hooks.note if wanted.redo or wanted.limit is not None else lambda _: None,
        pause=hooks.wait,
    ) as writer:
        run = _Run(project, predictor, seat, progress, hooks, writer, again)
        run.through(_wanted_tasks(project, wanted, seat, progress, hooks), last=False)
        for number, seconds in enumerate(AGAIN):
            if again:
                progress.phase = "trying again"
                hooks.told(progress)
                hooks.wait(seconds)
                chunk, run.again = list(again), array("q")
                again = run.again
                run.through(
                    _again(project, chunk, wanted, seat, progress),
                    last=number == len(AGAIN) - 1,
                )
    progress.phase = "checking"
    once_each(project, version, progress)
    if wanted.replace:
        for old in project.versions():
            if old != version and is_ours(old):
                removing = Progress()
                undo(project, old, removing, only_with=version, pause=hooks.pause)
                progress.add("removed", removing["removed"])
    progress.add("meanwhile", progress.left)
    progress.phase = "done"
    hooks.told(progress)


def _goes_on(wanted: Wanted, hooks: Hooks) -> Wanted:
    """What this run has written before it was interrupted counts towards its limit; where tasks
    are redone they come up again, and are counted then."""
    if wanted.limit is None or wanted.redo:
        return wanted
    return replace(wanted, limit=max(wanted.limit - len(hooks.noted()), 0))


def _warn_of_lookalikes(project: StudioProject, version: str) -> None:
    for other in project.lookalikes(version):
        logger.warning(
            "project %d has predictions of %s, which Label Studio's filters take for %s: "
            "tasks that have these are left alone",
            project.id,
            other,
            version,
        )


class _Run:
    """What several passes over tasks have in common."""

    def __init__(
        self,
        project: StudioProject,
        predictor: Predicts,
        seat: Desked,
        progress: Progress,
        hooks: Hooks,
        writer: Writer,
        again: "array[int]",
    ) -> None:
        self.project, self.predictor, self.seat = project, predictor, seat
        self.progress, self.hooks, self.writer, self.again = progress, hooks, writer, again

    def through(self, tasks: Iterator[Task], *, last: bool) -> None:
        """One pass; in the `last` one, whose servers still do not answer has failed."""
        outcomes = self.predictor.stream(tasks, self.seat.desk, self.progress.spend)
        try:
            for task, outcome in outcomes:
                self._take(task, outcome, last=last)
                self.writer.tick()
                self.hooks.told(self.progress)
                self.hooks.pause()
        finally:
            close = getattr(outcomes, "close", None)
            if close is not None:
                close()  # lets go of pictures under way, also where we stop in the middle

    def _take(self, task: Task, outcome: Outcome, *, last: bool) -> None:
        number = int(task.id or 0)
        if isinstance(outcome, Predicted):
            self.progress.add("predicted")
            self.progress.add("regions", outcome.count)
            self.progress.add("empty", not outcome.count)
            self.writer.add(number, outcome.to_json())
        elif outcome.passing and not last:
            self.again.append(number)
            self.project.facts()  # goes on when Label Studio, from which pictures come, is back
        else:
            self._fail(number, outcome)

    def _fail(self, number: int, outcome: NotPredicted) -> None:
        self.progress.fail(number, outcome.kind, outcome.reason)


def _wanted_tasks(
    project: StudioProject, wanted: Wanted, seat: Desked, progress: Progress, hooks: Hooks
) -> Iterator[Task]:
    """Raises ProjectChanged where the label config is no longer the one the run began with."""
    done = hooks.noted() if wanted.redo else set()
    for page in select(project, wanted, seat.plan.version, progress):
        _refuse_change(project, seat)
        progress.add("already", sum(one.id in done for one in page))
        yield from (one.task for one in page if one.id not in done)


def _again(
    project: StudioProject,
    numbers: Sequence[int],
    wanted: Wanted,
    seat: Desked,
    progress: Progress,
) -> Iterator[Task]:
    """Tasks whose servers did not answer; what became of them meanwhile is counted.

    Raises ProjectChanged.
    """
    for first in range(0, len(numbers), PAGE):
        _refuse_change(project, seat)
        chunk = numbers[first : first + PAGE]
        there = project.tasks(chunk)
        lacking = set(there)
        if not wanted.redo:
            lacking &= set(project.ids([among(chunk), lacks_version(seat.plan.version)]))
        progress.add("gone", len(chunk) - len(there))
        progress.add("already", len(there) - len(lacking))
        yield from (one.task for number, one in there.items() if number in lacking)


def _refuse_change(project: StudioProject, seat: Desked) -> None:
    """Raises ProjectChanged."""
    if project.facts().label_config != seat.facts.label_config:
        raise ProjectChanged(
            f"the label config of project {project.id} was changed meanwhile; start again: "
            "what fits the new one is predicted anew, what is written stays until --undo"
        )
