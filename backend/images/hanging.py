"""Servers that kept us waiting for nothing: remembered for a while, so that others go first."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 300.0  # seconds
MOST_SERVERS = 200


class HangingServers:
    """Names of servers that did not answer in time lately; safe to use from many threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._since: OrderedDict[str, float] = OrderedDict()

    def hung(self, server: str) -> None:
        """Remember it from now on; of too many the oldest are forgotten."""
        with self._lock:
            self._since.pop(server, None)
            self._since[server] = self._clock()
            while len(self._since) > MOST_SERVERS:
                self._since.popitem(last=False)

    def answered(self, server: str) -> None:
        """Forget that it ever hung."""
        with self._lock:
            self._since.pop(server, None)

    def lately(self, server: str) -> bool:
        """Whether it hung within the last minutes."""
        with self._lock:
            since = self._since.get(server)
        return since is not None and self._clock() - since < REMEMBERED
