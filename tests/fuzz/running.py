"""Many cases, one after the other, and what they cost; shared by the test and `benchmarks/fuzz`."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import PROCESS, forget_peak, peak_mib

from .cases import case
from .rig import Rig, rig

WARM_UP = 300  # cases after which memory counts: modules and tables are loaded by then
LOOK = 500  # cases between two plain requests
MOST_PEAK_MIB = (
    1000  # above what is held after the warm-up; pictures of 4 megapixels, rows of 200 MB
)
MOST_HELD_MIB = 600  # at the end, likewise: what the C library keeps of all that was freed


@dataclass(kw_only=True)
class Figures:
    """What came of the cases: how many of each kind ended how; memory in MiB above the warm-up's.

    None where nobody counts memory.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    peak_growth_mib: int | None = None
    held_growth_mib: int | None = None

    @property
    def by_kind(self) -> dict[str, dict[str, int]]:
        """Kind -> how it ended -> how often, most often first."""
        found: dict[str, dict[str, int]] = {}
        for (kind, said), count in self.outcomes.most_common():
            found.setdefault(kind, {})[said] = count
        return dict(sorted(found.items()))


def run(
    seed: int, count: int, folder: Path, tell: Callable[[int], None] = lambda done: None
) -> Figures:
    """Cases 0 to `count` of a seed; `tell` hears how many are done. Raises Broken."""
    figures = Figures()
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it tells of every broken tag
    with rig(folder) as service:
        service.still_well()
        _some(service, seed, 0, min(WARM_UP, count), figures)
        forget_peak()
        before = held_mib()
        for start in range(WARM_UP, count, LOOK):
            _some(service, seed, start, min(start + LOOK, count), figures)
            service.still_well()
            tell(min(start + LOOK, count))
        peak, after = peak_mib(), held_mib()
    if before is not None and peak is not None and after is not None:
        figures.peak_growth_mib, figures.held_growth_mib = peak - before, after - before
    return figures


def _some(service: Rig, seed: int, start: int, stop: int, figures: Figures) -> None:
    for number in range(start, stop):
        one = case(seed, number)
        figures.outcomes[one.kind, service.run(one)] += 1


def held_mib() -> int | None:
    """MiB this process holds now; None where nobody counts."""
    if not (PROCESS / "status").exists():
        return None
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    (held,) = (line for line in lines if line.startswith("VmRSS:"))
    return round(int(held.split()[1]) / 1024)
