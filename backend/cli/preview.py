"""`cliper preview`: what a run over a project would bring, on a sample, with nothing written."""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest
from . import running

if TYPE_CHECKING:
    from ..prelabel.preview import Preview

HELP = (
    "Look before you pre-label: masks of a few tasks of a project, which labels are found and how "
    "surely, and what time and room the whole would take. Writes page.html, sheet.png and "
    "preview.json; nothing is written to Label Studio."
)
WIDEST = 28  # letters of a label in the table


def configure(parser: argparse.ArgumentParser) -> None:
    from ..prelabel.wanted import FILTER_HELP

    parser.add_argument("--project", type=int, required=True, metavar="ID", help="its number")
    parser.add_argument(
        "-n", type=int, default=24, metavar="TASKS", help="tasks to look at, 1 to 200; default: 24"
    )
    parser.add_argument("--view", type=int, metavar="ID", help="only a tab of the Data Manager")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="CONDITION",
        help=f"only tasks for which it holds, {FILTER_HELP}; several have to hold together",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results go; default: preview-ID"
    )
    running.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, 1 when every task of the sample failed, 2 for wrong usage.

    Raises BadRequest, BadSetting, ConfigError, ModelFailed, StudioRefused, StudioAway.
    """
    from tqdm import tqdm

    from ..prelabel import preview as use_case
    from ..prelabel.page import command
    from ..prelabel.wanted import Wanted
    from ..studio.project import StudioProject
    from ..wiring import check_choice, label_studio, store

    if not 1 <= args.n <= use_case.MOST_TASKS:
        raise BadRequest(f"-n must be from 1 to {use_case.MOST_TASKS}, got {args.n}")
    wanted = Wanted.from_json({"project": args.project, "view": args.view, "filters": args.filter})
    settings = running.settings_of(args)
    check_choice(settings)
    out = args.out or Path(f"preview-{args.project}")
    _prepare(out)
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
            tqdm(total=args.n, unit="task", disable=None, file=sys.stderr) as bar,
        ):

            def told(done: int, of: int) -> None:
                bar.total, bar.n = of, done
                bar.refresh()

            seen = use_case.preview(
                project,
                services.predictor,
                wanted,
                args.n,
                shares_processor=running.shares_processor(settings, services),
                told=told,
            )
    _save(seen, out)
    print(table(seen))
    print(f"look at {out / 'page.html'}, then go on with: {command(wanted)}")
    return 1 if seen.tasks and seen.failed == len(seen.tasks) else 0


def table(seen: "Preview") -> str:
    """Labels, regions, time, room and warnings in plain text."""
    from ..prelabel.figures import duration, number, percent, plural, size

    to_do, matching = len(seen.candidates.to_do), len(seen.candidates.all)
    lines = [
        f"project {seen.facts.id} {seen.facts.title!r}: {number(to_do)} of "
        f"{plural(matching, 'task')} to pre-label with {seen.version}",
        f"looked at {plural(len(seen.tasks), 'task')}, {number(seen.failed)} failed, "
        f"{plural(sum(seen.regions), 'region')}",
    ]
    if seen.rows:
        wide = min(max(len(row.label) for row in seen.rows), WIDEST)
        lines += ["", f"{'label':<{wide}}  {'found in':>9}  {'presence':>8}  {'area':>6}  regions"]
        for row in sorted(seen.rows, key=lambda one: -one.share):
            middle = row.presence(0.5)
            presence = "rest" if middle is None else f"{middle:.2f}"
            area = "–" if row.area is None else percent(row.area)
            lines.append(
                f"{row.label[:WIDEST]:<{wide}}  {f'{row.found} of {row.asked}':>9}  "
                f"{presence:>8}  {area:>6}  {row.regions:>7}"
            )
        lines.append("")
    for one in seen.failures.values():
        such = ", ".join(map(str, one.tasks))
        lines.append(f"failed: {one.sentence} ({plural(one.count, 'task')}, such as {such})")
    if to_do:
        foretold = seen.estimate
        lines.append(
            f"time: about {duration(foretold.seconds)}, {foretold.seconds_per_task:.3g} s per "
            f"task; room: about {size(foretold.disk_bytes)} in Label Studio's database"
        )
    lines += [f"warning: {sentence}" for sentence in seen.warnings()]
    return "\n".join(lines)


def _prepare(out: Path) -> None:
    """Raises BadRequest where the folder cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(f"the folder {out} cannot be made ({error.strerror or error})") from None


def _save(seen: "Preview", out: Path) -> None:
    """Raises BadRequest where the folder cannot be written to."""
    from ..prelabel.page import page
    from ..prelabel.sheet import draw

    headline = f"{seen.facts.title or 'Project'} ({seen.facts.id}): picture | what was found"
    try:
        (out / "page.html").write_text(page(seen), encoding="utf-8")
        draw(seen.tiles, seen.palette, headline).save(out / "sheet.png")
        text = json.dumps(seen.to_json(), indent=2, ensure_ascii=False) + "\n"
        (out / "preview.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{out} cannot be written to ({error.strerror or error})") from None
