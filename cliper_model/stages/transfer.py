"""What is on its way to a card or from it, while both go on."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on that device; a card takes it when it gets there, and nobody waits."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Coming:
    """Tensors of one device, copied while it goes on; of a processor they are there already."""

    _tensors: tuple[Tensor, ...]
    _done: Any  # a CUDA event after the copies, or None

    @classmethod
    def of(cls, *tensors: Tensor) -> "Coming":
        """Begin. Other than on a card nothing is copied."""
        if tensors[0].device.type != "cuda":
            return cls(tuple(one.cpu() for one in tensors), None)
        copies = tuple(one.to("cpu", non_blocking=True) for one in tensors)  # into pinned memory
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(tensors[0].device))
        return cls(copies, done)

    def arrived(self) -> tuple[Tensor, ...]:
        """Wait for them."""
        if self._done is not None:
            self._done.synchronize()
        return self._tensors
