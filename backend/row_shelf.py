"""Text rows in memory, then in the store: a word is encoded once, whoever asks and however often
the service is started."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cliper_model.backbones.row_shelf import RowKey

from .keeping import Keeping
from .metrics.meters import Meters
from .result_cache import ResultCache

MEMORY_BYTES = 16 * 1_000_000  # some 6,000 rows of ViT-B/16
BESIDES = 500  # bytes of a remembered row that are not its numbers


@dataclass(frozen=True)
class _Row:
    values: Float[Tensor, " embed"]

    @property
    def nbytes(self) -> int:
        return BESIDES + self.values.numel() * self.values.element_size()


class KeptRows:
    """The RowShelf of a process; rows belong to models, not to projects. For many threads."""

    def __init__(
        self,
        keeping: Keeping,
        *,
        memory_bytes: int = MEMORY_BYTES,
        meters: Meters | None = None,
    ) -> None:
        self._keeping, self._meters = keeping, meters or Meters()
        self._near: ResultCache[_Row] = ResultCache(max_bytes=memory_bytes)
        self._lock = threading.Lock()  # of what follows
        self._counts = {"memory": 0, "store": 0, "computed": 0}

    def get(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Float[Tensor, " embed"]]:
        """Those remembered; what only the store has is remembered here from then on."""
        near = {key: row.values for key in keys if (row := self._near.get(key)) is not None}
        far = {}
        for key in keys:
            if key not in near and (values := self._keeping.row(key)) is not None:
                far[key] = values
                self._near.put(key, _Row(values))
        self._count("memory", len(near))
        self._count("store", len(far))
        for found, rows in (("memory", near), ("store", far)):
            self._meters.asked_cache("rows", found, len(rows))
        self._meters.asked_cache("rows", "nowhere", len(set(keys)) - len(near) - len(far))
        return {**near, **far}

    def put(self, rows: Mapping[RowKey, Float[Tensor, " embed"]]) -> None:
        """Remembered at once, and written to the store some time soon."""
        for key, values in rows.items():
            self._near.put(key, _Row(values))
            self._keeping.keep_row(key, values)
        self._count("computed", len(rows))

    def facts(self) -> Mapping[str, int]:
        """For `/health`: where rows came from since the start."""
        with self._lock:
            return dict(self._counts)

    def _count(self, where: str, rows: int) -> None:
        with self._lock:
            self._counts[where] += rows
