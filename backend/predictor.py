"""The use case: tasks in, predictions out. Owns the devices and the finished results.

Each task has one of three outcomes, never mixed:

    Predicted       masks, or none because nothing was found; Label Studio stores it
    NotPredicted    it could not be done this time; nothing is stored, it is asked again
    ModelNotReady   raised for the whole request: there is no model yet
"""

import hashlib
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from . import prompting, streaming
from .batching import Batches
from .clicks import Clicks, in_time
from .crew import Crew, Errand, Hands, Made
from .desks import Desk, Desks, Work
from .device import DeviceQueue, Lane, Ticket, gently
from .errors import (
    BudgetSpent,
    Busy,
    ConfigError,
    CouldNotPredict,
    MaskTooLarge,
    ModelFailed,
    ModelLoading,
    OutOfMemory,
    TooManyTasks,
    is_passing,
    shortened,
)
from .fetching import Fetching, Hurry, Pictures
from .keeping import Keeping
from .labelstudio import options
from .labelstudio.tasks import PredictRequest, SetupRequest, Task
from .lessons import NothingLearnt, Teaching
from .looking import (
    Looking,
    Picture,
    Segmented,
    Spend,
    answers,
    is_out_of_memory,
    refuse_brush,
    spend_nothing,
)
from .metrics.meters import Meters
from .model_pool import ModelPool
from .outcomes import ImageResult, NotPredicted, Outcome, Predicted, combined
from .plan import View, choice_of
from .result_cache import ResultCache
from .storage.memory import MemoryStorage
from .studying import Course, StudiedPicture
from .trail import of_task
from .vocabulary import ControlVocabulary

logger = logging.getLogger(__name__)

AHEAD = 1  # pictures of a request that wait for a device, beside those at work
AHEAD_BYTES = 256 * 1_000_000  # of pictures that wait, where a batch holds more
WORDS = re.compile("[A-Z][a-z]*")  # of an error's name
A_DAY = 86_400.0  # seconds; for ever, as far as a picture is concerned
FORGIVEN = 60.0  # seconds after which a stream asks a server again that hung

Waited = TypeVar("Waited")
Sees = Callable[[Task, View, UInt8[np.ndarray, "height width 3"]], None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the predictor may use up.

    budget         seconds one request may take
    fetch_timeout  seconds per picture
    waiting        requests at the same time
    tasks          of one request; the others are left for another
    result_bytes   finished results kept in memory
    state_bytes    looks at pictures kept in memory, of all devices together
    brush_megapixels  largest picture that gets brush masks
    batch          pictures looked at together; None: as many as the device makes something of
    """

    budget: float
    fetch_timeout: float
    waiting: int
    result_bytes: int
    tasks: int = 10_000
    state_bytes: int = 0
    brush_megapixels: float = 25.0
    batch: int | None = None


_Found = ImageResult | Ticket[ImageResult]
Unfinished = Callable[[str, Sequence[int]], None]  # project, numbers of tasks


@dataclass(frozen=True, kw_only=True)
class _Unpacked:
    """A picture fetched and unpacked, whose result nobody knows yet."""

    key: tuple[str, str, str]
    task: int | str | None
    picture: Picture
    size_hw: tuple[int, int]
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """One picture of a request under way, and of which task; see `_begin`."""

    number: int
    found: _Found | CouldNotPredict
    nbytes: int

    @property
    def waiting_bytes(self) -> int:
        waits = isinstance(self.found, Ticket) and not self.found.future.done()
        return self.nbytes if waits else 0


class Predictor:
    """Answers `/setup` and `/predict`; safe to use from many threads."""

    def __init__(
        self,
        models: ModelPool | Sequence[ModelPool],
        pictures: Pictures,
        limits: Limits,
        *,
        defaults: options.Values | None = None,
        keeping: Keeping | None = None,
        unfinished: Unfinished | None = None,
        teaching: Teaching | None = None,
        meters: Meters | None = None,
        answers: Callable[[str | None], bool] = answers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`models`: those of one device, or of each of several. `defaults`: values of `model_*`
        options for configs that name none. `keeping`: what outlives the process; without it
        nothing does. `unfinished` takes over what a request had no time for; it must answer at
        once. `teaching`: what corrections taught, by project. `answers`: whether a device still
        computes."""
        self._limits, self._clock = limits, clock
        self._seats = threading.BoundedSemaphore(limits.waiting)
        self._meters = meters or Meters()
        self._fetching = Fetching(
            pictures, timeout=limits.fetch_timeout, meters=self._meters, clock=clock
        )
        self._unfinished = unfinished
        self._keeping = keeping or Keeping(MemoryStorage(max_blob_bytes=0))
        self._batches = Batches(limits.batch)
        pools = [models] if isinstance(models, ModelPool) else list(models)

        def looking(device: str, queue: DeviceQueue, pool: ModelPool) -> Looking:
            return Looking(
                state_bytes=limits.state_bytes // len(pools),
                brush_megapixels=limits.brush_megapixels,
                keeping=keeping,
                batches=self._batches,
                let_by=queue.let_by,
                answers=lambda: answers(pool.own.status.details.get("device") or pool.device),
                meters=self._meters,
                device=device,
            )

        self.crew = Crew(pools, looking, meters=self._meters)
        self._desks = Desks(
            self.crew, self._keeping, teaching or NothingLearnt(), defaults=defaults or {}
        )
        self._results: ResultCache[ImageResult] = ResultCache(max_bytes=limits.result_bytes)
        self._clicks = Clicks(self.crew, self._fetching, meters=self._meters, clock=clock)

    # -- what the routes call ---------------------------------------------------------

    def setup(self, asked: SetupRequest) -> str:
        """Check a label config and name the version its predictions will carry.

        Keeps the connection's `extra_params` for the project: later requests do not carry them.
        Runs no model. Raises ConfigError, ModelLoading, ModelFailed.
        """
        extra: options.Values = {}
        given = None
        try:
            extra = options.read_extra(asked.extra_params)
            given = asked.extra_params
        finally:  # refused ones do not leave earlier ones in force
            if asked.project is not None:
                said = {"extra_params": given, "hostname": asked.hostname}
                self._keeping.keep_connection(self._keeping.scope(asked.project), said)
        return self._desks.plan(asked.label_config, extra, asked.project).version

    def versions(self) -> list[str]:
        """Versions given out lately, the newest first, by any process on the same store."""
        return self._desks.versions()

    def storage_facts(self) -> Mapping[str, Any]:
        """For `/health`."""
        return self._keeping.facts()

    def device_facts(self) -> Mapping[str, Any]:
        """For `/health`; never waits for a device."""
        loaded = self.crew.leading.models.own.loaded
        return {**self.crew.facts(), "batch": self._batches.facts(loaded)}

    def look_at_store(self) -> None:
        """Find out, some time soon, whether there is anything wrong with it."""
        self._keeping.look_at_store()

    def predict(self, request: PredictRequest) -> list[Outcome]:
        """One outcome per task, in order, within the time budget.

        Raises ConfigError, ModelLoading, ModelFailed or Busy for the request as a whole.
        """
        if not request.tasks:
            return []
        with self._seat():
            hurry = self._hurry()
            extra = self._desks.extra_of(request.project)
            desk = self._desks.of(request.label_config, extra, request.project)
            scope = self._keeping.scope(request.project)
            work = Work(
                plan=desk.plan,
                segmenters=desk.segmenters,
                team=desk.team,
                hurry=hurry,
                scope=scope,
                lane=lane_of(request),
            )
            tasks = request.tasks[: self._limits.tasks]
            outcomes = (
                self._in_a_good_order(tasks, work)
                if request.context is None
                else [self._answer(task, request.context, work) for task in tasks]
            )
            outcomes += self._left_out(len(request.tasks), len(tasks))
        self._tell_what_is_left(request, outcomes)
        _refuse_if_all_are(outcomes)
        return outcomes

    def _left_out(self, asked: int, taken: int) -> list[Outcome]:
        """An outcome for each task beyond those that were taken on."""
        if asked == taken:
            return []
        why = TooManyTasks(asked, self._limits.tasks)
        self._meters.task(why, times=asked - taken)
        left = NotPredicted(reason=str(why), later=True, kind=kind_of(why))
        return [left] * (asked - taken)

    def desk(self, config: str, extra_params: object = None, *, project: str | None = None) -> Desk:
        """A label config ready for many tasks, with what its connection says.

        `project`: whose corrections taught something; without it nothing was learnt.
        Raises ConfigError, ModelLoading, ModelFailed.
        """
        return self._desks.of(config, options.read_extra(extra_params), project)

    def desk_of(self, config: str, project: str | None) -> Desk:
        """A label config as a request of the project would find it: with what its connection says
        and what was learnt there. Its version is given out to nobody.

        Raises ConfigError, ModelLoading, ModelFailed.
        """
        return self._desks.of(config, self._desks.extra_of(project), project, noted=False)

    def fetched(self, task: Task, view: View) -> bytes:
        """The file of a picture. Raises ImageError, BudgetSpent."""
        return self._fetching.fetch(task, view.address, self._hurry())

    def decoded(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """A file as displayed. Raises ImageError."""
        return self._fetching.decode(data, page=page)

    def refuse_brush(self, size_hw: tuple[int, int], wanted: Sequence[ControlVocabulary]) -> None:
        """Raises MaskTooLarge where a request would get no masks of such a picture."""
        refuse_brush(size_hw, wanted, megapixels=self._limits.brush_megapixels)

    def segmented(self, picture: Picture, view: View, desk: Desk, config: str) -> list[Segmented]:
        """What `predict` would write of a picture, before it is written; somebody waits for it.

        `config` as it was written, with colours and all. Raises CouldNotPredict, ConfigError,
        ModelFailed, ModelLoading or Busy.
        """

        def made(hands: Hands) -> Made:
            return Made(run=lambda: hands.looking.segmented(picture, view, hands.segmenters))

        errand = Errand(
            key=("segmented", picture.digest, picture.page, view.place, desk.plan.version, config),
            made=made,
            lane=Lane.PEOPLE,
            team=desk.team,
            seen=lambda hands: _remembers(hands, picture, view),
        )
        with self._seat():
            found: list[Segmented] = in_time(self.crew.submit(errand), self._hurry(), self._clock)
        return found

    def _hurry(self) -> Hurry:
        budget = self._limits.budget
        return Hurry(deadline=self._clock() + budget, budget=budget)

    def study(self, task: Task, desk: Desk, *, most: int = 4) -> list[StudiedPicture]:
        """What learning needs to know of a task's first pictures, at a desk without corrections.

        Raises CouldNotPredict, ConfigError, ModelFailed.
        """
        with of_task(task.id):
            return [self._studied(task, view, desk) for view in desk.plan.views(task)[:most]]

    def _studied(self, task: Task, view: View, desk: Desk) -> StudiedPicture:
        picture = self._picture(task, view, desk)

        def study(hands: Hands) -> StudiedPicture:
            with gently():
                return hands.looking.studied(picture, view, hands.segmenters)

        key = ("study", picture.digest, view.place, desk.plan.version)
        return self._some_time(key, study, desk)

    def _some_time(self, key: Hashable, job: Callable[[Hands], Waited], desk: Desk) -> Waited:
        """What nobody looks forward to; waits for it."""
        errand = Errand(
            key=key,
            made=lambda hands: Made(run=partial(job, hands)),
            lane=Lane.WHENEVER,
            team=desk.team,
        )
        found: Waited = self.crew.submit(errand).wait(A_DAY)
        return found

    def _picture(self, task: Task, view: View, desk: Desk) -> Picture:
        """A picture fetched, with no deadline. Raises CouldNotPredict."""
        hurry = Hurry(deadline=math.inf, budget=math.inf)
        data = self._fetching.fetch(task, view.address, hurry)
        digest = hashlib.sha256(data).hexdigest()
        return Picture(
            digest, view.page, lambda: self._fetching.decode(data, page=view.page), desk.scope
        )

    def doubts(self, task: Task, desk: Desk) -> dict[tuple[str, str], float]:
        """How much of a task's pictures may or may not be a label: control and result name ->
        summed mean of p (1 - p); empty where no method can learn.

        Raises CouldNotPredict, ConfigError, ModelFailed.
        """
        summed: dict[tuple[str, str], float] = {}
        for view in desk.plan.views(task):
            picture = self._picture(task, view, desk)
            key = ("doubts", picture.digest, view.place, desk.plan.version)
            told = self._some_time(key, partial(_doubts, picture, view), desk)
            for name, share in told.items():
                summed[name] = summed.get(name, 0.0) + share
        return summed

    def courses(self, desk: Desk) -> tuple[Course, ...]:
        """What there is to learn, control by control. Raises ConfigError, ModelFailed."""
        return self._some_time(
            ("courses", desk.plan.version),
            lambda hands: hands.looking.courses(desk.plan, hands.segmenters),
            desk,
        )

    def stream(
        self,
        tasks: Iterable[Task],
        desk: Desk,
        spend: Spend = spend_nothing,
        sees: Sees | None = None,
    ) -> Iterator[tuple[Task, Outcome]]:
        """Every task once, in the order they are done; for as many tasks as there are.

        No time budget, and no seat: requests go on beside it. One of a single task waits for a
        step at most, one of many for the pictures that are on the device already.
        Pictures are not kept for clicks. `spend` hears the seconds of download, decode, model and
        encode, from several threads. `sees` is shown every picture, also those whose result is
        known, from several threads. Raises ConfigError, ModelFailed, which are everybody's.
        """
        hurries = _Hurries(self._clock)

        def unpack(task: Task, view: View) -> ImageResult | _Unpacked | CouldNotPredict:
            work = Work(
                plan=desk.plan,
                segmenters=desk.segmenters,
                team=desk.team,
                hurry=hurries.now(),
                keep=False,
            )
            return self._mine(task, lambda: self._unpack(task, view, work, spend, sees))

        def views(task: Task) -> list[View]:
            found = self._mine(task, lambda: desk.plan.views(task))
            if isinstance(found, CouldNotPredict):
                raise found
            return found

        steps = streaming.Steps(
            views=views,
            unpack=unpack,
            queue=lambda view, ready, follows: self._queue(
                view, ready, desk, keep=False, spend=spend, follows=follows
            ),
        )
        flow = streaming.stream(tasks, steps, batch=self._batch_of(desk), devices=self.crew.count)
        with closing(flow) as done:
            for task, results in done:
                yield task, self._told(task, results, desk)

    def close(self) -> None:
        """Let every device finish what runs, and nothing more."""
        self.crew.close()
        self._keeping.close()

    # -- one request ------------------------------------------------------------------

    @contextmanager
    def _seat(self) -> Iterator[None]:
        if not self._seats.acquire(blocking=False):
            raise Busy(self._limits.waiting)
        try:
            yield
        finally:
            self._seats.release()

    def _in_a_good_order(self, tasks: Sequence[Task], work: Work) -> list[Outcome]:
        """Pictures on servers that hung lately are tried last; the answers keep their order."""

        def may_hang(index: int) -> bool:
            return self._fetching.may_hang(work.plan.picture_addresses(tasks[index]))

        order = sorted(range(len(tasks)), key=may_hang)
        outcomes = self._outcomes([tasks[index] for index in order], work)
        by_index = dict(zip(order, outcomes, strict=True))
        return [by_index[index] for index in range(len(tasks))]

    def _outcomes(self, tasks: Sequence[Task], work: Work) -> list[Outcome]:
        """Fetch the next pictures while the device works on the earlier ones.

        Of a task with many pictures no more are in memory than of many tasks.
        """
        done: list[list[ImageResult] | CouldNotPredict] = [[] for _ in tasks]
        begun: deque[_Begun] = deque()
        devices = self.crew.count()
        ahead = AHEAD * devices
        bulk = work.lane is Lane.BULK
        most = streaming.ON_DEVICE * devices * self._batch_of(work) - 1 if bulk else ahead

        def many() -> bool:
            if len(begun) <= AHEAD:
                return False
            return len(begun) > most or sum(one.waiting_bytes for one in begun) >= AHEAD_BYTES

        def settle() -> None:
            number, found = begun[0].number, begun.popleft().found
            results = done[number]
            try:
                if isinstance(found, CouldNotPredict):
                    raise found
                if not isinstance(results, CouldNotPredict):
                    results.append(
                        found
                        if isinstance(found, ImageResult)
                        else in_time(found, work.hurry, self._clock)
                    )
            except CouldNotPredict as error:
                done[number] = error
            finally:
                _leave(found)

        try:
            for number, task in enumerate(tasks):
                try:
                    views = work.plan.views(task)
                except CouldNotPredict as error:
                    done[number] = error
                    continue
                for place, view in enumerate(views, start=1):
                    if isinstance(done[number], CouldNotPredict):
                        break
                    last = number == len(tasks) - 1 and place == len(views)
                    follows = not last and len(begun) < most
                    found, nbytes = self._begin(task, view, work, follows=follows)
                    begun.append(_Begun(number=number, found=found, nbytes=nbytes))
                    while many():
                        settle()
            while begun:
                settle()
        finally:
            for one in begun:
                _leave(one.found)
        return [self._told(task, found, work) for task, found in zip(tasks, done, strict=True)]

    def _begin(
        self, task: Task, view: View, work: Work, *, follows: bool
    ) -> tuple[_Found | CouldNotPredict, int]:
        """Fetch a picture and queue what is not known yet; and how many bytes it holds meanwhile.

        Raises ConfigError and ModelFailed, which are everybody's.
        """

        def begun() -> tuple[_Found, int]:
            found = self._unpack(task, view, work)
            if isinstance(found, ImageResult):
                return found, 0
            self._fetching.left(work.hurry)
            ticket = self._queue(view, found, work, lane=work.lane, follows=follows)
            return ticket, found.nbytes

        found = self._mine(task, begun)
        return (found, 0) if isinstance(found, CouldNotPredict) else found

    def _batch_of(self, desk: Desk) -> int:
        """How many pictures its models look at together at most."""
        return max(map(self._batches.size, desk.segmenters.values()), default=1)

    def _mine(self, task: Task, step: Callable[[], Waited]) -> Waited | CouldNotPredict:
        """Whatever a picture brings about, it is this task's trouble and no other's.

        Raises ConfigError and ModelFailed, which are everybody's.
        """
        with of_task(task.id):
            try:
                return step()
            except CouldNotPredict as error:
                return error
            except (ConfigError, ModelFailed, ModelLoading):
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    return OutOfMemory()
                logger.exception("the picture of task %s could not be had", task.id)
                kind = type(error).__name__
                return CouldNotPredict(f"the picture could not be had ({kind})")

    def _unpack(
        self,
        task: Task,
        view: View,
        work: Work,
        spend: Spend = spend_nothing,
        sees: Sees | None = None,
    ) -> ImageResult | _Unpacked:
        """The result for one picture if it is known, else the picture.

        The key is the picture's content, not its address: a picture mended in place is
        new, and one that was asked twice is the same.
        """
        begun = time.perf_counter()
        data = self._fetching.fetch(task, view.address, work.hurry)
        spend("download", time.perf_counter() - begun)
        digest = hashlib.sha256(data).hexdigest()
        if work.keep:
            self._clicks.note(view, digest)
        key = (digest, view.place, work.plan.version)
        known, found = self._results.get(key), "memory"
        if known is None and work.keep:
            known, found = self._keeping.result(work.scope, key), "store"
        self._meters.asked_cache("results", found if known is not None else "nowhere")
        if known is not None and sees is None:
            return known
        begun = time.perf_counter()
        pixels = self._fetching.decode(data, page=view.page)
        spend("decode", time.perf_counter() - begun)
        if sees is not None:
            sees(task, view, pixels)
        if known is not None:
            return known
        refuse_brush(
            (pixels.shape[0], pixels.shape[1]),
            view.wanted,
            megapixels=self._limits.brush_megapixels,
        )
        picture = Picture(digest, view.page, lambda: pixels, work.scope)
        size_hw = (pixels.shape[0], pixels.shape[1])
        return _Unpacked(
            key=key, task=task.id, picture=picture, size_hw=size_hw, nbytes=pixels.nbytes
        )

    def _queue(
        self,
        view: View,
        unpacked: _Unpacked,
        desk: Desk,
        *,
        lane: Lane = Lane.BULK,
        keep: bool = True,
        spend: Spend = spend_nothing,
        follows: bool = False,
    ) -> Ticket[ImageResult]:
        """A place in the queue; whoever asks for the same at the same time shares it.

        `follows`: another picture is on its way."""
        key = unpacked.key

        def made(hands: Hands) -> Made:
            looking, ahead = hands.looking, None
            if lane is Lane.BULK:
                ahead = looking.ahead(
                    unpacked.picture, unpacked.size_hw, view, hands.segmenters, keep=keep
                )

            def job() -> ImageResult:
                result = self._results.get(key)
                if result is None:
                    result = looking.result(
                        unpacked.picture,
                        view,
                        hands.segmenters,
                        seed="|".join(key),
                        keep=keep,
                        spend=spend,
                        ahead=ahead,
                    )
                    self._results.put(key, result)
                    if keep:
                        self._keeping.keep_result(desk.scope, key, result)
                return result

            shared = None if ahead is None else looking.shared(ahead, follows=follows)
            return Made(run=job, shared=shared)

        errand = Errand(
            key=key,
            made=made,
            lane=lane,
            team=desk.team,
            seen=lambda hands: _remembers(hands, unpacked.picture, view),
        )
        with of_task(unpacked.task):
            return self.crew.submit(errand)

    def _tell_what_is_left(self, request: PredictRequest, outcomes: Sequence[Outcome]) -> None:
        left = [
            task.id
            for task, outcome in zip(request.tasks, outcomes, strict=True)
            if isinstance(outcome, NotPredicted) and outcome.later
        ]
        if not left:
            return
        what = f"{len(left)} of {len(outcomes)} tasks are left after {self._limits.budget:g} s"
        numbers = [one for one in left if isinstance(one, int)]
        if self._unfinished is None or request.project is None or not numbers:
            logger.warning(
                "%s: retrieve predictions again to go on, or use 'cliper prelabel'", what
            )
            return
        logger.warning("%s: a job goes on with them in the background", what)
        self._unfinished(request.project, numbers)

    def _told(
        self, task: Task, results: list[ImageResult] | CouldNotPredict, desk: Desk
    ) -> Outcome:
        """A task's outcome; why it has none is on the log."""
        if not isinstance(results, CouldNotPredict):
            self._meters.task(None)
            return combined(results, desk.plan.version)
        self._meters.task(results)
        late = isinstance(results, BudgetSpent)
        level = logging.DEBUG if late else logging.WARNING
        reason = shortened(str(results))
        with of_task(task.id):
            logger.log(level, "task %s not predicted: %s", task.id, reason)
        return NotPredicted(
            reason=reason,
            later=late,
            refused=isinstance(results, MaskTooLarge),
            passing=is_passing(results),
            kind=kind_of(results),
        )

    # -- one click --------------------------------------------------------------------

    def _answer(self, task: Task, context: Mapping[str, Any], work: Work) -> Outcome:
        """The clicked label's region; nothing to add where no control can hold it."""
        version = work.plan.version
        prompt = prompting.read(context)
        nothing = Predicted(regions=(), score=None, model_version=version)
        if prompt is None:
            return nothing
        with of_task(task.id):
            try:
                answer = self._clicks.answer(task, prompt, work) or nothing
            except CouldNotPredict as error:
                reason = shortened(str(error))
                logger.warning("task %s: the click was not answered: %s", task.id, reason)
                self._meters.task(error)
                return NotPredicted(reason=reason, refused=isinstance(error, MaskTooLarge))
        self._meters.task(None)
        return answer


def _doubts(picture: Picture, view: View, hands: Hands) -> dict[tuple[str, str], float]:
    return hands.looking.doubts(picture, view, hands.segmenters)


def _remembers(hands: Hands, picture: Picture, view: View) -> bool:
    """Whether a device need not look again, for one of the models at least."""
    choices = {choice_of(one) for one in view.wanted}
    known = hands.looking.known
    return any(known(picture.digest, picture.page, choice) is not None for choice in choices)


def lane_of(request: PredictRequest) -> Lane:
    """Who waits for a request: of one task somebody who opens a page, or clicks."""
    alone = len(request.tasks) == 1 or request.context is not None
    return Lane.PEOPLE if alone else Lane.BULK


def _refuse_if_all_are(outcomes: Sequence[Outcome]) -> None:
    """A config that no task of the request can be answered under is an error of the config.

    Raises ConfigError, whose sentence an admin can read (protocol notes §1.7).
    """
    reasons = [one.reason for one in outcomes if isinstance(one, NotPredicted) and one.refused]
    if reasons and len(reasons) == len(outcomes):
        raise ConfigError(reasons[0])


class _Hurries:
    """No deadline, but who hung is asked again after a while; for many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._begun = clock, -math.inf
        self._lock = threading.Lock()
        self._hurry = Hurry(deadline=math.inf, budget=math.inf)

    def now(self) -> Hurry:
        with self._lock:
            if self._clock() - self._begun > FORGIVEN:
                self._begun = self._clock()
                self._hurry = Hurry(deadline=math.inf, budget=math.inf)
            return self._hurry


def kind_of(error: CouldNotPredict) -> str:
    """A word or two: `budget spent`."""
    return " ".join(WORDS.findall(type(error).__name__)).lower()


def _leave(found: _Found | CouldNotPredict) -> None:
    if isinstance(found, Ticket):
        found.leave()
