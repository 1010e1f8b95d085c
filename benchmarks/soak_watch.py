"""What a soak watches from outside: `/health` from a process of its own, memory, and the sums.

    python -m benchmarks.soak_watch URL

asks `/health` ten times a second until its standard input ends, and then prints a JSON list of
[seconds since its start, milliseconds]; -1 milliseconds where no good answer came. Times count from
the moment at which it was to be asked: an answer that keeps the next questions waiting delays them.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

CHECKOUT = Path(__file__).parents[1]
EVERY = 0.1  # seconds between two questions to `/health`
PATIENCE = 10.0  # seconds until an answer counts as none
SAMPLED = 5.0  # seconds between two looks at memory
MIB = 1024 * 1024


@dataclass
class Memory:
    """Resident memory of the service at moments: seconds since the start, MiB.

    lasting  of the processes that were there at the start: the server and its worker
    all      of these and of those they start for a while, to learn
    ended    how many of the processes that were there at the start are gone at the end
    """

    lasting: list[tuple[float, float]] = field(default_factory=list)
    all: list[tuple[float, float]] = field(default_factory=list)
    ended: int = 0


@contextmanager
def memory_of(pid: int, every: float = SAMPLED) -> Iterator[Memory]:
    """Samples taken while the block runs."""
    server = psutil.Process(pid)
    lasting = [server, *server.children(recursive=True)]
    found, over, begun = Memory(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not over.wait(every):
            at = time.monotonic() - begun
            others = [one for one in server.children(recursive=True) if one not in lasting]
            kept = sum(map(_resident, lasting))
            found.lasting.append((at, kept))
            found.all.append((at, kept + sum(map(_resident, others))))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.ended = sum(not one.is_running() for one in lasting)


def _resident(process: psutil.Process) -> float:
    """MiB; 0 of a process that has ended."""
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.NoSuchProcess:
        return 0.0


@contextmanager
def health_of(url: str) -> Iterator[list[tuple[float, float]]]:
    """(seconds, milliseconds) of every answer, there once the block has ended."""
    found: list[tuple[float, float]] = []
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak_watch", url],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as asking:
        try:
            yield found
        finally:
            told, _ = asking.communicate(timeout=60)
            found += [(at, taken) for at, taken in json.loads(told)]


def slope(samples: Sequence[tuple[float, float]], *, after: float) -> float | None:
    """By how much a line through the samples rises in a minute, by least squares.

    samples  seconds, value; those before `after` seconds do not count
    None     where fewer than two samples are left
    """
    counting = np.array([(at, value) for at, value in samples if at >= after])
    if len(counting) < 2:
        return None
    minutes, values = counting[:, 0] / 60, counting[:, 1]
    apart = minutes - minutes.mean()
    return float((apart * (values - values.mean())).sum() / (apart**2).sum())


def answered(times: Sequence[tuple[float, float]]) -> dict[str, float | int | None]:
    """How fast `/health` was, in milliseconds, and how often it did not answer."""
    good = [taken for _, taken in times if taken >= 0]
    figures: dict[str, float | int | None] = {
        "asked": len(times),
        "not_answered": len(times) - len(good),
    }
    for share in (50, 99):
        figures[f"p{share}_ms"] = round(float(np.percentile(good, share)), 1) if good else None
    figures["max_ms"] = round(max(good), 1) if good else None
    return figures


def main() -> int:
    address = urlsplit(sys.argv[1])
    assert address.hostname is not None
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    begun, times = time.monotonic(), list[tuple[float, float]]()
    due = begun
    while not over.wait(max(0.0, due - time.monotonic())):
        up = _is_up(address.hostname, address.port)
        taken = 1000 * (time.monotonic() - due) if up else -1.0
        times.append((round(due - begun, 2), round(taken, 2)))
        due += EVERY
    print(json.dumps(times))
    return 0


def _is_up(host: str, port: int | None) -> bool:
    """One question on a connection of its own, as Docker asks."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status == 200 and json.loads(answer.read())["status"] == "UP"
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
