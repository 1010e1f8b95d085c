"""A word's row is the same whoever else is asked for, and is made once where it is remembered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

import cliper_model
from cliper_model import Identity, presets
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.row_shelf import RowKey, model_digest
from cliper_model.backbones.tiny import tiny_clip
from cliper_model.methods.clip import PlainClip, config_of
from cliper_model.profiles import get

from ...doubles.counted_text import counted_sentences

TEMPLATES = ("a photo of a {}.", "the {} in the scene.", "{}")
WORDS = ["sky", "a very small dog that sits on a red chair", "blue car", "tree", "house", "zebra"]
CPU = torch.device("cpu")


class Shelf(dict[RowKey, torch.Tensor]):
    """Everything ever put there."""

    def get(self, keys: Sequence[RowKey]) -> Mapping[RowKey, torch.Tensor]:  # type: ignore[override]
        return {key: self[key] for key in keys if key in self}

    def put(self, rows: Mapping[RowKey, torch.Tensor]) -> None:
        self.update(rows)


def a_clip(shelf: Shelf) -> ClipBackbone:
    bare: Any = tiny_clip()
    return ClipBackbone(bare._model, bare._tokenizer, shelf=shelf, weights={"clip": "00ff"})


@pytest.mark.parametrize("profile", ["tiny", "demo"])
def test_a_row_has_the_same_bits_alone_and_in_any_company(profile: str) -> None:
    loaded: Any = None if profile == "tiny" else cliper_model.load("demo", device="cpu")
    clip = tiny_clip() if loaded is None else loaded.clip

    together = clip.encode_words(WORDS, TEMPLATES)
    turned = clip.encode_words(WORDS[::-1], TEMPLATES)

    assert torch.equal(turned.flip(0), together)
    for word, row in zip(WORDS, together, strict=True):
        assert torch.equal(clip.encode_words([word], TEMPLATES)[0], row)


def test_rows_are_the_averages_of_their_sentences() -> None:
    clip = tiny_clip()

    rows = clip.encode_words(["sky", "tree"], TEMPLATES)

    sentences = [template.format(word) for word in ("sky", "tree") for template in TEMPLATES]
    embedded = clip.encode_text(clip.tokenize(sentences)).view(2, len(TEMPLATES), -1)
    expected = torch.nn.functional.normalize(embedded.mean(dim=1), dim=-1)
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=0)


def test_only_words_that_are_not_remembered_are_encoded() -> None:
    clip = a_clip(Shelf())
    with counted_sentences() as calls:
        first = clip.encode_words(["sky", "tree", "sky"], TEMPLATES)
        before = sum(calls)
        second = clip.encode_words(["house", "sky"], TEMPLATES)
        after = sum(calls)
        third = clip.encode_words(["tree", "house"], TEMPLATES)

        assert (before, after, sum(calls)) == (2 * 3, 3 * 3, 3 * 3)
    assert torch.equal(first[0], first[2])
    assert torch.equal(second[1], first[0])
    assert torch.equal(third, torch.stack([first[1], second[0]]))


def test_remembered_rows_are_the_bits_that_would_be_computed() -> None:
    clip = a_clip(Shelf())
    clip.encode_words(WORDS, TEMPLATES)

    remembered = clip.encode_words(WORDS, TEMPLATES)

    assert torch.equal(remembered, tiny_clip().encode_words(WORDS, TEMPLATES))


def test_a_word_in_other_sentences_or_letters_is_another_row() -> None:
    clip = a_clip(Shelf())
    clip.encode_words(["sky"], TEMPLATES)
    with counted_sentences() as calls:
        clip.encode_words(["sky"], TEMPLATES[:2])
        clip.encode_words(["Sky"], TEMPLATES)

    assert calls == [2, 3]


def test_changed_words_of_a_method_cost_their_own_sentences() -> None:
    """Background words and templates of labels included."""
    method = PlainClip(
        a_clip(Shelf()),
        config_of(get("demo", method="clip")),
        presets=lambda name: replace(presets.get(name, "tiny"), templates=TEMPLATES),
        identity=Identity(method="clip", revision=1, profile="tiny"),
    )
    own = cliper_model.Label("roof", templates=("a roof, a {}.",))
    with counted_sentences() as calls:
        before = method.read(["sky", "tree", own], background=["lamp"])
        assert sum(calls) == 3 * len(TEMPLATES) + 1
        calls.clear()
        after = method.read(["house", own, "tree"], background=["lamp", "grass"])

    assert calls == [3, 3]  # house and grass
    assert torch.equal(after.rows[1], before.rows[2])
    assert torch.equal(after.rows[2], before.rows[1])


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": {"clip": "00fe"}},
        {"clip": "ViT-L-14-quickgelu"},
        {"dtype": torch.float16},
        {"device": torch.device("mps")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_rows_of_other_weights_formats_and_devices_are_other_rows(changed: dict[str, Any]) -> None:
    facts: dict[str, Any] = {
        "weights": {"clip": "00ff"},
        "clip": "ViT-B-16-quickgelu",
        "device": CPU,
        "dtype": torch.float32,
    }

    assert model_digest(**facts) == model_digest(**facts)
    assert model_digest(**{**facts, **changed}) != model_digest(**facts)


def test_rows_of_another_number_of_threads_are_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_digest({}, "demo", device=CPU, dtype=torch.float32)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1 + 63)

    assert model_digest({}, "demo", device=CPU, dtype=torch.float32) != before


def test_methods_on_the_same_clip_share_rows() -> None:
    shelf = Shelf()
    for method in ("maskclip", "cliper"):
        loaded = cliper_model.load("demo", method=method, device="cpu", shelf=shelf)
        with counted_sentences() as calls:
            loaded.read(["tree", "house"], background=())

    assert not calls  # of the second
    assert {key.word for key in shelf} == {"tree", "house"}
