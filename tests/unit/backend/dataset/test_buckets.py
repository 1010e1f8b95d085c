"""A data set in a bucket: pictures from it, rows into it, with the keys of the environment."""

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from backend.dataset import plain
from backend.dataset.listing import listing_of
from backend.dataset.output import Output, Run, Told
from backend.dataset.places import place_of
from backend.dataset.rows import Given
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment
from backend.errors import BadRequest

from ....doubles.colour_runs import CONFIG, fetching_of, painter_of, striped

KEYS = {"aws_access_key_id": "reader", "aws_secret_access_key": "not-a-secret"}
REGION = "us-east-1"
COUNT = 7
ODD = ("a b.png", "a#b.png", "a?b=c.png", "a%20b.png", "ü.png")  # objects may have any name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with pictures in the bucket `shots`."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    server = Server(
        "the object store",
        [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(port)],
        environment=plain_environment(),
        health=f"{url}/moto-api/",
        log=tmp_path_factory.mktemp("store") / "store.log",
    )
    with server:
        client = boto3.client("s3", endpoint_url=url, region_name=REGION, **KEYS)
        client.create_bucket(Bucket="shots")
        client.create_bucket(Bucket="rows")
        for number in range(COUNT):
            key = f"trip/{number % 2}/{number}.png"
            client.put_object(Bucket="shots", Key=key, Body=striped(number))
        for key in ODD:
            client.put_object(Bucket="shots", Key=f"odd/{key}", Body=striped(1))
        client.put_object(Bucket="shots", Key="trip/0/notes.txt", Body=b"no picture")
        client.close()
        yield url


@pytest.fixture
def query(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What an address needs to lead to the store."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    host = store.removeprefix("http://")
    return f"?endpoint_override={host}&scheme=http&region={REGION}"


def test_pictures_of_a_bucket_become_rows_in_another_one(query: str) -> None:
    listing = listing_of(f"s3://shots/trip{query}", key="image")
    output, told = Output(place_of(f"s3://rows/first{query}")), Told()
    run = Run(engine="plain", format="parquet", input="x", config="c", version="v")

    for _ in range(2):
        plain.run(
            listing.tasks(),
            painter_of(CONFIG, None),
            fetching_of(CONFIG, f"s3://shots{query}")[0],
            output,
            token=output.begin(run),
            format="parquet",
            rows_per_file=3,
            told=told,
        )

    rows = {row.id: row for row in output.read()}
    assert sorted(rows) == sorted(f"{number % 2}/{number}.png" for number in range(COUNT))
    assert all(row.kind is None for row in rows.values())
    assert '"s3://shots/trip/0/0.png"' in rows["0/0.png"].data
    assert (told.rows, told.already) == (COUNT, COUNT)


def test_objects_may_have_any_name(query: str) -> None:
    fetching, plan = fetching_of(CONFIG, f"s3://shots{query}")

    tasks = list(listing_of(f"s3://shots/odd{query}", key="image").tasks())

    assert sorted(one.id for one in tasks) == sorted(ODD)
    assert [fetching.fetched(one, plan).error for one in tasks] == [None] * len(ODD)


def test_a_picture_that_is_gone_says_so_without_the_address_s_query(query: str) -> None:
    fetching, plan = fetching_of(CONFIG, f"s3://shots{query}")
    given = Given(id="1", data={"image": "x"}, where='["shots/trip/9.png"]')

    error = fetching.fetched(given, plan).error

    assert error is not None
    assert error.reason == "there is no s3://shots/trip/9.png"


def test_a_bucket_that_is_not_there_is_refused(query: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="there is no s3://nowhere/x"):
        listing_of(f"s3://nowhere/x{query}", key="image")
