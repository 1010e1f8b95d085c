"""Tasks with predictions and corrections whose figures can be told in the head."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backend.errors import ImageMissing
from backend.labelstudio.regions import RegionControl, brush
from backend.labelstudio.tasks import Task
from backend.report.comparing import Name, Place
from backend.report.reading import Told
from backend.report.sources import Pixels

from .pictures import encoded, stripes

Json = Any
HIGH, WIDE = 10, 20
PICTURE = stripes("red", "blue", height=HIGH, width=WIDE // 2)


def columns(first: int, end: int, size_hw: tuple[int, int] = (HIGH, WIDE)) -> np.ndarray:
    """A mask of whole columns from `first` up to `end`."""
    mask = np.zeros(size_hw, bool)
    mask[:, first:end] = True
    return mask


def painted(
    label: str, mask: np.ndarray, *, score: float | None = None, index: int | None = None
) -> list[Json]:
    """A brush region of the control `seg` on `image`."""
    control = RegionControl(
        from_name="seg",
        to_name="image",
        kind="brushlabels",
        label=label,
        region_id=label,
        score=score,
        item_index=index,
    )
    return brush.encode(mask, control)


def predicted(
    number: int, result: Sequence[Json], *, version: str = "v1", hour: int = 1, score: float = 0.5
) -> Json:
    return {
        "id": number,
        "model_version": version,
        "score": score,
        "created_at": moment(hour),
        "result": list(result),
    }


def annotated(
    result: Sequence[Json], *, hour: int = 2, parent: int | None = None, **fields: Json
) -> Json:
    return {
        "id": 1000 + hour,
        "created_at": moment(hour),
        "updated_at": moment(hour),
        "was_cancelled": False,
        "ground_truth": False,
        "parent_prediction": parent,
        "lead_time": None,
        "result": list(result),
        **fields,
    }


def moment(hour: int) -> str:
    return f"2026-03-{1 + hour // 24:02d}T{hour % 24:02d}:00:00Z"


def told(
    number: int, annotations: Sequence[Json], predictions: Sequence[Json], **data: Json
) -> Told:
    return Told(
        id=number,
        task=Task(number, {"image": address(), **data}),
        annotations=annotations,
        predictions=predictions,
    )


def corrected(
    number: int, right: np.ndarray, given: np.ndarray, *, label: str = "red", **fields: Json
) -> Told:
    """One label, predicted as `given` and corrected to `right`, one hour later than the last."""
    version, score = fields.pop("version", "v1"), fields.pop("score", 0.5)
    parent = predicted(
        number * 10, painted(label, given, score=score), version=version, score=score
    )
    answer = annotated(painted(label, right), hour=1 + number, parent=number * 10, **fields)
    return told(number, [answer], [parent])


def address(picture: np.ndarray = PICTURE) -> str:
    return f"data:image/png;base64,{base64.b64encode(encoded(picture)).decode()}"


def write(path: Path, tasks: Sequence[Told]) -> Path:
    """As a JSON export with whole predictions."""
    listed = [
        {
            "id": one.id,
            "project": 7,
            "data": dict(one.task.data),
            "annotations": list(one.annotations),
            "predictions": list(one.predictions),
        }
        for one in tasks
    ]
    path.write_text(json.dumps(listed), encoding="utf-8")
    return path


@dataclass
class Tasks:
    """Implements Source over a list; `missing` have no picture. `asked` counts pictures."""

    kept: Sequence[Told]
    title: str = "Harbour"
    project: int | None = 7
    open_tasks: int | None = None
    colours: Mapping[Name, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    missing: frozenset[int] = frozenset()
    picture_of: Pixels = field(default_factory=lambda: PICTURE)
    asked: list[int] = field(default_factory=list)

    def tasks(self) -> Iterator[Told]:
        return iter(self.kept)

    def again(self, numbers: Sequence[int]) -> Iterator[Told]:
        return (one for one in self.kept if one.id in numbers)

    def picture(self, told: Told, place: Place) -> Pixels:
        self.asked.append(told.id)
        if told.id in self.missing:
            raise ImageMissing("there is nothing at the address")
        return self.picture_of

    def link(self, told: Told) -> str | None:
        return f"http://studio.test/projects/7/data?task={told.id}"
