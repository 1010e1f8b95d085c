"""What predictions cost: the program of `make bench`, in its smallest size."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from backend.settings import Settings
from benchmarks import bench, floors, latency

STAGES = ["CLIP", "scores", "VAE encoder", "U-Net", "levels of its maps", "decide", "brush code"]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(floors, "SIDES", (64,))
        patched.setattr(floors, "COPIED", 1024)
        patched.setattr(floors, "REPEATS", 1)
        patched.setattr(bench, "WARM_UP", 1)
        return bench.measure(
            Settings(profile="demo", method="cliper", device="cpu"),
            size_wh=(60, 45),
            batches=(1, 2),
            rounds=1,
            pictures=2,
        )


def test_every_stage_of_the_demo_profile_is_measured(figures: dict[str, Any]) -> None:
    assert list(figures["stages"]) == STAGES
    for name in STAGES[:-2]:  # the last two compute in NumPy, with no operations to count
        stage = figures["stages"][name]
        assert stage["gflops"]["float32"] > 0, name
        assert stage["peak_mib"] > 0, name


def test_pictures_per_second_are_those_of_the_median_round(figures: dict[str, Any]) -> None:
    assert list(figures["throughput"]) == ["refined", "without refinement"]
    for rows in figures["throughput"].values():
        assert [row["batch"] for row in rows] == [1, 2]
        for row in rows:
            seconds = row["batch"] / row["images_per_second"]
            assert seconds == pytest.approx(row["seconds"]["median"], rel=0.1)


def test_only_a_picture_never_seen_costs_a_look(figures: dict[str, Any]) -> None:
    looks = {kind: (one["count"], one["looks"]) for kind, one in figures["latency"].items()}

    assert looks == {"cold": (2, 2), "cached": (2, 0), "click": (2, 0), "changed words": (2, 0)}


def test_scenes_differ_and_are_the_same_every_time() -> None:
    first, second = bench.scenes(2, (60, 45))

    assert first.shape == second.shape == (45, 60, 3)
    assert (first != second).any()
    np.testing.assert_array_equal(first, next(bench.scenes(1, (60, 45))))


def test_a_picture_travels_inside_its_task_as_it_is(
    picture: Callable[..., NDArray[np.uint8]],
) -> None:
    pixels = picture(4, 6)

    head, _, body = latency.inside_a_task(pixels).partition(",")

    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), pixels
    )
