"""What Label Studio tells of a task -> the annotation that counts, and what it is held against.

Pure, but for reading an export: its tasks are read one by one, whatever its size.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from ..errors import BadRequest
from ..labelstudio.annotations import moment, that_counts
from ..labelstudio.tasks import Region, Task

Json = Any

NO_VERSION: Final = "undefined"  # as Label Studio calls predictions that name none
CHUNK: Final = 1 << 20  # characters read at once
SPACE: Final = re.compile(r"[ \t\r\n]*")

PARENT: Final = "parent"
BEFORE: Final = "before"
UNSEEN: Final = "unseen"
BASES: Final = {
    PARENT: "the annotation started from it",
    BEFORE: "the newest there was when the annotation was made",
    UNSEEN: "made later, or not what the annotation started from",
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """A task as Label Studio tells it. `id` is its number, or its place in a file without any."""

    id: int
    task: Task
    annotations: Sequence[Json]
    predictions: Sequence[Json]
    project: int | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """A prediction. `created` in seconds since 1970; `score` from 0 to 1."""

    id: int | None
    version: str
    score: float | None
    created: float | None
    regions: tuple[Region, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An annotation.

    seconds  it took, as the editor counts (`lead_time`)
    parent   number of the prediction it started from
    shown    the prediction Label Studio kept with it; plain exports have nothing else
    """

    id: int | None
    created: float | None
    seconds: float | None
    parent: int | None
    regions: tuple[Region, ...]
    shown: Made | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A prediction to hold the annotation against; `basis` is one of `BASES`."""

    made: Made
    basis: str

    @property
    def is_seen(self) -> bool:
        """Whether somebody corrected it, as far as anybody knows."""
        return self.basis != UNSEEN


def answer_of(annotations: Sequence[Json]) -> Answer | None:
    """The one that counts: ground truth, else the latest. Skipped ones never do."""
    chosen = that_counts(annotations)
    if chosen is None:
        return None
    seconds = _number(chosen.get("lead_time"))
    shown = chosen.get("prediction")
    return Answer(
        id=_whole(chosen.get("id")),
        created=moment(chosen.get("created_at")),
        seconds=seconds if seconds is not None and seconds > 0 else None,
        parent=_whole(chosen.get("parent_prediction")),
        regions=_regions(chosen),
        shown=_made(shown) if isinstance(shown, Mapping) and shown.get("result") else None,
    )


def made_of(predictions: Sequence[Json], answer: Answer) -> tuple[Made, ...]:
    """Predictions of a task, those kept with its annotation included; oldest first.

    Where an export tells only their numbers there is none.
    """
    found = [_made(one) for one in predictions if isinstance(one, Mapping)]
    if answer.shown is not None and answer.shown.id not in [one.id for one in found]:
        found.append(answer.shown)
    return tuple(sorted(found, key=_age))


def pairs_of(answer: Answer, made: Sequence[Made], version: str | None = None) -> tuple[Pair, ...]:
    """What the annotation is held against, one prediction of a version at most.

    The prediction it started from, where Label Studio still knows it: a corrected mask resembles
    what it was made from, so others would be judged too hard. Else of every version the newest from
    before the annotation, of which the newest of all counts as corrected. Who asks for a `version`
    gets it in any case.
    """
    parent = next(
        (one for one in made if answer.parent is not None and one.id == answer.parent), None
    )
    if parent is not None and version in (None, parent.version):
        return (Pair(made=parent, basis=PARENT),)
    earlier = [one for one in made if _is_before(one, answer)]
    newest = {one.version: one for one in [*made, *earlier]}  # later ones win
    seen = earlier[-1] if earlier and answer.parent is None else None
    return tuple(
        Pair(made=one, basis=BEFORE if one is seen else UNSEEN)
        for one in sorted(newest.values(), key=_age)
        if version in (None, one.version)
    )


def _is_before(made: Made, answer: Answer) -> bool:
    """What is not known counts as before."""
    return made.created is None or answer.created is None or made.created <= answer.created


def _age(made: Made) -> tuple[float, int]:
    return made.created or 0.0, made.id or 0


def _made(told: Mapping[str, Json]) -> Made:
    return Made(
        id=_whole(told.get("id")),
        version=str(told.get("model_version") or NO_VERSION),
        score=_number(told.get("score")),
        created=moment(told.get("created_at")),
        regions=_regions(told),
    )


def _regions(told: Mapping[str, Json]) -> tuple[Region, ...]:
    result = told.get("result")
    return tuple(one for one in result if isinstance(one, dict)) if isinstance(result, list) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# -- exports --------------------------------------------------------------------------------


def tasks_of(path: Path) -> Iterator[Told]:
    """Tasks of a JSON export in its order, a task in memory at a time.

    Raises BadRequest for a file that is none.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for place, item in enumerate(elements(file)):
                yield _told(item, place, path)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise BadRequest(
            f"{path} is not a JSON list of tasks; export the project as JSON"
        ) from None


def elements(file: IO[str]) -> Iterator[Json]:
    """Elements of a JSON list, each as soon as it is read whole. Raises ValueError."""
    decoder, text, at, ended = json.JSONDecoder(), "", 0, False

    def more(count: int) -> None:
        nonlocal text, at, ended
        read = file.read(count)
        text, at, ended = text[at:] + read, 0, not read

    def next_sign() -> str:
        nonlocal at
        while True:
            found = SPACE.match(text, at)
            at = found.end() if found else at
            if at < len(text) or ended:
                return text[at : at + 1]
            more(CHUNK)

    if next_sign() != "[":
        raise ValueError("this is no list")
    at += 1
    if next_sign() == "]":
        return
    while True:
        next_sign()
        wanted = CHUNK
        while True:
            try:
                value, at = decoder.raw_decode(text, at)
                break
            except ValueError:
                if ended:
                    raise
            more(wanted)
            wanted *= 2  # so that a task of any size is looked at a few times only
        yield value
        sign = next_sign()
        at += 1
        if sign == "]":
            return
        if sign != ",":
            raise ValueError("a list goes on with a comma")


def _told(item: object, place: int, path: Path) -> Told:
    if not isinstance(item, dict) or ("annotations" not in item and "data" not in item):
        raise BadRequest(f"{path} is not a list of tasks; export the project as JSON, not JSON-MIN")
    data = item.get("data")
    number = _whole(item.get("id"))
    return Told(
        id=place if number is None else number,
        task=Task(item.get("id"), data if isinstance(data, dict) else {}),
        annotations=item.get("annotations") or (),
        predictions=item.get("predictions") or (),
        project=_whole(item.get("project")),
    )
