"""What a request had no time for goes on as a job (AUTO_PRELABEL)."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import ServiceError
from ..jobs.base import Jobs
from ..trail import carried
from .wanted import Wanted
from .works import PRELABEL, LabelStudio

logger = logging.getLogger(__name__)

REMEMBERED = 5  # jobs named in /health


class Unfinished:
    """Takes tasks from requests and asks for jobs, beside them; for many threads."""

    def __init__(self, jobs: Jobs, studio: LabelStudio) -> None:
        self._jobs, self._studio = jobs, studio
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="unfinished")
        self._placed: deque[Mapping[str, Any]] = deque(maxlen=REMEMBERED)
        self._trouble: str | None = None

    def __call__(self, project: str, tasks: Sequence[int]) -> None:
        """`project`: number and birth, as in the request; these tasks were asked for by hand, so
        annotated ones are predicted too."""
        try:
            self._asking.submit(carried(self._place), project, tuple(tasks))
        except RuntimeError:  # we are going down; Label Studio can ask again
            logger.warning("%d tasks of project %s are left", len(tasks), project)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`."""
        return {"auto": True, "jobs": list(self._placed), "trouble": self._trouble}

    def close(self) -> None:
        """Ask for what waits to be asked for."""
        self._asking.shutdown(wait=True)

    def _place(self, project: str, tasks: tuple[int, ...]) -> None:
        try:
            number = int(project.partition(".")[0])
            wanted = Wanted(project=number, key=project, tasks=tasks, include_annotated=True)
            job, new = self._jobs.place(
                PRELABEL, wanted.to_json(), scope=self._studio.scope(number)
            )
        except (ServiceError, ValueError) as error:
            self._trouble = f"{len(tasks)} tasks of project {project} are left: {error}"
            logger.error("%s", self._trouble)
            return
        self._trouble = None
        if new:
            self._placed.append({"job": job.id, "project": number, "tasks": len(tasks)})
            logger.warning("job %s finishes %d tasks of project %d", job.id, len(tasks), number)
