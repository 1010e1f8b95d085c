"""A backend that understands nothing, writes down what it is asked, and answers what it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

from backend.demo.processes import LOOPBACK

Json = dict[str, Any]

VERSION = "spy-1"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it came in."""

    path: str  # "/predict"
    body: Json  # empty for a request without one


@dataclass
class SpyBackend:
    """`calls` are all requests so far, oldest first.

    `answer` makes the result list of a prompt from its context; tasks that come without a
    prompt get an empty prediction. It runs in the server's threads.
    """

    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Json], list[Json]] = lambda context: []
    url: str = ""

    def prompts(self) -> list[Json]:
        """The bodies of all /predict requests that came with a prompt, oldest first."""
        return [
            call.body
            for call in list(self.calls)
            if call.path == "/predict" and call.body["params"]["context"] is not None
        ]

    def reply(self, call: Call) -> Json:
        """What the protocol wants for this request."""
        if call.path == "/health":
            return {"status": "UP", "model_class": "Spy"}
        if call.path == "/setup":
            return {"model_version": VERSION}
        if call.path == "/predict":
            context = call.body["params"]["context"]
            result = [] if context is None else self.answer(context)
            return {
                "results": [
                    {"result": result, "score": 0.5, "model_version": VERSION}
                    for _ in call.body["tasks"]
                ]
            }
        return {}


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        return


@contextmanager
def spy_backend() -> Iterator[SpyBackend]:
    """A running SpyBackend on a free port of this machine."""
    spy = SpyBackend()
    app = Flask("spy backend")

    @app.route("/<path:path>", methods=["GET", "POST"])
    def any_route(path: str) -> Json:
        call = Call(path=f"/{path}", body=request.get_json(silent=True) or {})
        spy.calls.append(call)
        return spy.reply(call)

    server = make_server(LOOPBACK, 0, app, threaded=True, request_handler=_Silent)
    spy.url = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield spy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
