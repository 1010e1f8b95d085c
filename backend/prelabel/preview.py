"""What a run over a project would bring, seen on a sample. Nothing is written to Label Studio.

    numbers of all tasks ──> an even sample ──> the predictor's stream ──> tiles, table, estimate

The sample goes the way the run will go: the same pictures, the same steps, the same regions. Tiles
are painted from the regions as Label Studio would get them, when the clock has stopped.
"""

import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np

from ..desks import Desk
from ..labelstudio.tasks import Task
from ..outcomes import NotPredicted, Outcome, Predicted
from ..painting import written_name
from ..plan import View, choice_of
from ..predictor import Sees
from ..studio.project import PAGE, Filters, ProjectFacts, StudioProject, above, among, has_draft
from .estimate import Estimate, Meter, Pace, estimate
from .progress import Failed, Progress
from .run import AGAIN, Predicts, sit_down
from .sample import SEED, Candidates, candidates, evenly, still_open
from .tiles import Album, Found, Palette, Tile
from .wanted import Wanted

MOST_TASKS = 200  # of a sample: their regions are kept until they are painted
MOST_ROWS = 500  # labels of a table; task data may bring any number
LOOKED_AT = 3  # pages of tasks listed for the clock
EVERYWHERE = 8  # pictures a label has to be in, all of them, before we wonder
UNLIKE: Mapping[str, float] = {"demo": 0.98}
"""By profile: median over pictures of the highest presence, below which they are called unlike the
training pictures. Measured with `benchmarks/unlike.py`, see `results/unlike-demo.json`. Of other
profiles nobody knows yet: there it is the presence a label must have to be found at all."""

UNLIKE_SENTENCE = (
    "these pictures may be unlike the model's training pictures; look before you go on"
)


class Shows(Predicts, Protocol):
    """What a preview asks of the predictor."""

    def stream(  # type: ignore[override]
        self,
        tasks: Iterator[Task],
        desk: Desk,
        spend: Callable[[str, float], None],
        sees: Sees | None = None,
    ) -> Iterator[tuple[Task, Outcome]]: ...


@dataclass
class Row:
    """One label of one control over the sample's pictures.

    asked      pictures in which it was looked for
    presences  in these, between 0 and 1; empty for a label that fills the rest
    found      pictures in which regions or answers carry it
    regions    that carry it
    areas      shares of the picture, where found; empty for answers
    """

    control: str
    label: str
    asked: int = 0
    found: int = 0
    regions: int = 0
    presences: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the pictures in which it was looked for."""
        return self.found / self.asked if self.asked else 0.0

    def presence(self, quantile: float) -> float | None:
        return float(np.quantile(self.presences, quantile)) if self.presences else None

    @property
    def area(self) -> float | None:
        """Mean share of the picture, where found."""
        return sum(self.areas) / len(self.areas) if self.areas else None

    def to_json(self) -> dict[str, Any]:
        quantiles = {"low": 0.1, "median": 0.5, "high": 0.9}
        return {
            "control": self.control,
            "label": self.label,
            "asked": self.asked,
            "found": self.found,
            "share": round(self.share, 4),
            "presence": {name: _rounded(self.presence(at)) for name, at in quantiles.items()},
            "area": _rounded(self.area),
            "regions": self.regions,
        }


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Everything the page shows."""

    facts: ProjectFacts
    wanted: Wanted
    version: str
    model: str
    seed: int
    candidates: Candidates
    tasks: Sequence[int]
    tiles: Sequence[Tile]
    palette: Palette
    rows: Sequence[Row]
    regions: Sequence[int]  # per predicted task
    highest: Sequence[float]  # presence per picture, of its likeliest label
    unlike_below: float  # as their median
    failures: dict[str, Failed]
    pace: Pace
    warm_up: int
    estimate: Estimate
    config_warnings: Sequence[str]

    @property
    def failed(self) -> int:
        return sum(one.count for one in self.failures.values())

    @property
    def median_presence(self) -> float | None:
        return median(self.highest) if self.highest else None

    def warnings(self) -> list[str]:
        """Sentences, the weightiest first."""
        return [*_warnings(self), *self.config_warnings]

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.facts.id,
            "title": self.facts.title,
            "model_version": self.version,
            "model": self.model,
            "wanted": self.wanted.to_json(),
            "tasks": {"matching": len(self.candidates.all), "to_do": len(self.candidates.to_do)},
            "sample": {"seed": self.seed, "tasks": list(self.tasks), "failed": self.failed},
            "median_presence": _rounded(self.median_presence),
            "unlike_below": self.unlike_below,
            "labels": [row.to_json() for row in self.rows],
            "regions_per_task": list(self.regions),
            "failures": {
                kind: {"count": one.count, "reason": one.sentence, "tasks": list(one.tasks)}
                for kind, one in self.failures.items()
            },
            "timed": {
                "tasks": self.pace.tasks,
                "warm_up": self.warm_up,
                "seconds_per_task": round(self.pace.per_task, 4),
                "start_seconds": round(self.pace.start, 3),
                "shares": {step: round(share, 4) for step, share in self.pace.shares.items()},
            },
            "estimate": self.estimate.to_json(),
            "warnings": self.warnings(),
        }


def preview(
    project: StudioProject,
    predictor: Shows,
    wanted: Wanted,
    count: int,
    *,
    shares_processor: bool,
    told: Callable[[int, int], None] = lambda done, of: None,
    seed: int = SEED,
) -> Preview:
    """Look at `count` tasks of the project as a run would, and at what the whole would take.

    `shares_processor`: Label Studio and the model compute on the same cores. `told` hears how many
    tasks are done, and of how many. Raises ConfigError, ModelFailed, ModelLoading, StudioRefused,
    StudioAway.
    """
    seat = sit_down(project, predictor)
    version = seat.plan.version
    found = candidates(project, wanted, version)
    chosen = evenly(found.worth_looking_at, min(count, MOST_TASKS), seed=seed)
    filters = [*wanted.conditions(), *still_open(wanted, version)]
    listing = _seconds_per_page(project, found.worth_looking_at, filters)
    tasks = _tasks(project, chosen)

    album, meter, progress = Album(), Meter(len(chosen)), Progress()
    outcomes: list[tuple[Task, Outcome]] = []
    told(0, len(chosen))
    for task, outcome in predictor.stream(tasks, seat.desk, meter.spend, album.see):
        meter.done()
        outcomes.append((task, outcome))
        told(len(outcomes), len(chosen))
    pace = meter.pace()

    table = _Table()
    outcomes.sort(key=lambda pair: chosen.index(int(pair[0].id or 0)))
    for task, outcome in outcomes:
        if isinstance(outcome, Predicted):
            views = seat.plan.views(task)
            table.take(views, outcome, album.hang(task, views, outcome, table.palette))
        else:
            progress.fail(int(task.id or 0), outcome.kind, outcome.reason)
            album.hang_failed(int(task.id or 0), outcome.reason)
    predicted = [one for _, one in outcomes if isinstance(one, Predicted)]
    sizes = [len(one.to_json()) for one in predicted]
    passing = any(isinstance(one, NotPredicted) and one.passing for _, one in outcomes)
    first = next(iter(seat.plan.identities.values()))
    return Preview(
        facts=seat.facts,
        wanted=wanted,
        version=version,
        model=f"{first.method}, profile {first.profile}",
        seed=seed,
        candidates=found,
        tasks=[int(task.id or 0) for task, _ in outcomes],
        tiles=album.tiles,
        palette=table.palette,
        rows=list(table.rows.values()),
        regions=[one.count for one in predicted],
        highest=table.highest,
        unlike_below=_unlike_below(seat.desk),
        failures=dict(progress.failures),
        pace=pace,
        warm_up=meter.warm_up,
        estimate=estimate(
            tasks=len(found.to_do),
            pace=pace,
            listing=listing,
            prediction_bytes=sum(sizes) / len(sizes) if sizes else 0.0,
            predicted_share=len(predicted) / len(outcomes) if outcomes else 0.0,
            shares_processor=shares_processor,
            waits=sum(AGAIN) if passing else 0.0,
        ),
        config_warnings=_of_config(seat.plan.warnings, seat.facts),
    )


class _Table:
    """Rows in the order in which labels come up: the config's, then those of task data."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.palette = Palette()
        self.highest: list[float] = []

    def take(
        self, views: Sequence[View], outcome: Predicted, found: Sequence[Sequence[Found]]
    ) -> None:
        """One task's pictures; `found` in each."""
        for view, presences, there in zip(views, outcome.presences, found, strict=True):
            for key in self._asked(view):
                if (row := self._row(*key)) is not None:
                    row.asked += 1
            for control, label, value in presences:
                if (row := self._row(control, label)) is not None:
                    row.presences.append(value)
            if presences:
                self.highest.append(max(one.value for one in presences))
            areas: dict[tuple[str, str], list[float]] = {}
            for one in there:
                areas.setdefault((one.control, one.label), []).append(one.area)
            for (control, label), parts in areas.items():
                if (row := self._row(control, label)) is not None:
                    row.found += 1
                    row.regions += len(parts)
                    if any(parts):
                        row.areas.append(min(sum(parts), 1.0))

    def _asked(self, view: View) -> Iterator[tuple[str, str]]:
        for one in view.wanted:
            labels = one.sought if one.rest is None else (*one.sought, one.rest)
            for label in labels:
                if not one.is_taken(label):
                    yield one.control.from_name, written_name(one.control, label)

    def _row(self, control: str, label: str) -> Row | None:
        if (control, label) not in self.rows and len(self.rows) >= MOST_ROWS:
            return None
        return self.rows.setdefault((control, label), Row(control, label))


def _tasks(project: StudioProject, numbers: Sequence[int]) -> Iterator[Task]:
    """The sample's tasks; who was deleted meanwhile is left out."""
    for first in range(0, len(numbers), PAGE):
        yield from (one.task for one in project.tasks(numbers[first : first + PAGE]).values())


def _seconds_per_page(project: StudioProject, numbers: "array[int]", filters: Filters) -> float:
    """What a run asks Label Studio before each page of tasks, timed at a few places."""
    if not numbers:
        return 0.0
    seconds = []
    for part in range(LOOKED_AT):
        before = numbers[len(numbers) * part // LOOKED_AT] - 1
        begun = time.perf_counter()
        page = project.page(filters, after=before).tasks
        project.facts()
        if page:
            list(project.ids([among(one.id for one in page), has_draft(), above(before)]))
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def _unlike_below(desk: Desk) -> float:
    """The lowest bound of the models and labels at work."""
    bounds = []
    for one in desk.plan.wanted:
        choice = choice_of(one)
        decision = one.decision(desk.segmenters[choice].decision(one.preset))
        needed = np.min(decision.presence_threshold, initial=1.0)
        bounds.append(UNLIKE.get(desk.plan.identities[choice].profile, float(needed)))
    return min(bounds)


def _warnings(seen: Preview) -> Iterator[str]:
    looked = len(seen.tasks)
    if not looked:
        yield "no task matches: there is nothing to look at"
        return
    if not seen.candidates.to_do:
        yield "every matching task is done, annotated or begun: a run would predict nothing"
    if seen.failed == looked:
        yield "every picture of the sample failed: mend that first"
    elif seen.failed:
        yield f"{seen.failed} of {looked} tasks of the sample failed, so will others"
    highest = seen.median_presence
    if highest is not None and highest < seen.unlike_below:
        yield UNLIKE_SENTENCE
    looked_for = [row for row in seen.rows if row.presences]
    never = [row.label for row in looked_for if not row.found]
    if never:
        yield f"in no picture of the sample: {_named(never)}"
    always = [row.label for row in looked_for if row.asked >= EVERYWHERE and row.share == 1.0]
    if always:
        yield f"in every picture of the sample, look whether that is so: {_named(always)}"


def _of_config(warnings: Sequence[str], facts: ProjectFacts) -> list[str]:
    found = [f"label config: {sentence}" for sentence in warnings]
    if facts.listing_predicts:
        found.append(
            "the project asks its model for predictions whenever tasks are listed "
            "(evaluate_predictions_automatically); switch that off for long runs"
        )
    return found


def _named(labels: Sequence[str], most: int = 20) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
