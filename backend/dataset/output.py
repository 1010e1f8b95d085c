"""What a run leaves behind: rows in files, and enough beside them to go on where it was.

OUTPUT/run.json      what the run is about; another run is refused here
OUTPUT/owner         the process at work; whoever finds another one there writes nothing more
OUTPUT/rows/         Parquet or JSON lines; every task once
OUTPUT/tasks/        Ray only: the list of tasks, as it was when the run began
OUTPUT/checkpoint/   Ray only: ids of rows that are in files for good
"""

import io
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import BadRequest
from .places import Place
from .rows import FORMATS, PARQUET, Row, row_table, rows_of

PLAIN, RAY = "plain", "ray"
ENGINES = (PLAIN, RAY)
NO_TASK = "there is no task in --input; look whether it is the right one"
REVISION = 1  # of what lies in the folder
RUN, OWNER, ROWS, TASKS, CHECKPOINT = "run.json", "owner", "rows", "tasks", "checkpoint"
READ_AT_ONCE = 64  # rows of a Parquet file
READERS = 16  # files whose rows are counted at the same time


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is about: with the same the same command goes on, with anything else it must not.

    config  digest of the label config and of the options that make tasks of the input
    """

    engine: str
    format: str
    input: str
    config: str
    version: str
    revision: int = REVISION


@dataclass
class Told:
    """How a run went, for the table in its end."""

    rows: int = 0
    regions: int = 0
    empty: int = 0
    already: int = 0
    again: int = 0  # ids that came more than once
    left: int = 0  # tasks whose servers did not answer: they have no row
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)  # kind -> id, reason

    def add(self, row: Row) -> None:
        self.rows += 1
        if row.kind is not None:
            self.failures[row.kind] += 1
            self.examples.setdefault(row.kind, (row.id, row.reason or ""))
        else:
            self.regions += row.regions
            self.empty += not row.regions

    def join(self, other: "Told") -> None:
        self.rows += other.rows
        self.regions += other.regions
        self.empty += other.empty
        self.failures.update(other.failures)
        self.examples = {**other.examples, **self.examples}

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "regions": self.regions,
            "empty": self.empty,
            "already": self.already,
            "again": self.again,
            "left": self.left,
            "failed": self.failed,
            "failures": {
                kind: {
                    "count": count,
                    "id": self.examples[kind][0],
                    "reason": self.examples[kind][1],
                }
                for kind, count in self.failures.most_common()
            },
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Told":
        made = cls(rows=told["rows"], regions=told["regions"], empty=told["empty"])
        for kind, one in told["failures"].items():
            made.failures[kind] = one["count"]
            made.examples[kind] = (one["id"], one["reason"])
        return made


class Output:
    """The folder of a run."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rows, self.tasks = place / ROWS, place / TASKS
        self.checkpoint = place / CHECKPOINT

    def begin(self, run: Run) -> str:
        """Take the folder for a run, or go on with it; the owner's token. Raises BadRequest for a
        folder in which something else is."""
        found = self.run()
        if found is None:
            if next(iter(self.place.files()), None) is not None:
                raise BadRequest(
                    f"{self.place.path} holds something else; give --output a new folder"
                )
            self.place.make_folder()
            (self.place / RUN).write((json.dumps(asdict(run), indent=1) + "\n").encode())
        elif found != run:
            name = next(name for name, value in asdict(run).items() if value != asdict(found)[name])
            raise BadRequest(
                f"{self.place.path} holds a run with another {name} "
                f"({asdict(found)[name]}, not {asdict(run)[name]}); give --output a new folder, "
                "or the same command as then"
            )
        self.rows.make_folder()
        self.mend()
        token = secrets.token_hex(8)
        (self.place / OWNER).write(token.encode())
        return token

    def run(self) -> Run | None:
        """What the folder's run is about; None where there is none. Raises BadRequest."""
        place = self.place / RUN
        if not place.exists():
            return None
        try:
            return Run(**json.loads(place.read()))
        except (ValueError, TypeError):
            raise BadRequest(
                f"{place.path} was not written by this program, or by a newer one; give another "
                "folder"
            ) from None

    def mend(self) -> None:
        """Take away what a run that was killed left half done.

        Ray removes the rows of a file that it finds both pending and done, and takes them for
        done; of two such the pending one goes. What is done and has no rows is not done.
        """
        run = self.run()
        if run is None or run.engine != RAY:
            for path, _ in self.rows.files():
                if path.rpartition("/")[2].startswith("."):
                    self.place.at(path).delete()
            return
        committed = set(self.committed())
        for path, _ in self.checkpoint.files():
            stem = path.rpartition("/")[2].removesuffix(".parquet")
            if stem.removesuffix(".pending") != stem and stem.removesuffix(".pending") in committed:
                self.place.at(path).delete()
        there = {_stem(path) for path, _ in self.rows.files()}
        for stem in committed - there:
            (self.checkpoint / f"{stem}.parquet").delete()

    def clear_up(self) -> None:
        """In the end: files of rows that nobody says are done go, so that who reads all files
        reads each row once."""
        committed = set(self.committed())
        for path, _ in self.rows.files():
            if _stem(path) not in committed:
                self.place.at(path).delete()

    def without_doubles(self) -> int:
        """Leave each row once, where two workers wrote it; how many rows there are then."""
        from .listing import Ids

        count = 0
        with Ids() as ids:
            for place in self.files():
                rows = list(read_rows(place))
                first = [row for row in rows if ids.is_new(row.id)]
                count += len(first)
                if len(first) < len(rows):
                    place.write(written(first, place.path.rpartition(".")[2]))
        return count

    def is_owned_by(self, token: str) -> bool:
        return (self.place / OWNER).read() == token.encode()

    def files(self) -> Iterator[Place]:
        """Files of rows that are there for good, in the order of their names."""
        run = self.run()
        committed = None if run is None or run.engine != RAY else set(self.committed())
        for path, _ in self.rows.files():
            name = path.rpartition("/")[2]
            if name.startswith(".") or name.rpartition(".")[2] not in FORMATS:
                continue
            if committed is None or _stem(path) in committed:
                yield self.place.at(path)

    def committed(self) -> Iterator[str]:
        """Names, without suffix, of the files whose rows Ray has found to be written."""
        for path, _ in self.checkpoint.files():
            stem, _, suffix = path.rpartition("/")[2].rpartition(".")
            if suffix == "parquet" and not stem.endswith(".pending"):
                yield stem

    def count_committed(self) -> int:
        """Rows that Ray has found to be written."""
        with ThreadPoolExecutor(READERS) as readers:  # in a bucket each of them is a journey
            return sum(readers.map(self._count, self.committed()))

    def _count(self, stem: str) -> int:
        import pyarrow.parquet as pq

        place = self.checkpoint / f"{stem}.parquet"
        with place.system.open_input_file(place.path) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def read(self) -> Iterator[Row]:
        """Every row, file by file. Raises BadRequest for a file that is damaged."""
        for place in self.files():
            try:
                yield from read_rows(place)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BadRequest(f"{place.path} cannot be read ({error})") from None

    def ids(self) -> Iterator[str]:
        """Of every row."""
        for place in self.files():
            if place.path.endswith(f".{PARQUET}"):
                import pyarrow.parquet as pq

                with place.system.open_input_file(place.path) as file:
                    for batch in pq.ParquetFile(file).iter_batches(columns=["id"]):
                        yield from batch["id"].to_pylist()
            else:
                yield from (one.id for one in read_rows(place))


def refuse_stranger(output: Output, token: str) -> None:
    """Raises BadRequest where another process took the folder over."""
    if not output.is_owned_by(token):
        raise BadRequest(
            f"another process works into {output.place.path} now; this one ends, and what it has "
            "written stays"
        )


def read_rows(place: Place) -> Iterator[Row]:
    """Rows of one file. Raises OSError, ValueError, KeyError, TypeError for a damaged one."""
    if place.path.endswith(f".{PARQUET}"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        with place.system.open_input_file(place.path) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=READ_AT_ONCE):
                yield from rows_of(pa.Table.from_batches([batch]))
        return
    from .listing import text_lines

    with place.system.open_input_stream(place.path) as stream:
        for line in text_lines(stream):
            yield Row.from_line(line.decode())


def written(rows: Sequence[Row], format: str) -> bytes:
    """Rows as a file in one of FORMATS: stores publish whatever was begun, so it is made before."""
    if format != PARQUET:
        return b"".join(row.to_line().encode() + b"\n" for row in rows)
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(row_table(rows), buffer, compression="zstd")
    return buffer.getvalue()


def _stem(path: str) -> str:
    """`rows/abc_000001.jsonl` -> `abc_000001`."""
    return path.rpartition("/")[2].rpartition(".")[0]


def counted(rows: Iterable[Row]) -> Told:
    told = Told()
    for row in rows:
        told.add(row)
    return told
