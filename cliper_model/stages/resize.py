"""Image -> whole-patch pixels for CLIP, and a square for diffusion (specification §2, §7)."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


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


def normalise(picture: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "1 3 height width"]:
    """8-bit RGB -> CLIP's mean and deviation per channel."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].contiguous() / 255
    mean = torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)
    return (pixels - mean) / torch.tensor(CLIP_STD).view(1, 3, 1, 1)


def to_whole_patches(
    image: UInt8[np.ndarray, "height width 3"] | PilImage.Image, *, short_side: int, patch: int
) -> tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]:
    """Resize the whole picture (antialiased bicubic on 8-bit data); return pixels and grid_hw.

    A PIL image is converted to RGB only after resizing, as published; a palette picture
    then suffers nearest-neighbour sampling, so the product passes RGB arrays.
    """
    picture = PilImage.fromarray(image) if isinstance(image, np.ndarray) else image
    size_wh = whole_patch_size(picture.size, short_side=short_side, patch=patch)
    resized = picture.resize(size_wh, PilImage.Resampling.BICUBIC).convert("RGB")
    grid_hw = (size_wh[1] // patch, size_wh[0] // patch)
    return normalise(np.asarray(resized)), grid_hw


def to_diffusion_square(
    image: UInt8[np.ndarray, "height width 3"], *, side: int
) -> Float[Tensor, "1 3 side side"]:
    """Stretch the original picture to a square in [-1, 1] by nearest-neighbour sampling.

    Nearest and aspect-blind because the published numbers are (specification §7 step 1).
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous() / 255
    return 2 * functional.interpolate(pixels, size=(side, side), mode="nearest") - 1


def resize_maps(
    maps: Float[Tensor, "classes h w"], *, size_hw: tuple[int, int]
) -> Float[Tensor, "classes h2 w2"]:
    """Bilinear, half-pixel centres, no antialias."""
    resized = functional.interpolate(maps[None], size=size_hw, mode="bilinear", align_corners=False)
    return resized[0]


def resize_positions(
    table: Float[Tensor, "tokens width"], *, grid_hw: tuple[int, int], half: bool = False
) -> Float[Tensor, "tokens2 width"]:
    """Position embedding for another patch grid: class row kept, grid rows bilinear.

    `half` repeats the authors' rounding of the result to float16. Source: specification §2.
    """
    class_row, grid_rows = table[:1], table[1:]
    side = math.isqrt(grid_rows.shape[0])
    if (side, side) != grid_hw:
        as_image = grid_rows.T.reshape(1, -1, side, side)
        resized = functional.interpolate(
            as_image.float(), size=grid_hw, mode="bilinear", align_corners=False
        )
        grid_rows = resized[0].flatten(1).T.to(table.dtype)
    positions = torch.cat([class_row, grid_rows])
    return positions.half().to(table.dtype) if half else positions
