"""A server that plays Label Studio's part as a place for files, with its two kinds of tokens."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEGACY_TOKEN = "0123456789abcdef0123456789abcdef01234567"
PERSONAL_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbiI6InJlZnJlc2gifQ.c2lnbmF0dXJl"


@dataclass
class Reply:
    """What a path answers; `length` lies about the size of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class FileServer:
    """`files` may be changed at any time; `asked` lists (path, Authorization) of every request.

    Without `tokens` anybody may read. A personal token is exchanged for `access-1`,
    `access-2`, ...; only the newest is accepted.
    """

    files: dict[str, Reply] = field(default_factory=dict)
    guarded: bool = False
    legacy_tokens: frozenset[str] = frozenset({LEGACY_TOKEN})
    personal_tokens: frozenset[str] = frozenset({PERSONAL_TOKEN})
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    exchanges: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, path: str, body: bytes) -> None:
        self.files[path] = Reply(body)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def lets_in(self, authorization: str | None) -> bool:
        if not self.guarded:
            return True
        accepted = {f"Token {token}" for token in self.legacy_tokens}
        if self.exchanges:
            accepted.add(f"Bearer access-{self.exchanges}")
        return authorization in accepted


@contextmanager
def file_server(**options: object) -> Iterator[FileServer]:
    """A running FileServer on a free port of this machine."""
    state = FileServer(**options)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with state.lock:
                state.asked.append((self.path, self.headers.get("Authorization")))
                allowed = state.lets_in(self.headers.get("Authorization"))
            reply = state.files.get(self.path, Reply(b"not found", 404))
            self._send(reply if allowed else Reply(b"{}", 401))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with state.lock:
                state.asked.append((self.path, self.headers.get("Authorization")))
                if self.path != "/api/token/refresh":
                    reply = Reply(b"not found", 404)
                elif json.loads(body).get("refresh") in state.personal_tokens:
                    state.exchanges += 1
                    reply = Reply(json.dumps({"access": f"access-{state.exchanges}"}).encode())
                else:
                    reply = Reply(b"{}", 401)
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length is None else reply.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(reply.body)

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
