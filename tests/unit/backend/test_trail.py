"""On whose behalf a thread works, and how that goes along to other threads."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backend.device import DeviceQueue, Lane, Shared
from backend.trail import Trail, carried, common, followed, here, is_plain, of_task

from ...doubles.waiting import PATIENCE

NOBODY = Trail()


def test_a_thread_works_for_nobody_before_and_after() -> None:
    assert here() == NOBODY
    with followed(Trail(request="r")), of_task(12):
        assert here() == Trail(request="r", task="12")
        with of_task(13):
            assert here() == Trail(request="r", task="13")
        assert here() == Trail(request="r", task="12")
    assert here() == NOBODY


def test_an_error_ends_it_too() -> None:
    with pytest.raises(ValueError, match="x"), followed(Trail(request="r")):
        raise ValueError("x")

    assert here() == NOBODY


@pytest.mark.parametrize("number", [None, {"a": 1}, "a b", "a\nb", "", "x" * 65, "ü"])
def test_a_task_number_that_is_not_plain_is_left_out(number: object) -> None:
    with of_task(number):
        assert here() == NOBODY


@pytest.mark.parametrize("name", ["a", "A-1.b_2", "x" * 64])
def test_short_and_plain_names_are_taken_over(name: str) -> None:
    assert is_plain(name)


def test_another_thread_starts_with_nobody_unless_the_work_is_carried() -> None:
    with ThreadPoolExecutor(1) as other, followed(Trail(request="r", task="1")):
        assert other.submit(here).result() == NOBODY
        assert other.submit(carried(here)).result() == Trail(request="r", task="1")
        assert other.submit(here).result() == NOBODY


def test_carried_work_takes_what_it_is_given_and_raises_what_it_raises() -> None:
    def divide(one: int, *, by: int) -> float:
        return one / by

    assert carried(divide)(6, by=3) == 2
    with pytest.raises(ZeroDivisionError):
        carried(divide)(6, by=0)


def test_of_several_who_are_worked_for_what_is_common_is_told() -> None:
    one, two = Trail(request="r", task="1"), Trail(request="r", task="2")

    assert common([one, one]) == one
    assert common([one, two]) == Trail(request="r")
    assert common([one, Trail(request="s", task="1")]) == Trail(task="1")
    assert common([]) == NOBODY


def test_the_device_works_on_behalf_of_whoever_asked_first() -> None:
    device, gate, began = DeviceQueue(), threading.Event(), threading.Event()

    def held() -> Trail:
        began.set()
        assert gate.wait(PATIENCE)
        return here()

    try:
        with followed(Trail(request="first", task="1")):
            first = device.submit("same", held)
        assert began.wait(PATIENCE)
        with followed(Trail(request="second", task="1")):
            joined = device.submit("same", held)
            own = device.submit("own", here)
        nobody = device.submit("nobody", here)
        gate.set()

        assert first.wait(PATIENCE) == joined.wait(PATIENCE) == Trail(request="first", task="1")
        assert own.wait(PATIENCE) == Trail(request="second", task="1")
        assert nobody.wait(PATIENCE) == NOBODY
    finally:
        gate.set()
        device.close()


def test_somebody_who_is_let_by_is_told_from_whoever_lets_by() -> None:
    device, gate, began = DeviceQueue(), threading.Event(), threading.Event()

    def lets_by() -> tuple[Trail, Trail]:
        before = here()
        began.set()
        assert gate.wait(PATIENCE)
        device.let_by()
        return before, here()

    try:
        with followed(Trail(request="bulk")):
            bulk = device.submit("bulk", lets_by, Lane.BULK)
        assert began.wait(PATIENCE)
        with followed(Trail(request="people")):
            people = device.submit("people", here, Lane.PEOPLE)
        gate.set()

        assert people.wait(PATIENCE) == Trail(request="people")
        assert bulk.wait(PATIENCE) == (Trail(request="bulk"), Trail(request="bulk"))
    finally:
        gate.set()
        device.close()


def test_a_step_that_is_taken_together_is_on_behalf_of_what_all_have_in_common(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device, gate, began, seen = DeviceQueue(), threading.Event(), threading.Event(), []

    def hold() -> None:
        began.set()
        assert gate.wait(PATIENCE)

    def together(subjects: object) -> None:
        seen.append(here())
        raise RuntimeError("alone, please")

    try:
        device.submit("gate", hold)
        assert began.wait(PATIENCE)
        tickets = []
        with followed(Trail(request="r")):
            for task in (1, 2):
                shared = Shared(bucket="b", subject=task, most=lambda: 2, begin=together)
                with of_task(task):
                    tickets.append(device.submit(task, here, shared=shared))
        with caplog.at_level(logging.INFO, "backend.device"):
            gate.set()
            told = [ticket.wait(PATIENCE) for ticket in tickets]

        assert seen == [Trail(request="r")]
        assert told == [Trail(request="r", task="1"), Trail(request="r", task="2")]
    finally:
        gate.set()
        device.close()
