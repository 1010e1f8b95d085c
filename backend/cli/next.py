"""`cliper next`: which pictures people should correct next, as a tab of the Data Manager."""

import argparse
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING

from ..errors import BadRequest
from . import running

if TYPE_CHECKING:
    from ..learning.next_up import NextUp

HELP = (
    "Find the tasks whose correction teaches most: where the model is in doubt, and about labels "
    "that were not corrected often. They become a tab of the Data Manager, worst score first; the "
    "tab of the last time is filled anew."
)


def configure(parser: argparse.ArgumentParser) -> None:
    from ..learning.next_up import MOST_LOOKED_AT

    parser.epilog = (
        "Exit status: 0 done; 1 nothing is left to correct; 2 it cannot begin or go on, the "
        "sentence says why."
    )
    parser.add_argument("--project", type=int, required=True, metavar="ID", help="its number")
    parser.add_argument(
        "-n", type=int, default=50, metavar="TASKS", help="how many, 1 to 500; default: 50"
    )
    parser.add_argument(
        "--among",
        type=int,
        default=MOST_LOOKED_AT,
        metavar="TASKS",
        help=f"look at so many tasks at most, evenly chosen; default: {MOST_LOOKED_AT}",
    )
    parser.add_argument(
        "--print", action="store_true", dest="only_print", help="make no tab in Label Studio"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    running.configure(parser)


def run(args: argparse.Namespace) -> int:
    """See the epilogue. Raises BadRequest, BadSetting, ConfigError, ModelFailed, StudioRefused,
    StudioAway."""
    from tqdm import tqdm

    from ..learning import next_up as use_case
    from ..studio.project import StudioProject
    from ..wiring import check_choice, label_studio, store

    if not 1 <= args.n <= use_case.MOST:
        raise BadRequest(f"-n must be from 1 to {use_case.MOST}, got {args.n}")
    if args.among < args.n:
        raise BadRequest(f"--among must be at least as many as -n, {args.n}, got {args.among}")
    settings = running.settings_of(args)
    check_choice(settings)
    address = label_studio(settings)
    assert address is not None  # `settings_of` saw to it
    with (
        contextlib.closing(address.open(time.sleep)) as studio,
        contextlib.closing(store(settings)) as storage,
    ):
        project = StudioProject(studio, args.project)
        project.facts()  # before the model is loaded: a wrong number costs no minutes
        with running.ModelBar() as note:
            services = running.ready_services(settings, note, taught_by=storage)
        with (
            contextlib.closing(services),
            tqdm(unit="task", disable=None, file=sys.stderr) as bar,
        ):

            def told(done: int, of: int) -> None:
                bar.total, bar.n = of, done
                bar.refresh()

            found = use_case.next_up(
                project,
                services.predictor,
                storage,
                address.scope(args.project),
                count=args.n,
                among=args.among,
                told=told,
            )
        tab = None
        if found.tasks and not args.only_print:
            name = use_case.title(len(found.tasks))
            tab = project.save_tab(name, found.tasks, is_ours=use_case.is_ours)
    where = f"{address.url}/projects/{args.project}/data?tab={tab}" if tab is not None else None
    if args.json:
        print(json.dumps({**found.to_json(), "tab": tab, "address": where}))
    else:
        print("\n".join(lines(found, where)))
    return 0 if found.tasks else 1


def lines(found: "NextUp", where: str | None) -> list[str]:
    """For people."""
    told = [f"looked at {found.looked} of {found.free} tasks nobody has worked on"]
    told += [f"task {task} could not be looked at: {why}" for task, why in found.failed.items()]
    if not found.tasks:
        return [*told, "nothing is left to correct"]
    wide = max(len(str(task)) for task in found.tasks)
    told += [
        f"  task {task:>{wide}}  {', '.join(labels)}"
        for task, labels in zip(found.tasks, found.reasons, strict=True)
    ]
    if where is not None:
        told.append(f"correct them in {where}")
    return told
