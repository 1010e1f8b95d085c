"""The checks in their order, each with the facts it needs; who lacks one is skipped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import requests

from ..demo.errors import Refused
from . import (
    config,
    connections,
    model,
    picture,
    project,
    service,
    studio,
    surroundings,
    versions,
    wire,
)
from .case import Case, Question
from .findings import FAIL, Finding, brief, fail, skip

Look = Callable[[Case], Iterator[Finding]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row: which facts of a Case `look` needs, and which it gives."""

    name: str
    look: Look
    needs: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


FIRST = (
    Check(name="settings", look=surroundings.settings, gives=("settings",)),
    Check(name="label-studio", look=studio.label_studio, needs=("settings",), gives=("release",)),
    Check(name="token", look=studio.token, needs=("release",), gives=("api",)),
    Check(name="address", look=studio.address, needs=("release",)),
    Check(name="service", look=service.service, needs=("settings",), gives=("health",)),
    Check(name="weights", look=model.weights, needs=("settings",)),
)
WITHOUT_PROJECT = (
    Check(name="server-settings", look=connections.server_settings, needs=("api",)),
    Check(name="projects", look=project.projects, needs=("api",)),
)
WITH_PROJECT = (
    Check(name="project", look=project.project, needs=("api",), gives=("project", "connections")),
    Check(name="label-config", look=config.label_config, needs=("project",), gives=("plan",)),
    Check(name="server-settings", look=connections.server_settings, needs=("connections",)),
    Check(name="connections", look=connections.connections, needs=("connections",)),
    Check(name="copies", look=connections.copies, needs=("connections",)),
    Check(name="picture", look=picture.picture, needs=("plan",)),
    Check(name="version", look=versions.version, needs=("plan", "health"), gives=("version",)),
    Check(name="predictions", look=versions.predictions, needs=("version",), gives=("counts",)),
    Check(name="score-column", look=versions.score_column, needs=("version", "counts")),
)


def checks(question: Question) -> tuple[Check, ...]:
    """What is looked at for a question."""
    return (*FIRST, *(WITHOUT_PROJECT if question.project is None else WITH_PROJECT))


def examine(question: Question) -> Iterator[Finding]:
    """Every check in turn; a finding is given as soon as it is known."""
    case = Case(question=question)
    giver = {fact: check.name for check in checks(question) for fact in check.gives}
    try:
        for check in checks(question):
            missing = [fact for fact in check.needs if getattr(case, fact) is None]
            found = (
                iter((skip(f"not looked at, see {giver[missing[0]]}"),))
                if missing
                else _careful(check, case)
            )
            for finding in found:
                if finding.state == FAIL:
                    case.failed.add(check.name)
                yield finding.of(check.name)
    finally:
        case.close()


def _careful(check: Check, case: Case) -> Iterator[Finding]:
    """What a check does not expect is a finding too."""
    try:
        yield from check.look(case)
    except Refused as error:
        yield fail(
            f"Label Studio answered {error.status}: {brief(error.message)}",
            "use a token that may change the project; the log of Label Studio says more",
        )
    except wire.NoAnswer as error:
        yield fail(str(error), "try again; whoever answered before does not now")
    except requests.RequestException as error:
        yield fail(
            f"Label Studio stopped answering: {wire.why(error)[1]}",
            "try again; the log of Label Studio says more",
        )
