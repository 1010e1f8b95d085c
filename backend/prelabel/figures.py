"""Figures as people say them."""

from collections.abc import Sequence

BUCKETS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, None))


def duration(seconds: float) -> str:
    """About two digits of it: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 days 4 h`."""
    if seconds < 1:
        return "less than 1 s"
    for large, large_name, small, small_name in (
        (86_400, "day", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        rounded = round(seconds / small) * small
        if rounded >= large:
            whole, rest = divmod(rounded, large)
            name = "days" if large_name == "day" and whole > 1 else large_name
            over = f" {rest // small} {small_name}" if rest and whole < 10 else ""
            return f"{whole} {name}{over}"
    return f"{round(seconds)} s"


def size(count: float) -> str:
    """Bytes in decimal units: `850 kB`, `1.2 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{count:.0f} bytes"


def percent(share: float) -> str:
    """`0 %`, `0.4 %`, `12 %`: small shares with a digit behind the point."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def number(count: int) -> str:
    return f"{count:,}"


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def buckets(counts: Sequence[int]) -> list[tuple[str, int]]:
    """How many counts lie in each range, up to the last range with any."""
    found = [
        (_range(low, high), sum(low <= one and (high is None or one <= high) for one in counts))
        for low, high in BUCKETS
    ]
    last = max((place for place, (_, many) in enumerate(found) if many), default=-1)
    return found[: last + 1]


def _range(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low}–{high}"
