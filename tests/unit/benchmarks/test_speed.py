"""How the rounds of a comparison become one figure."""

from typing import Any

import pytest

from benchmarks import speed


def told(above: float, peak: float) -> dict[str, Any]:
    stage = {"seconds": above / 10, "above_floor": above}
    return {"setting": {"dtype": "bfloat16"}, "peaks": {"x_gflops": peak}, "stages": {"one": stage}}


@pytest.mark.parametrize(
    ("above", "median"), [([1.2], 1.2), ([1.9, 1.1, 1.4], 1.4), ([1.5, 1.2], 1.5)]
)
def test_a_stage_is_that_of_its_median_round_and_of_two_the_worse(
    above: list[float], median: float
) -> None:
    rounds = [told(one, 100 * number) for number, one in enumerate(above, 1)]

    found = speed.medians(rounds)

    stage = found["stages"]["one"]
    assert (stage["above_floor"], stage["seconds"]) == (median, median / 10)
    assert stage["above_floor_of_rounds"] == above
    assert found["peaks"] == {"x_gflops": 50 * (len(above) + 1)}
    assert [one["x_gflops"] for one in found["peaks_of_rounds"]] == [
        100.0 * number for number in range(1, len(above) + 1)
    ]
    assert found["setting"] == {"dtype": "bfloat16"}
