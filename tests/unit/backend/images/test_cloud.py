"""Addresses of stores, fetched through Label Studio, which holds the keys."""

import base64
from urllib.parse import quote

import pytest

from backend.errors import AddressRefused, ImageMissing, TokenRefused, Unreachable

from ....doubles.label_studio import LEGACY_TOKEN, FileServer, Reply
from .conftest import PUBLIC, Internet, MakeFetcher

STUDIO = "http://studio.local:8080"
STORE = "http://store.example:9000"
PICTURE = "s3://shots/a b/ü.png"


def packed(uri: str) -> str:
    return base64.urlsafe_b64encode(uri.encode()).decode()


def presign(uri: str, task: int = 7) -> str:
    return f"/tasks/{task}/presign/?fileuri={packed(uri)}"


def redirect(location: str) -> Reply:
    return Reply(status=303, headers={"Location": location})


@pytest.mark.parametrize("uri", [PICTURE, "gs://shots/a.png", "azure-blob://shots/a.png"])
def test_a_store_s_address_is_resolved_through_the_task(
    fetcher_of: MakeFetcher, server: FileServer, uri: str
):
    server.put(presign(uri), b"picture")  # as where Label Studio hands the bytes on itself

    assert fetcher_of(server.url).fetch(uri, timeout=30, task_id=7) == b"picture"


def test_label_studio_under_a_sub_path_resolves_too(fetcher_of: MakeFetcher, server: FileServer):
    server.put("/label-studio" + presign(PICTURE), b"picture")
    fetcher = fetcher_of(server.url + "/label-studio")

    assert fetcher.fetch(PICTURE, timeout=30, task_id=7) == b"picture"


@pytest.mark.parametrize(
    "path", ["/tasks/3/resolve/", "/tasks/3/presign/", "/projects/2/resolve/", "tasks/3/resolve/"]
)
def test_label_studio_s_own_resolving_addresses_work_without_a_task(
    fetcher_of: MakeFetcher, server: FileServer, path: str
):
    address = f"{path}?fileuri={packed(PICTURE)}"
    server.put("/" + address.lstrip("/"), b"picture")
    fetcher = fetcher_of(server.url)

    assert fetcher.fetch(address, timeout=30) == b"picture"
    assert fetcher.fetch(f"{server.url}/{address.lstrip('/')}", timeout=30) == b"picture"


def test_a_resolving_address_keeps_its_sub_path_once(fetcher_of: MakeFetcher, server: FileServer):
    address = f"/sub/tasks/3/resolve/?fileuri={packed(PICTURE)}"
    server.put(address, b"picture")

    assert fetcher_of(server.url + "/sub").fetch(address, timeout=30) == b"picture"


def test_the_token_does_not_follow_to_the_store(
    fetcher_of: MakeFetcher, internet: Internet, server: FileServer, another_server: FileServer
):
    internet.host("studio.local", "10.0.0.7", server)
    internet.host("store.example", PUBLIC, another_server)
    server.files[presign(PICTURE)] = redirect(f"{STORE}/shots/a.png?X-Amz-Signature=5")
    another_server.put("/shots/a.png?X-Amz-Signature=5", b"picture")
    fetcher = fetcher_of(STUDIO, api_key=LEGACY_TOKEN, http=internet.http(trusted=STUDIO))

    assert fetcher.fetch(PICTURE, timeout=30, task_id=7) == b"picture"

    assert server.asked == [(presign(PICTURE), f"Token {LEGACY_TOKEN}")]
    assert another_server.asked == [("/shots/a.png?X-Amz-Signature=5", None)]


def test_another_server_s_resolving_address_gets_no_token(
    fetcher_of: MakeFetcher, internet: Internet, server: FileServer
):
    internet.host("store.example", PUBLIC, server)
    address = f"{STORE}{presign(PICTURE)}"
    server.put(presign(PICTURE), b"picture")
    fetcher = fetcher_of(STUDIO, api_key=LEGACY_TOKEN, http=internet.http(trusted=STUDIO))

    assert fetcher.fetch(address, timeout=30, task_id=7) == b"picture"
    assert server.asked == [(presign(PICTURE), None)]


def test_a_store_on_a_private_address_is_refused_until_it_is_named(
    fetcher_of: MakeFetcher, internet: Internet, server: FileServer, another_server: FileServer
):
    internet.host("studio.local", "10.0.0.7", server)
    internet.host("store.example", "10.0.0.8", another_server)
    server.files[presign(PICTURE)] = redirect(f"{STORE}/a.png")
    another_server.put("/a.png", b"picture")

    with pytest.raises(AddressRefused, match=r"'store\.example' is a private .* PRIVATE_HOSTS"):
        fetcher_of(STUDIO, http=internet.http(trusted=STUDIO)).fetch(PICTURE, timeout=30, task_id=7)

    named = internet.http(trusted=STUDIO, private=[("store.example", 9000)])
    fetcher = fetcher_of(STUDIO, http=named)
    assert fetcher.fetch(PICTURE, timeout=30, task_id=7) == b"picture"


def test_without_a_task_number_it_is_said(fetcher_of: MakeFetcher, server: FileServer):
    with pytest.raises(Unreachable, match=r"'s3://shots/a b/ü\.png' .* without a task number"):
        fetcher_of(server.url).fetch(PICTURE, timeout=30)

    assert server.asked == []


@pytest.mark.parametrize("address", [PICTURE, f"/tasks/3/resolve/?fileuri={packed(PICTURE)}"])
def test_without_a_label_studio_it_is_said(fetcher_of: MakeFetcher, address: str):
    with pytest.raises(Unreachable, match=r"through Label Studio, .*; set LABEL_STUDIO_URL and"):
        fetcher_of().fetch(address, timeout=30, task_id=7)


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (404, ImageMissing, r"Label Studio finds no storage for 's3://shots/.*Cloud Storage"),
        (424, Unreachable, r"Label Studio could not read 's3://shots/.* storage's keys"),
        (401, TokenRefused, r"asks for a token \(401\); set LABEL_STUDIO_API_KEY"),
        (403, TokenRefused, r"asks for a token \(403\); set LABEL_STUDIO_API_KEY"),
        (500, Unreachable, r"/tasks/7/presign/ answered HTTP 500"),
    ],
)
def test_what_label_studio_cannot_do_is_said(
    fetcher_of: MakeFetcher, server: FileServer, status: int, error, sentence: str
):
    server.files[presign(PICTURE)] = Reply(status=status)

    with pytest.raises(error, match=sentence):
        fetcher_of(server.url).fetch(PICTURE, timeout=30, task_id=7)


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (403, TokenRefused, r"the store at http://store\.example:9000 denies access to 's3://sho"),
        (404, ImageMissing, r"the store at http://store\.example:9000 has no 's3://shots/"),
        (500, Unreachable, r"http://store\.example:9000/a\.png answered HTTP 500"),
    ],
)
def test_what_the_store_says_no_to_is_not_label_studio_s_fault(
    fetcher_of: MakeFetcher,
    internet: Internet,
    server: FileServer,
    another_server: FileServer,
    status: int,
    error,
    sentence: str,
):
    internet.host("studio.local", "10.0.0.7", server)
    internet.host("store.example", PUBLIC, another_server)
    address = f"/tasks/3/resolve/?fileuri={packed(PICTURE)}"
    server.files[address] = redirect(f"{STORE}/a.png")
    another_server.files["/a.png"] = Reply(status=status)

    with pytest.raises(error, match=sentence):
        fetcher_of(STUDIO, http=internet.http(trusted=STUDIO)).fetch(address, timeout=30)


def test_a_store_that_does_not_answer_is_not_taken_for_label_studio(
    fetcher_of: MakeFetcher, internet: Internet, server: FileServer
):
    internet.host("studio.local", "10.0.0.7", server)
    internet.names["store.example"] = [PUBLIC]
    server.files[presign(PICTURE)] = redirect(f"{STORE}/a.png")

    with pytest.raises(Unreachable) as caught:
        fetcher_of(STUDIO, http=internet.http(trusted=STUDIO)).fetch(PICTURE, timeout=30, task_id=7)

    assert str(caught.value) == f"{STORE} cannot be reached: connection refused"


@pytest.mark.parametrize("climb", ["/../tasks/3/resolve/", "/%2e%2e/tasks/3/resolve/"])
def test_a_resolving_address_does_not_climb(
    fetcher_of: MakeFetcher, server: FileServer, climb: str
):
    with pytest.raises(AddressRefused, match="climbs out"):
        fetcher_of(server.url).fetch(f"{climb}?fileuri={quote('x')}", timeout=30)


def test_a_store_that_hangs_is_not_taken_for_label_studio(fetcher_of: MakeFetcher):
    fetcher = fetcher_of(STUDIO)

    assert fetcher.server(PICTURE) == PICTURE.rsplit("/", PICTURE.count("/") - 2)[0]
    assert fetcher.server("s3://photos/2026/a.png") == "s3://photos"
    assert fetcher.server(f"/tasks/3/resolve/?fileuri={packed(PICTURE)}") == STUDIO
    assert fetcher.server(f"{STORE}/tasks/3/resolve/?fileuri=x") == STORE
