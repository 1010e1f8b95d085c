"""`cliper storage`: what is kept, and moving it from one store into another."""

import argparse
import os
import sys

from tqdm import tqdm

from ..errors import StorageError
from ..settings import Settings
from ..storage.address import scheme_of
from ..storage.base import Storage
from ..storage.copy import MERGES, Copied, copy
from ..storage.open import BLOBS_UNBOUND, open_storage

HELP = (
    "What is kept between runs, and moving it into another store; addresses as in STORAGE: "
    "sqlite:PATH or redis://HOST:PORT/NUMBER."
)
MEGA = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    copying = actions.add_parser("copy", help="copy everything of one store into another")
    copying.add_argument("source", metavar="FROM", help="the store to read; stop the service first")
    copying.add_argument("target", metavar="TO", help="the store to write; made where it is new")
    copying.add_argument(
        "--merge",
        choices=list(MERGES),
        help="allow TO to hold something; of a key that both have, "
        + ", ".join(f"'{word}': {meaning}" for word, meaning in MERGES.items()),
    )
    showing = actions.add_parser("info", help="how much lies in a store")
    showing.add_argument("address", nargs="?", metavar="ADDRESS", help="default: STORAGE")


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Raises StorageError and its kin."""
    settings = Settings.from_environ(os.environ)
    if args.action == "copy":
        return _copy(args.source, args.target, args.merge, int(settings.storage_blobs_mb * MEGA))
    return _info(args.address or settings.storage)


def _copy(source_address: str, target_address: str, merge: str | None, bound: int) -> int:
    for address in (source_address, target_address):
        if scheme_of(address) == "memory":
            raise StorageError("what is in memory ends with its process and cannot be copied")
    source = _open(source_address)
    try:
        target = open_storage(target_address, max_blob_bytes=bound)
        try:
            if source.name == target.name:
                raise StorageError(f"{source.name} cannot be copied into itself")
            done = _with_progress(source, target, merge)
        finally:
            target.close()
    finally:
        source.close()
    print(
        f"{done.records} records, {done.logs} logs with {done.lines} lines, {done.blobs} blobs "
        f"copied to {target.name}"
    )
    if done.kept or done.passed:
        print(
            f"{done.kept} records and logs that were there have been kept, {done.passed} blobs "
            "left out: they were there or do not fit into STORAGE_BLOBS_MB"
        )
    return 0


def _with_progress(source: Storage, target: Storage, merge: str | None) -> Copied:
    total = sum(source.counts()[:-1])  # all but the bytes
    with tqdm(total=total, unit="item", disable=None, file=sys.stderr) as bar:
        return copy(source, target, merge=merge, tell=lambda done: bar.update(sum(done) - bar.n))


def _info(address: str) -> int:
    store = _open(address)
    try:
        counts = store.counts()
    finally:
        store.close()
    rows = (
        ("store", store.name),
        ("records", counts.records),
        ("logs", f"{counts.logs} with {counts.lines} lines"),
        ("blobs", f"{counts.blobs} with {counts.blob_bytes / MEGA:.1f} MB"),
    )
    for name, value in rows:
        print(f"{name:<9}{value}")
    return 0


def _open(address: str) -> Storage:
    """A store to read, which must be there; its bound is left to those who write into it."""
    return open_storage(address, max_blob_bytes=BLOBS_UNBOUND, create=False)
