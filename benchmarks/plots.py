"""The plots of `benchmarks/README.md`: figures in, an SVG file out, the same one every time.

Every plot stands on white, so that it can be read on a page of any colour. A file tells by a digest
which figures it was drawn from, so that a test can tell whether it is up to date.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8F5AA8"
SKY = "#9AD0F5"
INK, PALE = "#24292f", "#d0d7de"
CYCLE = (BLUE, RED, GREEN, PURPLE, ORANGE)
MARKERS = ("o", "s", "^", "D", "v")
STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": "#eaeef2",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "benchmarks",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
THICK = 0.66  # of a bar, in shares of its row
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One picture of the page.

    name     of its file, without ending
    alt      what it shows, for those who do not see it
    figures  all that is drawn
    draw     draws them
    """

    name: str
    alt: str
    figures: Any
    draw: Callable[[Any], Figure]

    @property
    def file(self) -> str:
        return f"{self.name}.svg"

    @property
    def digest(self) -> str:
        """Of what is drawn; stands in the file."""
        text = json.dumps([self.name, self.alt, self.figures], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, folder: Path) -> Path:
        path = folder / self.file
        with mpl.rc_context(STYLE):
            self.draw(self.figures).savefig(
                path,
                metadata={"Date": None, "Creator": None, "Title": self.alt, "Source": self.digest},
            )
        # the drawing library ends lines with blanks
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
        return path


def stages(figures: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Bars per profile and stage: milliseconds with the floor, operations, bytes.

    `figures`: profile -> stage -> as `benchmarks/stages.py` tells; stages without operations are
    left out.
    """
    known = {
        profile: {name: one for name, one in told.items() if "gflops" in one}
        for profile, told in figures.items()
    }
    heights = [len(told) for told in known.values()]
    figure = Figure(figsize=(10.5, 1.1 * len(known) + 0.36 * sum(heights)), layout="constrained")
    grid = figure.subplots(
        len(known), 3, squeeze=False, height_ratios=heights, width_ratios=[5, 3, 3]
    )
    heads = ("time, ms", "operations, GFLOP", "moved, GB")
    for line, (profile, told) in zip(grid, known.items(), strict=True):
        all_ = list(told.values())
        seconds = [1000 * one["seconds"] for one in all_]
        floors = [1000 * one["floor_seconds"] for one in all_]
        said = [
            f"{number(ms)}  ({one['above_floor']:.1f} × floor)"
            for ms, one in zip(seconds, all_, strict=True)
        ]
        longest = [max(pair) for pair in zip(seconds, floors, strict=True)]
        bars(line[0], list(told), longest, PALE, said, room=1.55)
        line[0].barh(list(told), seconds, height=THICK, color=BLUE, label="measured")
        line[0].barh(list(told), floors, height=THICK / 2, color=SKY, label="floor")
        flops = [sum(one["gflops"].values()) for one in all_]
        bars(line[1], list(told), flops, GREEN, list(map(number, flops)))
        moved = [one["gigabytes"] for one in all_]
        bars(line[2], list(told), moved, ORANGE, [number(size, 2) for size in moved])
        line[0].set_title(profile)
        for axes in line[1:]:
            axes.set_yticklabels([])
    for axes, head in zip(grid[-1], heads, strict=True):
        axes.set_xlabel(head)
    grid[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def memory(figures: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars per profile and program, in GB. `figures`: profile -> whose -> GB."""
    rows = [(profile, who, size) for profile, told in figures.items() for who, size in told.items()]
    programs = list(dict.fromkeys(who for _, who, _ in rows))
    figure = Figure(figsize=(8, 0.9 + 0.38 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [f"{profile}, {who}" for profile, who, _ in rows]
    sizes = [size for _, _, size in rows]
    bars(axes, names, sizes, BLUE, [f"{size:.1f}" for size in sizes], room=1.1)
    for bar, (_, who, _) in zip(axes.patches, rows, strict=True):
        bar.set_facecolor(CYCLE[programs.index(who)])
    axes.set_xlabel("peak memory of the process, GB")
    return figure


def throughput(figures: Mapping[str, Mapping[str, Rows]]) -> Figure:
    """Lines over the size of a batch, one panel per machine.

    `figures`: machine -> refined or not -> rows with `batch` and `images_per_second`.
    """
    figure = Figure(figsize=(max(6.5, 5 * len(figures)), 3.6), layout="constrained")
    for axes, (where, told) in zip(panels(figure, len(figures)), figures.items(), strict=True):
        for index, (name, rows) in enumerate(told.items()):
            sizes = [row["batch"] for row in rows]
            pace = [row["images_per_second"] for row in rows]
            line(axes, sizes, pace, name, index)
        axes.set_xscale("log", base=2)
        plain(axes.xaxis, [row["batch"] for row in next(iter(told.values()))])
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.set_title(where)
        axes.set_xlabel("pictures looked at together")
        axes.set_ylabel("pictures per second")
        axes.legend(loc="lower left")
    return figure


def latency(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Median, 95th and 99th of every kind of request, one panel per machine, milliseconds.

    `figures`: machine -> kind -> `median_ms`, `p95_ms`, `p99_ms`.
    """
    figure = Figure(figsize=(max(8, 5 * len(figures)), 3.2), layout="constrained")
    for axes, (where, told) in zip(panels(figure, len(figures)), figures.items(), strict=True):
        kinds = sorted(told, key=lambda kind: told[kind]["median_ms"], reverse=True)
        for row, kind in enumerate(kinds):
            ends = [told[kind][f"{which}_ms"] for which in ("median", "p95", "p99")]
            axes.plot([ends[0], ends[-1]], [row, row], color=PALE, linewidth=5, zorder=1)
            for mark, (end, colour) in enumerate(zip(ends, (BLUE, ORANGE, RED), strict=True)):
                label = ("p50", "p95", "p99")[mark] if row == 0 else None
                marker = MARKERS[mark]
                axes.plot(
                    end, row, marker, color=colour, label=label, zorder=2, markersize=7,
                    markeredgecolor="white",
                )  # fmt: skip
            axes.annotate(
                "  ·  ".join(number(end) for end in ends), (ends[-1], row), xytext=(12, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        axes.set_xscale("log")
        lowest, highest = (end(told[kind]["p99_ms"] for kind in kinds) for end in (min, max))
        axes.set_xlim(min(lowest, *(told[kind]["median_ms"] for kind in kinds)) / 1.8, highest * 6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_ylim(-0.6, len(kinds) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(where)
        axes.set_xlabel("time of one prediction, ms")
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.17), ncols=3)
    return figure


def scaling(figures: Mapping[str, Any]) -> Figure:
    """Time of every step, and peak memory, over labels or megapixels; both axes logarithmic.

    `figures`: `over` names the key of the points, `label` says it, `rows` hold steps in seconds and
    `peak_mib`.
    """
    over, rows = figures["over"], figures["rows"]
    steps = [name for name in rows[0] if name not in (over, "mib_before", "peak_mib")]
    points = [row[over] for row in rows]
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    for index, step in enumerate(steps):
        line(left, points, [1000 * row[step] for row in rows], step, index)
    left.set_yscale("log")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("time, ms")
    left.legend(loc="upper left", bbox_to_anchor=(0, 1.13), ncols=len(steps), columnspacing=1.2)
    line(right, points, [row["peak_mib"] for row in rows], None, 3)
    right.set_ylim(0, 1.1 * max(row["peak_mib"] for row in rows))
    right.set_ylabel("peak memory of the process, MiB")
    for axes in (left, right):
        axes.set_xscale("log")
        plain(axes.xaxis, points)
        axes.set_xlabel(figures["label"])
    return figure


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    colour: str,
    said: Sequence[str],
    *,
    room: float = 1.3,
) -> None:
    """Horizontal, the first on top, each with what is said of it; `room` for that, in times."""
    drawn = axes.barh(names, values, height=THICK, color=colour)
    axes.bar_label(drawn, said, padding=4, fontsize=9)
    axes.set_xlim(0, room * max(values))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)


def line(
    axes: Axes, points: Sequence[float], values: Sequence[float], name: str | None, index: int
) -> None:
    axes.plot(points, values, MARKERS[index], linestyle="-", color=CYCLE[index], label=name)


def plain(axis: Any, points: Sequence[float]) -> None:
    """Ticks where something was measured, as they are written."""
    axis.set_major_locator(NullLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(points, [f"{point:g}" for point in points])


def panels(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def number(value: float, digits: int = 1) -> str:
    """With so many digits after the point, from a hundred on with none."""
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}f}"
