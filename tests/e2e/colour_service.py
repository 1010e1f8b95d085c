"""The real service, under the real server, around the model whose words are names of colours.

Meaning is exact and costs nothing, so that tests of the protocol are fast and sharp.
Run it with `python -m tests.e2e.colour_service`; settings come from the environment.
"""

import os

from flask import Flask

from backend.app import create_app
from backend.cli.serve import listen, serve
from backend.settings import Settings
from backend.wiring import build
from tests.doubles.colours import colour_source


def colour_app(settings: Settings) -> Flask:
    services = build(settings, source=colour_source())
    services.start()
    return create_app(services)


if __name__ == "__main__":
    chosen = Settings.from_environ(os.environ)
    with listen(chosen.host, chosen.port) as listener:
        serve(chosen, listener, build=colour_app)
