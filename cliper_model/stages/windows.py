"""Overlapping crops of the CLIP input: plan them, and stitch what came back (specification §6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

STRIDE = 112  # pixels, fixed in the published method; a multiple of 14 and 16


@dataclass(frozen=True)
class Window:
    """A crop in pixels of the CLIP input; corners are multiples of the patch size."""

    top: int
    left: int
    bottom: int
    right: int

    def patch_rows_columns(self, patch: int) -> tuple[slice, slice]:
        return (
            slice(self.top // patch, self.bottom // patch),
            slice(self.left // patch, self.right // patch),
        )


def plan(size_hw: tuple[int, int], *, crop: int, stride: int = STRIDE) -> tuple[Window, ...]:
    """Windows of side `crop` px in reading order; the last of a row or column is shifted inwards.

    An image smaller than the crop gets one window of its own size.
    """

    def spans(length: int) -> list[tuple[int, int]]:
        count = -(-max(length - crop, 0) // stride) + 1
        ends = [min(stride * index + crop, length) for index in range(count)]
        return [(max(end - crop, 0), end) for end in ends]

    rows, columns = spans(size_hw[0]), spans(size_hw[1])
    return tuple(
        Window(top, left, bottom, right) for top, bottom in rows for left, right in columns
    )


def merge_logits(
    logits: Sequence[Float[Tensor, "layers patches rows"]],
    windows: Sequence[Window],
    *,
    grid_hw: tuple[int, int],
    patch: int,
) -> Float[Tensor, "layers rows h w"]:
    """Sum the windows' logits where they lie and divide by how many cover each patch."""
    layers, _, rows = logits[0].shape
    total = logits[0].new_zeros(layers, rows, *grid_hw)
    count = logits[0].new_zeros(grid_hw)
    for part, window in zip(logits, windows, strict=True):
        ys, xs = window.patch_rows_columns(patch)
        shape = (ys.stop - ys.start, xs.stop - xs.start)
        total[:, :, ys, xs] += part.transpose(1, 2).reshape(layers, rows, *shape)
        count[ys, xs] += 1
    return total / count


def merge_links(
    links: Sequence[Float[Tensor, "patches patches"]],
    windows: Sequence[Window],
    *,
    grid_hw: tuple[int, int],
    patch: int,
) -> Float[Tensor, "n n"]:
    """Patch-to-patch links of all windows on the whole grid, row-normalised.

    Averages over the windows that saw both patches; pairs never seen together stay 0.
    Source: specification §6, `Q`.
    """
    height, width = grid_hw
    size = height * width
    total = links[0].new_zeros(size, size)
    count = links[0].new_zeros(size, size)
    index = torch.arange(size, device=links[0].device).view(height, width)
    for part, window in zip(links, windows, strict=True):
        ys, xs = window.patch_rows_columns(patch)
        here = index[ys, xs].reshape(-1)
        total[here[:, None], here[None, :]] += part
        count[here[:, None], here[None, :]] += 1
    average = total / (count + 1e-5)
    return average / average.sum(dim=-1, keepdim=True)
