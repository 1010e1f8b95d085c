"""What a card is asked again and again with numbers of the same shapes: recorded once, then played.

To start a kernel takes a processor longer than the kernel takes a card, where numbers are as few as
those of scores. A CUDA graph starts all of them at once.
"""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...]
Compute = Callable[..., Tensors]
Answer = TypeVar("Answer")

MOST = 4  # recordings kept: each holds what it is given, what it finds, and what is between
PATIENCE = 64  # questions none of which was recorded, before all recordings make room for others
NEAR = 1e-3  # of the largest value; kernels and their order are the same
LEAST_TORCH = (2, 15)  # older ones may spoil a card's memory where a recording fails or ends
NO_MEMORY = "out of memory"  # in errors of libraries and of the driver that are no OutOfMemoryError
_ONE_AT_A_TIME = threading.Lock()  # what torch asks of recording, in one process


class Recording(Protocol):
    """A computation of one card that is ready to be done with other numbers."""

    def play(self, given: Tensors, take: Callable[[Tensors], Answer]) -> Answer:
        """`take` copies what was found, or asks the card to: it is written over by the next."""
        ...


class CudaRecording:
    """A CUDA graph."""

    def __init__(self, compute: Compute, given: Tensors, *, aside: Any) -> None:
        """Recorded over zeros: whatever of the numbers got into the recording itself is wrong when
        it is played. Raises RuntimeError where `compute` waits for the card.

        aside  a stream of that card on which nothing else is done
        """
        self._device = given[0].device
        self._given = tuple(torch.zeros_like(one) for one in given)
        self._taken: Any = None  # the event after which what was found may be written over
        now = self._stream()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            compute(*self._given)  # libraries take their memory when a stream is new to them
            self._graph: Any = torch.cuda.CUDAGraph()
            self._graph.capture_begin(capture_error_mode="thread_local")  # other threads go on
            try:
                self._found = compute(*self._given)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # says only that something went wrong
                    self._graph.capture_end()
                raise
            self._graph.capture_end()
        now.wait_stream(aside)

    def play(self, given: Tensors, take: Callable[[Tensors], Answer]) -> Answer:
        stream = self._stream()
        if self._taken is not None:
            stream.wait_event(self._taken)
        for own, one in zip(self._given, given, strict=True):
            own.copy_(one)
        self._graph.replay()
        answer = take(self._found)
        self._taken = torch.cuda.Event()
        self._taken.record(stream)
        return answer

    def _stream(self) -> Any:
        return torch.cuda.current_stream(self._device)


class Recorder:
    """Makes recordings, of each card on one stream: libraries keep memory for every stream."""

    def __init__(self) -> None:
        self._aside: dict[torch.device, Any] = {}

    def __call__(self, compute: Compute, given: Tensors) -> Recording:
        """Raises RuntimeError for a torch that is too old."""
        version = tuple(int(part) for part in torch.__version__.split(".")[:2])
        if version < LEAST_TORCH:
            least = ".".join(map(str, LEAST_TORCH))
            raise RuntimeError(f"torch {torch.__version__} is older than {least}")
        device = given[0].device
        with _ONE_AT_A_TIME:
            if device not in self._aside:
                self._aside[device] = torch.cuda.Stream(device)
            return CudaRecording(compute, given, aside=self._aside[device])


class Recordings:
    """A few of them, by what was asked. Share it between threads.

    They are given up together: what libraries keep for them is shared, and a card takes memory of
    single ones back late. So shapes that come in turn, more than there is room for, do not push one
    another out.
    """

    def __init__(
        self,
        record: Callable[[Compute, Tensors], Recording] | None = None,
        *,
        wanted: bool = True,
    ) -> None:
        """`record` makes one; None: a `Recorder` does. It is asked for on cards alone, and never
        unless recordings are `wanted`."""
        self._record = record or Recorder()
        self._wanted = wanted
        self._kept: dict[Hashable, Recording] = {}
        self._asked: OrderedDict[Hashable, None] = OrderedDict()
        self._unplayed = 0  # questions since one was played, where there is no room for more
        self._lock = threading.Lock()
        self._missing: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything may be recorded at all."""
        return self._wanted

    @property
    def missing(self) -> str | None:
        """Why nothing is recorded any more, in words; None where all is well or none is wanted."""
        return self._missing

    def forget(self) -> None:
        """Give up their memory."""
        with self._lock:
            self._forget()

    def run(
        self,
        compute: Compute,
        given: Tensors,
        *,
        key: Hashable,
        take: Callable[[Tensors], Answer],
    ) -> Answer:
        """What `take` makes of what `compute` finds; it must use nothing of a card that is not
        `given`, but what stays as long as these recordings.

        key  whatever else that depends on: with the same, and tensors of the same shapes, the
             second question is recorded, and all after it are played
        """
        if not self._wanted or not self._is_for(given):
            return take(compute(*given))
        given = tuple(one.contiguous() for one in given)
        whole = (key, given[0].device, *((one.shape, one.dtype) for one in given))
        with self._lock:
            if self._missing is not None:
                return take(compute(*given))
            recording = self._kept.get(whole)
            if recording is not None:
                self._unplayed = 0
                return recording.play(given, take)
            found = self._computed(compute, given)
            if self._is_worth_it(whole):
                self._add(whole, compute, given, found)
            return take(found)

    def _is_for(self, given: Tensors) -> bool:
        device = given[0].device
        there = (one.device == device for one in given if one.numel())
        return device.type == "cuda" and all(there)

    def _computed(self, compute: Compute, given: Tensors) -> Tensors:
        """Once more without recordings where they leave no room."""
        try:
            return compute(*given)
        except torch.OutOfMemoryError:
            if not self._kept:
                raise
            self._forget()
            return compute(*given)

    def _is_worth_it(self, whole: Hashable) -> bool:
        """Whether it was asked lately, and there is room."""
        if len(self._kept) >= MOST:
            self._unplayed += 1
            if self._unplayed < PATIENCE:
                return False
            self._forget()
        if whole in self._asked:
            del self._asked[whole]
            return True
        self._asked[whole] = None
        while len(self._asked) > MOST:
            self._asked.popitem(last=False)
        return False

    def _add(self, whole: Hashable, compute: Compute, given: Tensors, wanted: Tensors) -> None:
        """A recording, unless it finds something else than it should."""
        try:
            recording = self._record(compute, given)
            right = recording.play(given, lambda found: _near(found, wanted))
        except Exception as error:  # whatever torch or the driver raises
            logger.debug("recording", exc_info=True)
            said = (str(error).splitlines() or [""])[0]
            if isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in said.lower():
                logger.info("no room to record what is asked again: asked kernel by kernel")
                self._forget()
                torch.cuda.empty_cache()  # of what nobody uses, which a recording cannot take
            else:
                self._leave(f"{type(error).__name__}: {said}")
        else:
            if right:
                self._kept[whole] = recording
            else:
                self._leave("a recording found something else")

    def _leave(self, why: str) -> None:
        """Record nothing any more."""
        self._missing = f"scores are started kernel by kernel, which is slower ({why})"
        self._forget()
        logger.warning("%s", self._missing)

    def _forget(self) -> None:
        self._kept.clear()
        self._asked.clear()
        self._unplayed = 0


def _near(found: Tensors, wanted: Tensors) -> bool:
    for one, other in zip(found, wanted, strict=True):
        largest = float(other.abs().nan_to_num(0.0).amax())
        if not torch.allclose(one, other, rtol=0.0, atol=NEAR * largest, equal_nan=True):
            return False
    return True
