"""Profile name -> a Segmenter on this machine's best device."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from . import presets, profiles, registry
from .backbones import clip_weights, diffusion_weights, weights
from .backbones.clip import ClipBackbone
from .backbones.diffusion import DiffusionBackbone
from .errors import NoSuchDevice
from .methods.cliper import REVISION, Cliper, CliperConfig
from .profiles import Profile
from .segmenter import Identity, Label, Segmenter

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]  # share done, from 0 to 1
NOISE_SEED = 0


def best_device() -> str:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str) -> torch.dtype:
    """Half precision where it is the authors' own setting (CUDA), full precision elsewhere."""
    return torch.float16 if device.startswith("cuda") else torch.float32


def devices() -> tuple[str, ...]:
    """Every device of this machine, such as "cpu" and "cuda:0"."""
    cards = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *(cards if torch.cuda.is_available() else ()), *mps)


def load(
    profile: str,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    weights_dir: str | Path | None = None,
    published: bool = False,
    progress: Progress | None = None,
) -> Segmenter:
    """Bring a profile's weights into memory.

    profile    `demo` (shipped), `fast`, `standard` or `best`
    device     such as "cpu", "cuda:1" or "mps"; None picks the best
    dtype      "float32", "float16" or "bfloat16"; None picks by device
    published  restore what the specification lists as unsafe: unseeded noise, no epsilon,
               the duplicate row of a single label, one string per label, and a PIL image
               resized before it is RGB

    Raises UnknownProfile, UnknownMethod, NoSuchDevice, WeightsMissing, WeightsMismatch.
    """
    chosen = profiles.get(profile)
    where = best_device() if device is None else _known(device)
    precision = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return registry.builder(chosen.method)(
        profile=chosen,
        device=where,
        dtype=precision or best_dtype(where),
        weights_dir=weights_dir,
        published=published,
        progress=progress or (lambda _: None),
    )


def identity(profile: str, weights_dir: str | Path | None = None) -> Identity:
    """What a profile's masks depend on besides words and decisions; loads no network.

    Raises UnknownProfile, WeightsMissing.
    """
    chosen = profiles.get(profile)
    return _identity(chosen, weights.checksums(chosen, weights_dir))


def identity_after_fetch(profile: str, weights_dir: str | Path | None = None) -> Identity | None:
    """What `identity` will return once all weights are here; None where that is not certain.

    Raises UnknownProfile, or WeightsMissing where the demo model was left out.
    """
    chosen = profiles.get(profile)
    digests = weights.checksums_after_fetch(chosen, weights_dir)
    return None if digests is None else _identity(chosen, digests)


def config_of(profile: Profile, *, published: bool = False) -> CliperConfig:
    """The method's settings under one profile."""
    return CliperConfig(
        short_side=profile.short_side,
        refinement="SFSA" if profile.diffusion else "none",
        crop=profile.window,
        published=published,
    )


def build_cliper(
    *,
    profile: Profile,
    device: str,
    dtype: torch.dtype,
    weights_dir: str | Path | None,
    published: bool,
    progress: Progress,
) -> Cliper:
    """CLIPer from the profile's files."""
    places = weights.locate(profile, weights_dir)
    known = identity(profile.name, weights_dir)
    if profile.name == "demo":
        model, tokenizer = clip_weights.load_demo_clip(places["clip"], dtype=dtype, device=device)
    else:
        model, tokenizer = clip_weights.load_clip(
            places["clip"],
            profile.clip,
            dtype=dtype,
            device=device,
            published=weights.is_published(profile, "clip", known.weights),
        )
    progress(0.3)
    diffusion = None
    if profile.diffusion:
        diffusion = _diffusion(profile, places["diffusion"], device, dtype, published=published)
    progress(0.9)
    settings = {**known.settings, "published": published}
    progress(1.0)

    def check_words(labels: Sequence[Label]) -> None:
        profiles.check_words(profile.name, labels)

    return Cliper(
        ClipBackbone(model, tokenizer),
        diffusion,
        config_of(profile, published=published),
        presets=lambda name: presets.get(name, profile.clip),
        identity=replace(known, settings=settings),
        check_words=check_words if profile.known_words is not None else None,
    )


def _known(device: str) -> str:
    """`device`, if this machine has it; "cuda" and "mps" mean the first one."""
    known = devices()
    first = {"cuda": "cuda:0", "cpu:0": "cpu", "mps:0": "mps"}
    if first.get(device, device) not in known:
        raise NoSuchDevice(device, known)
    return device


def _identity(profile: Profile, digests: Mapping[str, str]) -> Identity:
    return Identity(
        method=profile.method,
        revision=REVISION,
        profile=profile.name,
        weights=digests,
        settings={**asdict(config_of(profile)), "presets": _preset_digest(profile.clip)},
    )


def _diffusion(
    profile: Profile, place: Path, device: str, dtype: torch.dtype, *, published: bool
) -> DiffusionBackbone:
    if profile.name == "demo":
        loaded = diffusion_weights.load_demo_diffusion(place, dtype=dtype, device=device)
        timestep = int(profiles.demo_card()["diffusion"]["timestep"])
    else:
        loaded = diffusion_weights.load_diffusion(place, dtype=dtype, device=device)
        timestep = diffusion_weights.TIMESTEP
    return DiffusionBackbone(
        loaded.vae,
        loaded.unet,
        empty_prompt=loaded.empty_prompt,
        side=loaded.side,
        timestep=timestep,
        noise_share=loaded.noise_share(timestep),
        noise_seed=None if published else NOISE_SEED,
        differences=loaded.differences,
    )


def _preset_digest(clip: str) -> str:
    """Changes whenever a number of a preset changes."""
    numbers: dict[str, Any] = {name: asdict(presets.get(name, clip)) for name in presets.NAMES}
    text = json.dumps(numbers, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
