"""How fast `/health` and `/setup` answer while a large `/predict` runs.

    python -m benchmarks.responsiveness [--profile demo] [--tasks 60] [--requests 200]

Starts the service as users do (`cliper serve`) and a small file server that plays Label
Studio, sends batches of pictures that differ until every request has been timed with a
batch in flight, and writes `results/proof-responsiveness.json`. Exit status 1 if an answer
took 500 ms or more, was not 200, or a picture came back without a result.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image

from . import record

CHECKOUT = Path(__file__).parents[1]
LIMIT_MS = 500.0
LOAD_SECONDS = 600
SEED = 0
COMMON_LABELS = ("sky", "house", "tree", "person", "car", "dog")


def main() -> int:
    parser = argparse.ArgumentParser(description="Answer times while a batch is predicted.")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--tasks", type=int, default=60, help="pictures per /predict")
    parser.add_argument("--requests", type=int, default=200, help="of each of the two routes")
    parser.add_argument("--side", type=int, default=256, help="pixels of the pictures")
    parser.add_argument("--name", default="proof-responsiveness", help="of the result file")
    args = parser.parse_args()

    with file_server(args.side) as files, service(args.profile, files) as url:
        wait_until_ready(url)
        figures = measure(url, label_config(args.profile), args.tasks, args.requests)
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {"profile": args.profile, "seed": SEED, "load_average": load, **figures}
    path = record.write(args.name, figures)
    print(json.dumps(figures, indent=1))
    print(f"written to {path}")
    return 0 if figures["passed"] else 1


def measure(url: str, config: str, tasks: int, wanted: int) -> dict[str, Any]:
    """Time `wanted` requests per route; only those begun and ended within a batch count."""
    times: dict[str, list[float]] = {"health": [], "setup": []}
    statuses: set[int] = set()
    batches: list[dict[str, Any]] = []
    left_out = 0
    while min(map(len, times.values())) < wanted:
        batch = Batch(url, config, tasks, first=len(batches) * tasks)
        batch.start()
        while batch.is_alive() and min(map(len, times.values())) < wanted:
            for route in times:
                begun = time.perf_counter()
                answer = ask(url, route, config)
                elapsed = 1000 * (time.perf_counter() - begun)
                if batch.is_alive():
                    times[route].append(elapsed)
                    statuses.add(answer.status_code)
        batch.join()
        left_out += sum("result" not in entry for entry in batch.results)
        batches.append({"seconds": round(batch.seconds, 1), "answered": len(batch.results)})
    summary = {route: summarise(values[:wanted]) for route, values in times.items()}
    slowest = max(part["max_ms"] for part in summary.values())
    return {
        **summary,
        "statuses": sorted(statuses),
        "tasks_per_batch": tasks,
        "batches": batches,
        "pictures_without_result": left_out,
        "limit_ms": LIMIT_MS,
        "passed": bool(slowest < LIMIT_MS and statuses == {200} and left_out == 0),
    }


class Batch(threading.Thread):
    """One `/predict` of pictures nobody has asked for before."""

    def __init__(self, url: str, config: str, tasks: int, *, first: int) -> None:
        super().__init__()
        self._url, self._config = url, config
        self._numbers = range(first, first + tasks)
        self.results: list[dict[str, Any]] = []
        self.seconds = 0.0

    def run(self) -> None:
        tasks = [
            {"id": number, "data": {"image": f"/data/upload/1/{number}.png"}}
            for number in self._numbers
        ]
        body = {"tasks": tasks, "label_config": self._config, "params": {"context": None}}
        begun = time.perf_counter()
        answer = requests.post(f"{self._url}/predict", json=body, timeout=300)
        self.seconds = time.perf_counter() - begun
        answer.raise_for_status()
        self.results = answer.json()["results"]


def ask(url: str, route: str, config: str) -> requests.Response:
    """As Label Studio asks, with more patience, so that a slow answer is measured."""
    if route == "health":
        return requests.get(f"{url}/health", timeout=60)
    return requests.post(f"{url}/setup", json={"project": "1.0", "schema": config}, timeout=60)


def summarise(milliseconds: list[float]) -> dict[str, float]:
    median, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {
        "count": len(milliseconds),
        "median_ms": round(float(median), 1),
        "p95_ms": round(float(p95), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(max(milliseconds), 1),
    }


def label_config(profile: str) -> str:
    """The demo's full label list, or a few common words for the other profiles."""
    from cliper_model import profiles

    card = profiles.demo_card() if profile == "demo" else {}
    labels = card.get("labels", COMMON_LABELS)
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="seg" toName="image">{inside}</BrushLabels></View>'
    )


@contextmanager
def service(profile: str, label_studio_url: str, **settings: str) -> Iterator[str]:
    """`cliper serve` on a free port."""
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": label_studio_url,
        "LOG_LEVEL": "WARNING",
        "STORAGE": "memory:",
        **settings,
    }
    command = [sys.executable, "-m", "backend", "serve", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--profile", profile],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rpartition(" ")[2]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline:
        model = requests.get(f"{url}/health", timeout=60).json()["model"]
        if model["state"] == "ready":
            return
        if model["state"] == "failed":
            raise SystemExit(f"the model cannot be loaded: {model['reason']}")
        time.sleep(0.2)
    raise SystemExit(f"the model was not ready after {LOAD_SECONDS} s")


@contextmanager
def file_server(side: int) -> Iterator[str]:
    """Plays Label Studio: `/data/upload/1/<number>.png` is a picture made from the number."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = picture(int(Path(self.path).stem), side)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@lru_cache(maxsize=1024)
def picture(number: int, side: int) -> bytes:
    """Soft blobs of colour, different for every number."""
    random = np.random.default_rng([SEED, number])
    blobs = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
    buffer = BytesIO()
    blobs.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
