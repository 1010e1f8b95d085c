"""How long whoever opens a task waits beside large batches, and what equal requests cost.

    python -m benchmarks.lanes [--profile demo] [--opened 100] [--batches 2] [--tasks 60]

Starts the service as users do (`cliper serve`) and a small file server that plays Label Studio.
Opens tasks one after the other, pictures that nobody has asked for before: first with nothing else
to do, then with large batches of ever-new pictures in flight. Then asks for one picture 50 times at
once. `/health` is asked all the while. Writes `results/proof-lanes.json`; exit status 1 unless,
with the model at work without a pause,

* 99 of 100 answers of `/health` come within 50 ms,
* of 100 opened tasks the 95th waits at most twice as long as with nothing else to do,
* the 50 equal requests cost one look.
"""

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from . import record
from .responsiveness import (
    SEED,
    Batch,
    file_server,
    label_config,
    service,
    summarise,
    wait_until_ready,
)

EQUAL = 50
HEALTH_P99_MS = 50.0
MOST_TIMES = 2.0  # 95th of 100 under load, over the same with nothing else to do
WARM = 5  # opened first, and not counted
THREADS = 64  # all equal requests, and everything else, at the same time
PAUSE = 0.02  # seconds between two questions to `/health`
PATIENCE = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Opened tasks beside large batches.")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--opened", type=int, default=100, help="tasks, idle and under load each")
    parser.add_argument("--batches", type=int, default=2, help="in flight at the same time")
    parser.add_argument("--tasks", type=int, default=60, help="pictures per batch")
    parser.add_argument("--side", type=int, default=256, help="pixels of the pictures")
    parser.add_argument("--name", default="proof-lanes", help="of the result file")
    args = parser.parse_args()

    with (
        file_server(args.side) as files,
        service(args.profile, files, THREADS=str(THREADS)) as url,
    ):
        wait_until_ready(url)
        bench = Bench(url, label_config(args.profile))
        figures = measure(bench, args.opened, args.batches, args.tasks)
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {"profile": args.profile, "seed": SEED, "load_average": load, **figures}
    path = record.write(args.name, figures)
    print(json.dumps(figures, indent=1))
    print(f"written to {path}")
    return 0 if figures["passed"] else 1


class Bench:
    """Asks the service; every picture has a number of its own, for batches from a million on."""

    def __init__(self, url: str, config: str) -> None:
        self.url, self.config = url, config
        self._opened, self._batches = itertools.count(), itertools.count(1)

    def open_task(self) -> float:
        """A new picture as when a page opens; milliseconds."""
        return self.ask(next(self._opened))[0]

    def ask(self, number: int) -> tuple[float, dict[str, Any]]:
        """Milliseconds, and the one result."""
        task = {"id": number, "data": {"image": f"/data/upload/1/{number}.png"}}
        body = {"tasks": [task], "label_config": self.config, "params": {"context": None}}
        begun = time.perf_counter()
        answer = requests.post(f"{self.url}/predict", json=body, timeout=PATIENCE)
        elapsed = 1000 * (time.perf_counter() - begun)
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()["results"][0]
        if "result" not in result:
            raise SystemExit(f"picture {number} was not predicted: {result}")
        return elapsed, result

    def new_picture(self) -> int:
        return next(self._opened)

    def batch(self, tasks: int) -> Batch:
        return Batch(self.url, self.config, tasks, first=next(self._batches) * 1_000_000)

    def health(self) -> dict[str, Any]:
        facts: dict[str, Any] = requests.get(f"{self.url}/health", timeout=PATIENCE).json()
        return facts

    def looks(self) -> int:
        return int(self.health()["queue"]["looks"])


def measure(bench: Bench, opened: int, batches: int, tasks: int) -> dict[str, Any]:
    for _ in range(WARM):
        bench.open_task()
    with asking_health(bench) as health_idle:
        idle = summarise([bench.open_task() for _ in range(opened)])
    with asking_health(bench) as health, loaded(bench, batches, tasks) as predicted:
        before = bench.looks()
        times = [bench.open_task() for _ in range(opened)]
        bulk = bench.looks() - before - opened
    beside = summarise(times)
    equal = at_once(bench, bench.new_picture())
    answers = summarise(health)
    times_idle = beside["p95_ms"] / idle["p95_ms"]
    return {
        "opened_idle": idle,
        "opened_beside_batches": beside,
        "times_idle_p95": round(times_idle, 2),
        "health_idle": summarise(health_idle),
        "health_beside_batches": answers,
        "batches": {
            "in_flight": batches,
            "tasks": tasks,
            "pictures_looked_at_meanwhile": bulk,
            "pictures_without_result": sum(predicted),
        },
        "equal": equal,
        "batch": bench.health()["batch"],
        "limits": {"health_p99_ms": HEALTH_P99_MS, "times_idle_p95": MOST_TIMES, "looks": 1},
        "passed": bool(
            answers["p99_ms"] < HEALTH_P99_MS
            and times_idle <= MOST_TIMES
            and equal["looks"] == 1
            and equal["different_answers"] == 1
            and bulk > 0
            and not sum(predicted)
        ),
    }


@contextmanager
def loaded(bench: Bench, batches: int, tasks: int) -> Iterator[list[int]]:
    """So many batches in flight all the while; how many pictures of each came without a result."""
    stop, without = threading.Event(), list[int]()

    def send() -> None:
        while not stop.is_set():
            batch = bench.batch(tasks)
            batch.run()
            without.append(sum("result" not in entry for entry in batch.results))

    senders = [threading.Thread(target=send) for _ in range(batches)]
    before = bench.looks()
    for sender in senders:
        sender.start()
    while bench.looks() < before + batches:
        time.sleep(PAUSE)
    try:
        yield without
    finally:
        stop.set()
        for sender in senders:
            sender.join()


@contextmanager
def asking_health(bench: Bench) -> Iterator[list[float]]:
    """Milliseconds of every answer."""
    stop, times = threading.Event(), list[float]()

    def ask() -> None:
        while not stop.wait(PAUSE):
            begun = time.perf_counter()
            bench.health()
            times.append(1000 * (time.perf_counter() - begun))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield times
    finally:
        stop.set()
        asking.join()


def at_once(bench: Bench, number: int) -> dict[str, Any]:
    """Many requests for one new picture, begun together."""
    before = bench.looks()
    start = threading.Barrier(EQUAL)
    answers: list[str] = []
    times: list[float] = []

    def ask() -> None:
        start.wait()
        elapsed, result = bench.ask(number)
        times.append(elapsed)
        answers.append(json.dumps(result, sort_keys=True))

    asking = [threading.Thread(target=ask) for _ in range(EQUAL)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    return {
        **summarise(times),
        "looks": bench.looks() - before,
        "different_answers": len(set(answers)),
    }


if __name__ == "__main__":
    sys.exit(main())
