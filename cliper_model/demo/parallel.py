"""Several single-threaded processes that train one model together.

For networks this small two processes of one thread are faster than one process of two threads:
they meet once per step instead of once per operation.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

# a trainer frees and asks for the same large blocks all the time; without these settings glibc
# hands them back to the system, and page faults cost more than half of the time
_KEEP_MEMORY: Final = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


@dataclass(frozen=True)
class Team:
    """Who am I among how many."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def give_memory_back(self) -> None:
        """Return what the allocator keeps for nobody: batches of many sizes fragment its heap."""
        if sys.platform == "linux":
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by the mean over the team."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def work_together(worker: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `worker(team, *arguments)` in `processes` processes; with 1, right here."""
    if processes == 1:
        worker(Team(), *arguments)
        return
    before = {name: os.environ.get(name) for name in _KEEP_MEMORY}
    os.environ.update(_KEEP_MEMORY)  # malloc reads them when a process starts
    try:
        with tempfile.TemporaryDirectory() as folder:
            meeting = str(Path(folder) / "meeting")
            spawn(_member, (processes, meeting, worker, arguments), processes)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _member(
    rank: int, size: int, meeting: str, worker: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        worker(Team(rank, size), *arguments)
    finally:
        dist.destroy_process_group()
