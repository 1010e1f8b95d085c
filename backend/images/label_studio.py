"""Label Studio as a file server: its address, and a token that goes nowhere else.

Two kinds of token exist (protocol notes §2): the legacy one is sent as it is; a personal
access token is a refresh token, exchanged for a short-lived one whenever that is refused.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from ..errors import ImageMissing, TokenRefused, Unreachable, WrongStatus
from .guarded import Answer, GuardedHttp, origin, shown

REFUSED = (401, 403)


class LabelStudioFiles:
    """Fetches from one Label Studio; safe to use from many threads."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        http: GuardedHttp,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`http` must trust `url`'s origin. `clock` gives seconds."""
        self._url, self._origin, self._http = url.rstrip("/"), origin(url), http
        self._api_key, self._clock = api_key, clock
        self._access: str | None = None  # the short-lived token of a personal access token
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._url

    def address(self, path: str) -> str:
        """Full address of a path on this server, also where it lives under a sub-path."""
        base = urlsplit(self._url).path
        if base and path.startswith(f"{base}/"):
            path = path.removeprefix(base)
        return self._url + path

    def owns(self, url: str) -> bool:
        """Whether an address lies on this very server (scheme, host and port)."""
        return origin(url) == self._origin

    def get(self, url: str, *, timeout: float) -> Answer:
        """Fetch with the token, renewed once if refused, all of it within `timeout` seconds.

        Raises ImageError.
        """
        deadline = self._clock() + timeout
        access = self._token(None, deadline)
        answer = self._get(url, access, deadline)
        if answer.status == 401 and self._is_personal:
            access = self._token(access, deadline)
            answer = self._get(url, access, deadline)
        if answer.status in REFUSED and self.owns(answer.url):
            raise self._refused(answer.status)
        return answer

    @property
    def _is_personal(self) -> bool:
        key = self._api_key or ""
        return key.startswith("eyJ") and key.count(".") == 2  # a JSON web token

    def _get(self, url: str, token: str | None, deadline: float) -> Answer:
        last = url  # of the addresses a redirect led to

        def headers(hop: str) -> Mapping[str, str]:
            nonlocal last
            last = hop
            if token is None or not self.owns(hop):
                return {}
            return {"Authorization": f"{'Bearer' if self._is_personal else 'Token'} {token}"}

        try:
            return self._http.get(url, timeout=self._left(deadline), headers=headers)
        except Unreachable as error:
            raise self._unreachable(error) if self.owns(last) else error from None

    def _token(self, refused: str | None, deadline: float) -> str | None:
        """The token to send; a new one if `refused` is still the newest. One thread asks."""
        if not self._is_personal:
            return self._api_key
        if not self._lock.acquire(timeout=self._left(deadline)):
            raise self._late()
        try:
            if self._access is None or self._access == refused:
                self._access = self._exchange(deadline)
            return self._access
        finally:
            self._lock.release()

    def _left(self, deadline: float) -> float:
        """Seconds left. Raises Unreachable."""
        left = deadline - self._clock()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> Unreachable:
        return Unreachable(f"Label Studio at {self._url} did not answer in time")

    def _exchange(self, deadline: float) -> str:
        body = json.dumps({"refresh": self._api_key}).encode()
        left = self._left(deadline)
        try:
            answer = self._http.post_json(f"{self._url}/api/token/refresh", body, timeout=left)
        except Unreachable as error:
            raise self._unreachable(error) from None
        if answer.status in (400, *REFUSED):
            raise self._refused(answer.status)
        try:
            access = json.loads(answer.body)["access"] if answer.status == 200 else None
        except (ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str):
            raise Unreachable(
                f"Label Studio at {self._url} did not renew the access token (HTTP {answer.status})"
            )
        return access

    def _refused(self, status: int) -> TokenRefused:
        if self._api_key is None:
            return TokenRefused(
                f"Label Studio at {self._url} asks for a token ({status}); set LABEL_STUDIO_API_KEY"
            )
        return TokenRefused(
            f"Label Studio at {self._url} refused the token ({status}); check LABEL_STUDIO_API_KEY"
        )

    def _unreachable(self, error: Unreachable) -> Unreachable:
        return Unreachable(f"Label Studio does not answer, check LABEL_STUDIO_URL: {error}")


def content(answer: Answer) -> bytes:
    """The body of a good answer. Raises ImageMissing or WrongStatus."""
    if answer.status in (404, 410):
        raise ImageMissing(f"there is nothing at {shown(answer.url)} (HTTP {answer.status})")
    if answer.status != 200:
        raise WrongStatus(f"{shown(answer.url)} answered HTTP {answer.status}", answer.status)
    return answer.body
