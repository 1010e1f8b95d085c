"""Maps of the patch grid -> one canvas over the picture the network saw.

MaskCLIP enlarges its logits to the size of its input before they reach the image's own size,
and averages overlapping windows there. Source: specification maskclip §1 and §4.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MOST_VALUES = 64_000_000  # logits kept at once: 256 MB of float32; published: no limit

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels of the network's input


def affordable_canvas(seen_hw: tuple[int, int], *, maps: int, most_values: int) -> tuple[int, int]:
    """`seen_hw`, or fewer cells of the same shape where `maps` of them exceed `most_values`."""
    height, width = seen_hw
    share = min(1.0, math.sqrt(most_values / (maps * height * width)))
    return max(1, math.floor(height * share)), max(1, math.floor(width * share))


def sample(
    maps: Float[Tensor, "rows h w"],
    *,
    down: Float[Tensor, " height"],
    across: Float[Tensor, " width"],
) -> Float[Tensor, "rows height width"]:
    """Bilinear values at places given in cells (0.5 is the centre of the first); edges repeat."""
    upper, lower, weight = _neighbours(down, maps.shape[1])
    left, right, share = _neighbours(across, maps.shape[2])
    tall = maps[:, upper] * (1 - weight)[:, None] + maps[:, lower] * weight[:, None]
    return tall[:, :, left] * (1 - share) + tall[:, :, right] * share


def _neighbours(places: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    centred = (places - 0.5).clamp(0, cells - 1)
    first = centred.floor().long()
    return first, (first + 1).clamp_max(cells - 1), centred - first


def paint(
    maps: Sequence[Float[Tensor, "rows h w"]],
    boxes: Sequence[Box],
    *,
    seen_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    patch: int | None,
) -> Float[Tensor, "rows height width"]:
    """The windows' maps where they lie, bilinear; their mean where windows overlap.

    The canvas covers `seen_hw` pixels with `canvas_hw` cells. `patch` is the side of a map's
    cell in pixels: what a map shows beyond its box (padding) is cut off. None stretches every
    map over its box instead, padding included, as published.
    """
    total = maps[0].new_zeros(len(maps[0]), *canvas_hw)
    count = maps[0].new_zeros(canvas_hw)
    centres = [
        (torch.arange(cells, device=total.device) + 0.5) * (seen / cells)
        for seen, cells in zip(seen_hw, canvas_hw, strict=True)
    ]
    for part, (top, left, bottom, right) in zip(maps, boxes, strict=True):
        places, spans = [], []
        for axis, (start, end) in enumerate(((top, bottom), (left, right))):
            inside = (centres[axis] >= start) & (centres[axis] < end)
            side = (end - start) / part.shape[axis + 1] if patch is None else patch
            places.append(((centres[axis][inside] - start) / side).to(part.dtype))
            spans.append(inside.nonzero().flatten())
        if not len(spans[0]) or not len(spans[1]):
            continue
        rows, columns = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        total[:, rows, columns] += sample(part, down=places[0], across=places[1])
        count[rows, columns] += 1
    return total / count
