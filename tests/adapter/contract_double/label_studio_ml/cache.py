"""Strings per project and key, in one SQLite file."""

import sqlite3
import threading
from pathlib import Path


class Cache:
    def __init__(self, folder: str) -> None:
        self._lock = threading.Lock()
        self._rows = sqlite3.connect(Path(folder) / "cache.db", check_same_thread=False)
        with self._lock, self._rows:
            self._rows.execute(
                "create table if not exists cache (project text, name text, value text,"
                " primary key (project, name))"
            )

    def __getitem__(self, key: tuple[str, str]) -> str | None:
        with self._lock:
            row = self._rows.execute(
                "select value from cache where project = ? and name = ?", key
            ).fetchone()
        return None if row is None else str(row[0])

    def __setitem__(self, key: tuple[str, str], value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"the cache keeps strings, got {type(value).__name__} for {key[1]!r}")
        with self._lock, self._rows:
            self._rows.execute("insert or replace into cache values (?, ?, ?)", (*key, value))

    def __contains__(self, key: tuple[str, str]) -> bool:
        return self[key] is not None

    def close(self) -> None:
        self._rows.close()
