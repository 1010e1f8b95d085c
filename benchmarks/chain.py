"""A real Label Studio and the service as users start them, for proofs that need both."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import psutil

from backend.demo import annotate
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import Installation, LabelStudioServer
from backend.demo.processes import LOOPBACK, Server, free_port, plain_environment

CHECKOUT = Path(__file__).parents[1]
TEMPLATES = CHECKOUT / ".cache" / "label-studio"


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Both servers, up and known to each other."""

    label_studio: LabelStudioServer
    api: LabelStudioApi
    service: str  # address
    service_server: Server

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time taken so far, per server; unlike the clock's it hardly knows of others."""
        servers = {"Label Studio": self.label_studio.pid, "the service": self.service_server.pid}
        return {name: _cpu_seconds(pid) for name, pid in servers.items() if pid is not None}


@contextlib.contextmanager
def chain(folder: Path, *, profile: str = "demo", strict: bool = False) -> Iterator[Chain]:
    """Start both in `folder`, wait for the model, and end both, also where we are told to end."""
    with contextlib.ExitStack() as running:
        running.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt))
        label_studio = running.enter_context(
            LabelStudioServer(
                Installation.find(), folder / "label-studio", templates=TEMPLATES, strict=strict
            )
        )
        port = free_port()
        ours = running.enter_context(_service(port, label_studio, profile, folder))
        service = f"http://localhost:{port}"
        annotate.wait_for_model(service)
        api = LabelStudioApi(label_studio.url, label_studio.account.token)
        running.callback(api.close)
        yield Chain(label_studio=label_studio, api=api, service=service, service_server=ours)


def _cpu_seconds(pid: int) -> float:
    """Of a process and those it started that still run."""
    process = psutil.Process(pid)
    family = (process, *process.children(recursive=True))
    return sum(one.cpu_times().user + one.cpu_times().system for one in family)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what was answered."""
    begun = time.perf_counter()
    answer = ask()
    return 1000 * (time.perf_counter() - begun), answer


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Count, median, p95 and maximum."""
    median, p95 = np.percentile(milliseconds, [50, 95])
    return {
        "count": len(milliseconds),
        "median_ms": round(float(median), 1),
        "p95_ms": round(float(p95), 1),
        "max_ms": round(max(milliseconds), 1),
    }


def labels_of(labels: Sequence[str], colours: Sequence[str] = ()) -> str:
    """`<Label>` tags, with their colours where there are any."""
    paints = [f" background={quoteattr(colour)}" for colour in colours] or [""] * len(labels)
    return "".join(
        f"<Label value={quoteattr(label)}{paint}/>"
        for label, paint in zip(labels, paints, strict=True)
    )


def _service(port: int, label_studio: LabelStudioServer, profile: str, folder: Path) -> Server:
    """`cliper serve` with the settings of the demonstration."""
    return Server(
        "the service",
        [sys.executable, "-m", "backend", "serve"],
        environment={
            **plain_environment("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME"),
            "HOST": LOOPBACK,
            "PORT": str(port),
            "PROFILE": profile,
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
            "MODEL_DIR": str(folder / "service"),
            "STORAGE": f"sqlite:{folder / 'service' / 'cliper.sqlite'}",
        },
        health=f"http://{LOOPBACK}:{port}/health",
        log=folder / "service.log",
        folder=CHECKOUT,
    )
