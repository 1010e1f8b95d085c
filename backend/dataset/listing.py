"""Which tasks there are: pictures of a folder or a bucket, rows of Parquet files, an export.

Nothing is read ahead: a hundred million pictures are listed in the memory of one folder. Lists
whose ids somebody else chose may name one twice; the first counts, `Ids` remembers on disk.
"""

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from ..errors import BadRequest
from .places import Place, place_of, without_keys
from .rows import Given

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
)
BATCH = 256  # rows of a Parquet file read at once
LONGEST_ID = 500  # characters
LOOKED_AT = 1000  # files of a folder, to see what it holds

FOLDER, PARQUET, EXPORT, LINES = "folder", "parquet", "export", "lines"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A data set by its address.

    key      of a task's data, under which the label config looks for its picture
    as_seen  before a picture's path it makes the address Label Studio knows it by; None: the
             address it has here
    column   of Parquet files, with the picture: its address, its path, or its bytes; None: `key`
    """

    place: Place
    kind: str
    key: str | None
    as_seen: str | None = None
    column: str | None = None
    id_column: str = "id"

    @property
    def ids_are_ours(self) -> bool:
        """Paths are told apart by themselves."""
        return self.kind == FOLDER

    def tasks(self) -> Iterator[Given]:
        """Raises BadRequest for what is no list of tasks."""
        if self.kind == FOLDER:
            return self._pictures()
        if self.kind == PARQUET:
            return self._parquet()
        return _exported(self.place) if self.kind == EXPORT else _lines(self.place)

    # -- pictures ---------------------------------------------------------------------

    def _pictures(self) -> Iterator[Given]:
        key = self._needed_key("a folder of pictures")
        root = self.place.path.rstrip("/") + "/"
        for path, _ in self.place.files():
            inside = path.removeprefix(root)
            hidden = any(part.startswith(".") for part in inside.split("/"))
            if hidden or not _is_picture(path):
                continue
            seen = self.place.at(path).address
            if self.as_seen is not None:
                seen = self.as_seen + quote(inside, safe="/")
            yield Given(id=_text_id(inside), data={key: seen}, where=json.dumps([path]))

    def _needed_key(self, what: str) -> str:
        if self.key is None:
            raise BadRequest(
                f"the label config shows several pictures of a task, and {what} has one for "
                "each; give an export or a list of tasks"
            )
        return self.key

    # -- Parquet ----------------------------------------------------------------------

    def _parquet(self) -> Iterator[Given]:
        files = [self.place.path]
        if self.place.is_folder():
            files = [path for path, _ in self.place.files() if _is_parquet(path)]
        key = self._needed_key("a Parquet file")
        for path in files:
            yield from self._rows(path, key)

    def _rows(self, path: str, key: str) -> Iterator[Given]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.place.system.open_input_file(path))
        except (OSError, pa.ArrowException) as error:
            raise BadRequest(f"{path} is no Parquet file that can be read ({error})") from None
        schema = file.schema_arrow
        column = self.column or key
        if column not in schema.names:
            raise BadRequest(
                f"{path} has no column {column!r} with pictures; name it with --picture-column "
                f"(there are {', '.join(schema.names[:20])})"
            )
        inline = _holds_bytes(schema.field(column).type)
        plain = [
            field.name
            for field in schema
            if field.name not in (column, self.id_column) and _is_plain(field.type)
        ]
        named = pa.types.is_struct(schema.field(column).type)
        wanted = [name for name in (self.id_column, *plain) if name in schema.names]
        # of pictures inside only their names are read here
        wanted += [f"{column}.path"] if inline and named else [] if inline else [column]
        root = self.place.path.rstrip("/") + "/"
        stem = path.removeprefix(root) if path.startswith(root) else path.rpartition("/")[2]
        number = 0
        for group in range(file.num_row_groups):
            within = 0
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[group], columns=wanted):
                for row in batch.to_pylist():
                    own = row.get(self.id_column)
                    id = _text_id(own) if own is not None else f"{stem}#{number}"
                    inside = row.get(column)
                    told = inside.get("path") if isinstance(inside, dict) else inside
                    address = str(told or id)
                    where = None
                    if inline:
                        where = json.dumps([path, group, within, column])
                    if self.as_seen is not None:
                        address = self.as_seen + quote(address.lstrip("/"), safe="/")
                    data = {**{name: row[name] for name in plain}, key: address}
                    yield Given(id=id, data=data, where=where)
                    within, number = within + 1, number + 1


def listing_of(
    address: str,
    *,
    key: str | None,
    as_seen: str | None = None,
    column: str | None = None,
    id_column: str = "id",
) -> Listing:
    """Raises BadRequest for what is not there, or is nothing of the kind."""
    place = place_of(address)
    name = place.path.lower()
    if not place.exists() and not place.is_folder():
        raise BadRequest(f"there is no {without_keys(address)}; give --input what is there")
    if place.is_folder():
        some = [path for path, _ in islice(place.files(), LOOKED_AT)]
        kind = PARQUET if any(map(_is_parquet, some)) else FOLDER
        if kind == PARQUET and any(map(_is_picture, some)):
            raise BadRequest(
                f"{without_keys(address)} holds pictures and Parquet files; give --input a folder "
                "of one or the other"
            )
    elif _is_parquet(name):
        kind = PARQUET
    elif name.endswith((".jsonl", ".ndjson")):
        kind = LINES
    elif name.endswith(".json"):
        kind = EXPORT
    else:
        raise BadRequest(
            f"{without_keys(address)} is no list of tasks; give a folder or bucket of pictures, "
            "a .parquet file, an export (.json), or one task per line (.jsonl)"
        )
    return Listing(
        place=place, kind=kind, key=key, as_seen=as_seen, column=column, id_column=id_column
    )


class Ids:
    """Which ids there were already, on disk; a context, in one thread."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="cliper-ids-")  # noqa: SIM115
        self._ids = sqlite3.connect(self._file.name, isolation_level=None)
        self._ids.execute("PRAGMA journal_mode=OFF")
        self._ids.execute("PRAGMA synchronous=OFF")
        self._ids.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self.again = 0

    def __enter__(self) -> Self:
        self._ids.execute("BEGIN")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ids.close()
        self._file.close()

    def is_new(self, id: str) -> bool:
        new = self._ids.execute("INSERT OR IGNORE INTO ids VALUES (?)", (id,)).rowcount == 1
        self.again += not new
        return new

    def first(self, tasks: Iterable[Given]) -> Iterator[Given]:
        """Each id once."""
        return (one for one in tasks if self.is_new(one.id))


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _is_parquet(path: str) -> bool:
    return path.lower().endswith((".parquet", ".pq"))


def _holds_bytes(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return "bytes" in names
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_plain(kind: "pa.DataType") -> bool:
    """What JSON can hold as it is."""
    import pyarrow.types as types

    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
    )


def _exported(place: Place) -> Iterator[Given]:
    name = place.path.rpartition("/")[2]
    try:
        told = json.loads(place.read())
    except ValueError:
        raise BadRequest(f"{name} is not JSON; export the project as JSON") from None
    if not isinstance(told, list):
        raise BadRequest(f"{name} is not a list of tasks; export the project as JSON")
    for number, item in enumerate(told):
        yield _task(item, f"task {number + 1} of {name}", number, exported=True)


def _lines(place: Place) -> Iterator[Given]:
    name = place.path.rpartition("/")[2]
    with place.system.open_input_stream(place.path) as stream:
        for number, line in enumerate(text_lines(stream)):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError:
                raise BadRequest(f"line {number + 1} of {name} is not JSON") from None
            yield _task(item, f"line {number + 1} of {name}", number)


def text_lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(1 << 20):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _task(item: object, which: str, number: int, *, exported: bool = False) -> Given:
    """As Label Studio exports it, as we write it, or its data alone. Only of an export is the id
    Label Studio's number of the task."""
    if not isinstance(item, Mapping):
        raise BadRequest(f"{which} is not a JSON object; export the project as JSON")
    data = item.get("data")
    if not isinstance(data, Mapping):
        raise BadRequest(f"{which} has no data; export the project as JSON, not JSON-MIN")
    id, known = item.get("id"), item.get("number")
    if exported and isinstance(id, int) and not isinstance(id, bool):
        known = id
    return Given(
        id=_text_id(id) if id is not None else f"line-{number + 1}",
        data=dict(data),
        number=known if isinstance(known, int) and not isinstance(known, bool) else None,
    )


def _text_id(value: object) -> str:
    text = str(value)
    if not text or len(text) > LONGEST_ID:
        raise BadRequest(f"an id has to have 1 to {LONGEST_ID} characters, got {text[:40]!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"the id {text[:40]!r} has characters nobody can write") from None
    return text
