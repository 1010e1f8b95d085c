"""`cliper` and `python -m backend`: one subcommand per file of `backend/cli`.

A subcommand's module is imported only when it is named, so that `--help` stays instant.
Each offers `HELP: str`, `configure(parser) -> None` and `run(args) -> int`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from cliper_model.allocator import keep_freed_memory

from .errors import ServiceError
from .redaction import Redaction, hidden_in_logs

COMMANDS = {
    "serve": "answer Label Studio over HTTP",
    "segment": "segment picture files with a list of words or a label config",
    "methods": "list the methods and what was published for them",
    "sources": "compare feature sources on pictures with masks",
    "evaluate": "measure a method on a benchmark or on your own pictures",
    "scenes": "draw storybook scenes with exact masks",
    "train-demo": "train the demo weights from nothing",
    "train-student": "train a network of your own, taught by any method",
    "weights": "list, fetch and verify model weights",
    "prelabel": "write predictions for a whole project or data set, or take them back",
    "upload": "write the rows of a data set's run into Label Studio",
    "learn": "learn from a project's corrections, look at what was learnt, or take it back",
    "next": "find the pictures whose correction teaches most",
    "storage": "show what is kept between runs, or move it into another store",
    "doctor": "find out what is wrong between Label Studio, the service and the pictures",
    "preview": "see on a few tasks what pre-labelling a project would bring",
    "report": "show what predictions saved, and where they fall short",
    "demo": "show everything at work: Label Studio, the service, and a report",
}


class Command(Protocol):
    """What every module of `backend.cli` offers."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the subcommand's own arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work; the value is the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status.

    An expected error ends as one sentence on standard error and status 2, an interrupt
    with status 130.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="cliper", description="Open-vocabulary segmentation for Label Studio."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    command: Command | None = None
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        if name == chosen:
            command = _load(name)
            subparser.description = command.HELP
            command.configure(subparser)

    parsed = parser.parse_args(arguments)
    assert command is not None  # the parser refuses unknown and missing names
    keep_freed_memory(os.environ)
    redaction = Redaction.of(os.environ)
    try:
        with hidden_in_logs(redaction):
            return command.run(parsed)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"cliper: {redaction.hide(str(error))}", file=sys.stderr)
        return 2


def _load(name: str) -> Command:
    module = importlib.import_module(f"{__package__}.cli.{name.replace('-', '_')}")
    return cast(Command, module)


def _is_expected(error: Exception) -> bool:
    """Errors with a sentence for the user; the model's own exist only once it is imported."""
    if isinstance(error, ServiceError):
        return True
    model = sys.modules.get("cliper_model.errors")
    return model is not None and isinstance(error, model.CliperError)


if __name__ == "__main__":
    sys.exit(main())
