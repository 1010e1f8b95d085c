"""`cliper report`: what predictions saved, from what people made of them."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest, StorageError
from ..settings import Settings
from . import running

if TYPE_CHECKING:
    from ..report.learnt import LearntVersion
    from ..report.making import Asked, Report
    from ..report.sources import Source

HELP = (
    "What pre-labelling saves: predictions of a project, or of a JSON export, held against the "
    "annotations people made of them. Writes report.html and report.json; nothing is written to "
    "Label Studio."
)
MOST_WORST = 50
MOST_SAMPLE = 500


def configure(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--project", type=int, metavar="ID", help="its number in Label Studio")
    which.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="a JSON export with annotations; predictions as Label Studio kept them with each "
        "annotation, or whole where the export holds them",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="where the pictures of an export are; default: fetched from where the tasks say",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results go; default: report-ID or report"
    )
    parser.add_argument("--version", metavar="V", help="only this model version; default: all")
    parser.add_argument(
        "--seconds-per-mask",
        type=float,
        metavar="S",
        help="what painting a mask by hand takes; default: measured on pictures without a "
        "prediction or redone where the editor counted, else 30",
    )
    parser.add_argument(
        "--seconds-per-touch",
        type=float,
        metavar="S",
        help="what mending a mask takes; default: measured where possible, else 10",
    )
    parser.add_argument(
        "--seconds-per-look",
        type=float,
        metavar="S",
        help="what looking at a picture takes; default: measured where possible, else 3",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=10,
        metavar="N",
        help="pictures to show, 0 to 50; default: 10",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=40,
        metavar="N",
        help="pictures to try edge-aware masks on, 0 to 500; default: 40",
    )
    running.configure_studio(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, 1 when nothing could be compared, 2 for wrong usage.

    Raises BadRequest, BadSetting, StudioRefused, StudioAway.
    """
    from tqdm import tqdm

    from ..report import making

    asked = _asked(args)
    settings = running.settings_of(args) if args.export is None else running.given_settings(args)
    out = args.out or Path("report" if args.project is None else f"report-{args.project}")
    _prepare(out)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    with _source(args, settings) as (source, total):
        learnt = _learnt(settings, args.project)
        with tqdm(total=total, unit="task", disable=None, file=sys.stderr) as bar:

            def told(done: int) -> None:
                bar.n = done
                bar.refresh()

            seen = making.report(source, asked, made=made, learnt=learnt, told=told)
    _save(seen, out)
    print(summary(seen))
    print(f"look at {out / 'report.html'}")
    return 0 if seen.lines else 1


def summary(seen: "Report") -> str:
    """What matters, in plain text."""
    from ..report.page import headline

    lines = [*headline(seen)]
    if seen.saving.pictures:
        lines += [seen.saving.assumption, seen.saving.details]
    for one in seen.versions:
        lines.append(f"{one.version}: quality {one.mean:.2f} over {one.count} pictures")
    lines += [
        f"advice: {one.sentence}: {one.attribute}" for one in seen.sweeps if one.advice is not None
    ]
    lines += [f"not compared, {count} times: {why}" for why, count in seen.counts.failures.items()]
    return "\n".join(lines)


def _asked(args: argparse.Namespace) -> "Asked":
    """Raises BadRequest."""
    from ..report.making import Asked
    from ..report.saving import Stated

    seconds = {
        name: getattr(args, f"seconds_{name}") for name in ("per_mask", "per_touch", "per_look")
    }
    for name, value in seconds.items():
        if value is not None and not 0 <= value <= 86_400:
            option = f"--seconds-{name.replace('_', '-')}"
            raise BadRequest(f"{option} must be from 0 to 86400, got {value:g}")
    for option, value, most in (
        ("--worst", args.worst, MOST_WORST),
        ("--sample", args.sample, MOST_SAMPLE),
    ):
        if not 0 <= value <= most:
            raise BadRequest(f"{option} must be from 0 to {most}, got {value}")
    if args.images is not None and args.export is None:
        raise BadRequest("--images goes with --export; pictures of a project are fetched")
    return Asked(
        version=args.version, worst=args.worst, sample=args.sample, stated=Stated(**seconds)
    )


@contextlib.contextmanager
def _source(args: argparse.Namespace, settings: Settings) -> Iterator[tuple["Source", int | None]]:
    """Where tasks come from, and how many. Raises BadRequest, StudioRefused, StudioAway."""
    from ..report.sources import ExportSource, Gallery, ProjectSource, existing
    from ..studio.project import StudioProject
    from ..wiring import label_studio, pictures

    folder = existing(args.images, "the folder") if args.images is not None else None
    gallery = Gallery(pictures(settings), folder, timeout=settings.fetch_timeout)
    if args.export is not None:
        path = existing(args.export, "the export")
        yield ExportSource(path, gallery, settings.label_studio_url), None
        return
    address = label_studio(settings)
    assert address is not None  # `settings_of` saw to it
    with contextlib.closing(address.open(time.sleep)) as studio:
        source = ProjectSource(StudioProject(studio, args.project), gallery)
        yield source, source.corrected


def _learnt(settings: Settings, project: int | None) -> Sequence["LearntVersion"]:
    """What the store says was learnt; nothing where there is no store, or none that answers."""
    from ..learning.records import Records
    from ..report.learnt import versions_in
    from ..storage.base import Scope
    from ..storage.open import BLOBS_UNBOUND, open_storage

    if project is None or settings.label_studio_url is None:
        return ()
    try:
        with contextlib.closing(
            open_storage(settings.storage, max_blob_bytes=BLOBS_UNBOUND, create=False)
        ) as storage:
            records = Records(storage, Scope.of(settings.label_studio_url, str(project)))
            return versions_in([one.to_json() for one in records.versions()])
    except StorageError as error:
        print(f"cliper: what was learnt is not in the report: {error}", file=sys.stderr)
        return ()


def _prepare(out: Path) -> None:
    """Raises BadRequest where the folder cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest(f"the folder {out} cannot be made ({error.strerror or error})") from None


def _save(seen: "Report", out: Path) -> None:
    """Raises BadRequest where the folder cannot be written to."""
    from ..report.page import page

    try:
        (out / "report.html").write_text(page(seen), encoding="utf-8")
        text = json.dumps(seen.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (out / "report.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{out} cannot be written to ({error.strerror or error})") from None
