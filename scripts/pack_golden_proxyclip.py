"""Pack a small subset of the ProxyCLIP reference values for a bare clone.

    python scripts/pack_golden_proxyclip.py REFERENCE_DIR tests/parity/golden/proxyclip

The cases below need one CLIP and two DINOs, whose weights are packed as they are. Expected
values are rounded to a twentieth of their tolerance.
"""

import argparse
import io
import json
import lzma
import math
import re
import tarfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save

CASES: Final = (
    "dino16_small_padded",  # padding, thresholdless, one window
    "adjust_proxy",  # synonyms, feature adjustment
    "dino8_square_single",  # a finer grid than CLIP's
    "novfm_direct",
    "op_nonsquare_80x128_coarse",
)
EXACT: Final = re.compile(  # inputs, and what is compared for equality
    r"image_u8|text_features|ex_feats|cls_feature|"
    r"query_idx|label_map|safe_mask"
)
ROUNDING_SHARE: Final = 20
TOLERANCES: Final = (  # of the index: features, low-resolution logits, probabilities
    (re.compile(r"class_probs.*"), 1e-3),
    (re.compile(r"logits.*|cosine|adjusted|class_weights"), 1e-4),
)
FEATURES: Final = 2e-4


def rounded(name: str, values: np.ndarray) -> np.ndarray:
    """`values` on a power-of-two grid whose error is a small share of the tolerance."""
    if values.dtype != np.float32 or EXACT.fullmatch(name):
        return values
    tolerance = next((close for names, close in TOLERANCES if names.fullmatch(name)), FEATURES)
    step = 2.0 ** math.floor(math.log2(2 * tolerance / ROUNDING_SHARE))
    return (np.round(values.astype(np.float64) / step) * step).astype(np.float32)


def archive(files: dict[str, bytes], *, bytes_per_number: int) -> bytes:
    """A tar.xz whose coder is told how wide the numbers are; the same input, the same bytes."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            packed.addfile(entry, io.BytesIO(data))
    bits = int(math.log2(bytes_per_number))
    coder = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "lc": min(3, 4 - bits),
        "lp": bits,
        "pb": bits,
    }
    return lzma.compress(tar.getvalue(), format=lzma.FORMAT_XZ, filters=[coder])


def pack(source: Path, target: Path) -> None:
    index: dict[str, Any] = json.loads((source / "index.json").read_text())
    index["cases"] = [case for case in index["cases"] if case["name"] in CASES]
    used = sorted(
        {case[key] for case in index["cases"] for key in ("clip", "vfm") if case.get(key)}
    )
    index["weights"] = {name: index["weights"][name] for name in used}
    index["subset"] = (
        "part of the full reference set: fewer cases, expected values rounded to "
        f"1/{ROUNDING_SHARE} of their tolerance"
    )

    values = {}
    for case in index["cases"]:
        tensors = load_file(source / f"{case['name']}.safetensors")
        kept = {name: rounded(name, tensor) for name, tensor in tensors.items()}
        values[f"{case['name']}.safetensors"] = save(kept)
    weights = {
        f"{name}.safetensors": (source / f"{name}.safetensors").read_bytes() for name in used
    }

    target.mkdir(parents=True, exist_ok=True)
    (target / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    (target / "weights.tar.xz").write_bytes(archive(weights, bytes_per_number=2))
    (target / "values.tar.xz").write_bytes(archive(values, bytes_per_number=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="the full reference directory")
    parser.add_argument("target", type=Path, help="where index.json and the archives go")
    arguments = parser.parse_args()
    pack(arguments.source, arguments.target)
    for path in sorted(arguments.target.iterdir()):
        print(f"{path.stat().st_size:>9,} {path.name}")


if __name__ == "__main__":
    main()
