"""Learning as a job: settle what may have changed, then see to it that what follows is active.

A webhook is only a hint that a task may have changed: what counts is what Label Studio says of it
when it is asked. So events may come twice, late or in any order, a run may be killed at any moment
and begun again, and several may work at once: what is active follows from the annotations alone.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from ..errors import (
    BadMask,
    BadRequest,
    ConfigError,
    CouldNotPredict,
    ModelLoading,
    OutOfMemory,
    ServiceError,
    StudioRefused,
    is_passing,
)
from ..jobs.base import Handle, Hopeless, Works
from ..jobs.desk import JobKind
from ..labelstudio.tasks import Task
from ..lessons import Learned
from ..metrics.meters import Meters
from ..prelabel.run import our_own
from ..prelabel.wanted import counted
from ..prelabel.works import LOOK_AGAIN, LabelStudio, hopeless, say_waiting, telling
from ..storage.base import Json, Key, Scope, Storage, to_text
from ..storage.patience import patiently
from ..studio.project import Filters, Listed, ProjectFacts, StudioProject, annotated
from ..studying import Course
from .curriculum import Curriculum, Grain, curriculum
from .evidence import Evidence
from .fit import Taught
from .records import Active, Changed, Gone, Kept, LeftOut, Records, Version

logger = logging.getLogger(__name__)

LEARN: Final = "learn"
FEW: Final = 10  # tasks asked for at once, so that people need not wait for their answer
SOME: Final = 50  # numbers of tasks asked for at once, likewise
REST: Final = 2.0  # see `Studio`: two thirds of the time Label Studio is there for people only
GONE: Final = "the project is not there"  # phase at the end
REVISION: Final = 3  # of how versions are made; raise to have them made anew
LONGEST_RUN: Final = 24 * 3600.0  # seconds; what a run has read is written by then, or never
FINER: Final = {Grain.NAME: 0, Grain.THIN: 1, Grain.WHOLE: 2}

Learns = Callable[[Sequence[Evidence], Course], Taught]


class Source(Protocol):
    """What learning asks of a project in Label Studio."""

    @property
    def waits_for(self) -> str | None: ...
    def facts(self) -> ProjectFacts: ...
    def connections(self) -> list[Json]: ...
    def tasks(self, numbers: Sequence[int]) -> dict[int, Listed]: ...
    def submitted(self, task: int) -> list[Json]: ...
    def ids(self, filters: Filters = (), *, size: int) -> Iterator[int]: ...


class Examination(Protocol):
    """A label config and its models, ready to look at annotations.

    courses  what there is to learn, control by control
    """

    @property
    def courses(self) -> Sequence[Course]: ...

    def stamp(self, annotations: Sequence[Json]) -> str | None:
        """Of the annotation that counts, its number included, as `Evidence.stamp`; None: none does.
        Cheap."""
        ...

    def examine(self, task: Task, annotations: Sequence[Json]) -> Evidence | LeftOut | None:
        """What a task says; None: nothing that counts. Raises CouldNotPredict, BadMask."""
        ...


class Examiner(Protocol):
    """Makes evidence."""

    def sit_down(self, facts: ProjectFacts, extra_params: object) -> Examination:
        """Raises ConfigError, ModelLoading, ModelFailed."""
        ...


Watch = Callable[[Mapping[str, Json]], None]  # hears progress
Opens = Callable[[Handle, int], AbstractContextManager[Source]]


class _Opened(StudioProject):
    @property
    def waits_for(self) -> str | None:
        return self.studio.waits_for


def opening(label_studio: LabelStudio) -> Opens:
    """Projects of a real Label Studio."""

    @contextmanager
    def opened(handle: Handle, project: int) -> Iterator[Source]:
        with closing(telling(label_studio, handle, rest=REST)) as studio:
            yield _Opened(studio, project)

    return opened


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a job was asked to do beside settling what may have changed.

    reread  ask about every task of the project
    now     learn from all there are, whatever their number
    """

    project: int
    reread: bool = False
    now: bool = False

    @classmethod
    def from_json(cls, body: Mapping[str, Json]) -> "Asked":
        """`{"project": 12}`. Raises BadRequest."""
        unknown = sorted(set(body) - {"project", "reread", "now"})
        if unknown:
            raise BadRequest(f"unknown field {unknown[0]!r}; known are project, reread, now")
        project = counted(body.get("project"))
        if project is None:
            raise BadRequest(f"project must be a number of a project, got {body.get('project')!r}")
        for name in ("reread", "now"):
            if not isinstance(body.get(name, False), bool):
                raise BadRequest(f"{name} must be true or false, got {body[name]!r}")
        return cls(project=project, reread=body.get("reread", False), now=body.get("now", False))

    def to_json(self) -> dict[str, Json]:
        return asdict(self)


def kinds(studio: LabelStudio) -> Mapping[str, JobKind]:
    """What may be asked for over HTTP."""
    return {
        LEARN: JobKind(
            read=lambda body: Asked.from_json(body).to_json(),
            scope=lambda params: studio.scope(params["project"]),
            key=to_text,
        )
    }


class LearningWorks:
    """The work over one Label Studio; for many jobs, one after the other or at once."""

    def __init__(
        self,
        opens: Opens,
        examiner: Examiner,
        storage: Storage,
        *,
        learn: Learns,
        most_whole: int,
        watch: Watch | None = None,
        meters: Meters | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`most_whole`: tasks whose evidence is kept whole. `watch` hears of every step. `clock`:
        seconds since 1970."""
        self._opens, self._examiner, self._storage = opens, examiner, storage
        self._learn, self._most_whole = learn, most_whole
        self._watch, self._clock = watch, clock
        self._meters = meters or Meters()

    def works(self) -> Works:
        """By kind of job."""
        return {LEARN: self._work}

    def _work(self, handle: Handle) -> Json:
        asked = Asked.from_json(handle.job.params)
        storage = patiently(self._storage, tell=say_waiting, sleep=handle.wait)
        records = Records(storage, handle.job.scope)
        with hopeless(), self._opens(handle, asked.project) as source:
            run = _Run(
                handle=handle,
                source=source,
                examiner=self._examiner,
                records=records,
                storage=storage,
                learn=self._learn,
                most_whole=self._most_whole,
                watch=self._watch,
                meters=self._meters,
                clock=self._clock,
            )
            return run.to_end(asked)


def apply_pinned(records: Records) -> Active | None:
    """Switch on the version that somebody asked for; None where nobody did."""
    while True:
        _, revision = records.active()
        pinned = records.wishes().pinned
        if pinned is None:
            return None
        found = (one for one in records.versions() if pinned and one.digest == pinned)
        tasks = next((one.tasks for one in found), 0)
        active = Active(digest=pinned or None, tasks=tasks, pinned=True)
        if records.activate(active, expected=revision):
            records.name_states()
            return active


class _Run:
    """One job from its beginning to its end."""

    def __init__(
        self,
        *,
        handle: Handle,
        source: Source,
        examiner: Examiner,
        records: Records,
        storage: Storage,
        learn: Learns,
        most_whole: int,
        watch: Watch | None,
        meters: Meters,
        clock: Callable[[], float],
    ) -> None:
        self._handle, self._source, self._examiner = handle, source, examiner
        self._records, self._storage, self._learn = records, storage, learn
        self._most_whole, self._watch, self._clock = most_whole, watch, clock
        self._meters = meters
        self._renewed: set[int] = set()  # made anew for what is there: once is enough
        self._told: dict[str, Json] = {}

    def to_end(self, asked: Asked) -> Json:
        if asked.reread:
            self._records.note(Changed(everything=True))
        self._tell(phase="reading the project")
        examination = self._sit_down()
        if examination is None:
            self._records.forget_events()
            return {"phase": GONE}
        while True:
            changed, upto = self._records.unsettled()
            self._settle(self._tasks_of(changed), examination)
            if asked.now:
                count = len(self._records.kept())
                self._records.wish(partial(replace, asked=count))
            active, known = self._decide(examination)
            if upto:
                self._records.settled(upto)
            if not self._records.oldest_unsettled():
                return self._told | {"phase": "done", "version": active.digest} | known
            examination = self._sit_down() or examination

    def _sit_down(self) -> Examination | None:
        """None where Label Studio has no such project, or does not show it to us."""
        try:
            facts = self._source.facts()
        except StudioRefused as error:
            if error.status == 404:
                return None
            raise
        if not facts.label_config.strip():
            raise ConfigError(f"project {facts.id} has no label config yet")
        extra = self._extra_params(facts)
        while True:
            try:
                return self._examiner.sit_down(facts, extra)
            except ModelLoading as loading:
                self._tell(phase=str(loading))
                self._handle.wait(LOOK_AGAIN)

    def _extra_params(self, facts: ProjectFacts) -> object:
        """As the last `/setup` said. Label Studio would tell them, too, but asks us how we are
        whenever it does."""
        scope = Scope(self._records.scope.origin, facts.key)
        found = self._storage.get(Key(scope, ("connection",)))
        if found is not None:
            return found.value.get("extra_params")
        return our_own(self._source.connections()).get("extra_params")

    # -- what may have changed --------------------------------------------------------

    def _tasks_of(self, changed: Changed) -> set[int]:
        tasks = set(changed.tasks)
        if changed.annotations or changed.everything:
            for one in self._records.states():
                if isinstance(one, Gone):
                    continue
                if changed.everything or not changed.annotations.isdisjoint(_annotations(one)):
                    tasks.add(one.task)
        if changed.everything:
            tasks.update(self._source.ids(annotated(), size=SOME))
        return tasks

    def _settle(self, tasks: set[int], examination: Examination, *, anew: bool = False) -> None:
        """See to it that the records say of these tasks what Label Studio says.

        `anew`: also where the annotation is the one that is known.
        """
        done = 0
        self._tell(phase="looking at annotations", tasks=len(tasks), done=0)
        ordered = sorted(tasks)
        for first in range(0, len(ordered), FEW):
            page = ordered[first : first + FEW]
            listed = self._source.tasks(page)
            for task in page:
                self._settle_one(task, listed.get(task), examination, anew=anew)
                self._meters.task_settled()
                done += 1
                self._tell(done=done)

    def _settle_one(
        self, task: int, listed: Listed | None, examination: Examination, *, anew: bool
    ) -> None:
        """The order matters: the record, then Label Studio, then the record; see `records`."""
        while True:
            self._handle.pause()
            seen = self._records.look(task)
            annotations = [] if listed is None else self._source.submitted(task)
            known = seen.state
            if (
                isinstance(known, Kept)
                and not anew
                and known.stamp == examination.stamp(annotations)
            ):
                written = self._records.again(seen)
            elif listed is None or not annotations:
                written = self._records.settle(Gone(task=task, when=self._clock()), seen)
            else:
                said = self._examined(listed.task, annotations, examination, known)
                if isinstance(said, Kept):
                    written = self._records.again(seen)
                else:
                    gone = Gone(task=task, when=self._clock())
                    written = self._records.settle(gone if said is None else said, seen)
            if written:
                return

    def _examined(
        self, task: Task, annotations: Sequence[Json], examination: Examination, known: object
    ) -> Evidence | LeftOut | Kept | None:
        """What the task says; `known`, where it is about the same annotation and the picture cannot
        be had for a while."""
        said: Evidence | LeftOut | None
        try:
            said = examination.examine(task, annotations)
        except (CouldNotPredict, BadMask) as error:  # as when the picture is gone
            for_a_while = isinstance(error, OutOfMemory) or (
                isinstance(error, CouldNotPredict) and is_passing(error)
            )
            if (
                for_a_while
                and isinstance(known, Kept)
                and known.stamp == examination.stamp(annotations)
            ):
                logger.warning("task %s is looked at another time: %s", task.id, error)
                return known
            said = LeftOut(task=int(task.id or 0), reason=str(error))
        except (ServiceError, Hopeless):  # everybody's trouble
            raise
        except Exception as error:  # one task's; the others are not to suffer from it
            logger.exception("task %s cannot be learnt from", task.id)
            kind = type(error).__name__
            said = LeftOut(task=int(task.id or 0), reason=f"it could not be looked at ({kind})")
        if isinstance(said, LeftOut):
            logger.info("task %s teaches nothing: %s", task.id, said.reason)
            return replace(said, annotations=tuple(sorted(int(one["id"]) for one in annotations)))
        return said

    # -- what follows -----------------------------------------------------------------

    def _decide(self, examination: Examination) -> tuple[Active, dict[str, Json]]:
        """Make active what follows from records and wishes, and count the records.

        What is active is read before anything it follows from, and written only where it is the
        same still: of several workers the last to write has read last.
        """
        while True:
            self._handle.pause()
            pinned = apply_pinned(self._records)
            if pinned is not None:
                return pinned, {}
            before, revision = self._records.active()
            wishes = self._records.wishes()
            states = list(self._records.states())
            kept = {one.task: one for one in states if isinstance(one, Kept)}
            plan = curriculum(
                {task: one.annotation for task, one in kept.items()},
                asked=wishes.asked,
                most_whole=self._most_whole,
            )
            if self._refined(kept, plan, examination):
                continue
            made_from = fingerprint([kept[task] for task in plan.chosen], examination.courses)
            active = Active(made_from=made_from)
            if plan.chosen:
                version = self._version(made_from, kept, plan, examination)
                if version is None:
                    continue
                digest = version.digest if version.used else None
                active = replace(active, digest=digest, tasks=version.tasks)
            if self._records.activate(active, expected=revision) and self._is_there(active):
                if active.digest != before.digest:
                    self._meters.version_activated()
                self._records.name_states()
                self._clear(states)
                left_out = sum(isinstance(one, LeftOut) for one in states)
                counts = {"learnt_from": active.tasks, "kept": len(kept), "left_out": left_out}
                return active, counts

    def _refined(
        self, kept: Mapping[int, Kept], plan: Curriculum, examination: Examination
    ) -> bool:
        """See to it that evidence is of today's models and as fine as it should be; whether
        anything had to be done."""
        models = {course.control: course.model for course in examination.courses}
        anew = {
            task
            for task, one in kept.items()
            if FINER[one.grain] < FINER[plan.grains[task]]
            or any(models.get(name, model) != model for name, model in one.models.items())
        } - self._renewed
        if anew:
            self._renew(anew, examination)
            return True
        coarser = {
            task for task, one in kept.items() if FINER[plan.grains[task]] < FINER[one.grain]
        }
        unread = set()
        for task in sorted(coarser):
            self._handle.pause()
            if not self._records.thin(kept[task], plan.grains[task]):
                unread.add(task)
        hopeless = unread & self._renewed
        if unread - hopeless:
            self._renew(unread - hopeless, examination)
        return bool(coarser - hopeless)

    def _renew(self, tasks: set[int], examination: Examination) -> None:
        self._renewed |= tasks
        self._settle(tasks, examination, anew=True)

    def _version(
        self,
        made_from: str,
        kept: Mapping[int, Kept],
        plan: Curriculum,
        examination: Examination,
    ) -> Version | None:
        """What follows from the chosen tasks, made now unless it was before; None where evidence
        has changed meanwhile."""
        for known in self._records.versions():
            if known.made_from == made_from and self._is_there(known):
                return known
        evidence = []
        for task in plan.chosen:
            self._handle.pause()
            seen = self._records.look(task)
            if seen.state != kept[task]:
                return None
            if (found := seen.evidence) is not None:
                evidence.append(found)
            elif task not in self._renewed:  # written by another program, or damaged
                self._renew({task}, examination)
                return None
        taught = {}
        for course in examination.courses:
            self._tell(phase=f"learning {course.control} from {len(evidence)} tasks")
            taught[course.control] = self._learn(evidence, course)
        self._handle.pause()
        lessons = {name: one.lesson for name, one in taught.items()}
        used = not all(lesson.is_empty for lesson in lessons.values())
        if not used:
            lessons = {name: one.candidate for name, one in taught.items()}
        said = {name: lesson for name, lesson in lessons.items() if not lesson.is_empty}
        learned = Learned(lessons=said)
        self._records.keep(learned)
        version = Version(
            digest=learned.digest,
            used=used,
            made_from=made_from,
            chosen=plan.chosen,
            when=self._clock(),
            verdicts={name: _plain(asdict(one.verdict)) for name, one in taught.items()},
        )
        self._records.remember(version)
        return version

    def _is_there(self, version: Version | Active) -> bool:
        return version.digest is None or self._records.learned(version.digest) is not None

    def _clear(self, states: Sequence[Any]) -> None:
        """Remove gravestones that nobody can need any more."""
        now = self._clock()
        for one in states:
            # either way: a clock that was set makes no gravestone old, unless by more than a day
            if isinstance(one, Gone) and abs(now - one.when) > LONGEST_RUN:
                self._records.clear(one)

    def _tell(self, **progress: Json) -> None:
        self._told |= progress
        if self._watch is not None:
            self._watch(self._told)
        self._handle.tell(self._told | {"waits_for": self._source.waits_for})


def fingerprint(chosen: Sequence[Kept], courses: Sequence[Course]) -> str:
    """Of everything a version follows from."""
    facts = {
        "revision": REVISION,
        "tasks": [[one.task, one.digest] for one in chosen],
        "courses": [
            {
                "control": course.control,
                "model": course.model,
                "names": list(course.names),
                "words": [list(words) for words in course.words],
                "background": list(course.vocabulary.background),
                "preset": course.vocabulary.preset,
                "rest": course.vocabulary.rest,
                "presence": list(course.presence),
            }
            for course in courses
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _annotations(state: Kept | LeftOut) -> tuple[int, ...]:
    """Those whose end changes what is to be said of a task."""
    return (state.annotation,) if isinstance(state, Kept) else state.annotations


def _plain(value: Any) -> Any:
    """Without what JSON does not know: not-a-number becomes null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
