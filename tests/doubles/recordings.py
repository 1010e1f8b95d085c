"""What records computations as a card does, on any device; and a card's own calls, written down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cliper_model.stages.recordings import Answer, Compute, Tensors

WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "_unique2", "equal",
    "is_nonzero",
}  # fmt: skip
"""Operations that a recording cannot hold: they wait for a card, or bring numbers to it."""


class NothingWaits(TorchDispatchMode):
    """Raises RuntimeError at such an operation, as a card does; so it is with masks as indices."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masked = name.startswith("index") and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:])
        )
        if name in WAITING or masked:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        return func(*args, **(kwargs or {}))


class Again:
    """Computed once over zeros where nothing may wait, then again with whatever it is given."""

    def __init__(self, compute: Compute, given: Tensors) -> None:
        self._compute = compute
        self._given = tuple(torch.zeros_like(one) for one in given)
        with NothingWaits():
            self._found = tuple(one.clone() for one in compute(*self._given))

    def play(self, given: Tensors, take: Callable[[Tensors], Answer]) -> Answer:
        for own, one in zip(self._given, given, strict=True):
            own.copy_(one)
        for own, one in zip(self._found, self._compute(*self._given), strict=True):
            own.copy_(one)
        return take(self._found)


@dataclass
class Calls:
    """`torch.cuda` without a card: what a recording asks of it, in order.

    `seen` is asked when a graph is played.
    """

    made: list[str] = field(default_factory=list)
    seen: Callable[[], str] = lambda: ""
    ends: bool = True

    def current_stream(self, device: Any) -> "Stream":
        return Stream("now", self)

    def Stream(self, device: Any) -> "Stream":
        return Stream("aside", self)

    @contextmanager
    def stream(self, stream: "Stream") -> Iterator[None]:
        self.made.append(f"on {stream.name}")
        yield
        self.made.append(f"off {stream.name}")

    def CUDAGraph(self) -> "Graph":
        return Graph(self)

    def Event(self) -> "Event":
        return Event(self)


@dataclass
class Stream:
    name: str
    calls: Calls

    def wait_stream(self, other: "Stream") -> None:
        self.calls.made.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: "Event") -> None:
        self.calls.made.append(f"{self.name} waits for what was taken")


@dataclass
class Event:
    calls: Calls

    def record(self, stream: Stream) -> None:
        self.calls.made.append(f"taken on {stream.name}")


@dataclass
class Graph:
    calls: Calls

    def capture_begin(self, *, capture_error_mode: str) -> None:
        self.calls.made.append(f"begin {capture_error_mode}")

    def capture_end(self) -> None:
        self.calls.made.append("end")
        if not self.calls.ends:
            raise RuntimeError("failed due to a previous error during capture")

    def replay(self) -> None:
        self.calls.made.append(f"replay {self.calls.seen()}".strip())


def doubled(given: Tensor, *others: Tensor) -> Tensors:
    """Something to record."""
    return given * 2, *(one + 1 for one in others)
