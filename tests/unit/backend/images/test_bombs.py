"""Small files that would become large ones, files that are no pictures, answers without an end."""

import gzip
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.errors import ImageBroken, ImageTooLarge, Unreachable
from backend.images.decode import decode
from backend.images.guarded import GuardedHttp

from ....doubles.label_studio import FileServer, Reply
from .conftest import PUBLIC, Internet, MakeFetcher

BLACK = zlib.compress(bytes(300_000_000))  # 300 kB
SPARE_MIB = 250  # one picture as large as allowed; any bomb that went off would take more

READ_ALL = """
import json, resource, sys
from pathlib import Path
from backend.errors import ImageError
from backend.images.decode import decode

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

said = {}
before = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    try:
        said[path.name] = str(decode(data, max_pixels=120_000_000).shape)
    except ImageError as error:
        said[path.name] = f"{type(error).__name__}: {error}"
print(json.dumps({"grown": peak() - before, "said": said}))
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, pixels: bytes = zlib.compress(bytes(200))) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def saved(kind: str, **options: object) -> bytearray:
    buffer = io.BytesIO()
    Image.new("RGB" if kind != "GIF" else "P", (16, 16)).save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


def gif(*, screen: int = 16, frame: int = 16) -> bytes:
    data = saved("GIF")
    place = bytes(data).index(b"\x2c\0\0\0\0\x10\0\x10\0")
    data[6:10] = struct.pack("<HH", screen, screen)
    data[place + 5 : place + 9] = struct.pack("<HH", frame, frame)
    return bytes(data)


def webp(side: int) -> bytes:
    """An animation on a canvas of `side` pixels with one small frame."""
    inner = bytes(saved("WEBP", lossless=True)[12:])
    size = (side - 1).to_bytes(3, "little")
    frame = bytes(6) + (15).to_bytes(3, "little") * 2 + bytes(4) + inner
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size * 2
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame))
    return b"RIFF" + struct.pack("<I", len(body + frame)) + body + frame


def tiff(side: int) -> bytes:
    """One packed strip that says it is a picture of `side` pixels."""
    packed = zlib.compress(bytes(1000))
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 8), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, side), (279, 4, len(packed))]
    body = packed + bytes(len(packed) % 2)
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4)


def tiff_of_tags(many: int) -> bytes:
    """A pixel, and tags that all name the same `many` numbers."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    body = struct.pack(f"<{many}I", *range(many))
    entries += [(273, 4, many, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, many, 8)]
    entries += [(tag, 4, many, 8) for tag in range(40_000, 40_100)]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4)


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


def jpeg(side: int) -> bytes:
    data = saved("JPEG")
    place = bytes(data).index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(data)


TOO_LARGE, BROKEN, SMALL = "ImageTooLarge", "ImageBroken", "(8, 8, 3)"
BOMBS = {
    "png-pixels": (png(60_000, 60_000), TOO_LARGE),
    "png-more-data-than-pixels": (png(8, 8, pixels=BLACK), SMALL),
    "png-packed-text": (png(8, 8, chunk(b"zTXt", b"a\0\0" + BLACK)), BROKEN),
    "png-packed-unicode": (png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + BLACK)), BROKEN),
    "png-packed-profile": (png(8, 8, chunk(b"iCCP", b"a\0\0" + BLACK)), BROKEN),
    "jpeg-pixels": (jpeg(65_000), TOO_LARGE),
    "gif-screen": (gif(screen=65_535), TOO_LARGE),
    "gif-frame": (gif(frame=65_535), TOO_LARGE),
    "webp-canvas": (webp(16_383), TOO_LARGE),
    "tiff-pixels": (tiff(60_000), TOO_LARGE),
    "tiff-less-data-than-pixels": (tiff(10_000), BROKEN),
    "tiff-endless-tags": (tiff_of_tags(50_000), BROKEN),
    "bmp-pixels": (bmp(60_000, 60_000), TOO_LARGE),
    "bmp-below-nothing": (bmp(-5, -60_000), TOO_LARGE),
    "ppm-pixels": (b"P6 60000 60000 255\n" + bytes(1000), TOO_LARGE),
    "ppm-text": (b"P3 9000 9000 255\n" + b"0 " * 1000, BROKEN),
    "jpeg2000": (bytes(saved("JPEG2000")), BROKEN),
}


def test_no_bomb_goes_off(tmp_path: Path):
    for name, (data, _) in BOMBS.items():
        (tmp_path / name).write_bytes(data)

    child = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = json.loads(child.stdout)

    assert told["said"].keys() == BOMBS.keys()
    for name, (_, wanted) in BOMBS.items():
        assert told["said"][name].startswith(wanted), (name, told["said"][name])
    assert told["grown"] < SPARE_MIB


def test_of_many_frames_the_first_is_shown():
    frames = [Image.new("P", (4, 4), index % 2) for index in range(300)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=10)

    assert decode(buffer.getvalue(), max_pixels=16).shape == (4, 4, 3)


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
TEXTS = {
    "svg": (SVG, "the file is an SVG drawing"),
    "svg with a head": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->" + SVG, "an SVG drawing"),
    "svg with entities": (
        b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "an SVG drawing",
    ),
    "xml": (b'<?xml version="1.0"?><a/>', "not a picture but a text in XML or HTML"),
    "packed svg": (gzip.compress(SVG), "not a picture of a known format"),
    "login page": (
        b"\n<!DOCTYPE html>\n<html><title>Log in</title></html>",
        "the file is not a picture but a web page; is LABEL_STUDIO_API_KEY right?",
    ),
    "login page in capitals": (b"\xef\xbb\xbf<HTML><BODY>", "but a web page; is LABEL_STUDIO_API"),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not a picture of a known",
    ),
    "pdf": (b"%PDF-1.7\n", "not a picture of a known"),
    "script": (b"#!/bin/sh\n", "not a picture of a known"),
    "json": (b'{"detail": "no"}', "not a picture of a known"),
    "icon": (b"\0\0\1\0" + bytes(100), "not a picture of a known"),
}


@pytest.mark.parametrize("called", ["image/png", "image/svg+xml", "text/html", ""])
@pytest.mark.parametrize(("body", "sentence"), TEXTS.values(), ids=TEXTS)
def test_what_a_file_is_called_does_not_make_it_a_picture(
    internet: Internet,
    server: FileServer,
    fetcher_of: MakeFetcher,
    body: bytes,
    sentence: str,
    called: str,
):
    internet.host("good.example", PUBLIC, server)
    server.files["/a.png"] = Reply(body, headers={"Content-Type": called})
    fetcher = fetcher_of(http=internet.http())

    with pytest.raises(ImageBroken, match=sentence.replace("?", r"\?")):
        fetcher.decode(fetcher.fetch("http://good.example/a.png", timeout=30))


def test_a_picture_is_one_whatever_it_is_called(
    internet: Internet, server: FileServer, fetcher_of: MakeFetcher
):
    internet.host("good.example", PUBLIC, server)
    server.files["/a"] = Reply(bytes(saved("PNG")), headers={"Content-Type": "text/html"})
    fetcher = fetcher_of(http=internet.http())

    pixels = fetcher.decode(fetcher.fetch("http://good.example/a", timeout=30))

    np.testing.assert_array_equal(pixels, np.zeros((16, 16, 3), np.uint8))


@contextmanager
def speaking(say: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server of this machine that says what it likes, once; its address."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                try:
                    say(connection, over)
                except OSError:  # the other side has heard enough
                    return

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            thread.join()


def asked(say: Callable[[socket.socket, threading.Event], None], *, timeout: float = 30) -> bytes:
    with speaking(say) as url:
        return GuardedHttp(trusted=url, max_bytes=10_000).get(url, timeout=timeout).body


def saying(*parts: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, over: connection.sendall(b"".join(parts))


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def test_no_more_is_read_than_was_announced():
    assert asked(saying(OK, b"Content-Length: 4\r\n\r\n", b"good", b"evil" * 1000)) == b"good"


@pytest.mark.parametrize(
    "body",
    [
        OK + b"\r\n" + bytes(20_000),
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        CHUNKED + b"4e20\r\n" + bytes(20_000) + b"\r\n0\r\n\r\n",
        CHUNKED + b"1\r\na\r\n" * 20_000,
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10_000_000)),
        OK + b"Content-Encoding: deflate\r\n\r\n" + BLACK,
    ],
    ids=["unannounced", "announced", "one chunk", "many chunks", "gzip", "deflate"],
)
def test_no_more_is_kept_than_allowed(body: bytes):
    with pytest.raises(ImageTooLarge, match=r"more than 0\.01 MB \(MAX_IMAGE_MB\)"):
        asked(saying(body))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (OK + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n", "cannot be reached: LineTooLong"),
        (OK + b"X-Many: a\r\n" * 200 + b"\r\n", "cannot be reached: HTTPException"),
        (b"HTTP/1.1 " + b"2" * 70_000, "cannot be reached: LineTooLong"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "cannot be reached: BadStatusLine"),
        (b"", "cannot be reached"),
        (OK + b"Content-Encoding: gzip\r\n\r\nno gzip", "is not packed as it says it is"),
        (OK + b"Content-Encoding: deflate\r\n\r\n\xff\xff", "is not packed as it says it is"),
        (OK + b"Content-Encoding: br\r\n\r\nx", "answers in an unknown packing 'br'"),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"picture")[:-9],
            "the answer ended too early",
        ),
        (CHUNKED + b"5\r\nab", "the answer ended too early"),
        (CHUNKED + b"xyz\r\nab", "cannot be reached|ended too early"),
    ],
)
def test_a_broken_answer_is_a_sentence(answer: bytes, sentence: str):
    with pytest.raises(Unreachable, match=sentence):
        asked(saying(answer))


@pytest.mark.parametrize(
    ("greeting", "drop"),
    [
        (b"", b"a"),
        (OK, b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 9999\r\n\r\n", b"a"),
        (CHUNKED, b"1\r\na\r\n"),
    ],
    ids=["status line", "headers", "go on, go on", "body", "chunks"],
)
def test_whatever_drips_is_left_at_the_deadline(greeting: bytes, drop: bytes):
    def drip(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(greeting)
        while not over.wait(0.02):
            connection.sendall(drop)

    with pytest.raises(Unreachable, match="did not answer in time"):
        asked(drip, timeout=0.3)
