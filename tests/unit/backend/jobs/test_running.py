"""How a work's end is written down."""

import pytest

from backend.errors import DeviceLost, ModelFailed, ServiceError, StorageAway
from backend.jobs.base import Handle
from backend.jobs.book import BookRules, JobBook
from backend.jobs.running import Pace, Running, sentence
from backend.prelabel.works import hopeless
from backend.storage.base import Json, Scope
from backend.storage.memory import MemoryStorage
from backend.storage.patience import Wait

from ....doubles.waiting import Clock


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeviceLost("RuntimeError"), "waiting"),
        (StorageAway("away"), "waiting"),
        (ModelFailed("damaged"), "failed"),
    ],
    ids=["device", "store", "model"],
)
def test_what_a_restart_mends_is_waited_for_however_long(error: ServiceError, state: str):
    clock = Clock()
    rules = BookRules(most_attempts=2)
    book = JobBook(MemoryStorage(max_blob_bytes=0), clock=clock, rules=rules)
    job = book.enqueue("count", {}, scope=Scope("http://here:8080", "1"))

    def work(handle: Handle) -> Json:
        with hopeless():
            raise error

    for attempt in range(4):
        lease = book.claim("a", token=f"token {attempt}", kinds={"count"})
        if lease is None:
            break
        running = Running(book, lease, pace=Pace(), wait=Wait())
        running.run({"count": work}, explain=sentence, settle=book)
        clock.move(1000)

    ended = book.get(job.id)
    assert (ended.state, ended.reason, ended.attempts) == (state, str(error), 1)
