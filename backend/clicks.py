"""What somebody clicks on: the picture is looked at once, by one device; clicks follow it there."""

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from . import prompting
from .crew import Crew, Errand, Hands, Made
from .desks import Work
from .device import Ticket
from .errors import BudgetSpent
from .fetching import Fetching, Hurry
from .labelstudio.tasks import Task
from .looking import Look, Picture
from .metrics.meters import Meters
from .model_pool import ModelChoice
from .outcomes import Predicted
from .plan import View, choice_of
from .vocabulary import ControlVocabulary

REMEMBERED_PICTURES = 256  # whose bytes are known by their address
FRESH = 300.0  # seconds such an address is believed
TRIES = 3  # of a click, whose devices are lost one after the other

Waited = TypeVar("Waited")


class Clicks:
    """Answers them; safe to use from many threads."""

    def __init__(
        self, crew: Crew, fetching: Fetching, *, meters: Meters, clock: Callable[[], float]
    ) -> None:
        """`clock` gives seconds, as that of `fetching`."""
        self._crew, self._fetching = crew, fetching
        self._meters, self._clock = meters, clock
        self._lock = threading.Lock()  # of what follows
        self._recent: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()

    def note(self, view: View, digest: str) -> None:
        """A click on this picture soon after need not fetch it again."""
        with self._lock:
            self._recent[_key_of(view)] = (digest, self._clock())
            self._recent.move_to_end(_key_of(view))
            while len(self._recent) > REMEMBERED_PICTURES:
                self._recent.popitem(last=False)

    def answer(self, task: Task, prompt: prompting.Prompt, work: Work) -> Predicted | None:
        """None where no control can hold the answer. Raises CouldNotPredict, ConfigError,
        ModelFailed, ModelLoading."""
        for view in work.plan.views(task):
            found = prompting.target(prompt, view.wanted)
            if found is not None and view.index in (prompt.index, None):
                regions, score = self._select(task, view, prompt, *found, work)
                return Predicted(regions=(regions,), score=score, model_version=work.plan.version)
        return None

    def _select(
        self,
        task: Task,
        view: View,
        prompt: prompting.Prompt,
        one: ControlVocabulary,
        number: int,
        work: Work,
    ) -> tuple[bytes, float]:
        """The selected region as JSON, and its score."""
        choice = choice_of(one)
        seen, digest, device = self._seen(task, view, choice, work)
        key = ("click", digest, view.place, work.plan.version, prompt)

        def made(seen: Look | Picture, hands: Hands) -> Made:
            def job() -> tuple[bytes, float]:
                if isinstance(seen, Look) and hands.device != device:
                    raise _SeenElsewhere
                return hands.looking.selection(
                    seen, view, prompt, one, number, hands.segmenters[choice], seed=repr(key)
                )

            return Made(run=job)

        def asked(seen: Look | Picture) -> tuple[bytes, float]:
            errand = Errand(
                key=key,
                made=partial(made, seen),
                lane=work.lane,
                team=work.team,
                seen=lambda hands: hands.looking.known(digest, view.page, choice) is not None,
            )
            on = device if isinstance(seen, Look) else None
            return in_time(self._crew.submit(errand, on=on), work.hurry, self._clock)

        for _ in range(TRIES):
            try:
                return asked(seen)
            except _SeenElsewhere:  # the device that remembers the picture was lost meanwhile
                seen = self._fetched(task, view, work)[0]
        return asked(seen)

    def _seen(
        self, task: Task, view: View, choice: ModelChoice, work: Work
    ) -> tuple[Look | Picture, str, str | None]:
        """An earlier look at a picture fetched lately, else the picture; its digest, and the
        device that remembers the look."""
        with self._lock:
            digest, since = self._recent.get(_key_of(view), ("", -math.inf))
        if self._clock() - since < FRESH:
            known = self._crew.known(digest, view.page, choice)
            if known is not None:
                self._meters.asked_cache("looks", "memory")
                return known[1], digest, known[0]
        picture, digest = self._fetched(task, view, work)
        return picture, digest, None

    def _fetched(self, task: Task, view: View, work: Work) -> tuple[Picture, str]:
        """The picture, and its digest."""
        data = self._fetching.fetch(task, view.address, work.hurry)
        digest = hashlib.sha256(data).hexdigest()
        self.note(view, digest)
        picture = Picture(
            digest, view.page, lambda: self._fetching.decode(data, page=view.page), work.scope
        )
        return picture, digest


class _SeenElsewhere(Exception):
    """A look stays on its device."""


def in_time(ticket: Ticket[Waited], hurry: Hurry, clock: Callable[[], float]) -> Waited:
    """What the device says. Raises BudgetSpent, and as the job."""
    try:
        return ticket.wait(max(hurry.deadline - clock(), 0.0))
    except TimeoutError:
        raise BudgetSpent(hurry.budget) from None


def _key_of(view: View) -> tuple[str, int]:
    """An address by its digest: some hold the whole picture."""
    return hashlib.sha256(view.address.encode(errors="replace")).hexdigest(), view.page
