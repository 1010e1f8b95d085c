"""The service: does it run, and has its model come up?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import wire
from .case import Case, known
from .findings import Finding, brief, fail, ok, warn

LOG = "the log of the service says more"
FACTS = ("profile", "method", "features", "vae", "device", "dtype")


def service(case: Case) -> Iterator[Finding]:
    """`GET /health` of the service, and the state of its models."""
    url = case.backend
    try:
        reply = wire.ask("GET", f"{url}/health", auth=known(case.settings).basic_auth)
    except wire.NoAnswer as error:
        yield fail(
            str(error),
            "start it with 'cliper serve', or give its address with --backend",
            url=url,
            reason=error.kind,
        )
        return
    if reply.status == 401:
        yield fail(
            f"{url} asks for a user and a password",
            "set BASIC_AUTH_USER and BASIC_AUTH_PASS as for the service",
            url=url,
        )
        return
    told = reply.json
    name = str(told.get("model_class")) if isinstance(told, dict) else ""
    if reply.status != 200 or not isinstance(told, dict) or "cliper" not in name.lower():
        yield fail(
            f"{url} answers (HTTP {reply.status}), but it is not this service",
            "give the right address with --backend",
            url=url,
        )
        return
    case.health = told
    if "model" not in told:
        yield ok(f"{url} runs on the backend SDK's own server, which tells no more", url=url)
        return
    yield _of_model(url, told)
    yield from _of_devices(url, told.get("devices") or ())
    for other in told.get("other_models") or ():
        if other.get("state") == "failed":
            name = other.get("method") or other.get("profile")
            yield warn(f"the other model {name} could not be loaded", LOG, url=url)


def _of_devices(url: str, devices: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Those that are out while others work."""
    if not any(one.get("state") == "ready" for one in devices):
        return
    for one in devices:
        if one.get("state") in ("failed", "lost", "stopped"):
            reason = brief(str(one.get("reason")))
            yield warn(f"the device {one.get('name')} does nothing: {reason}", LOG, url=url)


def _of_model(url: str, told: Mapping[str, Any]) -> Finding:
    model = told.get("model") or {}
    state = model.get("state")
    facts = {name: told.get(name) for name in FACTS}
    what = f"{url} with profile {told.get('profile')}"
    details = {"url": url, "model": state, **{k: v for k, v in facts.items() if v is not None}}
    if state == "failed":
        return fail(
            f"{what} has no model: {brief(str(model.get('reason')))}",
            f"do what the reason says; {LOG}",
            **details,
        )
    if state != "ready":
        return warn(
            f"{what}: {state} ({model.get('progress')} %)", "wait until it is ready", **details
        )
    fallbacks = [str(note) for note in told.get("fallbacks") or ()]
    others = [
        f"also in memory: {other.get('method') or other.get('profile')} ({other.get('state')})"
        for other in told.get("other_models") or ()
    ]
    large = told.get("large_pictures")
    seen = [f"large pictures are seen {large}"] if large else []
    method = f", method {told['method']}" if told.get("method") else ""
    where = f" on {told.get('device')} in {told.get('dtype')}"
    return ok(
        f"{what}{method}{where}, ready",
        lines=(*seen, *(f"note: {note}" for note in fallbacks), *others),
        fallbacks=fallbacks,
        **details,
    )
