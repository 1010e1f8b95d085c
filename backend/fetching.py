"""Pictures of one request, in time: who hangs is waited for once, and last."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from .errors import BudgetSpent, ImageError, Unreachable
from .images.hanging import HangingServers
from .labelstudio.tasks import Task
from .metrics.meters import Meters

NEARLY_ALL = 0.95  # of the time for a fetch: who takes so long without an answer hangs


class Pictures(Protocol):
    """Where pictures come from; `backend.images` offers it."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        """`task_id`: Label Studio's number of the task. Raises ImageError."""
        ...

    def server(self, address: str) -> str | None:
        """Who would be asked for the picture; None if nobody."""
        ...

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """As displayed: EXIF orientation applied, RGB. Raises ImageError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hurry:
    """One request's time, or a while of a stream's; the threads that fetch for it share it.

    deadline  on the clock of the fetching
    budget    seconds the request had in all
    hung      servers not to be waited for again
    """

    deadline: float
    budget: float
    hung: set[str] = field(default_factory=set)


class Fetching:
    """Bytes of pictures within a request's time; safe to use from many threads."""

    def __init__(
        self,
        pictures: Pictures,
        *,
        timeout: float,
        meters: Meters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds per picture. `clock` gives seconds."""
        self._meters = meters or Meters()
        self._pictures, self._timeout, self._clock = pictures, timeout, clock
        self._hanging = HangingServers(clock=clock)

    def left(self, hurry: Hurry) -> float:
        """Seconds left. Raises BudgetSpent."""
        left = hurry.deadline - self._clock()
        if left <= 0:
            raise BudgetSpent(hurry.budget)
        return left

    def may_hang(self, addresses: Iterable[str]) -> bool:
        """Whether one of the pictures lies on a server that hung lately."""
        servers = map(self._pictures.server, addresses)
        return any(server is not None and self._hanging.lately(server) for server in servers)

    def fetch(self, task: Task, address: str, hurry: Hurry) -> bytes:
        """The bytes of a picture. Raises ImageError, BudgetSpent.

        A server that hangs is waited for once per request.
        """
        server = self._pictures.server(address)
        if server is not None and server in hurry.hung:
            hung = Unreachable(f"{server} did not answer in time for an earlier task")
            self._meters.image_failed(hung)
            raise hung
        began = self._clock()
        timeout = min(self._timeout, self.left(hurry))
        number = task.id if isinstance(task.id, int) else None
        try:
            with self._meters.stage("fetch"):
                data = self._pictures.fetch(address, timeout=timeout, task_id=number)
        except ImageError as error:
            self.left(hurry)  # cut short by our own hurry, not by the server's fault
            self._meters.image_failed(error)
            if server is not None and self._clock() - began >= NEARLY_ALL * timeout:
                hurry.hung.add(server)
                self._hanging.hung(server)
            raise
        if server is not None:
            self._hanging.answered(server)
        return data

    def decode(self, data: bytes, *, page: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """See Pictures. Raises ImageError."""
        try:
            with self._meters.stage("decode"):
                return self._pictures.decode(data, page=page)
        except ImageError as error:
            self._meters.image_failed(error)
            raise
