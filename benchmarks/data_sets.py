"""Data sets on Ray: every task once under kills, its overhead, and the driver's memory.

    python -m benchmarks.data_sets [once] [overhead] [memory] [same] [sizes]

once      2,000 drawn scenes, demo profile, two actors; an actor, a worker and the driver are killed
overhead  pictures a second of two actors against the plain engine, paired; 85 % is wanted
memory    of the driver over 2,000 and over 100,000 tiny pictures, with a model of colours
sizes     what a picture and a row take: seconds to unpack, bytes
same      the same scenes through the service, the plain engine and Ray: label maps, pixel by pixel

Writes `results/proof-data-sets-<part>.json`; exit status 1 where something does not hold. Rates are
differences of two runs of different length, so that starting up does not count.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from PIL import Image

from backend.images.decode import decode
from backend.labelstudio.rle import decode as decode_rle
from cliper_model.demo.scenes import make_scene
from tests.doubles.colour_runs import striped
from tests.doubles.ray_runs import ACTOR, WORKER, RayRun, started, stop

from . import record
from .responsiveness import label_config, service, wait_until_ready

SEED = 70_000
SCENES = 2_000
SHORT, LONG, ROUNDS = 60, 300, 2  # scenes of the two runs of a rate
LEAST_SHARE = 0.85
FEW, MANY = 2_000, 100_000
MOST_MORE_MIB = 64.0  # of the driver's memory, over 50 times as many pictures
SAME = 60
ACTORS = "2"


def main() -> int:
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "once": once,
        "overhead": overhead,
        "memory": memory,
        "same": same,
        "sizes": sizes,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", choices=[[], *parts])
    chosen = parser.parse_args().only or list(parts)
    held = True
    for name in chosen:
        figures = {"seed": SEED, **parts[name]()}
        path = record.write(f"proof-data-sets-{name}", figures)
        print(json.dumps(figures, indent=1))
        print(f"written to {path}", flush=True)
        held = held and figures["passed"]
    return 0 if held else 1


# -- every task once ----------------------------------------------------------------------


def once() -> dict[str, Any]:
    with folder() as root:
        pictures = scenes(root / "pictures", SCENES)
        events = []
        run = demo_run(pictures, root, "out", rows_per_file=50)
        begun = time.perf_counter()

        def noted(what: str) -> None:
            events.append(
                {"what": what, "files": run.files(), "seconds": round(time.perf_counter() - begun)}
            )

        try:
            run.until(lambda: run.files() >= 6)
            run.kill_one(ACTOR)
            noted("an actor killed")
            run.until(lambda: run.files() >= 12)
            run.kill_one(WORKER)
            noted("a worker killed")
            run.until(lambda: run.files() >= 18)
            run.kill_driver()
            noted("the driver killed")
        finally:
            stop(run)
        before = len(run.ids())
        run = demo_run(pictures, root, "out", rows_per_file=50)
        try:
            status = run.end()
        finally:
            stop(run)
        ids = Counter(run.ids())
        twice = sum(count > 1 for count in ids.values())
        failed = sum(row.kind is not None for row in run.output.read())
        return {
            "scenes": SCENES,
            "events": events,
            "rows when the driver was killed": before,
            "rows": sum(ids.values()),
            "tasks": len(ids),
            "twice": twice,
            "missing": SCENES - len(ids),
            "failed": failed,
            "files of rows that are not done": run.files_there() - run.files(),
            "seconds": round(time.perf_counter() - begun),
            "passed": status == 0
            and len(ids) == SCENES
            and not (twice or failed or run.files_there() - run.files()),
        }


# -- overhead -----------------------------------------------------------------------------


def overhead() -> dict[str, Any]:
    with folder() as root:
        few, many = scenes(root / "few", SHORT), scenes(root / "many", LONG)
        rates: dict[str, list[float]] = {"plain": [], "ray": []}
        for number in range(ROUNDS):
            for engine in ("plain", "ray") if number % 2 == 0 else ("ray", "plain"):
                seconds = [
                    timed(engine, pictures, root / f"{engine}-{number}-{pictures.name}")
                    for pictures in (few, many)
                ]
                rates[engine].append((LONG - SHORT) / (seconds[1] - seconds[0]))
        shares = [ray / plain for ray, plain in zip(rates["ray"], rates["plain"], strict=True)]
        return {
            "scenes": [SHORT, LONG],
            "per second": {name: [round(one, 3) for one in found] for name, found in rates.items()},
            "share of the plain engine": [round(one, 3) for one in shares],
            "passed": statistics.median(shares) >= LEAST_SHARE,
        }


def timed(engine: str, pictures: Path, out: Path) -> float:
    """Seconds of a whole run."""
    begun = time.perf_counter()
    command = arguments(pictures, out, engine=engine, rows_per_file=100)
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - begun


# -- memory -------------------------------------------------------------------------------


def memory() -> dict[str, Any]:
    peaks, seconds = {}, {}
    with folder() as root:
        for count in (FEW, MANY):
            pictures = tiny(root / f"pictures-{count}", count)
            begun = time.perf_counter()
            words = ["-m", "tests.ray.colour_run", str(pictures), str(root / f"o-{count}"), ACTORS]
            run = started(words, root / f"o-{count}", root / f"log-{count}", A_LOOK="0")
            with watched(run.driver.pid) as most:
                status = run.driver.wait()
            stop(run)
            assert status == 0, run.log.read_text()
            assert len(set(run.ids())) == count
            peaks[count] = round(most[0] / 2**20, 1)
            seconds[count] = round(time.perf_counter() - begun)
    more = peaks[MANY] - peaks[FEW]
    return {
        "driver_peak_mib": peaks,
        "more_mib": round(more, 1),
        "bytes_per_task": round(more * 2**20 / (MANY - FEW)),
        "seconds": seconds,
        "passed": more <= MOST_MORE_MIB,
    }


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The largest resident memory so far, in bytes."""
    most, over = [0], threading.Event()

    def watch() -> None:
        process = psutil.Process(pid)
        while not over.wait(0.2):
            try:
                most[0] = max(most[0], process.memory_info().rss)
            except psutil.NoSuchProcess:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


# -- the same masks -----------------------------------------------------------------------


def same() -> dict[str, Any]:
    with folder() as root:
        pictures = scenes(root / "pictures", SAME)
        config = root / "config.xml"
        by_service = answers(pictures, config.read_text())
        found = {"service": by_service}
        for engine in ("plain", "ray"):
            run = started(
                arguments(pictures, root / engine, engine=engine, rows_per_file=50),
                root / engine,
                root / f"{engine}.log",
            )
            assert run.end() == 0, run.log.read_text()
            found[engine] = {row.id: json.loads(row.result or "null") for row in run.output.read()}
    differing = {
        engine: sum(
            not same_maps(found[engine][name], regions) for name, regions in by_service.items()
        )
        for engine in ("plain", "ray")
    }
    equal = {
        engine: sum(found[engine][name] == regions for name, regions in by_service.items())
        for engine in ("plain", "ray")
    }
    return {
        "scenes": SAME,
        "pictures with another label map": differing,
        "pictures with equal regions, ids and scores included": equal,
        "passed": not any(differing.values()) and all(len(one) == SAME for one in found.values()),
    }


def answers(pictures: Path, config: str) -> dict[str, Any]:
    """Regions by the picture's name, as the service answers them."""
    names = sorted(one.name for one in pictures.iterdir())
    tasks = [
        {"id": number, "data": {"image": f"/data/local-files/?d={name}"}}
        for number, name in enumerate(names)
    ]
    nowhere = "http://127.0.0.1:9"
    with service("demo", nowhere, LOCAL_FILES_DOCUMENT_ROOT=str(pictures)) as url:
        wait_until_ready(url)
        body = {"tasks": tasks, "label_config": config, "params": {"context": None}}
        answer = requests.post(f"{url}/predict", json=body, timeout=600)
        answer.raise_for_status()
        results = answer.json()["results"]
    return {name: one["result"] for name, one in zip(names, results, strict=True)}


def same_maps(one: list[Any], other: list[Any]) -> bool:
    """Whether every label covers the same pixels."""
    masks, others = masks_of(one), masks_of(other)
    return masks.keys() == others.keys() and all(
        np.array_equal(mask, others[label]) for label, mask in masks.items()
    )


def masks_of(regions: list[Any]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for region in regions:
        shape = (region["original_height"], region["original_width"])
        (label,) = region["value"]["brushlabels"]
        mask = decode_rle(region["value"]["rle"], size_hw=shape) > 0
        found[label] = found[label] | mask if label in found else mask
    return found


# -- what a picture takes ----------------------------------------------------------------


def sizes() -> dict[str, Any]:
    """A JPEG of 500 x 375, and a row of a scene in a file of such rows."""
    scene = make_scene(np.random.default_rng(SEED), size_hw=(375, 500)).image
    buffer = BytesIO()
    Image.fromarray(scene).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        unpacked = decode(data, max_pixels=1_000_000)
        times.append(time.perf_counter() - begun)
    with folder() as root:
        pictures = scenes(root / "pictures", SAME)
        run = started(
            arguments(pictures, root / "out", engine="plain", rows_per_file=SAME),
            root / "out",
            root / "log",
        )
        assert run.end() == 0, run.log.read_text()
        written = sum(size for _, size in run.output.rows.files())
    return {
        "unpack_seconds": round(statistics.median(times), 5),
        "jpeg_bytes": len(data),
        "unpacked_bytes": unpacked.nbytes,
        "row_bytes": round(written / SAME),
        "passed": True,
    }


# -- pictures and commands ----------------------------------------------------------------


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cliper-data-sets-") as name:
        (Path(name) / "config.xml").write_text(label_config("demo"))
        yield Path(name)


def scenes(root: Path, count: int) -> Path:
    root.mkdir()
    for number in range(count):
        image = make_scene(np.random.default_rng(SEED + number)).image
        Image.fromarray(image).save(root / f"{number:05}.png", compress_level=1)
    return root


def tiny(root: Path, count: int) -> Path:
    for number in range(count):
        path = root / f"{number // 1000:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(striped(number))
    return root


def arguments(pictures: Path, out: Path, *, engine: str, rows_per_file: int) -> list[str]:
    words = ["-m", "backend", "prelabel", "--input", str(pictures), "--output", str(out)]
    words += ["--config", str(pictures.parent / "config.xml"), "--profile", "demo", "--json"]
    words += ["--engine", engine, "--rows-per-file", str(rows_per_file)]
    return [*words, "--concurrency", ACTORS] if engine == "ray" else words


def demo_run(pictures: Path, root: Path, out: str, *, rows_per_file: int) -> RayRun:
    command = arguments(pictures, root / out, engine="ray", rows_per_file=rows_per_file)
    return started(command, root / out, root / f"{out}.log")


if __name__ == "__main__":
    raise SystemExit(main())
