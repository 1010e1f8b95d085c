"""What every page of ours and its data are served under.

* A page may load its own scripts, styles and pictures, and nothing else from anywhere.
* What is asked for with another method than GET names the token of a cookie in a header: a page of
  another site can send the cookie along, but can neither read it nor set the header.
* Pages that change things, or make us fetch an address, are for the owner: see `only_for_owner`.
"""

import hmac
import re
import secrets
from importlib import resources

from flask import Response, abort, request

from ..errors import NotAllowed
from . import auth

COOKIE, HEADER = "cliper_csrf", "X-CSRF-Token"
PAGES = "pages"  # folder of the package with what is served as it is
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAME = re.compile(r"[a-z][a-z_]*\.(css|js|svg)")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
NOTHING = "default-src 'none'; sandbox; frame-ancestors 'none'"  # for what is no page
SAFE = ("GET", "HEAD", "OPTIONS")
TOKEN_LENGTH = 24  # random bytes


def page(name: str, policy: str = POLICY) -> Response:
    """A page of the package, such as `playground.html`, and the cookie its requests need."""
    answer = Response(_read(name), mimetype="text/html")
    answer.headers["Content-Security-Policy"] = policy
    answer.headers["Cache-Control"] = "no-cache"
    if not request.cookies.get(COOKIE):
        answer.set_cookie(
            COOKIE,
            secrets.token_urlsafe(TOKEN_LENGTH),
            path=None,  # the page's own folder, wherever a proxy shows it
            samesite="Strict",
            secure=request.is_secure,
        )
    return answer


def static(name: str) -> Response:
    """A script, a style or a drawing that pages load; 404 for anything else."""
    if NAME.fullmatch(name) is None or not (resources.files("backend") / PAGES / name).is_file():
        abort(404)
    answer = Response(_read(name), content_type=TYPES[name.rpartition(".")[2]])
    answer.headers["Cache-Control"] = "no-cache"
    answer.add_etag()
    answer.make_conditional(request)
    return answer


def check_csrf() -> None:
    """Raises NotAllowed for a change that does not come from one of our pages."""
    if request.method in SAFE:
        return
    wanted, given = request.cookies.get(COOKIE, ""), request.headers.get(HEADER, "")
    if not wanted or not hmac.compare_digest(wanted.encode(), given.encode()):
        raise NotAllowed("this was not asked for by a page of ours; load the page again")


def only_for_owner() -> None:
    """For whole blueprints: before every request. Raises NotAllowed."""
    auth.require_owner()


def finish(answer: Response) -> Response:
    """After every request of a page's blueprint."""
    answer.headers.setdefault("Content-Security-Policy", NOTHING)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return answer


def _read(name: str) -> bytes:
    return (resources.files("backend") / PAGES / name).read_bytes()
