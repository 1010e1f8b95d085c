"""Why nobody answers: every way of failing has its own name."""

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import requests

from backend.demo.processes import free_port
from backend.doctor import wire

from ....doubles.json_server import json_server


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def rude() -> Iterator[str]:
    """Closes every connection without a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)

        def close_all() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    connection.recv(1)
                    connection.close()
            except OSError:
                return

        thread = threading.Thread(target=close_all, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def kind(url: str, timeout: float = 10.0) -> str:
    with pytest.raises(wire.NoAnswer) as trouble:
        wire.ask("GET", url, timeout=timeout)
    return trouble.value.kind


def test_a_port_nobody_listens_on_is_refused():
    assert kind(f"http://127.0.0.1:{free_port()}/") == wire.REFUSED


def test_a_server_that_never_answers_is_late(silent: str):
    assert kind(silent, timeout=0.2) == wire.LATE


def test_a_server_that_hangs_up_is_broken(rude: str):
    assert kind(rude) == wire.BROKEN


def test_plain_http_where_tls_was_wanted_is_a_matter_of_certificates():
    with json_server() as server:
        assert kind(server.url.replace("http://", "https://")) == wire.CERTIFICATE


@pytest.mark.parametrize("url", ["localhost:9090", "no address", "http://", "ftp://a/b"])
def test_what_is_no_address_is_called_so(url: str):
    assert kind(url) == wire.ADDRESS


def test_errors_are_recognised_however_deep_they_are_wrapped():
    def wrapped(inner: Exception) -> Exception:
        return requests.ConnectionError(Exception("outer", inner))

    assert wire.why(wrapped(socket.gaierror(-2, "unknown")))[0] == wire.NAME
    assert wire.why(wrapped(ssl.SSLCertVerificationError("self signed")))[0] == wire.CERTIFICATE
    assert wire.why(requests.ReadTimeout())[0] == wire.LATE


def test_an_answer_has_status_and_body_whatever_they_are():
    with json_server({"GET /a": (200, {"b": 1}), "GET /page": (500, "<html>")}) as server:
        assert wire.ask("GET", f"{server.url}/a").json == {"b": 1}
        page = wire.ask("GET", f"{server.url}/page")

    assert (page.status, page.json, page.text) == (500, None, "<html>")


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(wire.NoAnswer) as trouble:
        wire.ask("GET", f"http://user:secret@127.0.0.1:{free_port()}/health")

    assert "secret" not in str(trouble.value)
