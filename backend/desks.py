"""From a label config to a desk: what it asks for, and the models that do it, ready to work."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

from cliper_model import Identity

from . import advice
from .crew import Crew, Errand, Hands, Hosts, Made, Team
from .device import Lane
from .errors import ConfigError, ModelFailed, ModelLoading
from .fetching import Hurry
from .keeping import Keeping
from .labelstudio import options
from .lessons import Learned, Teaching
from .looking import Segmenters, model_errors_as_ours
from .model_pool import ModelChoice
from .plan import ConfigReader, Plan, Reading, choice_of
from .storage.base import Scope
from .trail import carried
from .vocabulary import ControlVocabulary

logger = logging.getLogger(__name__)

REMEMBERED_VERSIONS = 20
MOST_READERS = 4  # threads that wait for a model, to read a config's words ahead
MOST_LATER = 200  # jobs of the devices that nobody waits for


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A label config and the models it asks for, ready to work. For any thread.

    segmenters  of one device, for whoever asks what they decide by
    team        on which devices they are
    """

    plan: Plan
    segmenters: Segmenters
    scope: Scope = Scope()  # noqa: RUF009  # a frozen value
    team: Team = Team()  # noqa: RUF009  # likewise


@dataclass(frozen=True, kw_only=True)
class Work(Desk):
    """One request while it is worked on; belongs to one thread.

    lane  who waits for it
    keep  its pictures may be clicked on soon, and asked for again
    """

    hurry: Hurry
    lane: Lane = Lane.BULK
    keep: bool = True


@dataclass(frozen=True)
class _Planned:
    """What a config led to last, and from what."""

    identities: Mapping[ModelChoice, Identity]
    learned: Learned | None
    plan: Plan


class Desks:
    """Makes them, remembers their versions, and has their words read; for many threads."""

    def __init__(
        self, crew: Crew, keeping: Keeping, teaching: Teaching, *, defaults: options.Values
    ) -> None:
        """`defaults`: values of `model_*` options for configs that name none."""
        self._crew, self._keeping, self._teaching = crew, keeping, teaching
        self._configs = ConfigReader(defaults)
        self._lock = threading.Lock()
        self._planned = WeakKeyDictionary[Reading, _Planned]()  # of configs that are remembered
        self._readers = threading.BoundedSemaphore(MOST_READERS)
        self._versions: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)
        self._advised: deque[str] = deque(maxlen=REMEMBERED_VERSIONS)

    def versions(self) -> list[str]:
        """Versions given out lately, the newest first, by any process on the same store."""
        return self._keeping.versions() or list(reversed(self._versions))

    def extra_of(self, project: str | None) -> options.Values:
        """What the last `/setup` of the project said, if anybody remembers."""
        if project is None:
            return {}
        known = self._keeping.connection(self._keeping.scope(project))
        if known is None:
            logger.info("project %s: its extra parameters come with its next /setup", project)
            return {}
        try:
            return options.read_extra(known["extra_params"])
        except (ConfigError, KeyError, TypeError):  # of an earlier version of this program
            return {}

    def of(
        self, config: str, extra: options.Values, project: str | None, *, noted: bool = True
    ) -> Desk:
        """`noted`: whether its version is given out. Raises ConfigError, ModelLoading,
        ModelFailed."""
        plan, team = self._made(config, extra, project, noted=noted)
        return Desk(plan=plan, segmenters=self._crew.segmenters(team), team=team)

    def plan(self, config: str, extra: options.Values, project: str | None) -> Plan:
        """What a config asks for. Raises ConfigError, ModelLoading, ModelFailed."""
        return self._made(config, extra, project)[0]

    def _made(
        self, config: str, extra: options.Values, project: str | None, *, noted: bool = True
    ) -> tuple[Plan, Team]:
        """What a config asks for, and who does it."""
        reading = self._configs.read(config, extra)
        hosts = self._crew.hosts(map(choice_of, reading.wanted))
        speaks = self._crew.spokesman(hosts)
        identities = {choice: host.identity() for choice, host in speaks.items()}
        scope = None if project is None else self._keeping.scope(project)
        learned = None if scope is None else self._teaching.of(scope)
        with self._lock:
            last = self._planned.get(reading)
        if last is not None and last.identities == identities and last.learned is learned:
            plan = last.plan
        else:
            with model_errors_as_ours():
                for one in reading.wanted:
                    speaks[choice_of(one)].check_words(one.explicit_words)
            plan = reading.plan(identities, learned)
            plan = replace(plan, warnings=(*plan.warnings, *advice.of_config(plan.wanted)))
            with self._lock:
                self._planned[reading] = _Planned(identities, learned, plan)
        team = Team(hosts=hosts, identities=identities)
        if noted:
            self._note(plan, team)
        return plan, team

    def _note(self, plan: Plan, team: Team) -> None:
        """A version that is new is kept, and gets its words read and its advice."""
        version = plan.version
        if version not in self._versions:
            self._versions.append(version)
            self._keeping.keep_version(version)
            for warning in plan.warnings:
                logger.warning("label config of %s: %s", version, warning)
        if version not in self._advised and self._readers.acquire(blocking=False):
            self._advised.append(version)
            ahead = threading.Thread(
                target=carried(self._read_ahead), args=(plan, team), name="words", daemon=True
            )
            ahead.start()

    # -- words, before anybody waits for them -----------------------------------------

    def _read_ahead(self, plan: Plan, team: Team) -> None:
        """As soon as its models are there, the words of a config become rows, so that its first
        picture need not wait for them; then what will not work well goes on the log."""
        try:
            told = False
            for device in self._as_they_come(team):
                self._read_words(plan, team, device)
                if not told:
                    self._advise(plan, team, device)
                told = True
            if not told:  # whoever asks later finds it tried again
                with suppress(ValueError):
                    self._advised.remove(plan.version)
        finally:
            self._readers.release()

    def _as_they_come(self, team: Team) -> Iterator[str]:
        """Devices whose models are there; those where they failed are left out."""
        waiting = dict(team.hosts)
        while waiting:
            there = (name for name, hosts in waiting.items() if _are_there(hosts))
            device = next(there, next(iter(waiting)))
            hosts = waiting.pop(device)
            for host in hosts.values():
                host.join()
            if _are_there(hosts):
                yield device

    def _read_words(self, plan: Plan, team: Team, device: str) -> None:
        for one in plan.wanted:  # a job each: whoever comes waits for one of them
            self._later(("words", device, one.reading), partial(_read, one), team, device)

    def _advise(self, plan: Plan, team: Team, device: str) -> None:
        for one in plan.wanted:
            for warning in advice.of_spelling(one):
                logger.warning("label config of %s: %s", plan.version, warning)
        self._later(
            ("advice", plan.version),
            lambda hands: hands.looking.advise(plan, hands.segmenters),
            team,
            device,
        )

    def _later(self, key: Hashable, job: Callable[[Hands], None], team: Team, device: str) -> None:
        """Work of a device's that nobody waits for; left undone where very much waits."""
        if self._crew.waiting()[Lane.WHENEVER.name.lower()] >= MOST_LATER:
            return
        errand = Errand(
            key=key,
            made=lambda hands: Made(run=partial(job, hands)),
            lane=Lane.WHENEVER,
            team=team,
        )
        # it takes no more jobs: we are going down; or the device was lost meanwhile
        with suppress(RuntimeError, ModelLoading, ModelFailed):
            self._crew.submit(errand, on=device)


def _read(one: ControlVocabulary, hands: Hands) -> None:
    hands.looking.read_ahead(one, hands.segmenters)


def _are_there(hosts: Hosts) -> bool:
    return all(host.loaded is not None for host in hosts.values())
