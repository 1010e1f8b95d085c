"""Several runners as one."""

from collections.abc import Iterator

import pytest

from backend.jobs.base import Handle
from backend.jobs.book import JobBook
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.jobs.several import SeveralRunners
from backend.storage.base import Json, Scope
from backend.storage.memory import MemoryStorage

from ....doubles.waiting import until

QUICK = Pace(look=0.02, beat=0.01, write=0.001)


def forever(handle: Handle) -> Json:
    while True:
        handle.wait(0.001)


@pytest.fixture
def book() -> JobBook:
    return JobBook(MemoryStorage(max_blob_bytes=0))


@pytest.fixture
def runners(book: JobBook) -> Iterator[SeveralRunners]:
    made = SeveralRunners(
        EmbeddedRunner(book, {"long": forever}, pace=QUICK),
        {"short": EmbeddedRunner(book, {"short": lambda handle: "done"}, pace=QUICK)},
    )
    made.start()
    yield made
    made.close()


def test_a_short_job_does_not_wait_for_a_long_one(book: JobBook, runners: SeveralRunners):
    long = book.enqueue("long", {}, scope=Scope())
    runners.wake(long)
    until(lambda: book.get(long.id).state == "running")
    short = book.enqueue("short", {}, scope=Scope())
    runners.wake(short)

    until(lambda: book.get(short.id).state == "done")
    assert book.get(long.id).state == "running"
    assert runners.facts()["at_work"] == long.id
    assert runners.facts()["beside"] == {"short": {"at_work": None, "waiting_for": None}}


def test_closing_hands_the_job_of_each_back(book: JobBook, runners: SeveralRunners):
    long = book.enqueue("long", {}, scope=Scope())
    until(lambda: book.get(long.id).state == "running")
    runners.close()

    assert book.get(long.id).state == "queued"
