"""`cliper demo`: the whole chain at work, from scenes through Label Studio to a report."""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..demo import annotate, contact_sheet, projects, report
from ..demo.label_studio_api import LabelStudioApi
from ..demo.label_studio_server import Installation, LabelStudioServer
from ..demo.processes import LOOPBACK, Server, free_port, plain_environment

OTHERS = 20  # pictures in the project with one label, and in the one with absent labels
HELP = "Start the service and a real Label Studio, pre-annotate storybook scenes, and report."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end after the report; 0 = good enough")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="where results go"
    )
    parser.add_argument(
        "--images", type=int, default=24, metavar="N", help="scenes to show, at least 2"
    )
    parser.add_argument("--seed", type=int, default=1, help="which held-out scenes")
    parser.add_argument("--profile", default="demo", help="profile of the service")
    parser.add_argument(
        "--label-studio", type=Path, metavar="PATH", help="the label-studio program to start"
    )
    parser.add_argument(
        "--templates",
        type=Path,
        default=Path(".cache/label-studio"),
        metavar="DIR",
        help="where migrated Label Studio databases are kept for the next time",
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0 when every figure is good enough, 1 when one is not."""
    if args.images < 2:  # one with the label of the second project, and one without
        print("cliper: --images must be at least 2", file=sys.stderr)
        return 2
    installation = Installation.find(args.label_studio)
    out: Path = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with _ending_on_signals(), contextlib.ExitStack() as servers:
        began = time.monotonic()
        _say("Starting Label Studio (the very first start takes a minute) …")
        label_studio = servers.enter_context(_label_studio(installation, out, args.templates))
        _say(f"Label Studio {installation.version} is up after {time.monotonic() - began:.0f} s.")
        service_url = f"http://localhost:{(port := free_port())}"
        servers.enter_context(_service(port, label_studio, args.profile, out))
        annotate.wait_for_model(service_url)
        _say(
            f"The service is up at {service_url} with profile {args.profile!r}; to try words, open "
            f"{service_url}/ui"
        )

        api = LabelStudioApi(label_studio.url, label_studio.account.token)
        servers.callback(api.close)
        # Unwinding starts here: an impatient second Ctrl-C must not leave a server behind.
        servers.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        servers.callback(label_studio.ask_to_stop)
        lines = _show(api, service_url, args, out)
        passed = all(line.passed for line in lines)
        if args.once:
            return 0 if passed else 1
        account = label_studio.account
        _say(
            f"\nLabel Studio: {label_studio.url}   login {account.email}   "
            f"password {account.password}\nBoth servers stay up until Ctrl-C."
        )
        return _wait(label_studio)


def _show(
    api: LabelStudioApi, service: str, args: argparse.Namespace, out: Path
) -> tuple[report.Line, ...]:
    """Run the three projects, print and write what came back."""
    count: int = args.images
    full = projects.everything(count, args.seed)
    single = projects.one_label(min(count, OTHERS), args.seed)
    absent = projects.nothing_there(min(count, OTHERS), args.seed)
    answers, seconds = {}, {}
    for project in (full, single, absent):
        began = time.monotonic()
        _say(f"{project.title}: {len(project.pictures)} pictures, {len(project.labels)} labels …")
        _, answers[project.title] = annotate.annotate(api, service, project)
        seconds[project.title] = time.monotonic() - began

    accuracy = report.Accuracy.of(full.labels, full.pictures, answers[full.title])
    of_single = report.Accuracy.of(single.labels, single.pictures, answers[single.title])
    lines = report.verdict(
        accuracy,
        one_label=of_single,
        one_label_empty=report.share_empty(single.labels, single.pictures, answers[single.title]),
        nothing_there=report.share_empty(absent.labels, absent.pictures, answers[absent.title]),
    )
    version = answers[full.title][0].model_version
    _say(f"\n{report.table(accuracy)}\n")
    _say(f"model version {version}; {accuracy.regions:.1f} regions per picture")
    _say(
        f"one label ({projects.ONE_LABEL}): IoU {of_single.mean_iou:.1f} %, "
        f"found in {of_single.recall:.0f} % of the pictures that have it\n"
    )
    for line in lines:
        _say(str(line))

    headline = (
        f"Storybook scenes through Label Studio: mean IoU {accuracy.mean_iou:.0f} %, "
        f"precision {accuracy.precision:.0f} %, recall {accuracy.recall:.0f} %"
    )
    sheet = contact_sheet.draw(full.labels, full.pictures, answers[full.title], headline)
    sheet.save(out / "contact-sheet.png")
    document: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": args.profile,
        "model_version": version,
        "seed": args.seed,
        "passed": all(line.passed for line in lines),
        "lines": [line.to_json() for line in lines],
        "all_labels": report.to_json(accuracy),
        "one_label": report.to_json(of_single),
        "seconds": {title: round(taken, 1) for title, taken in seconds.items()},
    }
    (out / "report.json").write_text(json.dumps(document, indent=2) + "\n")
    _say(f"\nWritten: {out / 'contact-sheet.png'} and {out / 'report.json'}")
    for line in lines:
        if not line.passed:
            print(f"Not good enough: {line}", file=sys.stderr)
    return lines


def _label_studio(installation: Installation, out: Path, templates: Path) -> LabelStudioServer:
    data = out / "label-studio"
    shutil.rmtree(data, ignore_errors=True)
    return LabelStudioServer(installation, data, templates=templates)


def _service(port: int, label_studio: LabelStudioServer, profile: str, out: Path) -> Server:
    inherited = plain_environment(
        "PYTHONPATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "DEVICE", "XDG_CACHE_HOME"
    )
    log = out / "service.log"
    log.unlink(missing_ok=True)
    return Server(
        "The service",
        [sys.executable, "-m", "backend", "serve"],
        environment={
            **inherited,
            "HOST": LOOPBACK,
            "PORT": str(port),
            "PROFILE": profile,
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
            "MODEL_DIR": str(out / "service"),
            "STORAGE": f"sqlite:{out / 'service' / 'cliper.sqlite'}",
        },
        health=f"http://{LOOPBACK}:{port}/health",
        log=log,
    )


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does, so that the servers are ended too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _wait(server: Server) -> int:
    """Until Ctrl-C (0), or until the server is gone (1)."""
    pause = threading.Event()
    try:
        while server.pid:
            pause.wait(1.0)
    except KeyboardInterrupt:
        _say("\nEnding both servers …")
        return 0
    _say("Label Studio has ended by itself; see label-studio.log.")
    return 1


def _say(text: str) -> None:
    print(text, flush=True)
