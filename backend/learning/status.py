"""How learning stands in one project, and which version is to be used: for whoever asks, on the
command line or in a browser."""

from dataclasses import replace
from typing import Any

from ..errors import BadRequest
from .records import RETIRED, Kept, LeftOut, Records
from .works import apply_pinned


def status(records: Records) -> dict[str, Any]:
    """Everything there is to know, as JSON."""
    states = sorted(records.states(), key=lambda one: one.task)
    kept = [one for one in states if isinstance(one, Kept)]
    active, wishes = records.active()[0], records.wishes()
    return {
        "project": int(records.scope.project),
        "version": active.digest,
        "learnt_from": active.tasks,
        "pinned": wishes.pinned,
        "asked": wishes.asked,
        "unsettled": records.oldest_unsettled() != 0,
        "tasks": [
            {"task": one.task, "annotation": one.annotation, "kept": one.grain.value}
            for one in kept
        ],
        "left_out": [
            {"task": one.task, "reason": one.reason} for one in states if isinstance(one, LeftOut)
        ],
        "versions": [one.to_json() for one in records.versions()],
    }


def digest_of(records: Records, start: str) -> str:
    """Digest of the version that begins so. Raises BadRequest where none does, or several do."""
    versions = records.versions()
    found = {one.digest for one in versions if start and one.digest.startswith(start)}
    if len(found) != 1:
        known = ", ".join(one.digest for one in versions) or "none"
        raise BadRequest(f"version {start!r} is none of this project's, which are: {known}")
    return found.pop()


def used_before(records: Records) -> str:
    """Digest of the version in use before the present one; "" for none."""
    return next((one.digest for one in records.versions() if one.state == RETIRED), "")


def use(records: Records, digest: str) -> None:
    """From now on this version is used, whatever is learnt; "" for none."""
    records.wish(lambda wishes: replace(wishes, pinned=digest))
    apply_pinned(records)


def use_what_follows(records: Records) -> None:
    """Take `use` back; the next job of learning says what follows."""
    records.wish(lambda wishes: replace(wishes, pinned=None))
