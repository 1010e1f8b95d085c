"""Label Studio: does it answer, does it let us in, and what does it call itself?"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..demo.errors import Refused
from ..demo.label_studio_api import LabelStudioApi
from ..images.guarded import origin
from ..settings import Settings
from . import wire
from .case import Case, known
from .findings import Finding, brief, fail, ok, skip, warn

RELEASE = "1.23"  # everything here was seen with it
PATIENCE = 60.0  # seconds: Label Studio may have to ask several models first
LEGACY = re.compile(r"[0-9a-f]{40}")
SWITCHED_OFF = "legacy token authentication has been disabled"
STYLE_SHEET = re.compile(r'href="(https?://[^"]*?)/static/css/')  # of the page for logging in
ACCOUNT = "copy a token from Account & Settings of Label Studio into LABEL_STUDIO_API_KEY"
LOCAL = ("localhost", "127.0.0.1", "::1")


def label_studio(case: Case) -> Iterator[Finding]:
    """Somebody answers at LABEL_STUDIO_URL, and it is Label Studio."""
    chosen = known(case.settings)
    url = chosen.label_studio_url
    if url is None:
        yield fail("LABEL_STUDIO_URL is not set", "set it, or give --url")
        return
    try:
        reply = wire.ask("GET", f"{url}/api/version", verify=chosen.verify_ssl)
    except wire.NoAnswer as error:
        yield fail(str(error), _remedy(error.kind, case), url=url, reason=error.kind)
        return
    told = reply.json if isinstance(reply.json, dict) else {}
    release = told.get("release")
    if not isinstance(release, str) or "label-studio-os-package" not in told:
        yield fail(
            f"{url} answers (HTTP {reply.status}), but it is not Label Studio",
            "check address, port and sub-path of LABEL_STUDIO_URL",
            url=url,
        )
        return
    case.release = release
    what = f"Label Studio {release} at {url}"
    if release == RELEASE or release.startswith(f"{RELEASE}."):
        yield ok(what, url=url, release=release)
        return
    yield warn(
        f"{what}; only {RELEASE} was tried",
        "if something behaves differently, compare with docs/specs/label_studio_protocol.md",
        url=url,
        release=release,
    )


def token(case: Case) -> Iterator[Finding]:
    """The token is accepted, whichever kind it is."""
    chosen = known(case.settings)
    key, url = chosen.label_studio_api_key, known(chosen.label_studio_url)
    if key is None:
        yield fail("LABEL_STUDIO_API_KEY is not set", f"{ACCOUNT}, or give --token")
        return
    kind = kind_of(key)
    try:
        api = LabelStudioApi(url, key, timeout=PATIENCE, verify=chosen.verify_ssl)
    except Refused as error:
        yield fail(
            f"the {kind} cannot be exchanged for an access token: {brief(error.message)}",
            f"it was revoked or belongs to another server; {ACCOUNT}",
            kind=kind,
        )
        return
    try:
        me = api.call("GET", "/api/current-user/whoami")
    except Refused as error:
        api.close()
        yield _refused(error, kind)
        return
    case.api = api
    exchanged = ", exchanged" if kind == "personal access token" else ""
    who = str(me.get("email") or me.get("username") or "somebody")
    yield ok(f"{kind}{exchanged}, accepted as {who}", kind=kind, user=who)


def kind_of(key: str) -> str:
    """What a token is, by its form."""
    if key.count(".") == 2:
        return "personal access token"
    return "legacy token" if LEGACY.fullmatch(key) else "token of unknown form"


def _refused(error: Refused, kind: str) -> Finding:
    if SWITCHED_OFF in error.message.lower():
        return fail(
            f"the {kind} is right, but legacy tokens are switched off in this organisation",
            "use a personal access token, or switch legacy tokens on (Organization, API Tokens "
            "Settings)",
            kind=kind,
        )
    if error.status in (401, 403):
        return fail(
            f"the {kind} is refused ({error.status}): {brief(error.message)}", ACCOUNT, kind=kind
        )
    return fail(
        f"Label Studio answered {error.status}: {brief(error.message)}",
        "look into the log of Label Studio",
        kind=kind,
    )


def address(case: Case) -> Iterator[Finding]:
    """What Label Studio calls itself is what LABEL_STUDIO_URL calls it.

    It writes LABEL_STUDIO_HOST in front of the files of a synchronised folder, and tells it to
    every model. No answer of the API has it; the page for logging in does.
    """
    chosen = known(case.settings)
    url = known(chosen.label_studio_url)
    try:
        own = _own_address(url, chosen)
    except wire.NoAnswer as error:
        yield skip(f"the login page, which would tell, does not answer: {error}")
        return
    if own is None:
        yield ok(
            "Label Studio names no address of its own (LABEL_STUDIO_HOST is not set), so its files "
            "have relative addresses",
            reported=None,
        )
    elif _same(own, url):
        yield ok(f"Label Studio calls itself {own}, as LABEL_STUDIO_URL does", reported=own)
    else:
        inside = (
            "; localhost is this container itself"
            if case.question.in_container and urlsplit(own).hostname in LOCAL
            else ""
        )
        yield warn(
            f"Label Studio calls itself {own}, LABEL_STUDIO_URL is {url}: files it lists under its "
            f"own address are fetched without the token, or not at all{inside}",
            f"start Label Studio with LABEL_STUDIO_HOST={url}, or set LABEL_STUDIO_URL={own} if it "
            "can be reached there from the service",
            reported=own,
        )


def _own_address(url: str, chosen: Settings) -> str | None:
    """Raises NoAnswer."""
    page = wire.ask("GET", f"{url}/user/login/", verify=chosen.verify_ssl)
    found = STYLE_SHEET.search(page.text)
    return found.group(1) if found else None


def _same(one: str, other: str) -> bool:
    paths = [urlsplit(url).path.rstrip("/") for url in (one, other)]
    return origin(one) == origin(other) and paths[0] == paths[1]


def _remedy(kind: str, case: Case) -> str:
    url = known(case.settings).label_studio_url or ""
    if case.question.in_container and urlsplit(url).hostname in LOCAL:
        return (
            "localhost is this container itself; use http://host.docker.internal:8080 or the name "
            "of Label Studio's container"
        )
    return {
        wire.NAME: "check the name in LABEL_STUDIO_URL, as seen from this machine",
        wire.REFUSED: "is Label Studio running, and is the port in LABEL_STUDIO_URL right?",
        wire.LATE: "is a firewall between here and Label Studio, or is it overloaded?",
        wire.CERTIFICATE: "trust the certificate's authority on this machine, or set "
        "VERIFY_SSL=false in a network of your own",
    }.get(kind, "check LABEL_STUDIO_URL")
