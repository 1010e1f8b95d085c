"""Who may ask what: a password, a token for our own endpoints, a secret address for events.

Label Studio sends basic authentication with its calls of the model and with Start Training, and
nothing at all with events (protocol notes §1.8). So there are three keys, each optional:

    BASIC_AUTH_USER, BASIC_AUTH_PASS   everything but events
    API_TOKEN                          our own endpoints, instead of the password; a browser may
                                       give it as the password of any user
    WEBHOOK_SECRET                     events, as a part of their address

A false event has no effect but work, as what is learnt is read from Label Studio itself: without
WEBHOOK_SECRET `/webhook` is open. Each comparison takes the same time for any guess.
"""

import hmac
import ipaddress
from urllib.parse import urlsplit

from flask import Response, abort, request

from ..errors import NotAllowed, NotJson
from . import secret_address, services
from .errors import answer

PROXIES = (  # what a proxy adds, unless it was told to hide
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-Ip",
)
OPEN = frozenset({"ready", "open_metrics"})  # blueprints that tell everybody
EVENTS = "webhook"  # blueprint
OWN = frozenset({"jobs", "metrics", "ui", "ui_projects"})  # nobody but an administrator asks them
PAGES = frozenset({"ui", "ui_projects"})  # blueprints for a browser, which has no bearer's token
SHARED = frozenset({"versions"})  # Label Studio asks these, too


def require_credentials() -> Response | None:
    """Let the request pass, or answer 401; events without their secret end as 404."""
    if request.blueprint == EVENTS:
        _require_event_secret()
        return None
    if request.blueprint in OPEN:
        return None
    known = services()
    if request.blueprint in OWN | SHARED and _has_token():
        return None
    if known.basic_auth is not None:
        return None if _has_password() else _refused("user or password", 'Basic realm="cliper"')
    if request.blueprint in PAGES and known.api_token is not None:
        return _refused("API_TOKEN, as the password,", 'Basic realm="cliper"')
    if request.blueprint in OWN and known.api_token is not None:
        return _refused("API_TOKEN", 'Bearer realm="cliper"')
    return None


def _require_event_secret() -> None:
    """Start Training comes to the model's own address, with its password: that will do."""
    if services().webhook_secret is None or secret_address.was_used(request.environ):
        return
    if services().basic_auth is not None and _has_password():
        return
    abort(404)


def _has_password() -> bool:
    wanted, given = services().basic_auth, request.authorization
    if wanted is None:
        return False
    user = (given.username if given else None) or ""
    password = (given.password if given else None) or ""
    same_user = hmac.compare_digest(user.encode(), wanted[0].encode())
    same_password = hmac.compare_digest(password.encode(), wanted[1].encode())
    return same_user and same_password


def _has_token() -> bool:
    wanted, given = services().api_token, request.authorization
    if wanted is None or given is None:
        return False
    guess = given.token if given.type == "bearer" else None
    if request.blueprint in PAGES and given.type == "basic":
        guess = given.password
    return hmac.compare_digest((guess or "").encode(), wanted.encode())


def _refused(what: str, wanted: str) -> Response:
    refused = answer(401, f"{what} is missing or wrong")
    refused.headers["WWW-Authenticate"] = wanted
    return refused


def require_somebody_known() -> None:
    """For routes that change things in Label Studio. Raises NotAllowed, NotJson.

    Where neither password nor API_TOKEN is set they answer this very machine only: the caller's
    address and the name it used for us must both be loopback, so neither a proxy here that says it
    is one nor a web page whose name was made to lead here is taken for the owner. A proxy here that
    says nothing of itself and calls us by a loopback name cannot be told from the owner: it needs
    the password. JSON is asked for since a browser sends that to another site only after asking it
    first, which is never granted.
    """
    if not is_owner():
        raise NotAllowed(
            "jobs change things in Label Studio: without a password they are for this machine "
            "only; set BASIC_AUTH_USER and BASIC_AUTH_PASS, or API_TOKEN"
        )
    if request.method == "POST" and not request.is_json:
        raise NotJson


def require_owner() -> None:
    """For pages that change things, or make us fetch an address. Raises NotAllowed."""
    if not is_owner():
        raise NotAllowed(
            "projects are shown to this machine only where no password is set; set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS, or API_TOKEN"
        )


def is_owner() -> bool:
    """Whether the caller has given a key, as everybody who comes so far has where one is set, or
    sits at this machine; see `require_somebody_known`."""
    known = services()
    return known.basic_auth is not None or known.api_token is not None or _from_this_machine()


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
