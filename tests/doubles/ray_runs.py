"""Runs on a Ray of this machine in processes of their own, and violence against them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from backend.dataset.output import Output
from backend.dataset.places import place_of

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds, on a busy machine
LINGER = 8.0  # seconds for workers of a dead driver, which end by themselves
ACTOR = ("_Paint",)  # words in the titles of Ray's processes
WORKER = ("ray::Read", "_Fetch", "ray::Write")  # at work, not idle


@dataclass
class RayRun:
    """A driver, and what it has started."""

    driver: subprocess.Popen[bytes]
    log: Path
    output: Output

    def processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.driver.pid).children(recursive=True)
        return []

    def named(self, words: Sequence[str]) -> list[psutil.Process]:
        """Those at work whose title holds one of `words`."""
        found = []
        for one in self.processes():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                title = " ".join(one.cmdline())
                if any(word in title for word in words):
                    found.append(one)
        return found

    def files(self) -> int:
        """Files of rows that are there for good."""
        return sum(1 for _ in self.output.committed())

    def until(self, holds: Callable[[], bool]) -> None:
        """Raises AssertionError where it never holds, or the driver ended before."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert self.driver.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def kill_one(self, words: Sequence[str]) -> int:
        """SIGKILL for one process, as soon as there is one; its number."""
        killed: list[int] = []

        def is_killed() -> bool:
            for one in self.named(words):
                with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                    one.kill()
                    killed.append(int(one.pid))
                    return True
            return False

        self.until(is_killed)
        return killed[0]

    def kill_driver(self) -> None:
        """SIGKILL for the driver alone; what it has started ends, as it does by itself."""
        mine = self.processes()
        self.driver.kill()
        self.driver.wait(PATIENCE)
        _, alive = psutil.wait_procs(mine, timeout=LINGER)
        for one in alive:  # a daemon that outlived its parent would slow the next test down
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def files_there(self) -> int:
        """Files of rows in the folder, whoever finds them good."""
        return sum(1 for _ in self.output.rows.files())

    def end(self) -> int:
        """Wait for the driver; its exit status."""
        try:
            return self.driver.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill_driver()
            raise AssertionError(self.log.read_text()) from None

    def ids(self) -> list[str]:
        return [row.id for row in self.output.read()]


def started(arguments: Sequence[str], out: Path, log: Path, **environment: str) -> RayRun:
    """`python ARGUMENTS`, whose rows come into `out`."""
    with log.open("ab") as file:
        driver = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "RAY_DEDUP_LOGS": "0",
                "RAY_USAGE_STATS_ENABLED": "0",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RayRun(driver=driver, log=log, output=Output(place_of(str(out))))


def stop(run: RayRun) -> None:
    """Whatever is left of it."""
    if run.driver.poll() is None:
        run.driver.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            run.driver.wait(20)
    if run.driver.poll() is None:
        run.kill_driver()
