"""What predictions of one profile cost on this machine: stages, batches, percentiles.

    python -m benchmarks.bench [--profile demo] [--device cpu] [--weights-dir DIR]

Every stage: seconds, operations, bytes, peak memory. Pictures per second by how many are looked
at together, refined and not. Percentiles of single predictions: cold, cached, a click, other
words. Drawn scenes from seeds, all of one size, and six words. Written to
`results/bench-<profile>.json`, on a graphics card to `results/bench-<profile>-cuda.json`.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage

from backend.cli.running import ready_services
from backend.settings import Settings
from cliper_model import decide
from cliper_model.demo.scenes import make_scene
from cliper_model.methods.cliper import Cliper
from cliper_model.shapes import Image

from . import floors, latency, memory, record, stages, throughput

WORDS = ("sky", "grass", "house", "tree", "car", "person")
OTHERS = ("sea", "road", "cloud", "boat", "flower", "dog")
SIZE_WH = (500, 375)
BATCHES = (1, 2, 4, 8)
WARM_UP = 3  # pictures of single predictions that are not counted
FIRST_SEED = 0  # of the scenes; one each


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--device", help="such as cpu or cuda; default: the best")
    parser.add_argument("--weights-dir", type=Path, help="like MODEL_DIR")
    parser.add_argument("--size", default="x".join(map(str, SIZE_WH)), help="width x height, px")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=7, help="of every batch")
    parser.add_argument("--pictures", type=int, default=100, help="predicted one by one")
    parser.add_argument("--name", help="of the result file")
    args = parser.parse_args()
    if min(*args.batches, args.rounds, args.pictures) < 1:
        parser.error("--batches, --rounds and --pictures must be at least 1")
    width, height = (int(side) for side in args.size.split("x"))
    settings = Settings(
        profile=args.profile, device=args.device, model_dir=args.weights_dir, method="cliper"
    )
    figures = measure(
        settings,
        size_wh=(width, height),
        batches=args.batches,
        rounds=args.rounds,
        pictures=args.pictures,
    )
    show(figures)
    kind = str(figures["device"]).partition(":")[0]
    name = f"bench-{args.profile}" + ("" if kind == "cpu" else f"-{kind}")
    print(record.write(args.name or name, figures))
    return 0


def measure(
    settings: Settings,
    *,
    size_wh: tuple[int, int],
    batches: Sequence[int],
    rounds: int,
    pictures: int,
) -> dict[str, Any]:
    """All figures of the profile that `settings` name. Raises ModelFailed."""
    services = ready_services(settings)
    try:
        segmenter = services.model.segmenter()
        model = getattr(segmenter, "inner", segmenter)  # tiles are for large pictures
        assert isinstance(model, Cliper)
        device = str(model.clip.device)
        memory.forget_peak(device)
        single = latency.measure(
            services.predictor,
            scenes(WARM_UP + pictures, size_wh),
            WORDS,
            OTHERS,
            warm_up=WARM_UP,
        )
        peak_mib = memory.peak_mib(device)
        together = throughput.measure(
            model,
            list(scenes(max(batches), size_wh)),
            WORDS,
            batches=batches,
            rounds=rounds,
            device=device,
        )
        (image,) = scenes(1, size_wh)
        return {
            "profile": settings.profile,
            "device": device,
            "dtype": str(model.clip.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "image": "x".join(map(str, size_wh)),
            "words": len(WORDS),
            "rounds": rounds,
            "load_average": [round(value, 1) for value in os.getloadavg()],
            "peak_mib": peak_mib,  # of single predictions
            "latency": single,
            "throughput": together,
            **stages_of(model, image, device),
        }
    finally:
        services.close()


def stages_of(model: Cliper, image: Image, device: str) -> dict[str, Any]:
    """What computes on the device against its floor; then what is left for the processor."""
    vocabulary = model.read(WORDS)
    decision = model.decision(vocabulary.preset)
    scores = model.score(model.observe(image), vocabulary)
    write, found = throughput.writing(WORDS, decision), decide(scores, decision)
    told = stages.measure(model, image, vocabulary, device)
    for name, work in {
        "decide": lambda: decide(scores, decision),
        "brush code": lambda: write(found),
    }.items():
        told["stages"][name] = {
            "seconds": round(floors.fastest(work, device), 4),
            "peak_mib": round(memory.made_bytes(work) / memory.MIB, 1),
        }
    return told


def scenes(count: int, size_wh: tuple[int, int]) -> Iterator[Image]:
    """Drawn scenes that differ, one seed each."""
    for number in range(count):
        drawn = PilImage.fromarray(make_scene(np.random.default_rng(FIRST_SEED + number)).image)
        yield np.asarray(drawn.resize(size_wh, PilImage.Resampling.BICUBIC))


def show(figures: dict[str, Any]) -> None:
    for name, one in figures["stages"].items():
        above = f", {one['above_floor']:.2f} x its floor" if "above_floor" in one else ""
        print(f"{name:>20}: {1000 * one['seconds']:8.1f} ms{above}")
    for name, rows in figures["throughput"].items():
        paces = ", ".join(f"{row['batch']}: {row['images_per_second']:.2f}" for row in rows)
        print(f"{name:>20}: pictures per second by batch: {paces}")
    for name, one in figures["latency"].items():
        ends = ", ".join(f"{key} {one[f'{key}_ms']:.1f} ms" for key in ("median", "p95", "p99"))
        print(f"{name:>20}: {ends}")


if __name__ == "__main__":
    raise SystemExit(main())
