"""A list of tasks out of files, rows into files: what Ray Data calls a datasource and a datasink.

Ray writes the ids of a file down before the file, and says after it that they are done; what it
finds unfinished when a run goes on, it removes. So that a worker of a driver that was killed cannot
add to a file once its successor has looked, every file is written under the eyes of its owner.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import tee
from types import TracebackType
from typing import Any, Self

from ray.data.block import BlockMetadata
from ray.data.datasource import BlockBasedFileDatasink, Datasource, ReadTask

from .output import Output, Told, counted, refuse_stranger, written
from .places import Place
from .rows import given_schema, rows_of

A_TASK = 500  # bytes of a task in a list, about


class TaskList(Datasource):  # type: ignore[misc]  # Ray has no types for it
    """The files of a list, read one by one, a few of them by a task where there are very many."""

    def __init__(self, files: Sequence[Place], *, most_reads: int, tasks: int) -> None:
        super().__init__()
        step = -(-len(files) // most_reads)
        self._parts = [files[first : first + step] for first in range(0, len(files), step)]
        self._tasks = tasks

    def __len__(self) -> int:
        return len(self._parts)

    def estimate_inmemory_data_size(self) -> int:
        return A_TASK * self._tasks

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[Any]:
        """One for every part, whatever `parallelism` says."""
        about = BlockMetadata(
            num_rows=None,
            size_bytes=self.estimate_inmemory_data_size() // len(self),
            input_files=None,
            exec_stats=None,
        )
        return [
            ReadTask(partial(_read, part), about, given_schema(), per_task_row_limit)
            for part in self._parts
        ]


def _read(files: Sequence[Place]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for place in files:
        with place.system.open_input_file(place.path) as file:
            yield pq.read_table(file, schema=given_schema())


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

    def open_output_stream(self, path: str) -> "_Whole":
        """What is written is a file only if its writer still owns the folder by then."""
        return _Whole(self._output, self._token, self._output.rows.at(path))

    def write_block_to_file(self, block: Any, file: Any) -> None:
        file.write(written(list(rows_of(block.to_arrow())), self._format))

    def on_write_complete(self, write_result: Any) -> None:
        for told in write_result.write_returns:
            if told is not None:
                self.told.join(Told.from_json(told))


class _Whole:
    """A file that is there when its context is left without an error, and not before."""

    def __init__(self, output: Output, token: str, place: Place) -> None:
        self._output, self._token, self._place = output, token, place
        self._data = b""

    def write(self, data: bytes) -> None:
        self._data += data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            refuse_stranger(self._output, self._token)
            self._place.write(self._data)
