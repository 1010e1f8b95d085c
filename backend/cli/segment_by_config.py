"""`cliper segment --config`: picture files by a label config, as the service would answer.

No command itself. The plan, the models, the looking and what is written of a segmentation are the
service's own; only the last step differs: files in place of regions.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .. import overlay
from ..dataset.painter import Asked, Painter, views_plan
from ..errors import BadRequest
from ..labelstudio.label_config import MAX_CHARACTERS, ConfigImage
from ..labelstudio.tasks import Task
from ..looking import Picture, Segmented
from ..painting import label_map, masks
from ..plan import choice_of
from ..settings import Settings
from ..vocabulary import ControlVocabulary
from . import segment
from .segment import Found, Job, Report, Segments

STANDARD_INPUT = "-"
UNFIT = re.compile(r"[^\w-]+")  # for a file's name


def ready(args: argparse.Namespace, settings: Settings) -> Callable[[], Segments]:
    """Reads the config; what it gives loads the models and waits for them.

    Raises BadRequest and ConfigError, each of both also ModelFailed.
    """
    from ..wiring import check_choice, painter

    chosen = replace(
        settings,
        profile=args.profile or settings.profile,
        method=args.method or settings.method,
        features=args.features or settings.features,
        student=args.student or settings.student,
        vae=args.vae or settings.vae,
        device=args.device or settings.first_device,
    )
    check_choice(chosen)
    asked = Asked(config=read_config(args.config), extra={})
    wanted = views_plan(asked, chosen.options).wanted
    image = _only_image(wanted)
    endings = _endings(wanted)

    def load() -> Segments:
        loaded = painter(chosen, asked)
        for warning in loaded.plan.warnings:
            segment.complain(f"label config: {warning}")
        return partial(_one, painter=loaded, image=image, endings=endings, settings=chosen)

    return load


def read_config(name: str) -> str:
    """The text of a label config, `-`: from standard input. Raises BadRequest."""
    try:
        if name == STANDARD_INPUT:
            return sys.stdin.read(MAX_CHARACTERS + 1)  # its reader says where that is too much
        with Path(name).open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--config {name} cannot be read as text ({error})") from None


def _only_image(wanted: Sequence[ControlVocabulary]) -> ConfigImage:
    """Raises BadRequest: a file is one picture, and has no data beside it."""
    images = {one.control.image for one in wanted}
    if len(images) > 1:
        raise BadRequest(
            f"the label config has {len(images)} pictures per task, and a file is one; give a "
            "config with one Image tag"
        )
    for one in wanted:
        if one.control.labels_key is not None:
            raise BadRequest(
                f"{one.control.from_name!r} takes its labels from the data of a task, and a file "
                "has none; list them in the config"
            )
    return next(iter(images))


def _endings(wanted: Sequence[ControlVocabulary]) -> dict[str, str]:
    """What stands between a picture's name and the kind of file, by tags with masks.

    Nothing where there is one tag only. Raises BadRequest where there is none, or too many labels.
    """
    drawn = [one for one in wanted if not one.control.is_answer]
    if not drawn:
        raise BadRequest("the label config has no tag with masks, such as BrushLabels")
    for one in drawn:
        if len(one.written) > overlay.MOST:
            raise BadRequest(
                f"{one.control.from_name!r} has {len(one.written)} labels; a label map holds at "
                f"most {overlay.MOST}: split them over several tags"
            )
    if len(drawn) == 1:
        return {drawn[0].control.from_name: ""}
    endings: dict[str, str] = {}
    for number, one in enumerate(drawn, start=1):
        name = UNFIT.sub("_", one.control.from_name)
        if f".{name}".lower() in map(str.lower, endings.values()):
            name = f"{name}-{number}"
        endings[one.control.from_name] = f".{name}"
    return endings


def _one(
    job: Job, *, painter: Painter, image: ConfigImage, endings: dict[str, str], settings: Settings
) -> Sequence[Report]:
    """Segment one picture and write the files of every tag."""
    began = time.perf_counter()
    pixels = segment.read(job.picture, settings)
    address = str(job.picture)
    task = Task(None, {image.data_key: [address] if image.listed else address})
    (view,) = painter.plan.views(task)
    picture = Picture(address, view.page, lambda: pixels)
    found = painter.segmented(picture, view)
    seconds = time.perf_counter() - began
    return [
        _written(job, painter, one, endings[one.one.control.from_name], pixels, seconds)
        for one in found
        if not one.one.control.is_answer
    ]


def _written(
    job: Job,
    painter: Painter,
    found: Segmented,
    ending: str,
    pixels: np.ndarray,
    seconds: float,
) -> Report:
    """Label map, overlay and report of one tag; where masks overlap, each of them too."""
    one, target = found.one, segment.named(job.target, ending)
    shown = _found(found)
    report = segment.report_of(
        job,
        painter.plan.identities[choice_of(one)],
        found.vocabulary,
        size_hw=found.size_hw,
        score=found.segmentation.score,
        seconds=seconds,
    )
    report |= {"control": one.control.from_name, "model_version": painter.plan.version}
    written = segment.write(
        target, pixels, label_map(found.painted, size_hw=found.size_hw), shown, report
    )
    if found.segmentation.layers is not None:
        for number, label in enumerate(shown, start=1):
            if label.mask.any():
                Image.fromarray(label.mask).save(segment.named(target, f".mask-{number}.png"))
    return written


def _found(found: Segmented) -> list[Found]:
    """Every label that the tag may write, with what would be written of it."""
    one, segmentation = found.one, found.segmentation
    written = {
        label.result_name: mask for label, mask in masks(found.painted, size_hw=found.size_hw)
    }
    nothing = np.zeros(found.size_hw, bool)
    shown = [
        Found(
            name=label.result_name,
            mask=written.get(label.result_name, nothing),
            presence=float(segmentation.presence[number]),
            score=float(segmentation.region_scores[number]),
        )
        for number, label in enumerate(one.sought)
        if not one.is_taken(label)
    ]
    if one.rest is not None and not one.is_taken(one.rest):
        mask = written.get(one.rest.result_name, nothing)
        shown.append(Found(name=one.rest.result_name, mask=mask, presence=None, score=None))
    return shown
