"""JSON from outside, read only where it is no deeper and no more divided than honest JSON is.

Python's reader calls itself for every level, and makes an object of some hundred bytes of every
pair of brackets, and one of some sixty of every text: a few bytes could end in a RecursionError,
many in all of the memory.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import numpy as np
from jaxtyping import UInt8

MOST_LEVELS: Final = 64  # a task with its annotations has 8; no reader of ours minds this many
MOST_PARTS: Final = 20_000_000  # lists and objects: points of 50,000 outlines, 3.4 GB in memory
# Bytes in memory, as estimated below: 512 MB of rectangles take 4.7 GB if all their keys differ,
# of outlines 3.4 GB. Numbers from 0 to 256 are free, since Python holds each of them once: 512 MB
# of brush masks have 140 million.
MOST_MEMORY: Final = 5_000_000_000
OF_A_PART: Final = 88  # bytes, with the place in its list; measured, as the following
OF_A_TEXT: Final = 72  # of a few letters, a key, too
OF_A_NUMBER: Final = 40
OF_A_KEY: Final = 50  # beside its text
OF_A_BYTE: Final = 44  # at most, of the JSON: `{}`
BLOCK: Final = 1 << 18  # bytes counted at once
LARGEST_LIGHT: Final = 256  # the largest number that Python holds only once


def _but(kept: bytes) -> bytes:
    return bytes(set(range(256)) - set(kept))


NO_BRACKETS: Final = _but(b"[]{}")
NO_MARKS: Final = _but(b'"[]{}')
BLANKS: Final = b" \t\r\n"
PLAIN: Final = np.array([byte not in b'"[]{},:' for byte in range(256)])  # stands in a number
DIGIT: Final = np.array([byte in b"0123456789" for byte in range(256)])


class Unreadable(ValueError):
    """What is wrong with it, to be put behind its name: `is not JSON`."""


def loads(text: bytes | str) -> Any:
    """The value of a JSON text in UTF-8, without NaN and infinities. Raises Unreadable."""
    try:
        data = text.encode() if isinstance(text, str) else text
        check(data)
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except Unreadable:
        raise
    except (ValueError, RecursionError):  # of bytes that are no UTF-8, too
        raise Unreadable("is not JSON") from None


def _no_number(word: str) -> NoReturn:
    raise Unreadable(f"holds {word}, which is no number in JSON")


def check(data: bytes) -> None:
    """Raises Unreadable where reading would cost too much; whether it is JSON, the reader says.

    Takes memory for a few blocks only, and stops at the first that is too much.
    """
    values_matter = OF_A_BYTE * len(data) > MOST_MEMORY
    level = parts = quotes = numbers = keys = 0
    before = b",,,,"  # what stands outside of texts, ahead of the block
    for block in _blocks(data):
        if b"\0" in block:  # of UTF-16 or UTF-32, where nothing here would be counted right
            raise Unreadable("is not JSON")
        pieces = block.translate(None, BLANKS if values_matter else NO_MARKS).split(b'"')
        outside = b'"'.join(pieces[quotes % 2 :: 2])  # every other piece is of a text
        quotes += len(pieces) - 1
        brackets = np.frombuffer(outside.translate(None, NO_BRACKETS), np.uint8)
        if len(brackets):
            opens = (brackets & 2) > 0  # [ and { have this bit
            parts += int(np.count_nonzero(opens))
            if parts > MOST_PARTS:
                raise Unreadable(f"has more than {MOST_PARTS} lists and objects")
            levels = level + np.cumsum(np.where(opens, 1, -1))
            if levels.max() > MOST_LEVELS:
                raise Unreadable(f"is nested in more than {MOST_LEVELS} levels")
            level = int(levels[-1])
        if values_matter:
            keys += outside.count(b":")
            outside = before + outside
            numbers += _heavy_numbers(np.frombuffer(outside, np.uint8))
            before = outside[-4:]
            memory = OF_A_PART * parts + OF_A_TEXT * (quotes // 2)
            memory += OF_A_NUMBER * numbers + OF_A_KEY * keys
            if memory > MOST_MEMORY:
                raise Unreadable(f"would take more than {MOST_MEMORY} bytes of memory")


def _blocks(data: bytes) -> Iterator[bytes]:
    """The bytes without what a backslash stands before, so that no quotation mark is one of a
    text itself. No block ends between the two."""
    start = 0
    while start < len(data):
        block = data[start : start + BLOCK]
        start += len(block)
        if b"\\" in block:
            if (len(block) - len(block.rstrip(b"\\"))) % 2 and start < len(data):
                block, start = block[:-1], start - 1
            block = block.replace(b"\\\\", b"").replace(b'\\"', b"")
        yield block


def _heavy_numbers(outside: UInt8[np.ndarray, " bytes"]) -> int:
    """How many numbers end here that are not among those from 0 to 256. The first four bytes are
    known from before; blanks are left out, and of texts is left a quotation mark, if anything."""
    known = outside[4:]
    ends = 4 + np.flatnonzero((known == ord(",")) | (known == ord("]")) | (known == ord("}")))
    ones, tens, hundreds, more = (outside[ends - back] for back in (1, 2, 3, 4))
    any_ = DIGIT[ones]  # so does every number end; words do not
    two = any_ & PLAIN[tens]
    three = two & PLAIN[hundreds]
    value = (ones - 48).astype(np.int32)  # of other signs it is whatever it is
    value += np.where(two, (tens - 48).astype(np.int32) * 10, 0)
    value += np.where(three, (hundreds - 48).astype(np.int32) * 100, 0)
    light = (~two | DIGIT[tens]) & (~three | DIGIT[hundreds]) & ~(three & PLAIN[more])
    return int(np.count_nonzero(any_ & ~(light & (value <= LARGEST_LIGHT))))
