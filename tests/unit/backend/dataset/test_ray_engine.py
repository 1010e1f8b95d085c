"""The parts of the Ray engine that need no Ray running."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from backend.dataset.output import Output
from backend.dataset.places import place_of
from backend.dataset.ray_engine import Cluster, size_of_list, write_list
from backend.dataset.rows import Given
from backend.errors import BadRequest


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(place_of(str(tmp_path / "out")))


def listed(output: Output) -> list[str]:
    return [
        id
        for path, _ in output.tasks.files()
        if path.endswith(".parquet")
        for id in pq.read_table(path)["id"].to_pylist()
    ]


def test_a_list_is_written_in_small_files_first() -> None:
    sizes = [size_of_list(number) for number in (0, 63, 64, 128, 10_000)]

    assert sizes == [32, 32, 64, 128, 4096]


def test_a_list_names_every_task_once_and_counts_those_named_again(output: Output) -> None:
    tasks = [Given(id=str(number % 70)) for number in range(100)]

    told = write_list(tasks, output, unique=False)

    assert (told["tasks"], told["again"]) == (70, 30)
    assert listed(output) == [str(number) for number in range(70)]


def test_a_list_that_is_whole_is_not_written_anew(output: Output) -> None:
    before = write_list([Given(id="a")], output, unique=True)

    assert write_list([Given(id="a"), Given(id="b")], output, unique=True) == before
    assert listed(output) == ["a"]


def test_a_list_that_was_interrupted_is_written_anew(output: Output) -> None:
    def interrupted() -> object:
        for number in range(40):
            yield Given(id=str(number))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_list(interrupted(), output, unique=True)  # type: ignore[arg-type]
    write_list([Given(id="a")], output, unique=True)

    assert listed(output) == ["a"]


def test_a_data_set_without_tasks_is_refused(output: Output) -> None:
    with pytest.raises(BadRequest, match="no task in --input"):
        write_list([], output, unique=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"actors": 0}, "--concurrency must be at least 1"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor must be a share"),
        ({"gpus_per_actor": 0.0}, "--gpus-per-actor must be a share"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(given: dict[str, float], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        Cluster(**given)  # type: ignore[arg-type]


def test_shares_and_whole_numbers_of_cards_are_taken() -> None:
    assert [Cluster(gpus_per_actor=one).gpus_per_actor for one in (0.25, 1, 2)] == [0.25, 1, 2]
