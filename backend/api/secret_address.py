"""`/webhook/SECRET`: an address that whoever has not been told it does not find.

Label Studio is given the address of a model and calls `/health`, `/setup`, `/predict` and
`/webhook` below it; events come without credentials. So the address to enter there is
`http://service:9090/webhook/SECRET`: every route is found below it, and `/webhook/SECRET` is
`/webhook` itself, for webhooks registered by hand. A password, where one is set, is asked for
below it as well.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any

PREFIX = "/webhook/"
USED = "cliper.secret_address"

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Opened:
    """A WSGI app, found below the secret address as well as where it is."""

    def __init__(self, app: Wsgi, secret: str) -> None:
        self._app, self._secret = app, secret.encode()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith(PREFIX):
            guess, _, rest = path.removeprefix(PREFIX).partition("/")
            if hmac.compare_digest(guess.encode("utf-8", "surrogateescape"), self._secret):
                script = str(environ.get("SCRIPT_NAME", ""))
                environ = {
                    **environ,
                    "SCRIPT_NAME": f"{script}{PREFIX}{guess}",
                    "PATH_INFO": f"/{rest}" if rest else "/webhook",
                    USED: True,
                }
        return self._app(environ, start_response)


def was_used(environ: Mapping[str, Any]) -> bool:
    """Whether a request came by the secret address. A header cannot say so."""
    return environ.get(USED) is True
