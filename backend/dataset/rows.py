"""What goes in and what comes out, task by task, as they stand in files and between processes."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import UInt8

from ..labelstudio.tasks import Task
from ..outcomes import NotPredicted, Outcome, Predicted

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET, JSONL = "parquet", "jsonl"
FORMATS = (PARQUET, JSONL)


@dataclass(frozen=True, kw_only=True)
class Given:
    """One task of a data set.

    id      tells it apart from all others of the data set
    data    as Label Studio has it, or will have it
    number  Label Studio's number of the task, where it is in one already
    where   the place of its picture, for us; None: where the data says
    """

    id: str
    data: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None
    where: str | None = None

    @property
    def task(self) -> Task:
        return Task(self.id if self.number is None else self.number, self.data)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One picture of a task, unpacked. `digest`: SHA-256 of its bytes, in hexadecimal."""

    digest: str
    pixels: UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A task and its pictures in the order of the label config, or why they cannot be had."""

    given: Given
    pictures: tuple[Seen, ...] = ()
    error: NotPredicted | None = None

    @property
    def nbytes(self) -> int:
        return sum(one.pixels.nbytes for one in self.pictures)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one task.

    data     JSON
    result   a JSON list of regions; None where the task failed
    regions  how many there are
    kind, reason  of a failure, as the table in the end shows it
    """

    id: str
    number: int | None
    data: str
    model_version: str
    score: float | None = None
    result: str | None = None
    regions: int = 0
    kind: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, given: Given, outcome: Outcome, version: str) -> Self:
        data = json.dumps(given.data)
        if isinstance(outcome, Predicted):
            inside = b",".join(part[1:-1] for part in outcome.regions if part != b"[]")
            return cls(
                id=given.id,
                number=given.number,
                data=data,
                model_version=outcome.model_version,
                score=outcome.score,
                result=f"[{inside.decode()}]",
                regions=outcome.count,
            )
        return cls(
            id=given.id,
            number=given.number,
            data=data,
            model_version=version,
            kind=outcome.kind,
            reason=outcome.reason,
        )

    @property
    def prediction(self) -> str:
        """As Label Studio takes it, JSON. Only of a task that did not fail."""
        rest = json.dumps({"score": self.score, "model_version": self.model_version})
        return f'{{"result":{self.result},{rest[1:]}'

    def to_line(self) -> str:
        """A task with its prediction as Label Studio imports it, in one line of JSON."""
        head = json.dumps({"id": self.id, "number": self.number})[:-1]
        if self.result is None:
            tail = json.dumps({"error": {"kind": self.kind, "reason": self.reason}})[1:-1]
            tail += f', "model_version": {json.dumps(self.model_version)}'
        else:
            tail = f'"regions": {self.regions}, "predictions": [{self.prediction}]'
        return f'{head}, "data": {self.data}, {tail}}}'

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Raises ValueError, KeyError and TypeError for what `to_line` did not write."""
        told = json.loads(line)
        common = {"id": told["id"], "number": told["number"], "data": json.dumps(told["data"])}
        if (error := told.get("error")) is not None:
            return cls(
                **common,
                model_version=told["model_version"],
                kind=error["kind"],
                reason=error["reason"],
            )
        prediction = told["predictions"][0]
        return cls(
            **common,
            model_version=prediction["model_version"],
            score=prediction["score"],
            result=json.dumps(prediction["result"], separators=(",", ":")),
            regions=told["regions"],
        )


# -- between processes, and in Parquet files ----------------------------------------------


def given_schema() -> "pa.Schema":
    """Of lists of tasks."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("number", pa.int64()),
            pa.field("data", pa.large_string(), nullable=False),
            pa.field("where", pa.string()),
        ]
    )


def given_table(tasks: Iterable[Given]) -> "pa.Table":
    import pyarrow as pa

    rows = [
        {"id": one.id, "number": one.number, "data": json.dumps(one.data), "where": one.where}
        for one in tasks
    ]
    return pa.Table.from_pylist(rows, schema=given_schema())


def given_of(table: "pa.Table") -> Iterator[Given]:
    for row in table.to_pylist():
        yield Given(
            id=row["id"], number=row["number"], data=json.loads(row["data"]), where=row["where"]
        )


def fetched_table(tasks: Iterable[Fetched]) -> "pa.Table":
    """Tasks with their unpacked pictures; some may take more than two gigabytes."""
    import pyarrow as pa

    picture = pa.struct(
        [
            ("digest", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("pixels", pa.large_binary()),
        ]
    )
    schema = given_schema().append(pa.field("pictures", pa.large_list(picture)))
    for name in ("kind", "reason"):
        schema = schema.append(pa.field(name, pa.string()))
    schema = schema.append(pa.field("passing", pa.bool_()))
    rows = [
        {
            "id": one.given.id,
            "number": one.given.number,
            "data": json.dumps(one.given.data),
            "where": one.given.where,
            "pictures": [
                {
                    "digest": seen.digest,
                    "height": seen.pixels.shape[0],
                    "width": seen.pixels.shape[1],
                    "pixels": np.ascontiguousarray(seen.pixels).tobytes(),
                }
                for seen in one.pictures
            ],
            "kind": None if one.error is None else one.error.kind,
            "reason": None if one.error is None else one.error.reason,
            "passing": one.error is not None and one.error.passing,
        }
        for one in tasks
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def fetched_of(table: "pa.Table") -> Iterator[Fetched]:
    """Task by task: unpacked pictures are large, so only one task's are copied at a time."""
    for start in range(table.num_rows):
        row = table.slice(start, 1).to_pylist()[0]
        given = Given(
            id=row["id"], number=row["number"], data=json.loads(row["data"]), where=row["where"]
        )
        failed = row["kind"] is not None
        yield Fetched(
            given=given,
            pictures=tuple(
                Seen(
                    digest=one["digest"],
                    pixels=np.frombuffer(one["pixels"], np.uint8).reshape(
                        one["height"], one["width"], 3
                    ),
                )
                for one in row["pictures"] or ()
            ),
            error=NotPredicted(reason=row["reason"], kind=row["kind"], passing=row["passing"])
            if failed
            else None,
        )


def row_schema() -> "pa.Schema":
    """Of the rows in Parquet files."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("number", pa.int64()),
            pa.field("data", pa.large_string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("score", pa.float64()),
            pa.field("result", pa.large_string()),
            pa.field("regions", pa.int32(), nullable=False),
            pa.field("kind", pa.string()),
            pa.field("reason", pa.string()),
        ]
    )


def row_table(rows: Iterable[Row]) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist([vars(one) for one in rows], schema=row_schema())


def rows_of(table: "pa.Table") -> Iterator[Row]:
    for one in table.to_pylist():
        yield Row(**{name: one[name] for name in row_schema().names})
