"""All tests in two runs side by side: those with a real Label Studio, shown as they go, and the
rest, shown when it has ended. Exit status 1 if one of them fails.

    python scripts/side_by_side.py
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]
STUDIO: Final = "tests/e2e"
PYTEST: Final = (sys.executable, "-m", "pytest")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile() as shown_later:
        rest = subprocess.Popen(
            [*PYTEST, "tests", f"--ignore={STUDIO}"],
            cwd=CHECKOUT,
            stdout=shown_later,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        studio = subprocess.Popen([*PYTEST, STUDIO], cwd=CHECKOUT, start_new_session=True)
        runs = (studio, rest)
        try:
            ends = [one.wait() for one in runs]
        except KeyboardInterrupt:
            for one in runs:
                one.send_signal(signal.SIGINT)  # they end the servers they started, and then
            ends = [one.wait() for one in runs]
        shown_later.seek(0)
        print(shown_later.read().decode(errors="replace"), flush=True)
    return int(any(ends))


if __name__ == "__main__":
    sys.exit(main())
