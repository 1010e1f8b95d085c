"""Valid things made wrong, one step at a time: JSON by its structure, bytes by their places.

Everything is drawn from a `random.Random` that the caller seeds, so every case can be made again.
"""

import copy
import json
import math
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Json = Any

DEEP = "\x01deep"  # stands for nested lists that `json.dumps` could not write itself
EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "x\udfffy\ud800", "\r\nX-Evil: yes", "\u202etxet", "\ufeff",
    "é" * 40, "𝔞🦄", "&amp;", "<View/>", "'; DROP TABLE jobs; --", "../../etc/passwd", "%s%n%x",
    "{}", "{0.__class__}", "true", "false", "null", "NaN", "-0", "1e999", "0x10", "１２", "1_000",
    "9" * 5000, "()" * 50, "[" * 300, "{\"a\":" * 300, "-" * 3000, " " * 3000, "a," * 2000,
    "data:,", "data:image/png;base64,", "file:///etc/passwd", "http://127.0.0.1:1/a.png",
    "http://[::1", "http://[fe80::1%25lo]/a", "http://169.254.169.254/latest", "s3://b/../k",
    "gs://", "azure-blob://c/b?x", "/data/upload/1/../../x", "/data/local-files/?d=../../x",
    "/data/local-files/?d=%00", "/data/local-files/?d=a.png", "$image", "$", "$undefined$",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 2, 7, 255, 256, 65_536, -(2**31), 2**31, 2**53 + 1, 2**63, -(2**64), 10**400,
    0.5, 1e-320, 1e16, 1e308, -1e308, math.nan, math.inf, -math.inf,
)  # fmt: skip


def hostile(random: Random) -> Json:
    """A value that nobody expects where it stands."""
    pick = random.random()
    if pick < 0.4:
        return random.choice(TEXTS)
    if pick < 0.65:
        return random.choice(NUMBERS)
    if pick < 0.8:
        return random.choice((None, True, False, [], {}, [[]], [{}], {"": ""}, [None, None], ""))
    if pick < 0.9:
        return random.choice((_list_of, _object_of, _nested))(random)
    if pick < 0.97:
        return random.choice(("ab", "ü", " ", "\\", "1", ",", "|", "$")) * 10 ** random.randint(
            2, 4
        )
    if pick < 0.985:
        return f"{DEEP}{random.choice((50, 300, 900, 1100, 5_000, 100_000))}"
    return random.choice(([0] * 100_000, "z" * 1_000_000, [[]] * 20_000))


def _list_of(random: Random) -> Json:
    return [hostile_leaf(random) for _ in range(random.choice((1, 2, 5, 120)))]


def _object_of(random: Random) -> Json:
    return {
        str(hostile_leaf(random))[:50]: hostile_leaf(random) for _ in range(random.randint(1, 9))
    }


def _nested(random: Random) -> Json:
    value = hostile_leaf(random)
    for _ in range(random.choice((2, 10, 40))):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def hostile_leaf(random: Random) -> Json:
    """A hostile text, number or constant."""
    return random.choice(random.choice((TEXTS, NUMBERS, (None, True, False))))


def mutated(value: Json, random: Random, *, steps: int = 3) -> Json:
    """A copy with one to `steps` changes of its structure."""
    holder = [copy.deepcopy(value)]
    for _ in range(random.randint(1, steps)):
        places = _places(holder)
        container, key = random.choice(places)
        random.choice(CHANGES)(container, key, random, places)
    return holder[0] if holder else None


def _places(value: Json) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value; of long lists only the ends."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 400:
        one = waiting.pop()
        if isinstance(one, dict):
            keys: Sequence[Any] = list(one)
        else:
            keys = [*range(min(len(one), 8)), *([len(one) - 1] if len(one) > 8 else [])]
        for key in keys:
            places.append((one, key))
            if isinstance(one[key], dict | list):
                waiting.append(one[key])
    return places or [([None], 0)]


Change = Callable[[Any, Any, Random, list[tuple[Any, Any]]], None]


def _drop(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    del container[key]


def _swap(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    container[key] = hostile(random)


def _borrow(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    """Another part of the same thing in this one's place."""
    other, name = random.choice(places)
    container[key] = copy.deepcopy(other[name])


def _nest(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    for _ in range(random.choice((1, 1, 2, 30))):
        container[key] = [container[key]] if random.random() < 0.5 else {"value": container[key]}


def _unwrap(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    value = container[key]
    if isinstance(value, list) and value:
        container[key] = value[0]
    elif isinstance(value, dict) and value:
        container[key] = next(iter(value.values()))
    else:
        container[key] = hostile(random)


def _grow(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    value = container[key]
    if isinstance(value, list | str) and 0 < len(value) < 10_000:
        container[key] = value * random.choice((2, 3, 20))
    elif isinstance(container, list):
        container[key:key] = [copy.deepcopy(value) for _ in range(random.choice((1, 2, 20)))]
    else:
        container[f"{key}2"] = copy.deepcopy(value)


def _rename(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    if isinstance(container, dict):
        container[str(hostile_leaf(random))[:200]] = container.pop(key)
    else:
        random.shuffle(container)


def _retype(container: Any, key: Any, random: Random, places: list[tuple[Any, Any]]) -> None:
    value = container[key]
    if isinstance(value, str):
        container[key] = random.choice(([value], len(value), {"value": value}, None, True))
    elif isinstance(value, int | float):
        container[key] = random.choice((str(value)[:50], [value], value == 0, -value, None))
    else:
        container[key] = random.choice((str(value)[:2000], None, 1, "", True))


CHANGES: tuple[Change, ...] = (
    _drop, _swap, _swap, _swap, _borrow, _nest, _unwrap, _grow, _rename, _retype,
)  # fmt: skip


def written(value: Json) -> bytes:
    """As JSON, with NaN and lone surrogates, and deeper than Python itself could write."""
    text = json.dumps(value)
    start = text.find(mark := json.dumps(DEEP)[:-1])
    while start >= 0:
        end = text.index('"', start + len(mark))
        digits = re.match(
            r"\d{1,6}", text[start + len(mark) : end]
        )  # it may have been cut or grown
        levels = int(digits[0]) if digits else 2
        opened, closed = ("[", "]") if levels % 3 else ('{"a":[', "]}")
        text = text[:start] + opened * levels + closed * levels + text[end + 1 :]
        start = text.find(mark, start)
    return text.encode()


def bytes_mutated(data: bytes, random: Random, *, steps: int = 4) -> bytes:
    """A copy with one to `steps` changes: bytes flipped, dropped, repeated, cut off, put in."""
    out = bytearray(data)
    for _ in range(random.randint(1, steps)):
        at = random.randrange(len(out) + 1)
        many = random.choice((1, 1, 2, 4, 16, 100))
        match random.randrange(7):
            case 0:
                out[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del out[at : at + many]
            case 2:
                out[at:at] = out[at : at + many] * random.choice((1, 2, 50))
            case 3:
                if random.random() < 0.3:
                    del out[at:]
            case 4:
                edge = random.choice(EDGES)
                out[at : at + len(edge)] = edge
            case 5:
                out[at:at] = random.randbytes(many)
            case _:
                if at < len(out):
                    out[at] ^= 1 << random.randrange(8)
    return bytes(out)
