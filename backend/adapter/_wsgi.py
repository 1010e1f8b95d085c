"""What `gunicorn backend.adapter._wsgi:app` and `label-studio-ml start` look for.

    gunicorn --bind :9090 --workers 1 --threads 8 --timeout 0 backend.adapter._wsgi:app
    python -m backend.adapter._wsgi --port 9090

One worker, and no `--preload`: one model fits once, and CUDA does not survive a fork.
`app` is built when somebody asks for it, not when this file is imported.
"""

import argparse
import os
from typing import Any

# Absolute: `label-studio-ml start` runs this file as a script.
from backend.settings import Settings


def create_app(settings: Settings | None = None) -> Any:
    """The SDK's app with the model on its way; None reads the environment. Raises BadSetting."""
    from backend.adapter.model import create_app as app_around
    from backend.wiring import build

    services = build(settings or Settings.from_environ(os.environ))
    app = app_around(services)
    services.start()
    return app


def __getattr__(name: str) -> Any:
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Flask's own server, for trying things out."""
    settings = Settings.from_environ(os.environ)
    parser = argparse.ArgumentParser(description="CLIPer on the 2.x backend SDK's server.")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("-p", "--port", type=int, default=settings.port)
    arguments = parser.parse_args()
    create_app(settings).run(host=arguments.host, port=arguments.port, threaded=True)


if __name__ == "__main__":
    main()
