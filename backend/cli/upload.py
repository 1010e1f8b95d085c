"""`cliper upload`: rows of a data set's run into Label Studio, each of them once."""

import argparse
import contextlib
import json
import time

from . import running

HELP = (
    "Write the predictions that 'cliper prelabel --input' left in a folder into a project of Label "
    "Studio. What is there already is left alone, so the same command may be given again at any "
    "time; tasks that people have annotated, skipped or begun are left alone too."
)
EPILOGUE = (
    "Exit status: 0 everything is there; 1 some rows failed, see the table; 2 it cannot go on."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOGUE
    parser.add_argument("rows", metavar="FOLDER", help="as --output was; s3://… too")
    parser.add_argument("--project", type=int, required=True, metavar="ID", help="its number")
    parser.add_argument(
        "--make-tasks", action="store_true", help="for pictures that the project does not have"
    )
    parser.add_argument(
        "--include-annotated",
        action="store_true",
        help="also tasks that people have annotated, skipped or begun",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    running.configure_studio(parser)


def run(args: argparse.Namespace) -> int:
    """See EPILOGUE. Raises BadRequest, BadSetting, ConfigError, StudioRefused, StudioAway."""
    from ..dataset.output import Output
    from ..dataset.places import place_of
    from ..dataset.upload import Wish, upload
    from ..errors import BadRequest
    from ..prelabel.progress import Progress
    from ..studio.project import StudioProject
    from ..wiring import label_studio
    from .prelabel import summary
    from .run_progress import shown

    settings = running.settings_of(args)
    output = Output(place_of(args.rows))
    if output.run() is None:
        raise BadRequest(f"there is no run in {args.rows}; give the folder that --output named")
    studio = label_studio(settings)
    assert studio is not None  # `settings_of` saw to it
    progress = Progress()
    wish = Wish(make_tasks=args.make_tasks, include_annotated=args.include_annotated)
    with contextlib.closing(studio.open(time.sleep)) as client, shown() as watch:
        upload(output.read(), StudioProject(client, args.project), wish, progress, tell=watch)
    told = progress.to_json()
    print(json.dumps(told) if args.json else "\n".join(summary(told)))
    return 1 if progress.failed else 0
