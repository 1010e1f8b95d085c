"""Waiting for a store that is away: how long, how often, and what is said about it."""

import logging

import pytest

from backend.errors import StorageAway
from backend.storage.base import ABSENT, Key, Record, Scope, Storage
from backend.storage.memory import MemoryStorage
from backend.storage.patience import PatientStorage, Wait, patiently

from ....doubles.away_storage import AwayStorage
from ....doubles.waiting import Clock

KEY = Key(Scope("http://here:80", "1.0"), ("word",))


class Sleeps:
    """Slept seconds; the store is back after the given number of sleeps."""

    def __init__(self, store: AwayStorage, back_after: int | None = None) -> None:
        self.seconds: list[float] = []
        self._store, self._back_after = store, back_after

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self._back_after:
            self._store.away = False


@pytest.fixture
def store() -> AwayStorage:
    return AwayStorage(MemoryStorage(max_blob_bytes=100))


def patient(store: AwayStorage, sleeps: Sleeps, said: list[str | None]) -> PatientStorage:
    return patiently(store, tell=said.append, sleep=sleeps, for_seconds=60.0)


def test_who_reaches_the_store_waits_for_nothing_and_says_nothing(store: AwayStorage):
    sleeps, said = Sleeps(store), []
    waiting = patient(store, sleeps, said)

    waiting.swap(KEY, {"n": 1}, expected=ABSENT)

    record = waiting.get(KEY)
    assert record is not None
    assert record.value == {"n": 1}
    assert (sleeps.seconds, said) == ([], [])


def test_pauses_double_up_to_five_seconds_and_the_answer_comes_when_the_store_is_back(
    store: AwayStorage,
):
    sleeps, said = Sleeps(store, back_after=7), []
    store.away = True

    assert patient(store, sleeps, said).get(KEY) is None

    assert sleeps.seconds == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert said == ["the store cannot be reached"] * 7 + [None]


def test_waiting_has_an_end(store: AwayStorage):
    sleeps, said = Sleeps(store), []
    store.away = True

    with pytest.raises(StorageAway):
        patient(store, sleeps, said).get(KEY)

    assert 60.0 <= sum(sleeps.seconds) < 65.0
    assert said[-1] is None


def test_answers_that_do_not_come_are_part_of_the_wait(store: AwayStorage):
    clock = Clock()
    begun = clock()
    store.away = True
    slow = patiently(
        Slow(store, clock), tell=lambda _: None, sleep=clock.move, clock=clock, for_seconds=60.0
    )

    with pytest.raises(StorageAway):
        slow.get(KEY)

    assert 60.0 <= clock() - begun < 75.0


class Slow(AwayStorage):
    """Nobody says no: whoever asks hears nothing for ten seconds."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        super().__init__(storage)
        self._clock = clock

    def get(self, key: Key) -> Record | None:
        self._clock.move(10)
        return super().get(key)


def test_who_is_told_to_stop_waits_no_longer(store: AwayStorage):
    sleeps = Sleeps(store)
    store.away = True
    stopping = patiently(
        store, tell=lambda _: None, sleep=sleeps, stop=lambda: len(sleeps.seconds) == 2
    )

    with pytest.raises(StorageAway):
        stopping.get(KEY)

    assert len(sleeps.seconds) == 2


def test_a_reading_goes_on_where_it_was_when_the_store_went_away(store: AwayStorage):
    for name in "abc":
        store.swap(KEY / name, name, expected=ABSENT)
    sleeps, said = Sleeps(store, back_after=1), []
    reading = patient(store, sleeps, said).scan(KEY)

    first = next(reading)
    store.away = True
    rest = list(reading)

    assert [record.value for _, record in [first, *rest]] == ["a", "b", "c"]
    assert all(isinstance(record, Record) for _, record in rest)


def test_an_empty_reading_is_empty(store: AwayStorage):
    assert list(patient(store, Sleeps(store), []).scan(KEY)) == []


def test_a_swap_that_happened_while_the_store_went_away_is_found_by_its_writer(store: AwayStorage):
    store.fail_swaps = 1
    sleeps = Sleeps(store)

    second = patient(store, sleeps, []).swap(KEY, {"by": "me"}, expected=ABSENT)

    assert second is None  # somebody was faster, who was myself
    record = store.get(KEY)
    assert record is not None
    assert record.value == {"by": "me"}


def test_waiting_is_logged_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
):
    wait = Wait()
    with caplog.at_level(logging.INFO):
        assert wait.sentence is None
        wait("Redis is away")
        wait("Redis is away")
        assert wait.sentence == "Redis is away"
        wait(None)
        wait(None)

    assert wait.sentence is None
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the store: Redis is away",
        "no longer waiting for the store",
    ]


@pytest.mark.parametrize("method", ["log", "blob"])
def test_logs_and_blobs_wait_as_well(store: AwayStorage, method: str):
    waiting = patient(store, Sleeps(store, back_after=1), [])
    store.away = True

    if method == "log":
        assert waiting.append(KEY, {"n": 1}, once="a") == 1
        assert [entry.value for entry in waiting.entries(KEY)] == [{"n": 1}]
        waiting.trim(KEY, upto=1)
        assert waiting.entries(KEY) == []
    else:
        assert waiting.put_blob(KEY, b"12")
        assert (waiting.get_blob(KEY), waiting.blob_bytes()) == (b"12", 2)
        waiting.drop_blob(KEY)
        assert waiting.get_blob(KEY) is None
