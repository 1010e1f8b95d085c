"""What this machine computes on; loads no network, and nothing large."""

import torch


def best_device() -> str:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cards() -> tuple[str, ...]:
    """Every CUDA card that is visible, such as "cuda:0"."""
    if not torch.cuda.is_available():
        return ()
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
