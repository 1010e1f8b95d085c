"""Addresses made to lead us where we must not go, through the one door pictures come in by.

Names are looked up in a table; numbers by this machine's own look-up, which knows all their old
spellings and asks no network for them.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import AddressRefused, ImageError, ImageMissing, Unreachable
from backend.images.fetch import ImageFetcher
from backend.images.guarded import REDIRECTS, GuardedHttp

from ....doubles.label_studio import LEGACY_TOKEN, FileServer, Reply
from .conftest import PUBLIC, Internet, MakeFetcher

STUDIO = "http://studio.local:8080"
OTHER = "8.8.8.8"

INSIDE = {  # every range nobody on the open internet has, as an address of IPv4
    "this network": "0.0.0.0",
    "this network, further in": "0.1.2.3",
    "this machine": "127.0.0.1",
    "this machine, another of its addresses": "127.255.255.254",
    "private, class A": "10.255.0.1",
    "private, class B, first": "172.16.0.1",
    "private, class B, last": "172.31.255.254",
    "private, class C": "192.168.0.1",
    "shared by customers of a provider": "100.64.0.1",
    "the same range, last": "100.127.255.254",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of most clouds": "169.254.169.254",
    "metadata of containers": "169.254.170.2",
    "metadata of Oracle": "192.0.0.192",
    "wire server of Azure": "168.63.129.16",
    "protocols": "192.0.0.1",
    "documents, 1": "192.0.2.1",
    "documents, 2": "198.51.100.1",
    "documents, 3": "203.0.113.1",
    "measuring, first": "198.18.0.1",
    "measuring, last": "198.19.255.255",
    "relays of 6to4": "192.88.99.1",
    "multicast, first": "224.0.0.1",
    "multicast, last": "239.255.255.255",
    "future use": "240.0.0.1",
    "broadcast": "255.255.255.255",
}
INSIDE_V6 = {
    "nothing": "::",
    "this machine": "::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped loopback in hex": "::ffff:7f00:1",
    "mapped metadata": "::ffff:169.254.169.254",
    "compatible loopback": "::7f00:1",
    "compatible metadata": "::169.254.169.254",
    "translated loopback": "::ffff:0:127.0.0.1",
    "NAT64 of loopback": "64:ff9b::7f00:1",
    "NAT64 of metadata": "64:ff9b::169.254.169.254",
    "NAT64 of a network's own": "64:ff9b:1::8.8.8.8",
    "6to4 of loopback": "2002:7f00:1::",
    "6to4 of a public address": "2002:808:808::",
    "Teredo": "2001:0:7f00:1::",
    "ORCHID": "2001:20::1",
    "measuring": "2001:2::1",
    "documents": "2001:db8::1",
    "documents, the newer range": "3fff::1",
    "segment routing": "5f00::1",
    "swallowed": "100::1",
    "unique local": "fc00::1",
    "metadata of AWS": "fd00:ec2::254",
    "metadata of Google": "fd20:ce::254",
    "link local": "fe80::1",
    "site local": "fec0::1",
    "multicast": "ff02::1",
}
SPELLINGS = {  # of 127.0.0.1 and its like; {} where a server reads a path
    "decimal": "http://2130706433/",
    "decimal, longer than 32 bits": "http://4294967296/",
    "octal": "http://0177.0.0.1/",
    "octal with zeros": "http://00000177.0.0.1/",
    "octal whole": "http://017700000001/",
    "hex": "http://0x7f.1/",
    "hex whole": "http://0x7f000001/",
    "hex in capitals": "http://0X7F.0.0.1/",
    "bare 0x": "http://0x/",
    "short": "http://127.1/",
    "shorter": "http://127.0.1/",
    "zero": "http://0/",
    "metadata in decimal": "http://2852039166/latest/meta-data/",
    "dot at the end": "http://127.0.0.1./",
    "capitals": "HTTP://LOCALHOST/",
    "capitals, dot at the end": "http://LocalHost./",
    "wide digits": "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    "digits in circles": "http://①②⑦.⓪.⓪.①/",
    "letters in circles": "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "dots of other scripts": "http://127。0\uff0e0\uff610001/",
    "a dot inside a letter": "http://127\u2024\u0030\u20240\u20241/",
    "port after a name of two": "http://127.0.0.1:80:80/",
    "user": "http://good.example@127.0.0.1/",
    "user and port": "http://good.example:80@127.0.0.1/",
    "two users": "http://a@good.example@127.0.0.1/",
    "user of a good server": "http://me:secret@good.example/",
    "backslash": "http://good.example\\@127.0.0.1/",
    "backslash, the other way": "http://127.0.0.1\\@good.example/",
    "only backslashes": "http:\\\\127.0.0.1/",
    "percent": "http://%31%32%37.0.0.1/",
    "percent in a name": "http://localhos%74/",
    "percent dot": "http://127%2e0.0.1/",
    "null": "http://127.0.0.1\0.good.example/",
    "null by percent": "http://127.0.0.1%00.good.example/",
    "tab": "http://127.0.\t0.1/",
    "newline": "http://127.0.0.1\n/",
    "newline that hides the scheme": "ht\ntp://127.0.0.1/",
    "newline in a path": "http://good.example/a\r\nX-Evil: yes",
    "newline in a query": "http://good.example/?a\r\n\r\nGET /secret",
    "header in a host": "http://good.example\r\nX-Evil: yes/",
    "space in a host": "http://good.example evil/",
    "no host": "http:///etc/passwd",
    "slash less": "http:/127.0.0.1/",
    "no slash": "http:127.0.0.1",
    "no scheme": "//127.0.0.1/",
    "zone": "http://[fe80::1%25eth0]/",
    "zone of loopback": "http://[::1%251]/",
    "unclosed": "http://[::1",
    "mapped, in brackets": "http://[::ffff:127.0.0.1]/",
    "mapped, written out": "http://[0:0:0:0:0:ffff:7f00:0001]/",
    "future version": "http://[v1.127.0.0.1]/",
    "port 0": "http://good.example:0/",
    "port 65536": "http://good.example:65536/",
    "port below 0": "http://good.example:-1/",
    "port of letters": "http://good.example:http/",
    "empty labels": "http://127.0..0.1/",
    "metadata by name": "http://metadata.google.internal/computeMetadata/v1/",
    "other port of Label Studio's server": "http://studio.local:6379/",
    "other scheme of Label Studio's server": "https://studio.local:8080/",
}
SCHEMES = [
    "file:///etc/passwd",
    "file:/etc/passwd",
    "file://localhost/etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://good.example/a.png",
    "dict://127.0.0.1:11211/stat",
    "ldap://127.0.0.1/",
    "tftp://127.0.0.1/a",
    "jar:http://good.example/a.zip!/b.png",
    "view-source:http://127.0.0.1/",
    "blob:http://127.0.0.1/a",
    "javascript:alert(1)",
    "netdoc:///etc/passwd",
    "unix:///var/run/docker.sock",
    "php://filter/resource=/etc/passwd",
    "/data/local-files/?d=file:///etc/passwd",
    "/etc/passwd",
    "../../etc/passwd",
    "\\\\127.0.0.1\\share\\a.png",
]


@pytest.fixture
def world(internet: Internet) -> Internet:
    """Where names lead; `inhabited` puts servers there."""
    internet.names = {
        "good.example": [PUBLIC],
        "other.example": [OTHER],
        "studio.local": ["10.0.0.7"],
        "localhost": ["127.0.0.1"],
        "metadata.google.internal": ["169.254.169.254"],
    }
    return internet


@pytest.fixture
def inhabited(world: Internet, server: FileServer, another_server: FileServer) -> Internet:
    """`good.example` is one server, everything else another."""
    world.host("good.example", PUBLIC, server)
    for name in ("other.example", "studio.local", "localhost", "metadata.google.internal"):
        world.host(name, world.names[name][0], another_server)
    return world


@pytest.fixture
def fetcher(world: Internet, fetcher_of: MakeFetcher) -> ImageFetcher:
    def resolve(host: str, port: int) -> list[str]:
        if host in world.names:
            return world.names[host]
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            return [str(entry[4][0]) for entry in found]
        return []

    http = GuardedHttp(trusted=STUDIO, max_bytes=10_000, resolve=resolve, connect=world.connect)
    return fetcher_of(STUDIO, api_key=LEGACY_TOKEN, http=http)


def refused(fetcher: ImageFetcher, address: str, world: Internet) -> str:
    """The sentence an address is refused with, before anybody is connected to."""
    with pytest.raises(AddressRefused) as caught:
        fetcher.fetch(address, timeout=30)
    assert world.connected == []
    return str(caught.value)


@pytest.mark.parametrize("address", INSIDE.values(), ids=INSIDE)
def test_no_reserved_address_of_ipv4_is_visited(
    fetcher: ImageFetcher, world: Internet, address: str
):
    assert "private or reserved" in refused(fetcher, f"http://{address}/a.png", world)


@pytest.mark.parametrize("address", INSIDE_V6.values(), ids=INSIDE_V6)
def test_no_reserved_address_of_ipv6_is_visited(
    fetcher: ImageFetcher, world: Internet, address: str
):
    assert "private or reserved" in refused(fetcher, f"https://[{address}]/a.png", world)


@pytest.mark.parametrize("address", [*INSIDE.values(), *INSIDE_V6.values()])
def test_a_name_that_leads_there_is_refused_also_among_good_addresses(
    fetcher, world: Internet, address: str
):
    for found in ([address], [PUBLIC, address], ["2606:4700::1111", PUBLIC, address]):
        world.names["mixed.example"] = found

        assert "'mixed.example' is a private or" in refused(fetcher, "http://mixed.example/", world)


@pytest.mark.parametrize("address", SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_leads_inside(fetcher: ImageFetcher, world: Internet, address: str):
    assert "secret" not in refused(fetcher, address, world)


@pytest.mark.parametrize("address", SCHEMES)
def test_no_other_scheme_is_fetched(fetcher: ImageFetcher, world: Internet, address: str):
    refused(fetcher, address, world)


@pytest.mark.parametrize(
    "address",
    [
        "http://good.example/a.png",
        "HTTP://GOOD.example./a.png",
        "http://good.example:80/a.png",
        f"http://{PUBLIC}/a.png",
        "  http://good.example/a.png\r\n",
        "http://good.example/a.png#@127.0.0.1/",
        "http://bücher.example/a.png",
        "http://\uff42ücher.example/a.png",
        "http://[2606:4700::1111]/a.png",
        "http://[::ffff:93.184.216.34]/a.png",
        "http://nat64.example/a.png",
        "http://my_bucket.example/a.png",
    ],
)
def test_what_is_allowed_works(
    fetcher: ImageFetcher, inhabited: Internet, server: FileServer, address: str
):
    world = inhabited
    world.host("xn--bcher-kva.example", PUBLIC, server)
    world.host("my_bucket.example", PUBLIC, server)
    world.host("nat64.example", f"64:ff9b::{PUBLIC}", server)
    for literal in ("2606:4700::1111", "::ffff:93.184.216.34"):
        world.host("unused", literal, server)
    world.servers["::ffff:5db8:d822"] = world.servers[PUBLIC]
    server.put("/a.png", b"picture")

    assert fetcher.fetch(address, timeout=30) == b"picture"
    assert server.asked == [("/a.png", None)]


LEADS_ASTRAY = {
    "this machine": "http://127.0.0.1/secret",
    "metadata": "http://169.254.169.254/latest/meta-data/iam/",
    "a name inside": "http://localhost/secret",
    "without scheme": "//127.0.0.1/secret",
    "without scheme, a name": "//metadata.google.internal/",
    "decimal": "http://2130706433/",
    "octal": "http://0177.0.0.1/",
    "mapped": "http://[::ffff:127.0.0.1]/",
    "user": "http://good.example@127.0.0.1/",
    "user, without scheme": "//good.example@127.0.0.1/",
    "backslash": "http://good.example\\@127.0.0.1/",
    "wide digits": "http://①②⑦.⓪.⓪.①/".encode().decode("latin-1"),
    "tab": "http://127.0.0.1\t/",
    "port 0": "http://good.example:0/",
    "a file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_",
    "ftp": "ftp://good.example/",
    "data": "data:image/png;base64,AAAA",
    "script": "javascript:alert(1)",
    "other port of Label Studio's server": "http://studio.local:6379/",
    "TLS on Label Studio's server": "https://studio.local:8080/",
}


@pytest.mark.parametrize("location", LEADS_ASTRAY.values(), ids=LEADS_ASTRAY)
def test_no_redirect_leads_inside(
    fetcher: ImageFetcher,
    inhabited: Internet,
    server: FileServer,
    another_server: FileServer,
    location: str,
):
    for status in REDIRECTS:
        server.files["/a.png"] = Reply(status=status, headers={"Location": location})

        with pytest.raises(AddressRefused):
            fetcher.fetch("http://good.example/a.png", timeout=30)

    assert inhabited.connected == [(PUBLIC, 80)] * len(REDIRECTS)
    assert another_server.asked == []


def test_the_second_hop_is_looked_up_anew_and_checked(
    inhabited: Internet, server: FileServer, fetcher_of: MakeFetcher
):
    answers = iter([[PUBLIC], ["127.0.0.1"]])  # the name moves between the two hops
    server.files["/a.png"] = Reply(status=302, headers={"Location": "/b.png"})
    http = GuardedHttp(
        trusted=None,
        max_bytes=100,
        resolve=lambda host, port: next(answers),
        connect=inhabited.connect,
    )

    with pytest.raises(AddressRefused):
        fetcher_of(http=http).fetch("http://good.example/a.png", timeout=30)

    assert server.paths() == ["/a.png"]


@pytest.mark.parametrize("location", ["/b.png", "b.png", "?b.png", "//good.example/b.png"])
def test_a_redirect_in_short_form_stays_on_its_server(
    fetcher: ImageFetcher, inhabited: Internet, server: FileServer, location: str
):
    server.files["/a.png"] = Reply(status=307, headers={"Location": location})
    server.put("/b.png", b"picture")
    server.put("/a.png?b.png", b"picture")

    assert fetcher.fetch("http://good.example/a.png", timeout=30) == b"picture"


def test_two_servers_that_point_at_each_other_are_left(
    fetcher: ImageFetcher, inhabited: Internet, server: FileServer, another_server: FileServer
):
    server.files["/"] = Reply(status=308, headers={"Location": "http://other.example/"})
    another_server.files["/"] = Reply(status=308, headers={"Location": "http://good.example/"})

    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        fetcher.fetch("http://good.example/", timeout=30)

    assert len(inhabited.connected) == 6


@pytest.mark.parametrize(
    "elsewhere",
    ["http://other.example/b.png", "http://studio.local:8081/b.png", "http://studio.local/b.png"],
)
def test_the_token_follows_to_no_other_origin(
    inhabited: Internet, another_server: FileServer, fetcher_of: MakeFetcher, elsewhere: str
):
    private = [("studio.local", 8081), ("studio.local", 80)]
    http = inhabited.http(trusted=STUDIO, private=private)
    another_server.files["/data/upload/1/a.png"] = Reply(
        status=302, headers={"Location": elsewhere}
    )
    another_server.put("/b.png", b"picture")

    fetcher = fetcher_of(STUDIO, api_key=LEGACY_TOKEN, http=http)
    assert fetcher.fetch("/data/upload/1/a.png", timeout=30) == b"picture"

    assert another_server.asked == [
        ("/data/upload/1/a.png", f"Token {LEGACY_TOKEN}"),
        ("/b.png", None),
    ]


@pytest.mark.parametrize(
    "url", ["http://studio.local:8080", "https://studio.local", "https://studio.local:8443"]
)
def test_only_scheme_host_and_port_together_make_label_studio(fetcher_of: MakeFetcher, url: str):
    studio = fetcher_of(url).reach.label_studio
    others = {
        "http://studio.local:8080/a",
        "http://studio.local:443/a",
        "http://studio.local/a",
        "https://studio.local/a",
        "https://studio.local:8443/a",
        "https://studio.local:8080/a",
        "https://studio.local.evil.example/a",
        "https://evil.example/studio.local",
    }

    assert [other for other in others if studio.owns(other)] == [f"{url}/a"]


@pytest.fixture
def secret_server() -> Iterator[tuple[int, list[bool]]]:
    """A port of this machine that nobody may come to, and whether somebody did."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        came: list[bool] = []
        yield listener.getsockname()[1], came
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            came.append(True)
        assert not came


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "①②⑦.⓪.⓪.①",
        "user@127.0.0.1",
    ],
)
def test_with_real_sockets_nobody_comes_to_a_port_of_this_machine(
    fetcher_of: MakeFetcher, secret_server: tuple[int, list[bool]], host: str
):
    with pytest.raises(AddressRefused):
        fetcher_of().fetch(f"http://{host}:{secret_server[0]}/a.png", timeout=30)


@pytest.mark.parametrize(
    "inside",
    [
        "../secret.png",
        "a/../../secret.png",
        "%2e%2e/secret.png",
        "%252e%252e/secret.png",
        "..%2fsecret.png",
        "..%5csecret.png",
        "..\\secret.png",
        "link.png",
        "up/secret.png",
        "a/round/../../secret.png",
    ],
)
def test_no_local_file_is_read_from_outside(fetcher_of: MakeFetcher, tmp_path: Path, inside: str):
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    os.symlink(tmp_path / "secret.png", root / "link.png")
    os.symlink("..", root / "up")
    os.symlink(root, root / "a" / "round")

    with pytest.raises(AddressRefused):
        fetcher_of(document_root=root).fetch(f"/data/local-files/?d={inside}", timeout=30)


@pytest.mark.parametrize(
    "inside", ["{}/secret.png", "/{}/secret.png", "/{}//secret.png", "secret.png%00.png", "~"]
)
def test_what_is_written_like_another_place_is_looked_for_inside(
    fetcher_of: MakeFetcher, tmp_path: Path, inside: str
):
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    address = f"/data/local-files/?d={inside.format(tmp_path)}"

    with pytest.raises(ImageMissing):
        fetcher_of(document_root=root).fetch(address, timeout=30)


def test_a_pipe_in_the_folder_holds_nobody_up(fetcher_of: MakeFetcher, tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")

    with pytest.raises(ImageMissing, match="there is no file"):
        fetcher_of(document_root=tmp_path).fetch("/data/local-files/?d=a.png", timeout=30)


def test_every_refusal_is_an_error_of_one_picture():
    assert issubclass(AddressRefused, ImageError)
