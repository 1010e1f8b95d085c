"""What a card is asked again and again with numbers of the same shapes: recorded once, then played.

To start a kernel takes a processor longer than the kernel takes a card, where numbers are as few as
those of scores. A CUDA graph starts all of them at once.
"""

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
REMEMBERED = 64  # questions that were asked once
NEAR = 1e-3  # of the largest value; kernels and their order are the same


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
            finally:
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
        device = given[0].device
        if device not in self._aside:
            self._aside[device] = torch.cuda.Stream(device)
        return CudaRecording(compute, given, aside=self._aside[device])


class Recordings:
    """The latest of them, by what was asked. Share it between threads."""

    def __init__(self, record: Callable[[Compute, Tensors], Recording] | None = None) -> None:
        """`record` makes one; None: a `Recorder` does. It is asked for on cards alone."""
        self._record = record or Recorder()
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()
        self._asked: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()
        self._missing: str | None = None

    @property
    def missing(self) -> str | None:
        """Why nothing is recorded any more, in words; None where all is well."""
        return self._missing

    def leave(self, why: str) -> None:
        """Record nothing any more."""
        self._missing = f"scores are started kernel by kernel, which is slower ({why})"
        self.forget()
        logger.warning("%s", self._missing)

    def forget(self) -> None:
        """Give up their memory."""
        self._kept.clear()

    def run(
        self,
        compute: Compute,
        given: Tensors,
        *,
        key: Hashable,
        take: Callable[[Tensors], Answer],
    ) -> Answer:
        """What `take` makes of what `compute` finds.

        key  whatever else that depends on: with the same, and tensors of the same shapes, the
             second question is recorded, and all after it are played
        """
        if self._missing is not None or not self._is_for(given):
            return take(compute(*given))
        whole = (key, given[0].device, *((one.shape, one.dtype, one.stride()) for one in given))
        with self._lock:
            recording = self._kept.get(whole)
            if recording is not None:
                self._kept.move_to_end(whole)
                return recording.play(given, take)
            if whole not in self._asked:
                self._asked[whole] = None
                _shorten(self._asked, REMEMBERED)
                return take(compute(*given))
            found = compute(*given)
            self._add(whole, compute, given, found)
            return take(found)

    def _is_for(self, given: Tensors) -> bool:
        device = given[0].device
        there = (one.device == device for one in given if one.numel())
        return device.type == "cuda" and all(there)

    def _add(self, whole: Hashable, compute: Compute, given: Tensors, wanted: Tensors) -> None:
        """A recording, unless it finds something else than it should."""
        del self._asked[whole]
        try:
            recording = self._record(compute, given)
            right = recording.play(given, lambda found: _near(found, wanted))
        except torch.OutOfMemoryError:  # full of what was seen of pictures
            logger.info("no room to record what is asked again; asked kernel by kernel")
            self.forget()
        except Exception as error:  # whatever torch or the driver raises
            logger.debug("recording", exc_info=True)
            said = str(error).splitlines()
            self.leave(f"{type(error).__name__}: {said[0] if said else ''}")
        else:
            if right:
                self._kept[whole] = recording
                _shorten(self._kept, MOST)
            else:
                self.leave("a recording found something else")


def _shorten(kept: OrderedDict[Hashable, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)


def _near(found: Tensors, wanted: Tensors) -> bool:
    for one, other in zip(found, wanted, strict=True):
        largest = float(other.abs().nan_to_num(0.0).amax())
        if not torch.allclose(one, other, rtol=0.0, atol=NEAR * largest, equal_nan=True):
            return False
    return True
