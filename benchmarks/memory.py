"""Peak memory of this process, or of the card it computes on. Processes: Linux only."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch

MIB = 1024 * 1024
PROCESS = Path("/proc/self")


def forget_peak(device: str = "cpu") -> None:
    """The peak so far no longer counts; what is held now does."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    elif (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")


def peak_mib(device: str = "cpu") -> int | None:
    """MiB since `forget_peak`; None where nobody counts.

    Of this process only: `getrusage` begins with what the parent held.
    """
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated(device) / MIB)
    if not (PROCESS / "status").exists():
        return None
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) / 1024)


def made_bytes(work: Callable[[], object]) -> int:
    """The most bytes of Python objects and NumPy arrays that one run makes at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
