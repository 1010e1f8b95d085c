"""A process that has everything imported and brings services into the world by forking.

Usage: python -m tests.doubles.nursery. Every line of its input is JSON, `{"log": PATH, "environ":
{...}, "host": ADDRESS, "port": NUMBER}`; for each it starts `cliper serve` in a session of its own,
with a toy model of the method cliper, and prints `{"pid": ..., "port": ...}`. The pid is that of
the session, so that the service is killed with all its processes. It ends with its input; the
services do not.

What it saves is the seconds that importing torch takes. Learning is done in the service's own
process, for the same reason.
"""

import json
import logging
import os
import signal
import sys
import traceback
from typing import Any

import torch

from backend import wiring
from backend.app import create_app
from backend.cli.serve import listen, serve
from backend.learning.fit import learn
from backend.model_host import ModelSource
from backend.settings import Settings
from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity

IDENTITY = Identity(method="cliper", revision=1, profile="tiny")


def model() -> Cliper:
    return Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=IDENTITY,
    )


def source(made: Cliper) -> ModelSource:
    return ModelSource(
        profile=lambda: "tiny",
        fetch=lambda name, progress: None,
        identify=lambda name: IDENTITY,
        load=lambda name, progress: made,
        describe=lambda _: {},
        check_words=lambda name, labels: None,
    )


def live(made: Cliper, environ: dict[str, str], listener: Any, log: str) -> None:
    """In the child: be a service until a signal ends it."""
    os.setsid()
    os.environ.update(environ)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd in (1, 2):
        os.dup2(out, fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def app(settings: Settings) -> Any:
        services = wiring.build(settings, source=source(made))
        services.start()
        return create_app(services)

    settings = Settings.from_environ({"PATH": os.environ["PATH"], **environ})
    serve(settings, listener, build=app)


def main() -> None:
    torch.set_num_threads(1)
    wiring.FitApart = lambda: learn  # type: ignore[assignment,misc]
    logging.raiseExceptions = False
    made = model()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends, is gone at once
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        listener = listen(told["host"], told["port"])
        port = listener.getsockname()[1]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                live(made, told["environ"], listener, told["log"])
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        listener.close()
        print(json.dumps({"pid": pid, "port": port}), flush=True)


if __name__ == "__main__":
    main()
