"""Rows into files, from many machines: what Ray Data calls a datasink.

Ray writes the ids of a file down before the file, and says after it that they are done; what it
finds unfinished when a run goes on, it removes. So that a worker of a driver that was killed cannot
add to a file once its successor has looked, every file is written under the eyes of its owner.
"""

from collections.abc import Iterable
from itertools import tee
from typing import Any

from ray.data.datasource import BlockBasedFileDatasink

from .output import Output, Told, counted, write_rows
from .plain import refuse_stranger
from .rows import rows_of


class RowsSink(BlockBasedFileDatasink):  # type: ignore[misc]  # Ray has no types for it
    """Writes into `output`, as long as the token is its owner's."""

    def __init__(self, output: Output, token: str, format: str, *, rows_per_file: int) -> None:
        super().__init__(
            output.rows.path,
            filesystem=output.rows.system,
            file_format=format,
            min_rows_per_file=rows_per_file,
        )
        self._output, self._token, self._format = output, token, format
        self.told = Told()

    def write(self, blocks: Iterable[Any], ctx: Any) -> Any:
        """What was written, as JSON."""
        refuse_stranger(self._output, self._token)
        to_write, to_count = tee(blocks, 2)
        super().write(to_write, ctx)
        told = Told()
        for block in to_count:
            told.join(counted(rows_of(block)))
        return told.to_json()

    def write_block_to_file(self, block: Any, file: Any) -> None:
        write_rows(list(rows_of(block.to_arrow())), file, self._format)
        refuse_stranger(self._output, self._token)

    def on_write_complete(self, write_result: Any) -> None:
        for told in write_result.write_returns:
            if told is not None:
                self.told.join(Told.from_json(told))
