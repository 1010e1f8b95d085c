"""Many pictures, in any order: the next ones are fetched and unpacked while the device works.

Knows nothing of models: who unpacks and who queues is given. Memory stays bounded whatever the
number of tasks: at most `AHEAD` pictures wait or are being fetched, and no new one is begun while
those that wait take more than `AHEAD_BYTES`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def stream(tasks: Iterable[Task], steps: Steps[Ready]) -> Iterator[tuple[Task, Results]]:
    """Every task once, with its pictures' results in their order, as soon as it is done.

    Whatever a picture brings about is its task's trouble and no other's; what is everybody's
    (anything else than CouldNotPredict is raised) ends the stream.
    """
    source = iter(tasks)
    fetching: dict[Future[Any], _Place] = {}
    waiting: deque[tuple[_Place, Ready]] = deque()
    working: dict[Future[Any], tuple[_Place, Ticket[ImageResult]]] = {}
    workers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")

    def room() -> bool:
        few = len(fetching) + len(waiting) < AHEAD
        return few and sum(ready.nbytes for _, ready in waiting) < AHEAD_BYTES

    try:
        while True:
            while room() and (task := next(source, None)) is not None:
                try:
                    views = steps.views(task)
                except CouldNotPredict as error:
                    yield task, error
                    continue
                if not views:
                    yield task, []
                    continue
                given = _Given(task, len(views))
                for number, view in enumerate(views):
                    place = _Place(given=given, number=number, view=view)
                    fetching[workers.submit(steps.unpack, task, view)] = place
            while waiting and len(working) < ON_DEVICE:
                place, ready = waiting.popleft()
                ticket = steps.queue(place.view, ready)
                working[ticket.future] = (place, ticket)
            if not fetching and not working:
                return
            for future in wait([*fetching, *working], return_when=FIRST_COMPLETED).done:
                if future in fetching:
                    place, found = fetching.pop(future), future.result()
                    if not isinstance(found, ImageResult | CouldNotPredict):
                        waiting.append((place, found))
                        continue
                else:
                    place, ticket = working.pop(future)
                    found = _outcome(ticket)
                place.given.settle(place.number, found)
                if not place.given.open:
                    yield place.given.task, place.given.told()
    finally:
        for _, ticket in working.values():
            ticket.leave()
        workers.shutdown(wait=True, cancel_futures=True)


def _outcome(ticket: Ticket[ImageResult]) -> ImageResult | CouldNotPredict:
    try:
        return ticket.wait(0.0)
    except CouldNotPredict as error:
        return error
