"""Tasks of a list -> their pictures, unpacked: several at a time, in order, never all at once."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

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
from .listing import INLINE
from .places import place_of
from .rows import Fetched, Given, Seen

if TYPE_CHECKING:
    import pyarrow as pa

FETCHERS = 8  # pictures fetched at the same time: they wait for servers most of the time
AHEAD_BYTES = 256 * 1_000_000  # of unpacked pictures that wait
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
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`wait` pauses before a server is asked again."""
        self._pictures, self._bounds, self._wait = pictures, bounds, wait
        self._inline = _Inline()

    def fetched(self, given: Given, plan: Plan) -> Fetched:
        """Whatever a picture brings about, it is this task's trouble and no other's."""
        try:
            views = plan.views(given.task)
            if given.where is not None and len(views) > 1:
                raise ImageMissing("the label config shows several pictures, and here is one")
            return Fetched(given=given, pictures=tuple(self._seen(given, one) for one in views))
        except CouldNotPredict as error:
            return Fetched(given=given, error=failed(error))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return Fetched(given=given, error=failed(OutOfMemory()))

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
        if given.where.startswith(f"{INLINE}:"):
            data = self._inline.read(given.where)
        else:
            data = _read(given.where, self._bounds.max_bytes)
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
    with ThreadPoolExecutor(at_once, thread_name_prefix="fetch") as threads:
        try:
            while True:
                while len(waiting) < 2 * at_once and _bytes_of(waiting) < most_bytes:
                    if (given := next(source, None)) is None:
                        break
                    waiting.append(threads.submit(fetch, given))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _bytes_of(waiting: Iterable[Future[Fetched]]) -> int:
    return sum(
        one.result().nbytes
        for one in waiting
        if one.done() and not one.cancelled() and one.exception() is None
    )


def _read(where: str, most: int) -> bytes:
    """A file by its path or address. Raises ImageError."""
    place = place_of(where)
    try:
        return place.read(most=most + 1)
    except FileNotFoundError:
        raise ImageMissing(f"there is no {where.split('?')[0]}") from None
    except PermissionError as error:
        raise ImageBroken(f"{where.split('?')[0]} cannot be read ({error.strerror})") from None
    except OSError as error:
        if not place.is_local:  # a bucket that cannot be reached may be, later
            raise Unreachable(f"{where.split('?')[0]} cannot be fetched ({error})") from None
        raise ImageBroken(f"{where.split('?')[0]} cannot be read ({error})") from None


class _Inline:
    """Pictures inside of Parquet files; the row group read last is kept, as rows come in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, int, str], pa.ChunkedArray] | None = None

    def read(self, where: str) -> bytes:
        """Raises ImageError."""
        address, _, at = where.removeprefix(f"{INLINE}:").rpartition("#")
        group, within, column = at.split("/", 2)
        try:
            value = self._column(address, int(group), column)[int(within)].as_py()
        except (OSError, ValueError, IndexError) as error:
            raise ImageBroken(f"{address.split('?')[0]} cannot be read ({error})") from None
        data = value.get("bytes") if isinstance(value, Mapping) else value
        if not data:
            raise ImageMissing(f"there is no picture in this row of {address.split('?')[0]}")
        return bytes(data)

    def _column(self, address: str, group: int, column: str) -> Any:
        import pyarrow.parquet as pq

        key = (address, group, column)
        with self._lock:
            if self._last is None or self._last[0] != key:
                place = place_of(address)
                file = pq.ParquetFile(place.system.open_input_file(place.path))
                self._last = (key, file.read_row_group(group, columns=[column])[column])
            return self._last[1]
