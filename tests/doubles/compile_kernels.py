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

FORMATS = {"half": "*fp16", "full": "*fp32"}
FLOATS = {"scale", "weakest", "epsilon", "eps"}
IN_FULL = {  # pointers that are float32 whatever the networks compute in
    "rows", "strongest", "over", "above", "maps", "parts", "sums", "out", "total", "columns",
    "mean", "means", "squares", "offset",
}  # fmt: skip
TILES: dict[str, Any] = {
    "WIDTH": 64, "QUERIES": 64, "KEYS": 64, "CLASSES": 32, "POSITIONS": 1024, "CHANNELS": 64,
    "STEP": 64, "EACH": 16, "SHIFTED": True, "ACTIVATED": True, "ONTO": True,
}  # fmt: skip
NUMBERS = {
    "count", "width", "heads", "pictures", "classes", "share", "shares", "head", "channels",
    "chunks", "each", "map_size", "map_row", "query_b", "query_h", "query_n", "key_b", "key_h",
    "key_n", "value_b", "value_h", "value_n",
}  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    for name, kernel in vars(kernels).items():
        if not name.endswith("_kernel"):
            continue
        for form in FORMATS.values():
            constants = {one: TILES[one] for one in kernel.arg_names if one.isupper()}
            if (
                form == "*fp32"
                and "KEYS" in constants
                and name in ("_attend_kernel", "_mix_kernel")
            ):
                constants["KEYS"] = kernels.FEW
            kinds = {one: kind(name, one, form) for one in kernel.arg_names}
            source = ASTSource(
                fn=kernel,
                signature=kinds,
                constexprs={(kernel.arg_names.index(one),): n for one, n in constants.items()},
            )
            shared = triton.compile(source, target=target).metadata.shared
            print(name, form, shared)


def kind(kernel: str, argument: str, form: str) -> str:
    """Triton's word for what an argument is."""
    if argument.isupper():
        return "constexpr"
    if argument in NUMBERS:
        return "i32"
    if argument in FLOATS and not (
        argument == "scale" and kernel in ("_groups_kernel", "_scale_kernel")
    ):
        return "fp32"
    return "*fp32" if argument in IN_FULL | {"scale"} else form


if __name__ == "__main__":
    main()
