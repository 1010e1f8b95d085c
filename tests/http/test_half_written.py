"""What a killed process, or a bad disk, left half written in the store is made anew, and kept."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ..doubles.label_studio import FileServer
from ..doubles.pictures import brush_config, encoded, stripes
from ..doubles.waiting import until
from .conftest import StartService

CONFIG = brush_config(["red", "green"])


def blobs(file: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(file)) as db:
        found = db.execute("SELECT key, data FROM blobs JOIN bytes ON blob = id")
        return {key: bytes(data) for key, data in found if "tried" not in key}


def test_half_written_blobs_are_ignored_and_written_anew(
    start_service: StartService, files: FileServer, tmp_path: Path
):
    file = tmp_path / "store.sqlite"
    files.put("/data/upload/1/a.png", encoded(stripes("red", "green")))
    picture = {"image": "/data/upload/1/a.png"}
    first = start_service(storage=f"sqlite:{file}")
    expected = first.predict(CONFIG, picture).get_json()
    until(lambda: bool(blobs(file)))
    first.services.close()
    whole = blobs(file)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE bytes SET data = substr(data, 1, length(data) / 2)")
    assert all(len(data) < len(whole[key]) for key, data in blobs(file).items())

    second = start_service(storage=f"sqlite:{file}")
    answer = second.predict(CONFIG, picture)

    assert answer.status_code == 200
    assert [one["result"][0]["value"] for one in answer.get_json()["results"]] == [
        one["result"][0]["value"] for one in expected["results"]
    ]
    second.services.close()
    now = blobs(file)
    assert set(now) == set(whole)
    assert {key: len(data) for key, data in now.items()} == {
        key: len(data) for key, data in whole.items()
    }
