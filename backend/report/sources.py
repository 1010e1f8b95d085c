"""Where a report gets tasks and pictures from: a project of a Label Studio, or an export."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from jaxtyping import UInt8

from ..errors import AddressRefused, BadRequest, ConfigError, ImageMissing
from ..fetching import Fetching, Hurry, Pictures
from ..images.folder import PictureFolder
from ..labelstudio import export, label_config
from ..labelstudio.label_config import Control
from ..studio.project import ProjectFacts, StudioProject, annotated
from .comparing import Name, Place
from .reading import Told, tasks_of

PICTURE_SECONDS: Final = 20.0  # for one picture
ALL_PICTURES_SECONDS: Final = 900.0  # for all of a report


Pixels = UInt8[np.ndarray, "height width 3"]


class Source(Protocol):
    """Tasks, one at a time; those without any annotation may be left out.

    title      of the project, or the name of the file
    project    its number, None where nobody knows
    open_tasks tasks nobody has annotated, None where nobody knows
    colours    of labels, as the label config writes them
    warnings   sentences for whoever reads the report
    """

    @property
    def title(self) -> str: ...

    @property
    def project(self) -> int | None: ...

    @property
    def open_tasks(self) -> int | None: ...

    @property
    def colours(self) -> Mapping[Name, str]: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def tasks(self) -> Iterator[Told]:
        """Raises BadRequest, StudioRefused, StudioAway."""
        ...

    def again(self, numbers: Sequence[int]) -> Iterator[Told]:
        """These tasks once more, as far as they are still there."""
        ...

    def picture(self, told: Told, place: Place) -> Pixels:
        """Raises CouldNotPredict, BadRequest."""
        ...

    def link(self, told: Told) -> str | None:
        """Where a browser finds the task."""
        ...


class Gallery:
    """Pictures of tasks, from wherever the service gets them, or from a folder; in bounded time."""

    def __init__(
        self,
        pictures: Pictures,
        folder: Path | None = None,
        *,
        timeout: float = PICTURE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pictures = pictures
        self._folder = PictureFolder(folder) if folder is not None else None
        self._fetching = Fetching(pictures, timeout=timeout, clock=clock)
        self._hurry: Hurry | None = None
        self._clock = clock

    def get(self, told: Told, address: str, page: int) -> Pixels:
        """Raises ImageError, BudgetSpent, BadRequest."""
        return self._pictures.decode(self._bytes(told, address), page=page)

    def _bytes(self, told: Told, address: str) -> bytes:
        if self._folder is None or address.startswith("data:"):
            if (
                self._hurry is None
            ):  # time counts from the first picture on, not from the first task
                budget = ALL_PICTURES_SECONDS
                self._hurry = Hurry(deadline=self._clock() + budget, budget=budget)
            return self._fetching.fetch(told.task, address, self._hurry)
        names = export.AnnotatedTask(id=told.id, address=address, regions=()).file_names
        path = self._folder.of(names)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageMissing(f"{path} cannot be read ({error.strerror})") from None


class ProjectSource:
    """Implements Source over Label Studio's API. Raises StudioRefused, StudioAway at birth."""

    def __init__(self, project: StudioProject, gallery: Gallery) -> None:
        self._project, self._gallery = project, gallery
        facts = project.facts()
        self.title, self.project = facts.title or f"project {project.id}", project.id
        self.corrected = project.count(annotated())
        self.open_tasks: int | None = max(facts.tasks - self.corrected, 0)
        self._controls = _controls(facts)
        self.colours = _colours(self._controls)
        self.warnings = (
            [
                "the project asks its model for predictions whenever tasks are listed "
                "(evaluate_predictions_automatically)"
            ]
            if facts.listing_predicts
            else []
        )

    def tasks(self) -> Iterator[Told]:
        after = 0
        while page := self._project.page(annotated(), after=after).tasks:
            for one in page:
                yield self._told(one.id, one.task, predicted=one.predictions > 0)
            after = page[-1].id

    def again(self, numbers: Sequence[int]) -> Iterator[Told]:
        for number in sorted(numbers):
            for one in self._project.tasks([number]).values():
                yield self._told(one.id, one.task, predicted=one.predictions > 0)

    def _told(self, number: int, task: Any, *, predicted: bool) -> Told:
        return Told(
            id=number,
            task=task,
            annotations=self._project.submitted(number),
            predictions=self._project.predictions(number) if predicted else (),
            project=self.project,
        )

    def picture(self, told: Told, place: Place) -> Pixels:
        image = next((one.image for one in self._controls if one.image.name == place.to_name), None)
        if image is None:
            raise AddressRefused(f"the label config has no picture called {place.to_name!r}")
        addresses = told.task.image_addresses(image.data_key, listed=image.listed)
        index = place.number or 0
        if index >= len(addresses):
            raise ImageMissing(f"the task has no picture number {index + 1}")
        return self._gallery.get(told, addresses[index], told.task.page(image.page_key))

    def link(self, told: Told) -> str | None:
        return link(self._project.studio.url, self.project, told.id)


class ExportSource:
    """Implements Source over a JSON export; its pictures as the first picture of a task's data.

    `url` is the Label Studio it is from, for links.
    """

    def __init__(self, path: Path, gallery: Gallery, url: str | None = None) -> None:
        self._path, self._gallery, self._url = path, gallery, url
        self.title, self.project = path.name, None
        self.open_tasks: int | None = None
        self.colours: Mapping[Name, str] = {}
        self.warnings: Sequence[str] = ()

    def tasks(self) -> Iterator[Told]:
        return tasks_of(self._path)

    def again(self, numbers: Sequence[int]) -> Iterator[Told]:
        wanted = set(numbers)
        return (one for one in tasks_of(self._path) if one.id in wanted)

    def picture(self, told: Told, place: Place) -> Pixels:
        listed = told.task.data.get(place.to_name)
        found: object = listed
        if place.number is not None:
            lists = [one for one in told.task.data.values() if isinstance(one, list)]
            several = listed if isinstance(listed, list) else (lists[0] if lists else [])
            found = several[place.number] if place.number < len(several) else None
        if not isinstance(found, str):
            found = export.picture_of(told.task.data)
        if not isinstance(found, str):
            raise ImageMissing("the task's data names no picture")
        return self._gallery.get(told, found, 1)

    def link(self, told: Told) -> str | None:
        return link(self._url, told.project, told.id)


def link(url: str | None, project: int | None, task: int) -> str | None:
    """The task in Label Studio's Data Manager."""
    if url is None or project is None:
        return None
    return f"{url.rstrip('/')}/projects/{project}/data?task={task}"


def existing(path: Path, what: str) -> Path:
    """Raises BadRequest where nothing is there."""
    if not path.exists():
        raise BadRequest(f"{what} {path} does not exist")
    return path


def _controls(facts: ProjectFacts) -> tuple[Control, ...]:
    """Of a config that has nothing for us: none; masks can be compared all the same."""
    try:
        return label_config.parse(facts.label_config).controls
    except ConfigError:
        return ()


def _colours(controls: Sequence[Control]) -> Mapping[Name, str]:
    return {
        Name(one.from_name, label.result_name): label.colour
        for one in controls
        for label in one.labels
        if label.colour
    }
