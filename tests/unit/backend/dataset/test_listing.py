"""Which tasks a data set has."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backend.dataset.listing import Ids, listing_of
from backend.dataset.rows import Given
from backend.errors import BadRequest

from ....doubles.colour_runs import at, folder_of


def listed(address: Path, **options: object) -> list[Given]:
    return list(listing_of(str(address), key="image", **options).tasks())  # type: ignore[arg-type]


def test_a_folder_is_its_pictures_by_their_paths(tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    (tmp_path / "half-0" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.png").write_bytes(b"")

    tasks = listed(tmp_path)

    assert [one.id for one in tasks] == ["half-0/00000.png", "half-0/00002.png", "half-1/00001.png"]
    assert tasks[0].where == at(tmp_path / "half-0" / "00000.png")


def test_a_picture_has_the_address_label_studio_will_know_it_by(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"")

    tasks = listed(tmp_path, as_seen="/data/local-files/?d=photos/")

    assert tasks[0].data == {"image": "/data/local-files/?d=photos/a%20b.png"}


def test_an_export_keeps_numbers_and_data(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{"id": 12, "data": {"image": "x"}, "annotations": []}]))

    assert listed(path) == [Given(id="12", number=12, data={"image": "x"})]


def test_lines_are_tasks_with_or_without_ids(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    lines = [{"data": {"image": "x"}}, {"id": "b", "number": 4, "data": {"image": "y"}}]
    path.write_text("\n".join(map(json.dumps, lines)))

    assert listed(path) == [
        Given(id="line-1", data={"image": "x"}),
        Given(id="b", number=4, data={"image": "y"}),
    ]


def test_a_parquet_file_of_addresses_keeps_its_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    table = {"id": [5, 6], "url": ["https://x/1.png", "https://x/2.png"], "city": ["Oslo", "Rome"]}
    pq.write_table(pa.table(table), path)

    first, second = listed(path, column="url")

    assert first == Given(id="5", data={"image": "https://x/1.png", "city": "Oslo"})
    assert second.id == "6"


def test_pictures_inside_of_parquet_are_found_by_row_group_and_row(tmp_path: Path) -> None:
    path = tmp_path / "inside.parquet"
    pictures = [{"bytes": b"1", "path": "a.png"}, {"bytes": b"2", "path": "b.png"}]
    pq.write_table(pa.table({"image": pictures}), path, row_group_size=1)

    first, second = listed(path)

    assert first.id == "inside.parquet#0"
    assert second.data == {"image": "b.png"}
    assert second.where == json.dumps([str(path), 1, 0, "image"])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.json", "[", "is not JSON"),
        ("x.json", "{}", "is not a list of tasks"),
        ("x.json", '[{"id": 1}]', "has no data"),
        ("x.jsonl", '{"data": {}}\nno', "line 2 of x.jsonl is not JSON"),
        ("x.parquet", "no", "is no Parquet file"),
        ("x.txt", "", "is no list of tasks"),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: str, sentence: str
) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(BadRequest, match=sentence):
        listed(tmp_path / name)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="there is no"):
        listed(tmp_path / "nothing")


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BadRequest, match="cannot be opened"):
        listing_of("gopher://x/y", key="image")


def test_a_parquet_file_without_the_column_is_told_which_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "x.parquet")

    with pytest.raises(BadRequest, match=r"no column 'image'.*--picture-column.*there are url"):
        listed(tmp_path / "x.parquet")


def test_a_folder_cannot_fill_a_config_with_several_pictures(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)

    with pytest.raises(BadRequest, match="shows several pictures"):
        list(listing_of(str(tmp_path), key=None).tasks())


def test_an_id_that_comes_again_is_left_out_and_counted() -> None:
    tasks = [Given(id="a"), Given(id="b"), Given(id="a")]

    with Ids() as ids:
        assert [one.id for one in ids.first(tasks)] == ["a", "b"]
        assert ids.again == 1


def test_files_of_one_name_in_two_folders_have_rows_of_their_own(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        pq.write_table(pa.table({"image": ["https://x/1.png"]}), tmp_path / part / "0.parquet")

    assert [one.id for one in listed(tmp_path)] == ["test/0.parquet#0", "train/0.parquet#0"]


def test_an_id_of_a_list_is_not_taken_for_a_number_of_label_studio(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": 7, "data": {"image": "x"}}')

    assert listed(path) == [Given(id="7", data={"image": "x"})]


def test_a_link_that_leads_back_is_followed_once(tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    (tmp_path / "half-0" / "back").symlink_to(tmp_path)

    assert [one.id for one in listed(tmp_path)] == ["half-0/00000.png", "half-1/00001.png"]


def test_pictures_beside_parquet_files_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    pq.write_table(pa.table({"image": ["x"]}), tmp_path / "x.parquet")

    with pytest.raises(BadRequest, match="holds pictures and Parquet files"):
        listed(tmp_path)


def test_an_id_that_nobody_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": "\\ud800", "data": {"image": "x"}}')

    with pytest.raises(BadRequest, match="has characters nobody can write"):
        listed(path)
