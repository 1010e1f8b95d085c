"""What was learnt, as predictions ask for it: what the store says is active, now.

A store that is away does not take back what was learnt: predictions go on with what this process
read last of the project, and `/health` says so. The version names what they were made with, so
answers of two processes that read at different times are told apart; falling back to nothing
would only make Label Studio ask for every prediction again, twice.
"""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import StorageError
from ..lessons import Learned
from ..storage.base import Scope, Storage
from .records import Active, Records, school_scope

logger = logging.getLogger(__name__)

MOST_PROJECTS: Final = 200  # whose versions are in memory, some hundred kilobytes each
SLOW: Final = 1.0  # seconds; who failed after more than that, made a request wait
LEFT_ALONE: Final = 15.0  # seconds for which a store that fails slowly is not asked again


class StoredTeaching:
    """Implements Teaching over a store that several processes may share."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage, self._clock = storage, clock
        self._lock = threading.Lock()  # of what follows
        self._known: OrderedDict[Scope, tuple[Active, Learned | None]] = OrderedDict()
        self._trouble: str | None = None
        self._alone_until = -math.inf

    def of(self, scope: Scope) -> Learned | None:
        """See Teaching."""
        school = school_scope(scope)
        if self._clock() >= self._alone_until:
            self._read(school)
        return self._last(school)[1]

    def facts(self) -> Mapping[str, Any]:
        """For `/health`: what was read last of each project, and what is wrong with the store."""
        with self._lock:
            active = {
                school.project: {"version": one.digest, "tasks": one.tasks, "pinned": one.pinned}
                for school, (one, _) in self._known.items()
            }
            return {"active": active, "trouble": self._trouble}

    def _last(self, school: Scope) -> tuple[Active, Learned | None]:
        with self._lock:
            return self._known.get(school, (Active(), None))

    def _read(self, school: Scope) -> None:
        """Learn what is active; what is known already stays where the store does not say."""
        begun = self._clock()
        records = Records(self._storage, school)
        before, learned = self._last(school)
        trouble = None
        try:
            active = records.active()[0]
            if active.digest is None:
                learned = None
            elif active.digest != before.digest or learned is None:
                learned = records.learned(active.digest)
                if learned is None:
                    trouble = f"version {active.digest} of project {school.project} is not there"
        except StorageError as error:
            trouble, now = str(error), self._clock()
            if now - begun > SLOW:
                self._alone_until = now + LEFT_ALONE
        if trouble is None:
            self._remember(school, active, learned)
        self._say(trouble)

    def _remember(self, school: Scope, active: Active, learned: Learned | None) -> None:
        with self._lock:
            self._known[school] = (active, learned)
            self._known.move_to_end(school)
            while len(self._known) > MOST_PROJECTS:
                self._known.popitem(last=False)

    def _say(self, trouble: str | None) -> None:
        with self._lock:
            before, self._trouble = self._trouble, trouble
        if trouble is not None and before is None:
            logger.warning("what was learnt stays as it was read last: %s", trouble)
        elif trouble is None and before is not None:
            logger.info("what was learnt can be read again")
