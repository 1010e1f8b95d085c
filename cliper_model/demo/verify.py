"""Measure the weights in a folder again, and hold every figure against its card.

Kernels differ between machines and a link at a threshold may tip over, so figures are compared
as they are printed and may differ a little: `POINTS` in percent, `PER_IMAGE` in labels per image,
and one picture where a figure counts pictures.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import UnusableGenerator
from .described import PAIRS, kind_of
from .figures import OTHER_SEED, Bench, Figures, recompute
from .papers import CARD, LOGS, card_text, read_papers
from .scene_sources import OtherScenes

POINTS: Final = 0.25
PER_IMAGE: Final = 0.01

_PER_IMAGE: Final = "false labels per image"
_EXACT: Final = "pictures"  # counted, not measured


@dataclass(frozen=True)
class Row:
    """One figure, or the labels of one table by the one that moved most."""

    figure: str
    card: float
    now: float
    tolerance: float

    @property
    def digits(self) -> int:
        """Decimals it is printed and compared with."""
        return 2 if self.figure.endswith(_PER_IMAGE) else 1

    @property
    def difference(self) -> float:
        """As printed."""
        return abs(round(self.now, self.digits) - round(self.card, self.digits))

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tolerance + 1e-9


@dataclass(frozen=True)
class Verdict:
    """What came of a verification.

    rows      every figure of `figures.json` that was measured again
    problems  one sentence each; empty when everything holds
    notes     what was not looked at
    """

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def verify(
    weights: Path,
    *,
    generator: Path | None = None,
    out: Path | None = None,
    processes: int = 2,
    progress: bool = True,
) -> Verdict:
    """Recompute all figures of the card in `weights`; scenes go to `out` or a temporary folder.

    Without `generator` the rows on another generator's scenes are left out.
    Raises WeightsMissing, WeightsMismatch, UnusableGenerator.
    """
    told, about = read_papers(weights)
    text = card_text(weights, told, about)  # raises where a log is missing
    problems = []
    if not (weights / CARD).is_file() or (weights / CARD).read_text(encoding="utf-8") != text:
        problems.append(f"{CARD} is not what figures.json and {' and '.join(LOGS)} say")
    _check_generator(generator, about.generator)
    with tempfile.TemporaryDirectory() as folder:
        now = recompute(
            weights,
            about.bench,
            out or Path(folder),
            generator=generator,
            processes=processes,
            progress=progress,
        )
    expected = {
        row: values
        for row, values in told.items()
        if generator is not None or not row.startswith("other: ")
    }
    problems += _missing(expected, now)
    rows = tuple(_rows(expected, now, about.bench))
    wrong = [row.figure for row in rows if not row.agrees]
    if wrong:
        problems.append(f"{len(wrong)} figures differ from the card: {', '.join(wrong[:5])}")
    return Verdict(rows, tuple(problems), _left_out(generator, about.generator))


def report(verdict: Verdict) -> Iterator[str]:
    """Lines to print: a table with one figure per line, labels by the one that moved most."""
    shown = _collapsed(verdict.rows)
    width = max([len(row.figure) for row in shown], default=0)
    yield f"{'figure':{width}}  {'card':>7}  {'now':>7}"
    for row in shown:
        mark = "" if row.agrees else "  differs"
        yield (f"{row.figure:{width}}  {row.card:7.{row.digits}f}  {row.now:7.{row.digits}f}{mark}")
    yield (
        f"{len(verdict.rows)} figures; allowed are {POINTS} points as printed, {PER_IMAGE} labels "
        "per image, or one picture: kernels differ between machines."
    )
    yield from verdict.notes


def _check_generator(generator: Path | None, digest: str | None) -> None:
    if generator is None:
        return
    if digest is None:
        raise UnusableGenerator(
            "leave --generator out: the card has no figures of another generator"
        )
    source = OtherScenes(generator, OTHER_SEED)
    source.open()
    if source.sha256() != digest:
        raise UnusableGenerator(
            f"{generator} is not the generator of the card, whose SHA-256 is {digest}; give that "
            "file or leave --generator out"
        )


def _left_out(generator: Path | None, digest: str | None) -> tuple[str, ...]:
    if generator is not None or digest is None:
        return ()
    return (
        "Figures on scenes of the other generator were not checked: give it with --generator "
        f"(SHA-256 {digest}).",
    )


def _missing(told: Figures, now: Figures) -> list[str]:
    """Rows and figures that stand on one side only."""
    have = {(row, name) for row, values in told.items() for name in values}
    found = {(row, name) for row, values in now.items() for name in values}
    problems = []
    if gone := sorted(have - found):
        problems.append(f"{': '.join(gone[0])} is in figures.json, but nothing measures it")
    if new := sorted(found - have):
        problems.append(f"{': '.join(new[0])} is measured, but figures.json lacks it")
    return problems


def _rows(told: Figures, now: Figures, bench: Bench) -> Iterator[Row]:
    for row, values in told.items():
        for name, value in values.items():
            if name in now.get(row, {}):
                allowed = _tolerance(row, name, bench)
                yield Row(f"{row}: {name}", value, now[row][name], allowed)


def _tolerance(row: str, name: str, bench: Bench) -> float:
    if name == _PER_IMAGE:
        return PER_IMAGE
    if name == _EXACT:
        return 0.0
    if row.startswith("described"):
        pictures = bench.described_pictures * _names_in(row)
        return max(POINTS, 100 / max(1, pictures) + 0.05)  # printed with one decimal
    if row == "absent":
        return max(POINTS, 100 / bench.test_scenes + 0.05)
    return POINTS


def _names_in(row: str) -> int:
    """How many names a row about described names sums up."""
    kind = row.removeprefix("described").removeprefix(": ")
    if kind == "by name":
        return 1
    return sum(not kind or kind_of(quality) == kind for quality, _ in PAIRS)


def _collapsed(rows: tuple[Row, ...]) -> list[Row]:
    """Every table of labels as its furthest label, and every one that differs."""
    shown: dict[str, Row] = {}
    for row in rows:
        table, _, label = row.figure.rpartition(": ")
        if not table.endswith("IoU per label") or not row.agrees:
            shown[row.figure] = row
        elif table not in shown or row.difference > shown[table].difference:
            name = f"{table}, furthest: {label}"
            shown[table] = Row(name, row.card, row.now, row.tolerance)
    return list(shown.values())
