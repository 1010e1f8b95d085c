"""Half an hour of everything at once: no answer wrong or lost, memory flat, `/health` at once.

    python -m benchmarks.soak [--minutes 30] [--profile demo]

Starts the service as users do (`cliper serve`) and a small server that plays Label Studio, asks
for every right answer once, opens a crowd of tasks at the same moment, measures how much of a mixed
traffic the service can take with clients that wait for it, while it learns, and then sends four
fifths of that, at drawn moments: opened tasks, bulk requests, clicks, changed label configs,
corrections, broken pictures, hostile bodies.
Every answer is held against the right one. Meanwhile a process of its own asks `/health` ten times
a second, and resident memory is looked at every five seconds. Writes `results/proof-soak.json`;
exit status 1 unless

* no answer is wrong and none is lost, no request is sent five seconds late, no process of the
  service ends, and every correction is dealt with,
* memory rises by less than 1 MiB a minute, by least squares after the warm-up (five minutes, or a
  sixth of the time),
* 99 of 100 answers of `/health` come within 50 ms, and every question is answered.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import requests

from backend.demo import projects
from tests.doubles.label_studio import LEGACY_TOKEN

from . import record
from .responsiveness import service, wait_until_ready
from .soak_studio import Studio, running
from .soak_traffic import CONFIGS, MIX, Traffic, Wrong
from .soak_watch import Memory, answered, health_of, memory_of, slope

SEED = 20261128
SCENES = 12
SHARE = 0.8  # of the capacity
CLIENTS = 6  # at once while capacity is measured
CAPACITY_SECONDS = 240.0  # in 90 it came out 15 % higher or lower from run to run
RUN_UP = 60.0  # seconds of the same before that: from then on it learns all the time
WARM_UP = 300.0  # seconds whose memory does not count; at most a sixth of the time
THREADS = 96  # of the service
SENDERS = 80  # requests in flight at most, fewer than are refused; a training makes them wait
# Full before the warm-up is over: a cache that fills is no leak, and the usual ones take an hour.
CACHES = {"STATE_CACHE_MB": "64", "RESULT_CACHE_MB": "4"}
SETTLED_WITHIN = 300.0  # seconds after the last request
MOST_SLOPE = 1.0  # MiB a minute
MOST_P99_MS = 50.0
MOST_LATE_MS = 5000.0  # behind the moment drawn for a request; else the rate is not what it says
SHOWN = 10  # examples of what went wrong


@dataclass(frozen=True)
class Outcome:
    """One request: what it was, how long it took, how late it began, and what was wrong.

    milliseconds  until the answer
    late_ms       between the moment drawn for it and its start
    problem       empty where all was well; else "wrong: ..." or "lost: ..."
    """

    kind: str
    milliseconds: float
    late_ms: float
    problem: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Mixed traffic for a long time.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--capacity-seconds", type=float, default=CAPACITY_SECONDS)
    parser.add_argument("--share", type=float, default=SHARE, help="of the capacity that is sent")
    parser.add_argument("--name", default="proof-soak", help="of the result file")
    args = parser.parse_args()

    before = [round(value, 1) for value in os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:{folder}/store.sqlite"
        figures = soak(args.profile, 60 * args.minutes, args.capacity_seconds, args.share, store)
    figures = {
        "profile": args.profile,
        "seed": SEED,
        "threads of the model": os.environ.get("OMP_NUM_THREADS", "as many as torch takes"),
        "load_average before": before,
        **figures,
    }
    path = record.write(args.name, figures)
    print(json.dumps({**figures, "memory_mib": "see the file"}, indent=1))
    print(f"written to {path}")
    return 0 if figures["passed"] else 1


def soak(profile: str, seconds: float, measured: float, share: float, store: str) -> dict[str, Any]:
    studio = Studio(projects.everything(SCENES, SEED).pictures)
    with running(studio):
        number = studio.state.project(label_config=CONFIGS[0])
        studio.state.add(number, *({"image": f"/data/upload/1/{n}.png"} for n in range(SCENES)))
        settings = {
            "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
            "STORAGE": store,
            "THREADS": str(THREADS),
            "LOG_LEVEL": "ERROR",
            **CACHES,
        }
        with service(profile, studio.url, **settings) as url:
            wait_until_ready(url)
            traffic = Traffic(url, studio, number, SEED)
            traffic.learn_what_is_right()
            print("the right answers are known", flush=True)
            before = all_at_once(traffic) + as_fast_as_it_goes(traffic, RUN_UP)
            closed = as_fast_as_it_goes(traffic, measured)
            capacity = sum(not one.problem for one in closed) / measured
            print(f"capacity: {capacity:.2f} requests a second", flush=True)
            with serving(url) as pid, memory_of(pid) as memory, health_of(url) as health:
                outcomes = at_drawn_moments(traffic, share * capacity, seconds)
            unsettled = settle(traffic)
    figures = {
        "minutes": round(seconds / 60, 1),
        "caches": CACHES,
        "capacity_per_second": round(capacity, 2),
        "share_of_capacity": share,
        "sent_per_second": round(len(outcomes) / seconds, 2),
        "while capacity was measured": counts([*before, *closed]),
        **summary(outcomes, memory, health, warm_up=min(WARM_UP, seconds / 6)),
        "corrections": traffic.corrected,
        "corrections_not_dealt_with": unsettled,
        "processes_ended": memory.ended,
        "limits": {
            "slope_mib_per_minute": MOST_SLOPE,
            "health_p99_ms": MOST_P99_MS,
            "latest_start_ms": MOST_LATE_MS,
        },
    }
    return {**figures, "passed": passes(figures)}


@contextmanager
def serving(url: str) -> Iterator[int]:
    """The process id of the service that this process started."""
    ours = [one for one in psutil.Process().children() if "serve" in one.cmdline()]
    assert len(ours) == 1, f"no service of ours answers {url}"
    yield ours[0].pid


def all_at_once(traffic: Traffic) -> list[Outcome]:
    """As many new tasks opened together as there are senders, so that every thread of the service
    has worked once: a crowd that comes by chance later would look like a leak."""
    with ThreadPoolExecutor(SENDERS) as senders:
        opened = [
            senders.submit(send, traffic, "open_new", number / SENDERS, 0.0)
            for number in range(2 * SENDERS)
        ]
        return [one.result() for one in opened]


def as_fast_as_it_goes(traffic: Traffic, seconds: float) -> list[Outcome]:
    """Clients that ask again as soon as they have their answer."""
    over = time.monotonic() + seconds

    def ask(client: int) -> list[Outcome]:
        choice, found = random.Random(f"{SEED} {client}"), []
        while time.monotonic() < over:
            found.append(send(traffic, drawn(choice), choice.random(), 0.0))
        return found

    with ThreadPoolExecutor(CLIENTS) as clients:
        return [one for found in clients.map(ask, range(CLIENTS)) for one in found]


def at_drawn_moments(traffic: Traffic, rate: float, seconds: float) -> list[Outcome]:
    """So many requests a second on average, whether or not those before are answered."""
    choice = random.Random(SEED)
    outcomes: list[Outcome] = []
    lock = threading.Lock()

    def do(kind: str, seed: float, due: float) -> None:
        found = send(traffic, kind, seed, 1000 * (time.monotonic() - due))
        with lock:
            outcomes.append(found)

    begun = due = told = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as senders:
        while True:
            due += choice.expovariate(rate)
            if due > begun + seconds:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            senders.submit(do, drawn(choice), choice.random(), due)
            if time.monotonic() > told + 60:
                told = time.monotonic()
                with lock:
                    print(f"{(told - begun) / 60:.0f} min: {counts(outcomes)}", flush=True)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
    return outcomes


def drawn(choice: random.Random) -> str:
    return choice.choices(list(MIX), weights=list(MIX.values()))[0]


def send(traffic: Traffic, kind: str, seed: float, late_ms: float) -> Outcome:
    """Do one thing and say what came of it."""
    begun, problem = time.perf_counter(), ""
    try:
        getattr(traffic, kind)(random.Random(seed))
    except Wrong as error:
        problem = f"wrong: {error}"
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        problem = f"lost: {type(error).__name__} {error}"
    except Exception as error:  # Lost, and whatever nobody thought of
        problem = f"lost: {error}"
    return Outcome(kind, 1000 * (time.perf_counter() - begun), late_ms, problem)


def settle(traffic: Traffic) -> int:
    """Wait until every correction is dealt with; how many are not."""
    over = time.monotonic() + SETTLED_WITHIN
    while (left := traffic.unsettled()) and time.monotonic() < over:
        time.sleep(0.5)
    return left


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """All, wrong and lost."""
    kinds = Counter(one.problem.partition(":")[0] for one in outcomes)
    return {"answers": len(outcomes), "wrong": kinds["wrong"], "lost": kinds["lost"]}


def summary(
    outcomes: Sequence[Outcome],
    memory: Memory,
    health: Sequence[tuple[float, float]],
    *,
    warm_up: float,
) -> dict[str, Any]:
    """Counts, times, and memory; `warm_up` in seconds."""
    rise = slope(memory.lasting, after=warm_up)
    warm = [value for at, value in memory.lasting if at >= warm_up]
    return {
        **counts(outcomes),
        "examples": [one.problem for one in outcomes if one.problem][:SHOWN],
        "by_kind": {kind: of_kind([o for o in outcomes if o.kind == kind]) for kind in MIX},
        "health": answered(health),
        "memory_slope_mib_per_minute": None if rise is None else round(rise, 3),
        "memory_warm_up_minutes": round(warm_up / 60, 2),
        "memory_warm_mib": {"first": warm[0], "last": warm[-1], "most": max(warm)} if warm else {},
        "memory_most_while_learning_mib": max((value for _, value in memory.all), default=None),
        "memory_mib": [[round(at), round(value, 1)] for at, value in memory.lasting],
    }


def of_kind(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts, and milliseconds until the answer."""
    figures: dict[str, Any] = counts(outcomes)
    if outcomes:
        times = [one.milliseconds for one in outcomes]
        late = [one.late_ms for one in outcomes]
        figures |= {
            "median_ms": round(float(np.median(times)), 1),
            "p99_ms": round(float(np.percentile(times, 99)), 1),
            "latest_start_ms": round(max(late), 1),
        }
    return figures


def passes(figures: Mapping[str, Any]) -> bool:
    """Whether every bound holds; a bound that could not be measured does not."""
    health, rise = figures["health"], figures["memory_slope_mib_per_minute"]
    kinds, before = figures["by_kind"].values(), figures["while capacity was measured"]
    return (
        figures["answers"] > 0
        and all(one["answers"] > 0 and one["latest_start_ms"] < MOST_LATE_MS for one in kinds)
        and before["wrong"] == before["lost"] == 0
        and figures["wrong"] == figures["lost"] == figures["corrections_not_dealt_with"] == 0
        and figures["processes_ended"] == 0
        and rise is not None
        and rise < MOST_SLOPE
        and health["p99_ms"] is not None
        and health["p99_ms"] < MOST_P99_MS
        and health["not_answered"] == 0
    )


if __name__ == "__main__":
    sys.exit(main())
