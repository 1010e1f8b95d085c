"""The folder of a run: what a violent end leaves in it is mended."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backend.dataset.output import RAY, Output, Run, written
from backend.dataset.places import place_of
from backend.dataset.rows import Row
from backend.errors import BadRequest

RUN = Run(engine=RAY, format="jsonl", input="x", config="c", version="v")


def rows(*ids: str) -> list[Row]:
    return [Row(id=id, number=None, data="{}", model_version="v") for id in ids]


@pytest.fixture
def output(tmp_path: Path) -> Output:
    made = Output(place_of(str(tmp_path / "out")))
    made.begin(RUN)
    made.checkpoint.make_folder()
    return made


def put(output: Output, stem: str, *ids: str, done: bool = True, pending: bool = False) -> None:
    """A file of rows as Ray leaves it."""
    (output.rows / f"{stem}.jsonl").write(written(rows(*ids), "jsonl"))
    for name, wanted in ((f"{stem}.parquet", done), (f"{stem}.pending.parquet", pending)):
        if wanted:
            pq.write_table(pa.table({"id": list(ids)}), f"{output.checkpoint.path}/{name}")


def test_rows_count_only_when_their_file_is_done(output: Output) -> None:
    put(output, "w_000001", "a", "b")
    put(output, "w_000002", "c", done=False, pending=True)

    assert [row.id for row in output.read()] == ["a", "b"]
    assert output.count_committed() == 2


def test_a_file_that_is_done_and_pending_keeps_its_rows(output: Output) -> None:
    put(output, "w_000001", "a", pending=True)

    output.mend()

    assert not [path for path, _ in output.checkpoint.files() if ".pending." in path]
    assert [row.id for row in output.read()] == ["a"]


def test_a_file_that_is_pending_alone_is_left_for_ray_to_undo(output: Output) -> None:
    put(output, "w_000001", "a", done=False, pending=True)

    output.mend()

    assert [path for path, _ in output.checkpoint.files() if ".pending." in path]


def test_ids_without_rows_are_not_done(output: Output) -> None:
    put(output, "w_000001", "a", "b")
    put(output, "w_000002", "c")
    (output.rows / "w_000001.jsonl").delete()

    output.mend()

    assert output.count_committed() == 1


def test_in_the_end_files_that_are_not_done_go(output: Output) -> None:
    put(output, "w_000001", "a")
    put(output, "w_000002", "a", done=False)

    output.clear_up()

    assert [path.rpartition("/")[2] for path, _ in output.rows.files()] == ["w_000001.jsonl"]


def test_rows_that_are_there_twice_are_left_once(output: Output) -> None:
    put(output, "w_000001", "a", "b")
    put(output, "w_000002", "b", "c")

    assert output.without_doubles() == 3
    assert [row.id for row in output.read()] == ["a", "b", "c"]


def test_a_damaged_file_is_named(output: Output) -> None:
    put(output, "w_000001", "a")
    (output.rows / "w_000001.jsonl").write(b'{"id": ')

    with pytest.raises(BadRequest, match=r"w_000001\.jsonl cannot be read"):
        list(output.read())


def test_a_folder_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"engine": "warp"}')

    with pytest.raises(BadRequest, match="or by a newer one"):
        Output(place_of(str(tmp_path))).begin(RUN)
