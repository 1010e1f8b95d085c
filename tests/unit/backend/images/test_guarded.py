"""Where we go, how much we take, how long we wait."""

import gzip
import socket
import threading

import pytest

from backend.errors import AddressRefused, ImageTooLarge, Unreachable
from backend.images.guarded import GuardedHttp, origin, shown
from backend.images.reserved import is_public

from ....doubles.label_studio import FileServer, Reply
from .conftest import PUBLIC, Internet


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.9",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_private_and_reserved_addresses_are_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_addresses_of_the_open_internet_are_public(address: str):
    assert is_public(address)


def test_a_public_server_is_read(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)
    server.put("/a.png?size=1", b"picture")

    answer = internet.http().get("http://pictures.example/a.png?size=1#top", timeout=30)

    assert (answer.status, answer.body) == (200, b"picture")
    assert internet.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "::1", "169.254.169.254"])
def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(
    internet: Internet, server: FileServer, address: str
):
    internet.host("inside.example", address, server)

    with pytest.raises(AddressRefused, match=r"'inside\.example' is a private or reserved"):
        internet.http().get("http://inside.example/", timeout=30)

    assert internet.connected == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    internet: Internet, server: FileServer
):
    internet.host("mixed.example", PUBLIC, server)
    internet.names["mixed.example"].append("127.0.0.1")

    with pytest.raises(AddressRefused):
        internet.http().get("http://mixed.example/", timeout=30)


@pytest.mark.parametrize(
    ("named", "url", "is_visited"),
    [
        (("minio.lan", 9000), "http://minio.lan:9000/", True),
        (("minio.lan", None), "http://minio.lan:9000/", True),
        (("minio.lan", 9000), "http://minio.lan:9001/", False),
        (("minio.lan", 9000), "http://other.lan:9000/", False),
        (("minio.lan", 80), "http://MINIO.lan./", True),
    ],
)
def test_of_private_servers_those_named_are_visited(
    internet: Internet,
    server: FileServer,
    named: tuple[str, int | None],
    url: str,
    is_visited: bool,
):
    for name in ("minio.lan", "other.lan"):
        internet.host(name, "10.0.0.9", server)
    server.put("/", b"ok")
    http = internet.http(private=[named])

    if is_visited:
        assert http.get(url, timeout=30).body == b"ok"
    else:
        with pytest.raises(AddressRefused, match="and what PRIVATE_HOSTS names"):
            http.get(url, timeout=30)


def test_the_checked_address_is_the_one_connected_to(internet: Internet, server: FileServer):
    internet.host("moving.example", PUBLIC, server)
    answers = iter([[PUBLIC], ["127.0.0.1"]])  # a second look-up would lead inside
    http = GuardedHttp(
        trusted=None,
        max_bytes=100,
        resolve=lambda host, port: next(answers),
        connect=internet.connect,
    )
    server.put("/", b"ok")

    assert http.get("http://moving.example/", timeout=30).body == b"ok"
    assert internet.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://93.184.216.34/", PUBLIC),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://[2606:4700:0::1111]/", "2606:4700::1111"),
    ],
)
def test_an_address_is_not_looked_up_and_checked_all_the_same(
    internet: Internet, server: FileServer, url: str, address: str
):
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    internet.host("anybody", address, server)
    server.put("/", b"ok")
    http = GuardedHttp(trusted=None, max_bytes=100, resolve=resolve, connect=internet.connect)

    if is_public(address):
        assert http.get(url, timeout=30).body == b"ok"
        assert internet.connected == [(address, 80)]
    else:
        with pytest.raises(AddressRefused, match="is a private or reserved address"):
            http.get(url, timeout=30)
        assert not internet.connected


def test_every_address_of_a_name_is_tried(internet: Internet, server: FileServer):
    internet.host("localhost", "127.0.0.1", server)
    internet.names["localhost"] = ["::1", "127.0.0.1", "127.0.0.1"]
    server.put("/", b"ok")
    http = internet.http(trusted="http://localhost:8080")

    assert http.get("http://localhost:8080/", timeout=30).body == b"ok"
    assert internet.connected == [("::1", 8080), ("127.0.0.1", 8080)]


def test_an_address_that_hangs_leaves_time_for_the_others(server: FileServer):
    given: list[float] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        given.append(timeout)
        if len(given) == 1:
            raise TimeoutError
        return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))

    server.put("/", b"ok")
    http = GuardedHttp(
        trusted=None,
        max_bytes=100,
        resolve=lambda host, port: ["2606:4700::1111", PUBLIC],
        connect=connect,
    )

    assert http.get("http://pictures.example/", timeout=30).body == b"ok"
    assert given[0] <= 15 < given[1]


def test_a_name_server_that_hangs_is_left_at_the_deadline():
    hanging = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        hanging.wait(60)
        return []

    http = GuardedHttp(trusted=None, max_bytes=100, resolve=resolve)

    with pytest.raises(Unreachable, match=r"'pictures\.example' was not resolved in time"):
        http.get("http://pictures.example/", timeout=0.05)
    assert not hanging.is_set()
    hanging.set()


@pytest.mark.parametrize("location", ["//[x", "http://[bad].example/a.jpg"])
def test_a_redirect_to_what_is_no_address_is_refused(
    internet: Internet, server: FileServer, location: str
):
    internet.host("pictures.example", PUBLIC, server)
    server.files["/a"] = Reply(status=302, headers={"Location": location})

    with pytest.raises(AddressRefused, match="not a proper address"):
        internet.http().get("http://pictures.example/a", timeout=30)


def test_only_the_trusted_server_may_be_private(internet: Internet, server: FileServer):
    internet.host("studio.local", "10.0.0.7", server)
    server.put("/", b"ok")
    http = internet.http(trusted="http://studio.local:8080/sub")

    assert http.get("http://studio.local:8080/", timeout=30).body == b"ok"
    for other in (
        "http://studio.local/",
        "http://studio.local:9200/",
        "https://studio.local:8080/",
    ):
        with pytest.raises(AddressRefused):
            http.get(other, timeout=30)


def test_every_hop_is_checked_again(
    internet: Internet, server: FileServer, another_server: FileServer
):
    internet.host("pictures.example", PUBLIC, server)
    internet.host("inside.example", "10.0.0.7", another_server)
    server.files["/a"] = Reply(status=302, headers={"Location": "/b"})
    server.files["/b"] = Reply(status=307, headers={"Location": "http://inside.example/secret"})

    with pytest.raises(AddressRefused):
        internet.http().get("http://pictures.example/a", timeout=30)

    assert server.paths() == ["/a", "/b"]
    assert another_server.asked == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x.example/a", "gopher://x/1"])
def test_a_redirect_to_another_scheme_is_refused(
    internet: Internet, server: FileServer, target: str
):
    internet.host("pictures.example", PUBLIC, server)
    server.files["/a"] = Reply(status=301, headers={"Location": target})

    with pytest.raises(AddressRefused, match="is not fetched"):
        internet.http().get("http://pictures.example/a", timeout=30)


def test_a_ring_of_redirects_ends(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)
    server.files["/a"] = Reply(status=302, headers={"Location": "/a"})

    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        internet.http().get("http://pictures.example/a", timeout=30)


def test_headers_are_asked_for_every_hop(
    internet: Internet, server: FileServer, another_server: FileServer
):
    internet.host("one.example", PUBLIC, server)
    internet.host("two.example", "8.8.8.8", another_server)
    server.files["/a"] = Reply(status=302, headers={"Location": "http://two.example/b"})
    another_server.put("/b", b"ok")

    def secret_for_one(url: str) -> dict[str, str]:
        return {"Authorization": "secret"} if origin(url)[1] == "one.example" else {}

    internet.http().get("http://one.example/a", timeout=30, headers=secret_for_one)

    assert server.asked == [("/a", "secret")]
    assert another_server.asked == [("/b", None)]


@pytest.mark.parametrize("announced", [True, False])
def test_more_bytes_than_allowed_are_not_taken(
    internet: Internet, server: FileServer, announced: bool
):
    internet.host("pictures.example", PUBLIC, server)
    body = b"x" * 10_001
    headers = {} if announced else {"Content-Encoding": "gzip"}
    server.files["/a"] = Reply(body if announced else gzip.compress(body), headers=headers)

    with pytest.raises(ImageTooLarge, match=r"has more than 0\.01 MB \(MAX_IMAGE_MB\)"):
        internet.http(max_bytes=10_000).get("http://pictures.example/a", timeout=30)


def test_a_zip_bomb_is_stopped_early(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)
    bomb = gzip.compress(b"\0" * 5_000_000)
    server.files["/a"] = Reply(bomb, headers={"Content-Encoding": "gzip"})

    with pytest.raises(ImageTooLarge):
        internet.http(max_bytes=1_000_000).get("http://pictures.example/a", timeout=30)


def test_packed_answers_are_unpacked(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)
    server.files["/a"] = Reply(gzip.compress(b"picture"), headers={"Content-Encoding": "gzip"})

    assert internet.http().get("http://pictures.example/a", timeout=30).body == b"picture"


def test_an_answer_shorter_than_announced_is_no_answer(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)
    server.files["/a"] = Reply(b"half", length=100)

    with pytest.raises(Unreachable, match="the answer ended too early"):
        internet.http().get("http://pictures.example/a", timeout=30)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nab"])
def test_a_server_that_stalls_is_left_at_the_deadline(greeting: bytes):
    with socket.create_server(("127.0.0.1", 0)) as stalling:
        url = f"http://127.0.0.1:{stalling.getsockname()[1]}/"
        held: list[socket.socket] = []

        def greet() -> None:
            connection, _ = stalling.accept()
            held.append(connection)
            connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(Unreachable, match="did not answer in time"):
            GuardedHttp(trusted=url, max_bytes=100).get(url, timeout=0.3)
        thread.join()
        for connection in held:
            connection.close()


def test_a_server_that_drips_is_left_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        url = f"http://127.0.0.1:{dripping.getsockname()[1]}/"
        gone = threading.Event()

        def drip() -> None:
            connection, _ = dripping.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while not gone.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(Unreachable, match="did not answer in time"):
            GuardedHttp(trusted=url, max_bytes=10**6).get(url, timeout=0.5)
        gone.set()
        thread.join()


def test_a_name_nobody_knows_is_said(internet: Internet):
    with pytest.raises(Unreachable, match=r"the name 'nowhere\.example' cannot be resolved"):
        internet.http().get("http://nowhere.example/", timeout=30)


def test_a_closed_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(Unreachable, match="cannot be reached: connection refused"):
        GuardedHttp(trusted=url, max_bytes=100).get(url, timeout=30)


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///path", "http://[::1", "http://a:b@:80/", "http://host:port/", "x", ""],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(AddressRefused):
        GuardedHttp(trusted=None, max_bytes=100).get(url, timeout=30)


def test_a_line_break_in_an_address_writes_no_header(internet: Internet, server: FileServer):
    internet.host("pictures.example", PUBLIC, server)

    answer = internet.http().get("http://pictures.example/a b\u00e4?q= x", timeout=30)

    assert answer.status == 404
    assert server.paths() == ["/a%20b%C3%A4?q=%20x"]


def test_logs_show_no_credentials_and_no_signatures():
    url = "https://user:secret@host.example/a.png?X-Amz-Signature=secret#secret"

    assert shown(url) == "https://host.example/a.png"
    assert len(shown("http://host.example/" + "a" * 500)) == 120
