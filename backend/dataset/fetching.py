"""Tasks of a list -> their pictures, unpacked: several at a time, in order, never all at once."""

import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from ..errors import (
    CouldNotPredict,
    ImageBroken,
    ImageMissing,
    ImageTooLarge,
    OutOfMemory,
    Unreachable,
    is_passing,
    shortened,
)
from ..looking import is_out_of_memory, refuse_brush
from ..outcomes import NotPredicted
from ..plan import Plan, View
from ..predictor import kind_of
from .places import Place
from .rows import Fetched, Given, Seen

logger = logging.getLogger(__name__)

FETCHERS = 8  # pictures fetched at the same time: they wait for servers most of the time
AHEAD_BYTES = 256 * 1_000_000  # of unpacked pictures that wait
A_PICTURE = 64 * 1_000_000  # bytes taken for one that is being fetched, until others are known
MOST_TASK_BYTES = 1_000_000_000  # of all pictures of a task, unpacked
ROWS_AT_ONCE = 16  # of a Parquet file that holds pictures
AGAIN = (3.0, 15.0)  # seconds before a server that did not answer is asked again


class Pictures(Protocol):
    """Pictures by the address in a task's data; `backend.images` offers it."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        """Raises ImageError."""
        ...

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """Raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one picture may take.

    timeout     seconds for its bytes
    max_bytes   as fetched
    brush_megapixels  largest picture that gets brush masks
    """

    timeout: float
    max_bytes: int
    brush_megapixels: float


class DatasetFetching:
    """Fetches and unpacks; safe to use from many threads."""

    def __init__(
        self,
        pictures: Pictures,
        bounds: Bounds,
        place: Place | None = None,
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`place`: of the data set, on whose file system its pictures lie; None: they are where
        their tasks' data say. `wait` pauses before a server is asked again."""
        self._pictures, self._bounds, self._wait = pictures, bounds, wait
        self._place, self._inline = place, _Inline()

    def fetched(self, given: Given, plan: Plan) -> Fetched:
        """Whatever a picture brings about, it is this task's trouble and no other's."""
        try:
            views = plan.views(given.task)
            if given.where is not None and len(views) > 1:
                raise ImageMissing("the label config shows several pictures, and here is one")
            seen: list[Seen] = []
            for view in views:
                seen.append(self._seen(given, view))
                if sum(one.pixels.nbytes for one in seen) > MOST_TASK_BYTES:
                    raise ImageTooLarge(
                        "the task's pictures take more than "
                        f"{MOST_TASK_BYTES / 1_000_000:g} MB together"
                    )
            return Fetched(given=given, pictures=tuple(seen))
        except CouldNotPredict as error:
            return Fetched(given=given, error=failed(error))
        except Exception as error:
            if is_out_of_memory(error):
                return Fetched(given=given, error=failed(OutOfMemory()))
            logger.exception("the picture of task %s could not be had", given.id)
            kind = type(error).__name__
            told = CouldNotPredict(f"the picture could not be had ({kind})")
            return Fetched(given=given, error=failed(told))

    def _seen(self, given: Given, view: View) -> Seen:
        data = self._patiently(given, view)
        pixels = self._pictures.decode(data, page=view.page)
        size_hw = (pixels.shape[0], pixels.shape[1])
        refuse_brush(size_hw, view.wanted, megapixels=self._bounds.brush_megapixels)
        return Seen(digest=hashlib.sha256(data).hexdigest(), pixels=pixels)

    def _patiently(self, given: Given, view: View) -> bytes:
        """A server that does not answer is asked again a few times. Raises ImageError."""
        for pause in AGAIN:
            try:
                return self._bytes(given, view)
            except CouldNotPredict as error:
                if not is_passing(error):
                    raise
            self._wait(pause)
        return self._bytes(given, view)

    def _bytes(self, given: Given, view: View) -> bytes:
        if given.where is None:
            return self._pictures.fetch(
                view.address, timeout=self._bounds.timeout, task_id=given.number
            )
        if self._place is None:
            raise ImageMissing("the data set's own place is not known here")
        path, *inside = json.loads(given.where)
        place, most = self._place.at(path), self._bounds.max_bytes
        data = self._inline.read(place, *inside) if inside else _read(place, most)
        if len(data) > self._bounds.max_bytes:
            raise ImageTooLarge(
                f"{given.id!r} has more than {self._bounds.max_bytes / 1_000_000:g} MB "
                "(MAX_IMAGE_MB)"
            )
        return data


def failed(error: CouldNotPredict) -> NotPredicted:
    """Why a task gets no prediction."""
    return NotPredicted(
        reason=shortened(str(error)), kind=kind_of(error), passing=is_passing(error)
    )


def ahead(
    tasks: Iterable[Given],
    fetch: Callable[[Given], Fetched],
    *,
    at_once: int = FETCHERS,
    most_bytes: int = AHEAD_BYTES,
) -> Generator[Fetched, None, None]:
    """Every task in order, while the next ones are fetched on other threads.

    No new one is begun while those that are done and wait take `most_bytes`.
    """
    source = iter(tasks)
    waiting: deque[Future[Fetched]] = deque()
    largest = 0  # so far

    def room() -> bool:
        """Whether one more would fit, were those under way as large as the largest."""
        sizes = [one.result().nbytes for one in waiting if _is_there(one)]
        under_way = (len(waiting) - len(sizes) + 1) * (largest or A_PICTURE)
        return not waiting or sum(sizes) + under_way <= most_bytes

    with ThreadPoolExecutor(at_once, thread_name_prefix="fetch") as threads:
        try:
            while True:
                while len(waiting) < 2 * at_once and room():
                    if (given := next(source, None)) is None:
                        break
                    waiting.append(threads.submit(fetch, given))
                if not waiting:
                    return
                fetched = waiting.popleft().result()
                largest = max(largest, fetched.nbytes)
                yield fetched
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _is_there(one: Future[Fetched]) -> bool:
    return one.done() and not one.cancelled() and one.exception() is None


def _read(place: Place, most: int) -> bytes:
    """A file, or more bytes of it than `most`. Raises ImageError."""
    try:
        return place.read(most=most + 1)
    except FileNotFoundError:
        raise ImageMissing(f"there is no {place.address}") from None
    except PermissionError as error:
        raise ImageBroken(f"{place.address} cannot be read ({error.strerror})") from None
    except OSError as error:
        if not place.is_local:  # a bucket that cannot be reached may be, later
            raise Unreachable(f"{place.address} cannot be fetched ({error})") from None
        raise ImageBroken(f"{place.address} cannot be read ({error})") from None


class _Inline:
    """Pictures inside of Parquet files: read a few rows at a time, on and on, as tasks come.

    The rows before are kept as well, since fetchers do not come in order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, int, str] | None = None
        self._batches: Iterator[Any] = iter(())
        self._before: list[Any] = []
        self._rows: list[Any] = []
        self._first = 0  # the number of the first of the rows read last

    def read(self, place: Place, group: int, within: int, column: str) -> bytes:
        """Raises ImageError."""
        try:
            value = self._value(place, group, within, column)
        except (OSError, ValueError, StopIteration) as error:
            raise ImageBroken(f"{place.address} cannot be read ({error})") from None
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if not data:
            raise ImageMissing(f"there is no picture in this row of {place.address}")
        return bytes(data)

    def _value(self, place: Place, group: int, within: int, column: str) -> Any:
        import pyarrow.parquet as pq

        key = (place.path, group, column)
        with self._lock:
            if self._key != key or within < self._first - len(self._before):
                file = pq.ParquetFile(place.system.open_input_file(place.path))
                self._batches = file.iter_batches(
                    batch_size=ROWS_AT_ONCE, row_groups=[group], columns=[column]
                )
                self._key, self._first, self._before, self._rows = key, 0, [], []
            while within >= self._first + len(self._rows):
                self._first += len(self._rows)
                self._before, self._rows = self._rows, next(self._batches)[column].to_pylist()
            return (self._before + self._rows)[within - self._first + len(self._before)]
