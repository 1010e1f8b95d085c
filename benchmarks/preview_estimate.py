"""How well a preview foretells the run that follows it.

    python -m benchmarks.preview_estimate [--only NAME] [--database FILE]

Makes projects of drawn scenes in a real Label Studio on this machine, the one that LABEL_STUDIO_URL
and LABEL_STUDIO_API_KEY name, previews 24 tasks of each,
then pre-labels all of it and compares; previews again, since other work on the machine may have
come or gone meanwhile. Our own processor time per task tells how well the sample stands for the
whole, whatever else the machine does. Writes `results/preview-estimate.json`; exit status 1 if a
run took a quarter more or less than foretold.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from backend import wiring
from backend.cli.running import ready_services, shares_processor
from backend.demo import projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.projects import Picture
from backend.prelabel.preview import preview
from backend.prelabel.progress import Progress
from backend.prelabel.run import Hooks, prelabel
from backend.prelabel.wanted import Wanted
from backend.settings import Settings
from backend.studio.project import StudioProject

from . import record

WITHIN = 0.25
SAMPLE, SEED = 24, 3
SCENARIOS: Mapping[str, tuple[str, int, tuple[int, int] | None, str]] = {
    # project of the demonstration, tasks, (width, height) to enlarge to, OMP_NUM_THREADS
    "34 labels, 192 pixels, one thread": ("everything", 120, None, "1"),
    "34 labels, 192 pixels, all threads": ("everything", 120, None, ""),
    "one label, 192 pixels, all threads": ("one_label", 120, None, ""),
    "34 labels, 1600 x 1200, one thread": ("everything", 60, (1600, 1200), "1"),
    "34 labels, 1600 x 1200, all threads": ("everything", 60, (1600, 1200), ""),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Estimates against runs.")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--database", type=Path, help="Label Studio's SQLite file, to see it grow")
    parser.add_argument("--one", choices=list(SCENARIOS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one, args.database)))
        return 0

    found: dict[str, Any] = {}
    for name in args.only or SCENARIOS:
        threads = SCENARIOS[name][3]
        environ = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.preview_estimate", *sys.argv[1:], "--one", name],
            env={**environ, **({"OMP_NUM_THREADS": threads} if threads else {})},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, json.dumps(found[name]), flush=True)
    passed = all(abs(one["estimate / run"] - 1) <= WITHIN for one in found.values())
    path = record.write(
        "preview-estimate",
        {"sample": SAMPLE, "seed": SEED, "within": WITHIN, "projects": found, "passed": passed},
    )
    print(f"written to {path}")
    return 0 if passed else 1


def measured(name: str, database: Path | None) -> dict[str, Any]:
    """One scenario: estimate and run."""
    environ = {**os.environ, "PROFILE": "demo", "DEVICE": "cpu", "RESULT_CACHE_MB": "0"}
    settings = Settings.from_environ(environ)
    address = wiring.label_studio(settings)
    if address is None:
        raise SystemExit("set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
    kind, count, size_wh, _ = SCENARIOS[name]
    made = getattr(projects, kind)(count, SEED)
    api = LabelStudioApi(address.url, address.token)
    number = api.create_project(f"preview: {name}"[:50], made.label_config)
    for first in range(0, count, 20):
        some = made.pictures[first : first + 20]
        api.upload(number, {one.name: enlarged(one, size_wh) for one in some})
    api.close()

    services = ready_services(settings)
    project = StudioProject(address.open(time.sleep), number)
    shared = shares_processor(settings, services)
    begun = time.perf_counter()
    wanted = Wanted(project=number)
    worked: dict[int, float] = {}  # tasks done -> seconds of all our cores
    seen = preview(
        project,
        services.predictor,
        wanted,
        SAMPLE,
        shares_processor=shared,
        told=lambda done, of: worked.update({done: time.process_time()}),
    )
    took = time.perf_counter() - begun

    before = _size(database)
    progress = Progress()
    hooks = Hooks(told=lambda _: None, pause=lambda: None, wait=time.sleep)
    begun, work_begun = time.perf_counter(), time.process_time()
    prelabel(project, services.predictor, wanted, progress, hooks)
    seconds = time.perf_counter() - begun
    work = (time.process_time() - work_begun) / count
    sample_work = (worked[SAMPLE] - worked[seen.warm_up]) / (SAMPLE - seen.warm_up)
    assert progress["written"] == count
    redo = Wanted(project=number, redo=True)
    after = preview(project, services.predictor, redo, SAMPLE, shares_processor=shared)
    services.close()
    return {
        "tasks": count,
        "estimate / run": round(seen.estimate.seconds / seconds, 3),
        "estimate after it / run": round(after.estimate.seconds / seconds, 3),
        "processor time per task, sample / run": round(sample_work / work, 3),
        "processor time per task, seconds": round(work, 4),
        "estimate, seconds": round(seen.estimate.seconds, 2),
        "run, seconds": round(seconds, 2),
        "preview, seconds": round(took, 2),
        "shares the processor": shared,
        "stream, seconds per task": round(seen.pace.per_task, 4),
        "start, seconds": round(seen.pace.start, 3),
        "listing a page, seconds": round(seen.estimate.listing, 3),
        "bytes of a prediction": round(seen.estimate.prediction_bytes),
        "foretold bytes on disk": round(seen.estimate.disk_bytes),
        "grown by bytes": _size(database) - before if database else None,
        "spent in the run": progress.to_json()["spent"],
    }


def enlarged(picture: Picture, size_wh: tuple[int, int] | None) -> bytes:
    """The picture as a file, as it is or at another size."""
    if size_wh is None:
        return picture.to_png()
    image = cv2.resize(picture.image, size_wh, interpolation=cv2.INTER_CUBIC)
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done
    return bytes(data)


def _size(database: Path | None) -> int:
    return database.stat().st_size if database else 0


if __name__ == "__main__":
    sys.exit(main())
