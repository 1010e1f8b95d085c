"""`cliper doctor`: what is wrong between Label Studio, the service and the pictures."""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from ..redaction import Redaction

HELP = (
    "Find out what is wrong: settings, Label Studio, token, service, connection, label config, "
    "pictures, weights, versions. Changes nothing without --fix."
)
DOCKER = Path("/.dockerenv")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", metavar="URL", help="like LABEL_STUDIO_URL")
    parser.add_argument("--token", metavar="TOKEN", help="like LABEL_STUDIO_API_KEY")
    parser.add_argument("--project", type=int, metavar="ID", help="project to look at closely")
    parser.add_argument(
        "--task", type=int, metavar="ID", help="task whose picture is fetched; default: the first"
    )
    parser.add_argument(
        "--backend", metavar="URL", help="address of the service; default: PORT of this machine"
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="let the project's model version be the predictions', so that scores are shown",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of findings")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 when nothing failed, 1 when something did, 2 for wrong usage."""
    if args.project is None and (args.fix or args.task is not None):
        print("cliper: --fix and --task need --project", file=sys.stderr)
        return 2
    from ..doctor.case import Question
    from ..doctor.examine import examine
    from ..doctor.findings import FAIL

    given = {"LABEL_STUDIO_URL": args.url, "LABEL_STUDIO_API_KEY": args.token}
    question = Question(
        environ={**os.environ, **{name: value for name, value in given.items() if value}},
        project=args.project,
        task=args.task,
        backend=args.backend,
        fix=args.fix,
        in_container=DOCKER.exists(),
    )
    redaction = Redaction.of(question.environ)  # findings quote addresses and what others said
    found = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unverified HTTPS request")
        for finding in examine(question):
            found.append(finding)
            if not args.json:
                print(redaction.hide(str(finding)), flush=True)
    if args.json:
        print(json.dumps(_hidden([finding.to_json() for finding in found], redaction), indent=2))
    return 1 if any(finding.state == FAIL for finding in found) else 0


def _hidden(value: Any, redaction: Redaction) -> Any:
    """A JSON value without secrets; string by string, for writing it down escapes some of them."""
    if isinstance(value, str):
        return redaction.hide(value)
    if isinstance(value, dict):
        return {_hidden(key, redaction): _hidden(inner, redaction) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner, redaction) for inner in value]
    return value
