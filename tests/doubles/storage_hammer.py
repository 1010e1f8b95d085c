"""A process that writes into a store with all its might.

Usage: python -m tests.doubles.storage_hammer ADDRESS NAME TURNS. Says "begun" when it is ready and
"done" at the end; TURNS 0 goes on until it is killed.
"""

import itertools
import sys

from backend.storage.base import Json, Key, Scope, Storage, change
from backend.storage.open import open_storage

PLACE = Key(Scope("http://studio:8080", "1"))
COUNTER, LOG, BLOBS = PLACE / "counter", PLACE / "log", PLACE / "blobs"
BOUND = 200_000  # bytes of all blobs


def main(address: str, name: str, turns: int) -> None:
    store = open_storage(address, max_blob_bytes=BOUND)
    print("begun", flush=True)
    for turn in range(turns) if turns else itertools.count():
        work(store, name, turn)
    store.close()
    print("done", flush=True)


def work(store: Storage, name: str, turn: int) -> None:
    """One more in the counter, a line of its own, a line all share, and some bytes."""

    def one_more(old: Json) -> Json:
        counts = {**(old or {})}
        counts[name] = counts.get(name, 0) + 1
        return counts

    change(store, COUNTER, one_more)
    store.append(LOG, [name, turn])
    store.append(LOG, ["shared", turn], once=f"shared {turn}")
    store.put_blob(BLOBS / f"{name} {turn % 7}", name.encode() * 10_000)
    if turn % 20 == 0:
        store.get_blob(BLOBS / f"{name} {turn % 7}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
