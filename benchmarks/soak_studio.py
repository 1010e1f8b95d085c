"""A Label Studio for a soak: pictures of every kind of address, and the API that learning asks.

Good pictures are drawn scenes. The same scene may be asked for under any number of names, each a
file of its own with other bytes and the same pixels: `/data/upload/1/<scene>-<anything>.png`. So
nobody has seen it before, and yet the right answer is known.
"""

import binascii
import json
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from backend.demo import projects
from tests.doubles.studio_server import Call, StudioServer

PIECES = 33  # bytes of a PNG's signature and header, in front of everything else
BROKEN = ("cut", "empty", "text", "vast", "gone")


class Studio:
    """Address, scenes, and the state behind the API."""

    def __init__(self, scenes: Sequence[projects.Picture]) -> None:
        self.scenes = scenes
        self.state = StudioServer()
        self.url = ""
        self._files = [scene.to_png() for scene in scenes]

    def file(self, name: str) -> bytes | None:
        """What lies under a name; None: nothing."""
        first, _, rest = name.removesuffix(".png").partition("-")
        if first in BROKEN:
            return self._broken(first, rest)
        if not first.isdigit() or int(first) >= len(self._files):
            return None
        return marked(self._files[int(first)], rest) if rest else self._files[int(first)]

    def _broken(self, kind: str, rest: str) -> bytes | None:
        whole = marked(self._files[0], rest)
        return {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "text": f"<html>{rest}</html>".encode(),
            "vast": vast(whole),
        }.get(kind)

    def correct(self, task: int, regions: list[dict[str, Any]]) -> tuple[int, bool]:
        """Somebody submits regions for a task: the annotation's number, and whether it is new."""
        with self.state.lock:
            known = [n for n, one in self.state.annotations.items() if one["task"] == task]
            number = known[0] if known else self.state.annotate(task)
            moment = self.state.now()
            one = self.state.annotations[number]
            one.setdefault("created_at", moment)
            one |= {"result": regions, "updated_at": moment, "lead_time": 20.0}
            return number, not known


def marked(png: bytes, text: str) -> bytes:
    """The same picture with a remark in it: other bytes, equal pixels. Source: PNG, tEXt."""
    return png[:PIECES] + _piece(b"tEXt", b"soak\0" + text.encode("latin-1")) + png[PIECES:]


def vast(png: bytes) -> bytes:
    """Says that it has 60,000 x 60,000 pixels, which it has not."""
    header = struct.pack(">II", 60_000, 60_000) + png[24:29]
    return png[:8] + _piece(b"IHDR", header) + png[PIECES:]


def _piece(kind: bytes, content: bytes) -> bytes:
    check = binascii.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


@contextmanager
def running(studio: Studio) -> Iterator[Studio]:
    """The studio on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if parts.path.startswith("/data/upload/"):
                body = studio.file(parts.path.rpartition("/")[2])
                self._send(404 if body is None else 200, body or b"")
                return
            call = Call(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                body=json.loads(content) if content else None,
                authorization=self.headers.get("Authorization"),
            )
            status, told = studio.state.answer(call)
            self._send(status, b"" if told is None else json.dumps(told).encode())

        do_GET = do_POST = do_PATCH = do_DELETE = _handle

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    studio.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield studio
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
