"""Many pictures, in any order: the next ones are fetched and unpacked while the device works.

Knows nothing of models: who unpacks and who queues is given. Memory stays bounded whatever the
number of tasks and of pictures per task: at most `AHEAD` pictures wait or are being fetched, at
most `FETCHERS` of them are being fetched, and no new one is begun while those that wait take
`AHEAD_BYTES` or more. Where pictures are looked at together as many are on the device as two
batches hold, unless they take as many bytes once more. With several devices as many times as many
pictures are on their way, as long as the bytes allow; whatever they take, every device has one.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .device import Ticket
from .errors import CouldNotPredict
from .labelstudio.tasks import Task
from .outcomes import ImageResult
from .plan import View
from .trail import carried

AHEAD = 8  # pictures being fetched or waiting for a device; two batches, if that is more
AHEAD_BYTES = 256 * 1_000_000  # of pictures that wait
FETCHERS = 3  # pictures fetched and unpacked at the same time, for each device
MOST_FETCHERS = 24  # of them, however many devices there are
ON_DEVICE = 2  # batches: one works, one waits, so that the device has always something to do


class Unpacked(Protocol):
    """A picture ready for the device."""

    @property
    def nbytes(self) -> int: ...


Ready = TypeVar("Ready", bound=Unpacked)
Results = list[ImageResult] | CouldNotPredict


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[Ready]):
    """What becomes of a task.

    views   its pictures; raises CouldNotPredict
    unpack  from any thread: a result that is known already, a picture for the device, or why not
    queue   puts a picture on the device; told whether another one is on its way
    """

    views: Callable[[Task], Sequence[View]]
    unpack: Callable[[Task, View], ImageResult | Ready | CouldNotPredict]
    queue: Callable[[View, Ready, bool], Ticket[ImageResult]]


class _Given:
    """A task under way: its pictures' results by their places, and how many are open."""

    def __init__(self, task: Task, pictures: int) -> None:
        self.task, self.open = task, pictures
        self.results: list[ImageResult | None] = [None] * pictures
        self.error: CouldNotPredict | None = None

    def settle(self, place: int, found: ImageResult | CouldNotPredict) -> None:
        self.open -= 1
        if isinstance(found, CouldNotPredict):
            self.error = self.error or found
        else:
            self.results[place] = found

    def told(self) -> Results:
        return self.error or [result for result in self.results if result is not None]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One picture of a task under way."""

    given: _Given
    number: int
    view: View


@dataclass(frozen=True, kw_only=True)
class _Queued:
    """A picture on the device."""

    place: _Place
    ticket: Ticket[ImageResult]
    nbytes: int


def stream(
    tasks: Iterable[Task],
    steps: Steps[Ready],
    *,
    batch: int = 1,
    devices: Callable[[], int] = lambda: 1,
) -> Generator[tuple[Task, Results], None, None]:
    """Every task once, with its pictures' results in their order, as soon as it is done.

    `batch`: how many pictures a device looks at together. `devices`: how many there are; asked
    again and again, since it may change.
    Whatever a picture brings about is its task's trouble and no other's; what is everybody's
    (anything else than CouldNotPredict is raised) ends the stream.
    """
    source = iter(tasks)
    open_places: deque[_Place] = deque()  # of the task begun last: addresses, no pictures yet
    fetching: dict[Future[Any], _Place] = {}
    waiting: deque[tuple[_Place, Ready]] = deque()
    working: dict[Future[Any], list[_Queued]] = {}
    workers = ThreadPoolExecutor(MOST_FETCHERS, thread_name_prefix="fetch")

    def room() -> bool:
        fetchers = min(FETCHERS * devices(), MOST_FETCHERS)
        ahead = max(AHEAD, 2 * batch) * devices()
        few = len(fetching) < fetchers and len(fetching) + len(waiting) < ahead
        return few and sum(ready.nbytes for _, ready in waiting) < AHEAD_BYTES

    def on_devices() -> int:
        return ON_DEVICE * batch * devices()

    def idle() -> bool:
        queued = [one for shared in working.values() for one in shared]
        if len(queued) <= devices():  # one each, and one that waits
            return True
        return len(queued) < on_devices() and sum(one.nbytes for one in queued) < AHEAD_BYTES

    try:
        while True:
            while room():
                if open_places:
                    place = open_places.popleft()
                    unpacking = workers.submit(carried(steps.unpack), place.given.task, place.view)
                    fetching[unpacking] = place
                    continue
                if (task := next(source, None)) is None:
                    break
                try:
                    views = steps.views(task)
                except CouldNotPredict as error:
                    yield task, error
                    continue
                if not views:
                    yield task, []
                    continue
                given = _Given(task, len(views))
                open_places.extend(
                    _Place(given=given, number=number, view=view)
                    for number, view in enumerate(views)
                )
            while waiting and idle():
                place, ready = waiting.popleft()
                follows = bool(waiting or fetching) and _count(working) + 1 < on_devices()
                ticket = steps.queue(place.view, ready, follows)
                # equal pictures share one job, and so one future
                working.setdefault(ticket.future, []).append(
                    _Queued(place=place, ticket=ticket, nbytes=ready.nbytes)
                )
                del ready  # the device lets go of it
            if not fetching and not working:
                return
            for future in wait([*fetching, *working], return_when=FIRST_COMPLETED).done:
                settled: list[tuple[_Place, ImageResult | CouldNotPredict]] = []
                if future in fetching:
                    place, found = fetching.pop(future), future.result()
                    if isinstance(found, ImageResult | CouldNotPredict):
                        settled.append((place, found))
                    else:
                        waiting.append((place, found))
                else:
                    settled += [(one.place, _outcome(one.ticket)) for one in working.pop(future)]
                for place, result in settled:
                    place.given.settle(place.number, result)
                    if isinstance(result, CouldNotPredict):  # what is left of it can be spared
                        while open_places and open_places[0].given is place.given:
                            given, rest = place.given, open_places.popleft()
                            given.settle(rest.number, result)
                    if not place.given.open:
                        yield place.given.task, place.given.told()
    finally:
        for shared in working.values():
            for one in shared:
                one.ticket.leave()
        workers.shutdown(wait=True, cancel_futures=True)


def _count(working: Mapping[Future[Any], Sequence[object]]) -> int:
    return sum(map(len, working.values()))


def _outcome(ticket: Ticket[ImageResult]) -> ImageResult | CouldNotPredict:
    try:
        return ticket.wait(0.0)
    except CouldNotPredict as error:
        return error
