"""All tests, folder by folder, two folders at a time: whoever is free takes the next one, the
longest first. Those with a real Label Studio are shown as they go, others when they have ended.
Exit status 1 if one of them fails.

    python scripts/side_by_side.py
"""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]
TESTS: Final = CHECKOUT / "tests"
SHOWN: Final = "e2e"
LONGEST_FIRST: Final = (SHOWN, "unit", "contract", "weights", "parity", "http", "faults", "docs")
LANES: Final = 2
THREADS: Final = {"OMP_NUM_THREADS": "1"}  # of each: more than there are cores wait for each other


def folders() -> list[str]:
    """Every folder with tests: the long ones first, then whatever else there is."""
    found = sorted(one.name for one in TESTS.iterdir() if any(one.rglob("test_*.py")))
    known = [name for name in LONGEST_FIRST if name in found]
    return known + [name for name in found if name not in known]


class Lanes:
    """Runs of pytest, `LANES` at a time; `failed` names folders as they end."""

    def __init__(self, names: list[str]) -> None:
        self.failed: list[str] = []
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in names:
            self._waiting.put(name)
        self._lock = threading.Lock()  # of the next two, and of what is printed
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._threads = [threading.Thread(target=self._lane) for _ in range(LANES)]

    def run(self) -> None:
        for one in self._threads:
            one.start()
        for one in self._threads:
            one.join()

    def stop(self) -> None:
        """They end the servers they started, and then themselves."""
        with self._lock:
            self._stopped = True
            for one in self._running:
                one.send_signal(signal.SIGINT)
        for thread in self._threads:
            thread.join()

    def _lane(self) -> None:
        while True:
            try:
                name = self._waiting.get_nowait()
            except queue.Empty:
                return
            with tempfile.TemporaryFile() as shown_later:
                out = None if name == SHOWN else shown_later
                begun = time.monotonic()
                with self._lock:
                    if self._stopped:
                        return
                    one = subprocess.Popen(
                        [sys.executable, "-m", "pytest", f"tests/{name}"],
                        cwd=CHECKOUT,
                        env=dict(os.environ) if name == SHOWN else {**THREADS, **os.environ},
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                    self._running.add(one)
                ended = one.wait()
                shown_later.seek(0)
                with self._lock:
                    self._running.discard(one)
                    if ended:
                        self.failed.append(name)
                    print(shown_later.read().decode(errors="replace"))
                    print(f"== tests/{name}: {time.monotonic() - begun:.0f} s", flush=True)


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lanes = Lanes(folders())
    try:
        lanes.run()
    except KeyboardInterrupt:
        lanes.stop()
        return 1
    print(f"failed: {', '.join(lanes.failed)}" if lanes.failed else "every test passed")
    return int(bool(lanes.failed))


if __name__ == "__main__":
    sys.exit(main())
