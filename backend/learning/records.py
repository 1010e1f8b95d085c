"""What learning keeps in the store, all of it: one record per corrected task, and what follows.

    (project)/learning/evidence/TASK   what counts of a task: evidence, or why there is none
    (project)/learning/events          log: what may have changed and is not settled yet
    (project)/learning/wishes          what people asked for
    (project)/learning/active          what predictions use now
    (project)/learning/learned/DIGEST  versions, as predictions use them
    (project)/learning/versions        how they came about, the newest first

A project is known by its number alone. Whoever settles a task reads its record, then the task in
Label Studio, and then writes the record if nobody did meanwhile, also where it says the same as
before: so of several workers the last to write has read last, and what was read too early never
stays. That is also why a task that counts no more leaves a gravestone for a while.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Self

from ..lessons import Learned
from ..storage.base import ABSENT, Json, Key, Record, Scope, Storage, change
from .curriculum import Grain, Wishes
from .evidence import Evidence
from .thinning import thinned

logger = logging.getLogger(__name__)

MOST_VERSIONS: Final = 50  # remembered per project
MOST_IN_A_LINE: Final = 1000  # tasks and annotations in one line of the log
ACTIVE, CANDIDATE, RETIRED = "active", "candidate", "retired"
LOG: Final = ("learning", "events")


def school_scope(scope: Scope) -> Scope:
    """Whose corrections these are: a project by its number, whether its birth is known or not."""
    return Scope(scope.origin, scope.project.partition(".")[0])


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What may have changed in a project.

    annotations  those that were deleted: nobody says of which tasks
    everything   all of it
    """

    tasks: frozenset[int] = frozenset()
    annotations: frozenset[int] = frozenset()
    everything: bool = False

    def __or__(self, other: "Changed") -> "Changed":
        return Changed(
            tasks=self.tasks | other.tasks,
            annotations=self.annotations | other.annotations,
            everything=self.everything or other.everything,
        )

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return len(self.tasks) + len(self.annotations)

    def to_lines(self) -> Iterator[Json]:
        """At least one: that nothing in particular changed is a reason to look, too."""
        if self.everything:
            yield {"all": True}
            return
        for name, numbers in (("tasks", self.tasks), ("annotations", self.annotations)):
            ordered = sorted(numbers)
            for first in range(0, len(ordered), MOST_IN_A_LINE):
                yield {name: ordered[first : first + MOST_IN_A_LINE]}
        if not self.count:
            yield {}

    @classmethod
    def from_line(cls, told: Json) -> Self:
        return cls(
            tasks=frozenset(told.get("tasks", ())),
            annotations=frozenset(told.get("annotations", ())),
            everything=bool(told.get("all", False)),
        )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Evidence of a task, without the evidence itself.

    digest  of the evidence as it is kept
    models  by control, those that the evidence belongs to (`lessons.model_of`)
    """

    task: int
    annotation: int
    stamp: str
    weight: float
    grain: Grain
    digest: str
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A task that teaches nothing, and why, in one sentence; `annotations`: all it had then."""

    task: int
    reason: str
    annotations: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gone:
    """A task that was looked at and has nothing that counts; `when`: seconds since 1970."""

    task: int
    when: float


State = Kept | LeftOut | Gone


@dataclass(frozen=True)
class Seen:
    """What the store said of a task."""

    task: int
    record: Record | None

    @property
    def revision(self) -> int:
        return ABSENT if self.record is None else self.record.revision

    @property
    def state(self) -> State | None:
        return None if self.record is None else _state(self.task, self.record.value)

    @property
    def evidence(self) -> Evidence | None:
        """None where there is none, or only its name is kept, or another program wrote it."""
        data = None if self.record is None else self.record.value.get("data")
        if data is None:
            return None
        try:
            return Evidence.from_bytes(base64.b64decode(data))
        except ValueError as error:
            logger.warning("evidence of task %d cannot be read: %s", self.task, error)
            return None


@dataclass(frozen=True, kw_only=True)
class Active:
    """What predictions use now.

    digest     of what was learnt; None: nothing
    tasks      how many it was learnt from
    made_from  digest of everything it follows from
    pinned     somebody asked for this version
    """

    digest: str | None = None
    tasks: int = 0
    made_from: str = ""
    pinned: bool = False


@dataclass(frozen=True, kw_only=True)
class Version:
    """One outcome of learning.

    digest     of what was learnt
    used       it was found to be better in something; else it stays as a candidate
    chosen     tasks it was learnt from
    when       seconds since 1970
    state      `ACTIVE`, `RETIRED` if it was, `CANDIDATE` if it never was
    verdicts   by control, see `fit.Verdict`
    """

    digest: str
    used: bool
    made_from: str
    chosen: tuple[int, ...]
    when: float
    verdicts: Mapping[str, Mapping[str, Json]]
    state: str = CANDIDATE

    @property
    def tasks(self) -> int:
        return len(self.chosen)

    def to_json(self) -> Json:
        return {**asdict(self), "chosen": list(self.chosen), "tasks": self.tasks}

    @classmethod
    def from_json(cls, told: Json) -> Self:
        fields = {name: value for name, value in told.items() if name != "tasks"}
        return cls(**fields | {"chosen": tuple(told["chosen"])})


class Records:
    """Of one project. Every method raises StorageAway."""

    def __init__(self, storage: Storage, scope: Scope) -> None:
        """`scope`: of the project, with its birth or without."""
        self._storage = storage
        self._place = Key(school_scope(scope), ("learning",))

    @property
    def scope(self) -> Scope:
        return self._place.scope

    # -- what may have changed --------------------------------------------------------

    def note(self, changed: Changed) -> None:
        """To be settled. Noted twice does no harm."""
        for line in changed.to_lines():
            self._storage.append(Key(self.scope, LOG), line)

    def unsettled(self, *, limit: int = 10_000) -> tuple[Changed, int]:
        """What is to be settled, and up to which line of the log; 0: nothing is."""
        found, last = Changed(), 0
        read = 0
        while read < limit:
            lines = self._storage.entries(Key(self.scope, LOG), after=last)
            if not lines:
                break
            for line in lines:
                found |= Changed.from_line(line.value)
            last, read = lines[-1].number, read + len(lines)
        return found, last

    def oldest_unsettled(self) -> int:
        """Number of its line in the log; 0: everything is settled."""
        lines = self._storage.entries(Key(self.scope, LOG), limit=1)
        return lines[0].number if lines else 0

    def settled(self, upto: int) -> None:
        self._storage.trim(Key(self.scope, LOG), upto=upto)

    def forget_events(self) -> None:
        """For a project that is not there."""
        self._storage.drop_log(Key(self.scope, LOG))

    # -- tasks --------------------------------------------------------------------------

    def look(self, task: int) -> "Seen":
        return Seen(task, self._storage.get(self._of(task)))

    def settle(self, state: LeftOut | Gone | Evidence, seen: "Seen") -> bool:
        """Write what is known of a task, unless somebody wrote since `look`; whether it was
        written. Where the store was away meanwhile, it may have been written and say it was not."""
        return self._write(seen, _value(state))

    def again(self, seen: "Seen") -> bool:
        """As `settle`, with what is there already."""
        return seen.record is not None and self._write(seen, seen.record.value)

    def _write(self, seen: "Seen", value: Json) -> bool:
        key = self._of(seen.task)
        return self._storage.swap(key, value, expected=seen.revision) is not None

    def thin(self, kept: Kept, grain: Grain) -> bool:
        """Keep a task's evidence less finely, unless somebody wrote it anew meanwhile; False where
        it cannot be read."""
        seen = self.look(kept.task)
        if seen.state != kept:
            return True
        evidence = seen.evidence
        if evidence is None:
            return False
        self._write(seen, _value(evidence, grain))
        return True

    def is_known(self) -> bool:
        """Whether any task was ever settled."""
        return next(self._storage.scan(self._place / "evidence"), None) is not None

    def states(self) -> Iterator[State]:
        """Of every task that is known, in no order."""
        for key, found in self._storage.scan(self._place / "evidence"):
            yield _state(int(key.path[-1]), found.value)

    def kept(self) -> dict[int, Kept]:
        """Tasks with evidence."""
        return {one.task: one for one in self.states() if isinstance(one, Kept)}

    def clear(self, gone: Gone) -> None:
        """Remove a gravestone, unless somebody wrote meanwhile."""
        seen = self.look(gone.task)
        if seen.state == gone:
            self._write(seen, None)

    # -- wishes -------------------------------------------------------------------------

    def wishes(self) -> Wishes:
        found = self._storage.get(self._place / "wishes")
        return Wishes() if found is None else Wishes(**found.value)

    def wish(self, how: Callable[[Wishes], Wishes]) -> Wishes:
        def changed(value: Json) -> Json:
            return asdict(how(Wishes() if value is None else Wishes(**value)))

        return Wishes(**change(self._storage, self._place / "wishes", changed))

    # -- versions -----------------------------------------------------------------------

    def active(self) -> tuple[Active, int]:
        """What predictions use, and the revision for `activate`."""
        found = self._storage.get(self._place / "active")
        return (Active(), ABSENT) if found is None else (Active(**found.value), found.revision)

    def activate(self, active: Active, *, expected: int) -> bool:
        """As `settle`."""
        key = self._place / "active"
        return self._storage.swap(key, asdict(active), expected=expected) is not None

    def learned(self, digest: str) -> Learned | None:
        found = self._storage.get(self._place / "learned" / digest)
        return None if found is None else Learned.from_json(found.value)

    def keep(self, learned: Learned) -> None:
        told = learned.to_json()
        change(self._storage, self._place / "learned" / learned.digest, lambda _: told)

    def versions(self) -> list[Version]:
        """The newest first."""
        found = self._storage.get(self._place / "versions")
        return [] if found is None else [Version.from_json(one) for one in found.value]

    def remember(self, version: Version) -> None:
        """A new version in front of the others; with the oldest goes what it had learnt."""
        gone: list[Version] = []

        def changed(value: Json) -> Json:
            known = [Version.from_json(one) for one in value or ()]
            known = [one for one in known if one.made_from != version.made_from]
            gone[:] = known[MOST_VERSIONS - 1 :]
            return [one.to_json() for one in (version, *known[: MOST_VERSIONS - 1])]

        change(self._storage, self._place / "versions", changed)
        needed = {one.digest for one in self.versions()}
        needed |= {str(self.active()[0].digest), str(self.wishes().pinned)}
        for digest in {one.digest for one in gone} - needed:
            change(self._storage, self._place / "learned" / digest, lambda _: None)

    def name_states(self) -> None:
        """Say of every version what it is, by what is active."""
        active = self.active()[0]

        def changed(value: Json) -> Json:
            known = [Version.from_json(one) for one in value or ()]
            return [one.to_json() for one in _named(known, active)] or None

        change(self._storage, self._place / "versions", changed)

    def _of(self, task: int) -> Key:
        return self._place / "evidence" / str(task)


def _named(versions: Sequence[Version], active: Active) -> Iterator[Version]:
    with_it = [one for one in versions if one.digest == active.digest]
    on = next((one for one in with_it if one.made_from == active.made_from), None)
    on = on or next(iter(with_it), None)
    for one in versions:
        was = one.state in (ACTIVE, RETIRED)
        yield replace(one, state=ACTIVE if one is on else RETIRED if was else CANDIDATE)


def _value(state: LeftOut | Gone | Evidence, grain: Grain = Grain.WHOLE) -> Json:
    if isinstance(state, Gone):
        return {"data": None, "gone": state.when}
    if isinstance(state, LeftOut):
        return {"data": None, "annotations": list(state.annotations), "reason": state.reason}
    kept = thinned(state) if grain == Grain.THIN else state
    data = kept.to_bytes() if grain != Grain.NAME else b""
    models: dict[str, str] = {}
    for sample in state.samples:
        models.update(sample.models)
    return {
        "data": base64.b64encode(data).decode() if data else None,
        "annotation": state.annotation,
        "stamp": state.stamp,
        "weight": state.weight,
        "grain": grain.value,
        "digest": hashlib.sha256(data).hexdigest()[:16],
        "models": models,
    }


def _state(task: int, value: Json) -> State:
    if "gone" in value:
        return Gone(task=task, when=value["gone"])
    if "reason" in value:
        return LeftOut(task=task, reason=value["reason"], annotations=tuple(value["annotations"]))
    return Kept(
        task=task,
        annotation=value["annotation"],
        stamp=value["stamp"],
        weight=value["weight"],
        grain=Grain(value["grain"]),
        digest=value["digest"],
        models=value["models"],
    )
