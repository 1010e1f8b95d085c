"""How far a run is: a bar on a terminal, a line now and then in a log. No command itself."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from tqdm import tqdm

from ..prelabel.progress import UNDOING, Progress

EVERY = 30.0  # seconds between two lines of a log
REASONS = 3  # told apart while it runs; all are in the table in the end

Watch = Callable[[Progress], None]


@contextlib.contextmanager
def shown() -> Iterator[Watch]:
    """Yields who is told."""
    if sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield Lines()


class Lines:
    """A line whenever the phase changes, and every half minute."""

    def __init__(
        self,
        *,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._clock = say, clock
        self._phase, self._next = "", 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.phase == self._phase and self._clock() < self._next:
            return
        self._phase, self._next = progress.phase, self._clock() + EVERY
        self._say(f"cliper: {line(progress)}")


def line(progress: Progress) -> str:
    """`predicting: 400 of 40000, 3.31 per second, 3:19:24 to go, 398 written, 2 failed (…)`."""
    parts = [progress.phase]
    if progress["total"]:
        parts[0] += f": {progress['total'] - progress.left} of {progress['total']}"
    if progress.per_second and progress.left:
        parts.append(f"{progress.per_second:.2f} per second")
        if progress.eta is not None:
            parts.append(f"{timedelta(seconds=round(progress.eta))} to go")
    return ", ".join([*parts, counts(progress)])


def counts(progress: Progress) -> str:
    """What was written, or by an undo removed, and what failed, by reason."""
    done = "removed" if progress.phase in UNDOING else "written"
    parts = [f"{progress[done]} {done}"]
    if progress.failed:
        few = list(progress.failures.items())[:REASONS]
        reasons = ", ".join(f"{one.count} {kind}" for kind, one in few)
        parts.append(f"{progress.failed} failed ({reasons})")
    return ", ".join(parts)


@contextlib.contextmanager
def _bar() -> Iterator[Watch]:
    with tqdm(
        total=0, unit="task", file=sys.stderr, dynamic_ncols=True, mininterval=0.5, smoothing=0.1
    ) as bar:

        def watch(progress: Progress) -> None:
            done = progress["total"] - progress.left
            if bar.total != progress["total"]:
                bar.total, bar.initial, bar.n = progress["total"], done, done
                bar.refresh()
            bar.set_description_str(progress.phase, refresh=False)
            bar.set_postfix_str(counts(progress), refresh=False)
            bar.update(done - bar.n)

        yield watch
