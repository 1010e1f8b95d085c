"""ViT-B/16 and Stable Diffusion 2.1-base at true size, from files to masks, on a CPU.

    python -m benchmarks.true_size [--cache .cache/true-size] [--limit-mb 7000]

Random weights are written once in the true layouts (about 3.2 GB). Then `cliper segment`
segments a 500 x 375 picture in float32, in a process of its own: the first run also makes
the empty prompt's embedding and the checksums, the second is what every later start costs.
A third process counts operations: no product of 4096 x 4096 maps with each other.
Exit status 1 if a run fails, a peak is above the limit, or such a product is found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import record

ROOT = Path(__file__).parents[1]
SIZE_WH = (500, 375)
LABELS = "sky, grass, house|home|cottage, tree, car, person"
TOKENS = 64 * 64  # positions of the diffusion model
MEGA = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "true-size")
    parser.add_argument("--limit-mb", type=float, default=7000.0, help="peak memory allowed")
    parser.add_argument("--count", type=Path, metavar="PICTURE", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    weights: Path = args.cache.absolute()
    if args.count is not None:
        print(json.dumps(count(weights, args.count)))
        return 0
    if args.write:
        synthesise(weights)
        return 0

    own = [sys.executable, "-m", "benchmarks.true_size", "--cache", str(weights)]
    # In a process of its own: a child's peak starts at what its parent holds.
    subprocess.run([*own, "--write"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        picture = photo(Path(folder) / "photo.png")
        for made in ("stable-diffusion-2-1-base/empty_prompt.safetensors", ".checksums.json"):
            (weights / made).unlink(missing_ok=True)
        runs = {
            name: segment(weights, picture, Path(folder) / name)
            for name in ("first_run", "later_run")
        }
        counted = measured([*own, "--count", str(picture)], environment(weights))
        operations = json.loads(counted.pop("output").splitlines()[-1])

    peak = max(run["peak_mb"] for run in runs.values())
    complete = all(run["status"] == 0 and run["files"] == 3 for run in runs.values())
    passed = complete and peak <= args.limit_mb and operations["products_of_maps"] == 0
    figures: dict[str, Any] = {
        "profile": "standard",
        "weights": "random, true layout and size; clip float32, diffusion float16 on disk",
        "image": f"{SIZE_WH[0]}x{SIZE_WH[1]}",
        "labels": LABELS,
        "dtype": "float32",
        **runs,
        "peak_mb": peak,
        "limit_mb": args.limit_mb,
        "operations": operations,
        "passed": passed,
    }
    print(json.dumps(figures, indent=1))
    print(record.write("proof-true-size", figures))
    return 0 if passed else 1


def synthesise(weights: Path) -> None:
    """Write the checkpoints, unless they are there."""
    from tests.weights import synthesise as checkpoints

    synthesise_clip(weights)
    diffusion = weights / "stable-diffusion-2-1-base"
    if not (diffusion / "unet").is_dir():
        print("writing random Stable Diffusion weights …", flush=True)
        draft = weights / "draft"
        checkpoints.write_stable_diffusion(draft, small=False).replace(diffusion)


def synthesise_clip(weights: Path) -> None:
    """ViT-B/16 alone."""
    from tests.weights import synthesise as checkpoints

    clip = weights / "ViT-B-16-quickgelu" / "open_clip_model.safetensors"
    if not clip.is_file():
        print("writing random CLIP weights …", flush=True)
        draft = checkpoints.write_clip(clip.with_name("draft"), "ViT-B-16-quickgelu")
        draft.replace(clip)


def photo(path: Path) -> Path:
    """A picture with smooth and sharp parts, always the same."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(SIZE_WH, Image.Resampling.BICUBIC)).copy()
    pixels[200:300, 150:260] = (180, 60, 50)
    Image.fromarray(pixels).save(path)
    return path


def environment(weights: Path) -> dict[str, str]:
    """Offline, on the CPU, in full precision."""
    return {
        **os.environ,
        "MODEL_DIR": str(weights),
        "HF_HUB_OFFLINE": "1",
        "DEVICE": "cpu",
        "DTYPE": "float32",
    }


def segment(weights: Path, picture: Path, out: Path) -> dict[str, Any]:
    """One `cliper segment` in a process of its own."""
    run = measured(
        [sys.executable, "-m", "backend", "segment", str(picture), "--labels", LABELS,
         "--out", str(out), "--profile", "standard", "--json"],
        environment(weights),
    )  # fmt: skip
    lines = run.pop("output").splitlines()
    run["files"] = len(list(out.glob("photo.*"))) if out.is_dir() else 0
    run["seconds_of_the_picture"] = json.loads(lines[-1])["seconds"] if lines else None
    return run


def measured(command: list[str], environ: dict[str, str]) -> dict[str, Any]:
    """Status, seconds, peak resident memory (megabytes) and standard output of a command."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "status": process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": round(usage.ru_maxrss * unit / MEGA),
        "output": text,
    }


def count(weights: Path, picture: Path) -> dict[str, Any]:
    """Operations of one picture at true size, and products of whole maps among them."""
    import cliper_model
    from tests.weights.flops import counting

    model = cliper_model.load("standard", device="cpu", dtype="float32", weights_dir=weights)
    vocabulary = model.read([word.split("|")[0].strip() for word in LABELS.split(",")])
    image = np.asarray(Image.open(picture).convert("RGB"))
    with counting() as observing:
        state = model.observe(image)
    with counting() as scoring:
        model.score(state, vocabulary)
    cubes = {**observing.cubes(TOKENS), **scoring.cubes(TOKENS)}
    return {
        "observe_gflops": round(observing.flops / 1e9, 1),
        "score_gflops": round(scoring.flops / 1e9, 1),
        "chain_gflops": round(scoring.flops_of(rows=TOKENS, inner=TOKENS) / 1e9, 2),
        "products_of_maps": sum(cubes.values()),
        "largest_products": sorted(scoring.products, key=np.prod, reverse=True)[:3],
    }


if __name__ == "__main__":
    raise SystemExit(main())
