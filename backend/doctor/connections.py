"""The models stored in the project: does Label Studio reach them, and is there one too many?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..demo.errors import Refused
from ..demo.label_studio_api import Json
from ..errors import AddressRefused
from ..images.guarded import origin, shown
from . import wire
from .case import Case, known
from .findings import Finding, brief, fail, ok, skip, warn

BLOCKED = "resolves to a reserved network address"
CALLS, EVENTS = "LABEL_STUDIO_ML_BLOCK_LOCAL_IP", "LABEL_STUDIO_SSRF_PROTECTION_ENABLED"
GUIDE = "docs/how-to/connect-label-studio.md"
EVENTS_BELOW = "/webhook/WEBHOOK_SECRET"
NO_SUCH_ACTION = "NOT_AN_ACTION"  # so that a probe is refused and nothing is stored


def connections(case: Case) -> Iterator[Finding]:
    """Each stored model: what Label Studio says of it, and whether its address answers here."""
    found = known(case.connections)
    if not found:
        yield warn(
            "the project has no model",
            f"Settings, Model, Connect Model: {_address_to_enter(case)}; {GUIDE}",
        )
    for one in found:
        yield _of_one(one, case)
    yield from _lost_events(found, case)
    asks = case.plan is not None and case.plan.prompts
    if asks and found and not any(one.get("is_interactive") for one in found):
        yield warn(
            "the config has smart tools, but no model takes part in interactive preannotations",
            "switch it on in Settings, Model, Edit",
        )


def _of_one(one: Json, case: Case) -> Finding:
    url = str(one.get("url") or "")
    name = f"{one.get('title')!r} at {shown(url)}"
    said = brief(str(one.get("error_message") or ""))
    details: dict[str, Any] = {
        "id": one.get("id"),
        "url": shown(url),
        "connection": one.get("readable_state"),
    }
    if one.get("state") == "CO":
        return ok(f"{name} is connected", **details)
    if "label-config" in case.failed and "422" in said:
        return skip(f"{name} refuses the label config, see label-config")
    if "service" in case.failed and _same_server(url, case.backend):
        return skip(f"{name} is the service that does not answer, see service")
    trouble = _trouble(url, case)
    if trouble is not None:
        return fail(
            f"{name}: {one.get('readable_state')}; from here too nobody answers: {trouble}",
            "start the service, or correct the address in Settings, Model, Edit",
            said=said,
            **details,
        )
    if BLOCKED in said:
        return fail(f"{name}: {said}", f"start Label Studio with {CALLS}=false", **details)
    if "authentication" in said.lower() or "401" in said:
        return fail(
            f"{name} refuses Label Studio: {said}",
            "enter the service's BASIC_AUTH_USER and BASIC_AUTH_PASS in Settings, Model, Edit",
            **details,
        )
    return fail(
        f"{name}: {one.get('readable_state')}, though it answers from here; Label Studio says: "
        f"{said or 'nothing'}",
        f"the address must be the service's as seen from Label Studio, see the table in {GUIDE}",
        **details,
    )


def _address_to_enter(case: Case) -> str:
    """The address of the model for Label Studio; a secret in it is named, not shown."""
    secret = known(case.settings).webhook_secret
    return f"{case.backend}{EVENTS_BELOW}" if secret else case.backend


def _lost_events(found: Sequence[Json], case: Case) -> Iterator[Finding]:
    """Models whose address lacks the secret: they predict, and their events are refused."""
    secret = known(case.settings).webhook_secret
    if secret is None:
        return
    for one in found:
        url = str(one.get("url") or "").rstrip("/")
        if _same_server(url, case.backend) and not urlsplit(url).path.endswith(
            f"/webhook/{secret}"
        ):
            yield warn(
                f"{one.get('title')!r} at {shown(url)} gets no events: WEBHOOK_SECRET is set, and "
                "its address does not hold it",
                f"connect it again at {_address_to_enter(case)}, with the value of WEBHOOK_SECRET, "
                "and delete this model and its webhook",
                id=one.get("id"),
            )


def _trouble(url: str, case: Case) -> str | None:
    ours = _same_server(url, case.backend)
    auth = known(case.settings).basic_auth if ours else None  # nobody else's business
    try:
        wire.ask("GET", f"{url.rstrip('/')}/health", auth=auth)
    except wire.NoAnswer as error:
        return str(error)
    return None


def _same_server(one: str, other: str) -> bool:
    try:
        return origin(one) == origin(other)
    except AddressRefused:
        return False


def copies(case: Case) -> Iterator[Finding]:
    """One model is what Label Studio asks; copies and left-over events only cost time."""
    found = known(case.connections)
    urls = [str(one.get("url") or "").rstrip("/") for one in found]
    clean = True
    for url, count in Counter(urls).items():
        if count > 1:
            clean = False
            numbers = [one["id"] for one in found if str(one.get("url")).rstrip("/") == url]
            yield warn(
                f"{count} models have the address {shown(url)} (numbers "
                f"{', '.join(map(str, numbers))})",
                "delete all but the first in Settings, Model",
                url=shown(url),
                ids=numbers,
            )
    if len(set(urls)) > 1:
        clean = False
        yield warn(
            f"{len(set(urls))} different models; only the first, {found[0].get('title')!r}, is "
            "asked when tasks are opened or predictions retrieved",
            "keep the one you want, or give each a project of its own",
            ids=[one["id"] for one in found],
        )
    for hook in _left_over(case, urls):
        clean = False
        yield warn(
            f"events are still sent to {shown(str(hook['url']))}, which no model has as its "
            "address; every Submit waits for it",
            "delete it in Settings, Webhooks",
            url=shown(str(hook["url"])),
            webhook=hook.get("id"),
        )
    if clean:
        yield ok("no copies, no left-over webhooks" if found else "no left-over webhooks")


def _left_over(case: Case, urls: list[str]) -> list[Json]:
    """Active webhooks of models that were deleted: Label Studio registers <address>/webhook."""
    hooks = known(case.api).call(
        "GET", "/api/webhooks/", params={"project": known(case.question.project)}
    )
    wanted = {f"{url}/webhook" for url in urls}
    return [
        hook
        for hook in hooks
        if hook.get("is_active")
        and str(hook.get("url")).rstrip("/").endswith("/webhook")
        and str(hook.get("url")).rstrip("/") not in wanted
    ]


def server_settings(case: Case) -> Iterator[Finding]:
    """Whether Label Studio may call the service's address and send events there.

    Both questions are asked so that they are refused for another reason where the answer is
    yes; nothing is stored, and nobody is called.
    """
    url = next((str(one["url"]) for one in case.connections or () if one.get("url")), case.backend)
    calls = _refusal(case, "/api/ml", {"url": url})
    events = _refusal(case, "/api/webhooks/", {"url": url, "actions": [NO_SUCH_ACTION]})
    host = urlsplit(url).hostname
    if BLOCKED in calls:
        both = f"{CALLS}=false and {EVENTS}=false"
        yield fail(
            f"Label Studio refuses to call {host}: {calls}",
            f"start Label Studio with {both}",
            calls_allowed=False,
            events_allowed=BLOCKED not in events,
        )
    elif BLOCKED in events:
        yield warn(
            f"Label Studio may call {host}, but not send events there: connecting ends in an error "
            "although the model is stored, and every further try stores a copy",
            f"start Label Studio with {EVENTS}=false",
            calls_allowed=True,
            events_allowed=False,
        )
    elif "required" in calls and NO_SUCH_ACTION in events:
        yield ok(
            f"Label Studio may call {host} and send events there",
            calls_allowed=True,
            events_allowed=True,
        )
    else:
        yield skip(f"whether Label Studio may call {host} cannot be told: {calls}; {events}")


def _refusal(case: Case, path: str, body: Json) -> str:
    """Why Label Studio refuses what it must refuse."""
    try:
        known(case.api).call("POST", path, json=body)
    except Refused as error:
        return brief(error.message)
    return "accepted"
