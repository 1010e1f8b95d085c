"""The model over tasks whose pictures are unpacked: rows out, in their order.

One thread, no queue: whoever has a batch has the device. Results are those of the service, region
for region: the same plan, the same looking, the same seeds of ids.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..batching import Batches
from ..errors import ConfigError, CouldNotPredict, ModelFailed
from ..labelstudio import options
from ..lessons import Learned
from ..looking import (
    Ahead,
    Looking,
    Picture,
    Segmented,
    Segmenters,
    answers,
    model_errors_as_ours,
)
from ..model_pool import ModelPool
from ..outcomes import ImageResult, combined
from ..plan import ConfigReader, Plan, View, choice_of
from .fetching import failed
from .rows import Fetched, Row, Seen

logger = logging.getLogger(__name__)

AHEAD_BYTES = 256 * 1_000_000  # of pictures that wait to be looked at together


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run looks for, the same for all of its processes.

    config   the label config
    extra    what the connection's `extra_params` say
    learned  what corrections taught, if anything
    """

    config: str
    extra: options.Values
    learned: Learned | None = None


def views_plan(asked: Asked, defaults: options.Values) -> Plan:
    """A plan that only knows where pictures are: for those that fetch and have no model.

    Raises ConfigError.
    """
    wanted = ConfigReader(defaults).read(asked.config, asked.extra).wanted
    return Plan(wanted=wanted, prompts=(), identities={}, version="")


def picture_key(asked: Asked, defaults: options.Values) -> str | None:
    """Where the data of a task has its one picture; None where there may be several.

    Raises ConfigError.
    """
    images = {one.control.image for one in views_plan(asked, defaults).wanted}
    if len(images) != 1:
        return None
    image = next(iter(images))
    return None if image.listed else image.data_key


class Painter:
    """A label config and its models in memory. Belongs to one thread."""

    def __init__(
        self,
        models: ModelPool,
        asked: Asked,
        *,
        defaults: options.Values,
        brush_megapixels: float,
        batch: int | None = None,
        answers: Callable[[str | None], bool] = answers,
    ) -> None:
        """Loads the models, and waits for them. `batch`: pictures looked at together; None: by the
        device. Raises ConfigError, ModelFailed."""
        reading = ConfigReader(defaults).read(asked.config, asked.extra)
        models.own.start()
        models.own.join()  # its profile is known now, and so whether others are needed
        hosts = models.hosts(map(choice_of, reading.wanted))
        for host in hosts.values():
            host.start()
            host.join()
        self._segmenters: Segmenters = {choice: host.segmenter() for choice, host in hosts.items()}
        identities = {choice: host.identity() for choice, host in hosts.items()}
        with model_errors_as_ours():
            for one in reading.wanted:
                hosts[choice_of(one)].check_words(one.explicit_words)
        self.plan = reading.plan(identities, asked.learned)
        self.left = 0  # tasks without a row so far
        self._batches = Batches(batch)
        self._looking = Looking(
            state_bytes=0,
            brush_megapixels=brush_megapixels,
            batches=self._batches,
            answers=lambda: answers(models.own.status.details.get("device")),
        )

    @property
    def together(self) -> int:
        """How many pictures its models look at together at most."""
        return max(map(self._batches.size, self._segmenters.values()), default=1)

    def paint(self, tasks: Iterable[Fetched]) -> Iterator[Row]:
        """A row for every task, in order, but for those whose servers did not answer: they are for
        another time. Raises ConfigError, ModelFailed: everybody's trouble."""
        most = self.together
        waiting: deque[tuple[Fetched, list[_Wanted] | CouldNotPredict]] = deque()
        for fetched in tasks:
            waiting.append((fetched, self._wanted(fetched)))
            full = sum(one.nbytes for one, _ in waiting) >= AHEAD_BYTES
            if full or len(waiting) >= most:
                yield from self._rows(waiting)
        yield from self._rows(waiting)

    def segmented(self, picture: Picture, view: View) -> list[Segmented]:
        """What would be written of one picture, control by control, before it is.

        Raises CouldNotPredict, and as `paint`.
        """
        return self._looking.segmented(picture, view, self._segmenters, keep=False)

    def _wanted(self, fetched: Fetched) -> "list[_Wanted] | CouldNotPredict":
        """A task's pictures with what is wanted of each, or why there are none."""
        if fetched.error is not None:
            return []
        try:
            views = self.plan.views(fetched.given.task)
        except CouldNotPredict as error:
            return error
        return [self._one(seen, view) for seen, view in zip(fetched.pictures, views, strict=True)]

    def _one(self, seen: Seen, view: View) -> "_Wanted":
        picture = Picture(seen.digest, view.page, lambda: seen.pixels)
        size_hw = (seen.pixels.shape[0], seen.pixels.shape[1])
        ahead = self._looking.ahead(picture, size_hw, view, self._segmenters, keep=False)
        return _Wanted(picture=picture, view=view, ahead=ahead)

    def _rows(
        self, waiting: "deque[tuple[Fetched, list[_Wanted] | CouldNotPredict]]"
    ) -> Iterator[Row]:
        self._look_ahead(waiting)
        while waiting:
            fetched, wanted = waiting.popleft()
            given, version = fetched.given, self.plan.version
            if fetched.error is not None:
                if fetched.error.passing:
                    self.left += 1
                    logger.warning("task %s is left: %s", given.id, fetched.error.reason)
                else:
                    yield Row.of(given, fetched.error, version)
                continue
            try:
                if isinstance(wanted, CouldNotPredict):
                    raise wanted
                results = [self._result(one) for one in wanted]
            except CouldNotPredict as error:
                logger.info("task %s not predicted: %s", given.id, error)
                yield Row.of(given, failed(error), version)
                continue
            yield Row.of(given, combined(results, version), version)

    def _look_ahead(
        self, waiting: "Iterable[tuple[Fetched, list[_Wanted] | CouldNotPredict]]"
    ) -> None:
        """Pictures that may be looked at together, are."""
        alike: dict[object, list[Ahead]] = {}
        for _, wanted in waiting:
            for one in wanted if isinstance(wanted, list) else []:
                if one.ahead is not None:
                    alike.setdefault(tuple(one.ahead.buckets.items()), []).append(one.ahead)
        for together in alike.values():
            if len(together) < 2:
                continue
            try:
                self._looking.look_ahead(together)
            except (ConfigError, ModelFailed):
                raise
            except Exception:  # every picture's own turn says what is wrong with it
                logger.exception("pictures could not be looked at together")

    def _result(self, one: "_Wanted") -> ImageResult:
        """Raises CouldNotPredict, ConfigError, ModelFailed."""
        key = (one.picture.digest, one.view.place, self.plan.version)
        return self._looking.result(
            one.picture,
            one.view,
            self._segmenters,
            seed="|".join(key),
            keep=False,
            ahead=one.ahead,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Wanted:
    """One picture of a task, what is wanted of it, and whether others can be seen with it."""

    picture: Picture
    view: View
    ahead: Ahead | None
