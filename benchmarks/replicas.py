"""500 tasks through two replicas, Redis and haproxy, while the replicas are killed.

    python -m benchmarks.replicas [--tasks 500] [--part demo]

A Label Studio in memory opens tasks, retrieves predictions of several at once, clicks, corrects and
has a project pre-labelled, through one address: haproxy with `docker/haproxy/haproxy.cfg` as it is.
Behind it are two services on the same Redis. The one at work on the job is killed while tasks are
being opened, comes back, and then the other one is killed. In the end every request was answered,
and as a service answers that nobody disturbs; one version was seen before anything was learnt, and
one at a time was in use afterwards; every task has one prediction; every correction is in the
records, and what is in use is what follows from them.

Parts: `toy` has a small random network in services forked from one process, `demo` the demo weights
in services started by `docker/entrypoint.sh`, as in a container. Writes
`results/proof-replicas.json`; exit status 1 if anything of the above does not hold.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from backend.demo.processes import LOOPBACK, free_port, plain_environment
from tests.doubles.balancer import program
from tests.doubles.crowd import Crowd, through_two_kills
from tests.doubles.fleet import AUTH, PASSWORDS, Fleet, is_ready
from tests.doubles.lives import Life, Nursery, Site
from tests.doubles.redis_server import RedisServer
from tests.doubles.studio_server import studio_server
from tests.doubles.waiting import until

from . import record

SEED = 20261129
PATIENCE = 600.0  # seconds for what is left of a job at the end
ROOT = Path(__file__).parents[1]
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
PARTS = ("toy", "demo")

Json = dict[str, Any]


class Containers:
    """Services as a container starts them; none outlives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: list[subprocess.Popen[bytes]] = []

    def life(
        self, site: Site, *, host: str = LOOPBACK, port: int | None = None, **environ: str
    ) -> Life:
        """Not ready yet."""
        port = port or free_port()
        log = self._folder / "service.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [ENTRYPOINT],
                env={
                    **plain_environment(),
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": str(ROOT),
                    "OMP_NUM_THREADS": "1",
                    "PROFILE": "demo",
                    "MODEL_DIR": str(self._folder / "models"),
                    "HOST": host,
                    "PORT": str(port),
                    **site.environ,
                    **environ,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._begun.append(process)
        return Life(process.pid, f"http://{host}:{port}", log)

    def ready(self, site: Site, **environ: str) -> Life:
        life = self.life(site, host=LOOPBACK, port=None, **environ)
        until(partial(is_ready, life), f"the model is there; see {life.log}", patience=PATIENCE)
        return life

    def close(self) -> None:
        for process in self._begun:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def running(part: str) -> Iterator[tuple[Site, Fleet, Any]]:
    """A Label Studio, two replicas that are ready, and how to begin a service beside them."""
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
        nursery = open_.enter_context(Nursery(folder))
        server = open_.enter_context(studio_server())
        store = open_.enter_context(RedisServer(folder / "redis")).url
        site = Site(nursery, server, store, folder, listed=0)
        open_.callback(site.storage.close)
        alone: Any = site.life
        start: Any = site.life
        if part == "demo":
            containers = Containers(folder)
            open_.callback(containers.close)
            alone, start = partial(containers.ready, site), partial(containers.life, site)

        def begin(address: str, port: int) -> Life:
            life: Life = start(host=address, port=port, **PASSWORDS)
            return replace(life, auth=AUTH)

        fleet = open_.enter_context(Fleet(folder / "balancer", begin))
        fleet.wait_until_ready(PATIENCE)
        yield site, fleet, alone


def proved(part: str, tasks: int, seed: int) -> Json:
    """What one part came to."""
    with running(part) as (site, fleet, alone):
        crowd = Crowd(site, tasks=tasks, seed=seed)
        came = through_two_kills(crowd, fleet, patience=PATIENCE)
        begun = time.monotonic()
        wrong = crowd.what_is_wrong(alone)
        judged = round(time.monotonic() - begun, 1)
        return {"part": part, "tasks": tasks, "seed": seed, **came, "judged_s": judged} | {
            "wrong": wrong
        }


def balancer() -> str:
    """Which haproxy."""
    said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=500, help="per part (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all in turn")
    args = parser.parse_args()
    parts = list[Json]()
    for part in args.part or PARTS:
        parts.append(proved(part, args.tasks, args.seed))
        print(json.dumps(parts[-1]), flush=True)
    holds = not any(one["wrong"] for one in parts)
    figures = {"balancer": balancer(), "parts": parts, "holds": holds}
    print(record.write("proof-replicas", figures), flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
