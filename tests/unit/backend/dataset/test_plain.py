"""A run in one process: every task once, whatever happens on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.dataset import plain
from backend.dataset.listing import listing_of
from backend.dataset.output import Output, Run, Told
from backend.dataset.places import Place, place_of
from backend.dataset.rows import FORMATS, Given, Row
from backend.errors import BadRequest

from ....doubles.colour_runs import CONFIG, fetching_of, folder_of, painter_of

RUN = Run(engine="plain", format="parquet", input="x", config="c", version="v")


def ran(
    pictures: Path,
    output: Output,
    *,
    tasks: Iterator[Given] | None = None,
    format: str = "parquet",
    rows_per_file: int = 4,
) -> Told:
    token, told = output.begin(RUN), Told()
    plain.run(
        tasks or listing_of(str(pictures), key="image").tasks(),
        painter_of(CONFIG, None),
        fetching_of(CONFIG)[0],
        output,
        token=token,
        format=format,
        rows_per_file=rows_per_file,
        told=told,
    )
    return told


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pictures", 11, broken=(4,))


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(place_of(str(tmp_path / "out")))


@pytest.mark.parametrize("format", FORMATS)
def test_every_task_has_a_row_and_one_broken_picture_costs_only_itself(
    pictures: Path, output: Output, format: str
) -> None:
    told = ran(pictures, output, format=format)

    rows = {row.id: row for row in output.read()}
    assert len(list(output.read())) == len(rows) == 11
    assert told.rows == 11
    broken = rows["half-0/00004.png"]
    assert (broken.kind, broken.result) == ("image broken", None)
    assert told.failures == {"image broken": 1}
    assert rows["half-0/00000.png"].regions == 1  # all of it is red
    assert rows["half-0/00002.png"].regions == 1  # blue, and red again


def test_the_same_command_goes_on_where_it_was(pictures: Path, output: Output) -> None:
    def until_the_cable_is_pulled() -> Iterator[Given]:
        for number, one in enumerate(listing_of(str(pictures), key="image").tasks()):
            if number == 6:
                raise KeyboardInterrupt
            yield one

    with pytest.raises(KeyboardInterrupt):
        ran(pictures, output, tasks=until_the_cable_is_pulled())
    before = len(list(output.read()))
    told = ran(pictures, output)

    ids = [row.id for row in output.read()]
    assert sorted(ids) == sorted({one.id for one in listing_of(str(pictures), key="image").tasks()})
    assert told.already == before
    assert told.rows == 11 - before


def test_what_was_half_written_by_a_killed_run_is_not_read(pictures: Path, output: Output) -> None:
    output.begin(RUN)
    (Path(output.rows.path) / ".00001-aa.parquet").write_bytes(b"half of a fi")

    ran(pictures, output)

    assert len(list(output.read())) == 11
    assert not [path for path, _ in output.rows.files() if "/." in path]


def test_a_second_run_over_a_whole_output_does_nothing(pictures: Path, output: Output) -> None:
    ran(pictures, output)

    told = ran(pictures, output)

    assert (told.rows, told.already) == (0, 11)


def test_ids_that_come_twice_are_counted_and_painted_once(pictures: Path, output: Output) -> None:
    tasks = list(listing_of(str(pictures), key="image").tasks())

    told = ran(pictures, output, tasks=iter([*tasks, *tasks[:3]]))

    assert (told.rows, told.again) == (11, 3)


def test_whoever_lost_the_folder_writes_nothing_more(output: Output) -> None:
    token = output.begin(RUN)
    output.begin(RUN)  # another process, with the same command
    writer = plain.Writer(output, token, "jsonl", rows_per_file=1)

    with pytest.raises(BadRequest, match="another process works into"):
        writer.add(Row(id="1", number=None, data="{}", model_version="v"))
    assert list(output.rows.files()) == []


def test_a_file_that_was_interrupted_in_its_last_moment_is_there_once(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = plain.Writer(output, output.begin(RUN), "jsonl", rows_per_file=1)
    write = Place.write

    def interrupted(place: Place, data: bytes) -> None:
        write(place, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(Place, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.add(Row(id="1", number=None, data="{}", model_version="v"))
    monkeypatch.undo()
    writer.flush()

    assert [row.id for row in output.read()] == ["1"]


def test_a_data_set_without_tasks_is_refused(output: Output, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(BadRequest, match="no task in --input"):
        ran(tmp_path / "empty", output)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"version": "w"}, "another version"), ({"engine": "ray"}, "another engine")],
)
def test_another_run_is_refused_in_the_folder(
    output: Output, change: dict[str, str], sentence: str
) -> None:
    output.begin(RUN)

    with pytest.raises(BadRequest, match=sentence):
        output.begin(Run(**{**vars(RUN), **change}))


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")

    with pytest.raises(BadRequest, match="holds something else"):
        Output(place_of(str(tmp_path))).begin(RUN)
