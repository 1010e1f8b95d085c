"""JSON from outside, read only where it is no deeper and no more divided than honest JSON is.

Python's reader calls itself for every level, and makes an object of some hundred bytes of every
pair of brackets: a few bytes could end in a RecursionError, many in all of the memory.
"""

import json
from typing import Any, Final, NoReturn

import numpy as np

MOST_LEVELS: Final = 64  # a task with its annotations has 8; no reader of ours minds this many
MOST_PARTS: Final = 20_000_000  # lists and objects: points of 50,000 outlines, some 2 GB in memory
BLOCK: Final = 1 << 20  # brackets counted at once
NO_BRACKETS: Final = bytes(set(range(256)) - set(b'"[]{}'))


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
    """Raises Unreadable where reading would cost too much; whether it is JSON, the reader says."""
    if b"\\" in data:  # so that no quotation mark is one of the text itself
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = data.translate(None, NO_BRACKETS)
    brackets = b"".join(marks.split(b'"')[::2])  # every other piece stands inside of quotes
    if len(brackets) > 2 * MOST_PARTS:
        raise Unreadable(f"has more than {MOST_PARTS} lists and objects")
    level = 0
    for start in range(0, len(brackets), BLOCK):
        block = np.frombuffer(brackets, np.uint8, min(BLOCK, len(brackets) - start), start)
        levels = level + np.cumsum((block & 2).astype(np.int64) - 1)  # [ and { have this bit
        if levels.max() > MOST_LEVELS:
            raise Unreadable(f"is nested in more than {MOST_LEVELS} levels")
        level = int(levels[-1])
