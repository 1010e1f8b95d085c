"""What a run says of itself where there is no terminal."""

from backend.cli.run_progress import EVERY, Lines, line
from backend.prelabel.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_when_the_phase_changes_and_every_half_minute() -> None:
    said: list[str] = []
    clock = Clock()
    progress = Progress(clock=clock)
    tell = Lines(say=said.append, clock=clock)

    tell(progress)
    progress.set(total=10)
    progress.begin()
    for _ in range(3):
        clock.now += 1.0
        progress.add("written")
        tell(progress)
    clock.now += EVERY
    tell(progress)

    assert said[0] == "cliper: starting, 0 written"
    assert said[1].startswith("cliper: predicting: 1 of 10")
    assert said[2].startswith("cliper: predicting: 3 of 10")
    assert len(said) == 3


def test_a_line_says_how_many_how_fast_how_long_and_what_failed() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.set(total=100)
    progress.begin()
    clock.now = 10.0
    progress.add("written", 20)
    progress.fail(7, "image missing", "there is nothing at x")

    told = line(progress)

    assert told == (
        "predicting: 21 of 100, 2.00 per second, 0:00:40 to go, 20 written, "
        "1 failed (1 image missing)"
    )


def test_a_line_of_an_undo_counts_what_was_removed() -> None:
    progress = Progress(dealt=("removed", "kept"))
    progress.phase = "removing"
    progress.set(total=5, removed=4)

    assert line(progress) == "removing: 4 of 5, 4 removed"


def test_a_run_that_removes_older_versions_still_says_what_was_written() -> None:
    progress = Progress()
    progress.phase = "checking"
    progress.set(total=5, written=5, removed=3)

    assert line(progress) == "checking: 5 of 5, 5 written"
