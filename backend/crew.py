"""The devices of one host: a worker each, and who of them does what.

A worker is a device with its models, a queue with its thread, and what it remembers of pictures.
A job is done where the same one is under way already; else where its picture is remembered; else
where the fewest wait before it, and of those the one that was named first. Whose model is not ready
gets none while another's is.

A device that is lost, or whose thread has ended, is out: what waits for it, and what it was at, is
done again by the others. Where nobody is left everything fails as on a single device.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cliper_model.segmenter import Identity

from .device import Board, DeviceQueue, Job, Lane, Shared, Ticket
from .errors import (
    DeviceLost,
    DevicesLost,
    ModelFailed,
    ModelLoading,
)
from .looking import Look, Looking, Segmenters
from .metrics.meters import Meters
from .model_host import FAILED, ModelHost, ModelStatus
from .model_pool import ModelChoice, ModelPool

logger = logging.getLogger(__name__)

MOST_LOST = 2  # devices over one job; it is left undone then, so that the others stay
LOST, STOPPED = "lost", "stopped"  # states of a device, beside those of its model

Hosts = Mapping[ModelChoice, ModelHost]


@dataclass(frozen=True, kw_only=True)
class Team:
    """The models that a label config asks for, on every device that has them or is about to.

    hosts       by the device's name
    identities  what all of them have to be
    """

    hosts: Mapping[str, Hosts] = field(default_factory=dict)
    identities: Mapping[ModelChoice, Identity] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hands:
    """One device with the models a job asks for."""

    device: str
    looking: Looking
    segmenters: Segmenters


@dataclass(frozen=True, kw_only=True)
class Made:
    """A job for one device; `shared` as in `Shared`."""

    run: Callable[[], Any]
    shared: Shared | None = None


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A job for whichever device.

    key   equal ones are done once
    made  the job as one device does it; asked again where another has to do it
    lane  who waits for it
    team  who can do it
    seen  whether a device remembers its picture
    """

    key: Hashable
    made: Callable[[Hands], Made]
    lane: Lane
    team: Team
    seen: Callable[[Hands], bool] = lambda hands: False


class Worker:
    """One device; its name is unique."""

    def __init__(self, name: str, models: ModelPool, queue: DeviceQueue, looking: Looking) -> None:
        self.name, self.models, self.queue, self.looking = name, models, queue, looking

    @property
    def is_lost(self) -> bool:
        return self.models.own.is_lost

    @property
    def takes_work(self) -> bool:
        return not self.is_lost and self.queue.takes_work

    @property
    def is_ready(self) -> bool:
        """Whether it does what it is asked, with the service's own model."""
        return self.takes_work and self.models.own.loaded is not None

    @property
    def hopes(self) -> int:
        """How far it is from doing something, for comparison: 0 is ready."""
        if self.is_ready:
            return 0
        if self.is_lost:
            return 3
        return 2 if self.models.own.status.state == FAILED else 1

    def hands(self, team: Team) -> Hands | None:
        """None while it cannot do what is asked; a model that failed is tried again when due."""
        hosts = team.hosts.get(self.name)
        if hosts is None:
            return None
        try:
            segmenters = {choice: host.segmenter() for choice, host in hosts.items()}
        except (ModelLoading, ModelFailed):
            return None
        if any(segmenters[choice].identity != team.identities[choice] for choice in segmenters):
            return None
        return Hands(device=self.name, looking=self.looking, segmenters=segmenters)

    def facts(self, own: Identity | None) -> Mapping[str, Any]:
        """For `/health`. `own`: what the service's own model is, where that is known."""
        status = self.models.own.status
        state, reason = self._state(status, own)
        return {
            **status.details,
            "name": self.name,
            "state": state,
            "progress": status.percent,
            "reason": reason,
            "waiting": self.queue.waiting(),
            "looks": self.looking.looks,
        }

    def _state(self, status: ModelStatus, own: Identity | None) -> tuple[str, str | None]:
        loaded = self.models.own.loaded
        if self.is_lost:
            return LOST, status.reason
        if not self.queue.takes_work:
            return STOPPED, "its thread has ended; start the service again"
        if loaded is not None and own is not None and loaded.identity != own:
            return FAILED, "its weights are not those of the others; start the service again"
        return status.state, status.reason


class Crew:
    """All workers; safe to use from many threads."""

    def __init__(
        self,
        pools: Sequence[ModelPool],
        looking: Callable[[str, DeviceQueue, ModelPool], Looking],
        *,
        meters: Meters | None = None,
    ) -> None:
        """`pools`: the models of one device each. `looking` is made for each one's name, queue and
        models."""
        self._board, self._closed = Board(), False
        meters = meters or Meters()
        threads = torch.get_num_threads() if len(pools) > 1 else None
        self.workers: list[Worker] = []
        for number, pool in enumerate(pools):
            name = pool.device or f"device {number}"
            queue = DeviceQueue(
                failed=self._hears(number), settle=self._settle, board=self._board, threads=threads
            )
            self.workers.append(Worker(name, pool, queue, looking(name, queue, pool)))
            meters.device(name)

    def start(self) -> None:
        """Begin to load every device's model, in the background."""
        for worker in self.workers:
            worker.models.own.start()

    @property
    def leading(self) -> Worker:
        """The one that speaks for the service: of those that are ready the first, else of those
        that may be soon."""
        return min(self.workers, key=lambda worker: worker.hopes)

    @property
    def takes_work(self) -> bool:
        """Whether a job would be done; waits for nobody. A device that is lost does it badly."""
        return any(worker.queue.takes_work for worker in self.workers)

    def count(self) -> int:
        """How many devices are ready, one at least."""
        return max(1, sum(worker.is_ready for worker in self.workers))

    def others(self) -> Iterator[tuple[ModelChoice, ModelHost]]:
        """Models that label configs named, of all devices."""
        for worker in self.workers:
            yield from worker.models.others

    # -- models -----------------------------------------------------------------------

    def hosts(self, choices: Iterable[ModelChoice]) -> Mapping[str, Hosts]:
        """The models of a label config on every device, begun to load where they are new.

        Raises ConfigError, ModelLoading.
        """
        wanted = list(choices)
        found: dict[str, Hosts] = {}
        busy: ModelLoading | None = None
        for worker in [one for one in self.workers if not one.is_lost] or self.workers:
            try:
                found[worker.name] = worker.models.hosts(wanted)
            except ModelLoading as error:
                busy = busy or error
        if busy is not None and not found:
            raise busy
        return found

    def spokesman(self, hosts: Mapping[str, Hosts]) -> Hosts:
        """Whose models say what they are: of those that are all there the first, else of those
        that may be soon."""
        ranked = sorted(self.workers, key=lambda worker: worker.hopes)
        known = [hosts[worker.name] for worker in ranked if worker.name in hosts]
        there = (one for one in known if all(host.loaded is not None for host in one.values()))
        return next(there, known[0])

    def segmenters(self, team: Team) -> Segmenters:
        """Models of a device that can work. Raises ModelLoading, ModelFailed."""
        return self._able(team)[0][1].segmenters

    # -- jobs -------------------------------------------------------------------------

    def submit(self, errand: Errand, *, on: str | None = None) -> Ticket[Any]:
        """Hand it to whoever is to do it. `on`: a device that goes first if it can.

        Raises ModelLoading, ModelFailed, and as `made`.
        """
        with self._board.lock:
            ticket = self._board.join(errand.key, errand.lane)
            if ticket is not None:
                return ticket
            self._look_after()
            worker, hands = self._chosen(errand, on)
            made = errand.made(hands)
            return worker.queue.submit(
                errand.key, made.run, errand.lane, shared=made.shared, errand=errand
            )

    def known(self, digest: str, page: int, choice: ModelChoice) -> tuple[str, Look] | None:
        """The device that remembers a look at a picture, and the look; for any thread."""
        for worker in self.workers:
            look = worker.looking.known(digest, page, choice) if worker.takes_work else None
            if look is not None:
                return worker.name, look
        return None

    def waiting(self) -> Mapping[str, int]:
        """How many jobs wait in each lane; waits for nobody."""
        each = [worker.queue.waiting() for worker in self.workers]
        return {lane: sum(one[lane] for one in each) for lane in each[0]}

    def facts(self) -> Mapping[str, Any]:
        """For `/health`; waits for no device."""
        self._look_after()
        leading = self.leading
        loaded = leading.models.own.loaded
        own = None if loaded is None else loaded.identity
        return {
            "device_lost": leading.models.own.status.reason if leading.is_lost else None,
            "queue": {
                "waiting": self.waiting(),
                "looks": sum(worker.looking.looks for worker in self.workers),
            },
            "devices": [dict(worker.facts(own)) for worker in self.workers],
        }

    def close(self) -> None:
        """Let every device finish what runs, and nothing more."""
        self._closed = True
        for worker in self.workers:
            worker.queue.close()

    # -- who does it ------------------------------------------------------------------

    def _able(self, team: Team) -> list[tuple[Worker, Hands]]:
        """Never empty. Raises ModelLoading, ModelFailed."""
        found = [
            (worker, hands) for worker in self.workers if (hands := worker.hands(team)) is not None
        ]
        if not found:
            raise self._why_not(team)
        return [one for one in found if one[0].queue.takes_work] or found

    def _chosen(self, errand: Errand, on: str | None = None) -> tuple[Worker, Hands]:
        able = self._able(errand.team)
        named = [one for one in able if one[0].name == on]
        seen = named or [one for one in able if errand.seen(one[1])]
        return min(seen or able, key=lambda one: one[0].queue.load(errand.lane))

    def _why_not(self, team: Team) -> ModelLoading | ModelFailed:
        """The most hopeful reason."""
        why: ModelLoading | ModelFailed | None = None
        for worker in sorted(self.workers, key=lambda worker: worker.hopes):
            for host in team.hosts.get(worker.name, {}).values():
                try:
                    host.segmenter()
                except ModelLoading as error:
                    return error
                except ModelFailed as error:
                    why = why or error
        if any(worker.hands(team) is not None for worker in self.workers):
            return ModelLoading(99)  # one became ready just now
        return why or ModelFailed("its weights are no longer the same; start the service again")

    # -- who is out -------------------------------------------------------------------

    def _hears(self, number: int) -> Callable[[BaseException], None]:
        """What a worker does about errors of its jobs; the worker itself comes later."""

        def hear(error: BaseException) -> None:
            if isinstance(error, DeviceLost):
                self._lose(self.workers[number], error)

        return hear

    def _lose(self, worker: Worker, error: DeviceLost) -> None:
        """Its models are lost for good, and what waits for it is for others."""
        with self._board.lock:
            if worker.is_lost:
                return
            worker.models.lose(error)
            self._empty(worker)
        left = sum(one.takes_work for one in self.workers)
        logger.critical(
            "the device %s is lost; %d of %d are left",
            worker.name,
            left,
            len(self.workers),
            exc_info=error.__cause__ or error,
        )

    def _look_after(self) -> None:
        """Jobs of a device whose thread has ended are for others."""
        if self._closed or len(self.workers) == 1:
            return
        with self._board.lock:
            for worker in self.workers:
                if not worker.queue.takes_work:
                    self._empty(worker)

    def _empty(self, worker: Worker) -> None:
        """As long as anybody else can do it; else it fails where it is, as on a single device."""
        if len(self.workers) == 1:
            return
        for job in worker.queue.hand_out():
            told = self._passed_on(job)
            if told is not None:
                worker.queue.give_up(job, told)

    def _settle(self, job: Job, error: BaseException) -> BaseException | None:
        """What is told of a job's error; None where another device does it."""
        if not isinstance(error, DeviceLost) or job.errand is None or len(self.workers) == 1:
            return error
        return self._passed_on(replace(job, lost=job.lost + 1))

    def _passed_on(self, job: Job) -> BaseException | None:
        """Why nobody else does it. What a device was lost over begins alone from then on, so that
        nothing else is taken for the cause."""
        errand = job.errand
        assert isinstance(errand, Errand)
        with self._board.lock:
            try:
                worker, hands = self._chosen(errand)
                if job.lost >= MOST_LOST:
                    raise DevicesLost(job.lost)
                made = errand.made(hands)
                worker.queue.take_over(job, made.run, None if job.lost else made.shared)
            except Exception as why:  # whatever it is, whoever waits has to hear of it
                return why
        return None
