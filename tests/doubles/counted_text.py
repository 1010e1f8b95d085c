"""How many sentences a text tower was given."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cliper_model.backbones.clip import ClipBackbone


@contextmanager
def counted_sentences() -> Iterator[list[int]]:
    """One number per call of `encode_text`, of any CLIP, as long as the context lasts."""
    calls: list[int] = []
    encode_text = ClipBackbone.encode_text

    def counting(clip, tokens):
        calls.append(len(tokens))
        return encode_text(clip, tokens)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ClipBackbone, "encode_text", counting)
        yield calls
