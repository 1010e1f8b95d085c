"""`cliper serve`: gunicorn, one process, threads. One process because one model fits once."""

import argparse
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .. import logs
from ..errors import CannotListen
from ..settings import Settings

logger = logging.getLogger(__name__)

HELP = "Answer Label Studio over HTTP. Options go before environment variables of the same name."
OPTIONS = {  # option -> environment variable
    "host": "HOST",
    "port": "PORT",
    "profile": "PROFILE",
    "method": "METHOD",
    "features": "FEATURES",
    "student": "STUDENT",
    "vae": "VAE",
    "device": "DEVICE",
    "dtype": "DTYPE",
    "threads": "THREADS",
    "log-level": "LOG_LEVEL",
    "log-format": "LOG_FORMAT",
}
SLOWEST = 30  # seconds without a byte, either way, after which a caller's connection is closed
GRACE = 8  # seconds a running request has after SIGTERM; Docker waits 10


def configure(parser: argparse.ArgumentParser) -> None:
    for option, variable in OPTIONS.items():
        parser.add_argument(f"--{option}", metavar=variable, help=f"like {variable}")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends it. Raises BadSetting, CannotListen, StorageError, and as
    `check_choice`."""
    from ..wiring import check_choice, store

    settings = Settings.from_environ({**os.environ, **_given(args)})
    check_choice(settings)
    store(settings).close()  # what is wrong with it is said here, and not in a worker
    with listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        if settings.log_format == "text":
            print(f"cliper: listening on http://{host}:{port}", flush=True)
            if settings.ui:
                print(f"cliper: to try words, open http://{host}:{port}/ui", flush=True)
        else:  # whoever reads objects reads nothing else
            logs.to_standard_error(level=settings.log_level, style=settings.log_format)
            logger.info("listening on http://%s:%d", host, port)
        serve(settings, listener)
    return 0


def listen(host: str, port: int, *, slowest: int = SLOWEST) -> socket.socket:
    """A listening socket. Raises CannotListen when somebody else has the port.

    Connections inherit its limits: who sends half a request, or reads half an answer, would hold
    one of few threads forever, and nobody would answer `/health` any more.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            listener.setsockopt(socket.SOL_SOCKET, way, struct.pack("@ll", slowest, 0))
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == 98 or "in use" in str(error):
            raise CannotListen(
                f"port {port} is in use by another program; stop it or choose another PORT"
            ) from None
        raise CannotListen(
            f"cannot listen on {host}:{port} ({error.strerror or error}); check HOST and PORT"
        ) from None
    return listener


def _given(args: argparse.Namespace) -> Mapping[str, str]:
    chosen = vars(args)
    values = {name: chosen[option.replace("-", "_")] for option, name in OPTIONS.items()}
    return {name: value for name, value in values.items() if value is not None}


def build_app(settings: Settings) -> Any:
    """The WSGI app with its model on the way."""
    from ..app import create_app
    from ..wiring import build

    services = build(settings)
    services.start()
    return create_app(services)


def serve(
    settings: Settings,
    listener: socket.socket,
    *,
    build: Callable[[Settings], Any] = build_app,
) -> None:
    """Run gunicorn on a listening socket, which it then owns, until a signal ends it."""
    from gunicorn.app.base import BaseApplication

    options = gunicorn_options(settings, listener.detach())

    class Server(BaseApplication):  # type: ignore[misc]
        """Gunicorn fed from Settings; the app is built in the worker, after the fork."""

        def load_config(self) -> None:
            for name, value in options.items():
                if name in self.cfg.settings:  # newer versions know more
                    self.cfg.set(name, value)

        def load(self) -> Any:
            logs.to_standard_error(level=settings.log_level, style=settings.log_format)
            return build(settings)

    try:
        Server().run()
    except SystemExit as end:
        if end.code not in (0, None):
            raise


class Ending:
    """How a worker ends: its job is handed back as soon as SIGTERM comes, since requests may need
    all the time there is; then the rest is let go of."""

    def __init__(self) -> None:
        self._signalled = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, worker: Any) -> None:
        """In a worker that is ready: hear SIGTERM before gunicorn does."""
        jobs = worker.wsgi.extensions["services"].jobs
        if jobs is None:
            return
        before = signal.getsignal(signal.SIGTERM)

        def hand_back() -> None:
            self._signalled.wait()
            jobs.runner.close(seconds=GRACE)

        def hear(number: int, frame: Any) -> None:
            self._signalled.set()
            if callable(before):
                before(number, frame)

        self._thread = threading.Thread(target=hand_back, name="hand-back", daemon=True)
        self._thread.start()
        signal.signal(signal.SIGTERM, hear)

    def end(self, server: Any, worker: Any) -> None:
        """In a worker on its way out."""
        if self._thread is not None:
            self._signalled.set()  # there are other ways out than SIGTERM
            self._thread.join()
        app = getattr(worker, "wsgi", None)
        if app is not None:
            app.extensions["services"].close()


def gunicorn_logger(style: str) -> type:
    """Gunicorn's own lines in the same form as ours. `style`: see `logs.formatter`."""
    from gunicorn.glogging import Logger

    class Log(Logger):  # type: ignore[misc]
        """Its handlers, our formatter."""

        def setup(self, cfg: Any) -> None:
            super().setup(cfg)
            for handler in self.error_log.handlers:
                handler.setFormatter(logs.formatter(style))

    return Log


def gunicorn_options(settings: Settings, fd: int) -> Mapping[str, Any]:
    """What gunicorn is told; `fd` is the listening socket."""
    ending = Ending()
    return {
        "bind": f"fd://{fd}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": settings.threads,
        "timeout": 0,  # a prediction may take longer than any watchdog likes
        "graceful_timeout": GRACE,
        "preload_app": False,  # CUDA does not survive a fork
        "loglevel": settings.log_level.lower(),
        "logger_class": gunicorn_logger(settings.log_format),
        "control_socket_disable": True,
        "post_worker_init": ending.begin,
        "worker_exit": ending.end,
        "proc_name": "cliper",
    }
