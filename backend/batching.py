"""How many pictures a model looks at together: as many as pay off, and as memory allows."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, TypeGuard

from cliper_model import Segmenter
from cliper_model.segmenter import Batching

from .model_pool import ModelChoice

logger = logging.getLogger(__name__)

ON_A_GPU = 8
REMEMBERED_BUCKETS = 64  # whose batches were halved

Bucket = tuple[ModelChoice, Hashable]  # a model's own word for pictures that go together


def is_batching(segmenter: Segmenter) -> TypeGuard[Batching]:
    """Whether it looks at several pictures at once."""
    inner = getattr(segmenter, "inner", segmenter)  # large pictures are cut up around a method
    return isinstance(inner, Batching) and isinstance(segmenter, Batching)


class Batches:
    """Sizes of batches; safe to use from many threads."""

    def __init__(self, wanted: int | None = None) -> None:
        """`wanted`: what the administrator says; None: by the device a model is on."""
        self._wanted = wanted
        self._lock = threading.Lock()
        self._halved: OrderedDict[Bucket, int] = OrderedDict()

    def size(self, segmenter: Segmenter) -> int:
        """How many pictures this model looks at together at most."""
        return self._size(segmenter)[0]

    def most(self, bucket: Bucket, size: int) -> int:
        """What memory allows of `size`, as far as is known."""
        with self._lock:
            return min(size, self._halved.get(bucket, size))

    def halve(self, bucket: Bucket, failed: int) -> None:
        """Memory ran out over so many pictures of a bucket: from now on half as many."""
        half = max(1, failed // 2)
        with self._lock:
            self._halved[bucket] = half
            self._halved.move_to_end(bucket)
            while len(self._halved) > REMEMBERED_BUCKETS:
                self._halved.popitem(last=False)
        logger.warning(
            "out of memory over %d pictures at once (%s); from now on %d",
            failed,
            _name_of(bucket),
            half,
        )

    def facts(self, segmenter: Segmenter | None) -> Mapping[str, Any]:
        """For `/health`: size and why, and the buckets that get smaller ones; asks nobody.

        `segmenter` None: it is not loaded yet.
        """
        size, why = (None, "no model yet") if segmenter is None else self._size(segmenter)
        with self._lock:
            halved = {_name_of(bucket): half for bucket, half in self._halved.items()}
        return {"size": size, "why": why, "halved": halved}

    def _size(self, segmenter: Segmenter) -> tuple[int, str]:
        if not is_batching(segmenter):
            return 1, "the method looks at one picture at a time"
        if self._wanted is not None:
            return self._wanted, "BATCH"
        device = str(getattr(getattr(segmenter, "clip", None), "device", "cpu"))
        if device == "cpu":
            return 1, "a processor gains nothing from more"
        return ON_A_GPU, f"a graphics card ({device})"


def _name_of(bucket: Bucket) -> str:
    choice, inner = bucket
    return " ".join(str(part) for part in (choice.method, choice.profile, inner) if part)
