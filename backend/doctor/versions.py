"""The version string: what the service gives, what predictions carry, what the project names."""

from collections.abc import Iterator
from typing import Any

from ..demo.errors import Refused
from . import tasks, wire
from .case import Case, Counts, known
from .config import extra_params
from .findings import Finding, brief, fail, ok, skip, warn


def version(case: Case) -> Iterator[Finding]:
    """The service's answer for this config, asked for as Label Studio does when it connects."""
    url, project = case.backend, known(case.project)
    body = {"schema": project["label_config"], "extra_params": extra_params(case)}
    reply = wire.ask("POST", f"{url}/setup", auth=known(case.settings).basic_auth, body=body)
    told = reply.json if isinstance(reply.json, dict) else {}
    if reply.status == 503 and "service" in case.failed:
        yield skip("there is no model, see service")
        return
    if reply.status == 503:
        yield warn(f"{url}: {brief(_said(told, reply))}", "wait until the model is ready", url=url)
        return
    if reply.status != 200 or not isinstance(told.get("model_version"), str):
        yield fail(
            f"{url} refuses this config ({reply.status}): {brief(_said(told, reply))}",
            "do what the sentence says; see docs/reference/label-config.md",
            url=url,
        )
        return
    case.version = told["model_version"]
    yield ok(f"{url} gives {case.version} for this config", version=case.version)


def _said(told: dict[str, object], reply: wire.Reply) -> str:
    return str(told.get("error") or reply.reason)


def predictions(case: Case) -> Iterator[Finding]:
    """How many tasks have a prediction of the present version, and how many only older ones."""
    api, number, present = known(case.api), known(case.question.project), known(case.version)
    everything, _ = tasks.look(api, number)
    predicted, _ = tasks.look(api, number, tasks.WITH_ANY)
    current, _ = tasks.look(api, number, tasks.with_version(present))
    case.counts = Counts(tasks=everything, present=current, predicted=predicted)
    facts: dict[str, Any] = {
        "tasks": everything,
        "present": current,
        "older_only": predicted - current,
    }
    again = "select them in the Data Manager, Actions, Retrieve Predictions"
    if predicted > current:
        yield warn(
            f"{current} of {everything} tasks have one of {present}, {predicted - current} only "
            "older ones",
            again,
            **facts,
        )
    elif current < everything:
        yield ok(
            f"{current} of {everything} tasks have one of {present}, the others none",
            again,
            **facts,
        )
    else:
        yield ok(f"all {everything} tasks have one of {present}", **facts)


def score_column(case: Case) -> Iterator[Finding]:
    """The project's version is the predictions'; the only thing `--fix` changes."""
    present, project = known(case.version), known(case.project)
    named = str(project.get("model_version") or "")
    facts: dict[str, Any] = {"project_version": named, "version": present}
    if named == present:
        yield ok(f"the project's model version is {present}: scores are shown", **facts)
        return
    called = (
        f"the project's model version is {named!r}" if named else "the project names no version"
    )
    if not known(case.counts).present:
        yield ok(
            f"{called}; no prediction of {present} has a score to show yet",
            "retrieve predictions, then run this again",
            **facts,
        )
        return
    what = (
        f"{called}, predictions carry {present!r}: the score column and sorting by score stay empty"
    )
    if not case.question.fix:
        yield warn(
            what,
            "choose the version in Settings, Annotation, or run this with --fix; the label stream "
            "then shows stored predictions and no longer asks the model",
            **facts,
        )
        return
    number = known(case.question.project)
    try:
        known(case.api).call("PATCH", f"/api/projects/{number}/", json={"model_version": present})
    except Refused as error:
        yield fail(
            f"{what}; Label Studio refused to change it: {brief(error.message)}",
            "choose the version in Settings, Annotation",
            **facts,
        )
        return
    yield ok(
        f"set the project's model version from {named!r} to {present!r}: scores are shown",
        fixed=True,
        **facts,
    )
