"""Count floating point operations and look at every matrix product while code runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

Product = tuple[int, int, int]  # rows, inner, columns


@dataclass
class Count:
    """What `counting` saw: all operations (2 per multiply-add), and each product's shape."""

    flops: int = 0
    products: dict[Product, int] = field(default_factory=dict)  # shape -> how often

    def cubes(self, side: int) -> dict[Product, int]:
        """Products whose three lengths all reach `side`: matrices multiplied by matrices."""
        return {shape: times for shape, times in self.products.items() if min(shape) >= side}

    def flops_of(self, *, rows: int, inner: int) -> int:
        """Operations of the products with these lengths, whatever their columns."""
        return sum(
            2 * rows * inner * shape[2] * times
            for shape, times in self.products.items()
            if shape[:2] == (rows, inner)
        )


@contextmanager
def counting() -> Iterator[Count]:
    """Count everything inside of the block, on this thread."""
    count = Count()
    with FlopCounterMode(display=False, custom_mapping=_OWN) as total, _Products(count):
        yield count
    count.flops = total.get_total_flops()


class _Products(TorchDispatchMode):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operands = _OPERANDS.get(getattr(func, "overloadpacket", None))
        if operands is not None:
            left, right = (args[index] for index in operands)
            batch = left.shape[0] if left.ndim == 3 else 1
            shape = (left.shape[-2], left.shape[-1], right.shape[-1])
            self._count.products[shape] = self._count.products.get(shape, 0) + batch
        out = func(*args, **(kwargs or {}))
        if getattr(func, "overloadpacket", None) in _OWN:  # their matrices are packed: no shape
            shape = (args[0].shape.numel() // args[0].shape[-1], args[0].shape[-1], out.shape[-1])
            self._count.products[shape] = self._count.products.get(shape, 0) + 1
        return out


def _flops_of_packed(rows: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * rows.numel() * out_shape[-1]


_OWN: dict[Any, Callable[..., int]] = {
    torch.ops.onednn.qlinear_pointwise: _flops_of_packed,  # bytes
    torch.ops.mkldnn._linear_pointwise: _flops_of_packed,
}
_OPERANDS: dict[Any, tuple[int, int]] = {
    torch.ops.aten.mm: (0, 1),
    torch.ops.aten.bmm: (0, 1),
    torch.ops.aten.addmm: (1, 2),
    torch.ops.aten.baddbmm: (1, 2),
}
