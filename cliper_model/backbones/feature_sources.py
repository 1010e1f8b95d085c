"""Every network that can lend its features to a method: name -> weights, licence, loader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch

from .. import profiles
from ..errors import UnknownSource, WeightsMissing
from ..profiles import Profile
from . import weights
from .base import FeatureSource
from .clip import ClipBackbone
from .clip_features import ClipValues
from .diffusion import DiffusionBackbone
from .diffusion_features import DiffusionFeatures
from .sam import load_sam
from .unet import load_unet
from .vit import load_vit

Loader = Callable[..., FeatureSource]  # (place, *, name, device, dtype) -> source


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the table.

    `component` names the file in `data/weights` that says where its weights come from, None
    where they are always the user's own; `grid_336` is the feature grid of a 336 x 336 px crop.
    """

    title: str
    component: str | None
    licence: str
    grid_336: tuple[int, int]
    load: Loader | None = None  # None: the diffusion model, which a profile may have loaded already
    variant: str | None = None  # of the diffusion features


_DINO = partial(load_vit, positions="bicubic+0.1", registers=False, layer_scale=False)
_DINOV2 = partial(load_vit, patch=14, layer_scale=True)

SOURCES: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "dino-vits8": Entry(
            title="DINO ViT-S/8",
            component="dino-vits8",
            licence="Apache-2.0",
            grid_336=(42, 42),
            load=partial(_DINO, patch=8),
        ),
        "dino-vits16": Entry(
            title="DINO ViT-S/16",
            component="dino-vits16",
            licence="Apache-2.0",
            grid_336=(21, 21),
            load=partial(_DINO, patch=16),
        ),
        "dino-vitb8": Entry(
            title="DINO ViT-B/8",
            component="dino-vitb8",
            licence="Apache-2.0",
            grid_336=(42, 42),
            load=partial(_DINO, patch=8),
        ),
        "dino-vitb16": Entry(
            title="DINO ViT-B/16",
            component="dino-vitb16",
            licence="Apache-2.0",
            grid_336=(21, 21),
            load=partial(_DINO, patch=16),
        ),
        "dinov2-vitb14-reg": Entry(
            title="DINOv2 ViT-B/14 with registers",
            component="dinov2-vitb14-reg",
            licence="Apache-2.0",
            grid_336=(24, 24),
            load=partial(_DINOV2, positions="bicubic-antialias", registers=True),
        ),
        "dinov2-vitb14": Entry(
            title="DINOv2 ViT-B/14",
            component="dinov2-vitb14",
            licence="Apache-2.0",
            grid_336=(24, 24),
            load=partial(_DINOV2, positions="bicubic+0.1", registers=False),
        ),
        "sam-vitb": Entry(
            title="Segment Anything ViT-B, image encoder",
            component="sam-vitb",
            licence="Apache-2.0",
            grid_336=(64, 64),
            load=load_sam,
        ),
        "diffusion-s": Entry(
            title="Stable Diffusion U-Net, last up block with its skip (variant S)",
            component="stable-diffusion-2-1-base",
            licence="CreativeML Open RAIL++-M",
            grid_336=(64, 64),
            variant="S",
        ),
        "diffusion-p": Entry(
            title="Stable Diffusion U-Net, first up block (variant P)",
            component="stable-diffusion-2-1-base",
            licence="CreativeML Open RAIL++-M",
            grid_336=(22, 22),
            variant="P",
        ),
        "unet": Entry(
            title="plain encoder-decoder U-Net, last up block with its skip",
            component=None,
            licence="that of your file",
            grid_336=(42, 42),
            load=load_unet,
        ),
        "clip": Entry(
            title="values of CLIP's own last block",
            component=None,
            licence="as the profile's CLIP",
            grid_336=(21, 21),
        ),
    }
)


def names() -> tuple[str, ...]:
    """Every feature source, in the order of the table."""
    return tuple(SOURCES)


def entry(name: str) -> Entry:
    """One row of the table. Raises UnknownSource."""
    if name not in SOURCES:
        raise UnknownSource(name, names())
    return SOURCES[name]


def as_profile(name: str) -> Profile:
    """A profile that holds this source's weights alone: `weights.locate`, `fetch`, `verify` and
    `checksums` take it. Raises UnknownSource; WeightsMissing for `unet`, which has no file of its
    own."""
    row = entry(name)
    if row.component is None:
        raise WeightsMissing(
            f"weights of the feature source {name!r}", [], f"give a file of your own as {name}:FILE"
        )
    return replace(
        profiles.get("fast"),
        name=name,
        summary=row.title,
        components=(profiles.component(row.component),),
        licence=row.licence,
    )


def locate_source(name: str, weights_dir: str | Path | None = None) -> Path:
    """The file or folder of a source's weights on this machine.

    Raises UnknownSource, and WeightsMissing, which says where to get them.
    """
    profile = as_profile(name)
    (component,) = profile.components
    try:
        return weights.locate(profile, weights_dir)[component.part]
    except WeightsMissing as missing:
        first = component.variants[0]
        folder = (
            Path(weights_dir).expanduser() if weights_dir is not None else weights.default_folder()
        ) / component.name
        what = first.files[0].path if len(first.files) == 1 else "the files"
        source = first.sources[0]
        origin = source.url.format(path=what) if source.url else f"{what} of {source}"
        raise WeightsMissing(
            f"{component.title} for the feature source {name!r}",
            missing.places,
            f"put {origin} into {folder}",
        ) from None


def load_source(
    name: str,
    place: str | Path | None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    diffusion: DiffusionBackbone | None = None,
    clip: ClipBackbone | None = None,
    heads: int | None = None,
) -> FeatureSource:
    """Bring a feature source into memory.

    place      a weight file, or a folder with one; None looks where weights are kept.
               For the diffusion sources a folder in diffusers' layout, or the demo's
    diffusion  the model a profile has loaded already; the diffusion sources use it instead of
               `place`
    clip       the profile's CLIP, which the source `clip` is made of
    heads      only for plain vision transformers of an unpublished width

    Raises UnknownSource, WeightsMissing, WeightsMismatch.
    """
    row = entry(name)
    if name == "clip":
        if clip is None:
            raise WeightsMissing("a CLIP model to take values from", [], "choose a profile")
        return ClipValues(clip)
    if row.variant is not None:
        backbone = diffusion
        if backbone is None:
            backbone = _diffusion(_found(name, place), device=device, dtype=dtype)
        return DiffusionFeatures(backbone, variant=row.variant, name=name)
    assert row.load is not None  # every row has a loader or a variant
    more = {} if heads is None or row.load in (load_sam, load_unet) else {"heads": heads}
    return row.load(_found(name, place), name=name, device=device, dtype=dtype, **more)


def _found(name: str, place: str | Path | None) -> Path:
    if place is None:
        return locate_source(name)
    path = Path(place).expanduser()
    if not path.exists():
        raise WeightsMissing(
            f"weights of the feature source {name!r}", [path], "give a file or folder that exists"
        )
    return path


def _diffusion(place: Path, *, device: torch.device | str, dtype: torch.dtype) -> DiffusionBackbone:
    from . import diffusion_weights

    demo = (place / "demo.json").is_file()
    load = diffusion_weights.load_demo_diffusion if demo else diffusion_weights.load_diffusion
    loaded = load(place, device=device, dtype=dtype)
    return DiffusionBackbone(
        loaded.vae,
        loaded.unet,
        empty_prompt=loaded.empty_prompt,
        side=loaded.side,
        timestep=diffusion_weights.TIMESTEP,
        noise_share=loaded.noise_share(diffusion_weights.TIMESTEP),
        differences=loaded.differences,
    )
