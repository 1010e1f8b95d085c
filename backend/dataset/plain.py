"""The engine without a cluster: one process, one model, one file of rows after the other."""

import secrets
import time
from collections.abc import Callable, Iterable

from ..errors import BadRequest
from .fetching import DatasetFetching, ahead
from .listing import Ids
from .output import NO_TASK, Output, Told, refuse_stranger, written
from .painter import Painter
from .rows import Given, Row

OLDEST = 30.0  # seconds of work that an end by force may cost
MOST_BYTES = 64_000_000  # of results in memory before they are written


class Writer:
    """Rows into files that are whole or not there."""

    def __init__(
        self,
        output: Output,
        token: str,
        format: str,
        *,
        rows_per_file: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output, self._token, self._format = output, token, format
        self._most, self._clock = rows_per_file, clock
        self._rows: list[Row] = []
        self._bytes, self._since, self._place = 0, 0.0, output.rows

    def add(self, row: Row) -> None:
        """Raises BadRequest where another process took the folder over."""
        if not self._rows:
            # a batch has one name: written again, after an interrupt, it is there once
            name = f"{time.time_ns():020}-{secrets.token_hex(4)}.{self._format}"
            self._since, self._place = self._clock(), self._output.rows / name
        self._rows.append(row)
        self._bytes += len(row.result or "") + len(row.data)
        old = self._clock() - self._since >= OLDEST
        if old or len(self._rows) >= self._most or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            data = written(self._rows, self._format)
            refuse_stranger(self._output, self._token)
            self._place.write(data)
            self._rows, self._bytes = [], 0


def run(
    tasks: Iterable[Given],
    painter: Painter,
    fetching: DatasetFetching,
    output: Output,
    *,
    token: str,
    format: str,
    rows_per_file: int,
    told: Told,
    tell: Callable[[Told], None] = lambda _: None,
) -> None:
    """Every task that has no row yet. Raises BadRequest, ConfigError, ModelFailed.

    What is done is written, also where it ends by an error or by hand.
    """
    writer = Writer(output, token, format, rows_per_file=rows_per_file)
    with Ids() as ids:
        for id in output.ids():
            told.already += ids.is_new(id)
        done = ahead(ids.first(tasks), lambda given: fetching.fetched(given, painter.plan))
        try:
            for row in painter.paint(done):
                writer.add(row)
                told.add(row)
                tell(told)
        finally:
            writer.flush()  # before the fetchers end, who may have to wait for somebody
            done.close()
        told.again, told.left = max(ids.again - told.already, 0), painter.left
    if not told.rows + told.already + told.left:
        raise BadRequest(NO_TASK)
