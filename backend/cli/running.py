"""What commands on a whole project have in common: their options, and the services they use."""

import argparse
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from ..errors import BadSetting, ModelFailed
from ..model_host import DOWNLOADING, FAILED, READY, ModelStatus
from ..services import Services
from ..settings import Settings
from ..storage.base import Storage

LOOK_AGAIN = 0.1  # seconds
Note = Callable[[ModelStatus], None]
MODEL = {  # option -> environment variable
    "profile": "PROFILE",
    "method": "METHOD",
    "features": "FEATURES",
    "student": "STUDENT",
    "vae": "VAE",
    "device": "DEVICE",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Where Label Studio is, and which model does the work."""
    configure_studio(parser)
    for option, variable in MODEL.items():
        parser.add_argument(f"--{option}", metavar=variable, help=f"like {variable}")


def configure_studio(parser: argparse.ArgumentParser) -> None:
    """Where Label Studio is, for commands without a model."""
    parser.add_argument("--url", metavar="URL", help="like LABEL_STUDIO_URL")
    parser.add_argument("--token", metavar="TOKEN", help="like LABEL_STUDIO_API_KEY")


def settings_of(args: argparse.Namespace) -> Settings:
    """The environment with the options put over it, with a Label Studio. Raises BadSetting."""
    settings = given_settings(args)
    if settings.label_studio_url is None:
        raise BadSetting("LABEL_STUDIO_URL", "is not set; set it, or give --url")
    if settings.label_studio_api_key is None:
        raise BadSetting(
            "LABEL_STUDIO_API_KEY",
            "is not set; copy a token from Account & Settings of Label Studio, or give --token",
        )
    return settings


def given_settings(args: argparse.Namespace) -> Settings:
    """The environment with the options put over it. Raises BadSetting."""
    return Settings.from_environ(environ_with(args))


def environ_with(args: argparse.Namespace) -> Mapping[str, str]:
    """The environment with the options put over it."""
    chosen = vars(args)
    given: Mapping[str, str | None] = {
        "LABEL_STUDIO_URL": args.url,
        "LABEL_STUDIO_API_KEY": args.token,
        **{variable: chosen.get(option) for option, variable in MODEL.items()},
    }
    return {**os.environ, **{name: value for name, value in given.items() if value}}


def ready_services(
    settings: Settings, note: Note = lambda _: None, *, taught_by: Storage | None = None
) -> Services:
    """The service's parts with the model in memory, and no store; whoever gets them closes them.

    `taught_by`: the store that knows what was learnt. `note` hears every step of the model's way.
    Raises ModelFailed, and as `wiring.build`.
    """
    from .. import wiring

    services = wiring.build(
        replace(settings, storage="memory:", auto_prelabel=False), taught_by=taught_by
    )
    services.predictor.crew.start()
    status = None
    try:
        while True:
            before, status = status, services.model.status
            if status != before:
                note(status)
            if status.state == READY:
                return services
            if status.state == FAILED:
                raise ModelFailed(status.reason or "nobody knows why")
            time.sleep(LOOK_AGAIN)
    except BaseException:
        services.close()
        raise


class ModelBar(AbstractContextManager["ModelBar"]):
    """The model's way on standard error: a bar on a terminal, a line per step elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._state = ""

    def __call__(self, status: ModelStatus) -> None:
        words = "weights are downloading" if status.state == DOWNLOADING else "model is loading"
        if status.state != self._state:
            self._end()
            self._state = status.state
            if status.state in (READY, FAILED):
                return
            if sys.stderr.isatty():
                self._bar = tqdm(total=100, desc=words, unit="%", leave=False, file=sys.stderr)
            else:
                print(f"cliper: {words}", file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.n = status.percent
            self._bar.refresh()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def shares_processor(settings: Settings, services: Services) -> bool:
    """Whether Label Studio computes on the cores the model wants for itself.

    It does where it runs on this machine, and the model computes on all of its cores.
    """
    if str(services.model.status.details.get("device")) != "cpu":
        return False
    import torch

    return is_here(settings.label_studio_url or "") and torch.get_num_threads() >= cores()


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_here(url: str) -> bool:
    """Whether an address is this machine's own, by a loopback address."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(one[4][0]).is_loopback for one in found)
