"""Products of matrices on the CPU by the library that takes all of the processor's width.

Torch multiplies float32 by Intel's MKL, which gives another maker's AVX-512 units half of the
work they can do. oneDNN, which torch carries for its convolutions, asks the processor: twice as
fast on an AMD EPYC. Sums are added up in another order, so results differ in the last bits.
"""

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

OPERATORS = ("_linear_pointwise", "_reorder_linear_weight")
ALONE: tuple[Any, ...] = ("none", [], "")  # nothing follows the product


@functools.cache
def takes_all_of_the_width() -> bool:
    """Whether oneDNN is the faster one here: AVX-512 that Intel did not make."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older: do not tell
    known = bool(has.get("avx512_f")) and not str(has.get("cpu_name", "Intel")).startswith("Intel")
    both = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()
    return known and both and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def laid_out(right: Float[Tensor, "columns inner"]) -> Float[Tensor, "columns inner"]:
    """A right factor for several `product` calls, as its library takes it; of use to no other."""
    if not _by_onednn(right):
        return right
    pack: Any = torch.ops.mkldnn._reorder_linear_weight
    packed: Tensor = pack(right.contiguous())
    return packed


def product(
    left: Float[Tensor, "rows inner"],
    right: Float[Tensor, "columns inner"],
    bias: Float[Tensor, " columns"] | None = None,
    *,
    out: Float[Tensor, "rows columns"] | None = None,
    below_zero: float = 1.0,
) -> Float[Tensor, "rows columns"]:
    """`left @ right.T + bias`; `right` as `laid_out` gives it, or plain.

    out         memory that may be used for the answer; take what is returned
    below_zero  what negative sums are multiplied by; free where it is done before they are written
    """
    if right.is_mkldnn or _by_onednn(left):
        multiply: Any = torch.ops.mkldnn._linear_pointwise
        after: tuple[Any, ...] = ALONE if below_zero == 1 else ("leaky_relu", [below_zero], "")
        multiplied: Tensor = multiply(left, right, bias, *after)
        return multiplied
    if bias is None:
        plain = torch.mm(left, right.T, out=out)
    else:
        plain = torch.addmm(bias, left, right.T, out=out)
    return plain if below_zero == 1 else functional.leaky_relu_(plain, below_zero)


def _by_onednn(factor: Tensor) -> bool:
    return (
        factor.device.type == "cpu"
        and factor.dtype in (torch.float32, torch.bfloat16)
        and takes_all_of_the_width()
    )
