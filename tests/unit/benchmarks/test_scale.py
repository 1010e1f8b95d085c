"""Arithmetic of cluster sizes, with numbers that fit in the head."""

import pytest

from benchmarks.scale import (
    Assumed,
    Measured,
    estimate,
    in_flight,
    largest_useful,
    price,
    rates,
)

MEASURED = Measured(
    core_seconds=8.0,
    tflop=2.0,
    operations_from=("a result",),
    unpack_seconds=0.01,
    unpacked_bytes=500_000,
    row_bytes=10_000,
    engine_share=1.0,
    driver_rate=100.0,
)
ASSUMED = Assumed(
    cores=16, gigabits=8.0, store_gigabytes=1.0, picture_bytes=90_000, gpu_share=0.5, gpu_tflops=8.0
)


def test_processors_share_model_and_unpacking_and_a_card_has_cores_for_the_latter() -> None:
    on_cores = rates(MEASURED, ASSUMED, 1, gpu=False)
    on_a_card = rates(MEASURED, ASSUMED, 1, gpu=True)

    assert on_cores["model"] == pytest.approx(16 / 8.01)
    assert on_a_card["model"] == pytest.approx(2.0)
    assert on_a_card["unpacking"] == pytest.approx(1500)
    assert on_a_card["network of the machines"] == pytest.approx(10_000)


def test_twice_the_machines_do_twice_as_much_until_something_shared_bounds() -> None:
    one, two, many = (estimate(MEASURED, ASSUMED, n, gpu=True) for n in (1, 2, 1000))

    assert (two.rate, two.bound) == (2 * one.rate, "model")
    assert (many.rate, many.bound) == (100.0, "driver")
    assert largest_useful(MEASURED, ASSUMED, gpu=True) == 50
    assert many.shares["driver"] == 1.0
    assert many.shares["model"] == pytest.approx(0.05)


def test_hours_are_those_of_the_work_where_nothing_fails() -> None:
    found = estimate(MEASURED, ASSUMED, 1, gpu=True)
    never = Assumed(**{**vars(ASSUMED), "hours_to_failure": 1e12, "start_seconds": 3600.0})

    assert found.hours(7200, never) == pytest.approx(2.0)  # one to start, one to work


def test_failures_cost_time_and_equal_seeds_cost_equal_time() -> None:
    found = estimate(MEASURED, ASSUMED, 10, gpu=True)
    often = Assumed(**{**vars(ASSUMED), "hours_to_failure": 5.0})
    never = Assumed(**{**vars(ASSUMED), "hours_to_failure": 1e12})

    assert found.hours(1_000_000, often) > found.hours(1_000_000, never)
    assert found.hours(1_000_000, often) == found.hours(1_000_000, often)


def test_a_price_is_that_of_machines_and_hours() -> None:
    assert price(10.0, 4, Assumed(gpu_hour=2.0), gpu=True) == pytest.approx(80.0)
    assert price(10.0, 4, Assumed(core_hour=0.1, cores=16), gpu=False) == pytest.approx(64.0)


def test_what_is_under_way_follows_the_rate() -> None:
    assert in_flight(MEASURED, ASSUMED, 100.0) == {
        "fetched at once": pytest.approx(5.0),
        "object store, MB/s": pytest.approx(50.0),
        "in, Gbit/s": pytest.approx(0.072),
        "out, Mbit/s": pytest.approx(8.0),
    }
