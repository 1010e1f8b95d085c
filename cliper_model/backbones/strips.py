"""The first levels of a VAE's encoder, a strip of rows at a time.

Of a picture of 512 x 512 they make ten arrays of 67 MB or 34 MB. The C library has the system
map each of them anew, and half of the time of what is light on arithmetic goes into clearing
memory. Strips are small enough to lie where others lay before, two thirds as many are alive at one
time, and what passes from one operation to the next stays near the processor. Means and variances
are those of the whole map, in float32 or better, and values are rounded as often as otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .. import allocator
from .packed import OwnConv2d, PackedConv2d

ROWS: Final = 64  # of a strip; a power of two, since every level halves it
ROWS_GIVEN: Final = (0, 1)  # padding of a convolution that is given the rows around its own

Map = Float[Tensor, "1 c h w"]
Strips = Sequence[Map]  # of one map, from top to bottom


def entered(
    encoder: Any, pixels: Float[Tensor, "b 3 side side"]
) -> tuple[Float[Tensor, "b c h w"], int] | None:
    """What diffusers' VAE encoder makes of pixels in its first down blocks, and how many of them
    these are: those whose maps are large; None where none are, or layers are not the usual ones."""
    count = _how_many(encoder, pixels)
    if not count:
        return None
    maps = []
    for one in pixels.split(1):
        strips = _convolved(encoder.conv_in, one.split(ROWS, dim=2))
        for block in encoder.down_blocks[:count]:
            for resnet in block.resnets:
                strips = _residual(resnet, strips)
            for halve in block.downsamplers or ():
                strips = _halved(halve.conv, strips)
        maps.append(torch.cat(list(strips), dim=2))
    return maps[0] if len(maps) == 1 else torch.cat(maps), count


def _how_many(encoder: Any, pixels: Float[Tensor, "b 3 side side"]) -> int:
    if not _is_usual(encoder.conv_in):
        return 0
    positions = pixels[0, 0].numel()
    for number, block in enumerate(encoder.down_blocks):
        halves = block.downsamplers or ()
        usual = all(map(_can_be_cut, block.resnets)) and all(
            isinstance(halve.conv, PackedConv2d) and halve.padding == 0 and halve.norm is None
            for halve in halves
        )
        channels = block.resnets[-1].conv2.out_channels
        if not usual or channels * positions * pixels.element_size() < allocator.LARGE:
            return number
        positions //= 4 ** len(halves)
    return len(encoder.down_blocks)


def _can_be_cut(resnet: Any) -> bool:
    usual = _is_usual(resnet.conv1) and _is_usual(resnet.conv2)
    return usual and isinstance(resnet.nonlinearity, nn.SiLU) and resnet.time_emb_proj is None


def _is_usual(layer: nn.Module) -> bool:
    return isinstance(layer, OwnConv2d) and layer.is_three_by_three


def _convolved(layer: OwnConv2d, strips: Strips) -> Strips:
    return [layer(rows, padding=ROWS_GIVEN) for rows in _with_neighbours(strips, above=1)]


def _with_neighbours(
    strips: Strips,
    *,
    above: int,
    right: int = 0,
    put: Callable[[Map, Map], object] = lambda rows, where: where.copy_(rows),
) -> Iterator[Map]:
    """Every strip with a row of the next one below it, and as many of the one before and zeros on
    its right as are asked for; outside the map are zeros. `put` writes rows where they belong."""
    for number, own in enumerate(strips):
        _, channels, rows, columns = own.shape
        shape = (1, above + rows + 1, columns + right, channels)
        room = own.new_empty(shape).permute(0, 3, 1, 2)
        if right:
            room[..., columns:] = 0
        put(own, room[:, :, above:-1, :columns])
        edges = [(number + 1, slice(0, 1), slice(-1, None))]
        if above:
            edges.append((number - 1, slice(-1, None), slice(0, 1)))
        for neighbour, its, ours in edges:
            if 0 <= neighbour < len(strips):
                put(strips[neighbour][:, :, its], room[:, :, ours, :columns])
            else:
                room[:, :, ours] = 0
        yield room


def _residual(resnet: Any, strips: Strips) -> Strips:
    """A residual block without time; may write over what it is given."""
    known = _of_groups(resnet.norm1, strips)
    inner = [
        resnet.conv1(one, padding=ROWS_GIVEN) for one in _activated(resnet.norm1, strips, known)
    ]
    if resnet.conv_shortcut is not None:
        strips = [resnet.conv_shortcut(one) for one in strips]
    known = _of_groups(resnet.norm2, inner)
    for own, one in zip(strips, _activated(resnet.norm2, inner, known), strict=True):
        resnet.conv2.add_to(own, one, padding=ROWS_GIVEN)
        if resnet.output_scale_factor != 1:
            own.div_(resnet.output_scale_factor)
    return strips


def _halved(layer: PackedConv2d, strips: Strips) -> Strips:
    """A convolution of every second position, a row and a column of zeros below and right."""
    return [layer(rows) for rows in _with_neighbours(strips, above=0, right=1)]


def _activated(norm: nn.GroupNorm, strips: Strips, known: "_Known") -> Iterator[Map]:
    """Strips normalised and activated, each with the rows around it, zeros outside the map."""
    weight, bias = norm.weight.float(), norm.bias.float()

    def put(rows: Map, where: Map) -> None:
        normed = functional.batch_norm(rows, *known, weight, bias, training=False, eps=norm.eps)
        torch.ops.aten.silu.out(normed, out=where)

    return _with_neighbours(strips, above=1, put=put)


_Known = tuple[Float[Tensor, " c"], Float[Tensor, " c"]]


def _of_groups(norm: nn.GroupNorm, strips: Strips) -> _Known:
    """Mean and variance of every channel's group, over the whole map."""
    count, total, squares = torch.stack([_sums(one) for one in strips]).sum(dim=0)
    count, total, squares = (
        of.unflatten(0, (norm.num_groups, -1)).sum(dim=1) for of in (count, total, squares)
    )
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    each = norm.num_channels // norm.num_groups
    return mean.float().repeat_interleave(each), variance.float().repeat_interleave(each)


def _sums(strip: Map) -> Float[Tensor, "3 c"]:
    """Values of every channel, their sum, and the sum of their squares."""
    unused = (torch.zeros(strip.shape[1]), torch.zeros(strip.shape[1]))  # so answers are float32
    mean, variance = (told.double() for told in torch.batch_norm_update_stats(strip, *unused, 0.0))
    count = strip[0, 0].numel()
    return count * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])
