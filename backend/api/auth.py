"""Basic authentication, the only kind Label Studio sends (protocol notes §1.8).

Events carry no credentials, and a lost event is worse than a false one that has no effect:
`/webhook` stays open.
"""

import hmac
import ipaddress
from urllib.parse import urlsplit

from flask import Response, request

from ..errors import NotAllowed, NotJson
from . import services

PROXIES = (  # what a proxy adds, unless it was told to hide
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-Ip",
)
OPEN_ENDPOINTS = frozenset({"webhook.webhook", "ready.ready", "open_metrics.metrics"})


def require_basic_auth() -> Response | None:
    """Let the request pass, or answer 401; comparison takes the same time for any guess."""
    wanted = services().basic_auth
    if wanted is None or request.endpoint in OPEN_ENDPOINTS:
        return None
    given = request.authorization
    user = (given.username if given else None) or ""
    password = (given.password if given else None) or ""
    same_user = hmac.compare_digest(user.encode(), wanted[0].encode())
    same_password = hmac.compare_digest(password.encode(), wanted[1].encode())
    if same_user and same_password:
        return None
    return Response(
        "user or password is missing or wrong\n",
        status=401,
        headers={"WWW-Authenticate": 'Basic realm="cliper"'},
    )


def require_somebody_known() -> None:
    """For routes that change things in Label Studio. Raises NotAllowed, NotJson.

    Where no password is set they answer this very machine only: the caller's address and the name
    it used for us must both be loopback, so neither a proxy here that says it is one nor a web page
    whose name was made to lead here is taken for the owner. A proxy here that says nothing of
    itself and calls us by a loopback name cannot be told from the owner: it needs the password.
    JSON is asked for since a browser sends that to another site only after asking it first, which
    is never granted.
    """
    if services().basic_auth is None and not _from_this_machine():
        raise NotAllowed(
            "jobs change things in Label Studio: without a password they are for this machine "
            "only; set BASIC_AUTH_USER and BASIC_AUTH_PASS"
        )
    if request.method == "POST" and not request.is_json:
        raise NotJson


def _from_this_machine() -> bool:
    forwarded = any(name in request.headers for name in PROXIES)
    host = urlsplit(f"//{request.host}").hostname or ""
    named = host == "localhost" or _is_loopback(host)
    return not forwarded and named and _is_loopback(request.remote_addr or "")


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):  # HOST=:: sees callers by IPv4 as ::ffff:…
        found = found.ipv4_mapped or found
    return found.is_loopback
