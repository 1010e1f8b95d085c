"""A store in Redis: for several processes, on one machine or on many. Not for a Redis Cluster.

Every method is one script that Redis runs as a whole, so nobody sees half of it. A Redis that is
full refuses the first command of a script that needs memory: in every script that one comes before
what would have to be undone. All keys begin with `cliper:`; Redis must keep them all, see
docs/reference/storage.md.

    schema                 of what lies here
    revision, use          counters that never go back
    records                hash: written key -> "revision text"
    order                  sorted set of the records' written keys, all with score 0
    logs                   sorted set of the logs' written keys, all with score 0
    last                   hash: log -> highest number it gave
    lines:LOG              sorted set: "number text" with the number as score
    words:LOG              hash: what `once` was said -> number
    counts                 hash: bytes of all blobs, number of lines, number of words
    blob:KEY               string
    sizes, uses            hash and sorted set of blobs: bytes, number of the last use
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from ..errors import StorageAway, StorageError, StorageUnfit
from .address import redacted
from .base import ABSENT, SCHEMA, Counts, Entry, Json, Key, Record, from_text, span, to_text

SPACE = "cliper:"
PAGE = 200  # keys read at once
CONNECTIONS = 64  # at the same time; more callers wait
LARGEST = 500_000_000  # bytes of one blob; Redis takes 512 MiB per value
IDLE_CHECK = 30  # seconds after which a connection is tried before it is used

PRELUDE = f"""
local function key(name) return '{SPACE}' .. name end
local function text(number) return string.format('%.0f', number) end
local function drop_blob(name)
    local size = redis.call('HGET', key('sizes'), name)
    if size then
        redis.call('HINCRBY', key('counts'), 'blob bytes', 0 - size)
        redis.call('DEL', key('blob:') .. name)
        redis.call('HDEL', key('sizes'), name)
        redis.call('ZREM', key('uses'), name)
    end
end
local function use(name)
    redis.call('ZADD', key('uses'), redis.call('INCR', key('use')), name)
end
local function evict(most)
    while tonumber(redis.call('HGET', key('counts'), 'blob bytes') or 0) > most do
        drop_blob(redis.call('ZRANGE', key('uses'), 0, 0)[1])
    end
end
"""

SCRIPTS = {
    "begin": f"""
        local found = redis.call('GET', key('schema'))
        if not found then
            redis.call('SET', key('schema'), '{SCHEMA}')
            found = '{SCHEMA}'
        end
        if found == '{SCHEMA}' then evict(tonumber(ARGV[1])) end
        return found
    """,
    "get": "return redis.call('HGET', key('records'), ARGV[1])",
    "swap": """
        local name, expected, value = ARGV[1], ARGV[2], ARGV[3]
        local found = redis.call('HGET', key('records'), name)
        local revision = found and string.match(found, '^%d+') or '0'
        if revision ~= expected then return -1 end
        if not value then
            redis.call('HDEL', key('records'), name)
            redis.call('ZREM', key('order'), name)
            return 0
        end
        local new = redis.call('INCR', key('revision'))
        redis.call('HSET', key('records'), name, text(new) .. ' ' .. value)
        redis.call('ZADD', key('order'), 0, name)
        return new
    """,
    "scan": f"""
        local names = redis.call('ZRANGEBYLEX', key('order'), ARGV[1], ARGV[2], 'LIMIT', 0, {PAGE})
        if #names == 0 then return {{names, names}} end
        return {{names, redis.call('HMGET', key('records'), unpack(names))}}
    """,
    "append": """
        local log, value, word = ARGV[1], ARGV[2], ARGV[3]
        if word then
            local said = redis.call('HGET', key('words:') .. log, word)
            if said then return tonumber(said) end
        end
        local number = redis.call('HINCRBY', key('last'), log, 1)
        redis.call('ZADD', key('logs'), 0, log)
        redis.call('ZADD', key('lines:') .. log, number, text(number) .. ' ' .. value)
        redis.call('HINCRBY', key('counts'), 'lines', 1)
        if word then
            redis.call('HSET', key('words:') .. log, word, text(number))
            redis.call('HINCRBY', key('counts'), 'words', 1)
        end
        return number
    """,
    "entries": """
        return redis.call('ZRANGEBYSCORE', key('lines:') .. ARGV[1], '(' .. ARGV[2], '+inf',
            'LIMIT', 0, ARGV[3])
    """,
    "trim": """
        local lines = key('lines:') .. ARGV[1]
        local gone = redis.call('ZCOUNT', lines, '-inf', ARGV[2])
        redis.call('HINCRBY', key('counts'), 'lines', 0 - gone)
        redis.call('ZREMRANGEBYSCORE', lines, '-inf', ARGV[2])
    """,
    "logs": f"""
        local names = redis.call('ZRANGEBYLEX', key('logs'), ARGV[1], '+', 'LIMIT', 0, {PAGE})
        if #names == 0 then return {{names, names}} end
        return {{names, redis.call('HMGET', key('last'), unpack(names))}}
    """,
    "words": f"return redis.call('HSCAN', key('words:') .. ARGV[1], ARGV[2], 'COUNT', {PAGE})",
    # log, last, number of lines, then number and text of each line, then word and number of each
    "restore": """
        local log, last, lines = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
        redis.call('ZADD', key('logs'), 0, log)
        local at = 4
        for _ = 1, lines do
            local number, place = ARGV[at], key('lines:') .. log
            if redis.call('ZCOUNT', place, number, number) == 0 then
                redis.call('ZADD', place, number, number .. ' ' .. ARGV[at + 1])
                redis.call('HINCRBY', key('counts'), 'lines', 1)
            end
            last = math.max(last, tonumber(number))
            at = at + 2
        end
        while ARGV[at] do
            local new = redis.call('HSETNX', key('words:') .. log, ARGV[at], ARGV[at + 1])
            redis.call('HINCRBY', key('counts'), 'words', new)
            at = at + 2
        end
        last = math.max(last, tonumber(redis.call('HGET', key('last'), log) or 0))
        redis.call('HSET', key('last'), log, text(last))
    """,
    "drop_log": """
        local log = ARGV[1]
        redis.call('HINCRBY', key('counts'), 'lines', 0 - redis.call('ZCARD', key('lines:') .. log))
        redis.call('HINCRBY', key('counts'), 'words', 0 - redis.call('HLEN', key('words:') .. log))
        redis.call('DEL', key('lines:') .. log, key('words:') .. log)
        redis.call('HDEL', key('last'), log)
        redis.call('ZREM', key('logs'), log)
    """,
    "put_blob": """
        local name, most, data = ARGV[1], tonumber(ARGV[2]), ARGV[3]
        drop_blob(name)
        if not data then return end
        redis.call('SET', key('blob:') .. name, data)
        redis.call('HSET', key('sizes'), name, #data)
        redis.call('HINCRBY', key('counts'), 'blob bytes', #data)
        use(name)
        evict(most)
    """,
    "get_blob": """
        local data = redis.call('GET', key('blob:') .. ARGV[1])
        if data then pcall(use, ARGV[1]) end -- a full Redis can still be read
        return data
    """,
    "blob_bytes": "return tonumber(redis.call('HGET', key('counts'), 'blob bytes') or 0)",
    "newest_use": "return redis.call('GET', key('use')) or '0'",
    "blobs": f"""
        return redis.call('ZRANGEBYSCORE', key('uses'), '(' .. ARGV[1], ARGV[2], 'WITHSCORES',
            'LIMIT', 0, {PAGE})
    """,
    "counts": """
        local function count(name) return tonumber(redis.call('HGET', key('counts'), name) or 0) end
        return {redis.call('HLEN', key('records')), redis.call('ZCARD', key('logs')),
            count('lines'), count('words'), redis.call('HLEN', key('sizes')), count('blob bytes')}
    """,
}
# Asked twice where a connection breaks before the answer: nothing happens twice by that.
READING = frozenset(
    {"begin", "get", "scan", "entries", "logs", "words", "blob_bytes", "newest_use", "blobs",
     "counts"}
)  # fmt: skip
FULL = "is full and takes nothing more; raise its maxmemory"


class RedisStorage:
    """Connects when it is used, so Redis may come later than the service.

    Raises StorageUnfit at once where Redis answers and holds another format or may forget keys,
    StorageAway where it refuses the password or does not speak as a Redis does.
    """

    def __init__(self, url: str, *, max_blob_bytes: int, timeout: float = 10.0) -> None:
        """`url` as the client library takes it; `timeout` in seconds, for each answer."""
        self._name = f"Redis at {redacted(url)}"
        self._max_blob_bytes = max_blob_bytes
        # A command sent again after a broken connection could be done twice: nothing is retried
        # behind our back.
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                health_check_interval=IDLE_CHECK,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
            pool.connection_class(**pool.connection_kwargs)  # sees options nobody knows
        except (ValueError, TypeError):
            raise StorageError(
                f"{redacted(url)} is no address of a Redis; one looks like redis://host:6379/0"
            ) from None
        self._client = redis.Redis(connection_pool=pool)
        self._scripts = {
            name: self._client.register_script(PRELUDE + text) for name, text in SCRIPTS.items()
        }
        self._known = False  # to be fit
        try:
            self._begin()
        except StorageAway as away:
            if isinstance(away.__cause__, (AuthenticationError, InvalidResponse)):
                raise  # waiting mends no password, and no address

    @property
    def name(self) -> str:
        return self._name

    # --- records ---------------------------------------------------------------------------

    def get(self, key: Key) -> Record | None:
        found = self._run("get", str(key))
        return None if found is None else _record(found)

    def swap(self, key: Key, value: Json, *, expected: int) -> int | None:
        text = to_text(value)
        told = [] if value is None else [text]
        revision = self._run("swap", str(key), expected, *told)
        return None if revision < ABSENT else int(revision)

    def scan(self, prefix: Key | None, *, after: Key | None = None) -> Iterator[tuple[Key, Record]]:
        start, end = span(prefix)
        low = f"[{start}"
        if after is not None and str(after) >= start:
            low = f"({after}"
        while True:
            names, values = self._run("scan", low, f"({end}")
            for name, value in zip(names, values, strict=True):
                yield Key.parse(name.decode()), _record(value)
            if len(names) < PAGE:
                return
            low = f"({names[-1].decode()}"

    # --- logs ------------------------------------------------------------------------------

    def append(self, log: Key, entry: Json, *, once: str | None = None) -> int:
        told = [] if once is None else [once]
        return int(self._run("append", str(log), to_text(entry), *told))

    def entries(self, log: Key, *, after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        found = self._run("entries", str(log), after, max(limit, 0))
        return [Entry(number, value) for value, number in map(_record, found)]

    def trim(self, log: Key, *, upto: int) -> None:
        self._run("trim", str(log), upto)

    def logs(self) -> Iterator[tuple[Key, int]]:
        low = "-"
        while True:
            names, numbers = self._run("logs", low)
            for name, last in zip(names, numbers, strict=True):
                yield Key.parse(name.decode()), int(last)
            if len(names) < PAGE:
                return
            low = f"({names[-1].decode()}"

    def words(self, log: Key) -> Iterator[tuple[str, int]]:
        cursor = b"0"
        seen: set[str] = set()  # Redis may give a word twice while others are said
        while True:
            cursor, found = self._run("words", str(log), cursor)
            for word, number in zip(found[::2], found[1::2], strict=True):
                if word.decode() not in seen:
                    seen.add(word.decode())
                    yield word.decode(), int(number)
            if cursor == b"0":
                return

    def restore(
        self, log: Key, lines: Sequence[Entry], words: Sequence[tuple[str, int]], *, last: int
    ) -> None:
        told: list[str | int] = [str(log), last, len(lines)]
        for line in lines:
            told += [line.number, to_text(line.value)]
        for word, number in words:
            told += [word, number]
        self._run("restore", *told)

    def drop_log(self, log: Key) -> None:
        self._run("drop_log", str(log))

    # --- blobs -----------------------------------------------------------------------------

    def put_blob(self, key: Key, data: bytes) -> bool:
        fits = len(data) <= min(self._max_blob_bytes, LARGEST)
        self._run("put_blob", str(key), self._max_blob_bytes, *([data] if fits else []))
        return fits

    def get_blob(self, key: Key) -> bytes | None:
        found: bytes | None = self._run("get_blob", str(key))
        return found

    def drop_blob(self, key: Key) -> None:
        self._run("put_blob", str(key), self._max_blob_bytes)

    def blob_bytes(self) -> int:
        return int(self._run("blob_bytes"))

    def blobs(self) -> Iterator[Key]:
        used, end = b"0", self._run("newest_use")
        while found := self._run("blobs", used, end):
            yield from (Key.parse(name.decode()) for name in found[::2])
            used = found[-1]

    def counts(self) -> Counts:
        return Counts(*self._run("counts"))

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    # --- scripts ---------------------------------------------------------------------------

    def _begin(self) -> None:
        """See that what lies there is ours to use. Raises StorageUnfit and StorageAway."""
        memory: dict[str, Any] = {}
        with self._errors(), contextlib.suppress(NoPermissionError):  # then nobody can know
            memory = self._client.info("memory")  # type: ignore[assignment]
        policy = str(memory.get("maxmemory_policy", ""))
        if memory.get("maxmemory") and policy.startswith("allkeys"):
            raise StorageUnfit(
                f"{self.name} forgets keys when it is full (maxmemory-policy {policy}); set it to "
                "noeviction"
            )
        found = self._call("begin", self._max_blob_bytes).decode(errors="replace")
        if found.isdecimal() and int(found) > SCHEMA:
            raise StorageUnfit(
                f"{self.name} is of a newer version of this program (format {found}, this one "
                f"reads {SCHEMA}); use that version, or another database number"
            )
        if found != str(SCHEMA):
            raise StorageUnfit(
                f"{self.name} has keys named {SPACE}* of another program; use another database "
                "number"
            )
        self._known = True

    def _run(self, script: str, *told: str | int | bytes) -> Any:
        if not self._known:
            self._begin()
        return self._call(script, *told)

    def _call(self, script: str, *told: str | int | bytes) -> Any:
        with self._errors():
            try:
                return self._scripts[script](args=list(told))
            except (AuthenticationError, AuthorizationError, BusyLoadingError):
                raise
            except redis.ConnectionError:
                if script not in READING:
                    raise
                return self._scripts[script](args=list(told))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Redis's errors as ours, each with a sentence; what is a mistake of ours stays."""
        try:
            yield
        except RedisError as error:
            if isinstance(error, ResponseError) and "WRONGTYPE" in str(error):
                raise StorageUnfit(
                    f"{self.name} has keys named {SPACE}* of another program; use another "
                    "database number"
                ) from error
            reason = _reason(error)
            if reason is None:
                raise
            raise StorageAway(f"{self.name} {reason}") from error


def _reason(error: RedisError) -> str | None:
    """Why Redis did not do it, None where that is a mistake of ours; never its address."""
    match error:
        case AuthenticationError() | AuthorizationError():
            return "refuses user or password; write redis://user:password@host:6379/0"
        case NoPermissionError():
            return f"does not let this user do it; allow it all commands on {SPACE}*"
        case BusyLoadingError():
            return "is still loading its data; try again in a minute"
        case redis.TimeoutError():
            return "did not answer in time"
        case redis.ConnectionError():
            return "cannot be reached; see that it runs and that the address is right"
        case OutOfMemoryError():
            return FULL
        case InvalidResponse():
            return "does not speak as a Redis does; see that the address is right"
        case ReadOnlyError():
            return "is a replica that takes no writes; name the one that does"
    words = str(error)
    if "OOM" in words:  # inside a script these come as plain errors
        return FULL
    if "READONLY" in words:
        return "is a replica that takes no writes; name the one that does"
    if "MISCONF" in words:
        return "cannot write to its disk; make room there"
    if words.startswith(("BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")):
        return "is busy; try again"
    return None


def _record(text: bytes) -> Record:
    """`revision value` as it is written."""
    number, _, value = text.partition(b" ")
    return Record(from_text(value), int(number))
