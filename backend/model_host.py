"""The model's life in the service: fetched and loaded once, in the background.

Nobody waits for it: `/health` tells how far it has come, `/setup` needs only its identity,
which is known long before the weights are in memory.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from cliper_model.errors import CliperError
from cliper_model.segmenter import Identity, Label, Segmenter

from .errors import DeviceLost, ModelFailed, ModelLoading, ServiceError

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]  # share done, from 0 to 1

DOWNLOADING, LOADING, READY, FAILED = "downloading", "loading", "ready", "failed"
CHANGING = ("fallbacks", "cuda_graphs")  # of what a model says of itself


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """How to come by a model; `wiring` fills it with the real thing.

    profile     name of the profile to use; may look at the hardware
    fetch       get what is missing on disk
    identify    what masks will depend on, without loading
    foresee     the same ahead of the fetch, or None where that is not certain
    load        bring the weights into memory
    describe    device, dtype and fallbacks of a loaded model, as plain JSON values
    check_words refuse words this profile cannot read
    """

    profile: Callable[[], str]
    fetch: Callable[[str, Progress], None]
    identify: Callable[[str], Identity]
    load: Callable[[str, Progress], Segmenter]
    describe: Callable[[Segmenter], Mapping[str, Any]]
    check_words: Callable[[str, Sequence[Label]], None]
    foresee: Callable[[str], Identity | None] = lambda profile: None


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One moment of the model's life. `percent` counts within the present state."""

    state: str = LOADING
    percent: int = 0
    profile: str | None = None
    reason: str | None = None  # why it failed
    details: Mapping[str, Any] = field(default_factory=dict)


class ModelHost:
    """Keeps one Segmenter on one device; safe to use from many threads."""

    def __init__(
        self,
        source: ModelSource,
        *,
        patience: float = 0.3,
        retry_after: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        turn: AbstractContextManager[bool] | None = None,
    ) -> None:
        """`patience`: seconds `/setup` may wait for the identity (Label Studio waits 3 in all).
        `turn`: shared by hosts of the same weights, which one fetches and loads at a time.

        A failed load is tried again when asked for after `retry_after` seconds, so that
        weights put in place later are found without a restart.
        """
        self._source, self._patience = source, patience
        self._retry_after, self._clock = retry_after, clock
        self._lock, self._turn = threading.Lock(), turn or threading.Lock()
        self._identified = threading.Event()  # the identity is known, or will not be
        self._status = ModelStatus()
        self._identity: Identity | None = None
        self._segmenter: Segmenter | None = None
        self._failed_at: float | None = None
        self._lost: DeviceLost | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to fetch and load in the background; further calls do nothing meanwhile."""
        with self._lock:
            busy = self._thread is not None and self._failed_at is None
            if busy or self._segmenter is not None or self._lost is not None:
                return
            self._failed_at = None
            self._identified.clear()
            self._status = ModelStatus()
            self._thread = threading.Thread(target=self._work, name="model-loader", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until loading has ended, one way or the other; for tools without a server."""
        if self._thread is not None:
            self._thread.join()

    @property
    def status(self) -> ModelStatus:
        """With what may have changed since the model was loaded as it is now."""
        status, segmenter = self._status, self._segmenter
        if status.state != READY or segmenter is None:
            return status
        told = self._source.describe(segmenter)
        now = {name: told[name] for name in CHANGING if name in told}
        return replace(status, details={**status.details, **now})

    def identity(self) -> Identity:
        """What masks depend on. Raises ModelLoading or ModelFailed."""
        self._try_again_if_due()
        self._identified.wait(self._patience)
        with self._lock:
            if self._identity is None:
                raise self._why_not()
            return self._identity

    def segmenter(self) -> Segmenter:
        """The loaded model. Raises ModelLoading or ModelFailed."""
        self._try_again_if_due()
        with self._lock:
            if self._segmenter is None:
                raise self._why_not()
            return self._segmenter

    @property
    def loaded(self) -> Segmenter | None:
        """The model if it is there, at once."""
        with self._lock:
            return self._segmenter

    @property
    def is_lost(self) -> bool:
        return self._lost is not None

    def lose(self, lost: DeviceLost) -> None:
        """The device does nothing more for this process: loading again would not, either."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost, self._segmenter, self._identity, self._failed_at = lost, None, None, None
            self._status = replace(self._status, state=FAILED, reason=lost.reason)
        self._identified.set()

    def check_words(self, labels: Sequence[Label]) -> None:
        """Refuse words this model cannot read, also while it loads. Raises UntrainedWords."""
        profile = self._status.profile
        if profile is not None:
            self._source.check_words(profile, labels)

    def _why_not(self) -> ModelLoading | ModelFailed:
        status = self._status
        if self._lost is not None:
            return DeviceLost(self._lost.kind)
        if status.state == FAILED:
            return ModelFailed(status.reason or "see the log of the service")
        return ModelLoading(status.percent, downloading=status.state == DOWNLOADING)

    def _try_again_if_due(self) -> None:
        failed_at = self._failed_at
        if failed_at is not None and self._clock() - failed_at >= self._retry_after:
            self.start()

    def _work(self) -> None:
        try:
            self._bring_up()
        except (CliperError, ServiceError) as error:
            logger.error("the model cannot be loaded: %s", error)
            self._fail(str(error))
        except MemoryError:
            logger.exception("the model does not fit into memory")
            self._fail("not enough memory; choose a smaller profile")
        except Exception as error:
            logger.exception("the model cannot be loaded")
            self._fail(f"{type(error).__name__}, see the log of the service")

    def _bring_up(self) -> None:
        profile = self._source.profile()
        self._tell(ModelStatus(profile=profile))
        foreseen = self._source.foresee(profile)
        if foreseen is not None:
            self._identify(foreseen)
        with self._turn:
            segmenter = self._loaded(profile)
        details = dict(self._source.describe(segmenter))
        with self._lock:
            if self._lost is not None:  # while it was loaded
                return
            self._segmenter = segmenter
            self._status = ModelStatus(state=READY, percent=100, profile=profile, details=details)
        logger.info("model ready: profile %s, %s", profile, details)

    def _loaded(self, profile: str) -> Segmenter:
        self._source.fetch(profile, self._progress(DOWNLOADING, profile))
        self._tell(ModelStatus(profile=profile))

        identity = self._source.identify(profile)
        self._identify(identity)
        segmenter = self._source.load(profile, self._progress(LOADING, profile))
        if segmenter.identity != identity:
            raise CliperError("the weights on disk changed while they were loaded; start again")
        return segmenter

    def _identify(self, identity: Identity) -> None:
        with self._lock:
            self._identity = identity
        self._identified.set()

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._status = replace(self._status, state=FAILED, reason=reason)
            self._failed_at = self._clock()
            self._identity = None
        self._identified.set()

    def _tell(self, status: ModelStatus) -> None:
        with self._lock:
            self._status = status

    def _progress(self, state: str, profile: str) -> Progress:
        def tell(share: float) -> None:
            percent = int(100 * min(max(share, 0.0), 1.0))
            self._tell(ModelStatus(state=state, percent=percent, profile=profile))

        return tell
