"""A server that answers with JSON: a small part of Label Studio's API, or of the service."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .label_studio import LEGACY_TOKEN, PERSONAL_TOKEN


@dataclass(frozen=True)
class Asked:
    """One request. `headers`: by their names in small letters."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    authorization: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = tuple[int, object]
Route = Callable[[Asked], Answer]


@dataclass
class JsonServer:
    """`routes` may be changed at any time: "GET /path" -> (status, JSON) or a function of Asked.

    A text is sent as it is, as HTML.
    """

    routes: dict[str, Answer | Route] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def bodies(self, route: str) -> list[Any]:
        """What was sent to one route, in order."""
        return [one.body for one in self.asked if f"{one.method} {one.path}" == route]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        found = self.routes.get(f"{asked.method} {asked.path}", (404, {"detail": "Not found."}))
        return found(asked) if callable(found) else found


@contextmanager
def json_server(routes: Mapping[str, Answer | Route] | None = None) -> Iterator[JsonServer]:
    """A running JsonServer on a free port of this machine."""
    state = JsonServer(dict(routes or {}))

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = state.answer(
                Asked(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query)),
                    body=json.loads(content) if content else None,
                    authorization=self.headers.get("Authorization"),
                    headers={name.lower(): value for name, value in self.headers.items()},
                )
            )
            is_page = isinstance(body, str)
            sent = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = _handle

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


VERSION = "paintbox-colours-1a2b3c4d"
CONFIG = (
    '<View><Image name="photo" value="$image"/><BrushLabels name="masks" toName="photo">'
    '<Label value="red"/><Label value="blue"/></BrushLabels></View>'
)


def studio_routes() -> dict[str, Answer | Route]:
    """Label Studio 1.23.2 in good order, with project 3 of two tasks, as seen on the wire."""

    def whoami(asked: Asked) -> Answer:
        accepted = (f"Token {LEGACY_TOKEN}", "Bearer access-1")
        if asked.authorization not in accepted:
            return 401, {"detail": "Invalid token."}
        return 200, {"id": 1, "email": "admin@example.com"}

    def refresh(asked: Asked) -> Answer:
        if asked.body["refresh"] != PERSONAL_TOKEN:
            return 401, {"detail": "Token is invalid"}
        return 200, {"access": "access-1"}

    def tasks(asked: Asked) -> Answer:
        listed = [
            {"id": 8, "data": {"image": "/data/upload/3/a.png"}},
            {"id": 9, "data": {"image": "/data/upload/3/b.png"}},
        ]
        for rule in json.loads(asked.query["query"])["filters"]["items"]:
            if rule["filter"] == "filter:tasks:id":
                listed = [one for one in listed if one["id"] == rule["value"]]
        return 200, {"total": len(listed), "tasks": listed[:1]}

    missing = {"validation_errors": {"project": ["This field is required."]}}
    action = {"validation_errors": {"actions": {"0": ['"NOT_AN_ACTION" is not a valid choice.']}}}
    return {
        "GET /api/version": (200, {"release": "1.23.2", "label-studio-os-package": {}}),
        "GET /user/login/": (200, '<link href="/static/css/main.css" rel="stylesheet"/>'),
        "POST /api/token/refresh": refresh,
        "GET /api/current-user/whoami": whoami,
        "GET /api/projects/": (200, {"count": 1, "results": [{"id": 3, "title": "Cats"}]}),
        "GET /api/projects/3": (
            200,
            {
                "id": 3,
                "title": "Cats",
                "task_number": 2,
                "label_config": CONFIG,
                "model_version": VERSION,
            },
        ),
        "GET /api/ml": (200, []),
        "GET /api/webhooks/": (200, []),
        "POST /api/ml": (400, missing),
        "POST /api/webhooks/": (400, action),
        "GET /api/tasks": tasks,
        "PATCH /api/projects/3/": (200, {}),
    }


def service_routes() -> dict[str, Answer | Route]:
    """The service in good order."""
    return {
        "GET /health": (
            200,
            {
                "status": "UP",
                "model_class": "CLIPer",
                "profile": "paintbox",
                "model": {"state": "ready", "progress": 100, "reason": None},
                "other_models": [],
                "method": "colours",
                "device": "cpu",
                "dtype": "float32",
                "fallbacks": [],
            },
        ),
        "POST /setup": (200, {"model_version": VERSION}),
    }
