"""Evidence by the predictor's own eyes: pictures as the model sees them without any correction."""

from collections.abc import Sequence
from typing import Protocol

from ..desks import Desk
from ..labelstudio.tasks import Task
from ..storage.base import Json
from ..studio.project import ProjectFacts
from ..studying import Course, StudiedPicture
from .annotation import Counting
from .evidence import Evidence
from .records import LeftOut
from .works import Examination


class Studies(Protocol):
    """What is asked of the predictor."""

    def desk(
        self, config: str, extra_params: object = None, *, project: str | None = None
    ) -> Desk: ...
    def study(self, task: Task, desk: Desk) -> list[StudiedPicture]: ...
    def courses(self, desk: Desk) -> tuple[Course, ...]: ...


class Reading(Protocol):
    """What annotations mean."""

    def counting(self, annotations: Sequence[Json]) -> Counting | None:
        """Of several, all submitted; None: none does. Cheap."""
        ...

    def evidence(
        self, task: Task, counts: Counting, pictures: Sequence[StudiedPicture]
    ) -> Evidence | LeftOut | None:
        """Raises BadMask."""
        ...


class PredictorExaminer:
    """Implements Examiner."""

    def __init__(self, predictor: Studies, reading: Reading) -> None:
        self._predictor, self._reading = predictor, reading

    def sit_down(self, facts: ProjectFacts, extra_params: object) -> Examination:
        """See Examiner. No project is named, so that nothing learnt before has a say."""
        desk = self._predictor.desk(facts.label_config, extra_params)
        return _Seat(self._predictor, self._reading, desk)


class _Seat:
    """Implements Examination."""

    def __init__(self, predictor: Studies, reading: Reading, desk: Desk) -> None:
        self._predictor, self._reading, self._desk = predictor, reading, desk
        self._courses = predictor.courses(desk)

    @property
    def courses(self) -> Sequence[Course]:
        return self._courses

    def stamp(self, annotations: Sequence[Json]) -> str | None:
        counts = self._reading.counting(annotations)
        return None if counts is None else counts.stamp

    def examine(self, task: Task, annotations: Sequence[Json]) -> Evidence | LeftOut | None:
        counts = self._reading.counting(annotations)
        if counts is None:
            return None
        pictures = self._predictor.study(task, self._desk)
        return self._reading.evidence(task, counts, pictures)
