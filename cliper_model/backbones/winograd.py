"""Convolutions of 3 x 3 with half of the multiplications: Winograd's F(4, 3) along rows.

Six neighbours in a row become six sums, each is convolved down its column by 3 x 1, and four
results come back: 18 multiplications for every 4 where there were 36. Sums are rounded on the way,
so in bfloat16 a result is off by 0.006 of its size where a plain convolution's is off by 0.002;
masks do not show it (`benchmarks/precision.py`). Along both directions it would be a quarter of the
multiplications, six times the error, and no faster, since what is around the products would then
decide. Points are 0, ± 3/4, ± 3/2 and infinity: two thirds of the error of the usual 0, ± 1, ± 2,
and sums whose factors bfloat16 holds exactly. Source: Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks (2015), section 4.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..stages.products import takes_all_of_the_width
from .packed import OwnConv2d, PackedConv2d

OWN_PADDING: Final = (1, 1)  # rows and columns
RESULTS: Final = 4  # side by side, of what comes out
SUMS: Final = (  # of what goes in, a column and five to its right
    (81 / 64, 0, -45 / 16, 0, 1, 0),
    (0, -27 / 16, -9 / 4, 3 / 4, 1, 0),
    (0, 27 / 16, -9 / 4, -3 / 4, 1, 0),
    (0, -27 / 32, -9 / 16, 3 / 2, 1, 0),
    (0, 27 / 32, -9 / 16, -3 / 2, 1, 0),
    (0, 81 / 64, 0, -45 / 16, 0, 1),
)
WEIGHTS: Final = (  # of a row of the kernel
    (64 / 81, 0, 0),
    (-128 / 243, -32 / 81, -8 / 27),
    (-128 / 243, 32 / 81, -8 / 27),
    (32 / 243, 16 / 81, 8 / 27),
    (32 / 243, -16 / 81, 8 / 27),
    (0, 0, 1),
)
BACK: Final = (  # results of products, from the first that counts
    (0, (1, 1, 1, 1, 1)),
    (1, (3 / 4, -3 / 4, 3 / 2, -3 / 2)),
    (1, (9 / 16, 9 / 16, 9 / 4, 9 / 4)),
    (1, (27 / 64, -27 / 64, 27 / 8, -27 / 8, 1)),
)
LEAST_CHANNELS: Final = 128  # with fewer, products are not what costs
LEAST_POSITIONS: Final = 2**14  # of a map; on smaller ones twice the weights buy little time


def pays() -> bool:
    """Whether it is the faster form on this machine: not where a processor has units for whole
    tiles of bfloat16, beside which nothing is cheaper than a product."""
    return takes_all_of_the_width() and not torch.cpu.get_capabilities().get("amx_bf16")


def is_for(layer: nn.Module, positions: int) -> bool:
    """Whether a layer is of the kind, and large enough on a map of so many positions."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (3, 3)
        and layer.padding == OWN_PADDING
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and min(layer.in_channels, layer.out_channels) >= LEAST_CHANNELS
        and positions >= LEAST_POSITIONS
    )


class WinogradConv2d(OwnConv2d):
    """A convolution of 3 x 3, channels last; see `is_for`."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.out_channels = layer.out_channels
        self.is_three_by_three = True
        self.across = nn.ModuleList(
            _of_every_channel(layer, layer.in_channels, (1, len(one)), one) for one in SUMS
        )
        self.down = nn.ModuleList(_down(layer, factors) for factors in WEIGHTS)
        self.back = nn.ModuleList(
            _of_every_channel(layer, layer.out_channels, (len(one), 1), one, bias=layer.bias)
            for _, one in BACK
        )

    def forward(
        self, given: Float[Tensor, "b c h w"], padding: tuple[int, int] | None = None
    ) -> Float[Tensor, "b d y x"]:
        """`padding` in place of the layer's own, rows and columns."""
        padding = padding or OWN_PADDING
        count, _, height, width = given.shape
        rows, columns = height + 2 * padding[0] - 2, width + 2 * padding[1] - 2
        result = given.new_empty(count, rows, columns, self.out_channels).permute(0, 3, 1, 2)
        return self._put(result, given, padding, Tensor.copy_)

    def add_to(
        self,
        own: Float[Tensor, "b d y x"],
        given: Float[Tensor, "b c h w"],
        padding: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b d y x"]:
        """Add what comes out to `own`, in place."""
        return self._put(own, given, padding or OWN_PADDING, Tensor.add_)

    def _put(
        self,
        result: Float[Tensor, "b d y x"],
        given: Float[Tensor, "b c h w"],
        padding: tuple[int, int],
        put: Callable[[Tensor, Tensor], object],
    ) -> Float[Tensor, "b d y x"]:
        _, channels, rows, columns = result.shape
        above, beside = padding
        tiles = -(-columns // RESULTS)
        if missing := tiles * RESULTS - columns:
            given = functional.pad(given, (0, missing))
        for one, own in zip(given.split(1), result.permute(0, 2, 3, 1), strict=True):
            products = own.new_empty(len(SUMS), rows * tiles, channels)
            for product, across, down in zip(products, self.across, self.down, strict=True):
                summed = down(across(one, padding=(0, beside)), padding=(above, 0))
                product.copy_(summed.permute(0, 2, 3, 1).flatten(0, 2))
            as_rows = products.permute(2, 0, 1)[None]
            for column, ((first, factors), back) in enumerate(zip(BACK, self.back, strict=True)):
                made = back(as_rows[:, :, first : first + len(factors)])
                here = own[:, column::RESULTS]
                put(here, made.permute(0, 2, 3, 1).view(rows, tiles, -1)[:, : here.shape[1]])
        return result


def _of_every_channel(
    layer: nn.Conv2d,
    channels: int,
    size: tuple[int, int],
    factors: Sequence[float],
    *,
    bias: Tensor | None = None,
) -> PackedConv2d:
    """The same sum in every channel, along rows only every fourth of it."""
    stride = (1, RESULTS) if size[0] == 1 else (1, 1)
    made = _layer(layer, channels, channels, size, stride=stride, groups=channels)
    made.weight.copy_(torch.tensor(factors).view(size))
    made.bias = bias
    return PackedConv2d(made)


def _down(layer: nn.Conv2d, factors: Sequence[float]) -> PackedConv2d:
    """What one of the sums is convolved with."""
    made = _layer(layer, layer.in_channels, layer.out_channels, (3, 1))
    weighed = layer.weight.float() @ torch.tensor(factors, dtype=torch.float32)
    made.weight.copy_(weighed[..., None])
    return PackedConv2d(made)


def _layer(
    like: nn.Conv2d, channels: int, wide: int, size: tuple[int, int], **how: Any
) -> nn.Conv2d:
    """A layer without values and without a bias, in the number format of another."""
    made: nn.Conv2d = nn.utils.skip_init(
        nn.Conv2d, channels, wide, size, bias=False, dtype=like.weight.dtype, **how
    )
    return made.requires_grad_(False)
