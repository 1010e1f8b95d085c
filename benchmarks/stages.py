"""What every stage of CLIPer costs: seconds, operations, bytes, memory, and how far from the floor.

The floor of a stage is the time that the hardware cannot save (`benchmarks/floors.py`). Its memory
is the most it makes at one time, its results included; weights and inputs were there before.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch

from cliper_model.methods.cliper import Cliper, CliperState
from cliper_model.segmenter import Vocabulary
from cliper_model.shapes import Image
from cliper_model.stages import refine, resize
from cliper_model.stages.recordings import Recordings

from . import floors, memory


def measure(model: Cliper, image: Image, vocabulary: Vocabulary, device: str) -> dict[str, Any]:
    """The machine's `peaks`, and `stages` by name: the fastest of a few runs of each."""
    formats: tuple[torch.dtype, ...] = (
        torch.float32,
        model.clip.dtype,
        getattr(torch, model.clip.number_format),
    )
    if device != "cpu":
        formats = (*formats, torch.bfloat16)
    dtypes = tuple(dict.fromkeys(formats))
    hardware = floors.peaks(device, dtypes)
    with torch.no_grad():
        stages = {
            name: _told(stage, hardware, device)
            for name, stage in stages_of(model, image, vocabulary).items()
        }
    return {
        "peaks": {
            **{f"{kind}_gflops": round(n / 1e9) for kind, n in hardware.flops.items()},
            "gigabytes_per_second": round(hardware.bandwidth / 1e9, 1),
            "threads": torch.get_num_threads(),
        },
        "stages": stages,
    }


def stages_of(
    model: Cliper, image: Image, vocabulary: Vocabulary
) -> dict[str, Callable[[], object]]:
    """Every stage that computes on the device, ready to run again and again."""
    pixels, _ = model._clip_input(image)
    state = model.observe(image)
    model = copy.copy(model)
    model.recordings = Recordings()  # a card computes what it is asked first: it is seen, counted
    work: dict[str, Callable[[], object]] = {
        "CLIP": lambda: model.look(pixels),
        "scores": lambda: model.score(state, vocabulary),
    }
    diffusion = model.diffusion
    if diffusion is not None and isinstance(state, CliperState):
        square = resize.to_diffusion_square(image, side=diffusion.side)
        latent = diffusion.encode(square)
        work["VAE encoder"] = lambda: diffusion.encode(square)

        def taps() -> object:
            diffusion.give_back_after(square)  # as between the two in every prediction
            return diffusion.taps(latent)

        work["U-Net"] = taps
        queries, keys = state.queries, state.keys
        if diffusion.first_levels_come_along:
            queries, keys = (heads[: len(heads) // 2] for heads in (queries, keys))
        work["levels of its maps"] = lambda: refine.levels(queries, keys)
    return work


def _told(stage: Callable[[], object], hardware: floors.Peaks, device: str) -> dict[str, Any]:
    done = floors.work_of(stage)
    seconds = floors.fastest(stage, device)
    floor = hardware.floor(done)
    return {
        "seconds": round(seconds, 4),
        "gflops": {kind: round(n / 1e9, 4) for kind, n in done.flops.items()},
        "gigabytes": round(done.bytes / 1e9, 4),
        "peak_mib": round(done.peak_bytes / memory.MIB, 1),
        "floor_seconds": round(floor, 4),
        "above_floor": round(seconds / floor, 2),
    }
