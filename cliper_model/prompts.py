"""Words -> sentences -> text rows (specification §3, §12)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .segmenter import Vocabulary, canonical_word


def templates(name: str) -> tuple[str, ...]:
    """Sentence patterns of one shipped list, such as "15" or "80"; `{}` takes the word."""
    folder = resources.files(__package__) / "templates"
    lines = (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line.strip())


def pieces_of(words: Sequence[str]) -> tuple[int, ...]:
    """How many tokens CLIP's tokenizer breaks each word into; one or two for words it knows."""
    from open_clip.tokenizer import SimpleTokenizer  # seconds to import

    tokenizer = SimpleTokenizer()
    return tuple(len(tokenizer.encode(word)) for word in words)


def split_background(line: str) -> tuple[str, ...]:
    """Background words of a published class file: separated by blanks or commas."""
    return tuple(word for word in re.split(r"[\s,]+", line) if word)


def split_names(line: str) -> tuple[str, ...]:
    """Names of the demo's text boxes: separated by semicolons; an empty box is one empty name."""
    return tuple(name.strip() for name in line.split(";"))


def least_similar(
    bank: Float[Tensor, "bank embed"],
    label_rows: Float[Tensor, "labels embed"],
    *,
    step: int = 1500,
) -> Int[Tensor, "labels picked"]:
    """For each label the bank rows at every `step`-th place, least similar first (§10)."""
    order = (label_rows @ bank.T).argsort(dim=1)
    return order[:, ::step]


def with_background_rows(
    vocabulary: Vocabulary, background_rows: Float[Tensor, "words embed"]
) -> Vocabulary:
    """The same labels with other background rows, such as those of an embedding bank."""
    front = vocabulary.rows[: len(vocabulary.row_class)]
    return replace(vocabulary, rows=torch.cat([front, background_rows]))


def keep_distinct_background(
    background: Sequence[str],
    *,
    label_words: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Background words that no label uses, without repeats; and the ones dropped for that."""
    taken = {canonical_word(word) for word in label_words}
    kept: dict[str, str] = {}
    dropped = []
    for word in background:
        canonical = canonical_word(word)
        if canonical in taken:
            dropped.append(word)
        elif canonical:
            kept.setdefault(canonical, " ".join(word.split()))
    return tuple(kept.values()), tuple(dropped)


def too_close(
    background_rows: Float[Tensor, "words embed"],
    label_rows: Float[Tensor, "rows embed"],
    *,
    cosine: float,
) -> list[bool]:
    """Which background words stand closer than `cosine` to any word of any label."""
    if not len(background_rows):
        return []
    nearest = (background_rows @ label_rows.T).amax(dim=1)
    return [bool(value) for value in nearest > cosine]


def mean_of_classes(
    rows: Float[Tensor, "rows embed"], row_class: Sequence[int], classes: int
) -> Float[Tensor, " embed"]:
    """Plain average over labels; each label counts once, as the mean of its distinct rows.

    With one word per label this is the published mean of the foreground rows.
    """
    if list(row_class) == list(range(classes)):
        return rows.mean(dim=0)
    groups: list[list[Tensor]] = [[] for _ in range(classes)]
    for row, label in zip(rows, row_class, strict=True):
        if not any(torch.equal(row, other) for other in groups[label]):
            groups[label].append(row)
    return torch.stack([torch.stack(group).mean(dim=0) for group in groups]).mean(dim=0)
