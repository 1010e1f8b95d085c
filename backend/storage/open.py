"""The table of stores: which one an address names."""

from typing import Protocol

from ..errors import StorageError
from .address import redacted, scheme_of, sqlite_path
from .base import Storage
from .memory import MemoryStorage
from .sqlite import SqliteStorage

__all__ = ["BLOBS_UNBOUND", "OPENERS", "Opener", "open_storage", "redacted"]

BLOBS_UNBOUND = 1 << 50  # bytes; for reading a store whose bound is not ours to enforce


class Opener(Protocol):
    """Opens one kind of store. Without `create` a store that is not there is a StorageError."""

    def __call__(self, address: str, *, max_blob_bytes: int, create: bool) -> Storage: ...


def open_storage(address: str, *, max_blob_bytes: int, create: bool = True) -> Storage:
    """The store an address names. Raises StorageError, StorageUnfit and StorageAway."""
    return OPENERS[scheme_of(address)](address, max_blob_bytes=max_blob_bytes, create=create)


def _memory(address: str, *, max_blob_bytes: int, create: bool) -> Storage:
    return MemoryStorage(max_blob_bytes=max_blob_bytes)


def _sqlite(address: str, *, max_blob_bytes: int, create: bool) -> Storage:
    return SqliteStorage(sqlite_path(address), max_blob_bytes=max_blob_bytes, create=create)


def _redis(address: str, *, max_blob_bytes: int, create: bool) -> Storage:
    try:
        from .redis import RedisStorage
    except ModuleNotFoundError as missing:
        if missing.name != "redis":
            raise
        raise StorageError(
            f"{redacted(address)} needs the package redis: install cliper-label-studio[redis]"
        ) from None
    return RedisStorage(address, max_blob_bytes=max_blob_bytes)


OPENERS: dict[str, Opener] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "memory": _memory,
}
