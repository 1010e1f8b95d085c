"""`cliper prelabel`: a whole project, unattended; stop and start it whenever you like."""

import argparse
import contextlib
import json
import logging
import resource
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..settings import Settings
from . import dataset_run, running

if TYPE_CHECKING:
    from ..jobs.base import Job
    from ..jobs.book import JobBook
    from ..jobs.running import Running
    from ..prelabel.works import LabelStudio
    from ..storage.base import Storage

HELP = (
    "Write predictions for every task of a project into Label Studio. What is interrupted, by "
    "whatever, goes on where it was when the same command is given again; tasks that people have "
    "annotated, skipped or begun are left alone."
)
HERE = "-here"  # of the kinds of jobs that this command runs itself
DONE, SOME_FAILED, ELSEWHERE, INTERRUPTED = 0, 1, 3, 130
EPILOGUE = (
    "Exit status: 0 everything asked for is done; 1 some tasks failed, see the table; 2 it cannot "
    "begin or go on, the sentence says why; 3 another process is at it; 130 interrupted."
)


def configure(parser: argparse.ArgumentParser) -> None:
    from ..prelabel.wanted import FILTER_HELP

    parser.epilog = EPILOGUE
    parser.add_argument("--project", type=int, metavar="ID", help="its number")
    parser.add_argument(
        "--view", type=int, metavar="ID", help="only a tab of the Data Manager, in its order"
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="CONDITION",
        help=f"only tasks for which it holds, {FILTER_HELP}; several have to hold together",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most N tasks")
    parser.add_argument(
        "--redo",
        action="store_true",
        help="also tasks that have predictions of the present version, which are replaced",
    )
    parser.add_argument(
        "--include-annotated",
        action="store_true",
        help="also tasks that people have annotated, skipped or begun",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="in the end remove predictions of our older versions; what an annotation came from "
        "stays",
    )
    parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")
    parser.add_argument(
        "--undo",
        metavar="VERSION",
        help="remove our predictions of this version; what an annotation came from stays",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    running.configure(parser)
    dataset_run.configure(parser)


def run(args: argparse.Namespace) -> int:
    """See EPILOGUE. Raises BadRequest, BadSetting, StorageError, and as `check_choice`."""
    if args.input is not None:
        return dataset_run.run(args)
    _refuse_data_set(args)
    from ..jobs.book import JobBook
    from ..prelabel.wanted import Wanted
    from ..prelabel.works import PRELABEL, UNDO, read_undo
    from ..wiring import check_choice, label_studio, store

    if args.undo is not None:
        _refuse_choice_of_tasks(args)
        kind = UNDO
        asked = {"project": args.project, "version": args.undo, "dry_run": args.dry_run}
        params = dict(read_undo(asked))
    else:
        kind = PRELABEL
        names = ("project", "view", "limit", "redo", "include_annotated", "replace", "dry_run")
        asked = {name: getattr(args, name) for name in names}
        params = Wanted.from_json({**asked, "filters": args.filter}).to_json()
    settings = running.settings_of(args)
    check_choice(settings)
    studio = label_studio(settings)
    assert studio is not None  # `settings_of` saw to it
    with _logging(settings), contextlib.closing(store(settings)) as storage:
        book = JobBook(storage)
        elsewhere = _elsewhere(book, studio, args.project)
        if elsewhere is not None:
            _say(_at_work(elsewhere, args.project))
            return ELSEWHERE
        job, new = book.place(kind + HERE, params, scope=studio.scope(args.project))
        if not new:
            _say(f"going on with job {job.id}")
        ended = _work(book, job, kind, studio, storage, settings)
    if ended is None:
        _say(f"job {job.id} is in other hands by now")
        return ELSEWHERE
    return _report(ended, as_json=args.json)


def _refuse_data_set(args: argparse.Namespace) -> None:
    """Raises BadRequest for a project that is missing, and for what only a data set has."""
    from ..errors import BadRequest

    for name in ("output", "config", "concurrency", "gpus_per_actor", "ray_address", "as_seen"):
        if getattr(args, name) is not None:
            raise BadRequest(f"--{name.replace('_', '-')} is for a data set; name it with --input")
    if args.engine != dataset_run.PLAIN:
        raise BadRequest("--engine is for a data set; name it with --input")
    if args.project is None:
        raise BadRequest(
            "give --project ID for a project of Label Studio, or --input for a data set"
        )


def _refuse_choice_of_tasks(args: argparse.Namespace) -> None:
    """An undo takes back more than somebody meant who thought to choose. Raises BadRequest."""
    from ..errors import BadRequest

    for name in ("view", "filter", "limit", "redo", "include_annotated", "replace"):
        given = getattr(args, name)
        if given is not None and given is not False and given != []:
            option = name.replace("_", "-")
            raise BadRequest(
                f"--undo takes back all of a version in the project; --{option} does not go with it"
            )


def _work(
    book: "JobBook",
    job: "Job",
    kind: str,
    studio: "LabelStudio",
    storage: "Storage",
    settings: Settings,
) -> "Job | None":
    """Run the job here, in front of the user; the job as it is then, None if it was lost."""
    from ..jobs.base import FAILED, WAITING
    from ..jobs.owner import this_process
    from ..jobs.running import Pace, Running, sentence
    from ..prelabel.works import PRELABEL, ProjectWorks
    from ..storage.patience import Wait, patiently
    from ..wiring import build
    from .run_progress import shown

    wait = Wait()
    patient = book.over(patiently(storage, tell=wait))
    me, token = this_process(), secrets.token_hex(8)
    for other in patient.all(scope=job.scope):  # of earlier commands that were killed
        if not other.ended and other.kind.endswith(HERE) and other.id != job.id:
            left = patient.claim(me, token=token, kinds=(other.kind,), only=other.id)
            if left is not None:
                patient.give_up(left)
    if job.state == WAITING:  # it failed before; whoever gives the command does not wait
        patient.cancel(job.id)
        patient.resume(job.id)
    lease = patient.claim(me, token=token, kinds=(job.kind,), only=job.id)
    if lease is None and patient.get(job.id).state == FAILED:  # killed too often for a runner
        patient.resume(job.id)
        lease = patient.claim(me, token=token, kinds=(job.kind,), only=job.id)
    if lease is None:
        return None
    services = build(replace(settings, storage="memory:", auto_prelabel=False), taught_by=storage)
    at_work = Running(book, lease, pace=Pace(), wait=wait)
    with contextlib.closing(services), shown() as watch, _stopped_by_hand(at_work):
        if kind == PRELABEL:
            services.predictor.crew.start()
        works = ProjectWorks(studio, services.predictor, storage, watch=watch).works()
        return at_work.run({job.kind: works[kind]}, explain=sentence, settle=patient)


def _at_work(job: "Job", project: int) -> str:
    """What to do about a job that is in the way."""
    cancel = f"cancel it with 'curl -X DELETE …/jobs/{job.id}'"
    if job.owner is not None:
        return (
            f"job {job.id} is at work on project {project} ({job.owner}); wait for it, or {cancel} "
            "at the service that runs it"
        )
    return (
        f"job {job.id} on project {project} is {job.state}: a service on this store will do it; "
        f"start one if none runs, or {cancel} there"
    )


def _elsewhere(book: "JobBook", studio: "LabelStudio", project: int) -> "Job | None":
    """A job on this project that a living process is at, or will be."""
    from ..jobs.base import RUNNING
    from ..jobs.owner import is_gone

    for job in book.all(scope=studio.scope(project)):
        if job.ended:
            continue
        ours = job.kind.endswith(HERE)
        alive = job.state == RUNNING and job.owner is not None and not is_gone(job.owner)
        if alive and job.owned_until > book.clock():
            return job
        if not ours and job.state != RUNNING:
            return job  # queued for the service
    return None


@contextlib.contextmanager
def _stopped_by_hand(at_work: "Running") -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops at the next pause, the second one at once."""

    def stop(*_: object) -> None:
        _say("stopping after what is under way; again to stop at once")
        at_work.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging(settings: Settings) -> Iterator[None]:
    """Warnings go to standard error, past the bar; single tasks are in the table in the end."""

    class Past(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tqdm.write(f"cliper: {self.format(record)}", file=sys.stderr)

    handler = Past()
    handler.addFilter(lambda record: not record.getMessage().startswith("task "))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def _report(job: "Job", *, as_json: bool) -> int:
    from ..jobs.base import DONE as ENDED_WELL
    from ..jobs.base import FAILED, WAITING

    told = dict(job.result or job.progress)
    if as_json:
        facts = {"job": job.id, "state": job.state, "reason": job.reason}
        print(json.dumps({**facts, **told, "peak_memory_mib": round(_peak_memory(), 1)}))
    elif told:
        print("\n".join(summary(told, dry_run=bool(job.params.get("dry_run")))))
    if job.state == ENDED_WELL:
        return SOME_FAILED if told.get("failed") else DONE
    if job.state in (FAILED, WAITING):
        again = "" if job.state == FAILED else "; the same command goes on from here"
        _say(f"{job.reason}{again}")
        return 2
    _say("stopped; the same command goes on from here")
    return INTERRUPTED


def _peak_memory() -> float:
    """MiB of this process at its largest. Source: getrusage(2), which counts in KiB on Linux."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def summary(told: Mapping[str, Any], *, dry_run: bool = False) -> Sequence[str]:
    """What was done, line by line, and the table of failures."""
    from ..prelabel.progress import UNDOING

    lines = [f"version {told['model_version']}"] if told.get("model_version") else []
    would = "would be " if dry_run else ""
    undone = told.get("phase") in UNDOING
    for name, words, always in (
        ("written", "predictions written", not undone and not dry_run),
        ("empty", "of them without any region: nothing was found", False),
        ("already", "tasks had this version before", False),
        ("annotated", "tasks left alone: annotated or skipped", False),
        ("drafted", "tasks left alone: somebody has begun", False),
        ("gone", "tasks are no longer there", False),
        ("meanwhile", "tasks done, begun or removed by others meanwhile", False),
        ("removed", f"predictions {would}removed", undone),
        ("kept", "predictions kept: annotations came from them, or their tasks have drafts", False),
        ("left", "tasks to be predicted" if dry_run else "tasks left to do", False),
    ):
        if told.get(name) or always:
            lines.append(f"{told.get(name, 0):8d}  {words}")
    if told.get("failed"):
        lines.append(f"{told['failed']:8d}  tasks failed:")
        for kind, one in told["failures"].items():
            tasks = ", ".join(map(str, one["tasks"]))
            more = " …" if one["count"] > len(one["tasks"]) else ""
            lines.append(f"{one['count']:8d}    {kind}: {one['reason']} (tasks {tasks}{more})")
    if told.get("seconds") and told.get("written"):
        rate = told["written"] / told["seconds"]
        lines.append(f"{told['seconds']:8.0f}  seconds, {rate:.2f} tasks a second")
    return lines


def _say(sentence: str) -> None:
    tqdm.write(f"cliper: {sentence}", file=sys.stderr)
