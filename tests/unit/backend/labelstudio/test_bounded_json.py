"""JSON from outside: what honest bodies hold is read, what would cost far more is refused."""

import json
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.labelstudio import bounded_json
from backend.labelstudio.bounded_json import MOST_LEVELS, Unreadable
from backend.services import MOST_REQUEST_BYTES


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, {"b": "c"}], "d": {}},
        '[[[{{{ "quoted" \\ [',
        {"\\": "[", '"': "{", '\\"': ["]"]},
        ["\\" * n + '"' * n for n in range(7)],
        "\ud800 half a character",
        ["[" * 1000, {"{" * 1000: "}"}],
    ],
)
def test_what_json_writes_is_read(value: object):
    assert bounded_json.loads(json.dumps(value).encode()) == value
    assert bounded_json.loads(json.dumps(value)) == value


def test_letters_of_any_language_and_a_byte_order_mark_are_read():
    assert bounded_json.loads('\ufeff{"größe": "漢字"}'.encode()) == {"größe": "漢字"}


@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_the_deepest_allowed_is_read_and_one_more_is_not(opened: str):
    closed = "]" if opened == "[" else "}"
    inside = opened * MOST_LEVELS + "1" + closed * MOST_LEVELS

    bounded_json.loads(inside)

    with pytest.raises(Unreadable, match=f"is nested in more than {MOST_LEVELS} levels"):
        bounded_json.loads(opened + inside + closed)


@pytest.mark.parametrize(
    "text", [nested(100_000), "[" * 100_000, '{"a":' * 100_000, '["\\\\",' + nested(2000) + "]"]
)
def test_depth_that_would_end_in_a_recursion_error_is_refused(text: str):
    with pytest.raises(Unreadable, match="is nested in more than"):
        bounded_json.loads(text)


def test_depth_is_counted_across_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounded_json, "BLOCK", 7)
    bounded_json.loads(f"[{nested(MOST_LEVELS - 1)},{nested(MOST_LEVELS - 1)}]")

    with pytest.raises(Unreadable, match="nested"):
        bounded_json.loads(f"[[],[],[],{nested(MOST_LEVELS)}]")


def test_far_too_many_parts_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounded_json, "MOST_PARTS", 10)
    bounded_json.loads("[[],[],[],{},{},{},[],[],[]]")

    with pytest.raises(Unreadable, match="has more than 10 lists and objects"):
        bounded_json.loads("[[],[],[],{},{},{},[],[],[],[]]")


def test_what_stands_between_commas_is_counted_but_for_small_numbers(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(bounded_json, "MOST_MEMORY", 2 * 88 + 72 + 4 * 40)
    bounded_json.loads('["", [1.5, 999], 257, -1, 0, 7, 99, 100, 256, true, false, null]')

    monkeypatch.setattr(bounded_json, "MOST_MEMORY", 88 + 4 * 72)
    for fifth in ("ab", 1000, 257, 300, -5, -10, 0.1, 1.5, 20.5, 1e22, -0.0):
        with pytest.raises(Unreadable, match="would take more than 376 bytes of memory"):
            bounded_json.loads(json.dumps(["ab"] * 4 + [fifth]))


def test_keys_take_more_than_their_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounded_json, "MOST_MEMORY", 88 + 3 * 72 + 2 * 50)
    bounded_json.loads('{"a": 1, "b:": ":"}')

    with pytest.raises(Unreadable, match="memory"):
        bounded_json.loads('{"a": 1, "b": "", "c": 1}')


@dataclass
class Counts:
    levels: int = 0
    parts: int = 0
    memory: int = 0

    def take(self, value: object, level: int = 1) -> None:
        if isinstance(value, list | dict):
            self.levels = max(self.levels, level)
            self.parts += 1
            self.memory += 88
            for one in value.values() if isinstance(value, dict) else value:
                self.take(one, level + 1)
            if isinstance(value, dict):
                self.memory += len(value) * (72 + 50)
        elif isinstance(value, str):
            self.memory += 72
        elif isinstance(value, float) or (isinstance(value, int) and not 0 <= value <= 256):
            self.memory += 40


NUMBERS = st.integers(-300, 2000) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(alphabet='\\"[]{},: a漢\n') | st.text(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(
    value=st.lists(VALUES, max_size=4),
    block=st.integers(2, 60),
    indent=st.sampled_from([None, 0, 1]),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    escaped=st.booleans(),
)
def test_it_counts_what_the_reader_makes(
    value: list[object], block: int, indent: int | None, separators: tuple[str, str], escaped: bool
):
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=escaped)
    data = text.encode(errors="replace")
    counts = Counts()
    counts.take(json.loads(data))
    limits = {
        "MOST_LEVELS": counts.levels,
        "MOST_PARTS": counts.parts,
        "MOST_MEMORY": counts.memory,
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bounded_json, "BLOCK", block)
        for name, limit in limits.items():
            patched.setattr(bounded_json, name, limit)

        bounded_json.check(data)

        for name, limit in limits.items():
            if limit:
                patched.setattr(bounded_json, name, limit - 1)
                with pytest.raises(Unreadable, match=str(limit - 1)):
                    bounded_json.check(data)
                patched.setattr(bounded_json, name, limit)


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_only_utf_8_is_looked_at(code: str):
    text = '["\u2200\u2200\u2200", ' + "[" * 100 + "]" * 100 + "]"

    with pytest.raises(Unreadable, match=r"^is not JSON$"):
        bounded_json.check(text.encode(code))


@pytest.mark.parametrize(
    "data",
    [
        b'"' * 20_000_000,
        b"[" + b'"ab",' * 4_000_000 + b"1]",
        b'["' + b"\\" * 10_000_000 + b'"]',
        b"[" + b"{}," * 6_000_000 + b"1]",
    ],
    ids=["quotes", "texts", "backslashes", "objects"],
)
def test_checking_takes_no_memory_to_speak_of(data: bytes):
    tracemalloc.start()
    try:
        with suppress(Unreadable):
            bounded_json.check(data)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 16_000_000


def test_an_honest_body_of_the_most_megabytes_has_no_more_than_allowed():
    box = {"x": 25.733333333333334, "y": 33.125, "width": 12.25, "height": 12.5, "rotation": 0}
    about = {"id": "a1b2c3d4e5", "from_name": "label", "to_name": "image", "origin": "manual"}
    size = {"original_width": 1920, "original_height": 1080, "image_rotation": 0}
    rectangle = {**size, **about, "type": "rectanglelabels",
                 "value": {**box, "rectanglelabels": ["car"]}}  # fmt: skip
    outline = {**size, **about, "type": "polygonlabels",
               "value": {"points": [[37.234042553191486, 58.1]] * 400}}  # fmt: skip
    mask = {**size, **about, "type": "brushlabels",
            "value": {"format": "rle", "rle": list(range(256)) * 40}}  # fmt: skip
    for result in (rectangle, outline, mask):
        counts = Counts()
        counts.take(result)
        times = MOST_REQUEST_BYTES // len(json.dumps(result) + ", ")
        assert counts.parts * times <= bounded_json.MOST_PARTS
        assert counts.memory * times <= bounded_json.MOST_MEMORY


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_is_refused(word: str):
    with pytest.raises(Unreadable, match=f"^holds {word}, which is no number in JSON$"):
        bounded_json.loads(f'{{"a": [{word}]}}')


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"a"', b"\xff\xfe", b"[1,]", b"9" * 5000, '{"a": 1}'.encode("utf-16"), b'["\\"]'],
)
def test_anything_else_is_not_json(data: bytes):
    with pytest.raises(Unreadable, match=r"^is not JSON$"):
        bounded_json.loads(data)


def test_half_a_character_outside_of_a_text_is_not_json():
    with pytest.raises(Unreadable, match=r"^is not JSON$"):
        bounded_json.loads('{"a": "\ud800"}')
