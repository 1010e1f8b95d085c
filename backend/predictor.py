"""The use case: tasks in, predictions out. Owns the device queue and the caches.

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
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from . import advice, prompting, streaming
from .batching import Batches
from .device import DeviceQueue, Lane, Shared, Ticket, gently
from .errors import (
    BudgetSpent,
    Busy,
    ConfigError,
    CouldNotPredict,
    DeviceLost,
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
from .labelstudio import label_config, options
from .labelstudio.tasks import PredictRequest, SetupRequest, Task
from .lessons import NothingLearnt, Teaching
from .looking import (
    Ahead,
    Look,
    Looking,
    Picture,
    Segmenters,
    Spend,
    answers,
    is_out_of_memory,
    model_errors_as_ours,
    spend_nothing,
)
from .metrics.meters import Meters
from .model_host import ModelHost
from .model_pool import ModelChoice, ModelPool
from .outcomes import ImageResult, NotPredicted, Outcome, Predicted, combined
from .plan import Plan, View, choice_of, taught, version_of, vocabularies
from .result_cache import ResultCache
from .storage.base import Scope
from .storage.memory import MemoryStorage
from .studying import Course, StudiedPicture
from .trail import carried, of_task
from .vocabulary import ControlVocabulary

logger = logging.getLogger(__name__)

AHEAD = 1  # pictures of a request that wait, beside the one it waits for
AHEAD_BYTES = 256 * 1_000_000  # of pictures that wait, where a batch holds more
REMEMBERED_VERSIONS = 20
REMEMBERED_PICTURES = 256  # whose bytes are known by their address, for clicks
FRESH = 300.0  # seconds such an address is believed
WORDS = re.compile("[A-Z][a-z]*")  # of an error's name
A_DAY = 86_400.0  # seconds; for ever, as far as a picture is concerned
MOST_READERS = 4  # threads that wait for a model, to read a config's words ahead
MOST_LATER = 200  # jobs of the device that nobody waits for
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
    state_bytes    looks at pictures kept in memory
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
class Desk:
    """A label config and the models it asks for, ready to work. For any thread."""

    plan: Plan
    segmenters: Segmenters
    scope: Scope = Scope()  # noqa: RUF009  # a frozen value


@dataclass(frozen=True, kw_only=True)
class _Work(Desk):
    """One request while it is worked on; belongs to one thread.

    lane  who waits for it
    keep  its pictures may be clicked on soon, and asked for again
    """

    hurry: Hurry
    lane: Lane = Lane.BULK
    keep: bool = True


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
        models: ModelPool,
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
        """`defaults`: values of `model_*` options for configs that name none. `keeping`: what
        outlives the process; without it nothing does. `unfinished` takes over what a request had
        no time for; it must answer at once. `teaching`: what corrections taught, by project.
        `answers`: whether a device still computes."""
        self._models, self._limits = models, limits
        self._defaults, self._clock = dict(defaults or {}), clock
        self._seats = threading.BoundedSemaphore(limits.waiting)
        self._readers = threading.BoundedSemaphore(MOST_READERS)
        self._meters = meters or Meters()
        self._fetching = Fetching(
            pictures, timeout=limits.fetch_timeout, meters=self._meters, clock=clock
        )
        self._device = DeviceQueue(failed=self._heard)
        self._unfinished = unfinished
        self._teaching = teaching or NothingLearnt()
        self._keeping = keeping or Keeping(MemoryStorage(max_blob_bytes=0))
        self._batches = Batches(limits.batch)
        self._looking = Looking(
            state_bytes=limits.state_bytes,
            brush_megapixels=limits.brush_megapixels,
            keeping=keeping,
            batches=self._batches,
            let_by=self._device.let_by,
            answers=lambda: answers(models.own.status.details.get("device")),
            meters=self._meters,
        )
        self._results: ResultCache[ImageResult] = ResultCache(max_bytes=limits.result_bytes)
        self._versions: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
        self._advised: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
        self._lock = threading.Lock()  # of what follows
        self._recent: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()

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
        return self._plan(asked.label_config, extra, asked.project)[0].version

    def versions(self) -> list[str]:
        """Versions given out lately, the newest first, by any process on the same store."""
        return self._keeping.versions() or list(reversed(self._versions))

    def storage_facts(self) -> Mapping[str, Any]:
        """For `/health`."""
        return self._keeping.facts()

    def device_facts(self) -> Mapping[str, Any]:
        """For `/health`; never waits for the device."""
        own = self._models.own
        segmenter = own.loaded
        return {
            "device_lost": own.status.reason if own.is_lost else None,
            "queue": {"waiting": self._device.waiting(), "looks": self._looking.looks},
            "batch": self._batches.facts(segmenter),
        }

    @property
    def device_takes_work(self) -> bool:
        """Whether the thread that owns the device is there; waits for nobody."""
        return self._device.takes_work

    def _heard(self, error: BaseException) -> None:
        """Models that are on a device that is lost are so for good."""
        if isinstance(error, DeviceLost):
            self._models.lose(error)

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
            budget = self._limits.budget
            hurry = Hurry(deadline=self._clock() + budget, budget=budget)
            extra = self._extra_of(request.project)
            desk = self._desk(request.label_config, extra, request.project)
            scope = self._keeping.scope(request.project)
            work = _Work(
                plan=desk.plan,
                segmenters=desk.segmenters,
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
        return self._desk(config, options.read_extra(extra_params), project)

    def study(self, task: Task, desk: Desk, *, most: int = 4) -> list[StudiedPicture]:
        """What learning needs to know of a task's first pictures, at a desk without corrections.

        Raises CouldNotPredict, ConfigError, ModelFailed.
        """
        with of_task(task.id):
            return [self._studied(task, view, desk) for view in desk.plan.views(task)[:most]]

    def _studied(self, task: Task, view: View, desk: Desk) -> StudiedPicture:
        picture = self._picture(task, view, desk)

        def study() -> StudiedPicture:
            with gently():
                return self._looking.studied(picture, view, desk.segmenters)

        key = ("study", picture.digest, view.place, desk.plan.version)
        return self._device.submit(key, study, Lane.WHENEVER).wait(A_DAY)

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
            ticket = self._device.submit(
                ("doubts", picture.digest, view.place, desk.plan.version),
                lambda picture=picture, view=view: self._looking.doubts(  # type: ignore[misc]
                    picture, view, desk.segmenters
                ),
                Lane.WHENEVER,
            )
            for name, share in ticket.wait(A_DAY).items():
                summed[name] = summed.get(name, 0.0) + share
        return summed

    def courses(self, desk: Desk) -> tuple[Course, ...]:
        """What there is to learn, control by control. Raises ConfigError, ModelFailed."""
        ticket = self._device.submit(
            ("courses", desk.plan.version),
            lambda: self._looking.courses(desk.plan, desk.segmenters),
            Lane.WHENEVER,
        )
        return ticket.wait(A_DAY)

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
            work = _Work(
                plan=desk.plan, segmenters=desk.segmenters, hurry=hurries.now(), keep=False
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
        with closing(streaming.stream(tasks, steps, batch=self._batch_of(desk))) as done:
            for task, results in done:
                yield task, self._told(task, results, desk)

    def close(self) -> None:
        """Let the device finish what runs, and nothing more."""
        self._device.close()
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

    def _extra_of(self, project: str | None) -> options.Values:
        """What the last `/setup` of the project said, if anybody remembers."""
        if project is None:
            return {}
        known = self._keeping.connection(self._keeping.scope(project))
        if known is None:
            logger.info("project %s: its extra parameters come with its next /setup", project)
            return {}
        try:
            return options.read_extra(known["extra_params"])
        except (ConfigError, KeyError, TypeError):  # of an earlier version of this program
            return {}

    def _desk(self, config: str, extra: options.Values, project: str | None) -> Desk:
        """Raises ConfigError, ModelLoading, ModelFailed."""
        plan, hosts = self._plan(config, extra, project)
        return Desk(
            plan=plan, segmenters={choice: host.segmenter() for choice, host in hosts.items()}
        )

    def _plan(
        self, config: str, extra: options.Values, project: str | None
    ) -> tuple[Plan, Mapping[ModelChoice, ModelHost]]:
        """What a config asks for, and who does it.

        Raises ConfigError, ModelLoading, ModelFailed.
        """
        read = label_config.parse(config)
        layers = ((options.EXTRA, extra), (options.ENVIRONMENT, self._defaults))
        wanted = vocabularies(read, layers)
        hosts = self._models.hosts(map(choice_of, wanted))
        identities = {choice: host.identity() for choice, host in hosts.items()}
        with model_errors_as_ours():
            for one in wanted:
                hosts[choice_of(one)].check_words(one.explicit_words)
        if project is not None:
            learned = self._teaching.of(self._keeping.scope(project))
            wanted = taught(wanted, identities, learned)
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
            self._keeping.keep_version(version)
            for warning in plan.warnings:
                logger.warning("label config of %s: %s", version, warning)
        if version not in self._advised and self._readers.acquire(blocking=False):
            self._advised.append(version)
            ahead = threading.Thread(
                target=carried(self._read_ahead), args=(plan, hosts), name="words", daemon=True
            )
            ahead.start()
        return plan, hosts

    def _read_ahead(self, plan: Plan, hosts: Mapping[ModelChoice, ModelHost]) -> None:
        """As soon as its models are there, the words of a config become rows, so that its first
        picture need not wait for them; then what will not work well goes on the log."""
        try:
            self._read_words(plan, hosts)
        finally:
            self._readers.release()

    def _read_words(self, plan: Plan, hosts: Mapping[ModelChoice, ModelHost]) -> None:
        for host in hosts.values():
            host.join()
        try:
            segmenters = {choice: host.segmenter() for choice, host in hosts.items()}
        except (ModelFailed, ModelLoading):  # whoever asks later finds it tried again
            with suppress(ValueError):
                self._advised.remove(plan.version)
            return
        for one in plan.wanted:  # a job each: whoever comes waits for one of them
            self._later(("words", one.reading), partial(self._looking.read_ahead, one, segmenters))
        for one in plan.wanted:
            for warning in advice.of_spelling(one):
                logger.warning("label config of %s: %s", plan.version, warning)
        self._later(("advice", plan.version), partial(self._looking.advise, plan, segmenters))

    def _later(self, key: Hashable, job: Callable[[], None]) -> None:
        """Work of the device's that nobody waits for; left undone where very much waits."""
        if self._device.waiting()[Lane.WHENEVER.name.lower()] >= MOST_LATER:
            return
        with suppress(RuntimeError):  # it takes no more jobs: we are going down
            self._device.submit(key, job, Lane.WHENEVER)

    def _in_a_good_order(self, tasks: Sequence[Task], work: _Work) -> list[Outcome]:
        """Pictures on servers that hung lately are tried last; the answers keep their order."""

        def may_hang(index: int) -> bool:
            return self._fetching.may_hang(work.plan.picture_addresses(tasks[index]))

        order = sorted(range(len(tasks)), key=may_hang)
        outcomes = self._outcomes([tasks[index] for index in order], work)
        by_index = dict(zip(order, outcomes, strict=True))
        return [by_index[index] for index in range(len(tasks))]

    def _outcomes(self, tasks: Sequence[Task], work: _Work) -> list[Outcome]:
        """Fetch the next pictures while the device works on the earlier ones.

        Of a task with many pictures no more are in memory than of many tasks.
        """
        done: list[list[ImageResult] | CouldNotPredict] = [[] for _ in tasks]
        begun: deque[_Begun] = deque()
        bulk = work.lane is Lane.BULK
        most = streaming.ON_DEVICE * self._batch_of(work) - 1 if bulk else AHEAD

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
                        found if isinstance(found, ImageResult) else self._wait(found, work.hurry)
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
        self, task: Task, view: View, work: _Work, *, follows: bool
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
            except (ConfigError, ModelFailed):
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
        work: _Work,
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
            self._note(view, digest)
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
        self._looking.refuse_brush((pixels.shape[0], pixels.shape[1]), view.wanted)
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
        ahead = None
        if lane is Lane.BULK:
            ahead = self._looking.ahead(
                unpacked.picture, unpacked.size_hw, view, desk.segmenters, keep=keep
            )

        def job() -> ImageResult:
            result = self._results.get(key)
            if result is None:
                result = self._looking.result(
                    unpacked.picture,
                    view,
                    desk.segmenters,
                    seed="|".join(key),
                    keep=keep,
                    spend=spend,
                    ahead=ahead,
                )
                self._results.put(key, result)
                if keep:
                    self._keeping.keep_result(desk.scope, key, result)
            return result

        shared = None if ahead is None else self._shared(ahead, follows=follows)
        with of_task(unpacked.task):
            return self._device.submit(key, job, lane, shared=shared)

    def _shared(self, ahead: Ahead, *, follows: bool) -> Shared:
        models = {choice: id(ahead.segmenters[choice]) for choice in ahead.buckets}
        return Shared(
            bucket=(tuple(models.items()), tuple(ahead.buckets.items())),
            subject=ahead,
            most=lambda: self._looking.together(ahead),
            begin=self._looking.look_ahead,
            follows=follows,
        )

    def _note(self, view: View, digest: str) -> None:
        """A click on this picture soon after need not fetch it again."""
        with self._lock:
            self._recent[_key_of(view)] = (digest, self._clock())
            self._recent.move_to_end(_key_of(view))
            while len(self._recent) > REMEMBERED_PICTURES:
                self._recent.popitem(last=False)

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

    def _wait(self, ticket: Ticket[Waited], hurry: Hurry) -> Waited:
        """What the device says, in time. Raises BudgetSpent, and as the job."""
        try:
            return ticket.wait(max(hurry.deadline - self._clock(), 0.0))
        except TimeoutError:
            raise BudgetSpent(hurry.budget) from None

    # -- one click --------------------------------------------------------------------

    def _answer(self, task: Task, context: Mapping[str, Any], work: _Work) -> Outcome:
        """The clicked label's region; nothing to add where no control can hold it."""
        version = work.plan.version
        prompt = prompting.read(context)
        nothing = Predicted(regions=(), score=None, model_version=version)
        if prompt is None:
            return nothing
        with of_task(task.id):
            try:
                answer = self._clicked(task, prompt, work) or nothing
            except CouldNotPredict as error:
                reason = shortened(str(error))
                logger.warning("task %s: the click was not answered: %s", task.id, reason)
                self._meters.task(error)
                return NotPredicted(reason=reason, refused=isinstance(error, MaskTooLarge))
        self._meters.task(None)
        return answer

    def _clicked(self, task: Task, prompt: prompting.Prompt, work: _Work) -> Predicted | None:
        """None where no control can hold the answer. Raises CouldNotPredict."""
        for view in work.plan.views(task):
            found = prompting.target(prompt, view.wanted)
            if found is not None and view.index in (prompt.index, None):
                regions, score = self._select(task, view, prompt, *found, work)
                return Predicted(regions=(regions,), score=score, model_version=work.plan.version)
        return None

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
        seen, digest = self._seen(task, view, choice_of(one), work)
        segmenter = work.segmenters[choice_of(one)]
        key = ("click", digest, view.place, work.plan.version, prompt)
        ticket = self._device.submit(
            key,
            lambda: self._looking.selection(
                seen, view, prompt, one, number, segmenter, seed=repr(key)
            ),
            work.lane,
        )
        return self._wait(ticket, work.hurry)

    def _seen(
        self, task: Task, view: View, choice: ModelChoice, work: _Work
    ) -> tuple[Look | Picture, str]:
        """An earlier look at a picture fetched lately, else the picture; and its digest."""
        with self._lock:
            digest, since = self._recent.get(_key_of(view), ("", -math.inf))
        if self._clock() - since < FRESH:
            known = self._looking.known(digest, view.page, choice)
            if known is not None:
                self._meters.asked_cache("looks", "memory")
                return known, digest
        data = self._fetching.fetch(task, view.address, work.hurry)
        digest = hashlib.sha256(data).hexdigest()
        self._note(view, digest)
        picture = Picture(
            digest, view.page, lambda: self._fetching.decode(data, page=view.page), work.scope
        )
        return picture, digest


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


def _key_of(view: View) -> tuple[str, int]:
    """An address by its digest: some hold the whole picture."""
    return hashlib.sha256(view.address.encode(errors="replace")).hexdigest(), view.page


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
