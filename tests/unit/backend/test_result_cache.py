"""The result cache never holds more bytes than it may."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from backend.result_cache import ResultCache


@dataclass(frozen=True)
class Thing:
    nbytes: int


def test_the_least_recently_used_goes_first():
    cache: ResultCache[Thing] = ResultCache(max_bytes=10)
    for name in "abc":
        cache.put(name, Thing(3))
    assert cache.get("a")

    cache.put("d", Thing(3))

    assert cache.get("b") is None
    assert cache.get("a")
    assert cache.get("c")
    assert cache.get("d")


def test_what_is_larger_than_the_cache_is_not_kept_and_pushes_nothing_out():
    cache: ResultCache[Thing] = ResultCache(max_bytes=10)
    cache.put("small", Thing(4))

    cache.put("huge", Thing(11))

    assert cache.get("huge") is None
    assert cache.get("small")


def test_a_cache_of_no_bytes_keeps_nothing():
    cache: ResultCache[Thing] = ResultCache(max_bytes=0)
    cache.put("a", Thing(1))

    assert len(cache) == 0


@given(puts=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), max_size=40))
def test_the_bytes_never_exceed_the_limit(puts):
    cache: ResultCache[Thing] = ResultCache(max_bytes=20)
    for key, size in puts:
        cache.put(key, Thing(size))
        held = [cache.get(name) for name in range(6)]
        assert sum(thing.nbytes for thing in held if thing) <= 20
        assert cache.get(key) == Thing(size)
