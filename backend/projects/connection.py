"""Which Label Studio the service talks to, whether it answers, and what to do where it does not."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..errors import StudioError, StudioRefused
from ..images.guarded import shown
from ..studio import account
from ..studio.client import Studio

NEW_TOKEN: Final = (
    "copy a token from Account & Settings of Label Studio into LABEL_STUDIO_API_KEY, and start the "
    "service again"
)
OTHER_ADDRESS: Final = "check address, port and path in LABEL_STUDIO_URL"
NO_ANSWER: Final = (
    "is Label Studio running, and is LABEL_STUDIO_URL its address as seen from this service? "
    "'cliper doctor' looks closer"
)
NO_TRUST: Final = (
    "trust the certificate's authority on this machine, or set VERIFY_SSL=false in a network of "
    "your own"
)
SET_THEM: Final = "set {names} in the environment of the service, and start it again"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a Label Studio answers.

    url      as it is set, without what is secret; None where it is not set
    release  of Label Studio; None where nobody answers
    user     whose token it is; None where it is not accepted
    missing  settings without which there is no connection
    trouble  why it cannot be used, in one sentence; None where it can
    remedy   what to do about that
    """

    url: str | None = None
    release: str | None = None
    user: str | None = None
    missing: tuple[str, ...] = ()
    trouble: str | None = None
    remedy: str | None = None

    @property
    def answers(self) -> bool:
        return self.trouble is None

    def to_json(self) -> Mapping[str, Any]:
        return {**asdict(self), "missing": list(self.missing), "answers": self.answers}


def not_set_up(missing: tuple[str, ...], *, url: str | None = None) -> Connection:
    """Where settings are missing."""
    names = " and ".join(missing)
    return Connection(
        url=None if url is None else shown(url),
        missing=missing,
        trouble=f"no Label Studio is connected, since {names} {_is(missing)} not set",
        remedy=SET_THEM.format(names=names),
    )


def look(studio: Studio) -> Connection:
    """Ask who answers, and as whom; never raises what Label Studio does."""
    url, release = shown(studio.url), None
    try:
        release = account.release(studio)
        return Connection(url=url, release=release, user=account.user(studio))
    except StudioError as error:
        return trouble(url, error, release=release)


def trouble(url: str, error: StudioError, *, release: str | None = None) -> Connection:
    """A connection that does not work, and what to do; `url` as it may be shown."""
    return Connection(url=url, release=release, trouble=str(error), remedy=_remedy(error))


def _remedy(error: StudioError) -> str:
    if isinstance(error, StudioRefused):
        return NEW_TOKEN if error.status in (401, 403) else OTHER_ADDRESS
    return NO_TRUST if "certificate" in str(error) else NO_ANSWER


def _is(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"
