"""Who may see our pages, how they are served, and that what they send was sent by them."""

import hmac
import secrets
from pathlib import Path

from flask import Response, request

from ..errors import NotAllowed
from . import auth

PAGES = Path(__file__).parents[1] / "pages"
COOKIE, HEADER = "cliper_csrf", "X-CSRF-Token"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NOTHING = "default-src 'none'; sandbox; frame-ancestors 'none'"  # for what is no page


def only_for_owner() -> None:
    """Raises NotAllowed, NotJson."""
    auth.require_somebody_known()


def check_csrf() -> None:
    """What changes something must carry in a header what our page was given in a cookie, which no
    page of another site can read. Raises NotAllowed."""
    if request.method in READING:
        return
    known, given = request.cookies.get(COOKIE, ""), request.headers.get(HEADER, "")
    if not known or not hmac.compare_digest(known.encode(), given.encode()):
        raise NotAllowed("this was not sent by our own page; load the page again")


def page(name: str, **headers: str) -> Response:
    """One of our static pages, with its policy and the cookie for `check_csrf`."""
    answer = Response((PAGES / name).read_bytes(), mimetype="text/html", headers=headers)
    answer.headers["Content-Security-Policy"] = POLICY
    if not request.cookies.get(COOKIE):
        answer.set_cookie(COOKIE, secrets.token_urlsafe(24), samesite="Strict", path=None)
    return answer


def finish(answer: Response) -> Response:
    """After every request of a page's blueprint: what was not said is nothing."""
    answer.headers.setdefault("Content-Security-Policy", NOTHING)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
