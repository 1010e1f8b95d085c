"""What a learning run costs annotators: how long submitting takes without and with one.

    python -m benchmarks.submits [--submits 150]

A real Label Studio, the real service with the demo weights, one machine. Blocks of submits
alternate: in one project, whose service does not learn, while nothing learns anywhere; and in
another, whose service is in the middle of learning from a hundred corrected tasks: in every other
block it looks at all of them again, in the others it learns from what it knows of them. Writes
`results/proof-submits.json`; exit status 1 if the 99th percentile is slowed by 50 ms or more, or an
event is acknowledged later than in 100 ms.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests

from backend.demo import annotate, projects
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from backend.labelstudio.regions import FORMATS, RegionControl

from . import record

CHECKOUT: Final = Path(__file__).parents[1]
TEMPLATES: Final = CHECKOUT / ".cache" / "label-studio"
TASKS: Final = 100  # corrected before the clock runs
BLOCK: Final = 25  # submits
LOOK: Final = 0.5  # seconds between looks at jobs
MOST_SLOWED, MOST_ACKNOWLEDGED = 50.0, 100.0  # ms


@contextmanager
def service(studio: LabelStudioServer, folder: Path, *, learns: bool) -> Iterator[str]:
    """The address of a service with the demo weights."""
    port = free_port()
    environment = {
        **plain_environment(),
        "HOST": LOOPBACK,
        "PORT": str(port),
        "PROFILE": "demo",
        "STORAGE": f"sqlite:{folder / f'store-{learns}.sqlite'}",
    }
    if learns:
        environment["LABEL_STUDIO_URL"] = studio.url
        environment["LABEL_STUDIO_API_KEY"] = studio.account.token
    with Server(
        "the service",
        [sys.executable, "-m", "backend", "serve"],
        environment=environment,
        health=f"http://{LOOPBACK}:{port}/health",
        log=folder / f"service-{learns}.log",
        folder=CHECKOUT,
    ):
        annotate.wait_for_model(f"http://localhost:{port}")
        yield f"http://localhost:{port}"


def regions_of(picture: projects.Picture) -> list[dict[str, Any]]:
    size_hw = (picture.image.shape[0], picture.image.shape[1])
    found: list[dict[str, Any]] = []
    for number, (label, mask) in enumerate(picture.truth.items()):
        control = RegionControl(
            from_name="masks",
            to_name="image",
            kind="brushlabels",
            label=label,
            labels_name=None,
            region_id=f"by-hand-{number}",
            score=None,
            size_hw=size_hw,
            item_index=None,
        )
        found += FORMATS["brushlabels"].encode(mask, control)
    return found


class Project:
    """A project whose tasks are submitted one after the other."""

    def __init__(self, api: LabelStudioApi, url: str, drawn: projects.Project) -> None:
        self._api, self._drawn = api, drawn
        self.number = api.create_project("submits", drawn.label_config)
        self._tasks: dict[str, int] = {}
        files = [(one.name, one.to_png()) for one in drawn.pictures]
        for first in range(0, len(files), 100):  # Label Studio takes no more at once
            self._tasks |= api.upload(self.number, dict(files[first : first + 100]))
        api.connect(self.number, url)
        self._next = 0

    def submit(self) -> float:
        """Milliseconds one submit took."""
        picture = self._drawn.pictures[self._next]
        self._next += 1
        body = {"result": regions_of(picture), "lead_time": 20.0}
        begun = time.perf_counter()
        self._api.call("POST", f"/api/tasks/{self._tasks[picture.name]}/annotations/", json=body)
        return 1000 * (time.perf_counter() - begun)


class Lesson:
    """Keeps a service learning within a `with` block, and nothing learning after it."""

    def __init__(self, url: str, project: int) -> None:
        self._url, self._project = url, project
        self.looks: dict[str, int] = {}  # at its jobs: in which phase they were
        self.runs = 0
        self.reread = False

    def __enter__(self) -> "Lesson":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        wanted = "looking" if self.reread else "learning"
        while wanted not in map(_phase, self._jobs("running")):
            assert self._thread.is_alive(), "no job can be asked for"
            time.sleep(LOOK)
        return self

    def finished(self) -> None:
        """Learn once, to the end."""
        self._until_quiet()
        body = {"kind": "learn", "project": self._project, "now": True}
        requests.post(f"{self._url}/jobs", json=body, timeout=60).raise_for_status()
        self._until_quiet()

    def _until_quiet(self) -> None:
        while self._jobs("queued", "running", "waiting"):
            time.sleep(LOOK)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for job in self._jobs("queued", "running", "waiting"):
            requests.delete(f"{self._url}/jobs/{job['id']}", timeout=60)
        self._until_quiet()

    def _jobs(self, *states: str) -> list[Any]:
        jobs = requests.get(f"{self._url}/jobs", timeout=60).json()["jobs"]
        return [one for one in jobs if one["state"] in states]

    def _work(self) -> None:
        body = {"kind": "learn", "project": self._project, "now": True, "reread": self.reread}
        while not self._over.wait(LOOK):
            under_way = self._jobs("queued", "running", "waiting")
            for job in under_way:
                phase = _phase(job)
                self.looks[phase] = self.looks.get(phase, 0) + 1
            if not under_way:
                requests.post(f"{self._url}/jobs", json=body, timeout=60).raise_for_status()
                self.runs += 1


def _phase(job: Any) -> str:
    return str((job["progress"] or {}).get("phase", job["state"])).split()[0]


def acknowledged(url: str, project: int, count: int) -> list[float]:
    """Milliseconds until an event is acknowledged."""
    body = {"action": "ANNOTATION_UPDATED", "project": {"id": project}, "task": {"id": 1}}
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        requests.post(f"{url}/webhook", json=body, timeout=60).raise_for_status()
        found.append(1000 * (time.perf_counter() - begun))
        time.sleep(0.02)
    return found


def percentiles(times: list[float]) -> dict[str, float]:
    at = {f"p{share}": float(np.percentile(times, share)) for share in (50, 95, 99)}
    return {name: round(value, 1) for name, value in at.items()} | {"count": len(times)}


def main() -> int:
    parser = argparse.ArgumentParser(description="What learning costs annotators.")
    parser.add_argument("--submits", type=int, default=150, help="per project")
    args = parser.parse_args()
    if args.submits < 2 * BLOCK:
        parser.error(f"--submits must be at least {2 * BLOCK}")

    drawn = projects.everything(TASKS + args.submits, 31)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with (
            LabelStudioServer(Installation.find(), folder / "ls", templates=TEMPLATES) as studio,
            service(studio, folder, learns=False) as idle,
            service(studio, folder, learns=True) as learner,
        ):
            api = LabelStudioApi(studio.url, studio.account.token)
            calm, busy = Project(api, idle, drawn), Project(api, learner, drawn)
            for _ in range(TASKS):
                calm.submit()
                busy.submit()
            times: dict[str, list[float]] = {"calm": [], "learning": []}
            lesson = Lesson(learner, busy.number)
            events: list[float] = []
            lesson.finished()  # with what was submitted so far
            for block in range(args.submits // BLOCK):
                lesson.reread = block % 2 == 0
                times["calm"] += [calm.submit() for _ in range(BLOCK)]
                with lesson:
                    times["learning"] += [busy.submit() for _ in range(BLOCK)]
                    events += acknowledged(learner, busy.number, BLOCK)
            api.close()
    slowed = float(np.percentile(times["learning"], 99) - np.percentile(times["calm"], 99))
    slowed_median = statistics.median(times["learning"]) - statistics.median(times["calm"])
    passed = (
        slowed < MOST_SLOWED
        and float(np.percentile(events, 99)) < MOST_ACKNOWLEDGED
        and lesson.looks.get("learning", 0) > 0
        and lesson.looks.get("looking", 0) > 0
    )
    path = record.write(
        "proof-submits",
        {
            "passed": passed,
            "unit": "ms",
            "submits": {name: percentiles(found) for name, found in times.items()},
            "slowed at p99": round(slowed, 1),
            "slowed at the median": round(slowed_median, 1),
            "event acknowledged": percentiles(events),
            "learning runs": lesson.runs,
            "looks at runs, by phase": lesson.looks,
        },
    )
    print(path.read_text())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
