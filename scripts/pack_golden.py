"""Pack a small subset of the CLIPer reference values for a bare clone.

    python scripts/pack_golden.py REFERENCE_DIR tests/parity/golden/cliper

The full set is 24 MB, most of it random weights that hardly compress. Three things make a
useful part of it fit into 6 MB, and none of them touches what is compared:

* weights that cannot influence a reference value (the VAE decoder, the U-Net behind the last
  tap, the MLP of CLIP's last block) are kept in place as zeros, so every file has its full
  layout, and zeros compress to nothing;
* expected values are rounded to a twentieth of their tolerance;
* a case may list fewer tensors than the full set; it never lists other ones.
"""

import argparse
import io
import json
import lzma
import math
import tarfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save

CLIP: Final = "clip_a"
DIFFUSION_IMAGE: Final = "img_land"

# case -> tensors left out; the first and the last stages of a case always stay
ONCE: Final = ("upsampled", "last_block_weights_each_layer")  # shared with the first case
BRIEF: Final = (*ONCE, "layer_features", "accumulated_after_each_layer")
CASES: Final[dict[str, tuple[str, ...]]] = {
    "c01_p16_fused_sfsa": ("upsampled",),
    "c05_p16_fused_selection_20cls": BRIEF,
    "c07_p16_identity_none": ONCE,
    "c08_p16_q-q_none": BRIEF,
    "c09_p16_k-k_none": BRIEF,
    "c10_p16_v-v_none": BRIEF,
    "c11_p16_vanilla_none": BRIEF,
    "c13_p16_fused_nofuse_sel-1": (*ONCE, "accumulated_after_each_layer"),
    "c17_p16_identity_slide112_none": ONCE,
}
DIFFUSION_TENSORS: Final = (
    "vae_input_row_200",
    "attn-4_rows",
    "attn-6_rows",
    "norm_rows_thr0.1",
    "chain_at_ramp_thr0.1",
    "chain_at_ramp_thr0.35",
    "mean_at_ramp_thr0.1",
    "mean_at_ramp_thr0.35",
)

TOLERANCES: Final[dict[str, float]] = {  # absolute, from the index; others are the strictest
    "fg_text": 1e-5,
    "bg_text": 1e-5,
    "pos_emb": 1e-6,
    "layer_features": 1e-4,
    "layer_logits": 1e-3,
    "slide_logits": 1e-3,
    "slide_crop0_logits": 1e-3,
    "slide_crop_last_logits": 1e-3,
    "seg": 2e-5,
    "seg64": 2e-5,
    "attn-4_rows": 2e-5,
    "attn-6_rows": 2e-5,
}
STRICTEST: Final = 1e-5
ROUNDING_SHARE: Final = 20  # of the tolerance

LAST_TAP: Final = "up_blocks.3.attentions.1."
OF_LAST_TAP: Final = (".norm.", "proj_in", "norm1", "attn1.to_q", "attn1.to_k")


def without_influence(name: str) -> bool:
    """Whether a weight of this name is behind everything the reference values record."""
    if name.startswith(LAST_TAP):
        return not any(part in name for part in OF_LAST_TAP)
    return name.startswith(
        (
            "up_blocks.3.attentions.2.",
            "up_blocks.3.resnets.2.",
            "conv_norm_out.",
            "conv_out.",
            "decoder.",
            "post_quant_conv.",
            "visual.transformer.resblocks.3.mlp.",
        )
    )


def rounded(name: str, values: np.ndarray) -> np.ndarray:
    """`values` on a power-of-two grid whose error is a small share of the tolerance."""
    if values.dtype != np.float32 or values.ndim < 2:
        return values
    allowed = TOLERANCES.get(name, STRICTEST) / ROUNDING_SHARE
    step = 2.0 ** math.floor(math.log2(2 * allowed))
    return (np.round(values.astype(np.float64) / step) * step).astype(np.float32)


def weights(source: Path, name: str) -> bytes:
    tensors = load_file(source / name)
    return save(
        {
            key: np.zeros_like(value) if without_influence(key) else value
            for key, value in tensors.items()
        }
    )


def write_archive(path: Path, files: dict[str, bytes], *, bytes_per_number: int) -> None:
    """A tar.xz whose coder is told how wide the numbers are; the same input, the same bytes."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    position_bits = int(math.log2(bytes_per_number))
    coder = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "lc": min(3, 4 - position_bits),
        "lp": position_bits,
        "pb": position_bits,
    }
    path.write_bytes(lzma.compress(tar.getvalue(), format=lzma.FORMAT_XZ, filters=[coder]))


def pack(source: Path, target: Path) -> None:
    index: dict[str, Any] = json.loads((source / "index.json").read_text())
    diffusion = index["sd"]["sd_a"]

    values: dict[str, bytes] = {diffusion["const"]: (source / diffusion["const"]).read_bytes()}
    inputs: set[str] = set()
    images: set[str] = set()
    for name, left_out in CASES.items():
        case = json.loads((source / f"{name}.json").read_text())
        if case["clip"] != CLIP or case.get("diffusion", DIFFUSION_IMAGE) != DIFFUSION_IMAGE:
            raise SystemExit(f"{name} needs weights or diffusion outputs that are not packed")
        tensors = load_file(source / case["file"])
        kept = {key: rounded(key, value) for key, value in tensors.items() if key not in left_out}
        case["tensors"] = {key: case["tensors"][key] for key in kept}
        values[f"{name}.json"] = json.dumps(case, indent=1).encode()
        values[case["file"]] = save(kept)
        inputs.add(case["input"])
        images.add(case["image"])

    links = index["diffusion_outputs"][DIFFUSION_IMAGE]
    tensors = load_file(source / links["file"])
    values[links["file"]] = save({key: rounded(key, tensors[key]) for key in DIFFUSION_TENSORS})
    all_inputs = load_file(source / index["inputs_file"])
    values[index["inputs_file"]] = save(
        {(key := index["inputs"][name]["key"]): all_inputs[key] for name in sorted(inputs)}
    )
    for name in sorted(images):
        values[index["images"][name]["file"]] = (
            source / index["images"][name]["file"]
        ).read_bytes()

    index["cases"] = list(CASES)
    index["clips"] = {CLIP: index["clips"][CLIP]}
    index["inputs"] = {name: index["inputs"][name] for name in sorted(inputs)}
    index["images"] = {name: index["images"][name] for name in sorted(images)}
    index["diffusion_outputs"] = {DIFFUSION_IMAGE: links}
    index["subset"] = (
        "part of the full reference set: fewer cases, fewer tensors per case, expected values "
        f"rounded to 1/{ROUNDING_SHARE} of their tolerance, weights without influence zeroed"
    )

    target.mkdir(parents=True, exist_ok=True)
    (target / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    network = (index["clips"][CLIP]["file"], diffusion["unet"], diffusion["vae"])
    write_archive(
        target / "weights.tar.xz",
        {name: weights(source, name) for name in network},
        bytes_per_number=2,
    )
    write_archive(target / "values.tar.xz", values, bytes_per_number=4)


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
