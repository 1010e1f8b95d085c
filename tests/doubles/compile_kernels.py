"""Every kernel compiled for a card that nobody has here: prints the name of each.

    python -m tests.doubles.compile_kernels CAPABILITY

In a process of its own: where kernels are interpreted they cannot be compiled.
"""

import sys
import warnings
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cliper_model.stages import kernels

FORMATS = ("*fp16", "*bf16", "*fp32")
HALVED = ("*fp32",)  # of which there are fewer in a tile
BY_FEW = ("_spread_kernel", "_attend_kernel", "_mix_kernel")  # by these kernels
OF_CHANNELS = ("_groups_kernel", "_scale_kernel")  # there the scale is one of every channel
FLOATS = {"scale", "weakest", "epsilon", "eps"}
IN_FULL = {  # pointers that are float32 whatever the networks compute in
    "rows", "strongest", "over", "above", "maps", "parts", "sums", "out", "total", "columns",
    "mean", "means", "squares", "offset",
}  # fmt: skip
TILES: dict[str, Any] = {
    "WIDTH": 64, "QUERIES": 64, "KEYS": 64, "CLASSES": 32, "POSITIONS": 1024, "CHANNELS": 64,
    "STEP": 64, "EACH": 16, "SHIFTED": True, "ACTIVATED": True, "ONTO": True, "ELEMENTS": 1024,
}  # fmt: skip
NUMBERS = {
    "count", "width", "heads", "pictures", "classes", "share", "shares", "head", "channels",
    "chunks", "each", "map_size", "map_row", "query_b", "query_h", "query_n", "key_b", "key_h",
    "key_n", "value_b", "value_h", "value_n", "wide", "elements",
}  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for name, kernel in vars(kernels).items():
        if not name.endswith("_kernel"):
            continue
        for form in FORMATS:
            tiles = TILES | ({"KEYS": kernels.FEW} if form in HALVED and name in BY_FEW else {})
            constants = {one: tiles[one] for one in kernel.arg_names if one.isupper()}
            source = ASTSource(
                fn=kernel,
                signature={one: kind(name, one, form) for one in kernel.arg_names},
                constexprs={(kernel.arg_names.index(one),): n for one, n in constants.items()},
            )
            print(name, form, triton.compile(source, target=target).metadata.shared)


def kind(kernel: str, argument: str, form: str) -> str:
    """Triton's word for what an argument is."""
    if argument.isupper():
        return "constexpr"
    if argument in NUMBERS:
        return "i32"
    if argument in IN_FULL or (argument == "scale" and kernel in OF_CHANNELS):
        return "*fp32"
    return "fp32" if argument in FLOATS else form


if __name__ == "__main__":
    main()
