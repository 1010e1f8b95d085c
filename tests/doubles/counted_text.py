"""How many sentences a text tower was given."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cliper_model.backbones.clip import ClipBackbone


@contextmanager
def counted_sentences() -> Iterator[list[int]]:
    """One number per batch, of any CLIP, as long as the context lasts."""
    calls: list[int] = []
    encode = ClipBackbone._encode_batches

    def counting(clip, batches):
        calls.extend(len(batch) for batch in batches)
        return encode(clip, batches)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ClipBackbone, "_encode_batches", counting)
        yield calls
