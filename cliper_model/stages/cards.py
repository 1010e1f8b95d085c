"""Which of our own kernels a device can run."""

import functools
import logging
from dataclasses import dataclass
from typing import Any

import torch

logger = logging.getLogger(__name__)

WIDEST = 64  # values of a head; tiles of wider ones have no room on smaller cards
OLDEST = (8, 0)  # compute capability; older cards multiply neither bfloat16 nor tf32


@dataclass(frozen=True)
class Found:
    """`stages.kernels`, or why it cannot be used; both None where no card is."""

    kernels: Any = None
    missing: str | None = None


@functools.cache
def found(device: torch.device) -> Found:
    """Asked once for every device: kernels are compiled, run, and compared with torch."""
    if device.type != "cuda":
        return Found()
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return _without(f"compute capability {capability[0]}.{capability[1]} is too old")
    try:
        from . import kernel_check, kernels

        wrong = kernel_check.differing(device)
    except torch.cuda.OutOfMemoryError:
        raise  # says nothing about kernels
    except Exception as error:  # whatever Triton, its compiler or the driver raises
        logger.debug("kernels of our own", exc_info=True)
        return _without(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    if wrong:
        return _without(f"other results than torch: {', '.join(wrong)}")
    return Found(kernels)


def _without(why: str) -> Found:
    told = f"attention goes through memory, which is slower ({why})"
    logger.warning(told)
    return Found(missing=told)


def kernels(device: torch.device, *, width: int = 0) -> Any:
    """`stages.kernels` where this device can run it, for heads of that width, else None."""
    return found(device).kernels if width <= WIDEST else None
