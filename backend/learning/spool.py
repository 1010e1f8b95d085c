"""Events on the disk of this machine, from the answer to the moment the store has them.

A killed process forgets what it had in memory, and Label Studio sends no event twice; so an event
is in a file before it is acknowledged, one file each. Writing to the store instead would make the
annotator wait for it: a store may be away, and a file of SQLite may be locked by another program.

A file gets its name when it is whole; what the name ends in says who made what is in it, so nobody
outside can pass for us. What is not whole was never acknowledged, and is cleared away. A process
that is killed loses nothing; a power cut may take the last moments, since nothing here waits for
the disk itself. Several processes may share a folder: taking up what another one is still at work
on does no harm, as events may be noted twice.
"""

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 128 * 1_000_000  # of all files together, as this process knows them
MOST_FILES: Final = 20_000
EVENT, NUMBERS, PART = ".event", ".kept", ".part"  # as it came, of our own making, not whole
ABANDONED: Final = 60.0  # seconds after which a file that is not whole is nobody's work


class Spool:
    """For many threads; the folder is made when it is first needed. Nothing here raises."""

    def __init__(
        self, folder: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES
    ) -> None:
        self.folder = folder
        self._most_bytes, self._most_files = most_bytes, most_files
        self._lock = threading.Lock()  # of the next four
        self._held: dict[str, int] = {}  # files that somebody here answers for, and their bytes
        self._bytes = 0
        self._trouble: str | None = None  # of keeping
        self._unreadable: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the last event could not be kept, or files not be read; one sentence."""
        with self._lock:
            return self._trouble or self._unreadable

    @property
    def unreadable(self) -> str | None:
        """Why `left` does not give all there is, one sentence; None once it did."""
        with self._lock:
            return self._unreadable

    def __len__(self) -> int:
        """How many events it holds, as far as this process knows."""
        with self._lock:
            return len(self._held)

    def keep(self, told: bytes, *, ends: str = EVENT, replaces: Collection[str] = ()) -> str | None:
        """Keep it on disk; its name there, None where that cannot be: `trouble` says why.

        `ends`: `EVENT` or `NUMBERS`. `replaces`: files that are dropped next; for their sake it may
        be more than there is room for, since a full spool could never get smaller otherwise.
        """
        with self._lock:
            full = len(self._held) >= self._most_files
            full = full or self._bytes + len(told) > self._most_bytes
        if full and not replaces:
            self._say(f"{self.folder} is full: too many events wait to be written down")
            return None
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}{ends}"
        part = self.folder / f"{name}{PART}"
        self._hold(name, len(told))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(told)
            part.rename(self.folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self.let_go([name])
            self._say(
                f"events cannot be kept in {self.folder} ({error.strerror}); make room there, or "
                "name another folder with SPOOL_DIR"
            )
            return None
        with self._lock:
            self._trouble = None
        return name

    def left(self) -> Iterator[tuple[str, bytes]]:
        """Files that nobody here answers for yet, the oldest first; from now on somebody does.
        What cannot be read stays, and `unreadable` says so until all can."""
        trouble, found = None, list[Path]()
        try:
            found = sorted(self.folder.iterdir())
        except FileNotFoundError:
            pass
        except OSError as error:
            trouble = self._cannot_read(self.folder, error)
        for file in found:
            if file.suffix == PART:
                _clear_away(file)
            elif file.suffix in (EVENT, NUMBERS) and file.name not in self._held:
                try:
                    told = file.read_bytes()
                except FileNotFoundError:  # another process was done with it
                    continue
                except OSError as error:
                    trouble = self._cannot_read(file, error)
                    continue
                self._hold(file.name, len(told))
                yield file.name, told
        with self._lock:
            self._unreadable = trouble

    def drop(self, names: Iterable[str]) -> None:
        """The store has them."""
        for name in self.let_go(names):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def let_go(self, names: Iterable[str]) -> list[str]:
        """Answer for them no longer; they stay, for `left`. Those it was about."""
        gone = list(names)
        with self._lock:
            for name in gone:
                self._bytes -= self._held.pop(name, 0)
        return gone

    def try_again(self) -> None:
        """Whether events can be kept now, where the last could not."""
        with self._lock:
            trouble = self._trouble
        if trouble is not None and (name := self.keep(b"")) is not None:
            self.drop([name])
            logger.info("events can be kept in %s again", self.folder)

    def _hold(self, name: str, nbytes: int) -> None:
        with self._lock:
            self._held[name] = nbytes
            self._bytes += nbytes

    def _say(self, trouble: str) -> None:
        with self._lock:
            before, self._trouble = self._trouble, trouble
        if before is None:
            logger.error("%s; until then they are in memory only", trouble)

    def _cannot_read(self, path: Path, error: OSError) -> str:
        """At once, since who asks may not ask for the rest."""
        trouble = f"{path} cannot be read ({error.strerror}); events in it wait"
        with self._lock:
            before, self._unreadable = self._unreadable, trouble
        if before is None:
            logger.error("%s", trouble)
        return trouble


def _clear_away(part: Path) -> None:
    """A file that never became whole, unless somebody is writing it right now."""
    with contextlib.suppress(OSError):
        if abs(time.time() - part.stat().st_mtime) > ABANDONED:
            part.unlink()
