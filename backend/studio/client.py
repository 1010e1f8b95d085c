"""Requests to Label Studio that outlast its restarts, its limits and a token's life.

What may be sent twice is sent again until an answer comes, or patience ends. What may not is
sent again only where it surely did not arrive; else `StudioUncertain` says so, and whoever
asked looks what became of it.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from ..errors import StudioAway, StudioRefused, StudioUncertain
from ..images.guarded import shown

logger = logging.getLogger(__name__)

Json = Any

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
NEVER_DONE = frozenset({429, 503})  # the request was turned away before anything happened
MOST_ERRORS_500 = 4  # Label Studio says 500 for what will never succeed too
LONGEST_MESSAGE = 300

BROKEN = (  # on the way there or back; a body that ends too early is no ConnectionError
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long Label Studio may stay away. Seconds.

    total  before giving up
    first  pause after the first failure; doubled up to `most`
    """

    total: float = 3600.0
    first: float = 0.5
    most: float = 15.0


class Studio:
    """One Label Studio and one token; safe to use from a few threads.

    `pause(seconds)` waits, and raises whatever should end the waiting. `waits_for` says what it
    waits for at the moment, None when all is well.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        verify: bool = True,
        timeout: float = 120.0,
        patience: Patience | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        rest: float = 0.0,
    ) -> None:
        """`token` legacy or personal, told apart by form. `timeout`: seconds for one answer.
        `rest`: after every answer nothing is asked for so many times as long as it took."""
        self.url, self._token, self._timeout = url.rstrip("/"), token, timeout
        self._patience, self._pause, self._clock = patience or Patience(), pause, clock
        self._rest = rest
        self._session = requests.Session()
        self._session.trust_env = False  # like the pictures: no proxy in between
        self._session.verify = verify
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=0))
        self._lock = threading.Lock()
        self._access: str | None = None
        self.waits_for: str | None = None

    def close(self) -> None:
        """Close the connections kept open."""
        self._session.close()

    def get(self, path: str, **options: Any) -> Json:
        """Raises StudioRefused, StudioAway."""
        return self._ask("GET", path, again=True, **options)

    def delete(self, path: str, **options: Any) -> Json:
        """What is gone already counts as deleted. Raises StudioRefused, StudioAway."""
        try:
            return self._ask("DELETE", path, again=True, **options)
        except StudioRefused as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, *, again: bool = False, **options: Any) -> Json:
        """`again`: whether it may arrive twice. Raises StudioRefused, StudioAway, and where it may
        not StudioUncertain."""
        return self._ask("POST", path, again=again, **options)

    def patch(self, path: str, **options: Any) -> Json:
        """Raises StudioRefused, StudioAway."""
        return self._ask("PATCH", path, again=True, **options)

    def _ask(self, method: str, path: str, *, again: bool, **options: Any) -> Json:
        deadline = self._clock() + self._patience.total
        pause, errors_500 = self._patience.first, 0
        while True:
            trouble, wanted, begun = "", 0.0, self._clock()
            try:
                answer = self._send(method, path, **options)
            except BROKEN as error:
                trouble = f"does not answer ({_why(error)})"
                if _is_distrusted(error):
                    raise StudioAway(self._about(method, path, trouble)) from None
                if not again and not _never_arrived(error):
                    raise StudioUncertain(self._about(method, path, trouble)) from None
            except requests.RequestException as error:
                raise StudioAway(self._about(method, path, f"is no server ({error})")) from None
            else:
                if answer.status_code not in PASSING:
                    self._all_is_well()
                    if self._rest:
                        self._pause(self._rest * (self._clock() - begun))
                    return _content(answer, f"{method} {path}")
                trouble = f"answered HTTP {answer.status_code}"
                wanted = _retry_after(answer)
                errors_500 += answer.status_code == 500
                if errors_500 >= MOST_ERRORS_500:
                    self._all_is_well()
                    return _content(answer, f"{method} {path}")
                if not again and answer.status_code not in NEVER_DONE:
                    raise StudioUncertain(self._about(method, path, trouble))
            if self._clock() >= deadline:
                raise StudioAway(self._about(method, path, trouble))
            self._say(trouble)
            self._pause(min(max(pause, wanted), max(deadline - self._clock(), 0.0)))
            pause = min(2 * pause, self._patience.most)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        token = self._bearer(None)
        answer = self._once(method, path, token, **options)
        if answer.status_code == 401 and self._is_personal:
            answer = self._once(method, path, self._bearer(token), **options)
        return answer

    def _once(self, method: str, path: str, token: str, **options: Any) -> requests.Response:
        kind = "Bearer" if self._is_personal else "Token"
        headers = {"Authorization": f"{kind} {token}", **options.pop("headers", {})}
        timeout = (10.0, self._timeout)
        return self._session.request(
            method,
            f"{self.url}{path}",
            headers=headers,
            timeout=timeout,
            allow_redirects=method == "GET",  # elsewhere requests would make it a GET
            **options,
        )

    @property
    def _is_personal(self) -> bool:
        return self._token.count(".") == 2

    def _bearer(self, refused: str | None) -> str:
        """The token to send; a personal one is exchanged, anew if `refused` is still the newest."""
        if not self._is_personal:
            return self._token
        with self._lock:
            if self._access is None or self._access == refused:
                self._access = self._exchanged()
            return self._access

    def _exchanged(self) -> str:
        """A new access token. Raises StudioRefused, and _NotSent where it may go better later."""
        try:
            answer = self._session.request(
                "POST",
                f"{self.url}/api/token/refresh",
                json={"refresh": self._token},
                timeout=(10.0, self._timeout),
            )
        except BROKEN as error:
            if _is_distrusted(error):
                raise
            raise _NotSent(_why(error)) from None
        if answer.status_code in PASSING:
            raise _NotSent(f"HTTP {answer.status_code} to the token")
        told = _content(answer, "POST /api/token/refresh")
        if not isinstance(told, dict) or "access" not in told:
            raise StudioRefused("POST /api/token/refresh", answer.status_code, "no token given")
        return str(told["access"])

    def _about(self, method: str, path: str, trouble: str) -> str:
        return f"Label Studio at {shown(self.url)} {trouble} to {method} {path.split('?')[0]}"

    def _say(self, trouble: str) -> None:
        with self._lock:
            is_new, self.waits_for = self.waits_for is None, f"Label Studio, which {trouble}"
        if is_new:
            logger.warning("Label Studio at %s %s; waiting for it", shown(self.url), trouble)

    def _all_is_well(self) -> None:
        with self._lock:
            was_away, self.waits_for = self.waits_for is not None, None
        if was_away:
            logger.warning("Label Studio at %s answers again", shown(self.url))


class _NotSent(requests.ConnectionError):
    """The request was not sent at all: the token for it could not be had, now."""


def _is_distrusted(error: Exception) -> bool:
    """Whether the server's certificate is refused: that does not pass by waiting."""
    return isinstance(error, requests.exceptions.SSLError) and "VERIFY_FAILED" in str(error)


def _never_arrived(error: Exception) -> bool:
    """Whether no connection was made at all, so that nothing can have happened."""
    if isinstance(error, _NotSent):
        return True
    reason = error.args[0] if error.args else None
    reason = reason.reason if isinstance(reason, MaxRetryError) else reason
    connect = isinstance(error, requests.ConnectTimeout)
    return connect or isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _why(error: Exception) -> str:
    if isinstance(error, _NotSent):
        return str(error)
    if _is_distrusted(error):
        return "its certificate is not trusted"
    if isinstance(error, requests.Timeout):
        return "not in time"
    return "connection refused or lost"


def _retry_after(answer: requests.Response) -> float:
    """Seconds the server asks us to wait, up to ten minutes; 0 where it does not say."""
    given = answer.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]+", given):
        return min(float(given), 600.0)
    try:
        wanted = parsedate_to_datetime(given).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(wanted, 0.0), 600.0)


def _content(answer: requests.Response, request: str) -> Json:
    """The decoded JSON, None where there is nothing. Raises StudioRefused."""
    if 300 <= answer.status_code < 400:
        where = answer.headers.get("Location", "")
        raise StudioRefused(request, answer.status_code, f"it is at {shown(where)}; give that URL")
    if answer.status_code >= 400:
        raise StudioRefused(request, answer.status_code, said(answer))
    if answer.status_code == 204 or not answer.content:
        return None
    try:
        return answer.json()
    except requests.JSONDecodeError:
        said_by = "the answer is no JSON: is this the address of Label Studio?"
        raise StudioRefused(request, answer.status_code, said_by) from None


def said(answer: requests.Response) -> str:
    """What Label Studio wants to say, in one line, without a trace or a whole page of HTML."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        text = answer.text.strip()
        return "no reason given" if text.startswith("<") else text[:LONGEST_MESSAGE]
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    words = "; ".join(_flat(body))
    return words if len(words) <= LONGEST_MESSAGE else f"{words[:LONGEST_MESSAGE]}…"


def _flat(errors: Json, field: str = "") -> list[str]:
    """Nested errors as sentences: {"field": ["a", "b"]} -> ["field: a", "field: b"]."""
    if isinstance(errors, dict):
        return [one for name, inner in errors.items() for one in _flat(inner, str(name))]
    if isinstance(errors, list):
        return [one for inner in errors for one in _flat(inner, field)]
    named = field and field != "non_field_errors"
    return [f"{field}: {errors}" if named else str(errors)]
