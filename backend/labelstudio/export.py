"""A Label Studio JSON export -> what people painted, label by label.

Any result type that `regions.FORMATS` knows is read, whether it carries its labels itself or
another result with the same id does (`brush` and `labels`; protocol notes §6). A label's regions
are joined. Results without labels (choices, relations, strokes of no label) are passed over. So
are regions that do not say which pixels belong to the thing: key points, open paths, and boxes
and ellipses, which are prompts as often as answers; `without_mask` counts them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from jaxtyping import Bool

from ..errors import BadMask, BadRequest
from .annotations import moment
from .regions import FORMATS, RegionFormat, vector
from .tasks import Region

LABELLED = "labels"  # result types that carry labels end with it: brushlabels, polygonlabels
PLAIN = {  # types whose labels are another result -> the type that carries both
    "brush": "brushlabels",
    "magicwand": "brushlabels",
    "bitmask": "bitmasklabels",
    "polygon": "polygonlabels",
    "vector": "vectorlabels",
    "rectangle": "rectanglelabels",
    "ellipse": "ellipselabels",
    "keypoint": "keypointlabels",
}
OUTLINED = {"brushlabels", "bitmasklabels", "polygonlabels", "vectorlabels"}  # say which pixels
MASKS = ("rle", "imageDataURL", "maskDataURL")  # keys of a value that is a mask
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{6,}-")  # what Label Studio puts before an upload's name

Masks = dict[str, Bool[np.ndarray, "height width"]]


@dataclass(frozen=True, kw_only=True)
class AnnotatedTask:
    """One task of an export with the regions of its newest annotation that was not cancelled."""

    id: int | str | None
    address: str
    regions: tuple[Region, ...]

    @property
    def file_names(self) -> tuple[str, ...]:
        """How the picture's file may be called, the likeliest first."""
        parts = urlsplit(self.address)
        inner = parse_qs(parts.query).get("d", [])  # /data/local-files/?d=folder/name.png
        path = inner[0] if inner else unquote(parts.path)
        name = PurePosixPath(path).name
        return tuple(dict.fromkeys([path.lstrip("/"), name, UPLOAD_PREFIX.sub("", name)]))


def read(path: Path) -> tuple[AnnotatedTask, ...]:
    """Annotated tasks of an export file in its order; tasks without annotation are left out.

    Raises BadRequest for a file that is no JSON export or holds no annotation.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise BadRequest(f"{path} is not JSON; export the project as JSON") from None
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise BadRequest(f"{path} is not a list of tasks; export the project as JSON, not JSON-MIN")
    tasks = [task for item in content if (task := _task(item, path)) is not None]
    if not tasks:
        raise BadRequest(
            f"{path} holds {len(content)} tasks and no annotation; annotate some first"
        )
    return tuple(tasks)


def labels_of(tasks: Iterable[AnnotatedTask]) -> tuple[str, ...]:
    """Every label that was painted, sorted. Raises BadMask for a mask that cannot be read."""
    return tuple(sorted({name for task in tasks for one in painted(task) for name in one.names}))


def without_mask(tasks: Iterable[AnnotatedTask]) -> dict[str, int]:
    """Result type -> how many labelled regions carry no mask, sorted; nothing counts them."""
    return dict(
        sorted(
            Counter(
                str(one.region["type"])
                for task in tasks
                for one in labelled(task)
                if one.is_without_mask
            ).items()
        )
    )


def masks_of(task: AnnotatedTask, size_hw: tuple[int, int]) -> Masks:
    """Label -> where it was painted, all its regions joined.

    Raises BadMask for a region that cannot be read or was painted on another size.
    """
    masks: Masks = {}
    for one in painted(task):
        mask = mask_of(one, size_hw, task=task.id)
        for name in one.names:
            masks[name] = masks[name] | mask if name in masks else mask
    return masks


def mask_of(
    one: "Labelled", size_hw: tuple[int, int], *, task: int | str | None
) -> Bool[np.ndarray, "height width"]:
    """Where a region is painted; `size_hw` is the picture as displayed.

    Raises BadMask, which names the task: for a region that cannot be read, was painted on another
    size, or on a picture that was turned.
    """
    region = one.region
    _check(one, task)
    painted_hw = (region.get("original_height"), region.get("original_width"))
    if painted_hw != size_hw:
        raise BadMask(
            f"task {task} was painted on {painted_hw[1]} x {painted_hw[0]} pixels, its "
            f"picture has {size_hw[1]} x {size_hw[0]}; use the picture that was annotated"
        )
    try:
        return one.format.decode(region, size_hw)
    except BadMask as error:
        raise BadMask(f"task {task} has a mask that cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A region and its labels, if any; `kind` is the result type that carries both."""

    region: Region
    kind: str
    names: tuple[str, ...]

    @property
    def is_without_mask(self) -> bool:
        value = self.region.get("value")
        fields = value if isinstance(value, Mapping) else {}
        if self.kind == "vectorlabels" and "vertices" in fields:
            return not vector.is_area(fields)
        return self.kind not in OUTLINED and not any(key in fields for key in MASKS)

    @property
    def format(self) -> RegionFormat:
        return FORMATS[self.kind]


def painted(task: AnnotatedTask) -> Iterator[Labelled]:
    """Labelled regions with a mask, in order.

    Raises BadMask for a type whose masks cannot be read, and for a picture that was turned.
    """
    for one in labelled(task):
        if one.is_without_mask:
            continue
        _check(one, task.id)
        yield one


def labelled(task: AnnotatedTask) -> Iterator[Labelled]:
    """Every region that has a label, once, in order."""
    return (one for one in drawn(task.regions) if one.names)


def drawn(regions: Sequence[Region]) -> Iterator[Labelled]:
    """Every region, once, in order; also those of known types that have no label."""
    labels: dict[str, tuple[str, ...]] = {}
    for region in regions:
        if region.get("type") == LABELLED and region.get("id") is not None:
            number = str(region["id"])
            labels[number] = (*labels.get(number, ()), *_names(region))
    for region in regions:
        kind = str(region.get("type"))
        if kind in PLAIN:
            names, kind = labels.get(str(region.get("id")), ()), PLAIN[kind]
        else:
            names = () if kind == LABELLED else _names(region)
        if names or kind in FORMATS:
            yield Labelled(region=region, kind=kind, names=tuple(dict.fromkeys(names)))


def _check(one: Labelled, task: int | str | None) -> None:
    """Raises BadMask."""
    if one.kind not in FORMATS:
        raise BadMask(
            f"task {task} has masks of type {one.region['type']!r}, which cannot be read "
            f"yet; known are {', '.join(FORMATS)}"
        )
    if one.region.get("image_rotation"):
        raise BadMask(
            f"task {task} was painted on a picture turned by {one.region['image_rotation']} "
            "degrees; turn it back in Label Studio, or leave the task out"
        )


def _names(region: Region) -> tuple[str, ...]:
    """Labels that the region carries under its own type."""
    kind, value = region.get("type"), region.get("value")
    if not isinstance(kind, str) or not kind.endswith(LABELLED) or not isinstance(value, Mapping):
        return ()
    names = value.get(kind)
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _task(item: Mapping[str, Any], path: Path) -> AnnotatedTask | None:
    annotations = [
        one
        for one in item.get("annotations") or []
        if isinstance(one, dict) and not one.get("was_cancelled")
    ]
    if not annotations:
        return None
    newest = max(annotations, key=lambda one: moment(one.get("updated_at")) or 0.0)
    address = picture_of(item.get("data"))
    if address is None:
        raise BadRequest(f"task {item.get('id')} of {path} names no picture file in its data")
    return AnnotatedTask(
        id=item.get("id"),
        address=address,
        regions=tuple(one for one in newest.get("result") or [] if isinstance(one, dict)),
    )


def picture_of(data: object) -> str | None:
    """The address of the picture among a task's data, by `image` or the first that ends like one;
    None where there is none."""
    if not isinstance(data, Mapping):
        return None
    if isinstance(data.get("image"), str):
        return str(data["image"])
    texts = [one for one in data.values() if isinstance(one, str)]
    return next((one for one in texts if one.lower().split("?d=")[-1].endswith(PICTURES)), None)
