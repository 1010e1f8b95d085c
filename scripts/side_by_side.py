"""All tests in two runs side by side: those with a real Label Studio, shown as they go, and the
rest, shown when it has ended. Exit status 1 if one of them fails.

    python scripts/side_by_side.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]
STUDIO: Final = "tests/e2e"
PYTEST: Final = (sys.executable, "-m", "pytest")


def main() -> int:
    with tempfile.TemporaryFile() as shown_later:
        rest = subprocess.Popen(
            [*PYTEST, "tests", f"--ignore={STUDIO}"],
            cwd=CHECKOUT,
            stdout=shown_later,
            stderr=subprocess.STDOUT,
        )
        try:
            studio = subprocess.call([*PYTEST, STUDIO], cwd=CHECKOUT)
            others = rest.wait()
        except BaseException:
            rest.terminate()
            raise
        finally:
            rest.wait()
            shown_later.seek(0)
            print(shown_later.read().decode(errors="replace"), flush=True)
    return int(bool(studio or others))


if __name__ == "__main__":
    sys.exit(main())
