"""What masks lose with the small encoder TAESD in place of Stable Diffusion's own.

    python -m benchmarks.agreement --weights-dir DIR [--root PICTURES] [--profile standard]
                                   [--limit 100] [--device cpu] [--dtype float32]

DIR holds the profile's weights and TAESD's, as `cliper weights fetch` puts them there. PICTURES is
a folder as for `cliper evaluate --dataset folder`; without it, scenes are drawn and all of their
labels asked. Both encoders see the same pictures, refinement on, and masks are decided as
annotators get them. Counted are pixels with the same label, mIoU of both against the truth, how
far latents lie apart, and seconds of both encoders. Writes `results/agreement-taesd.json`, which
says whether the weights were the published ones: with any others the figures mean nothing.
"""

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from tqdm import tqdm

from cliper_model import loading, profiles
from cliper_model.backbones import weights
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.evaluation import benchmarks
from cliper_model.evaluation.confusion import IGNORED, count, figures
from cliper_model.evaluation.settings import for_own_data
from cliper_model.stages.resize import to_diffusion_square

from . import floors, record

VAE = "taesd"
FIRST_SEED = 50_000
Rgb = UInt8[np.ndarray, "height width 3"]
LabelMap = Int[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What both encoders are shown; `read` gives a picture and its truth (0 is background)."""

    what: str
    classes: tuple[str, ...]
    count: int
    read: Callable[[int], tuple[Rgb, LabelMap]]


@dataclass
class Seen:
    """One encoder's answers, picture by picture."""

    label_maps: list[LabelMap] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--root", type=Path, help="pictures with masks; default: drawn scenes")
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="default: as the profile would run")
    args = parser.parse_args()
    pictures = drawn(args.limit) if args.root is None else own(args.root, args.limit)
    content = measure(
        pictures,
        profile=args.profile,
        weights_dir=args.weights_dir,
        device=args.device,
        dtype=args.dtype,
    )
    print(json.dumps(content, indent=1))
    if not content["published_weights"]:
        print("these weights are not the published ones: the figures mean nothing", file=sys.stderr)
    print(record.write(f"agreement-{VAE}", content))
    return 0


def drawn(limit: int) -> Pictures:
    """Scenes nobody was trained on; what has no label is not counted."""

    def read(number: int) -> tuple[Rgb, LabelMap]:
        scene = make_scene(np.random.default_rng(FIRST_SEED + number))
        truth = scene.label_map().astype(np.int64)
        return scene.image, np.where(truth > 0, truth, IGNORED)

    return Pictures(what="drawn scenes", classes=LABELS, count=limit, read=read)


def own(root: Path, limit: int) -> Pictures:
    """Pictures with masks. Raises BadDataset."""
    data = benchmarks.open_data("folder", root)
    samples = data.samples[:limit]
    return Pictures(
        what=root.name,
        classes=data.layout.classes or data.classes,
        count=len(samples),
        read=lambda number: (data.image(samples[number]), data.truth(samples[number])),
    )


def measure(
    pictures: Pictures,
    *,
    profile: str,
    weights_dir: Path,
    device: str,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Both encoders on all pictures, one after the other, so that one model is in memory.

    Shares are from 0 to 1, mIoU is in percent, seconds are the median of one picture.
    Raises WeightsMissing, UnneededVae.
    """
    chosen = profiles.get(profile, vae=VAE)
    digests = {**weights.checksums(profile, weights_dir), **weights.checksums(chosen, weights_dir)}
    answers = {}
    for name, vae in (("own", None), (VAE, VAE)):
        model: Any = loading.load(
            profile, vae=vae, device=device, dtype=dtype, weights_dir=weights_dir
        )
        answers[name] = look(model, pictures)
        number_format = str(model.diffusion.dtype).removeprefix("torch.")
        del model
        gc.collect()
    own_seen, other = answers["own"], answers[VAE]
    equal = [
        float((one == two).mean())
        for one, two in zip(own_seen.label_maps, other.label_maps, strict=True)
    ]
    apart = [
        float((one - two).norm() / one.norm())
        for one, two in zip(own_seen.latents, other.latents, strict=True)
    ]
    miou = {name: miou_of(seen.label_maps, pictures) for name, seen in answers.items()}
    return {
        "profile": profile,
        "pictures": pictures.count,
        "of": pictures.what,
        "dtype": number_format,
        "threads": torch.get_num_threads(),
        "published_weights": all_published(profile, digests),
        "equal_pixels": round(float(np.mean(equal)), 6),
        "equal_pixels_of_the_worst_picture": round(min(equal), 6),
        "miou": {name: round(value, 3) for name, value in miou.items()},
        "miou_difference": round(miou[VAE] - miou["own"], 3),
        "latents_apart": round(float(np.mean(apart)), 4),
        "encoder_seconds": {
            name: round(statistics.median(seen.seconds), 4) for name, seen in answers.items()
        },
    }


def look(model: Any, pictures: Pictures) -> Seen:
    """Masks as annotators get them, latents without noise, and seconds of the encoder alone."""
    segment = for_own_data(model, pictures.classes).segment
    diffusion, seen = model.diffusion, Seen()
    for number in tqdm(range(pictures.count), unit="picture", disable=None):
        image, _ = pictures.read(number)
        seen.label_maps.append(segment(image).label_map)
        square = to_diffusion_square(image, side=diffusion.side)
        with torch.no_grad():
            seconds, latent = floors.once(
                lambda square=square: diffusion.encode(square),  # type: ignore[misc]
                diffusion.device.type,
            )
        seen.seconds.append(seconds)
        seen.latents.append(latent.float().cpu())
    return seen


def miou_of(found: Sequence[LabelMap], pictures: Pictures) -> float:
    """Percent, over all pictures together."""
    labels = len(pictures.classes) + 1
    matrix = np.zeros((labels, labels), np.int64)
    for number, label_map in enumerate(found):
        matrix += count(pictures.read(number)[1], label_map, labels=labels)
    return figures(matrix).miou


def all_published(profile: str, digests: dict[str, str]) -> bool:
    """Whether every file with a recorded checksum has it, TAESD's among them."""
    pins = {
        f"{component.name}/{file.path}": file.sha256
        for chosen in (profiles.get(profile), profiles.get(profile, vae=VAE))
        for component in chosen.components
        for variant in component.variants
        for file in variant.files
        if file.sha256 is not None
    }
    return all(pins.get(name, digest) == digest for name, digest in digests.items())


if __name__ == "__main__":
    sys.exit(main())
