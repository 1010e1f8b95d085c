"""The use case: tasks in, predictions out. Owns the device queue and the result cache.

Each task has one of three outcomes, never mixed:

    Predicted       masks, or none because nothing was found; Label Studio stores it
    NotPredicted    it could not be done this time; nothing is stored, it is asked again
    ModelNotReady   raised for the whole request: there is no model yet
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, UInt8

from cliper_model import Identity, Segmentation, Segmenter, Vocabulary, decide
from cliper_model.errors import CliperError, WeightsError

from .device import DeviceQueue, Ticket
from .errors import (
    BudgetSpent,
    Busy,
    ConfigError,
    CouldNotPredict,
    ImageError,
    ModelFailed,
    OutOfMemory,
    TaskDataMissing,
    Unreachable,
)
from .images.hanging import HangingServers
from .labelstudio import label_config
from .labelstudio.regions import FORMATS, RegionControl
from .labelstudio.tasks import PredictRequest, Region, Task
from .labelstudio.version import NO_EVIDENCE, model_version
from .model_host import ModelHost
from .result_cache import ResultCache
from .vocabulary import ControlVocabulary

logger = logging.getLogger(__name__)

POST_PROCESSING = {"outline": "none"}  # settings of what happens between mask and region
AHEAD = 1  # pictures fetched while the device is busy with an earlier one
REMEMBERED_VERSIONS = 20
REMEMBERED_VOCABULARIES = 32
NEARLY_ALL = 0.95  # of the time for a fetch: who takes so long without an answer hangs
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Pictures(Protocol):
    """Where pictures come from; `backend.images` offers it."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        """`task_id`: Label Studio's number of the task. Raises ImageError."""
        ...

    def server(self, address: str) -> str | None:
        """Who would be asked for the picture; None if nobody."""
        ...

    def decode(self, data: bytes) -> UInt8[np.ndarray, "height width 3"]:
        """As displayed: EXIF orientation applied, RGB. Raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What was found in one picture: regions as JSON, and what the task's score needs."""

    regions: bytes  # a JSON list
    area: float  # share of the picture under regions
    weighted_score: float  # sum of area times score over the regions
    presence: float  # highest over the labels

    @property
    def nbytes(self) -> int:
        return len(self.regions) + 200


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An answer Label Studio stores; without regions it means: nothing found."""

    regions: tuple[bytes, ...]  # JSON lists
    score: float | None
    model_version: str

    def to_json(self) -> str:
        inside = b",".join(part[1:-1] for part in self.regions if part != b"[]")
        rest = json.dumps({"score": self.score, "model_version": self.model_version})
        return f'{{"result":[{inside.decode()}],{rest[1:]}'


@dataclass(frozen=True, kw_only=True)
class NotPredicted:
    """No answer this time. Without `result` Label Studio stores nothing and asks again."""

    reason: str
    later: bool = False  # only for want of time

    def to_json(self) -> str:
        return json.dumps({"error": self.reason})


Outcome = Predicted | NotPredicted


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a config asks for, worked out once per request."""

    wanted: tuple[ControlVocabulary, ...]
    version: str

    def by_image(self) -> list[tuple[str, str, tuple[ControlVocabulary, ...]]]:
        """(object name, data key, its controls) in the order of the config."""
        groups: dict[tuple[str, str], list[ControlVocabulary]] = {}
        for one in self.wanted:
            groups.setdefault((one.control.to_name, one.control.data_key), []).append(one)
        return [(name, key, tuple(controls)) for (name, key), controls in groups.items()]


_Found = ImageResult | Ticket[ImageResult]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One request while it is worked on; belongs to one thread."""

    plan: _Plan
    segmenter: Segmenter
    deadline: float
    hung: set[str] = field(default_factory=set)  # servers not to be waited for again


class Predictor:
    """Answers `/setup` and `/predict`; safe to use from many threads."""

    def __init__(
        self,
        model: ModelHost,
        pictures: Pictures,
        *,
        budget: float,
        fetch_timeout: float,
        waiting: int,
        cache_bytes: int,
        score_threshold: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`budget`: seconds one request may take. `waiting`: requests at the same time."""
        self._model, self._pictures = model, pictures
        self._budget, self._fetch_timeout = budget, fetch_timeout
        self._score_threshold, self._clock = score_threshold, clock
        self._waiting, self._seats = waiting, threading.BoundedSemaphore(waiting)
        self._hanging = HangingServers(clock=clock)
        self._device = DeviceQueue()
        self._results: ResultCache[ImageResult] = ResultCache(max_bytes=cache_bytes)
        self._vocabularies: OrderedDict[object, Vocabulary] = OrderedDict()  # device thread only
        self._versions: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)

    # -- what the routes call ---------------------------------------------------------

    def setup(self, config: str) -> str:
        """Check a label config and name the version its predictions will carry.

        Runs no model. Raises ConfigError, ModelLoading, ModelFailed.
        """
        return self._plan(config).version

    def versions(self) -> list[str]:
        """Versions given out lately, the newest first."""
        return list(reversed(self._versions))

    def predict(self, request: PredictRequest) -> list[Outcome]:
        """One outcome per task, in order, within the time budget.

        Raises ConfigError, ModelLoading, ModelFailed or Busy for the request as a whole.
        """
        if not request.tasks:
            return []
        with self._seat():
            deadline = self._clock() + self._budget
            plan = self._plan(request.label_config)
            segmenter = self._model.segmenter()
            if request.context is not None:  # prompts are not understood yet: nothing to add
                nothing = Predicted(regions=(), score=None, model_version=plan.version)
                return [nothing for _ in request.tasks]
            work = _Work(plan=plan, segmenter=segmenter, deadline=deadline)
            outcomes = self._in_a_good_order(request.tasks, work)
        _tell_what_is_left(outcomes, self._budget)
        return outcomes

    def close(self) -> None:
        """Let the device finish what runs, and nothing more."""
        self._device.close()

    # -- one request ------------------------------------------------------------------

    @contextmanager
    def _seat(self) -> Iterator[None]:
        if not self._seats.acquire(blocking=False):
            raise Busy(self._waiting)
        try:
            yield
        finally:
            self._seats.release()

    def _plan(self, config: str) -> _Plan:
        wanted = tuple(
            ControlVocabulary.of(control, score_threshold=self._score_threshold)
            for control in label_config.parse(config)
        )
        identity = self._model.identity()
        with _model_errors_as_ours():
            for one in wanted:
                self._model.check_words(one.explicit_words)
        version = version_of(identity, wanted)
        if version not in self._versions:
            self._versions.append(version)
        return _Plan(wanted=wanted, version=version)

    def _in_a_good_order(self, tasks: Sequence[Task], work: _Work) -> list[Outcome]:
        """Pictures on servers that hung lately are tried last; the answers keep their order."""
        order = sorted(range(len(tasks)), key=lambda index: self._may_hang(tasks[index], work.plan))
        outcomes = self._outcomes([tasks[index] for index in order], work)
        by_index = dict(zip(order, outcomes, strict=True))
        return [by_index[index] for index in range(len(tasks))]

    def _may_hang(self, task: Task, plan: _Plan) -> bool:
        for _, key, _ in plan.by_image():
            with suppress(TaskDataMissing):
                server = self._pictures.server(task.image_address(key))
                if server is not None and self._hanging.lately(server):
                    return True
        return False

    def _outcomes(self, tasks: Sequence[Task], work: _Work) -> Iterator[Outcome]:
        """Fetch the next pictures while the device works on the earlier ones."""
        begun: deque[tuple[Task, list[_Found] | CouldNotPredict]] = deque()
        upcoming = iter(tasks)
        try:
            while True:
                for task in upcoming:
                    begun.append((task, self._begin(task, work)))
                    if len(begun) > AHEAD:
                        break
                if not begun:
                    return
                task, found = begun.popleft()
                yield self._finish(task, found, work)
        finally:
            for _, found in begun:
                _leave(found)

    def _begin(self, task: Task, work: _Work) -> list[_Found] | CouldNotPredict:
        """Fetch a task's pictures and queue what is not known yet.

        Whatever a picture brings about, it is this task's trouble and no other's.
        """
        found: list[_Found] = []
        try:
            for name, key, wanted in work.plan.by_image():
                found.append(self._look_up(task, name, key, wanted, work))
        except Exception as error:
            _leave(found)
            if isinstance(error, ConfigError | ModelFailed):
                raise
            if isinstance(error, CouldNotPredict):
                return error
            if is_out_of_memory(error):
                return OutOfMemory()
            logger.exception("the picture of task %s could not be had", task.id)
            return CouldNotPredict(f"the picture could not be had ({type(error).__name__})")
        return found

    def _look_up(
        self,
        task: Task,
        object_name: str,
        data_key: str,
        wanted: tuple[ControlVocabulary, ...],
        work: _Work,
    ) -> _Found:
        """The result for one picture, or a place in the queue.

        The key is the picture's content, not its address: a picture mended in place is
        new, and one that was asked twice is the same.
        """
        data = self._fetch(task.image_address(data_key), work, task)
        key = (hashlib.sha256(data).hexdigest(), object_name, work.plan.version)
        known = self._results.get(key)
        if known is not None:
            return known
        pixels = self._pictures.decode(data)
        self._left(work.deadline)

        def job() -> ImageResult:
            result = self._results.get(key)
            if result is None:
                result = self._compute(pixels, wanted, work.segmenter, seed="|".join(key))
                self._results.put(key, result)
            return result

        return self._device.submit(key, job)

    def _fetch(self, address: str, work: _Work, task: Task) -> bytes:
        """The bytes of a picture. Raises ImageError, BudgetSpent.

        A server that hangs is waited for once per request.
        """
        server = self._pictures.server(address)
        if server is not None and server in work.hung:
            raise Unreachable(f"{server} did not answer in time for an earlier task")
        began = self._clock()
        timeout = min(self._fetch_timeout, self._left(work.deadline))
        try:
            task_id = task.id if isinstance(task.id, int) else None
            data = self._pictures.fetch(address, timeout=timeout, task_id=task_id)
        except ImageError:
            self._left(work.deadline)  # cut short by our own hurry, not by the server's fault
            if server is not None and self._clock() - began >= NEARLY_ALL * timeout:
                work.hung.add(server)
                self._hanging.hung(server)
            raise
        if server is not None:
            self._hanging.answered(server)
        return data

    def _left(self, deadline: float) -> float:
        """Seconds left. Raises BudgetSpent."""
        left = deadline - self._clock()
        if left <= 0:
            raise BudgetSpent(self._budget)
        return left

    def _finish(
        self,
        task: Task,
        found: list[_Found] | CouldNotPredict,
        work: _Work,
    ) -> Outcome:
        try:
            if isinstance(found, CouldNotPredict):
                raise found
            results = [self._wait(one, work.deadline) for one in found]
            return _combined(results, work.plan.version)
        except CouldNotPredict as error:
            level = logging.DEBUG if isinstance(error, BudgetSpent) else logging.WARNING
            logger.log(level, "task %s not predicted: %s", task.id, error)
            return NotPredicted(reason=str(error), later=isinstance(error, BudgetSpent))
        finally:
            _leave(found)

    def _wait(self, one: _Found, deadline: float) -> ImageResult:
        if isinstance(one, ImageResult):
            return one
        try:
            return one.wait(max(deadline - self._clock(), 0.0))
        except TimeoutError:
            raise BudgetSpent(self._budget) from None

    # -- on the device thread ---------------------------------------------------------

    def _compute(
        self,
        pixels: UInt8[np.ndarray, "height width 3"],
        wanted: tuple[ControlVocabulary, ...],
        segmenter: Segmenter,
        *,
        seed: str,
    ) -> ImageResult:
        """Look once, then score and decide per control. Raises CouldNotPredict, ConfigError."""
        try:
            with _model_errors_as_ours():
                vocabularies = [self._vocabulary(one, segmenter) for one in wanted]
            state = segmenter.observe(pixels)
            segmentations = []
            for one, vocabulary in zip(wanted, vocabularies, strict=True):
                decision = one.decision(segmenter.decision(one.preset))
                segmentations.append(decide(segmenter.score(state, vocabulary), decision))
            return _image_result(segmentations, wanted, seed=seed)
        except (CouldNotPredict, ConfigError, ModelFailed):
            raise
        except CliperError as error:
            raise CouldNotPredict(str(error)) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            logger.exception("the model failed on a picture of %s x %s", *pixels.shape[1::-1])
            kind = type(error).__name__
            raise CouldNotPredict(f"the model failed on this picture ({kind})") from error

    def _vocabulary(self, one: ControlVocabulary, segmenter: Segmenter) -> Vocabulary:
        key = (segmenter.identity.profile, one.reading)
        vocabulary = self._vocabularies.get(key)
        if vocabulary is None:
            vocabulary = segmenter.read(one.labels, background=one.background, preset=one.preset)
            self._vocabularies[key] = vocabulary
            if vocabulary.dropped:
                logger.info(
                    "%s: background words dropped, too close to a label: %s",
                    one.control.from_name,
                    ", ".join(vocabulary.dropped),
                )
        self._vocabularies.move_to_end(key)
        while len(self._vocabularies) > REMEMBERED_VOCABULARIES:
            self._vocabularies.popitem(last=False)
        return vocabulary


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the graphics card or the machine.

    On the CPU torch says so with a plain RuntimeError: "DefaultCPUAllocator: can't allocate
    memory".
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def version_of(identity: Identity, wanted: Sequence[ControlVocabulary]) -> str:
    """The version string of everything `wanted`, read and decided by the model `identity`."""
    facts: dict[str, Any] = {
        "method": identity.method,
        "revision": identity.revision,
        "profile": identity.profile,
        "weights": dict(identity.weights),
        "settings": dict(identity.settings),
        "controls": [one.facts() for one in wanted],
        "post_processing": POST_PROCESSING,
        "evidence": NO_EVIDENCE,
    }
    return model_version(profile=identity.profile, method=identity.method, facts=facts)


def _image_result(
    segmentations: Sequence[Segmentation], wanted: Sequence[ControlVocabulary], *, seed: str
) -> ImageResult:
    regions: list[Region] = []
    area = weighted = presence = 0.0
    for segmentation, one in zip(segmentations, wanted, strict=True):
        shares = segmentation.areas / math.prod(segmentation.size_hw)
        scores = np.clip(segmentation.region_scores, 0.0, 1.0)
        if not (np.isfinite(scores).all() and np.isfinite(segmentation.presence).all()):
            raise CouldNotPredict("the model gave no finite scores for this picture")
        area += float(shares.sum())
        weighted += float((shares * scores).sum())
        presence = max(presence, float(segmentation.presence.max(initial=0.0)))
        regions += _regions(segmentation, scores, one, seed=seed)
    return ImageResult(
        regions=json.dumps(regions, separators=(",", ":"), allow_nan=False).encode(),
        area=area,
        weighted_score=weighted,
        presence=presence,
    )


def _regions(
    segmentation: Segmentation,
    scores: np.ndarray[Any, Any],
    one: ControlVocabulary,
    *,
    seed: str,
) -> Iterator[Region]:
    """One region per label found, then the rest of the picture where a label asks for it.

    Names are matched by position: the model keeps the order of the labels.
    """
    control = one.control
    painted: list[tuple[str, Bool[np.ndarray, "height width"], float | None]] = [
        (one.sought[index].result_name, segmentation.mask(index), round(float(scores[index]), 4))
        for index in map(int, np.flatnonzero(segmentation.areas))
    ]
    if one.rest is not None:
        painted.append((one.rest.result_name, segmentation.rest_mask, None))
    for label, mask, score in painted:
        name = "|".join((seed, control.from_name, label))
        told = RegionControl(
            from_name=control.from_name,
            to_name=control.to_name,
            kind=control.kind,
            label=label,
            region_id=hashlib.sha256(name.encode()).hexdigest()[:12],
            score=score,
        )
        yield from FORMATS[control.kind].encode(mask, told)


def _combined(results: Sequence[ImageResult], version: str) -> Predicted:
    """Area-weighted mean of the region scores; without a region 1 - highest presence."""
    area = sum(result.area for result in results)
    score = (
        sum(result.weighted_score for result in results) / area
        if area > 0
        else 1.0 - max(result.presence for result in results)
    )
    return Predicted(
        regions=tuple(result.regions for result in results),
        score=round(min(max(score, 0.0), 1.0), 4),
        model_version=version,
    )


def _tell_what_is_left(outcomes: Sequence[Outcome], budget: float) -> None:
    later = sum(isinstance(outcome, NotPredicted) and outcome.later for outcome in outcomes)
    if later:
        logger.warning(
            "%d of %d tasks are left after %g s: retrieve predictions again to go on",
            later,
            len(outcomes),
            budget,
        )


def _leave(found: list[_Found] | CouldNotPredict) -> None:
    if isinstance(found, list):
        for one in found:
            if isinstance(one, Ticket):
                one.leave()


@contextmanager
def _model_errors_as_ours() -> Iterator[None]:
    """What the model says about words is about the config; about weights, it is not ready."""
    try:
        yield
    except WeightsError as error:
        raise ModelFailed(str(error)) from error
    except CliperError as error:
        raise ConfigError(str(error)) from error
