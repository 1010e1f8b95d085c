"""How fast the hardware could be: what a computation must do, against measured peaks.

A stage's floor is the larger of two times: its floating point operations at the measured peak
of their number formats, and the bytes its operations read and write, unfused, at the measured
bandwidth. Both peaks come from this machine with the threads that the stage has. What kernels of
our own compute on a card is not seen, so floors there are too low.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from cliper_model.stages import products

GIGA = 1e9
SIDES = (2048, 4096)  # of the products that measure a peak
CARD_SIDES = (4096, 8192)  # where the small ones end before a card is busy
COPIED = 64 * 2**20  # values copied to measure the bandwidth
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Operations per second by number format, and bytes per second."""

    flops: dict[str, float]
    bandwidth: float

    def floor(self, work: "Work") -> float:
        """Seconds that cannot be saved."""
        computing = sum(flops / self.flops[dtype] for dtype, flops in work.flops.items())
        return max(computing, work.bytes / self.bandwidth)


@dataclass
class Work:
    """Floating point operations (2 per multiply-add) by number format, bytes moved, and the most
    bytes of new tensors alive at one time, results included."""

    flops: dict[str, float] = field(default_factory=dict)
    bytes: float = 0.0
    peak_bytes: int = 0


def peaks(device: str, dtypes: tuple[torch.dtype, ...]) -> Peaks:
    """Of this machine, by products of large matrices and copies of large arrays.

    Of the two libraries that torch multiplies with the faster one counts.
    """
    found = {}
    for dtype in dtypes:
        best = 0.0
        for side in SIDES if device == "cpu" else CARD_SIDES:
            seeded = torch.Generator().manual_seed(0)
            drawn = (torch.randn(side, side, generator=seeded) for _ in range(2))
            left, right = (one.to(device, dtype) for one in drawn)
            forms: list[Callable[..., Tensor]] = [torch.mm, products.product]
            if dtype == torch.int8:
                forms = [torch._int_mm]
            for multiply in forms:
                seconds = fastest(lambda both=(left, right), by=multiply: by(*both), device)  # type: ignore[misc]
                best = max(best, 2 * side**3 / seconds)
        found[str(dtype).removeprefix("torch.")] = best
    source = torch.zeros(COPIED, device=device)
    target = torch.empty_like(source)
    seconds = fastest(lambda: target.copy_(source), device)
    return Peaks(flops=found, bandwidth=2 * source.nbytes / seconds)


def fastest(work: Callable[[], Any], device: str) -> float:
    """Seconds of the fastest of a few runs; one before is not counted."""
    work()
    return min(once(work, device)[0] for _ in range(REPEATS))


def once(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds of one run, and what it gave."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    value = work()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun, value


def work_of(compute: Callable[[], Any]) -> Work:
    """Count one run; views and allocations move nothing."""
    work = Work()
    with _Counting(work):
        compute()
    return work


class _Counting(TorchDispatchMode):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work
        # A weak reference keeps a storage's number from being given to another.
        self._given: dict[int, StorageWeakRef] = {}  # storages that were there before
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}  # and those still alive

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._hold([], given)
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self._hold(made, [])
        packet = func.overloadpacket
        count = _FORMULAS.get(packet) or flop_registry.get(packet)
        if count is not None and made:
            dtype = _format_of(given)
            flops = count(*args, **kwargs, out_val=out)
            self._work.flops[dtype] = self._work.flops.get(dtype, 0.0) + flops
        if not func.is_view and packet not in _FREE:
            self._work.bytes += sum(map(_touched, [*given, *made]))
        return out

    def _hold(self, made: Sequence[Tensor], given: Sequence[Tensor]) -> None:
        """Count what is alive; a tensor that nobody here made was there before."""
        self._made = {key: one for key, one in self._made.items() if not one[0].expired()}
        made = [tensor for tensor in made if not tensor.is_mkldnn]  # factors laid out: small
        for tensor in given:
            if tensor.is_mkldnn:  # those, and weights, which were there before
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._made and storage._cdata not in self._given:
                self._given[storage._cdata] = StorageWeakRef(storage)
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._given:
                self._made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        alive = sum(nbytes for _, nbytes in self._made.values())
        self._work.peak_bytes = max(self._work.peak_bytes, alive)


def _format_of(factors: Sequence[Tensor]) -> str:
    """What is multiplied: bytes where the first factor is one, else what the last matrix is in. A
    bias may be in another format; it is added."""
    if factors[0].dtype == torch.uint8:
        return "int8"
    matrices = [one for one in factors if one.ndim > 1]
    return str(matrices[-1].dtype).removeprefix("torch.")


def _touched(tensor: Tensor) -> int:
    """Bytes behind a tensor; a dimension that is only repeated is read once."""
    if tensor.is_mkldnn:  # laid out for its product, with no strides to tell
        return tensor.numel() * tensor.element_size()
    values = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        values *= length if stride else 1
    return values * tensor.element_size()


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _product_of_bytes(rows: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return 2 * rows.shape[0] * rows.shape[1] * out_val.shape[1]


def _packed_convolution(_: Tensor, weight: Tensor, *__: Any, out_val: Tensor, **___: Any) -> int:
    return 2 * out_val.numel() * math.prod(weight.shape[1:])


def _packed_sum(
    _: Tensor, __: Tensor, weight: Tensor, *___: Any, out_val: Tensor, **____: Any
) -> int:
    return 2 * out_val.numel() * math.prod(weight.shape[1:])


def _packed_product(tokens: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return 2 * out_val.numel() * tokens.shape[-1]


_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.onednn.qlinear_pointwise: _product_of_bytes,
    torch.ops.mkldnn._convolution_pointwise: _packed_convolution,
    torch.ops.mkldnn._convolution_pointwise_: _packed_sum,
    torch.ops.mkldnn._linear_pointwise: _packed_product,
}
with suppress(AttributeError):
    _FORMULAS[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = _attention
_FREE = {torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.aten.new_empty}
