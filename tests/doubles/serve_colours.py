"""`cliper serve` with the colour model in it; every look waits for a byte on a pipe.

Usage: python -m tests.doubles.serve_colours BEGAN_FD GATE_FD. A look writes one byte to
BEGAN_FD when it begins and reads one from GATE_FD before it goes on. SLOWEST: see `listen`.
"""

import os
import sys

import numpy as np

from backend.app import create_app
from backend.cli.serve import SLOWEST, listen, serve
from backend.settings import Settings
from backend.wiring import build

from .colours import ColourSegmenter, colour_source


def main(began: int, gate: int) -> None:
    def wait_for_a_byte(pixels: np.ndarray) -> None:
        os.write(began, b".")
        os.read(gate, 1)

    def app(settings: Settings) -> object:
        segmenter = ColourSegmenter(on_observe=wait_for_a_byte)
        services = build(settings, source=colour_source(segmenter))
        services.start()
        return create_app(services)

    settings = Settings.from_environ(os.environ)
    slowest = int(os.environ.get("SLOWEST", SLOWEST))
    with listen(settings.host, settings.port, slowest=slowest) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(settings, listener, build=app)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
