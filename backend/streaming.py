"""Many pictures, in any order: the next ones are fetched and unpacked while the device works.

Knows nothing of models: who unpacks and who queues is given. Memory stays bounded whatever the
number of tasks and of pictures per task: at most `AHEAD` pictures wait or are being fetched, at
most `FETCHERS` of them are being fetched, and no new one is begun while those that wait take
`AHEAD_BYTES` or more.
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

AHEAD = 8  # pictures being fetched or waiting for the device
AHEAD_BYTES = 256 * 1_000_000  # of pictures that wait
FETCHERS = 3  # pictures fetched and unpacked at the same time
ON_DEVICE = 2  # one works, one waits: whoever comes in between waits for two pictures at most


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
    queue   puts a picture on the device
    """

    views: Callable[[Task], Sequence[View]]
    unpack: Callable[[Task, View], ImageResult | Ready | CouldNotPredict]
    queue: Callable[[View, Ready], Ticket[ImageResult]]


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


def stream(
    tasks: Iterable[Task], steps: Steps[Ready]
) -> Generator[tuple[Task, Results], None, None]:
    """Every task once, with its pictures' results in their order, as soon as it is done.

    Whatever a picture brings about is its task's trouble and no other's; what is everybody's
    (anything else than CouldNotPredict is raised) ends the stream.
    """
    source = iter(tasks)
    open_places: deque[_Place] = deque()  # of the task begun last: addresses, no pictures yet
    fetching: dict[Future[Any], _Place] = {}
    waiting: deque[tuple[_Place, Ready]] = deque()
    working: dict[Future[Any], list[tuple[_Place, Ticket[ImageResult]]]] = {}
    workers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")

    def room() -> bool:
        few = len(fetching) < FETCHERS and len(fetching) + len(waiting) < AHEAD
        return few and sum(ready.nbytes for _, ready in waiting) < AHEAD_BYTES

    try:
        while True:
            while room():
                if open_places:
                    place = open_places.popleft()
                    unpacking = workers.submit(steps.unpack, place.given.task, place.view)
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
            while waiting and _count(working) < ON_DEVICE:
                place, ready = waiting.popleft()
                ticket = steps.queue(place.view, ready)
                # equal pictures share one job, and so one future
                working.setdefault(ticket.future, []).append((place, ticket))
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
                    settled += [(place, _outcome(ticket)) for place, ticket in working.pop(future)]
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
            for _, ticket in shared:
                ticket.leave()
        workers.shutdown(wait=True, cancel_futures=True)


def _count(working: Mapping[Future[Any], Sequence[object]]) -> int:
    return sum(map(len, working.values()))


def _outcome(ticket: Ticket[ImageResult]) -> ImageResult | CouldNotPredict:
    try:
        return ticket.wait(0.0)
    except CouldNotPredict as error:
        return error
