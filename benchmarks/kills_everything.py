"""SIGKILL a hundred times over learning and jobs: on SQLite, on Redis, and beside a replica.

Every part is a Label Studio in memory with a project that people correct and one that is
pre-labelled. The service is killed before or after a request it makes, at some moment, or right
after it answered. In the end: every correction is in the records, none counts twice, every task has
one prediction of a version, one version is in use, and it is the one that a service which nobody
ever killed makes of the same annotations.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.doubles.lives import Nursery, Site, in_use
from tests.doubles.redis_server import RedisServer
from tests.doubles.studio_server import studio_server

from . import record

SEED = 20261129
A_SITE = 10  # kills, before what must hold is looked at
PARTS = ("sqlite", "redis", "replicas")

Json = dict[str, Any]


@contextmanager
def site(nursery: Nursery, part: str) -> Iterator[Site]:
    """A new Label Studio, and a new store."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        server = running.enter_context(studio_server())
        store = f"sqlite:{folder / 'store.sqlite'}"
        if part != "sqlite":
            store = running.enter_context(RedisServer(folder / "redis")).url
        made = Site(nursery, server, store, folder)
        try:
            yield made
        finally:
            nursery.end_all()
            made.storage.close()


def killed(nursery: Nursery, part: str, kills: int, seed: int) -> Json:
    """One site, killed so often; what it came to."""
    chance = random.Random(seed)
    with site(nursery, part) as one:
        if part == "replicas":
            one.life()  # stays all the time
        points = [one.kill_somewhere(chance) for _ in range(kills)]
        last = one.life()  # takes up what the last one left on disk
        one.ask(last)
        one.settle(last)
        wrong = one.what_is_wrong()
        found = in_use(one.records())
        if found != (alone := one.undisturbed()):
            wrong.append(f"in use is {found}, and {alone} where nobody was killed")
        return {
            "part": part,
            "seed": seed,
            "kills": points,
            "events": dict(one.counts),
            "acknowledged": len(one.acknowledged),
            "corrections": len(found["kept"]),
            "predictions": len(one.server.predictions),
            "in_use": found["digest"],
            "wrong": wrong,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all in turn")
    args = parser.parse_args()
    begun, sites, left = time.monotonic(), list[Json](), args.kills
    parts = args.part or PARTS
    with tempfile.TemporaryDirectory() as folder, Nursery(Path(folder)) as nursery:
        while left > 0:
            kills, number = min(A_SITE, left), len(sites)
            sites.append(killed(nursery, parts[number % len(parts)], kills, args.seed + number))
            left -= kills
            print(json.dumps(sites[-1]), flush=True)
    where = Counter(point.rstrip(" 0123456789") for one in sites for point in one["kills"])
    wrong = [sentence for one in sites for sentence in one["wrong"]]
    figures = {
        "kills": args.kills,
        "where": dict(where),
        "acknowledged": sum(one["acknowledged"] for one in sites),
        "predictions": sum(one["predictions"] for one in sites),
        "wrong": wrong,
        "seconds": round(time.monotonic() - begun, 1),
        "sites": sites,
        "holds": not wrong,
    }
    print(record.write("proof-kills", figures), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
