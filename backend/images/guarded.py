"""HTTP with a leash: where we may go, how much we take, how long we wait.

Every hop of a redirect is checked again, the address that was checked is the address that
is connected to, and credentials never follow to another server. A name with several
addresses is tried at each of them, once all are checked.
"""

import http.client
import queue
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import certifi

from ..errors import AddressRefused, ImageTooLarge, Unreachable
from .reserved import host_of, is_address, is_public

Address = tuple[str, int]
Origin = tuple[str, str, int]  # scheme, host, port
PrivateHost = tuple[str, int | None]  # host, port or any
Resolve = Callable[[str, int], list[str]]
Connect = Callable[[Address, float], socket.socket]

MOST_REDIRECTS = 5
LOOKUPS = 16  # names resolved at the same time
CHUNK = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
SERVER_END = re.compile(r"[/?#\\]")
PORT_END = re.compile(r":\d*$|\]$")  # of a server's name


@dataclass(frozen=True)
class Answer:
    """What a server said in the end; `url` is where, after redirects."""

    status: int
    content_type: str
    body: bytes
    url: str


def origin(url: str) -> Origin:
    """Scheme, host and port in one spelling. Raises AddressRefused."""
    try:
        parts = urlsplit(url)
        host, port = host_of(parts.hostname or ""), parts.port
    except ValueError:  # UnicodeError is one
        raise AddressRefused(f"{shown(url)!r} is not a proper address") from None
    if parts.scheme not in PORTS:
        raise AddressRefused(
            f"{parts.scheme or 'no scheme'}:// is not fetched; known are uploads, local files, "
            "http://, https://, s3://, gs://, azure-blob:// and data:"
        )
    if not host:
        raise AddressRefused(f"{shown(url)!r} names no server")
    if port == 0:
        raise AddressRefused(f"{shown(url)!r} names port 0, which no server has")
    return parts.scheme, host, PORTS[parts.scheme] if port is None else port


def shown(url: str) -> str:
    """An address fit for a log: without credentials and signatures, not too long.

    A password may hold what ends the name of a server: where that is no name, all up to the last
    `@` goes.
    """
    scheme, divider, rest = url.partition("://")
    if not divider:
        scheme, rest = "", url
    server = SERVER_END.split(rest, maxsplit=1)[0]
    if "@" in server:
        rest = rest[len(server.rpartition("@")[0]) + 1 :]
    elif "@" in rest and ":" in server and not PORT_END.search(server):
        rest = rest.rpartition("@")[2]
    bare = scheme + divider + rest.split("?", 1)[0].split("#", 1)[0]
    bare = "".join(c if c.isprintable() else "?" for c in bare)
    return bare if len(bare) <= 120 else bare[:117] + "..."


def refuse_disguise(url: str) -> None:
    """Refuse what programs read in different ways, or what would be dropped in silence.

    Raises AddressRefused.
    """
    if any(character < " " or character == "\x7f" for character in url):
        raise AddressRefused(f"{shown(url)!r} has a line break, a tab or another control character")
    server = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "\\" in server:
        raise AddressRefused(f"{shown(url)!r} has a backslash in the name of its server")
    if "@" in server:
        raise AddressRefused(
            f"{shown(url)!r} carries a user name; pictures are fetched without: use a public or "
            "signed address, or a storage of Label Studio"
        )


def server_of(url: str) -> str:
    """`scheme://host`, with the port where it is not the usual one. Raises AddressRefused."""
    return _server(origin(url))


class GuardedHttp:
    """Fetches from public servers, and from servers named beforehand wherever they stand."""

    def __init__(
        self,
        *,
        trusted: str | None,
        max_bytes: int,
        verify_tls: bool = True,
        private: Iterable[PrivateHost] = (),
        resolve: Resolve | None = None,
        connect: Connect = socket.create_connection,
    ) -> None:
        """`trusted` is the address of the one server that may be private and whose certificate
        need not be verified; `private` names others that may be private.
        """
        self._trusted = origin(trusted) if trusted else None
        self._private = frozenset(private)
        self._max_bytes = max_bytes
        self._verify_tls = verify_tls
        self._resolve, self._connect = resolve or _resolve, connect
        self._lookups = threading.BoundedSemaphore(LOOKUPS)

    def get(
        self,
        url: str,
        *,
        timeout: float,
        headers: Callable[[str], Mapping[str, str]] = lambda url: {},
    ) -> Answer:
        """Follow redirects to the end; `headers(url)` is asked again for every hop.

        Raises AddressRefused, Unreachable, ImageTooLarge.
        """
        deadline = time.monotonic() + timeout
        for _ in range(MOST_REDIRECTS + 1):
            answer, location = self._hop("GET", url, headers(url), None, deadline)
            if location is None:
                return answer
            url = _joined(url, location)
        raise Unreachable(f"{shown(url)} redirects more than {MOST_REDIRECTS} times")

    def post_json(self, url: str, body: bytes, *, timeout: float) -> Answer:
        """Send JSON; redirects are not followed. Raises as `get` does."""
        headers = {"Content-Type": "application/json"}
        deadline = time.monotonic() + timeout
        return self._hop("POST", url, headers, body, deadline)[0]

    def _hop(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float
    ) -> tuple[Answer, str | None]:
        refuse_disguise(url)
        where = origin(url)
        connection = self._open(where, self._checked_addresses(where, deadline), deadline)
        alarm = _Alarm(connection, deadline)
        try:
            connection.request(
                method,
                _target(url),
                body=body,
                headers={"Accept-Encoding": "identity", "User-Agent": "cliper", **headers},
            )
            with connection.getresponse() as response:  # it may outlive the connection
                redirects = response.status in REDIRECTS
                location = response.headers.get("Location") if redirects else None
                content = b"" if location else self._read(response, url)
                kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
            if alarm.rang:
                raise TimeoutError
            return Answer(response.status, kind, content, url), location
        except zlib.error:
            raise Unreachable(f"{shown(url)} is not packed as it says it is") from None
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # a socket cut by the alarm may fail in many ways
            if alarm.rang or isinstance(error, TimeoutError):
                raise Unreachable(f"{_server(where)} did not answer in time") from None
            raise Unreachable(f"{_server(where)} cannot be reached: {_reason(error)}") from None
        finally:
            alarm.stop()
            connection.close()

    def _checked_addresses(self, where: Origin, deadline: float) -> list[Address]:
        """Every address of a server, none of them forbidden. Raises as `get` does."""
        _, host, port = where
        candidates = list(dict.fromkeys(self._found(where, deadline)))
        if not candidates:
            raise Unreachable(f"the name {host!r} cannot be resolved")
        if not self._may_be_private(where) and not all(map(is_public, candidates)):
            raise AddressRefused(
                f"{host!r} is a private or reserved address; of those only "
                "LABEL_STUDIO_URL's own server is visited, and what PRIVATE_HOSTS names"
            )
        return [(candidate, port) for candidate in candidates]

    def _may_be_private(self, where: Origin) -> bool:
        _, host, port = where
        return where == self._trusted or not self._private.isdisjoint({(host, port), (host, None)})

    def _found(self, where: Origin, deadline: float) -> list[str]:
        """Look a name up on a thread of its own: the system's look-up knows no time limit."""
        _, host, port = where
        if is_address(host):  # it means itself
            return [host]
        late = Unreachable(f"the name {host!r} was not resolved in time")
        answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

        def look_up() -> None:
            found: list[str] = []
            try:
                found = self._resolve(host, port)
            except (OSError, UnicodeError):
                return
            finally:
                self._lookups.release()
                answer.put(found)

        if not self._lookups.acquire(timeout=_left(deadline)):
            raise late
        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        try:
            return answer.get(timeout=_left(deadline))
        except queue.Empty:
            raise late from None

    def _open(
        self, where: Origin, addresses: Sequence[Address], deadline: float
    ) -> http.client.HTTPConnection:
        scheme, host, port = where
        context = None
        if scheme == "https":
            lenient = where == self._trusted and not self._verify_tls
            context = _tls_context(verify=not lenient)
        return _Pinned(host, port, addresses, self._connect, context, deadline)

    def _read(self, response: http.client.HTTPResponse, url: str) -> bytes:
        """The body, unpacked, as long as it is not too much."""
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large(url)
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing not in ("", "identity", "gzip", "deflate"):
            raise Unreachable(f"{shown(url)} answers in an unknown packing {packing!r}")
        unpack = zlib.decompressobj(47) if packing in ("gzip", "deflate") else None
        body = bytearray()
        while chunk := response.read1(CHUNK):
            while chunk:
                piece = unpack.decompress(chunk, CHUNK) if unpack else chunk
                chunk = unpack.unconsumed_tail if unpack else b""
                body += piece
                if len(body) > self._max_bytes:
                    raise self._too_large(url)
        if announced.isdigit() and unpack is None and len(body) < int(announced):
            raise http.client.IncompleteRead(b"", int(announced) - len(body))
        if unpack is not None and body and not unpack.eof:
            raise http.client.IncompleteRead(b"")
        return bytes(body)

    def _too_large(self, url: str) -> ImageTooLarge:
        limit = self._max_bytes / 1_000_000
        return ImageTooLarge(f"{shown(url)} has more than {limit:g} MB (MAX_IMAGE_MB)")


class _Pinned(http.client.HTTPConnection):
    """Connects to the addresses that were checked, whatever the name resolves to by now."""

    def __init__(
        self,
        host: str,
        port: int,
        addresses: Sequence[Address],
        connect: Connect,
        context: ssl.SSLContext | None,
        deadline: float,
    ) -> None:
        super().__init__(host, port, timeout=_left(deadline))
        self.default_port = PORTS["https" if context else "http"]  # for the Host header
        self._addresses, self._open, self._context = addresses, connect, context
        self._deadline = deadline

    def connect(self) -> None:
        """Set `sock` before anything is awaited on it, so that the alarm can cut it."""
        raw = self._first_that_answers()
        raw.settimeout(_left(self._deadline))
        self.sock = raw
        if self._context is not None:
            wrapped = self._context.wrap_socket(
                raw, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock = wrapped
            self._be_in_time()
            wrapped.do_handshake()
        self._be_in_time()

    def _first_that_answers(self) -> socket.socket:
        """One address after the other, each with its share of the time left."""
        trouble: OSError = TimeoutError()
        for index, address in enumerate(self._addresses):
            self._be_in_time()
            share = _left(self._deadline) / (len(self._addresses) - index)
            try:
                return self._open(address, share)
            except OSError as error:
                trouble = error
        raise trouble

    def _be_in_time(self) -> None:
        if time.monotonic() >= self._deadline:
            raise TimeoutError


class _Alarm:
    """Cuts a connection at its deadline, also one that drips byte after byte."""

    def __init__(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        self.rang = False
        self._connection = connection
        self._timer = threading.Timer(_left(deadline), self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.rang = True
        sock: Any = self._connection.sock
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                return

    def stop(self) -> None:
        self._timer.cancel()


def _left(deadline: float) -> float:
    """Seconds left; never zero, which means "do not wait" to a socket."""
    return max(deadline - time.monotonic(), 0.001)


def _joined(url: str, location: str) -> str:
    """Where a redirect leads. Raises AddressRefused."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise AddressRefused(
            f"{shown(url)} redirects to {shown(location)!r}, which is not a proper address"
        ) from None


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _tls_context(*, verify: bool) -> ssl.SSLContext:
    """Trusts the system's authorities and certifi's."""
    context = ssl.create_default_context()
    if verify:
        context.load_verify_locations(certifi.where())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="%/:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="%/:@!$&'()*+,;=~-._?")
    return f"{path}?{query}" if query else path


def _server(where: Origin) -> str:
    scheme, host, port = where
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + ("" if port == PORTS[scheme] else f":{port}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ended too early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
