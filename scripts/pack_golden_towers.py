"""Pack small subsets of the MaskCLIP, CLIPtrase and CLIP Surgery reference values.

    python scripts/pack_golden_towers.py REFERENCE_DIR tests/parity/golden

REFERENCE_DIR holds one folder per method; a folder of the same name is written. Random weights
hardly compress, so few towers are kept, and expected values are rounded to a twentieth of
their tolerance (not where text rows are an input: the pseudo labels of MaskCLIP+). A case may
list fewer tensors than the full set; it never lists other ones. The same input gives the same
bytes.
"""

import argparse
import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save

# method -> towers kept, and per case the tensors left out
TOWERS: Final[dict[str, tuple[str, ...]]] = {
    "maskclip": ("clip_p16",),
    "cliptrase": ("clip_tiny",),
    "clip_surgery": ("clip_p14",),
}
SHOWN_BEFORE: Final = ("resized_crop_u8", "clip_in_s4", "denoised")  # in another case as well
CASES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "maskclip": {
        "plain_nonsquare_pad": (),
        "kspd": ("v_tokens_normed",),
        "slide": (),
        "plus_annotation_free": (),
        "plus_ks_pd": (),
        "plus_zero_shot": (),
        "plus_zero_shot_bg": (),
        "plus_conf": (),
    },
    "cliptrase": {
        "bg_list": (),
        "cls_weighted": SHOWN_BEFORE,
        "no_cluster": (*SHOWN_BEFORE, "attn11_mean"),
        "one_cluster": (*SHOWN_BEFORE, "attn11_mean"),
    },
    "clip_surgery": {"multi_p14": (), "two_text_redundant": ()},
}

ROUNDING: Final[dict[str, float]] = {  # a twentieth of the strictest tolerance of a method
    "maskclip": 1e-5,
    "cliptrase": 1e-5,
    "clip_surgery": 1e-6,
}


def subset(source: Path, method: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The reduced index, and the files it speaks of."""
    index = json.loads((source / "index.json").read_text())
    towers, cases = TOWERS[method], CASES[method]
    if "weights" in index:
        index["weights"] = {name: index["weights"][name] for name in towers}
    index["cases"] = [case for case in index["cases"] if case["name"] in cases]
    files = {
        f"{name}.safetensors": (source / f"{name}.safetensors").read_bytes() for name in towers
    }
    for case in index["cases"]:
        name = case["name"]
        tensors = {
            key: value if "unlabeled" in case else rounded(value, near=ROUNDING[method])
            for key, value in load_file(source / f"{name}.safetensors").items()
            if key not in cases[name]
        }
        if "tensors" in case:
            case["tensors"] = {k: v for k, v in case["tensors"].items() if k in tensors}
        files[f"{name}.safetensors"] = save(tensors)
    return index, files


def rounded(values: np.ndarray, *, near: float) -> np.ndarray:
    """Floats to a multiple of a power of two below `near`: fewer digits, better packing."""
    if values.dtype.kind != "f":
        return values
    step = 2.0 ** np.floor(np.log2(near))
    return (np.round(values.astype(np.float64) / step) * step).astype(values.dtype)


def packed(files: dict[str, bytes]) -> bytes:
    """A tar of the files, without times and owners, compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("target", type=Path)
    chosen = parser.parse_args()
    for method in TOWERS:
        folder = chosen.target / method
        folder.mkdir(parents=True, exist_ok=True)
        index, files = subset(chosen.reference / method, method)
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
        (folder / "golden.tar.xz").write_bytes(packed(files))


if __name__ == "__main__":
    main()
