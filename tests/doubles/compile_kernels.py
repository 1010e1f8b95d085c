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
BY_FEW = ("_rows_kernel", "_spread_kernel", "_attend_kernel", "_mix_kernel")  # in float32
OF_CHANNELS = ("_groups_kernel", "_scale_kernel")  # there the scale is one of every channel
WIDTHS = (16, 32, 64)  # of a tile of labels
WHOLE = {"width", "heads", "channels", "map_size", "map_row", "wide", "query_n", "key_n", "value_n"}
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
            for labels in WIDTHS if "CLASSES" in kernel.arg_names else WIDTHS[:1]:
                print(name, form, compiled(name, kernel, form, labels, target))


def compiled(name: str, kernel: Any, form: str, labels: int, target: GPUTarget) -> int:
    """Bytes of what a multiprocessor shares that one program takes."""
    tiles = TILES | {"CLASSES": labels}
    if form == "*fp32" or (name == "_spread_kernel" and labels == kernels.MOST_CLASSES):
        tiles |= {"QUERIES": kernels.FEW} if name == "_strongest_kernel" else {}
        tiles |= {"KEYS": kernels.FEW} if name in BY_FEW else {}
    names = kernel.arg_names
    kinds = {one: kind(name, one, form) for one in names}
    source = ASTSource(
        fn=kernel,
        signature=kinds,
        constexprs={(names.index(one),): tiles[one] for one in names if one.isupper()},
        attrs={  # as memory is given out, and most numbers are
            (names.index(one),): [["tt.divisibility", 16]]
            for one in names
            if kinds[one].startswith("*") or one in WHOLE
        },
    )
    shared: int = triton.compile(source, target=target).metadata.shared
    return shared


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
