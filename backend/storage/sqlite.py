"""A store in one SQLite file: for one machine, any number of threads and processes.

Writes take the file's write lock at their beginning (BEGIN IMMEDIATE), so nobody reads what he
then finds changed. With a write-ahead log and `synchronous=NORMAL` a process that is killed loses
nothing it was told is written; a power cut may take the last moments, and damages nothing.

Blobs carry the number of their last use, taken from a counter in the file: no clock is trusted.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StorageAway, StorageError, StorageUnfit
from .base import ABSENT, SCHEMA, Counts, Entry, Json, Key, Record, from_text, span, to_text

Value = TypeVar("Value")

APPLICATION_ID = 0x434C4950  # "CLIP", in the file's header
PAGE = 200  # rows read at once
IDLE = 8  # connections kept open
LARGEST = 900_000_000  # bytes of one blob; SQLite ends at 1e9 per row
LOG_BYTES = 64 * 1024 * 1024  # the write-ahead log shrinks to this
SPARE_PAGES = 1024  # of 4 KiB: free pages the file may keep for what is written next
TABLES = (
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE records (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE logs (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, last INTEGER NOT NULL)",
    "CREATE TABLE lines (log INTEGER, number INTEGER, value TEXT NOT NULL,"
    " PRIMARY KEY (log, number)) WITHOUT ROWID",
    "CREATE TABLE words (log INTEGER, word TEXT, number INTEGER NOT NULL,"
    " PRIMARY KEY (log, word)) WITHOUT ROWID",
    # bytes have a table of their own, so that noting a use does not write them again
    "CREATE TABLE blobs (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,"
    " used INTEGER NOT NULL UNIQUE)",
    "CREATE TABLE bytes (blob INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "INSERT INTO counters VALUES ('revision', 0), ('use', 0), ('blob bytes', 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA}",
)


class SqliteStorage:
    """The file is made where there is none; `create=False` makes that a StorageError.

    Open it in the process that uses it: connections do not survive a fork. Raises StorageUnfit
    and StorageAway.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_blob_bytes: int,
        timeout: float = 10.0,
        create: bool = True,
    ) -> None:
        """`timeout`: seconds to wait for another program's write."""
        self._path = Path(os.path.abspath(Path(path).expanduser()))
        self._max_blob_bytes = max_blob_bytes
        self._timeout = timeout
        self._writing = threading.Lock()  # waiting in line is kinder than SQLite's polling
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._file = self._make_file(create)
        with self._errors():
            self._prepare()
            if self.blob_bytes() > max_blob_bytes:
                self._write(self._evict)

    @property
    def name(self) -> str:
        return f"SQLite at {self._path}"

    # --- records ---------------------------------------------------------------------------

    def get(self, key: Key) -> Record | None:
        rows = self._read("SELECT value, revision FROM records WHERE key = ?", str(key))
        return Record(from_text(rows[0][0]), rows[0][1]) if rows else None

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        name, text = str(key), to_text(value)

        def swapped(db: sqlite3.Connection) -> int | None:
            found = db.execute("SELECT revision FROM records WHERE key = ?", (name,)).fetchone()
            if (found[0] if found else ABSENT) != expected:
                return None
            if value is None:
                db.execute("DELETE FROM records WHERE key = ?", (name,))
                return ABSENT
            revision = _count(db, "revision")
            db.execute("REPLACE INTO records VALUES (?, ?, ?)", (name, text, revision))
            return revision

        return self._write(swapped)

    def scan(self, prefix: Key | None, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        start, end = span(prefix)
        compare = ">="
        if after is not None and str(after) >= start:
            start, compare = str(after), ">"
        while True:
            page = self._read(
                f"SELECT key, value, revision FROM records WHERE key {compare} ? AND key < ?"
                f" ORDER BY key LIMIT {PAGE}",
                start,
                end,
            )
            for name, text, revision in page:
                yield Key.parse(name), Record(from_text(text), revision)
            if len(page) < PAGE:
                return
            start, compare = page[-1][0], ">"

    # --- logs ------------------------------------------------------------------------------

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        name, text = str(log), to_text(entry)
        (once or "").encode()  # UnicodeEncodeError is a ValueError

        def appended(db: sqlite3.Connection) -> int:
            found = db.execute("SELECT id, last FROM logs WHERE key = ?", (name,)).fetchone()
            place, last = found or (_new_log(db, name), 0)
            if once is not None:
                said = db.execute(
                    "SELECT number FROM words WHERE log = ? AND word = ?", (place, once)
                ).fetchone()
                if said:
                    return int(said[0])
                db.execute("INSERT INTO words VALUES (?, ?, ?)", (place, once, last + 1))
            db.execute("UPDATE logs SET last = ? WHERE id = ?", (last + 1, place))
            db.execute("INSERT INTO lines VALUES (?, ?, ?)", (place, last + 1, text))
            return int(last) + 1

        return self._write(appended)

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        rows = self._read(
            "SELECT number, value FROM lines WHERE log = (SELECT id FROM logs WHERE key = ?)"
            " AND number > ? ORDER BY number LIMIT ?",
            str(log),
            after,
            max(limit, 0),
        )
        return [Entry(number, from_text(text)) for number, text in rows]

    def trim(self, log: Key, *, upto: int) -> None:
        def trimmed(db: sqlite3.Connection) -> None:
            db.execute(
                "DELETE FROM lines WHERE log = (SELECT id FROM logs WHERE key = ?) AND number <= ?",
                (str(log), upto),
            )

        self._write(trimmed, frees=True)

    def logs(self) -> Iterator[tuple[Key, int]]:
        name = ""
        while page := self._read(
            f"SELECT key, last FROM logs WHERE key > ? ORDER BY key LIMIT {PAGE}", name
        ):
            for name, last in page:
                yield Key.parse(name), last

    def words(self, log: Key) -> Iterator[tuple[str, int]]:
        word, compare = "", ">="
        while page := self._read(
            "SELECT word, number FROM words WHERE log = (SELECT id FROM logs WHERE key = ?)"
            f" AND word {compare} ? ORDER BY word LIMIT {PAGE}",
            str(log),
            word,
        ):
            yield from page
            word, compare = page[-1][0], ">"

    def restore(
        self, log: Key, lines: Sequence[Entry], words: Sequence[tuple[str, int]], *, last: int
    ) -> None:
        name = str(log)
        texts = [(line.number, to_text(line.value)) for line in lines]
        last = max(last, 0, *(number for number, _ in texts))

        def restored(db: sqlite3.Connection) -> None:
            found = db.execute("SELECT id FROM logs WHERE key = ?", (name,)).fetchone()
            place = found[0] if found else _new_log(db, name)
            db.execute("UPDATE logs SET last = max(last, ?) WHERE id = ?", (last, place))
            db.executemany(
                "INSERT OR IGNORE INTO lines VALUES (?, ?, ?)",
                [(place, number, text) for number, text in texts],
            )
            db.executemany(
                "INSERT OR IGNORE INTO words VALUES (?, ?, ?)",
                [(place, word, number) for word, number in words],
            )

        self._write(restored)

    def drop_log(self, log: Key) -> None:
        def dropped(db: sqlite3.Connection) -> None:
            found = db.execute("SELECT id FROM logs WHERE key = ?", (str(log),)).fetchone()
            if found:
                db.execute("DELETE FROM lines WHERE log = ?", found)
                db.execute("DELETE FROM words WHERE log = ?", found)
                db.execute("DELETE FROM logs WHERE id = ?", found)

        self._write(dropped, frees=True)

    # --- blobs -----------------------------------------------------------------------------

    def put_blob(self, key: Key, data: bytes) -> bool:
        name = str(key)
        fits = len(data) <= min(self._max_blob_bytes, LARGEST)

        def put(db: sqlite3.Connection) -> bool:
            _drop(db, "key = ?", name)
            if fits:
                added = db.execute(
                    "INSERT INTO blobs (key, size, used) VALUES (?, ?, ?)",
                    (name, len(data), _count(db, "use")),
                )
                db.execute("INSERT INTO bytes VALUES (?, ?)", (added.lastrowid, data))
                _count(db, "blob bytes", len(data))
                self._evict(db)
            return fits

        return self._write(put, frees=True)

    def get_blob(self, key: Key) -> bytes | None:
        rows = self._read(
            "SELECT id, used = (SELECT value FROM counters WHERE name = 'use'), data"
            " FROM blobs JOIN bytes ON blob = id WHERE key = ?",
            str(key),
        )
        if not rows:
            return None
        place, newest, data = rows[0]
        if not newest:
            # a file that cannot be written now can still be read
            with contextlib.suppress(StorageAway):
                self._write(lambda db: _touch(db, place))
        return bytes(data)

    def drop_blob(self, key: Key) -> None:
        def dropped(db: sqlite3.Connection) -> None:
            _drop(db, "key = ?", str(key))

        self._write(dropped, frees=True)

    def blob_bytes(self) -> int:
        return int(self._read("SELECT value FROM counters WHERE name = 'blob bytes'")[0][0])

    def blobs(self) -> Iterator[Key]:
        used = 0
        end = self._read("SELECT value FROM counters WHERE name = 'use'")[0][0]
        while page := self._read(
            f"SELECT key, used FROM blobs WHERE used > ? AND used <= ? ORDER BY used LIMIT {PAGE}",
            used,
            end,
        ):
            yield from (Key.parse(name) for name, _ in page)
            used = page[-1][1]

    def counts(self) -> Counts:
        tables = ("records", "logs", "lines", "words", "blobs")
        sums = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        bytes_of_blobs = "(SELECT value FROM counters WHERE name = 'blob bytes')"
        return Counts(*self._read(f"SELECT {sums}, {bytes_of_blobs}")[0])

    def close(self) -> None:
        """Connections in use are closed by whoever uses them; later calls raise StorageAway."""
        with self._pool_lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # --- transactions ----------------------------------------------------------------------

    def _evict(self, db: sqlite3.Connection) -> None:
        """Let the blobs go that were used longest ago, until the rest is within the bound."""
        total = db.execute("SELECT value FROM counters WHERE name = 'blob bytes'").fetchone()[0]
        while total > self._max_blob_bytes:
            total -= _drop(db, "used = (SELECT min(used) FROM blobs)")

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._errors(), self._connection() as db:
            return db.execute(query, values).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], Value], *, frees: bool = False) -> Value:
        """`work` in a transaction of its own, written when it returns."""
        if not self._writing.acquire(timeout=self._timeout):
            raise StorageAway(f"{self.name} is busy with other writes; try again")
        try:
            with self._errors(), self._connection() as db:
                db.execute("BEGIN IMMEDIATE")
                value = work(db)
                db.execute("COMMIT")
                if frees:
                    _shrink(db)
                return value
        finally:
            self._writing.release()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of our own for a moment; whatever was begun and not written is undone."""
        self._check_file()
        with self._pool_lock:
            if self._closed:
                raise StorageAway(f"{self.name} is closed")
            db = self._idle.pop() if self._idle else None
        db = db or self._connect()
        try:
            yield db
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            db.close()
            raise
        with self._pool_lock:
            keep = not self._closed and len(self._idle) < IDLE
            if keep:
                self._idle.append(db)
        if not keep:
            db.close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # transactions are begun by hand
            check_same_thread=False,  # one thread at a time has it
        )
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        except BaseException:
            db.close()
            raise
        return db

    # --- the file --------------------------------------------------------------------------

    def _make_file(self, create: bool) -> tuple[int, int]:
        """See that there is a file; its device and number there."""
        if not create and not self._path.is_file():
            raise StorageError(f"there is no store at {self._path}; check the address")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                # an existing file is not opened: closing it would give up SQLite's locks on it
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            found = os.stat(self._path)
        except OSError as error:
            raise StorageAway(
                f"{self.name} cannot be written ({error.strerror}); give the file and its folder "
                f"to user {os.getuid()}, or name another path, as with STORAGE=sqlite:PATH"
            ) from None
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        """A file put in place of ours would take what we write, or our connections would write
        into the one that was taken away."""
        try:
            found = os.stat(self._path)
        except OSError:
            raise StorageAway(f"{self.name} is gone; put the file back or start again") from None
        if (found.st_dev, found.st_ino) != self._file:
            raise StorageAway(f"{self.name} was replaced by another file; start again")

    def _prepare(self) -> None:
        """Tables where there are none; a foreign file is left as it is."""
        with self._connection() as db:
            db.execute("BEGIN")
            ours = self._is_ours(db)
            db.execute("COMMIT")
            if not ours:
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts before the first table only
                db.execute("BEGIN IMMEDIATE")
                if not self._is_ours(db):  # nobody else was faster
                    for statement in TABLES:
                        db.execute(statement)
                db.execute("COMMIT")
            self._log_ahead(db)

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        """Whether there are tables of ours already; False for an empty file. Reads at one moment,
        so it has to be in a transaction."""
        mark = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        if mark == 0 and version == 0 and not tables:
            return False
        if mark != APPLICATION_ID:
            raise StorageUnfit(
                f"the SQLite file {self._path} is another program's; name another path"
            )
        if version > SCHEMA:
            raise StorageUnfit(
                f"{self.name} is of a newer version of this program (format {version}, this one "
                f"reads {SCHEMA}); use that version, or name another path"
            )
        if version != SCHEMA or not {"counters", "records", "logs", "blobs", "bytes"} <= tables:
            raise self._damaged()
        return True

    def _log_ahead(self, db: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log; SQLite does not wait for others here, we do."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise StorageUnfit(
                f"the file system of {self._path} cannot keep a write-ahead log; put the file on "
                "a local disk"
            )

    def _damaged(self) -> StorageUnfit:
        return StorageUnfit(
            f"{self.name} is damaged; move it away with its -wal and -shm files, and put a backup "
            "in its place or start afresh"
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours, each with a sentence; what is a mistake of ours stays."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind
            match code:
                case sqlite3.SQLITE_CORRUPT:
                    raise self._damaged() from error
                case sqlite3.SQLITE_NOTADB:
                    raise StorageUnfit(
                        f"{self._path} is no SQLite file, or its beginning is damaged; move it "
                        "away, or name another path"
                    ) from error
                case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                    raise StorageAway(
                        f"{self.name} was locked by another program for {self._timeout:g} seconds"
                    ) from error
                case sqlite3.SQLITE_FULL:
                    raise StorageAway(
                        f"{self.name} cannot grow: the disk is full; make room"
                    ) from error
                case (
                    sqlite3.SQLITE_READONLY
                    | sqlite3.SQLITE_CANTOPEN
                    | sqlite3.SQLITE_PERM
                    | sqlite3.SQLITE_IOERR
                ):
                    raise StorageAway(
                        f"{self.name} cannot be read or written ({error}); see to the disk and "
                        f"that file and folder belong to user {os.getuid()}"
                    ) from error
                case _:
                    raise


def _count(db: sqlite3.Connection, counter: str, by: int = 1) -> int:
    """Move a counter; its new value."""
    db.execute("UPDATE counters SET value = value + ? WHERE name = ?", (by, counter))
    return int(db.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()[0])


def _new_log(db: sqlite3.Connection, name: str) -> int:
    added = db.execute("INSERT INTO logs (key, last) VALUES (?, 0)", (name,))
    assert added.lastrowid is not None  # of an INSERT
    return added.lastrowid


def _touch(db: sqlite3.Connection, blob: int) -> None:
    db.execute("UPDATE blobs SET used = ? WHERE id = ?", (_count(db, "use"), blob))


def _drop(db: sqlite3.Connection, which: str, *values: str) -> int:
    """Forget the one blob `which` says; its size, 0 where there is none."""
    found = db.execute(f"SELECT id, size FROM blobs WHERE {which}", values).fetchone()
    if not found:
        return 0
    place, size = found
    db.execute("DELETE FROM bytes WHERE blob = ?", (place,))
    db.execute("DELETE FROM blobs WHERE id = ?", (place,))
    _count(db, "blob bytes", -size)
    return int(size)


def _shrink(db: sqlite3.Connection) -> None:
    """Give free pages back to the disk, some at a time; a share is kept for what comes next."""
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    if free > max(SPARE_PAGES, pages // 4):
        with contextlib.suppress(sqlite3.OperationalError):  # locked just now: the next time
            # a script, since execute() would stop at the first page
            db.executescript(f"PRAGMA incremental_vacuum({SPARE_PAGES})")
