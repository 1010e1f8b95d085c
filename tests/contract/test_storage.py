"""One suite over all stores: every sentence of `backend/storage/base.py`."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.errors import StorageAway
from backend.storage.base import (
    ABSENT,
    Counts,
    Entry,
    Key,
    Record,
    Scope,
    Storage,
    change,
)
from backend.storage.open import open_storage

STUDIO = Scope.of("http://studio:8080", "1.17")
AT = Key(STUDIO, ("learned",))
BOUND = 100  # bytes of all blobs
AWKWARD = (
    "", "a", "a/b", "a%2Fb", "%", "~", "0", " ", "Straße", "猫", "a\nb", "..", "a+b", "\x00", "🐈",
)  # fmt: skip

Open = Callable[..., Storage]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        return str(server.url)
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/folder/store.sqlite"


@pytest.fixture
def open_store(address: str) -> Iterator[Open]:
    opened = []

    def open_it(bound: int = BOUND) -> Storage:
        opened.append(open_storage(address, max_blob_bytes=bound))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Storage:
    return open_store()


def at_once(*works: Callable[[], object]) -> None:
    """Run all in threads that begin together; an error in one is an error here."""
    gate = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        gate.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def keys(found: Iterator[tuple[Key, Record]]) -> list[Key]:
    return [key for key, _ in found]


# --- records ---------------------------------------------------------------------------------


def test_there_is_nothing_in_a_new_store(store: Storage):
    assert store.get(AT) is None
    assert list(store.scan(None)) == []
    assert list(store.entries(AT)) == []
    assert list(store.words(AT)) == []
    assert list(store.logs()) == []
    assert list(store.blobs()) == []
    assert store.get_blob(AT) is None
    assert store.counts() == Counts(0, 0, 0, 0, 0, 0)


def test_what_was_written_is_read(store: Storage):
    value = {"words": ["Straße", "猫", "\ud800"], "n": 3, "x": 0.1, "none": None, "no": False}

    revision = store.swap(AT, value, expected=ABSENT)

    assert store.get(AT) == Record(value, revision)


@pytest.mark.parametrize("value", [0, "", [], {}, False])
def test_values_that_count_as_false_are_values(store: Storage, value: object):
    assert store.swap(AT, value, expected=ABSENT)

    found = store.get(AT)
    assert found is not None
    assert (found.value, type(found.value)) == (value, type(value))


def test_what_is_read_may_be_changed_without_changing_the_store(store: Storage):
    value: dict[str, list[int]] = {"seen": []}
    store.swap(AT, value, expected=ABSENT)
    value["seen"].append(1)

    first = store.get(AT)
    assert first is not None
    first.value["seen"].append(2)

    second = store.get(AT)
    assert second is not None
    assert second.value == {"seen": []}


def test_only_who_knows_the_revision_may_write(store: Storage):
    first = store.swap(AT, "first", expected=ABSENT)
    assert first is not None
    second = store.swap(AT, "second", expected=first)
    assert second is not None

    assert store.swap(AT, "late", expected=first) is None
    assert store.swap(AT, "late", expected=ABSENT) is None
    assert store.swap(AT, None, expected=first) is None
    assert store.swap(AT, "early", expected=second + 1) is None

    assert store.get(AT) == Record("second", second)


def test_none_removes_and_says_absent(store: Storage):
    revision = store.swap(AT, "here", expected=ABSENT)
    assert revision is not None

    assert store.swap(AT, None, expected=revision) == ABSENT

    assert store.get(AT) is None
    assert list(store.scan(None)) == []
    assert store.counts().records == 0


def test_removing_what_is_not_there_changes_nothing(store: Storage):
    assert store.swap(AT, None, expected=ABSENT) == ABSENT
    assert store.swap(AT, None, expected=7) is None
    assert store.get(AT) is None


def test_no_revision_is_given_twice(open_store: Open, address: str):
    store = open_store()
    given = []
    for turn in range(3):
        for word in ("a", "b"):
            revision = store.swap(AT / word, turn, expected=ABSENT)
            assert revision is not None
            given.append(revision)
            assert store.swap(AT / word, None, expected=revision) == ABSENT
    if address != "memory:":
        store = open_store()  # as after a restart
    again = store.swap(AT / "a", "again", expected=ABSENT)

    assert again is not None
    assert len({*given, again, ABSENT}) == 8
    assert store.swap(AT / "a", "of old", expected=given[0]) is None


def test_of_many_writers_with_one_revision_one_wins(store: Storage):
    first = store.swap(AT, "start", expected=ABSENT)
    assert first is not None
    won: list[tuple[int, int]] = []

    def write(number: int) -> None:
        revision = store.swap(AT, number, expected=first)
        if revision is not None:
            won.append((number, revision))

    at_once(*(lambda number=number: write(number) for number in range(8)))

    assert len(won) == 1
    assert store.get(AT) == Record(*won[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_what_is_not_json_is_refused_and_nothing_changes(store: Storage, value: object):
    with pytest.raises((ValueError, TypeError)):
        store.swap(AT, value, expected=ABSENT)
    with pytest.raises((ValueError, TypeError)):
        store.append(AT, value)

    assert store.counts() == Counts(0, 0, 0, 0, 0, 0)


def test_text_that_cannot_be_written_is_refused_as_a_word(store: Storage):
    with pytest.raises(ValueError, match="surrogates"):
        store.get(AT / "\ud800")
    with pytest.raises(ValueError, match="surrogates"):
        store.append(AT, "line", once="\ud800")

    assert store.counts() == Counts(0, 0, 0, 0, 0, 0)


# --- keys and scans --------------------------------------------------------------------------


def test_awkward_words_are_kept_apart_and_come_back(store: Storage):
    everything = [AT / one / other for one in AWKWARD for other in AWKWARD]
    for number, key in enumerate(everything):
        assert store.swap(key, number, expected=ABSENT)

    assert keys(store.scan(AT)) == sorted(everything, key=str)
    for word in AWKWARD:
        assert keys(store.scan(AT / word)) == sorted((AT / word / one for one in AWKWARD), key=str)
    for number, key in enumerate(everything):
        found = store.get(key)
        assert found is not None
        assert found.value == number


def test_a_scan_gives_what_lies_below_and_not_the_prefix_itself(store: Storage):
    for key in (AT, AT / "a", AT / "a" / "b", AT / "ab", Key(STUDIO, ("learned-more",))):
        store.swap(key, 1, expected=ABSENT)

    assert keys(store.scan(AT)) == [AT / "a", AT / "a" / "b", AT / "ab"]
    assert keys(store.scan(AT / "a")) == [AT / "a" / "b"]
    assert keys(store.scan(AT / "nothing")) == []


def test_a_scan_over_everything_sees_every_scope(store: Storage):
    places = [
        Key(scope, path) for scope in (Scope(), STUDIO, Scope("", "3")) for path in ((), ("a",))
    ]
    for key in places:
        store.swap(key, 1, expected=ABSENT)

    assert keys(store.scan(None)) == sorted(places, key=str)


@pytest.mark.parametrize("count", [0, 1, 200, 201, 400, 450])
def test_a_scan_of_any_length_gives_each_record_once(store: Storage, count: int):
    for number in range(count):
        store.swap(AT / f"{number:04}", number, expected=ABSENT)
    store.swap(Key(STUDIO, ("learned0",)), "beside", expected=ABSENT)

    assert [record.value for _, record in store.scan(AT)] == list(range(count))


def test_a_scan_goes_on_behind_a_key(store: Storage):
    for word in "abc":
        store.swap(AT / word, word, expected=ABSENT)

    assert keys(store.scan(AT, after=AT / "a")) == [AT / "b", AT / "c"]
    assert keys(store.scan(AT, after=AT / "aa")) == [AT / "b", AT / "c"]
    assert keys(store.scan(AT, after=AT / "c")) == []
    assert keys(store.scan(AT, after=AT)) == [AT / "a", AT / "b", AT / "c"]
    assert keys(store.scan(AT, after=Key(Scope(), ("a",)))) == [AT / "a", AT / "b", AT / "c"]
    assert keys(store.scan(AT, after=Key(Scope("zz"), ()))) == []
    assert keys(store.scan(None, after=AT / "b")) == [AT / "c"]


def test_a_scan_bears_changes_between_its_pages(store: Storage):
    for number in range(250):
        store.swap(AT / f"{number:04}", number, expected=ABSENT)

    scan = store.scan(AT)
    seen = [next(scan)]
    for number in range(0, 250, 2):
        found = store.get(AT / f"{number:04}")
        assert found is not None
        store.swap(AT / f"{number:04}", None, expected=found.revision)
    store.swap(AT / "0000a", "new", expected=ABSENT)
    seen += list(scan)

    odd = [record.value for _, record in seen if isinstance(record.value, int)]
    assert [number for number in odd if number % 2] == list(range(1, 250, 2))
    assert len(seen) == len({key for key, _ in seen})


@pytest.mark.parametrize(
    "other", ["http://b:8080", "http://a:8081", "https://a:8080", "http://a:8080/second"]
)
def test_two_label_studios_with_a_project_one_share_nothing(store: Storage, other: str):
    here, there = (Key(Scope.of(url, "1"), ("learned",)) for url in ("http://a:8080", other))
    store.swap(here, "here", expected=ABSENT)
    store.append(here, "line", once="word")
    store.put_blob(here, b"bytes")

    assert store.get(there) is None
    assert list(store.scan(Key(there.scope))) == []
    assert list(store.entries(there)) == []
    assert store.append(there, "other line", once="word") == 1
    assert store.get_blob(there) is None


@pytest.mark.parametrize("spelling", ["http://Studio/", "HTTP://studio:80", "http://studio"])
def test_spellings_of_one_address_are_one_scope(spelling: str):
    assert Scope.of(spelling, "1") == Scope("http://studio:80", "1")


def test_an_empty_project_and_a_project_of_that_name_are_kept_apart(store: Storage):
    places = [Key(Scope("o", ""), ("1",)), Key(Scope("o", "1")), Key(Scope("", "o"), ("1",))]
    for number, key in enumerate(places):
        store.swap(key, number, expected=ABSENT)

    assert [store.get(key).value for key in places] == [0, 1, 2]  # type: ignore[union-attr]
    assert keys(store.scan(Key(Scope("o", "")))) == [places[0]]


# --- logs ------------------------------------------------------------------------------------


def test_lines_have_rising_numbers_and_come_back_in_order(store: Storage):
    numbers = [store.append(AT, value) for value in ("a", None, {"c": 1})]

    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1
    assert list(store.entries(AT)) == [
        Entry(number, value) for number, value in zip(numbers, ("a", None, {"c": 1}), strict=True)
    ]


def test_equal_lines_are_two_lines(store: Storage):
    first, second = store.append(AT, "same"), store.append(AT, "same")

    assert list(store.entries(AT)) == [Entry(first, "same"), Entry(second, "same")]


def test_lines_are_read_in_pieces(store: Storage):
    numbers = [store.append(AT, number) for number in range(25)]

    assert [line.value for line in store.entries(AT, limit=10)] == list(range(10))
    assert [line.value for line in store.entries(AT, after=numbers[9], limit=10)] == [
        *range(10, 20)
    ]
    assert [line.value for line in store.entries(AT, after=numbers[20])] == [*range(21, 25)]
    assert list(store.entries(AT, after=numbers[-1])) == []
    assert list(store.entries(AT, limit=0)) == []
    assert list(store.entries(AT, limit=-1)) == []


def test_a_word_said_once_gives_the_line_it_was_said_with(store: Storage):
    first = store.append(AT, "first", once="a/%")
    second = store.append(AT, "second", once="")

    assert store.append(AT, "other", once="a/%") == first
    assert store.append(AT, "other", once="") == second
    assert store.append(AT / "another log", "other", once="a/%") == 1
    assert [line.value for line in store.entries(AT)] == ["first", "second"]
    assert sorted(store.words(AT)) == [("", second), ("a/%", first)]


def test_what_is_trimmed_is_gone_but_its_number_and_word_are_not(store: Storage):
    numbers = [store.append(AT, number, once=str(number)) for number in range(5)]

    store.trim(AT, upto=numbers[2])
    assert [line.value for line in store.entries(AT)] == [3, 4]
    store.trim(AT, upto=numbers[-1] + 100)
    store.trim(AT / "no such log", upto=3)

    assert list(store.entries(AT)) == []
    assert store.append(AT, "again", once="1") == numbers[1]
    assert list(store.entries(AT)) == []
    assert store.append(AT, "new") > numbers[-1]


def test_a_record_a_log_and_a_blob_may_have_one_key(store: Storage):
    store.swap(AT, "record", expected=ABSENT)
    store.append(AT, "line")
    store.put_blob(AT, b"blob")

    assert store.get(AT).value == "record"  # type: ignore[union-attr]
    assert [line.value for line in store.entries(AT)] == ["line"]
    assert store.get_blob(AT) == b"blob"


def test_threads_that_append_lose_nothing_and_share_words(store: Storage):
    given: dict[str, set[int]] = {str(number): set() for number in range(20)}

    def write(who: int) -> None:
        for number in range(20):
            store.append(AT, [who, number])
            given[str(number)].add(store.append(AT, "shared", once=str(number)))

    at_once(*(lambda who=who: write(who) for who in range(4)))

    lines = store.entries(AT)
    assert len(lines) == 4 * 20 + 20
    assert len({line.number for line in lines}) == len(lines)
    for who in range(4):
        own = [line.value[1] for line in lines if line.value != "shared" and line.value[0] == who]
        assert own == list(range(20))
    assert all(len(numbers) == 1 for numbers in given.values())


def test_a_log_is_restored_with_its_numbers_and_words(store: Storage):
    store.restore(AT, [Entry(7, "seven"), Entry(9, "nine")], [("gone", 3)], last=12)
    store.restore(AT, [Entry(8, "eight"), Entry(9, "other")], [("gone", 4), ("eight", 8)], last=2)

    assert list(store.logs()) == [(AT, 12)]
    assert list(store.entries(AT)) == [Entry(7, "seven"), Entry(8, "eight"), Entry(9, "nine")]
    assert sorted(store.words(AT)) == [("eight", 8), ("gone", 3)]
    assert store.append(AT, "again", once="gone") == 3
    assert store.append(AT, "new") == 13
    assert store.counts() == Counts(records=0, logs=1, lines=4, words=2, blobs=0, blob_bytes=0)


def test_a_log_without_lines_is_restored_too(store: Storage):
    store.restore(AT, [], [], last=5)

    assert store.append(AT, "new") == 6


def test_numbers_go_on_behind_restored_lines(store: Storage):
    store.restore(AT, [Entry(30, "thirty")], [], last=0)

    assert store.append(AT, "new") == 31


def test_a_dropped_log_leaves_nothing(store: Storage):
    other = AT / "other"
    for log in (AT, other):
        store.append(log, "line", once="word")

    store.drop_log(AT)
    store.drop_log(AT / "no such log")

    assert list(store.logs()) == [(other, 1)]
    assert list(store.entries(AT)) == []
    assert list(store.words(AT)) == []
    assert store.append(AT, "anew", once="word") == 1
    assert [line.value for line in store.entries(other)] == ["line"]
    assert store.counts() == Counts(records=0, logs=2, lines=2, words=2, blobs=0, blob_bytes=0)


def test_many_logs_and_many_words_are_listed_once_each(store: Storage):
    for number in range(250):
        store.append(AT / f"{number:03}", number, once="w")
        store.append(AT, number, once=f"w{number}")

    assert [key for key, _ in store.logs()] == [AT, *(AT / f"{n:03}" for n in range(250))]
    assert sorted(store.words(AT)) == sorted((f"w{n}", n + 1) for n in range(250))


# --- blobs -----------------------------------------------------------------------------------


def test_bytes_come_back_as_they_were(store: Storage):
    data = bytes(range(100))

    assert store.put_blob(AT, data)
    assert store.put_blob(AT / "empty", b"")

    assert store.get_blob(AT) == data
    assert store.get_blob(AT / "empty") == b""
    assert store.blob_bytes() == 100


def test_new_bytes_take_the_place_of_old_ones(store: Storage):
    store.put_blob(AT, b"x" * 60)
    store.put_blob(AT, b"y" * 70)

    assert store.get_blob(AT) == b"y" * 70
    assert store.blob_bytes() == 70
    assert store.counts().blobs == 1


def test_dropped_bytes_are_gone(store: Storage):
    store.put_blob(AT, b"x" * 60)

    store.drop_blob(AT)
    store.drop_blob(AT / "none")

    assert store.get_blob(AT) is None
    assert store.blob_bytes() == 0
    assert list(store.blobs()) == []


def test_bytes_beyond_the_bound_are_refused_and_the_others_stay(store: Storage):
    store.put_blob(AT / "other", b"x" * 40)
    store.put_blob(AT, b"old")

    assert not store.put_blob(AT, b"x" * (BOUND + 1))

    assert store.get_blob(AT) is None
    assert store.get_blob(AT / "other") == b"x" * 40
    assert store.blob_bytes() == 40


def test_bytes_as_large_as_the_bound_fit(store: Storage):
    store.put_blob(AT / "other", b"x")

    assert store.put_blob(AT, b"x" * BOUND)

    assert store.get_blob(AT / "other") is None
    assert store.blob_bytes() == BOUND


def test_the_blobs_used_longest_ago_go_first(store: Storage):
    for word in "abcd":
        store.put_blob(AT / word, b"x" * 25)
    store.get_blob(AT / "a")
    store.put_blob(AT / "c", b"y" * 25)
    assert list(store.blobs()) == [AT / word for word in "bdac"]

    store.put_blob(AT / "e", b"x" * 30)

    assert list(store.blobs()) == [AT / word for word in "ace"]
    assert store.get_blob(AT / "b") is None
    assert store.get_blob(AT / "d") is None
    assert store.blob_bytes() == 80


def test_looking_for_bytes_that_are_not_there_is_no_use(store: Storage):
    store.put_blob(AT / "a", b"x")
    store.get_blob(AT / "b")

    assert list(store.blobs()) == [AT / "a"]


def test_blobs_that_are_read_while_they_are_listed_are_listed_once(store: Storage):
    for number in range(90):
        store.put_blob(AT / str(number), b"x")

    seen = []
    for key in store.blobs():
        seen.append(key)
        store.get_blob(key)

    assert seen == [AT / str(number) for number in range(90)]
    assert list(store.blobs()) == seen


def test_the_bound_holds_while_threads_put_and_read(store: Storage):
    def work(who: int) -> None:
        for number in range(30):
            data = bytes([who]) * (7 + number)
            assert store.put_blob(AT / str(number % 5), data)
            found = store.get_blob(AT / str(number % 5))
            assert found is None or len(set(found)) == 1
            assert store.blob_bytes() <= BOUND
            if number % 7 == 0:
                store.drop_blob(AT / str(who))

    at_once(*(lambda who=who: work(who) for who in range(4)))

    sizes = [len(store.get_blob(key) or b"") for key in store.blobs()]
    assert sum(sizes) == store.blob_bytes() == store.counts().blob_bytes <= BOUND


def test_a_store_without_room_for_blobs_keeps_none(open_store: Open):
    store = open_store(0)

    assert not store.put_blob(AT, b"x")
    assert store.put_blob(AT / "empty", b"")
    assert store.blob_bytes() == 0


# --- change ----------------------------------------------------------------------------------


def test_change_begins_with_none_and_ends_by_none(store: Storage):
    assert change(store, AT, lambda old: [old]) == [None]
    assert change(store, AT, lambda old: [*old, 1]) == [None, 1]
    assert change(store, AT, lambda old: None) is None

    assert store.get(AT) is None
    assert change(store, AT, lambda old: None) is None


def test_changes_of_many_threads_all_happen(store: Storage):
    def count() -> None:
        for _ in range(25):
            change(store, AT, lambda old: (old or 0) + 1)

    at_once(*[count] * 6)

    assert store.get(AT).value == 150  # type: ignore[union-attr]


# --- reopening -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["sqlite", "redis"], indirect=True)
def test_everything_is_there_after_a_restart(open_store: Open):
    store = open_store()
    revision = store.swap(AT, "record", expected=ABSENT)
    number = store.append(AT, "line", once="word")
    store.put_blob(AT, b"blob")
    counts = store.counts()
    store.close()

    store = open_store()

    assert store.get(AT) == Record("record", revision)
    assert list(store.entries(AT)) == [Entry(number, "line")]
    assert store.append(AT, "again", once="word") == number
    assert store.get_blob(AT) == b"blob"
    assert store.counts() == counts


@pytest.mark.parametrize("address", ["sqlite", "redis"], indirect=True)
def test_a_smaller_bound_holds_from_the_start(open_store: Open):
    first = open_store(100)
    for word in "abcd":
        first.put_blob(AT / word, b"x" * 25)
    first.close()

    store = open_store(50)

    assert list(store.blobs()) == [AT / "c", AT / "d"]
    assert store.blob_bytes() == 50


def test_a_store_has_a_name_for_people(store: Storage, address: str):
    kind = {"memory": "memory", "sqlite": "SQLite at ", "redis": "Redis at "}

    assert store.name.startswith(kind[address.partition(":")[0]])


def test_closing_twice_is_no_error(store: Storage):
    store.close()
    store.close()


def test_a_closed_file_is_not_written(tmp_path: Path):
    store = open_storage(f"sqlite:{tmp_path}/a.sqlite", max_blob_bytes=BOUND)
    store.close()

    with pytest.raises(StorageAway, match="is closed"):
        store.get(AT)
