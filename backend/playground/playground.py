"""Try words on pictures: the same label configs, models and numbers as `/predict`."""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .. import overlay
from ..errors import BadRequest, ConfigError, ImageTooLarge, MaskTooLarge
from ..labelstudio.tasks import Task
from ..looking import Picture, Segmented
from ..plan import Plan, View, choice_of
from ..predictor import Predictor
from ..result_cache import ResultCache
from ..studio.client import Studio
from ..studio.project import StudioProject
from . import coco, scenes
from .kept import Kept, Shelf
from .panes import Pane

LONGEST_NAME = 200  # characters of a picture's name
LONGEST_DATA = 100_000  # characters of a task's data that is kept beside its picture
SCENE_BYTES = 8_000_000  # of all scenes there are
OVERLAY, LABELS, COCO = "overlay", "labels", "coco"
EXPORTS = {OVERLAY: "overlay.png", LABELS: "labels.png", COCO: "coco.json"}

Opening = Callable[[], Studio]


@dataclass(frozen=True)
class Drawn:
    """A scene as a PNG file."""

    data: bytes

    @property
    def nbytes(self) -> int:
        return len(self.data)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A picture by its id, a label config, and the name of a control; None: the first."""

    picture: str
    config: str
    control: str | None = None

    @classmethod
    def from_json(cls, body: object) -> "Asked":
        """Raises BadRequest."""
        if not isinstance(body, Mapping):
            raise BadRequest("the request body is not a JSON object")
        picture, config, control = (body.get(name) for name in ("picture", "config", "control"))
        if not isinstance(picture, str) or not isinstance(config, str):
            raise BadRequest("the request needs a picture's id and a label config, both texts")
        if control is not None and not isinstance(control, str):
            raise BadRequest("control is the name of a tag of the label config")
        return cls(picture=picture, config=config, control=control)


class Playground:
    """Safe to use from many threads."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        most_bytes: int,
        opening: Opening | None = None,
        is_here: Callable[[str], bool] = lambda profile: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most_bytes` of a picture that is sent. `opening`: how to ask Label Studio; None where
        none is known. `is_here`: whether the weights of a profile are on this machine."""
        self._predictor, self._most_bytes = predictor, most_bytes
        self._opening, self._clock, self.is_here = opening, clock, is_here
        self._shelf = Shelf()
        self._scenes: ResultCache[Drawn] = ResultCache(max_bytes=SCENE_BYTES)
        self._look_seconds: float | None = None

    @property
    def has_projects(self) -> bool:
        return self._opening is not None

    @property
    def look_seconds(self) -> float | None:
        """How long the latest picture took that was new to the model."""
        return self._look_seconds

    # -- pictures ---------------------------------------------------------------------

    def keep_file(self, data: bytes, name: str) -> Kept:
        """A picture somebody sent. Raises ImageError."""
        if len(data) > self._most_bytes:
            raise ImageTooLarge(
                f"the picture has more than {self._most_bytes / 1e6:g} MB (MAX_IMAGE_MB)"
            )
        pixels = self._predictor.decoded(data)
        return self._shelf.put(data, pixels, name=_short(name) or "picture")

    def scene(self, number: int) -> bytes:
        """A drawn scene as a PNG file; drawn once. Raises BadRequest."""
        known = self._scenes.get(number)
        if known is None:
            known = Drawn(scenes.png(number))
            self._scenes.put(number, known)
        return known.data

    def keep_scene(self, number: int) -> Kept:
        """A drawn scene. Raises BadRequest."""
        data = self.scene(number)
        return self._shelf.put(data, self._predictor.decoded(data), name=scenes.name(number))

    def keep_task(self, project: int, task: int) -> tuple[Kept, str]:
        """The first picture of a task of a connected project, and the project's label config.

        Raises BadRequest, StudioError, ConfigError, CouldNotPredict.
        """
        if self._opening is None:
            raise BadRequest(
                "no Label Studio is connected; set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
            )
        with closing(self._opening()) as studio:
            at = StudioProject(studio, project)
            facts = at.facts()
            listed = at.tasks([task]).get(task)
        if listed is None:
            raise BadRequest(f"project {project} has no task {task}")
        desk = self._predictor.desk_of(facts.label_config, facts.key)
        views = desk.plan.views(listed.task)
        data = self._predictor.fetched(listed.task, views[0])
        told = listed.task
        if len(json.dumps(told.data)) > LONGEST_DATA:
            told = Task(told.id, {})
        pixels = self._predictor.decoded(data, page=views[0].page)
        kept = self._shelf.put(
            data,
            pixels,
            name=f"task {task}",
            page=views[0].page,
            image=views[0].image.name,
            task=told,
            project=facts.key,
        )
        return kept, facts.label_config

    def kept(self, id: str) -> Kept:
        """Raises PictureGone."""
        return self._shelf.get(id)

    # -- masks ------------------------------------------------------------------------

    def pane(self, asked: Asked) -> Pane:
        """What the config finds on the picture. The model looks only once at each picture.

        Raises PictureGone, ConfigError, CouldNotPredict, ModelNotReady, Busy.
        """
        kept = self._shelf.get(asked.picture)
        desk = self._predictor.desk_of(asked.config, kept.project)
        view, number, controls = _chosen(desk.plan, kept, asked.control)
        picture = Picture(
            kept.digest,
            kept.page,  # the one on screen, whether or not the config says where pages are named
            lambda: self._predictor.decoded(kept.data, page=kept.page),
            desk.scope,
            passing=kept.project is None,
        )
        one = view.wanted[number]
        known = self._predictor.crew.known(kept.digest, kept.page, choice_of(one)) is not None
        begun = self._clock()
        found = self._predictor.segmented(picture, view, desk, asked.config)[number]
        seconds = self._clock() - begun
        if not known:
            self._look_seconds = seconds
        return Pane(
            found=found,
            identity=desk.plan.identities[choice_of(one)],
            version=desk.plan.version,
            controls=controls,
            seconds=seconds,
            looked=not known,
            warnings=(*desk.plan.warnings, *self._refused(found)),
        )

    def _refused(self, found: Segmented) -> Iterator[str]:
        """Why a request would get no masks of such a picture."""
        try:
            self._predictor.refuse_brush(found.size_hw, [found.one])
        except MaskTooLarge as error:
            yield f"Label Studio would get no masks: {error}"

    def export(self, asked: Asked, kind: str) -> tuple[bytes, str, str]:
        """A file of what `pane` shows, its media type and its name. Raises BadRequest, and as
        `pane`."""
        if kind not in EXPORTS:
            raise BadRequest(f"as must be one of: {', '.join(EXPORTS)}")
        kept, pane = self._shelf.get(asked.picture), self.pane(asked)
        stem = kept.name.rpartition(".")[0] or kept.name
        name = f"{_plain(stem)}.{EXPORTS[kind]}"
        if kind == COCO:
            told = coco.document(
                pane.parts, pane.names, file_name=kept.name, size_hw=pane.found.size_hw
            )
            return json.dumps(told).encode(), "application/json", name
        drawn = self._overlay(kept, pane) if kind == OVERLAY else _label_map(pane)
        file = io.BytesIO()
        drawn.save(file, "PNG")
        return file.getvalue(), "image/png", name

    def _overlay(self, kept: Kept, pane: Pane) -> Image.Image:
        indices, colours = pane.label_map(), pane.colours
        areas = np.bincount(indices.ravel(), minlength=len(pane.names) + 1)[1:]
        legend = [
            overlay.Entry(
                text=pane.labels[number].name,
                note=f"{100 * areas[number] / indices.size:.1f} %",
                colour=colours[number],
            )
            for number in np.argsort(-areas, kind="stable")
            if areas[number]
        ]
        pixels = self._predictor.decoded(kept.data, page=kept.page)
        painted = overlay.tinted(pixels, indices, colours)
        return overlay.with_legend(painted, legend)


def _label_map(pane: Pane) -> Image.Image:
    """Raises BadRequest where a palette has no room for so many labels."""
    if len(pane.names) > overlay.MOST:
        raise BadRequest(f"a label map has room for {overlay.MOST} labels; leave some out")
    return overlay.label_map(pane.label_map(), pane.colours)


def _chosen(plan: Plan, kept: Kept, control: str | None) -> tuple[View, int, tuple[str, ...]]:
    """The view that has the control, its number there, and the names of all controls with masks.

    Raises ConfigError, CouldNotPredict.
    """
    data = dict(kept.task.data) if kept.task is not None else {}
    images = {one.control.image.name: one.control.image for one in plan.wanted}
    if kept.image in images:  # of a task with several pictures this is the one that was fetched
        images = {kept.image: images[kept.image]}
    for image in images.values():
        data[image.data_key] = [kept.id] if image.listed else kept.id
        if image.page_key is not None:
            data[image.page_key] = kept.page
    plan = replace(plan, wanted=tuple(w for w in plan.wanted if w.control.image.name in images))
    views = plan.views(Task(None if kept.task is None else kept.task.id, data))
    masks = {
        one.control.from_name: (view, number)
        for view in reversed(views)
        for number, one in enumerate(view.wanted)
        if not one.control.is_answer
    }
    if not masks:
        raise ConfigError("the label config has no tag with masks; add for example BrushLabels")
    names = tuple(one.control.from_name for one in plan.wanted if one.control.from_name in masks)
    if control is None or control not in masks:
        control = names[0]
    return *masks[control], names


def _short(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME]


def _plain(name: str) -> str:
    """Fit for a file name in a header."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)
    return kept.strip(".-") or "picture"
