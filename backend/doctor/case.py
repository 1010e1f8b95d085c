"""What is asked, and what the checks have found out so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..demo.label_studio_api import Json, LabelStudioApi
from ..settings import Settings

if TYPE_CHECKING:
    from ..plan import Plan


Fact = TypeVar("Fact")


@dataclass(frozen=True, kw_only=True)
class Question:
    """The command line: `environ` is the environment with the options given put over it."""

    environ: Mapping[str, str]
    project: int | None = None
    task: int | None = None
    backend: str | None = None  # address of the service; None: this machine's PORT
    fix: bool = False
    in_container: bool = False


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Tasks of a project: all, with a prediction of the present version, with any."""

    tasks: int
    present: int
    predicted: int


@dataclass(kw_only=True)
class Case:
    """One examination. Every fact is None until the check that gives it has succeeded.

    settings     read from the environment                        by `settings`
    release      of Label Studio, such as 1.23.2                  by `label-studio`
    api          a client whose token is accepted                 by `token`
    health       what the service says of itself                  by `service`
    project      as Label Studio gives it                         by `project`
    connections  models of the project, lowest number first       by `project`
    plan         what the label config asks for                   by `label-config`
    version      the service's answer for this config             by `version`
    counts       how many tasks have which predictions            by `predictions`
    """

    question: Question
    settings: Settings | None = None
    release: str | None = None
    api: LabelStudioApi | None = None
    health: Mapping[str, Any] | None = None
    project: Json | None = None
    connections: list[Json] | None = None
    plan: "Plan | None" = None
    version: str | None = None
    counts: Counts | None = None
    failed: set[str] = field(default_factory=set)  # checks that ended with a fail

    @property
    def backend(self) -> str:
        """Address of the service, as seen from here."""
        port = self.settings.port if self.settings is not None else Settings.port
        return (self.question.backend or f"http://localhost:{port}").rstrip("/")

    def close(self) -> None:
        if self.api is not None:
            self.api.close()


def known(fact: Fact | None) -> Fact:
    """A fact the check asked for in its table; whoever runs checks made sure of it."""
    assert fact is not None
    return fact
