"""Memory of a run over very many tasks, with answers that cost nothing: flat from 100 on.

The tasks, the pages and the writing are real, in a real Label Studio; only the model is left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.labelstudio.tasks import Task
from backend.outcomes import Outcome, Predicted

from . import record

CHECKOUT = Path(__file__).parents[1]
TEMPLATES = CHECKOUT / ".cache" / "label-studio"
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="masks" toName="image">'
    '<Label value="house"/></BrushLabels></View>'
)
IMPORTED_AT_ONCE = 5000
MORE_MEMORY = 10.0  # percent


class Nothing:
    """A predictor that finds nothing, at once."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor

    def desk(self, config: str, extra_params: object = None, *, project: str | None = None) -> Any:
        return self._predictor.desk(config, extra_params, project=project)

    def stream(
        self, tasks: Iterator[Task], desk: Any, spend: Callable[[str, float], None]
    ) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            yield task, Predicted(regions=(b"[]",), score=0.5, model_version=desk.plan.version)


def run(project: int) -> dict[str, Any]:
    """One run in this process; its counts and peak memory in MiB."""
    from backend import wiring
    from backend.prelabel.progress import Progress
    from backend.prelabel.run import Hooks, prelabel
    from backend.prelabel.wanted import Wanted
    from backend.settings import Settings
    from backend.studio.client import Studio
    from backend.studio.project import StudioProject

    settings = Settings.from_environ({**os.environ, "STORAGE": "memory:", "PROFILE": "demo"})
    services = wiring.build(settings)
    services.model.start()
    services.model.join()
    studio = Studio(settings.label_studio_url or "", settings.label_studio_api_key or "")
    progress = Progress()
    hooks = Hooks(told=lambda _: None, pause=lambda: None, wait=time.sleep)
    before = _peak_mib()
    prelabel(
        StudioProject(studio, project),
        Nothing(services.predictor),
        Wanted(project=project),
        progress,
        hooks,
    )
    services.close()
    return {
        "written": progress["written"],
        "seconds": round(progress.seconds, 1),
        "before_mib": round(before, 1),
        "peak_mib": round(_peak_mib(), 1),
    }


def _peak_mib() -> float:
    """Source: proc_pid_status(5), VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[100, 2000, 10000])
    parser.add_argument("--project", type=int, help="one run, in this process")
    args = parser.parse_args()
    if args.project:
        print(json.dumps(run(args.project)))
        return 0
    rows = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStudioServer(
            Installation.find(), Path(folder) / "data", templates=TEMPLATES
        ) as label_studio,
    ):
        api = LabelStudioApi(label_studio.url, label_studio.account.token)
        known = {
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
        }
        for count in args.tasks:
            project = api.create_project(f"{count} tasks", CONFIG)
            for first in range(0, count, IMPORTED_AT_ONCE):
                numbers = range(first, min(first + IMPORTED_AT_ONCE, count))
                api.import_tasks(project, [{"image": f"http://x/{n}.png"} for n in numbers])
            told = subprocess.run(
                [sys.executable, "-m", "benchmarks.many_tasks", "--project", str(project)],
                env={**os.environ, **known},
                cwd=CHECKOUT,
                check=True,
                capture_output=True,
                text=True,
            )
            rows[str(count)] = json.loads(told.stdout.splitlines()[-1])
            print(count, rows[str(count)], flush=True)
        api.close()
    few, many = rows[str(min(args.tasks))], rows[str(max(args.tasks))]
    more = 100 * (many["peak_mib"] / few["peak_mib"] - 1)
    whole = all(row["written"] == int(count) for count, row in rows.items())
    holds = whole and more <= MORE_MEMORY
    figures = {"runs": rows, "more_memory_percent": round(more, 2), "holds": holds}
    print(record.write("proof-many-tasks", figures))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
