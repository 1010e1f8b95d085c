"""What an opened task costs with the demo weights, over HTTP, and how much of it is the model.

    python -m benchmarks.demo_predict [--opened 60] [--side 256] [--rounds 3]

Starts the service as users do (`cliper serve`) and a small file server that plays Label Studio,
and opens tasks one after the other, pictures nobody has asked for before, with every label of the
demo. By turns the same pictures go through the model alone, in this process, with the same words
and numbers, while the service has nothing to do. Then one request with many pictures. Writes
`results/proof-demo-predict.json` with the batches of `benchmarks.throughput` beside it; exit
status 1 unless

* half of the opened tasks are answered within 150 ms,
* at most 15 % of that is spent outside of the model,
* without refinement the best batch does 12 pictures a second.
"""

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import requests
import torch
from PIL import Image

import cliper_model
from backend.plan import ConfigReader
from cliper_model import profiles
from cliper_model.allocator import keep_freed_memory

from . import record, throughput
from .lanes import PATIENCE, WARM, Bench
from .responsiveness import (
    SEED,
    file_server,
    label_config,
    picture,
    service,
    summarise,
    wait_until_ready,
)

LIMIT_MS = 150.0
MOST_OUTSIDE = 0.15
LEAST_PER_SECOND = 12.0
BATCHES = (1, 2, 4, 8)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--opened", type=int, default=60, help="tasks, per round")
    parser.add_argument("--side", type=int, default=256, help="pixels of the pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="proof-demo-predict", help="of the result file")
    args = parser.parse_args()
    keep_freed_memory(os.environ)
    config = label_config("demo")
    alone = Alone(args.side, config)
    opened: list[float] = []
    model: list[float] = []
    with file_server(args.side) as files, service("demo", files) as url:
        wait_until_ready(url)
        bench = Bench(url, config)
        for _ in range(WARM):
            bench.open_task()
        for _ in range(args.rounds):
            numbers = [bench.new_picture() for _ in range(args.opened)]
            for number in numbers:
                picture(number, args.side)  # drawn now, not while somebody waits
            opened += [bench.ask(number)[0] for number in numbers]
            model += [alone.milliseconds(number) for number in numbers]
        many = per_second(url, config, args.opened)
        threads = {"service": bench.health()["threads"], "model_alone": alone.threads}
    batches = throughput.measure(
        alone.model,
        [alone.picture(number) for number in range(max(BATCHES))],
        alone.labels,
        batches=BATCHES,
        rounds=args.rounds,
        device="cpu",
    )
    median, inside = statistics.median(opened), statistics.median(model)
    outside = 1 - inside / median
    best = max(row["images_per_second"] for row in batches["without refinement"])
    figures: dict[str, Any] = {
        "profile": "demo",
        "seed": SEED,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "labels": len(alone.labels),
        "opened": summarise(opened),
        "model_alone": summarise(model),
        "share_outside": round(outside, 3),
        "threads": threads,
        "one_request_of_many_per_second": round(many, 2),
        "batches": batches,
        "limits": {
            "median_ms": LIMIT_MS,
            "share_outside": MOST_OUTSIDE,
            "per_second_without_refinement": LEAST_PER_SECOND,
        },
        "bounds": {
            "median": median <= LIMIT_MS,
            "outside": 0 <= outside <= MOST_OUTSIDE,
            "bulk": best >= LEAST_PER_SECOND,
        },
    }
    figures["passed"] = all(figures["bounds"].values())
    print(json.dumps(figures, indent=1))
    print(f"written to {record.write(args.name, figures)}")
    return 0 if figures["passed"] else 1


class Alone:
    """The model without the service around it: what it reads and decides by is the config's."""

    def __init__(self, side: int, config: str) -> None:
        self.side = side
        (asked,) = ConfigReader({}).read(config, {}).wanted
        self.labels: list[str] = profiles.demo_card()["labels"]
        self._thread = ThreadPoolExecutor(1)  # one for everything, as in the service
        self.model: Any = self._thread.submit(cliper_model.load, "demo", device="cpu").result()
        self.threads = self._thread.submit(torch.get_num_threads).result()
        self.vocabulary = self._thread.submit(
            self.model.read, asked.labels, background=asked.background, preset=asked.preset
        ).result()
        self.decision = asked.decision(self.model.decision(asked.preset))

    def picture(self, number: int) -> Any:
        return np.asarray(Image.open(BytesIO(picture(number, self.side))).convert("RGB"))

    def milliseconds(self, number: int) -> float:
        return self._thread.submit(self._predict, self.picture(number)).result()

    def _predict(self, image: Any) -> float:
        begun = time.perf_counter()
        scores = self.model.score(self.model.observe(image), self.vocabulary)
        cliper_model.decide(scores, self.decision)
        return 1000 * (time.perf_counter() - begun)


def per_second(url: str, config: str, count: int) -> float:
    """Pictures a second of one request for many."""
    tasks = [
        {"id": 10**6 + number, "data": {"image": f"/data/upload/1/{10**6 + number}.png"}}
        for number in range(count)
    ]
    body = {"tasks": tasks, "label_config": config, "params": {"context": None}}
    begun = time.perf_counter()
    answer = requests.post(f"{url}/predict", json=body, timeout=PATIENCE)
    seconds = time.perf_counter() - begun
    answer.raise_for_status()
    if not all("result" in entry for entry in answer.json()["results"]):
        raise SystemExit("a picture of the request was not predicted")
    return count / seconds


if __name__ == "__main__":
    sys.exit(main())
