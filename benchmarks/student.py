"""MaskCLIP+ on drawn scenes: train a student, kill it, resume, finish, measure it.

    OMP_NUM_THREADS=1 python -m benchmarks.student [--pictures 500] [--steps 500] [--scenes 100]
        [--network tower|small] [--cache-labels] [--scales 0.8,1.5]

One thread is faster than two where other work runs beside it.

The teacher is the demo profile's CLIPer without refinement. Training runs as users run it, in a
process of its own: `cliper train-student`, killed with SIGKILL in the middle and resumed. Then
student and teacher label every pixel of scenes neither was trained on with one of all words.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import cliper_model
from cliper_model.demo.scene_folder import write_scene_folder
from cliper_model.demo.scenes import LABELS, make_scene
from cliper_model.segmenter import Decision, Segmenter
from cliper_model.stages.decide import decide
from cliper_model.student.checkpoint import Checkpoint
from cliper_model.student.teachers import without_refinement

from . import record
from .demo_accuracy import Tally

TRAIN_SEED = 11  # scenes of neither the demo weights' training nor their choices
TEST_SEED = 3  # as in benchmarks/demo_accuracy.py
KILLED = -9
SMALLEST_STUDENT = 50.0  # mIoU in percent, all words


def options(args: argparse.Namespace, folder: Path) -> list[str]:
    """How a person would call it."""
    return [
        *("--images", str(folder / "pictures")),
        *("--labels", ", ".join(LABELS)),
        *("--teacher", "cliper", "--profile", "demo", "--no-refinement"),
        *(["--cache-labels"] if args.cache_labels else []),
        *("--network", args.network, "--steps", str(args.steps), "--batch", str(args.batch)),
        *("--crop", "128", "--short-side", "160", "--scales", args.scales, "--plain-colours"),
        *("--rate", str(args.rate), "--balance", "0.5", "--seed", "0"),
        *("--save-every", "50", "--device", "cpu"),
        *("--out", str(folder / "student.safetensors")),
    ]


def begin(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "backend", "train-student", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def train(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start, SIGKILL at about 40 %, resume, finish. Seconds and the steps it was killed at."""
    arguments = options(args, folder)
    began = time.perf_counter()
    killed_after = None
    with begin(arguments) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", flush=True)
            if line.startswith("step "):
                killed_after = int(line.split()[1])
                if killed_after >= 0.4 * args.steps:
                    process.kill()
                    break
    if process.wait() != KILLED or killed_after is None:
        raise SystemExit(f"training ended with {process.returncode} before it was killed")
    stood = Checkpoint.load(folder / "student.safetensors").step
    with begin([*arguments, "--resume"]) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode != 0:
        raise SystemExit(f"the resumed training ended with {process.returncode}")
    first = next(int(line.split()[1]) for line in lines if line.startswith("step "))
    return {
        "seconds of labels and training": round(time.perf_counter() - began),
        "killed after step": killed_after,
        "checkpoint then": stood,
        "first step reported after resuming": first,
        "steps": Checkpoint.load(folder / "student.safetensors").step,
        "last loss": float(lines[-1].rpartition(" ")[2]),
    }


def measure(scenes: int, student: Path) -> dict[str, Any]:
    """mIoU of student and teacher; with all words and with the image's own."""
    decision = Decision(background="none", presence_threshold=0.0)
    methods: dict[str, Segmenter] = {
        "teacher": without_refinement(cliper_model.load("demo", device="cpu")),
        "student": cliper_model.load("demo", method="maskclip+", student=student, device="cpu"),
    }
    words = {name: method.read(LABELS, background=()) for name, method in methods.items()}
    tallies = {(name, asked): Tally() for name in methods for asked in ("all", "image's")}
    seconds = dict.fromkeys(methods, 0.0)
    for index in tqdm(range(scenes), unit="scene", disable=None):
        scene = make_scene(np.random.default_rng((TEST_SEED, index)))
        truth = scene.label_map().astype(np.int64)
        present = [LABELS[number - 1] for number in np.unique(truth) if number]
        for name, method in methods.items():
            began = time.perf_counter()
            state = method.observe(scene.image)
            found = decide(method.score(state, words[name]), decision).label_map
            seconds[name] += time.perf_counter() - began
            tallies[name, "all"].add(found.astype(np.int64), truth)
            if len(present) > 1:
                scores = method.score(state, method.read(present, background=()))
                numbers = np.array([0, *(LABELS.index(label) + 1 for label in present)])
                tallies[name, "image's"].add(numbers[decide(scores, decision).label_map], truth)
    return {
        "scenes": scenes,
        "miou": {f"{name}, {asked} words": round(t.miou(), 1) for (name, asked), t in
                 tallies.items()},
        "ms per image": {name: round(1000 * s / scenes) for name, s in seconds.items()},
        "per label, all words": {
            name: tallies[name, "all"].per_label() for name in methods
        },
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--cache-labels", action="store_true")
    parser.add_argument("--scales", default="0.8,1.5")
    parser.add_argument("--network", choices=("small", "tower"), default="tower")
    parser.add_argument("--name", default="proof-student", help="of the result")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where to keep the student")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scene_folder(args.pictures, TRAIN_SEED, folder / "pictures")
        trained = train(args, folder)
        measured = measure(args.scenes, folder / "student.safetensors")
        size = (folder / "student.safetensors").stat().st_size
        if args.keep is not None:
            args.keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "student.safetensors", args.keep)
    path = record.write(
        args.name,
        {
            "teacher": "cliper, demo profile, without refinement",
            "student": {
                "tower": "starts from the vision tower of the demo CLIP, as its teacher",
                "small": "starts from nothing",
            }[args.network],
            "pictures": args.pictures,
            "options": {key: value for key, value in vars(args).items() if key != "keep"},
            "training": trained,
            **measured,
            "student MiB": round(size / 2**20, 1),
            "seconds in all": round(time.perf_counter() - began),
        },
    )
    for name, value in measured["miou"].items():
        print(f"{name}: {value} mIoU")
    print(path)
    return 0 if measured["miou"]["student, all words"] >= SMALLEST_STUDENT else 1


if __name__ == "__main__":
    raise SystemExit(main())
