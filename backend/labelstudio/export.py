"""A Label Studio JSON export -> what people painted, label by label.

Any result type that `regions.FORMATS` knows is read; a label's regions are joined. Results
without labels of their own (choices, relations, plain strokes) are passed over.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from jaxtyping import Bool

from ..errors import BadMask, BadRequest
from .regions import FORMATS
from .tasks import Region

LABELLED = "labels"  # result types that carry labels end with it: brushlabels, polygonlabels
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


def labels_of(tasks: tuple[AnnotatedTask, ...]) -> tuple[str, ...]:
    """Every label that was painted, sorted. Raises BadMask for a type that cannot be read."""
    return tuple(sorted({name for task in tasks for one in task.regions for name in _names(one)}))


def masks_of(task: AnnotatedTask, size_hw: tuple[int, int]) -> Masks:
    """Label -> where it was painted, all its regions joined.

    Raises BadMask for a region that cannot be read or was painted on another size.
    """
    masks: Masks = {}
    for region in task.regions:
        names = _names(region)
        if not names:
            continue
        painted_hw = (region.get("original_height"), region.get("original_width"))
        if painted_hw != size_hw:
            raise BadMask(
                f"task {task.id} was painted on {painted_hw[1]} x {painted_hw[0]} pixels, its "
                f"picture has {size_hw[1]} x {size_hw[0]}; use the picture that was annotated"
            )
        mask = FORMATS[region["type"]].decode(region, size_hw)
        for name in names:
            masks[name] = masks[name] | mask if name in masks else mask
    return masks


def _names(region: Region) -> tuple[str, ...]:
    kind, value = region.get("type"), region.get("value")
    if not isinstance(kind, str) or not kind.endswith(LABELLED) or not isinstance(value, Mapping):
        return ()
    names = value.get(kind)
    if not isinstance(names, list) or not names:
        return ()
    if kind not in FORMATS:
        raise BadMask(
            f"regions of type {kind!r} cannot be read yet; known are {', '.join(FORMATS)}"
        )
    return tuple(str(name) for name in names)


def _task(item: Mapping[str, Any], path: Path) -> AnnotatedTask | None:
    annotations = [
        one
        for one in item.get("annotations") or []
        if isinstance(one, dict) and not one.get("was_cancelled")
    ]
    if not annotations:
        return None
    newest = max(annotations, key=lambda one: str(one.get("updated_at") or ""))
    return AnnotatedTask(
        id=item.get("id"),
        address=_address(item, path),
        regions=tuple(one for one in newest.get("result") or [] if isinstance(one, dict)),
    )


def _address(item: Mapping[str, Any], path: Path) -> str:
    data = item.get("data")
    texts = [one for one in data.values() if isinstance(one, str)] if isinstance(data, dict) else []
    pictures = [one for one in texts if one.lower().split("?d=")[-1].endswith(PICTURES)]
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        return str(data["image"])
    if not pictures:
        raise BadRequest(f"task {item.get('id')} of {path} names no picture file in its data")
    return pictures[0]
