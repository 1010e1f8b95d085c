"""How the service is, out of what its parts say of themselves: degraded, and by what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .crew import LOST, STOPPED
from .model_host import FAILED, ModelStatus
from .model_pool import ModelChoice

Facts = Mapping[str, Any]  # as `/health` shows them
Others = Sequence[tuple[ModelChoice, ModelStatus]]  # models that label configs named
OUT = (FAILED, LOST, STOPPED)  # states of devices that do nothing


def degraded(own: ModelStatus, others: Others, facts: Facts, *, device: bool) -> list[str]:
    """One sentence per reason; empty where everything is as it should be.

    `facts`: of store, devices, learning, jobs and batches. `device`: a thread of one takes work.
    """
    return list(dict.fromkeys(_reasons(own, others, facts, device=device)))


def fallbacks(own: ModelStatus, facts: Facts) -> list[str]:
    """One sentence per fallback in effect."""
    found = [str(note) for note in own.details.get("fallbacks", ())]
    halved = facts["batch"]["halved"]
    found += [f"pictures are looked at {n} at a time since memory ran out ({name})"
              for name, n in halved.items()]  # fmt: skip
    return found


def _reasons(own: ModelStatus, others: Others, facts: Facts, *, device: bool) -> Iterator[str]:
    if own.state == FAILED:
        yield f"the model could not be loaded: {own.reason}"
    for choice, status in others:
        if status.state == FAILED:
            name = " ".join(word for word in (choice.method, choice.profile) if word)
            yield f"the model {name} of a label config could not be loaded: {status.reason}"
    if not device:
        yield "the device takes no more work"
    yield from _of_devices(facts.get("devices", ()))
    if facts["storage"]["trouble"] is not None:
        yield f"predictions go on without the store: {facts['storage']['trouble']}"
    yield from _of_learning(facts["learning"])
    yield from _of_jobs(facts)
    for note in fallbacks(own, facts):
        yield f"fallback: {note}"


def _of_devices(devices: Sequence[Facts]) -> Iterator[str]:
    """Those that are out while others are not; where all are, the model's own state says so."""
    out = [one for one in devices if one["state"] in OUT]
    if len(out) == len(devices):
        return
    for one in out:
        yield f"the device {one['name']} is out, and the others do its work: {one['reason']}"


def _of_learning(learning: Facts) -> Iterator[str]:
    trouble = learning.get("trouble")
    if trouble is None:
        return
    if learning["pending"]:
        yield f"{learning['pending']} learning events wait: {trouble}"
    else:
        yield f"learning: {trouble}"


def _of_jobs(facts: Facts) -> Iterator[str]:
    jobs = facts.get("jobs")
    if jobs is None:
        return
    for one in (jobs, *jobs.get("beside", {}).values()):
        if one.get("waiting_for") is not None:
            yield f"jobs wait: {one['waiting_for']}"
    trouble = facts.get("prelabel", {}).get("trouble")
    if trouble is not None:
        yield f"pre-labelling: {trouble}"
