"""Addresses as tasks carry them: uploads, local files, data:, the web, Label Studio's own."""

import base64
import os
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from backend.errors import (
    AddressRefused,
    ImageBroken,
    ImageError,
    ImageMissing,
    ImageTooLarge,
    TokenRefused,
    Unreachable,
    WrongStatus,
)
from backend.images.guarded import Answer, GuardedHttp
from backend.images.label_studio import LabelStudioFiles

from ....doubles.label_studio import LEGACY_TOKEN, PERSONAL_TOKEN, FileServer, Reply
from .conftest import PUBLIC, Internet, MakeFetcher

LONG = {"timeout": 60}


@pytest.mark.parametrize(
    ("sub_path", "address"),
    [
        ("", "/data/upload/1/6874d50f-img0.png"),
        ("", "/upload/1/6874d50f-img0.png"),
        ("", "upload/1/6874d50f-img0.png"),
        ("/label-studio", "/label-studio/data/upload/1/6874d50f-img0.png"),
        ("/label-studio", "/data/upload/1/6874d50f-img0.png"),
    ],
)
def test_every_spelling_of_an_upload_is_found(
    fetcher_of: MakeFetcher, server: FileServer, sub_path: str, address: str
):
    server.put(f"{sub_path}/data/upload/1/6874d50f-img0.png", b"picture")

    assert fetcher_of(server.url + sub_path).fetch(address, timeout=30) == b"picture"


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/../../api/users",
        "/data/upload/%2e%2e/%2e%2e/api/users",
        "/data/upload/%252e%252e/api/users",
        "/data/upload/..\\..\\api/users",
        "/data/local-files/?d=../etc/passwd",
        "/data/local-files/?d=%2e%2e/etc/passwd",
    ],
)
def test_the_token_is_not_walked_to_other_places(
    fetcher_of: MakeFetcher, server: FileServer, address: str
):
    with pytest.raises(AddressRefused, match=r"climbs out of its folder with '\.\.'"):
        fetcher_of(server.url, api_key=LEGACY_TOKEN).fetch(address, timeout=30)

    assert server.asked == []


def test_local_files_are_asked_of_label_studio_without_a_folder_of_our_own(
    fetcher_of: MakeFetcher, server: FileServer
):
    server.put("/data/local-files/?d=scenes/a%20b.png", b"picture")

    data = fetcher_of(server.url).fetch("/data/local-files/?d=scenes/a%20b.png", timeout=30)

    assert data == b"picture"


def test_local_files_are_read_from_our_own_folder_where_there_is_one(
    fetcher_of: MakeFetcher, server: FileServer, tmp_path: Path
):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a b.png").write_bytes(b"picture")
    fetcher = fetcher_of(server.url, document_root=tmp_path)

    for spelling in ("scenes/a%20b.png", "scenes/a b.png", quote("/scenes/a b.png", safe="")):
        assert fetcher.fetch(f"/data/local-files/?d={spelling}", timeout=30) == b"picture"
    assert server.asked == []


def test_local_files_stay_in_their_folder_also_through_links(
    fetcher_of: MakeFetcher, tmp_path: Path
):
    secret, root = tmp_path / "secret.png", tmp_path / "root"
    root.mkdir()
    secret.write_bytes(b"secret")
    os.symlink(secret, root / "link.png")
    os.symlink(tmp_path, root / "up")
    fetcher = fetcher_of(document_root=root)

    for inside in ("link.png", "up/secret.png"):
        with pytest.raises(AddressRefused, match="leads out of LOCAL_FILES_DOCUMENT_ROOT"):
            fetcher.fetch(f"/data/local-files/?d={inside}", timeout=30)
    with pytest.raises(ImageMissing, match="there is no file"):
        fetcher.fetch(f"/data/local-files/?d={secret}", timeout=30)


@pytest.mark.parametrize("inside", ["missing.png", "", "folder", "a%00b", "x" * 300])
def test_local_files_that_cannot_be_read_are_missing(
    fetcher_of: MakeFetcher, tmp_path: Path, inside: str
):
    (tmp_path / "folder").mkdir()

    with pytest.raises(ImageMissing):
        fetcher_of(document_root=tmp_path).fetch(f"/data/local-files/?d={inside}", timeout=30)


def test_a_local_file_that_is_too_large_is_not_read_whole(fetcher_of: MakeFetcher, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x" * 1001)

    with pytest.raises(ImageTooLarge):
        fetcher_of(document_root=tmp_path, max_bytes=1000).fetch(
            "/data/local-files/?d=a.png", timeout=30
        )


def test_pictures_may_travel_inside_the_task(fetcher_of: MakeFetcher):
    fetcher = fetcher_of()
    packed = base64.b64encode(b"picture").decode()

    assert fetcher.fetch(f"data:image/png;base64,{packed}", timeout=30) == b"picture"
    assert fetcher.fetch(f"DATA:image/png;charset=x;base64,{quote(packed)}", timeout=30) == (
        b"picture"
    )
    assert fetcher.fetch("data:text/plain,a%20b", timeout=30) == b"a b"


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("data:image/png;base64", ImageBroken),
        ("data:image/png;base64,@@@", ImageBroken),
        ("data:image/png;base64,abc", ImageBroken),
        ("data:," + "x" * 1001, ImageTooLarge),
        ("data:," + "x" * 5000, ImageTooLarge),
    ],
)
def test_broken_data_addresses_are_refused(fetcher_of: MakeFetcher, address: str, error):
    with pytest.raises(error):
        fetcher_of(max_bytes=1000).fetch(address, timeout=30)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://pictures.example/tasks/1/resolve/?fileuri=YQ==", "ftp:// is not fetched"),
        ("file:///etc/passwd", "file:// is not fetched; known are"),
        ("/etc/passwd", "'/etc/passwd' is no address we know; known are"),
        ("picture.png", "'picture.png' is no address we know; known are"),
    ],
)
def test_other_addresses_are_refused_in_a_sentence(
    fetcher_of: MakeFetcher, address: str, sentence: str
):
    with pytest.raises(AddressRefused) as caught:
        fetcher_of("http://studio.local").fetch(address, timeout=30)

    assert str(caught.value).startswith(sentence)


def test_the_token_goes_to_label_studio_s_own_addresses_only(
    fetcher_of: MakeFetcher, internet: Internet, server: FileServer, another_server: FileServer
):
    internet.host("studio.local", "10.0.0.7", server)
    internet.host("pictures.example", PUBLIC, another_server)
    http = internet.http(trusted="http://studio.local:8080")
    fetcher = fetcher_of("http://studio.local:8080", api_key=LEGACY_TOKEN, http=http)
    server.put("/data/upload/1/a.png", b"ours")
    server.files["/moved.png"] = Reply(
        status=302, headers={"Location": "http://pictures.example/b.png"}
    )
    another_server.put("/b.png", b"theirs")

    absolute = "http://studio.local:8080/data/upload/1/a.png"
    assert fetcher.fetch(absolute, timeout=30) == b"ours"
    assert fetcher.fetch("http://pictures.example/b.png", timeout=30) == b"theirs"
    assert fetcher.fetch("http://studio.local:8080/moved.png", timeout=30) == b"theirs"
    with pytest.raises(AddressRefused, match="carries a user name"):
        fetcher.fetch("http://studio.local:8080@pictures.example/b.png", timeout=30)

    assert {authorization for _, authorization in server.asked} == {f"Token {LEGACY_TOKEN}"}
    assert [authorization for _, authorization in another_server.asked] == [None, None]


@pytest.mark.parametrize(
    ("reply", "error", "sentence"),
    [
        (Reply(status=404), ImageMissing, r"there is nothing at .* \(HTTP 404\)"),
        (Reply(status=500), WrongStatus, "answered HTTP 500"),
        (Reply(status=204), WrongStatus, "answered HTTP 204"),
    ],
)
def test_each_bad_answer_has_its_sentence(
    fetcher_of: MakeFetcher, server: FileServer, reply: Reply, error, sentence: str
):
    server.files["/data/upload/1/a.png"] = reply

    with pytest.raises(error, match=sentence):
        fetcher_of(server.url).fetch("/data/upload/1/a.png", timeout=30)


def test_a_personal_token_is_exchanged_once_and_again_when_it_has_expired(
    fetcher_of: MakeFetcher, server: FileServer
):
    server.guarded = True
    server.put("/data/upload/1/a.png", b"picture")
    fetcher = fetcher_of(server.url, api_key=PERSONAL_TOKEN)

    fetcher.fetch("/data/upload/1/a.png", timeout=30)
    fetcher.fetch("/data/upload/1/a.png", timeout=30)
    assert server.exchanges == 1
    server.exchanges = 5  # the server has moved on: access-1 is refused from now
    fetcher.fetch("/data/upload/1/a.png", timeout=30)

    assert server.exchanges == 6
    assert [authorization for path, authorization in server.asked if "upload" in path] == [
        "Bearer access-1",
        "Bearer access-1",
        "Bearer access-1",
        "Bearer access-6",
    ]


def test_many_threads_with_an_expired_token_exchange_it_once(server: FileServer):
    server.guarded = True
    server.put("/a.png", b"picture")
    studio = LabelStudioFiles(
        server.url, PERSONAL_TOKEN, GuardedHttp(trusted=server.url, max_bytes=1000)
    )
    studio.get(f"{server.url}/a.png", timeout=30)
    server.exchanges = 7
    ready = threading.Barrier(6)
    bodies = []

    def ask() -> None:
        ready.wait(30)
        bodies.append(studio.get(f"{server.url}/a.png", timeout=30).body)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bodies == [b"picture"] * 6
    assert server.exchanges == 8


class SlowStudio:
    """Each answer takes `pace` seconds of the test's clock; tokens are refused."""

    def __init__(self, pace: float) -> None:
        self.pace, self.now = pace, 0.0
        self.given: list[float] = []

    def get(self, url: str, *, timeout: float, headers) -> Answer:
        return self._answer(401, b"", timeout)

    def post_json(self, url: str, body: bytes, *, timeout: float) -> Answer:
        return self._answer(200, b'{"access": "a"}', timeout)

    def _answer(self, status: int, body: bytes, timeout: float) -> Answer:
        self.given.append(timeout)
        self.now += self.pace
        return Answer(status, "", body, "http://studio.local/a.png")


def test_renewing_the_token_takes_no_more_time_than_was_given():
    http = SlowStudio(pace=4.0)
    studio = LabelStudioFiles("http://studio.local", PERSONAL_TOKEN, http, clock=lambda: http.now)

    with pytest.raises(Unreachable, match=r"at http://studio\.local did not answer in time"):
        studio.get("http://studio.local/a.png", timeout=10.0)

    assert http.given == [10.0, 6.0, 2.0]


def test_waiting_for_another_thread_s_token_ends_in_time():
    asked, go_on = threading.Event(), threading.Event()

    class Stuck(SlowStudio):
        def post_json(self, url: str, body: bytes, *, timeout: float) -> Answer:
            asked.set()
            assert go_on.wait(60)
            return super().post_json(url, body, timeout=timeout)

        def get(self, url: str, *, timeout: float, headers) -> Answer:
            return Answer(200, "", b"picture", url)

    studio = LabelStudioFiles("http://studio.local", PERSONAL_TOKEN, Stuck(pace=0.0))
    first = threading.Thread(target=studio.get, args=("http://studio.local/a",), kwargs=LONG)
    first.start()
    assert asked.wait(60)

    with pytest.raises(Unreachable, match="did not answer in time"):
        studio.get("http://studio.local/b", timeout=0.05)

    assert first.is_alive()
    go_on.set()
    first.join()


@pytest.mark.parametrize("name", ["ab12-local-files.png", "local-files.png", "local-files-2/a.png"])
def test_an_upload_may_be_called_like_the_local_files(
    fetcher_of: MakeFetcher, server: FileServer, name: str
):
    server.put(f"/data/upload/1/{name}", b"picture")

    assert fetcher_of(server.url).fetch(f"/data/upload/1/{name}", timeout=30) == b"picture"


@pytest.mark.parametrize(
    "address",
    [
        "https://[bad].example/a.jpg",
        "http://[::1",
        "//[x/local-files/?d=a",
        "//[x/upload/a",
        "data:,a\ud800",
        "/data/upload/1/\ud800.png",
        "/data/local-files/?d=\ud800",
        "http://pictures.example/\ud800",
    ],
)
def test_an_address_made_of_rubbish_is_an_image_error(
    fetcher_of: MakeFetcher, server: FileServer, address: str
):
    with pytest.raises(ImageError):
        fetcher_of(server.url).fetch(address, timeout=30)


def test_a_fetcher_knows_whom_it_would_ask(fetcher_of: MakeFetcher, tmp_path: Path):
    fetcher = fetcher_of("http://studio.local:8080/sub")
    asked = {
        "/data/upload/1/a.png": "http://studio.local:8080",
        "/data/local-files/?d=a.png": "http://studio.local:8080",
        "http://studio.local:8080/x": "http://studio.local:8080",
        "https://me:secret@Pictures.example/a": "https://pictures.example",
        "data:,http://pictures.example/": None,
        "/etc/passwd": None,
        "https://[bad].example/a.jpg": None,
    }

    assert {address: fetcher.server(address) for address in asked} == asked
    with_folder = fetcher_of("http://studio.local:8080", document_root=tmp_path)
    assert with_folder.server("/data/local-files/?d=a.png") is None


def test_one_picture_is_unpacked_at_a_time(
    fetcher_of: MakeFetcher, monkeypatch: pytest.MonkeyPatch
):
    decoding = threading.BoundedSemaphore(1)
    fetcher = replace(fetcher_of(), decoding=decoding)
    free_meanwhile = []

    def watched(data: bytes, *, max_pixels: int, page: int) -> None:
        free_meanwhile.append(decoding.acquire(blocking=False))
        raise ImageBroken("not whole")

    monkeypatch.setattr("backend.images.decode.decode", watched)
    for _ in range(2):
        with pytest.raises(ImageBroken):
            fetcher.decode(b"x")

    assert free_meanwhile == [False, False]
    assert decoding.acquire(blocking=False)


def test_a_personal_token_nobody_accepts_is_refused_in_a_sentence(
    fetcher_of: MakeFetcher, server: FileServer
):
    server.guarded = True
    server.personal_tokens = frozenset()

    with pytest.raises(TokenRefused, match=r"refused the token \(401\); check LABEL_STUDIO_API"):
        fetcher_of(server.url, api_key=PERSONAL_TOKEN).fetch("/data/upload/1/a", timeout=30)


def test_every_failure_is_an_image_error():
    for error in (AddressRefused, ImageBroken, ImageMissing, TokenRefused, Unreachable):
        assert issubclass(error, ImageError)


def test_an_address_longer_than_servers_take_is_refused_and_nobody_is_asked(
    fetcher_of: MakeFetcher,
):
    fetcher = fetcher_of()
    address = "upload/" * 10_000 + "?"  # took minutes to be held against the form of an upload

    with pytest.raises(AddressRefused, match="has 70001 characters, more than 8000"):
        fetcher.fetch(address, timeout=5)
    assert fetcher.server(address) is None
