"""`cliper prelabel` at full size: killed, restarted, measured against the bare model.

throughput  pairs of bare model and command on the same pictures, alternating
kills       a large project, the command killed at random moments, Label Studio restarted
redis       Redis stopped for half a minute in the middle
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from backend.demo import projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment

from . import record

CHECKOUT = Path(__file__).parents[1]
TEMPLATES = CHECKOUT / ".cache" / "label-studio"
LEAST_SHARE = 85.0  # percent of the bare model's throughput
MORE_MEMORY = 10.0  # percent that a large project may take beyond a small one
ESTIMATE = 25.0  # percent that the preview's time may be off
UPLOADED_AT_ONCE = 90  # files; Label Studio takes 100
PARTS = ("throughput", "kills", "redis")
SEED = 20261128
REDIS_AWAY = 30.0  # seconds
LABEL_STUDIO_AWAY = 5.0  # seconds, and as long as it takes to start

Json = dict[str, Any]


class Bench:
    """One Label Studio, and commands that work on it."""

    def __init__(self, label_studio: LabelStudioServer, folder: Path, threads: int | None) -> None:
        self.label_studio, self.folder, self.runs = label_studio, folder, 0
        self.api = LabelStudioApi(label_studio.url, label_studio.account.token)
        self.environment = {
            **plain_environment("XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES"),
            "PROFILE": "demo",
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
            "STORAGE": f"sqlite:{folder / 'store.sqlite'}",
            **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
        }

    def project(self, count: int) -> int:
        """A new project of storybook scenes with all labels."""
        made = projects.everything(count, 17)
        number = self.api.create_project(f"{count} scenes", made.label_config)
        for first in range(0, count, UPLOADED_AT_ONCE):
            chunk = made.pictures[first : first + UPLOADED_AT_ONCE]
            files = [(one.name, (one.name, one.to_png(), "image/png")) for one in chunk]
            self.api.call("POST", f"/api/projects/{number}/import", files=files)
        stored = self.api.call("GET", f"/api/projects/{number}")["task_number"]
        if stored != count:
            raise RuntimeError(f"{stored} tasks in place of {count}")
        return number

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        self.runs += 1
        with self.out.open("wb") as out, self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "backend", *words],
                env={**self.environment, **environment},
                cwd=CHECKOUT,
                stdout=out,
                stderr=log,
            )

    @property
    def out(self) -> Path:
        return self.folder / f"run-{self.runs}.json"

    @property
    def log(self) -> Path:
        return self.folder / f"run-{self.runs}.log"

    def run(self, *words: str, **environment: str) -> Json:
        ended = self.start(*words, **environment).wait()
        if ended:
            raise RuntimeError(f"{' '.join(words)} ended with {ended}: {self.log.read_text()}")
        told: Json = json.loads(self.out.read_text())
        return told

    def prelabel(self, project: int, *options: str, **environment: str) -> Json:
        return self.run("prelabel", "--project", str(project), "--json", *options, **environment)

    def bare(self, count: int) -> float:
        """Pictures a second of the model alone, in a process of its own."""
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.whole_project", "--bare", str(count)],
            env=self.environment,
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
            text=True,
        )
        return float(told.stdout.strip().splitlines()[-1])

    def written(self, project: int) -> int:
        counts = self.api.call("GET", f"/api/projects/{project}/model-versions")
        return int(sum(counts.values()))

    def has_more(self, project: int, than: int) -> bool:
        return self.written(project) > than

    def per_task(self, project: int) -> Mapping[int, int]:
        """Number of predictions -> number of tasks that have so many."""
        counts: Counter[int] = Counter()
        page = 1
        while True:
            told = self.api.call(
                "GET",
                "/api/tasks",
                params={
                    "project": project,
                    "page": page,
                    "page_size": 500,
                    "include": "id,total_predictions",
                },
            )
            counts.update(int(one["total_predictions"]) for one in told["tasks"])
            if page * 500 >= told["total"]:
                return dict(counts)
            page += 1


def bare(count: int) -> float:
    """Pictures a second: look, score, decide, nothing else; the better of two threads."""
    from backend import wiring
    from backend.settings import Settings
    from cliper_model import decide

    made = projects.everything(count + 5, 17)
    services = wiring.build(Settings.from_environ({**os.environ, "STORAGE": "memory:"}))
    services.model.start()
    services.model.join()
    desk = services.predictor.desk(made.label_config)
    ((_, segmenter),) = desk.segmenters.items()
    (one,) = desk.plan.wanted
    vocabulary = segmenter.read(one.labels, background=one.background, preset=one.preset)
    decision = one.decision(segmenter.decision(one.preset))

    def look(pictures: Sequence[projects.Picture]) -> float:
        begun = time.perf_counter()
        for picture in pictures:
            decide(segmenter.score(segmenter.observe(picture.image), vocabulary), decision)
        return len(pictures) / (time.perf_counter() - begun)

    look(made.pictures[:5])
    with ThreadPoolExecutor(1) as other:  # where the command's model works; often the faster place
        rates = [look(made.pictures[5:]), other.submit(look, made.pictures[5:]).result()]
    services.close()
    return max(rates)


def throughput(bench: Bench, tasks: int, pairs: int) -> tuple[Json, bool]:
    """Share of the bare model's throughput, where time goes, and what preview had said."""
    project = bench.project(tasks)
    page = bench.folder / "preview"
    bench.start("preview", "--project", str(project), "-n", "24", "--out", str(page)).wait()
    preview = json.loads((page / "preview.json").read_text())
    shares, runs = [], []
    for _ in range(pairs):
        before = bench.bare(tasks // 4)
        told = bench.prelabel(project)
        after = bench.bare(tasks // 4)
        bench.prelabel(project, "--undo", told["model_version"])
        rate = told["written"] / told["seconds"]
        shares.append(100 * rate / ((before + after) / 2))
        runs.append(
            {
                "bare_per_second": [round(before, 3), round(after, 3)],
                "prelabel_per_second": round(rate, 3),
                "seconds": told["seconds"],
                "spent": told["spent"],
                "peak_memory_mib": told["peak_memory_mib"],
            }
        )
        print(json.dumps(runs[-1]), flush=True)
    share = statistics.median(shares)
    took = statistics.median(run["seconds"] for run in runs)
    estimate = float(preview["estimate"]["seconds"])
    off = 100 * (estimate - took) / took
    figures = {
        "tasks": tasks,
        "share_of_bare_percent": round(share, 1),
        "shares_percent": [round(one, 1) for one in shares],
        "preview_estimate_seconds": round(estimate, 1),
        "run_seconds": round(took, 1),
        "preview_off_percent": round(off, 1),
        "runs": runs,
    }
    return figures, share >= LEAST_SHARE and abs(off) <= ESTIMATE


def kills(bench: Bench, tasks: int, times: int, restarts: int, small: int) -> tuple[Json, bool]:
    """One prediction per task, whatever is killed and restarted; memory as of a small project."""
    chance = random.Random(SEED)
    small_peak = float(bench.prelabel(bench.project(small))["peak_memory_mib"])
    project = bench.project(tasks)
    away = set(chance.sample(range(times), restarts))
    peaks, moments = [], []
    begun = time.monotonic()
    for number in range(times):
        process = bench.start("prelabel", "--project", str(project), "--json")
        if number in away:
            before = bench.written(project)
            _until(partial(bench.has_more, project, before), process)
            bench.label_studio.stop()
            time.sleep(LABEL_STUDIO_AWAY)
            bench.label_studio.start()
        delay = chance.uniform(5.0, 0.9 * 2 * _seconds_each(tasks, times))
        _until_ended(process, delay)
        peaks.append(_peak_mib(process.pid) if process.poll() is None else 0.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        moments.append({"after_seconds": round(delay, 1), "written": bench.written(project)})
        print(json.dumps(moments[-1]), flush=True)
    told = bench.prelabel(project)
    peaks.append(float(told["peak_memory_mib"]))
    counts = bench.per_task(project)
    more = 100 * (max(peaks) / small_peak - 1)
    figures = {
        "tasks": tasks,
        "kills": moments,
        "label_studio_restarted_in_runs": sorted(away),
        "predictions_per_task": {str(count): found for count, found in counts.items()},
        "last_run": {name: told[name] for name in ("already", "written", "removed", "failed")},
        "peak_memory_mib": round(max(peaks), 1),
        "small_tasks": small,
        "peak_memory_small_mib": round(small_peak, 1),
        "more_memory_percent": round(more, 1),
        "seconds": round(time.monotonic() - begun, 1),
    }
    return figures, counts == {1: tasks} and more <= MORE_MEMORY


def redis_away(bench: Bench, tasks: int) -> tuple[Json, bool]:
    """Redis stopped for half a minute: the run waits, says so, goes on."""
    port, folder = free_port(), bench.folder / "redis"
    folder.mkdir()
    server = Server(
        "Redis",
        ["redis-server", "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder),
         "--appendonly", "yes", "--save", ""],
        environment=plain_environment(),
        health=f"http://{LOOPBACK}:{port}/",
        log=folder / "redis.log",
    )  # fmt: skip
    project = bench.project(tasks)
    with _Plain(server):
        process = bench.start(
            "prelabel", "--project", str(project), "--json",
            STORAGE=f"redis://{LOOPBACK}:{port}/0",
        )  # fmt: skip
        _until(lambda: bench.written(project) > 0, process)
        server.stop()
        time.sleep(REDIS_AWAY)
        waited = "waiting for the store" in bench.log.read_text()
        with _Plain(server):
            ended = process.wait()
    counts = bench.per_task(project)
    figures = {
        "tasks": tasks,
        "away_seconds": REDIS_AWAY,
        "said_so": waited,
        "exit_status": ended,
        "predictions_per_task": {str(count): found for count, found in counts.items()},
    }
    return figures, waited and ended == 0 and counts == {1: tasks}


class _Plain:
    """Redis speaks no HTTP: it is up when it has a port."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        import redis

        server = self._server
        server._wait_until_healthy = lambda process: None  # type: ignore[method-assign]
        server.start()
        port = int(server.health.rpartition(":")[2].strip("/"))
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.05)
        client.close()

    def __exit__(self, *_: object) -> None:
        self._server.stop()


def _seconds_each(tasks: int, times: int) -> float:
    """So that the kills fall all over the project, at about three tasks a second."""
    return tasks / 3.0 / (times + 1)


def _until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not holds():
        if process.poll() is not None:
            raise RuntimeError("the command ended too early")
        time.sleep(0.2)


def _until_ended(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def _peak_mib(pid: int) -> float:
    """Source: proc_pid_status(5), VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bare", type=int, metavar="N", help="only the bare model's throughput")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the model; default: as torch chooses")
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; default: all")
    args = parser.parse_args()
    if args.bare:
        print(bare(args.bare))
        return 0
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    failed = []
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        label_studio = running.enter_context(
            LabelStudioServer(Installation.find(), folder / "data", templates=TEMPLATES)
        )
        bench = Bench(label_studio, folder, args.threads)
        for part in args.parts or PARTS:
            figures, holds = {
                "throughput": lambda: throughput(bench, args.small, args.pairs),
                "kills": lambda: kills(bench, args.tasks, args.kills, args.restarts, args.small),
                "redis": lambda: redis_away(bench, args.small // 2),
            }[part]()
            if not holds:
                failed.append(part)
            whole = {"threads": args.threads or "default", **figures, "holds": holds}
            print(json.dumps(whole, indent=1))
            print(record.write(f"proof-prelabel-{part}", whole), flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "all parts hold")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
