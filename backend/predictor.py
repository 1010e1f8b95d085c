"""The use case: tasks in, predictions out. Owns the device queue and the caches.

Each task has one of three outcomes, never mixed:

    Predicted       masks, or none because nothing was found; Label Studio stores it
    NotPredicted    it could not be done this time; nothing is stored, it is asked again
    ModelNotReady   raised for the whole request: there is no model yet
"""

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from cliper_model import ImageState, Segmenter, Vocabulary, decide
from cliper_model.errors import CliperError, WeightsError

from . import advice, prompting
from .device import DeviceQueue, Ticket
from .errors import (
    BudgetSpent,
    Busy,
    ConfigError,
    CouldNotPredict,
    ImageError,
    MaskTooLarge,
    ModelFailed,
    ModelNotReady,
    OutOfMemory,
    Unreachable,
)
from .images.hanging import HangingServers
from .labelstudio import label_config, options
from .labelstudio.tasks import PredictRequest, SetupRequest, Task
from .model_host import READY
from .model_pool import ModelChoice, ModelPool
from .outcomes import ImageResult, NotPredicted, Outcome, Predicted, combined
from .painting import Painted, image_result, write
from .plan import Plan, View, choice_of, version_of, vocabularies
from .result_cache import ResultCache
from .vocabulary import ControlVocabulary

logger = logging.getLogger(__name__)

AHEAD = 1  # pictures fetched while the device is busy with an earlier one
REMEMBERED_VERSIONS = 20
REMEMBERED_VOCABULARIES = 32
REMEMBERED_PROJECTS = 1000  # whose extra_params are kept
REMEMBERED_PICTURES = 256  # whose bytes are known by their address, for clicks
FRESH = 300.0  # seconds such an address is believed
NEARLY_ALL = 0.95  # of the time for a fetch: who takes so long without an answer hangs
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
MEGA = 1_000_000


class Pictures(Protocol):
    """Where pictures come from; `backend.images` offers it."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        """Raises ImageError."""
        ...

    def server(self, address: str) -> str | None:
        """Who would be asked for the picture; None if nobody."""
        ...

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """As displayed: EXIF orientation applied, RGB. Raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the predictor may use up.

    budget         seconds one request may take
    fetch_timeout  seconds per picture
    waiting        requests at the same time
    result_bytes   finished results kept in memory
    state_bytes    looks at pictures kept in memory
    brush_megapixels  largest picture that gets brush masks
    """

    budget: float
    fetch_timeout: float
    waiting: int
    result_bytes: int
    state_bytes: int = 0
    brush_megapixels: float = 25.0


@dataclass(frozen=True)
class _Look:
    """A state that knows its size, for the cache."""

    state: ImageState
    size_hw: tuple[int, int]  # of the picture as displayed

    @property
    def nbytes(self) -> int:
        return 200 + _nbytes(self.state)


def _nbytes(value: object) -> int:
    """Bytes of the tensors in a state, also of the states of tiles in it."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, ImageState):
        return sum(map(_nbytes, vars(value).values()))
    return sum(map(_nbytes, value)) if isinstance(value, tuple) else 0


@dataclass(frozen=True)
class _Picture:
    """A picture's bytes, by their digest; unpacked only where nobody looked at it before."""

    digest: str
    page: int
    unpack: Callable[[], UInt8[np.ndarray, "height width 3"]]

    @property
    def key(self) -> tuple[str, int]:
        return (self.digest, self.page)


_Found = ImageResult | Ticket[ImageResult]
Segmenters = Mapping[ModelChoice, Segmenter]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One request while it is worked on; belongs to one thread."""

    plan: Plan
    segmenters: Segmenters
    deadline: float
    hung: set[str] = field(default_factory=set)  # servers not to be waited for again


class Predictor:
    """Answers `/setup` and `/predict`; safe to use from many threads."""

    def __init__(
        self,
        models: ModelPool,
        pictures: Pictures,
        limits: Limits,
        *,
        defaults: options.Values | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`defaults`: values of `model_*` options for configs that name none."""
        self._models, self._pictures, self._limits = models, pictures, limits
        self._defaults, self._clock = dict(defaults or {}), clock
        self._seats = threading.BoundedSemaphore(limits.waiting)
        self._hanging = HangingServers(clock=clock)
        self._device = DeviceQueue()
        self._results: ResultCache[ImageResult] = ResultCache(max_bytes=limits.result_bytes)
        self._looks: ResultCache[_Look] = ResultCache(max_bytes=limits.state_bytes)
        self._vocabularies: OrderedDict[object, Vocabulary] = OrderedDict()  # device thread only
        self._versions: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
        self._advised: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
        self._lock = threading.Lock()  # of the two below
        self._extras: OrderedDict[str, options.Values] = OrderedDict()
        self._recent: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()

    # -- what the routes call ---------------------------------------------------------

    def setup(self, asked: SetupRequest) -> str:
        """Check a label config and name the version its predictions will carry.

        Keeps the connection's `extra_params` for the project: later requests do not carry them.
        Runs no model. Raises ConfigError, ModelLoading, ModelFailed.
        """
        extra = options.read_wide(asked.extra_params, owner=options.EXTRA)
        if asked.project is not None:
            self._remember_extra(asked.project, extra)
        return self._plan(asked.label_config, extra).version

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
            deadline = self._clock() + self._limits.budget
            plan = self._plan(request.label_config, self._extra_of(request.project))
            segmenters = {
                choice: self._models.host(choice).segmenter() for choice in plan.identities
            }
            work = _Work(plan=plan, segmenters=segmenters, deadline=deadline)
            if request.context is not None:
                return [self._answer(task, request.context, work) for task in request.tasks]
            outcomes = self._in_a_good_order(request.tasks, work)
        _tell_what_is_left(outcomes, self._limits.budget)
        _refuse_if_all_are(outcomes)
        return outcomes

    def close(self) -> None:
        """Let the device finish what runs, and nothing more."""
        self._device.close()

    # -- one request ------------------------------------------------------------------

    @contextmanager
    def _seat(self) -> Iterator[None]:
        if not self._seats.acquire(blocking=False):
            raise Busy(self._limits.waiting)
        try:
            yield
        finally:
            self._seats.release()

    def _remember_extra(self, project: str, extra: options.Values) -> None:
        with self._lock:
            self._extras[project] = extra
            self._extras.move_to_end(project)
            while len(self._extras) > REMEMBERED_PROJECTS:
                self._extras.popitem(last=False)

    def _extra_of(self, project: str | None) -> options.Values:
        with self._lock:
            return self._extras.get(project, {}) if project is not None else {}

    def _plan(self, config: str, extra: options.Values) -> Plan:
        read = label_config.parse(config)
        layers = ((options.EXTRA, extra), (options.ENVIRONMENT, self._defaults))
        wanted = vocabularies(read, layers)
        hosts = {choice: self._models.host(choice) for choice in map(choice_of, wanted)}
        identities = {choice: host.identity() for choice, host in hosts.items()}
        with _model_errors_as_ours():
            for one in wanted:
                hosts[choice_of(one)].check_words(one.explicit_words)
        version = version_of(identities, wanted)
        plan = Plan(
            wanted=wanted,
            prompts=read.prompts,
            identities=identities,
            version=version,
            warnings=(*read.warnings, *advice.of_config(wanted)),
        )
        if version not in self._versions:
            self._versions.append(version)
            for warning in plan.warnings:
                logger.warning("label config of %s: %s", version, warning)
        ready = all(host.status.state == READY for host in hosts.values())
        if ready and version not in self._advised:
            self._advised.append(version)
            self._device.submit(("advice", version), lambda: self._advise_on_words(plan))
        return plan

    def _advise_on_words(self, plan: Plan) -> None:
        """On the log: words the model will not read well."""
        for one in plan.wanted:
            with suppress(ModelNotReady, CliperError, ConfigError):
                segmenter = self._models.host(choice_of(one)).segmenter()
                if one.sought:
                    for warning in advice.of_words(one, self._vocabulary(one, segmenter)):
                        logger.warning("label config of %s: %s", plan.version, warning)

    def _in_a_good_order(self, tasks: Sequence[Task], work: _Work) -> list[Outcome]:
        """Pictures on servers that hung lately are tried last; the answers keep their order."""
        order = sorted(range(len(tasks)), key=lambda index: self._may_hang(tasks[index], work.plan))
        outcomes = self._outcomes([tasks[index] for index in order], work)
        by_index = dict(zip(order, outcomes, strict=True))
        return [by_index[index] for index in range(len(tasks))]

    def _may_hang(self, task: Task, plan: Plan) -> bool:
        servers = map(self._pictures.server, plan.picture_addresses(task))
        return any(server is not None and self._hanging.lately(server) for server in servers)

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
            for view in work.plan.views(task):
                found.append(self._look_up(task, view, work))
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

    def _look_up(self, task: Task, view: View, work: _Work) -> _Found:
        """The result for one picture, or a place in the queue.

        The key is the picture's content, not its address: a picture mended in place is
        new, and one that was asked twice is the same.
        """
        data = self._fetch(task, view.address, work)
        digest = hashlib.sha256(data).hexdigest()
        self._note(view, digest)
        key = (digest, view.place, work.plan.version)
        known = self._results.get(key)
        if known is not None:
            return known
        pixels = self._pictures.decode(data, page=view.page)
        self._refuse_brush_of(pixels, view.wanted)
        self._left(work.deadline)
        picture = _Picture(digest, view.page, lambda: pixels)

        def job() -> ImageResult:
            result = self._results.get(key)
            if result is None:
                result = self._compute(picture, view, work.segmenters, seed="|".join(key))
                self._results.put(key, result)
            return result

        return self._device.submit(key, job)

    def _refuse_brush_of(
        self, pixels: UInt8[np.ndarray, "height width 3"], wanted: Sequence[ControlVocabulary]
    ) -> None:
        """Raises MaskTooLarge: the editor builds four bytes per pixel for every brush region."""
        height, width = pixels.shape[:2]
        budget = self._limits.brush_megapixels
        brush = any(one.control.kind in ("brushlabels", "brush") for one in wanted)
        if brush and height * width > budget * MEGA:
            raise MaskTooLarge((height, width), budget)

    def _note(self, view: View, digest: str) -> None:
        """A click on this picture soon after need not fetch it again."""
        with self._lock:
            self._recent[view.address, view.page] = (digest, self._clock())
            self._recent.move_to_end((view.address, view.page))
            while len(self._recent) > REMEMBERED_PICTURES:
                self._recent.popitem(last=False)

    def _fetch(self, task: Task, address: str, work: _Work) -> bytes:
        """The bytes of a picture. Raises ImageError, BudgetSpent.

        A server that hangs is waited for once per request.
        """
        server = self._pictures.server(address)
        if server is not None and server in work.hung:
            raise Unreachable(f"{server} did not answer in time for an earlier task")
        began = self._clock()
        timeout = min(self._limits.fetch_timeout, self._left(work.deadline))
        number = task.id if isinstance(task.id, int) else None
        try:
            data = self._pictures.fetch(address, timeout=timeout, task_id=number)
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
            raise BudgetSpent(self._limits.budget)
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
            return combined(results, work.plan.version)
        except CouldNotPredict as error:
            level = logging.DEBUG if isinstance(error, BudgetSpent) else logging.WARNING
            logger.log(level, "task %s not predicted: %s", task.id, error)
            return NotPredicted(
                reason=str(error),
                later=isinstance(error, BudgetSpent),
                refused=isinstance(error, MaskTooLarge),
            )
        finally:
            _leave(found)

    def _wait(self, one: _Found, deadline: float) -> ImageResult:
        if isinstance(one, ImageResult):
            return one
        try:
            return one.wait(max(deadline - self._clock(), 0.0))
        except TimeoutError:
            raise BudgetSpent(self._limits.budget) from None

    # -- one click --------------------------------------------------------------------

    def _answer(self, task: Task, context: Mapping[str, Any], work: _Work) -> Outcome:
        """The clicked label's region; nothing to add where no control can hold it."""
        version = work.plan.version
        prompt = prompting.read(context)
        nothing = Predicted(regions=(), score=None, model_version=version)
        if prompt is None:
            return nothing
        try:
            for view in work.plan.views(task):
                found = prompting.target(prompt, view.wanted)
                if found is not None and view.index in (prompt.index, None):
                    regions, score = self._select(task, view, prompt, *found, work)
                    return Predicted(regions=(regions,), score=score, model_version=version)
        except CouldNotPredict as error:
            logger.warning("task %s: the click was not answered: %s", task.id, error)
            return NotPredicted(reason=str(error), refused=isinstance(error, MaskTooLarge))
        return nothing

    def _select(
        self,
        task: Task,
        view: View,
        prompt: prompting.Prompt,
        one: ControlVocabulary,
        number: int,
        work: _Work,
    ) -> tuple[bytes, float]:
        """The selected region as JSON, and its score. Raises CouldNotPredict."""
        picture = self._picture_for_click(task, view, work)
        segmenter = work.segmenters[choice_of(one)]

        def job() -> tuple[bytes, float]:
            with self._failures_as_ours():
                look = self._look(picture, choice_of(one), segmenter, (one,))
                scores = segmenter.score(look.state, self._vocabulary(one, segmenter))
                decision = one.decision(segmenter.decision(one.preset))
                mask = prompting.selected(scores, number, prompt, decision)
                score = round(float(np.clip(scores.presence[number], 0.0, 1.0)), 4)
                regions = write(
                    mask,
                    one,
                    one.sought[number],
                    region_id=hashlib.sha256(
                        repr((picture.key, view.place, prompt)).encode()
                    ).hexdigest()[:12],
                    score=score,
                    size_hw=look.size_hw,
                    index=view.index,
                )
                return json.dumps(regions, separators=(",", ":")).encode(), score

        key = ("click", picture.key, view.place, work.plan.version, prompt)
        ticket = self._device.submit(key, job)
        try:
            return ticket.wait(max(work.deadline - self._clock(), 0.0))
        except TimeoutError:
            raise BudgetSpent(self._limits.budget) from None

    def _picture_for_click(self, task: Task, view: View, work: _Work) -> _Picture:
        """The picture by its address where that was fetched lately, else fetched."""

        def fetched() -> bytes:
            return self._fetch(task, view.address, work)

        with self._lock:
            digest, since = self._recent.get((view.address, view.page), ("", -FRESH))
        if self._clock() - since < FRESH:
            return _Picture(
                digest, view.page, lambda: self._pictures.decode(fetched(), page=view.page)
            )
        data = fetched()
        digest = hashlib.sha256(data).hexdigest()
        self._note(view, digest)
        return _Picture(digest, view.page, lambda: self._pictures.decode(data, page=view.page))

    # -- on the device thread ---------------------------------------------------------

    def _compute(
        self, picture: _Picture, view: View, segmenters: Segmenters, *, seed: str
    ) -> ImageResult:
        """Look once per model, then score and decide per control.

        Raises CouldNotPredict, ConfigError.
        """
        with self._failures_as_ours():
            painted = []
            size_hw = (0, 0)
            for one in view.wanted:
                segmenter = segmenters[choice_of(one)]
                vocabulary = self._vocabulary(one, segmenter)
                look = self._look(picture, choice_of(one), segmenter, view.wanted)
                size_hw = look.size_hw
                decision = one.decision(segmenter.decision(one.preset))
                segmentation = decide(segmenter.score(look.state, vocabulary), decision)
                painted.append(Painted(one=one, segmentation=segmentation, decision=decision))
            return image_result(painted, size_hw=size_hw, index=view.index, seed=seed)

    def _look(
        self,
        picture: _Picture,
        choice: ModelChoice,
        segmenter: Segmenter,
        wanted: Sequence[ControlVocabulary],
    ) -> _Look:
        """What the model saw of a picture, from an earlier time if it is still there."""
        key = (picture.key, choice, segmenter.identity.profile)
        look = self._looks.get(key)
        if look is None:
            pixels = picture.unpack()
            self._refuse_brush_of(pixels, wanted)
            look = _Look(segmenter.observe(pixels), (pixels.shape[0], pixels.shape[1]))
            self._looks.put(key, look)
        return look

    @contextmanager
    def _failures_as_ours(self) -> Iterator[None]:
        """Raises CouldNotPredict, ConfigError or ModelFailed, whatever the model raised."""
        try:
            yield
        except (CouldNotPredict, ConfigError, ModelFailed):
            raise
        except CliperError as error:
            raise CouldNotPredict(str(error)) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory from error
            logger.exception("the model failed on a picture")
            kind = type(error).__name__
            raise CouldNotPredict(f"the model failed on this picture ({kind})") from error

    def _vocabulary(self, one: ControlVocabulary, segmenter: Segmenter) -> Vocabulary:
        key = (segmenter.identity.profile, one.reading)
        vocabulary = self._vocabularies.get(key)
        if vocabulary is None:
            with _model_errors_as_ours():
                vocabulary = segmenter.read(
                    one.labels, background=one.background, preset=one.preset
                )
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


def _tell_what_is_left(outcomes: Sequence[Outcome], budget: float) -> None:
    later = sum(isinstance(outcome, NotPredicted) and outcome.later for outcome in outcomes)
    if later:
        logger.warning(
            "%d of %d tasks are left after %g s: retrieve predictions again to go on",
            later,
            len(outcomes),
            budget,
        )


def _refuse_if_all_are(outcomes: Sequence[Outcome]) -> None:
    """A config that no task of the request can be answered under is an error of the config.

    Raises ConfigError, whose sentence an admin can read (protocol notes §1.7).
    """
    reasons = [one.reason for one in outcomes if isinstance(one, NotPredicted) and one.refused]
    if reasons and len(reasons) == len(outcomes):
        raise ConfigError(reasons[0])


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
