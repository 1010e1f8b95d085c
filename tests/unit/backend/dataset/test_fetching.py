"""Pictures of a data set: from files, buckets, Parquet and the web, unpacked ahead in order."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backend.dataset.fetching import AGAIN, Bounds, DatasetFetching, ahead
from backend.dataset.listing import listing_of
from backend.dataset.painter import Asked, views_plan
from backend.dataset.places import place_of
from backend.dataset.rows import Fetched, Given, Seen
from backend.errors import ImageError, ImageMissing, Unreachable
from backend.images.decode import decode
from backend.plan import Plan

from ....doubles.colour_runs import CONFIG, at, striped
from ....doubles.pictures import encoded, stripes

PLAN: Plan = views_plan(Asked(config=CONFIG, extra={}), {})
BOUNDS = Bounds(timeout=5.0, max_bytes=20_000, brush_megapixels=1.0)
PICTURE = striped(1)


@dataclass
class Web:
    """Raises what is left of its troubles, then answers."""

    troubles: list[ImageError] = field(default_factory=list)
    asked: list[tuple[str, int | None]] = field(default_factory=list)

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        self.asked.append((address, task_id))
        if self.troubles:
            raise self.troubles.pop(0)
        return PICTURE

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return decode(data, max_pixels=2_000_000, page=page)


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def web() -> Web:
    return Web()


@pytest.fixture
def fetching(web: Web, pauses: list[float]) -> DatasetFetching:
    return DatasetFetching(web, BOUNDS, place_of("/"), wait=pauses.append)


def test_an_address_of_the_data_is_fetched_as_the_service_does(
    fetching: DatasetFetching, web: Web
) -> None:
    given = Given(id="9", number=9, data={"image": "/data/upload/1/a.png"})

    fetched = fetching.fetched(given, PLAN)

    assert web.asked == [("/data/upload/1/a.png", 9)]
    assert fetched.pictures[0].pixels.shape == decode(PICTURE, max_pixels=100_000).shape


def test_a_server_that_does_not_answer_is_asked_again_and_then_given_up(
    fetching: DatasetFetching, web: Web, pauses: list[float]
) -> None:
    given = Given(id="9", data={"image": "https://x/a.png"})

    web.troubles = [Unreachable("away")]
    assert fetching.fetched(given, PLAN).error is None
    web.troubles = [Unreachable("away")] * 3
    error = fetching.fetched(given, PLAN).error

    assert error is not None
    assert (error.kind, error.reason) == ("unreachable", "away")
    assert pauses == [AGAIN[0], *AGAIN]


def test_what_is_missing_is_asked_for_once(
    fetching: DatasetFetching, web: Web, pauses: list[float]
) -> None:
    web.troubles = [ImageMissing("gone")]

    error = fetching.fetched(Given(id="9", data={"image": "https://x/a.png"}), PLAN).error

    assert error is not None
    assert error.kind == "image missing"
    assert pauses == []


def test_a_file_and_a_picture_inside_of_parquet_are_the_same_picture(
    fetching: DatasetFetching, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    pq.write_table(pa.table({"image": [b"x", PICTURE]}), tmp_path / "p.parquet", row_group_size=1)
    alone = Given(id="a", data={"image": "a"}, where=at(tmp_path / "a.png"))
    first, inside = listing_of(str(tmp_path / "p.parquet"), key="image").tasks()

    one, other = fetching.fetched(alone, PLAN), fetching.fetched(inside, PLAN)

    assert one.pictures[0].digest == other.pictures[0].digest
    error = fetching.fetched(first, PLAN).error
    assert error is not None
    assert error.kind == "image broken"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, "image missing"),
        (b"", "image broken"),
        (b"x" * 20_001, "image too large"),
        (encoded(stripes("red", height=1001, width=1000)), "mask too large"),
    ],
)
def test_a_bad_file_is_its_own_trouble(
    fetching: DatasetFetching, tmp_path: Path, content: bytes | None, kind: str
) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)

    error = fetching.fetched(Given(id="a", data={"image": "a"}, where=at(tmp_path / "a.png")), PLAN)

    assert error.error is not None
    assert error.error.kind == kind


def test_a_task_without_an_address_says_so(fetching: DatasetFetching) -> None:
    error = fetching.fetched(Given(id="a", data={"picture": "x"}), PLAN).error

    assert error is not None
    assert error.kind == "task data missing"


def test_tasks_keep_their_order_while_later_ones_are_fetched_first() -> None:
    second_is_done = threading.Event()

    def fetch(given: Given) -> Fetched:
        if given.id == "0":
            assert second_is_done.wait(60)
        else:
            second_is_done.set()
        return Fetched(given=given)

    done = [one.given.id for one in ahead([Given(id=str(n)) for n in range(5)], fetch)]

    assert done == ["0", "1", "2", "3", "4"]


def test_no_more_is_unpacked_than_memory_is_allowed() -> None:
    begun: list[str] = []
    large = Seen(digest="", pixels=np.zeros((10, 10, 3), np.uint8))

    def fetch(given: Given) -> Fetched:
        begun.append(given.id)
        return Fetched(given=given, pictures=(large,))

    tasks = ahead([Given(id=str(n)) for n in range(50)], fetch, at_once=1, most_bytes=300)
    next(tasks)

    assert len(begun) <= 2
    tasks.close()


def test_sizes_are_guessed_by_the_largest_so_far() -> None:
    begun: list[str] = []

    def fetch(given: Given) -> Fetched:
        begun.append(given.id)
        side = 10 if given.id == "0" else 1
        pixels = np.zeros((side, side, 3), np.uint8)
        return Fetched(given=given, pictures=(Seen(digest="", pixels=pixels),))

    tasks = ahead([Given(id=str(n)) for n in range(50)], fetch, most_bytes=700)
    for _ in range(5):
        next(tasks)

    assert len(begun) <= 5 + 2  # as if each took 300 bytes
    tasks.close()


def test_rows_of_a_parquet_file_are_read_in_any_order(
    fetching: DatasetFetching, tmp_path: Path
) -> None:
    count = 70
    pictures = [encoded(stripes("red", width=number + 1)) for number in range(count)]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "p.parquet")
    tasks = list(listing_of(str(tmp_path / "p.parquet"), key="image").tasks())
    order = [number ^ 5 for number in range(64)] + [*range(64, count), 2, 69]

    for number in order:
        fetched = fetching.fetched(tasks[number], PLAN)
        assert fetched.pictures[0].pixels.shape[1] == number + 1


def test_whatever_nobody_thought_of_is_one_task_s_trouble(
    fetching: DatasetFetching, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise KeyError("what is this")

    monkeypatch.setattr(web, "fetch", broken)

    error = fetching.fetched(Given(id="9", data={"image": "https://x/a.png"}), PLAN).error

    assert error is not None
    assert error.reason == "the picture could not be had (KeyError)"


def test_what_is_nobodys_fault_ends_all() -> None:
    def fetch(given: Given) -> Fetched:
        raise AssertionError("a mistake of ours")

    with pytest.raises(AssertionError, match="a mistake of ours"):
        list(ahead([Given(id="1")], fetch))
