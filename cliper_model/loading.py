"""Profile name -> a Segmenter on this machine's best device."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import presets, profiles, registry
from .backbones import clip_weights, diffusion_weights, int8, packed, taesd, weights
from .backbones.base import FeatureSource
from .backbones.clip import ClipBackbone
from .backbones.diffusion import DiffusionBackbone, posterior_mean
from .backbones.row_shelf import RowShelf
from .devices import best_device, cards
from .errors import NoSuchDevice, UnfitPrecision, WeightsMissing
from .methods.frame import Parts
from .profiles import Profile
from .segmenter import Identity, Label, Segmenter

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]  # share done, from 0 to 1
NOISE_SEED = 0
BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")  # several times float32's pace, and twice
LATER = {"refined": True}  # of decisions; they mark an identity where they say something else
INT8_UNITS = ("amx_int8", "avx512_vnni", "avx_vnni")


def best_profile(device: str | None = None) -> str:
    """`standard` where CUDA will be used, else `fast`; `device` None may use any."""
    on_gpu = torch.cuda.is_available() and not (device or "cuda").startswith("cpu")
    return "standard" if on_gpu else "fast"


@dataclass(frozen=True, kw_only=True)
class Precision:
    """What the networks compute in, and why, for people."""

    dtype: torch.dtype
    because: str


def best_precision(
    device: str, profile: Profile | None = None, *, published: bool = False
) -> Precision:
    """Half precision where it is the authors' own setting (CUDA), bfloat16 where the processor
    has units for it and what it costs was measured (CLIPer alone), full precision elsewhere.

    The demo networks are so small that bfloat16 saves them little: they keep float32.
    """
    if device.startswith("cuda"):
        return Precision(dtype=torch.float16, because="a CUDA card, as the authors ran it")
    units = _units(BFLOAT16_UNITS) if device == "cpu" else []
    if not units:
        return Precision(dtype=torch.float32, because="no units for half precision known here")
    if published:
        return Precision(dtype=torch.float32, because="published figures are repeated exactly")
    if profile is not None and profile.on_demo_weights:
        return Precision(dtype=torch.float32, because="small networks gain little from less")
    if profile is None or profile.method != "cliper" or profile.features is not None:
        return Precision(
            dtype=torch.float32, because="what less costs was measured for CLIPer only"
        )
    return Precision(dtype=torch.bfloat16, because=f"the processor has {units[0]}")


def check_precision(dtype: str | torch.dtype | None, device: str, profile: Profile | None) -> None:
    """Refuse "int8" where it was not measured or brings nothing; all else may be asked for.

    What is not multiplied in bytes computes in bfloat16, so the processor needs units for both.
    `profile` None: a feature source by itself. Raises UnfitPrecision.
    """
    if dtype not in ("int8", torch.int8):
        return
    if device.partition(":")[0] != "cpu":
        raise UnfitPrecision("int8", f"it is for processors, and this model would run on {device}")
    if profile is None or profile.method != "cliper" or profile.features is not None:
        raise UnfitPrecision("int8", "what it costs was measured for CLIPer alone")
    for units in (INT8_UNITS, BFLOAT16_UNITS):
        if not _units(units):
            raise UnfitPrecision("int8", f"this processor has none of {', '.join(units)}")


def _units(names: Sequence[str]) -> list[str]:
    """Those that this machine's processor has."""
    has: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older: do not tell
    return [name for name in names if has.get(name)]


def devices() -> tuple[str, ...]:
    """Every device of this machine, such as "cpu" and "cuda:0"."""
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return ("cpu", *cards(), *mps)


def load(
    profile: str,
    *,
    method: str | None = None,
    features: str | None = None,
    student: str | Path | None = None,
    vae: str | None = None,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    weights_dir: str | Path | None = None,
    published: bool = False,
    progress: Progress | None = None,
    shelf: RowShelf | None = None,
    cuda_graphs: bool = True,
    winograd: bool = True,
) -> Segmenter:
    """Bring a profile's weights into memory.

    profile    `demo` (shipped), `fast`, `standard` or `best`
    method     such as "proxyclip"; None is the profile's own, CLIPer
    features   feature source of methods that use one, NAME or NAME:FILE; None picks
    student    checkpoint of a trained student, for "maskclip+"
    vae        "taesd": the small encoder in place of Stable Diffusion's own; None is its own
    device     such as "cpu", "cuda:1" or "mps"; None picks the best
    dtype      "float32", "float16", "bfloat16", or "int8": bfloat16 but for most layers of CLIP's
               vision tower, CLIPer on a CPU alone; None picks by device (`best_precision`)
    published  restore what the method's specification lists as unsafe; for CLIPer: unseeded
               noise, no epsilon, the duplicate row of a single label, one string per label,
               and a PIL image resized before it is RGB
    shelf      remembers text rows, so that a word is encoded once; None: every time
    cuda_graphs  a card starts the kernels of scores at once where it was asked before; CLIPer alone
    winograd   the autoencoder's convolutions on large maps in bfloat16 take half of the
               multiplications where that is faster, and round a little more; not if `published`

    Raises UnknownProfile, UnknownMethod, UnknownSource, UnneededSource, UnneededStudent,
    UnknownVae, UnneededVae, NoSuchDevice, UnfitPrecision, WeightsMissing, WeightsMismatch.
    """
    chosen = profiles.get(profile, method=method, features=features, vae=vae)
    if published:
        profiles.check_published(vae)
    where = best_device() if device is None else known_device(device)
    check_precision(dtype, where, chosen)
    given = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    wanted = given or best_precision(where, chosen, published=published).dtype
    known = _identity(chosen, _digests(chosen, weights_dir, student), published=published)
    shop = _Shop(
        profile=chosen,
        device=where,
        dtype=torch.bfloat16 if wanted == torch.int8 else wanted,
        in_bytes=wanted == torch.int8,
        places=weights.locate(chosen, weights_dir),
        published=published,
        digests=known.weights,
        progress=progress or (lambda _: None),
        shelf=shelf,
        winograd=winograd,
    )
    segmenter = registry.builder(chosen.method)(
        Parts(
            profile=chosen,
            published=published,
            identity=known,
            presets=lambda name: presets.get(name, chosen.clip, chosen.method),
            check_words=_word_check(chosen),
            clip=shop.clip,
            diffusion=shop.diffusion,
            features=shop.features,
            student=Path(student) if student is not None else None,
            device=where,
            dtype=shop.dtype,
            cuda_graphs=cuda_graphs,
        )
    )
    shop.progress(1.0)
    return segmenter


def identity(
    profile: str,
    weights_dir: str | Path | None = None,
    *,
    method: str | None = None,
    features: str | None = None,
    student: str | Path | None = None,
    vae: str | None = None,
) -> Identity:
    """What a profile's masks depend on besides words and decisions; loads no network.

    Raises UnknownProfile, UnknownMethod, UnknownSource, UnneededSource, UnknownVae, UnneededVae,
    WeightsMissing.
    """
    chosen = profiles.get(profile, method=method, features=features, vae=vae)
    return _identity(chosen, _digests(chosen, weights_dir, student))


def identity_after_fetch(
    profile: str,
    weights_dir: str | Path | None = None,
    *,
    method: str | None = None,
    features: str | None = None,
    student: str | Path | None = None,
    vae: str | None = None,
) -> Identity | None:
    """What `identity` will return once all weights are here; None where that is not certain.

    Raises as `identity`, but WeightsMissing only where the demo model was left out or a local
    file is not there.
    """
    chosen = profiles.get(profile, method=method, features=features, vae=vae)
    digests = weights.checksums_after_fetch(chosen, weights_dir)
    return None if digests is None else _identity(chosen, {**digests, **_local(chosen, student)})


def _digests(
    profile: Profile, weights_dir: str | Path | None, student: str | Path | None
) -> Mapping[str, str]:
    return {**weights.checksums(profile, weights_dir), **_local(profile, student)}


def _local(profile: Profile, student: str | Path | None) -> dict[str, str]:
    """Checksums of files the user named: a feature source's and a student's."""
    profiles.check_student(profile.method, student)
    found = {}
    if profile.features is not None and ":" in profile.features:
        name, _, path = profile.features.partition(":")
        found[f"features/{name}"] = weights.sha256(_existing(Path(path), "a feature source"))
    if student is not None:
        found["student"] = weights.sha256(_existing(Path(student), "a trained student"))
    return found


def _existing(path: Path, what: str) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise WeightsMissing(what, [path], "give the path of a file that exists")
    return path


def _word_check(profile: Profile) -> Callable[[Sequence[Label]], None] | None:
    if profile.known_words is None:
        return None
    return lambda labels: profiles.check_words(profile.name, labels)


@dataclass(frozen=True, kw_only=True)
class _Shop:
    """Brings single networks of a profile into memory when a method asks for them."""

    profile: Profile
    device: str
    dtype: torch.dtype
    in_bytes: bool  # most layers of CLIP's vision tower
    places: Mapping[str, Path]
    published: bool
    digests: Mapping[str, str]
    progress: Progress
    shelf: RowShelf | None
    winograd: bool

    def clip(self) -> ClipBackbone:
        """The profile's CLIP; the same one whoever asks."""
        return self._clip

    @cached_property
    def _clip(self) -> ClipBackbone:
        if self.profile.name == "demo":
            model, tokenizer = clip_weights.load_demo_clip(
                self.places["clip"], dtype=self.dtype, device=self.device
            )
        else:
            model, tokenizer = clip_weights.load_clip(
                self.places["clip"],
                self.profile.clip,
                dtype=self.dtype,
                device=self.device,
                published=weights.is_published(self.profile, "clip", self.digests),
            )
        if self.in_bytes:
            int8.shrink(model)
        elif packed.can_be_packed(torch.device(self.device), self.dtype):
            packed.pack_tower(model)
        self.progress(0.3)
        return ClipBackbone(
            model,
            tokenizer,
            shelf=self.shelf,
            name=self.profile.clip,
            weights=weights.of_part(self.profile, "clip", self.digests),
        )

    def diffusion(self) -> DiffusionBackbone | None:
        """The refiner's network; None where the profile has none, or features take its place."""
        if self.profile.features is not None:
            return None
        backbone = self._diffusion()
        if backbone is None:
            return None
        return backbone.settle(halve=self.winograd and not self.published)

    def _diffusion(self) -> DiffusionBackbone | None:
        if self.profile.diffusion is None:
            return None
        place = self.places["diffusion"]
        if self.profile.name == "demo":
            loaded = diffusion_weights.load_demo_diffusion(
                place, dtype=self.dtype, device=self.device
            )
            timestep = int(profiles.demo_card()["diffusion"]["timestep"])
        else:
            loaded = diffusion_weights.load_diffusion(
                place, dtype=self.dtype, device=self.device, vae=self._vae()
            )
            timestep = diffusion_weights.TIMESTEP
        self.progress(0.9)
        return DiffusionBackbone(
            loaded.vae,
            loaded.unet,
            empty_prompt=loaded.empty_prompt,
            side=loaded.side,
            timestep=timestep,
            noise_share=loaded.noise_share(timestep),
            noise_seed=None if self.published else NOISE_SEED,
            differences=(*loaded.differences, *self._doubts_about_vae()),
            latent=posterior_mean if self.profile.vae is None else taesd.latent,
        )

    def _vae(self) -> nn.Module | None:
        """What stands in for Stable Diffusion's own VAE; None where nothing does."""
        if self.profile.vae is None:
            return None
        return taesd.load_taesd(self.places["vae"], dtype=self.dtype, device=self.device)

    def _doubts_about_vae(self) -> tuple[str, ...]:
        """Files for other latent spaces have the same layout; only the checksum tells them."""
        if self.profile.vae is None or weights.is_published(self.profile, "vae", self.digests):
            return ()
        return (f"the file of {self.profile.vae} is not the published one",)

    def features(self) -> FeatureSource | None:
        """The profile's feature source, from its component or the user's file."""
        if self.profile.features is None:
            return None
        from .backbones import feature_sources  # brings timm

        name, _, path = self.profile.features.partition(":")
        source = feature_sources.load_source(
            name,
            Path(path) if path else self.places.get("features"),
            device=self.device,
            dtype=self.dtype,
            diffusion=self._diffusion() if name.startswith("diffusion-") else None,
            clip=self.clip() if name == "clip" else None,
        )
        self.progress(0.9)
        return source


def known_device(device: str) -> str:
    """`device`, if this machine has it; "cuda" and "mps" mean the first one, and there is one
    processor, however it is counted.

    Raises NoSuchDevice.
    """
    known = devices()
    first = {"cuda": "cuda:0", "mps:0": "mps"}
    if re.fullmatch(r"cpu:\d+", device):
        return "cpu"
    if first.get(device, device) not in known:
        raise NoSuchDevice(device, known)
    return device


def _identity(profile: Profile, digests: Mapping[str, str], *, published: bool = False) -> Identity:
    module = registry.module_of(profile.method)
    settings = {
        **asdict(module.config_of(profile, published=published)),
        "published": published,
        "presets": _preset_digest(profile.clip, profile.method),
    }
    if profile.features is not None:
        settings["features"] = profile.features.partition(":")[0]
    if profile.vae is not None:
        settings["vae"] = profile.vae
    return Identity(
        method=profile.method,
        revision=module.REVISION,
        profile=profile.name,
        weights=digests,
        settings=settings,
    )


def _preset_digest(clip: str, method: str) -> str:
    """Changes whenever a number of a preset changes."""
    numbers: dict[str, Any] = {
        name: asdict(presets.get(name, clip, method)) for name in presets.NAMES
    }
    for preset in numbers.values():
        for field, usual in LATER.items():
            if preset["decision"][field] == usual:
                del preset["decision"][field]
    text = json.dumps(numbers, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
