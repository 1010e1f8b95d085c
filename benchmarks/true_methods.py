"""Every method at true size, from weight files to masks, on a CPU in float32.

    python -m benchmarks.true_methods [--cache .cache/true-size] [--only ROW ...]

Random weights are written once in the true layouts (about 5 GB: ViT-B/16, Stable Diffusion
2.1-base, DINO, DINOv2, SAM, a plain U-Net, a DeepLabV3 student). Each row is one
`cliper segment` of a 500 x 375 picture with 6 words in a process of its own: seconds of the
picture, seconds and peak memory of the process, text included. Another process counts the
operations of one 336 x 336 picture and 20 words (observe and score, without encoding words).
Exit status 1 if a run fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cliper_model.segmenter import Vocabulary

from . import record, true_size

LABELS = "sky, grass, house, tree, car, person"
COUNTED_WORDS = 20
EMBED = 512  # of ViT-B/16
SEED = 0


@dataclass(frozen=True)
class Row:
    """One way to build a method."""

    name: str
    method: str
    profile: str = "fast"
    features: str | None = None

    def options(self, weights: Path) -> list[str]:
        """Of `cliper segment`."""
        found = ["--method", self.method, "--profile", self.profile]
        if self.features == "unet":
            found += ["--features", f"unet:{weights / 'unet' / 'unet.safetensors'}"]
        elif self.features is not None:
            found += ["--features", self.features]
        if self.method == "maskclip+":
            found += ["--student", str(weights / "student-resnet50.safetensors")]
        return found


SOURCES = {  # feature source -> its name in timm
    "dino-vits8": "vit_small_patch8_224.dino",
    "dino-vits16": "vit_small_patch16_224.dino",
    "dino-vitb8": "vit_base_patch8_224.dino",
    "dino-vitb16": "vit_base_patch16_224.dino",
    "dinov2-vitb14-reg": "vit_base_patch14_reg4_dinov2.lvd142m",
    "sam-vitb": "samvit_base_patch16.sa1b",
}
ROWS = (
    Row("clip", "clip"),
    Row("maskclip", "maskclip"),
    Row("clip-surgery", "clip-surgery"),
    Row("cliptrase", "cliptrase"),
    *(Row(f"proxyclip, {name}", "proxyclip", features=name) for name in SOURCES),
    Row("proxyclip, unet", "proxyclip", features="unet"),
    Row("proxyclip, diffusion-s", "proxyclip", features="diffusion-s"),
    Row("proxyclip, diffusion-p", "proxyclip", features="diffusion-p"),
    Row("proxyclip-adjust, dino-vitb8", "proxyclip-adjust", features="dino-vitb8"),
    Row("cliper, not refined", "cliper"),
    Row("cliper, refined by dino-vitb8", "cliper", features="dino-vitb8"),
    Row("cliper", "cliper", profile="standard"),
    Row("maskclip+, DeepLabV3 R-50", "maskclip+"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=true_size.ROOT / ".cache" / "true-size")
    parser.add_argument("--only", nargs="*", help="names of rows to run; nothing is saved")
    parser.add_argument("--count", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    weights: Path = args.cache.absolute()
    if args.count is not None:
        print(json.dumps(count(weights, args.count)))
        return 0
    if args.write:
        synthesise(weights)
        return 0

    own = [sys.executable, "-m", "benchmarks.true_methods", "--cache", str(weights)]
    subprocess.run([*own, "--write"], cwd=true_size.ROOT, check=True)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture = true_size.photo(Path(folder) / "photo.png")
        for row in ROWS:
            if args.only and row.name not in args.only:
                continue
            rows[row.name] = run(row, weights, picture, Path(folder) / "out")
            counted = true_size.measured(
                [*own, "--count", row.name], true_size.environment(weights)
            )
            rows[row.name]["gflop_336"] = json.loads(counted["output"].splitlines()[-1])
            print(row.name, json.dumps(rows[row.name]), flush=True)
    complete = all(row["status"] == 0 and row["files"] == 3 for row in rows.values())
    figures = {
        "weights": "random, true layout and size",
        "image": "x".join(map(str, true_size.SIZE_WH)),
        "words": len(LABELS.split(",")),
        "dtype": "float32",
        "rows": rows,
        "passed": complete,
    }
    if not args.only:
        path = record.write("proof-true-methods", figures)
        path.with_name("true-methods.md").write_text(table(rows), encoding="utf-8")
        print(path)
    return 0 if complete else 1


def run(row: Row, weights: Path, picture: Path, out: Path) -> dict[str, Any]:
    """One `cliper segment` in a process of its own, after one that made its checksums."""
    command = [
        sys.executable, "-m", "backend", "segment", str(picture), "--labels", LABELS,
        "--out", str(out / row.name.replace(",", "").replace(" ", "-")), "--json",
        *row.options(weights),
    ]  # fmt: skip
    done = true_size.measured(command, true_size.environment(weights))
    lines = done.pop("output").splitlines()
    return {
        **done,
        "files": len(list(Path(command[command.index("--out") + 1]).glob("photo.*"))),
        "seconds_of_the_picture": json.loads(lines[-1])["seconds"] if lines else None,
    }


def count(weights: Path, name: str) -> float:
    """GFLOP of observe and score for one 336 x 336 picture and 20 words."""
    import cliper_model
    from tests.weights.flops import counting

    row = next(row for row in ROWS if row.name == name)
    options = row.options(weights)
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    model = cliper_model.load(
        row.profile,
        method=row.method,
        features=pairs.get("--features"),
        student=pairs.get("--student"),
        device="cpu",
        dtype="float32",
        weights_dir=weights,
    )
    image = np.random.default_rng(SEED).integers(0, 256, (336, 336, 3), dtype=np.uint8)
    vocabulary = vocabulary_of(EMBED)
    with counting() as counted:
        model.score(model.observe(image), vocabulary)
    return round(counted.flops / 1e9, 1)


def vocabulary_of(embed: int) -> Vocabulary:
    """Random text rows: encoding words is not counted."""
    rows = torch.randn(COUNTED_WORDS, embed, generator=torch.Generator().manual_seed(SEED))
    rows = torch.nn.functional.normalize(rows, dim=-1)
    return Vocabulary(
        labels=tuple(f"word {number}" for number in range(COUNTED_WORDS)),
        preset="objects",
        rows=rows,
        row_class=tuple(range(COUNTED_WORDS)),
        mean_row=rows.mean(dim=0),
    )


def synthesise(weights: Path) -> None:
    """Write the checkpoints, unless they are there."""
    import timm
    from safetensors.torch import save_file

    true_size.synthesise(weights)
    torch.manual_seed(SEED)
    for name, model_name in SOURCES.items():
        path = weights / name / "model.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            model = timm.create_model(model_name, pretrained=False)
            save_file(model.state_dict(), path)
    path = weights / "unet" / "unet.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain_unet((64, 128, 256, 512, 1024)), path)
    student = weights / "student-resnet50.safetensors"
    if not student.is_file():
        write_student(student)


def plain_unet(widths: Sequence[int]) -> "dict[str, Any]":
    """Random tensors of the well-known U-Net with transposed convolutions."""
    state: dict[str, Any] = {}

    def convolution(name: str, before: int, after: int) -> None:
        spread = (before * 9) ** -0.5
        state[f"{name}.weight"] = torch.randn(after, before, 3, 3) * spread

    def double(name: str, before: int, after: int) -> None:
        for place, (source, target) in {0: (before, after), 3: (after, after)}.items():
            convolution(f"{name}.double_conv.{place}", source, target)
            norm = f"{name}.double_conv.{place + 1}"
            state[f"{norm}.weight"] = torch.ones(target)
            state[f"{norm}.bias"] = torch.zeros(target)
            state[f"{norm}.running_mean"] = torch.zeros(target)
            state[f"{norm}.running_var"] = torch.ones(target)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(0)

    double("inc", 3, widths[0])
    for level, (before, after) in enumerate(pairwise(widths), start=1):
        double(f"down{level}.maxpool_conv.1", before, after)
    falling = widths[::-1]
    for level, (before, after) in enumerate(pairwise(falling), start=1):
        state[f"up{level}.up.weight"] = torch.randn(before, after, 2, 2) * before**-0.5
        state[f"up{level}.up.bias"] = torch.zeros(after)
        double(f"up{level}.conv", before, after)
    state["outc.conv.weight"] = torch.randn(2, widths[0], 1, 1) * widths[0] ** -0.5
    state["outc.conv.bias"] = torch.zeros(2)
    return state


def write_student(path: Path) -> None:
    """An untrained DeepLabV3 R-50 that knows the words of this benchmark."""
    from cliper_model.student.checkpoint import Checkpoint
    from cliper_model.student.network import build_student
    from cliper_model.student.words import StudentWords

    names = tuple(word.strip() for word in LABELS.split(","))
    rows = torch.nn.functional.normalize(torch.randn(len(names), 512), dim=-1)
    student = build_student("resnet50", rows, background=False)
    Checkpoint(
        words=StudentWords(names, tuple((name,) for name in names), rows),
        settings={
            "network": "resnet50",
            "steps": 0,
            "crops": {"short_side": 512, "long_side": 2048},
        },
        teacher="",
        pictures="",
        step=0,
        weights=student.state_dict(),
    ).save(path)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown, one line per row."""
    lines = [
        "| method | GFLOP at 336 px | seconds of the picture | seconds in all | peak MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['gflop_336']:g} | {row['seconds_of_the_picture']:g} | "
        f"{row['seconds']:g} | {row['peak_mb']} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
