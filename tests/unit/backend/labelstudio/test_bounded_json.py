"""JSON from outside: what honest bodies hold is read, what would cost far more is refused."""

import json

import pytest

from backend.labelstudio import bounded_json
from backend.labelstudio.bounded_json import MOST_LEVELS, Unreadable


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
