"""From the clock to the whole project."""

import pytest

from backend.prelabel.estimate import (
    ROW,
    STORED,
    UPLOAD,
    UPLOAD_PER_BYTE,
    WARM_UP,
    Meter,
    Pace,
    estimate,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def timed(*seconds: float) -> tuple[Meter, Clock]:
    """Tasks that come out one after the other."""
    clock = Clock()
    meter = Meter(len(seconds), clock=clock)
    for one in seconds:
        clock.now += one
        meter.spend("model", one)
        meter.done()
    return meter, clock


def test_the_first_tasks_are_not_timed():
    meter, _ = timed(9.0, 1.0, *[0.5] * 6)

    pace = meter.pace()
    assert meter.warm_up == 2
    assert (pace.tasks, pace.per_task) == (6, 0.5)
    assert pace.start == pytest.approx(9.0)  # ten seconds in place of one
    assert pace.spent == {"model": 3.0}


def test_of_many_tasks_four_are_not_timed():
    assert Meter(24).warm_up == WARM_UP
    assert Meter(3).warm_up == 0


@pytest.mark.parametrize("seconds", [(), (2.0,), (2.0, 4.0)])
def test_of_hardly_any_tasks_all_are_timed(seconds: tuple[float, ...]):
    pace = timed(*seconds)[0].pace()

    assert pace.tasks == len(seconds)
    assert pace.seconds == sum(seconds)
    assert pace.start == 0.0


def test_steps_share_the_work():
    meter = Meter(0)
    meter.spend("model", 3.0)
    meter.spend("decode", 1.0)

    assert meter.pace().shares == {"download": 0.0, "decode": 0.25, "model": 0.75, "encode": 0.0}


def whole(tasks: int, *, per_task: float, shared: bool, listing: float = 0.0, **options: float):
    return estimate(
        tasks=tasks,
        pace=Pace(tasks=20, seconds=20 * per_task, start=3.0),
        listing=listing,
        prediction_bytes=options.pop("size", 10_000),
        predicted_share=options.pop("predicted", 1.0),
        shares_processor=shared,
        **options,
    )


def test_a_slow_model_decides_the_time():
    assert whole(1000, per_task=2.0, shared=False).seconds == pytest.approx(2003.0)


def test_on_one_processor_writing_and_listing_take_their_own_time():
    found = whole(1000, per_task=0.1, shared=True, listing=0.5)

    upload = UPLOAD + UPLOAD_PER_BYTE * 10_000
    assert found.seconds == pytest.approx(3.0 + 1000 * (0.1 + upload) + 20 * 0.5)


def test_a_model_faster_than_label_studio_waits_for_it():
    found = whole(1000, per_task=0.001, shared=False)

    assert found.seconds == pytest.approx(3.0 + 1000 * (UPLOAD + UPLOAD_PER_BYTE * 10_000))


def test_failures_take_time_but_no_room():
    found = whole(1000, per_task=2.0, shared=False, predicted=0.5, size=1000)

    assert found.seconds == pytest.approx(2003.0)
    assert found.disk_bytes == pytest.approx(500 * (ROW + STORED * 1000))


def test_servers_that_did_not_answer_are_waited_for():
    assert whole(10, per_task=1.0, shared=False, waits=35.0).seconds == pytest.approx(48.0)


def test_nothing_to_do_takes_nothing():
    found = whole(0, per_task=1.0, shared=True, waits=35.0)

    assert (found.seconds, found.disk_bytes) == (0.0, 0.0)
