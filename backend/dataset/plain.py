"""The engine without a cluster: one process, one model, one file of rows after the other."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence

from .fetching import DatasetFetching, ahead
from .listing import Ids
from .output import Output, Told, refuse_stranger, write_rows
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
        self._bytes, self._since = 0, clock()

    def add(self, row: Row) -> None:
        """Raises BadRequest where another process took the folder over."""
        if not self._rows:
            self._since = self._clock()
        self._rows.append(row)
        self._bytes += len(row.result or "") + len(row.data)
        old = self._clock() - self._since >= OLDEST
        if old or len(self._rows) >= self._most or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            write_file(self._rows, self._output, self._token, self._format)
            self._rows, self._bytes = [], 0


def write_file(rows: Sequence[Row], output: Output, token: str, format: str) -> None:
    """One new file. Raises BadRequest where another process took the folder over."""
    name = f"{time.time_ns():020}-{secrets.token_hex(4)}.{format}"
    hidden, place = output.rows / f".{name}", output.rows / name
    target = hidden if place.is_local else place  # stores have a file as a whole or not at all
    with target.system.open_output_stream(target.path) as file:
        write_rows(rows, file, format)
        refuse_stranger(output, token)
    if target is hidden:
        target.system.move(hidden.path, place.path)


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
    for path, _ in output.rows.files():  # of a process that was killed
        if path.rpartition("/")[2].startswith("."):
            output.place.system.delete_file(path)
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
            done.close()
            writer.flush()
        told.again = max(ids.again - told.already, 0)
