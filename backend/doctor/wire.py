"""One plain request, and why it got no answer: the ways a connection can fail, told apart."""

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from ..errors import ServiceError
from ..images.guarded import shown

TIMEOUT = 10.0  # seconds for one answer
ADDRESS, NAME, REFUSED, LATE, CERTIFICATE, BROKEN = (
    "address", "name", "refused", "late", "certificate", "broken",
)  # fmt: skip


class NoAnswer(ServiceError):
    """Nobody answers at an address; `kind` is one of the six above."""

    def __init__(self, url: str, kind: str, sentence: str) -> None:
        super().__init__(f"{shown(url)}: {sentence}")
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a server said."""

    status: int
    reason: str  # of the status line; the service puts its sentence there
    text: str

    @property
    def json(self) -> Any:
        """The decoded body; None where it is no JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def ask(
    method: str,
    url: str,
    *,
    verify: bool = True,
    auth: tuple[str, str] | None = None,
    body: object = None,
    timeout: float = TIMEOUT,
) -> Reply:
    """One request without credentials of Label Studio, past any proxy. Raises NoAnswer."""
    with requests.Session() as session:
        session.trust_env = False  # the service asks no proxy either
        session.verify = verify
        try:
            answer = session.request(method, url, auth=auth, json=body, timeout=timeout)
        except requests.RequestException as error:
            raise NoAnswer(url, *why(error)) from None
        return Reply(status=answer.status_code, reason=answer.reason or "", text=answer.text)


def why(error: BaseException) -> tuple[str, str]:
    """The kind of trouble, and a sentence for it."""
    causes = tuple(_causes(error))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if among(requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) or among(
        requests.exceptions.MissingSchema
    ):
        return ADDRESS, "this is no address such as http://localhost:9090"
    if among(socket.gaierror):
        return NAME, "the name cannot be resolved"
    if among(ConnectionRefusedError):
        return REFUSED, "connection refused"
    if among(ssl.SSLCertVerificationError):
        return CERTIFICATE, "its certificate is not trusted"
    if among(ssl.SSLError):
        return CERTIFICATE, "no TLS there; is it http:// rather than https://?"
    if among(TimeoutError, requests.Timeout):
        return LATE, "no answer in time"
    return BROKEN, f"no proper answer ({type(causes[-1]).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and everything it was raised for; libraries wrap one in the other."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        one = pending.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        pending += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
