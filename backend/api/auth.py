"""Basic authentication, the only kind Label Studio sends (protocol notes §1.8).

Events carry no credentials, and a lost event is worse than a false one that has no effect:
`/webhook` stays open.
"""

import hmac

from flask import Response, request

from . import services

OPEN_ENDPOINTS = frozenset({"webhook.webhook"})


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
