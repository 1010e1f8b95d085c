"""Predictions on their way into Label Studio: in batches, beside the model, exactly once.

Before each batch Label Studio is asked which of its tasks still lack the version, so what an
interrupted run, a broken connection or an annotator's page has brought in meanwhile is not
brought twice. What slips through between question and write, `once_each` removes in the end.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import StudioRefused, StudioUncertain
from ..studio.client import Json
from ..studio.project import (
    StudioProject,
    among,
    has_draft,
    has_predictions,
    has_version,
    lacks_version,
)
from .progress import Progress

logger = logging.getLogger(__name__)

MOST_TASKS = 50  # of a batch
MOST_BYTES = 4_000_000  # of a batch's JSON; proxies often stop at ten million
SOONEST, OLDEST = 1.0, 5.0  # seconds a prediction waits for its batch to fill, at first and later
WAITING = 2  # batches beside the one being written
TRIES = 4  # of a batch that Label Studio fails over
NOT_STORED = "it does not fit the label config; Label Studio's log says why"
CONTENT = frozenset({400, 413, 422})  # something in the batch is at fault, or its size


class Ready(NamedTuple):
    """A prediction as JSON, without the task it belongs to."""

    task: int
    prediction: str

    def body(self) -> bytes:
        return f'{{"task":{self.task},{self.prediction[1:]}'.encode()


class Writer:
    """Writes from a thread of its own; `add` waits while it is behind. Use as a context.

    Leaving the context writes what is left; leaving it by an error does too, as far as Label
    Studio lets it, because what is written need not be done again.
    """

    def __init__(
        self,
        project: StudioProject,
        version: str,
        progress: Progress,
        *,
        replacing: bool = False,
        written: Callable[[Sequence[int]], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`replacing`: predictions of the version that are there are replaced, not kept; a task
        in which somebody builds on one of them is left alone.

        `written` is told of each batch, from the writer's thread. `pause` waits between tries.
        """
        self._project, self._version, self._progress = project, version, progress
        self._replacing, self._written = replacing, written
        self._pause, self._clock = pause, clock
        self._batch: list[Ready] = []
        self._bytes, self._since, self._wait = 0, 0.0, SOONEST
        self._queue: queue.Queue[list[Ready] | None] = queue.Queue(WAITING)
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._trouble is None:
            self._pass_on()
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def add(self, task: int, prediction: str) -> None:
        """Take a prediction along. Raises what went wrong with an earlier batch."""
        self._raise()
        if not self._batch:
            self._since = self._clock()
        self._batch.append(Ready(task, prediction))
        self._bytes += len(prediction.encode())
        self.tick()

    def tick(self) -> None:
        """Pass the batch on if it is full or has waited long enough."""
        late = self._clock() - self._since > self._wait
        if self._batch and (late or len(self._batch) >= MOST_TASKS or self._bytes >= MOST_BYTES):
            self._pass_on()

    def _pass_on(self) -> None:
        if self._batch:
            self._queue.put(self._batch)
            self._batch, self._bytes = [], 0
            self._wait = min(2 * self._wait, OLDEST)

    def _raise(self) -> None:
        if self._trouble is not None:
            raise self._trouble

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            if self._trouble is not None:
                continue  # empties the queue, so that nobody waits for room
            begun = self._clock()
            try:
                self._write(batch)
            except BaseException as error:
                self._trouble = error
            self._progress.spend("upload", self._clock() - begun)

    def _write(self, batch: Sequence[Ready]) -> None:
        """Write what still lacks. Raises StudioRefused, StudioAway, and as `pause`."""
        for attempt in range(1, TRIES + 1):
            lacking, old = self._lacking(batch)
            left = [one for one in batch if one.task in lacking]
            if not left:
                self._settle(batch, lacking)
                return
            try:
                stored = self._project.write(b"[%b]" % b",".join(one.body() for one in left))
            except StudioUncertain as error:
                logger.info("%s; looking what became of it", error)
                self._pause(2.0 ** (attempt - 1))
                continue
            except StudioRefused as error:
                if error.status not in CONTENT:
                    raise
                self._part(batch, error)
                return
            if stored < len(left):  # what does not fit the label config was left out
                self._part(batch, StudioRefused("to store a prediction", 201, NOT_STORED))
                return
            for number in old:
                self._project.delete_prediction(number)
            self._settle(batch, lacking)
            return
        self._part(batch, StudioRefused("to store predictions", 500, "tried several times"))

    def _lacking(self, batch: Sequence[Ready]) -> tuple[set[int], list[int]]:
        """Tasks to be written, and predictions to be removed once they are."""
        tasks = [one.task for one in batch]
        if not self._replacing:
            return set(self._project.ids([among(tasks), lacks_version(self._version)])), []
        there = set(self._project.ids([among(tasks)]))
        outdated = set(self._project.ids([among(tasks), has_version(self._version)]))
        begun = self._begun(outdated)
        built_on, old = set[int](), list[int]()
        for task in sorted(outdated - begun):
            ours, free = _ours_and_free(self._project, task, self._version)
            if len(free) < len(ours):
                built_on.add(task)
            else:
                old += [int(one["id"]) for one in free]
        return there - begun - built_on, old

    def _begun(self, tasks: set[int]) -> set[int]:
        """Those with a draft, which could not be submitted if the prediction under it went."""
        return set(self._project.ids([among(tasks), has_draft()])) if tasks else set()

    def _settle(self, batch: Sequence[Ready], lacking: set[int]) -> None:
        """Count a batch that is in Label Studio now, but for tasks that are no more."""
        tasks = [one.task for one in batch]
        others = set(tasks) - lacking
        there = set(self._project.ids([among(others)])) if others else set()
        gone = len(others - there)
        alone = there if self._replacing else set()
        begun = len(self._begun(alone))
        self._progress.add("gone", gone)
        self._progress.add("drafted", begun)
        self._progress.add("annotated", len(alone) - begun)
        self._progress.add("written", len(tasks) - gone - len(alone))
        self._written([task for task in tasks if task in lacking or task in there])

    def _part(self, batch: Sequence[Ready], error: StudioRefused) -> None:
        """Halve a batch that Label Studio refuses, until the one at fault is alone."""
        if len(batch) == 1:
            lacking, _ = self._lacking(batch)
            if not lacking:  # the last try was uncertain, and did happen; or the task is gone
                self._settle(batch, lacking)
                return
            self._progress.fail(batch[0].task, "refused", str(error))
            logger.warning("task %d: %s", batch[0].task, error)
            return
        half = len(batch) // 2
        self._write(batch[:half])
        self._write(batch[half:])


def once_each(project: StudioProject, version: str, progress: Progress) -> None:
    """Remove what a task has more than once of a version: the oldest stays.

    Costs two requests where there is nothing to remove. What somebody built on stays too, and all
    that a drafted task has: a draft whose prediction went could not be submitted. Raises
    StudioRefused, StudioAway.
    """
    several = project.versions().get(version, 0) > project.count([has_version(version)])
    if not several and not project.lookalikes(version):
        return
    for task in project.ids([has_version(version), has_predictions(1)]):
        if project.count([among([task]), has_draft()]):
            continue
        ours, free = _ours_and_free(project, task, version)
        if len(ours) < 2:
            continue
        spare = free if len(free) < len(ours) else free[1:]
        for one in spare:
            project.delete_prediction(int(one["id"]))
            progress.add("removed")


def _ours_and_free(
    project: StudioProject, task: int, version: str
) -> tuple[list[Json], list[Json]]:
    """The task's predictions of a version, and those of them that no annotation came from."""
    ours = [one for one in project.predictions(task) if one["model_version"] == version]
    if not ours:
        return [], []
    built_on = {one.get("parent_prediction") for one in project.annotations(task)}
    return ours, [one for one in ours if one["id"] not in built_on]
