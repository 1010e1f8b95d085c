"""Image -> whole-patch pixels for CLIP, and a square for diffusion (specification §2, §7)."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from .transfer import sent

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

POSITION_RULES = ("bilinear", "bicubic", "bicubic+0.1")


def whole_patch_size(size_wh: tuple[int, int], *, short_side: int, patch: int) -> tuple[int, int]:
    """Width and height in pixels: short side near `short_side`, both multiples of `patch`.

    Rounds half up in double precision; the aspect ratio is kept only up to that rounding.
    Never less than one patch. Source: specification §2 step 1.
    """
    width, height = size_wh
    ratio = short_side / min(width, height)
    sides = (max(1, math.floor(side * ratio / patch + 0.5)) * patch for side in (width, height))
    return next(sides), next(sides)


def affordable_side(
    size_wh: tuple[int, int], *, short_side: int, patch: int, most_patches: int
) -> int:
    """`short_side`, or less for a picture so long that it would have more than `most_patches`.

    Attention grows with the square of the patches; an endless panorama must not take all
    memory. Pixels, at least one patch.
    """
    width, height = whole_patch_size(size_wh, short_side=short_side, patch=patch)
    patches = (width // patch) * (height // patch)
    if patches <= most_patches:
        return short_side
    return max(patch, math.floor(short_side * math.sqrt(most_patches / patches) / patch) * patch)


def affordable_picture(
    image: UInt8[np.ndarray, "height width 3"], *, most_patches: int
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """The picture itself, or squeezed along its long side where even one row of patches would
    be too many: a strip of 1 x 20000 pixels is seen, not worth all memory."""
    height, width = image.shape[:2]
    if max(height, width) <= most_patches * min(height, width):
        return image
    most = most_patches * min(height, width)
    squeezed = PilImage.fromarray(image).resize(
        (min(width, most), min(height, most)), PilImage.Resampling.BOX
    )
    return np.asarray(squeezed)


def affordable(
    image: UInt8[np.ndarray, "height width 3"], *, short_side: int, patch: int, most_patches: int
) -> tuple[UInt8[np.ndarray, "height2 width2 3"], int]:
    """A picture and a short side that together make no more than about `most_patches`.

    Any picture an annotator would open keeps both; endless strips are squeezed or seen smaller.
    """
    picture = affordable_picture(image, most_patches=most_patches)
    size_wh = (picture.shape[1], picture.shape[0])
    side = affordable_side(size_wh, short_side=short_side, patch=patch, most_patches=most_patches)
    return picture, side


def normalise(
    picture: UInt8[np.ndarray, "height width 3"],
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
    *,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "1 3 height width"]:
    """8-bit RGB -> zero mean and unit deviation per channel, in CLIP's statistics or others."""
    pixels = sent(torch.from_numpy(np.array(picture)), device).permute(2, 0, 1)[None]
    pixels = pixels.contiguous() / 255
    middle, scale = (sent(torch.tensor(one), device).view(1, 3, 1, 1) for one in (mean, std))
    return (pixels - middle) / scale


def without_normalisation(
    pixels: Float[Tensor, "1 3 height width"],
) -> Float[Tensor, "1 3 height width"]:
    """CLIP's normalisation taken back: RGB in [0, 1]. Source: proxyclip.md §3."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device).view(1, 3, 1, 1)
    return pixels * torch.tensor(CLIP_STD, device=pixels.device).view(1, 3, 1, 1) + mean


def to_multiple(
    image: UInt8[np.ndarray, "height width 3"], *, short_side: int, multiple: int
) -> Float[Tensor, "1 3 h w"]:
    """RGB in [0, 1] whose sides are whole multiples of `multiple` px, the short one near
    `short_side`; antialiased bicubic."""
    height, width = image.shape[:2]
    size_wh = whole_patch_size((width, height), short_side=short_side, patch=multiple)
    resized = PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].contiguous() / 255


def to_whole_cells(
    image: UInt8[np.ndarray, "height width 3"], *, size_hw: tuple[int, int], cell: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Antialiased bilinear to about `size_hw` px, both sides whole multiples of `cell`."""
    height, width = (max(1, round(side / cell)) * cell for side in size_hw)
    return np.asarray(
        PilImage.fromarray(image).resize((width, height), PilImage.Resampling.BILINEAR)
    )


def to_short_side(
    image: UInt8[np.ndarray, "height width 3"],
    *,
    short_side: int,
    long_side: int = 2048,
    antialias: bool = True,
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """Short side to `short_side` px unless the long one would pass `long_side`; ratio kept.

    Bilinear with half-pixel centres, rounded to 8 bits. Without antialias it is the resize of
    the framework ProxyCLIP and MaskCLIP were published with.
    """
    height, width = image.shape[:2]
    ratio = min(short_side / min(height, width), long_side / max(height, width))
    size_hw = (max(1, math.floor(height * ratio + 0.5)), max(1, math.floor(width * ratio + 0.5)))
    if size_hw == (height, width):
        return image
    if antialias:
        size_wh = (size_hw[1], size_hw[0])
        return np.asarray(PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BILINEAR))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(pixels, size=size_hw, mode="bilinear", align_corners=False)
    return np.ascontiguousarray(resized[0].round().byte().permute(1, 2, 0).numpy())


def to_whole_patches(
    image: UInt8[np.ndarray, "height width 3"] | PilImage.Image, *, short_side: int, patch: int
) -> tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]:
    """`whole_patches` as CLIP takes them."""
    resized, grid_hw = whole_patches(image, short_side=short_side, patch=patch)
    return normalise(resized), grid_hw


def whole_patches(
    image: UInt8[np.ndarray, "height width 3"] | PilImage.Image, *, short_side: int, patch: int
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
    """Resize the whole picture (antialiased bicubic on 8-bit data); return pixels and grid_hw.

    A PIL image is converted to RGB only after resizing, as published; a palette picture
    then suffers nearest-neighbour sampling, so the product passes RGB arrays.
    """
    picture = PilImage.fromarray(image) if isinstance(image, np.ndarray) else image
    size_wh = whole_patch_size(picture.size, short_side=short_side, patch=patch)
    resized = picture.resize(size_wh, PilImage.Resampling.BICUBIC).convert("RGB")
    grid_hw = (size_wh[1] // patch, size_wh[0] // patch)
    return np.asarray(resized), grid_hw


def to_diffusion_square(
    image: UInt8[np.ndarray, "height width 3"], *, side: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "1 3 side side"]:
    """Stretch the original picture to a square in [-1, 1] by nearest-neighbour sampling.

    Nearest and aspect-blind because the published numbers are (specification §7 step 1).
    """
    given = sent(torch.from_numpy(np.array(image)), device)
    pixels = given.permute(2, 0, 1)[None].contiguous() / 255
    return 2 * functional.interpolate(pixels, size=(side, side), mode="nearest") - 1


def resize_maps(
    maps: Float[Tensor, "classes h w"], *, size_hw: tuple[int, int]
) -> Float[Tensor, "classes h2 w2"]:
    """Bilinear, half-pixel centres, no antialias."""
    given = maps[None]
    if maps.device.type == "cuda":  # where channels come last, each is computed for itself
        given = given.contiguous(memory_format=torch.channels_last)
    return functional.interpolate(given, size=size_hw, mode="bilinear", align_corners=False)[0]


def resize_positions(
    table: Float[Tensor, "tokens width"],
    *,
    grid_hw: tuple[int, int],
    rule: str = "bilinear",
    by_count: bool = False,
    half: bool = False,
) -> Float[Tensor, "tokens2 width"]:
    """Position embedding for another patch grid: class row kept, grid rows interpolated.

    rule      "bilinear" (CLIPer, CLIP Surgery), "bicubic" (MaskCLIP), or "bicubic+0.1": the
              scale factor `(side + 0.1) / table side` drives the sampling coordinates, as in
              DINO, ProxyCLIP and CLIPtrase; never antialiased
    by_count  published in MaskCLIP, ProxyCLIP and CLIPtrase: a grid of another shape with as
              many cells as the table is not resized
    half      repeats CLIPer's rounding of the result to float16

    Source: specifications cliper §2, proxyclip §2, maskclip §1, clip_surgery §1.
    """
    class_row, grid_rows = table[:1], table[1:]
    side = math.isqrt(grid_rows.shape[0])
    same = grid_hw[0] * grid_hw[1] == side * side if by_count else grid_hw == (side, side)
    if not same:
        as_image = grid_rows.T.reshape(1, -1, side, side).float()
        grid_rows = _interpolate_positions(as_image, grid_hw=grid_hw, rule=rule)
        grid_rows = grid_rows[0].flatten(1).T.to(table.dtype)
    positions = torch.cat([class_row, grid_rows])
    return positions.half().to(table.dtype) if half else positions


def _interpolate_positions(
    table: Float[Tensor, "1 width side side"], *, grid_hw: tuple[int, int], rule: str
) -> Float[Tensor, "1 width h w"]:
    if rule == "bicubic+0.1":
        side = table.shape[-1]
        factors = [(cells + 0.1) / side for cells in grid_hw]
        return functional.interpolate(table, scale_factor=factors, mode="bicubic")
    if rule not in POSITION_RULES:
        raise ValueError(f"positions must be one of {', '.join(POSITION_RULES)}, got {rule!r}")
    return functional.interpolate(table, size=grid_hw, mode=rule, align_corners=False)
