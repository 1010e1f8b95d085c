"""`cliper learn`: learn from a project's corrections here and now, look at it, or take it back."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..settings import Settings
from . import running

if TYPE_CHECKING:
    from ..jobs.base import Job
    from ..learning.records import Records
    from ..prelabel.works import LabelStudio
    from ..storage.base import Storage

HELP = (
    "Learn from the corrections of a project. The service does so by itself; this does it now, in "
    "this process, beside it or without it. What is interrupted goes on where it was."
)
NOTHING = "nothing"  # as a version
EPILOGUE = (
    "Exit status: 0 what was asked for is done, whether or not anything was learnt; 2 it cannot "
    "begin or go on, the sentence says why; 130 interrupted."
)
NAMED = 10  # versions and tasks shown where people read


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOGUE
    parser.add_argument("--project", type=int, required=True, metavar="ID", help="its number")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--now",
        action="store_true",
        help="learn from all corrected tasks, not only up to the last round number",
    )
    what.add_argument(
        "--reread",
        action="store_true",
        help="ask Label Studio about every task, as Start Training does",
    )
    what.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="DIGEST",
        help=f"use this version from now on, whatever is learnt; '{NOTHING}' for none; without "
        "DIGEST the one in use before",
    )
    what.add_argument("--resume", action="store_true", help="take a rollback back")
    what.add_argument(
        "--status", action="store_true", help="show versions, why they are in use or not, and tasks"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    running.configure(parser)


def run(args: argparse.Namespace) -> int:
    """See EPILOGUE. Raises BadRequest, BadSetting, StorageError, and as `check_choice`."""
    from ..learning.records import Records
    from ..learning.status import status, use, use_what_follows
    from ..learning.works import Asked
    from ..wiring import check_choice, label_studio, store

    asked = Asked.from_json({"project": args.project, "reread": args.reread, "now": args.now})
    settings = running.settings_of(args)
    check_choice(settings)
    studio = label_studio(settings)
    assert studio is not None  # `settings_of` saw to it
    with contextlib.closing(store(settings)) as storage:
        records = Records(storage, studio.scope(args.project))
        if args.rollback is not None:
            use(records, _chosen(records, args.rollback))
        elif not args.status:
            if args.resume:
                use_what_follows(records)
            _learn(asked, studio, storage, settings)
        told = status(records)
    print(json.dumps(told) if args.json else "\n".join(lines(told)))
    return 0


def _chosen(records: "Records", wanted: str) -> str:
    """Digest of the version to use; "" for none. Raises BadRequest."""
    from ..learning.status import digest_of, used_before

    if wanted == NOTHING:
        return ""
    return digest_of(records, wanted) if wanted else used_before(records)


def _learn(asked: Any, studio: "LabelStudio", storage: "Storage", settings: Settings) -> None:
    """Do the work in front of the user. Raises Hopeless' sentence as a ServiceError."""
    from ..errors import ServiceError
    from ..jobs.base import Hopeless, Job
    from ..learning.works import GONE, LEARN
    from ..wiring import build, learning

    job = Job(
        id="here",
        kind=LEARN,
        scope=studio.scope(asked.project),
        params=asked.to_json(),
        key="",
    )
    services = build(replace(settings, storage="memory:", auto_prelabel=False))
    with contextlib.closing(services), _shown() as watch:
        services.predictor.crew.start()
        works = learning(settings, studio, services.predictor, storage, watch=watch).works()
        try:
            told = works[LEARN](_InFront(job))
        except Hopeless as error:
            raise ServiceError(str(error)) from error
    if told["phase"] == GONE:
        raise ServiceError(f"project {asked.project} is not there, or not shown to this token")


class _InFront:
    """Implements Handle for a work that the user waits for, and may interrupt at any moment:
    what is learnt does not depend on who else is at it."""

    def __init__(self, job: "Job") -> None:
        self.job = job

    def tell(self, progress: Mapping[str, Any]) -> None:
        return

    def pause(self) -> None:
        return

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


@contextlib.contextmanager
def _shown() -> Iterator[Any]:
    """A line on standard error per phase, and one that counts on a terminal."""
    before = ""

    def watch(told: Mapping[str, Any]) -> None:
        nonlocal before
        line = f"cliper: {told['phase']}"
        counted = f"{line}: {told['done']} of {told['tasks']}" if "done" in told else line
        if sys.stderr.isatty():
            print(f"\r\x1b[K{counted}", end="", file=sys.stderr, flush=True)
        elif line != before:
            print(line, file=sys.stderr, flush=True)
        before = line

    try:
        yield watch
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What `learning.status` says, for people."""
    if told["version"] is None:
        yield "in use: nothing learnt"
    else:
        yield f"in use: version {told['version']}, learnt from {told['learnt_from']} tasks"
    if told["pinned"] is not None:
        yield "this was asked for by --rollback; --resume takes that back"
    if told["unsettled"]:
        yield "something may have changed and is not settled yet"
    yield f"{len(told['tasks']):8d}  corrected tasks are known"
    if told["left_out"]:
        yield f"{len(told['left_out']):8d}  tasks teach nothing:"
        for one in told["left_out"][:NAMED]:
            yield f"          task {one['task']}: {one['reason']}"
    for version in told["versions"][:NAMED]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(version["when"]))
        yield f"{when}  {version['digest']}  {version['state']}, from {version['tasks']} tasks"
        for control, verdict in version["verdicts"].items():
            yield f"                  {control}: {verdict['reason']}"
