"""What happens on the device: a picture is looked at once, everything else is worked out from that.

Methods belong to the device's one thread, but for those that say they do not. Between two steps
others may come in on the same thread, so nothing half done is kept here.
"""

import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cliper_model import Decision, ImageState, Scores, Segmentation, Segmenter, Vocabulary, decide
from cliper_model.errors import CliperError, WeightsError
from cliper_model.segmenter import InSteps
from cliper_model.stages import places

from . import advice, prompting
from .batching import Batches, is_batching
from .device import Shared
from .errors import (
    ConfigError,
    CouldNotPredict,
    DeviceLost,
    LabelsMissing,
    MaskTooLarge,
    ModelFailed,
    OutOfMemory,
)
from .keeping import Keeping
from .lessons import expected_quality, model_of
from .metrics.meters import Meters
from .model_pool import ModelChoice
from .outcomes import ImageResult
from .painting import NO_NUMBERS, Painted, image_result, write
from .plan import Plan, View, choice_of
from .result_cache import ResultCache
from .storage.base import Scope
from .studying import (
    Course,
    Studied,
    StudiedPicture,
    cell_probabilities,
    gains_of,
    is_taught,
)
from .vocabulary import OBJECTS, ControlVocabulary

logger = logging.getLogger(__name__)

REMEMBERED_VOCABULARIES = 32
LOST = ("CUDA error", "HIP error")  # after which the context may answer nothing else; it is asked
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "_STATUS_ALLOC_FAILED",  # of cuBLAS, cuDNN and the like
    "ALLOCATION_FAILED",
    "BLAS_STATUS_NOT_INITIALIZED",  # what they keep on the card does not fit
    "CUDNN_STATUS_NOT_INITIALIZED",
)
BRUSHES = ("brushlabels", "brush")
MEGA = 1_000_000

Segmenters = Mapping[ModelChoice, Segmenter]
Spend = Callable[[str, float], None]  # a step's name and its seconds
Answers = Callable[[], bool]  # whether the device still computes; waits for it
LetBy = Callable[[], float]  # whoever goes first, between two steps; the seconds that takes


def spend_nothing(what: str, seconds: float) -> None:
    """Where nobody asks."""


def let_nobody_by() -> float:
    """Where there is nobody else."""
    return 0.0


def answers(device: str | None = None) -> bool:
    """Whether a device still computes, asked with next to nothing. One whose memory is full does.

    None: the graphics card, if there is one.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        doubled = torch.ones(8, device=place) * 2
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return doubled.sum().item() == 16
    except Exception as error:
        return is_out_of_memory(error)


@dataclass(frozen=True)
class Picture:
    """A picture by the digest of its bytes; unpacked only where nobody looked at it before.

    `passing`: what is seen of it stays in memory.
    """

    digest: str
    page: int
    unpack: Callable[[], UInt8[np.ndarray, "height width 3"]]
    scope: Scope = Scope()  # noqa: RUF009  # a frozen value
    passing: bool = False


@dataclass(frozen=True)
class Look:
    """What a model saw of a picture, and the size of the picture as displayed.

    `key` tells pictures and models apart.
    """

    key: tuple[str, int, ModelChoice]
    state: ImageState
    size_hw: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return 200 + _nbytes(self.state)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ahead:
    """A picture that waits, and what is seen of it together with others before its turn.

    buckets  of the models that look at several at once, see `Batching.bucket`
    looks    those that were taken already
    seconds  how long its share of them took
    """

    picture: Picture
    view: View
    segmenters: Segmenters
    buckets: Mapping[ModelChoice, Hashable]
    keep: bool
    looks: dict[ModelChoice, Look] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Scored:
    """What a look says about one control's words."""

    scores: Scores

    @property
    def nbytes(self) -> int:
        rows = self.scores.rows
        return 200 + sum(map(_nbytes, (*vars(self.scores).values(), rows and rows.values)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """What a picture holds for one control, and everything that led there.

    vocabulary  its words as the model read them
    scores      of the picture, as large as the masks
    decision    the numbers that were used, for masks of that size
    quality     how good the masks are expected to be, 0 to 1; None where nobody can say
    size_hw     of the picture as displayed; masks may be smaller
    """

    one: ControlVocabulary
    vocabulary: Vocabulary
    scores: Scores
    decision: Decision
    segmentation: Segmentation
    quality: float | None
    size_hw: tuple[int, int]

    @property
    def painted(self) -> Painted:
        """The control's share of the picture, without the scores."""
        return Painted(
            one=self.one,
            segmentation=self.segmentation,
            decision=self.decision,
            quality=self.quality,
        )


class Looking:
    """The device's work, and what it remembers: looks and scores up to a number of bytes, read
    words.

    The newest look is kept even if it is larger than that: a click asks for it again and again.
    """

    def __init__(
        self,
        *,
        state_bytes: int,
        brush_megapixels: float,
        keeping: Keeping | None = None,
        batches: Batches | None = None,
        let_by: LetBy = let_nobody_by,
        answers: Answers = answers,
        meters: Meters | None = None,
        device: str = "the device",
    ) -> None:
        """`brush_megapixels`: the largest picture that gets brush masks. `keeping`: where looks
        outlive the process. `let_by` is called between steps; it may call other methods of this.
        `answers` is asked before the device is taken for lost. `device`: its name, for `meters`.
        """
        self._answers = answers
        self._brush_megapixels, self._keeping = brush_megapixels, keeping
        self._batches, self._let_by = batches or Batches(), let_by
        self._meters, self._device = meters or Meters(), device
        self.looks = 0  # pictures a model looked at so far
        self._seen: ResultCache[Look | Scored] = ResultCache(max_bytes=state_bytes)
        self._keeps_newest = state_bytes > 0
        self._newest: Look | None = None  # whatever its size: clicks follow
        self._vocabularies: OrderedDict[object, Vocabulary] = OrderedDict()

    def known(self, digest: str, page: int, choice: ModelChoice) -> Look | None:
        """An earlier look, if it is still there; for any thread."""
        return self._remembered((digest, page, choice))

    def _remembered(self, key: tuple[str, int, ModelChoice]) -> Look | None:
        newest = self._newest
        if newest is not None and newest.key == key:
            return newest
        known = self._seen.get(key)
        return known if isinstance(known, Look) else None

    def refuse_brush(self, size_hw: tuple[int, int], wanted: Sequence[ControlVocabulary]) -> None:
        """Raises MaskTooLarge."""
        refuse_brush(size_hw, wanted, megapixels=self._brush_megapixels)

    def result(
        self,
        picture: Picture,
        view: View,
        segmenters: Segmenters,
        *,
        seed: str,
        keep: bool = True,
        spend: Spend = spend_nothing,
        ahead: Ahead | None = None,
    ) -> ImageResult:
        """Look once per model, then score and decide per control.

        `keep`: whether somebody may click on the picture soon. `spend` hears the seconds of the
        model and of the encoding. `ahead`: what was seen before. Raises CouldNotPredict,
        ConfigError, ModelFailed.
        """
        begun = time.perf_counter()
        away = 0.0  # seconds of whoever went first

        def let_by() -> float:
            nonlocal away
            gone = self._let_by()
            away += gone
            return gone

        with failures_as_ours(self._answers), ExitStack() as afterwards:
            painted: list[Painted] = []
            size_hw = (0, 0)
            for each in self._segmented(
                picture,
                view,
                segmenters,
                keep=keep,
                ahead=ahead,
                let_by=let_by,
                afterwards=afterwards,
            ):
                painted.append(each.painted)  # scores are let go of, control by control
                size_hw = each.size_hw
            let_by()
            thought = time.perf_counter()
            earlier = sum(ahead.seconds) if ahead is not None else 0.0
            spend("model", thought - begun - away + earlier)
            with self._meters.stage("write"):
                result = image_result(painted, size_hw=size_hw, index=view.index, seed=seed)
            spend("encode", time.perf_counter() - thought)
            return result

    def segmented(
        self, picture: Picture, view: View, segmenters: Segmenters, *, keep: bool = True
    ) -> list[Segmented]:
        """What `result` writes, before it is written: one per control of the view, in its order.

        Controls with answers have theirs too, in `segmentation.presence`. `keep` and what is
        raised: as `result`. The scores of all controls are in memory at once.
        """
        with failures_as_ours(self._answers):
            return list(self._segmented(picture, view, segmenters, keep=keep, let_by=self._let_by))

    def _segmented(
        self,
        picture: Picture,
        view: View,
        segmenters: Segmenters,
        *,
        keep: bool,
        let_by: LetBy,
        ahead: Ahead | None = None,
        afterwards: ExitStack | None = None,
    ) -> Iterator[Segmented]:
        """Look once per model, then score and decide per control. `afterwards`: see `_look`."""
        looks = dict(ahead.looks) if ahead is not None else {}
        for one in view.wanted:
            choice = choice_of(one)
            segmenter = segmenters[choice]
            vocabulary = self._vocabulary(one, segmenter)  # unreadable words cost no look
            if choice not in looks:
                looks[choice] = self._look(
                    picture, choice, segmenter, keep=keep, let_by=let_by, afterwards=afterwards
                )
            look = looks[choice]
            let_by()
            scores = self._scores(look, one, segmenter, keep=keep)
            let_by()
            decision = for_masks(one.decision(segmenter.decision(one.preset)), scores, look.size_hw)
            with self._meters.stage("decide"):
                segmentation = decide(scores, decision)
            yield Segmented(
                one=one,
                vocabulary=vocabulary,
                scores=scores,
                decision=decision,
                segmentation=segmentation,
                quality=self._quality(look, one, scores, segmenter),
                size_hw=look.size_hw,
            )

    def ahead(
        self,
        picture: Picture,
        size_hw: tuple[int, int],
        view: View,
        segmenters: Segmenters,
        *,
        keep: bool,
    ) -> Ahead | None:
        """For pictures that a model may look at together with others; for any thread."""
        buckets: dict[ModelChoice, Hashable] = {}
        for choice in {choice_of(one): None for one in view.wanted}:
            segmenter = segmenters[choice]
            if self._batches.size(segmenter) < 2 or not is_batching(segmenter):
                continue
            bucket = segmenter.bucket(size_hw)
            if bucket is None or self.known(picture.digest, picture.page, choice) is not None:
                continue
            buckets[choice] = bucket
        if not buckets:
            return None
        return Ahead(picture=picture, view=view, segmenters=segmenters, buckets=buckets, keep=keep)

    def together(self, ahead: Ahead) -> int:
        """How many such pictures may be looked at together; for any thread."""
        return min(
            self._batches.most((choice, bucket), self._batches.size(ahead.segmenters[choice]))
            for choice, bucket in ahead.buckets.items()
        )

    def shared(self, ahead: Ahead, *, follows: bool) -> Shared:
        """What such a picture has in common with others that wait; for any thread."""
        models = {choice: id(ahead.segmenters[choice]) for choice in ahead.buckets}
        return Shared(
            bucket=(tuple(models.items()), tuple(ahead.buckets.items())),
            subject=ahead,
            most=lambda: self.together(ahead),
            begin=self.look_ahead,
            follows=follows,
        )

    def look_ahead(self, waiting: Sequence[Ahead]) -> None:
        """Look at several pictures of the same buckets at once, at as many as memory allows.

        Where that is one at a time it is left to every picture's own turn. Raises whatever the
        model does.
        """
        readable = [one for one in waiting if self._can_be_read(one)]
        for choice, bucket in waiting[0].buckets.items():
            unseen: dict[object, list[Ahead]] = {}
            for one in readable:
                look = self._seen_before(one.picture, choice, one.segmenters[choice], one.keep)
                if look is not None:
                    one.looks[choice] = look
                else:
                    unseen.setdefault((one.picture.digest, one.picture.page), []).append(one)
            rest = list(unseen.values())
            while rest:
                size = self._batches.size(waiting[0].segmenters[choice])
                size = self._batches.most((choice, bucket), size)
                part, rest = rest[:size], rest[size:]
                if len(part) > 1 and not self._look_at(part, choice):
                    self._batches.halve((choice, bucket), len(part))
                    rest = part + rest
                self._let_by()

    def _can_be_read(self, ahead: Ahead) -> bool:
        """Words that cannot be read cost no look."""
        with suppress(CouldNotPredict, ConfigError, ModelFailed):
            for one in ahead.view.wanted:
                self._vocabulary(one, ahead.segmenters[choice_of(one)])
            return True
        return False

    def _look_at(self, pictures: Sequence[Sequence[Ahead]], choice: ModelChoice) -> bool:
        """Every inner list waits for the same picture. False where memory ran out."""
        begun = time.perf_counter()
        segmenter = pictures[0][0].segmenters[choice]
        assert is_batching(segmenter)
        pixels = [alike[0].picture.unpack() for alike in pictures]
        looked = time.perf_counter()
        try:
            states = segmenter.observe_many(pixels)
        except Exception as error:
            if is_out_of_memory(error):
                return False
            raise
        share = (time.perf_counter() - looked) / len(pictures)
        self.looks += len(pictures)
        self._meters.looked(len(pictures), self._device)
        for alike, image, state in zip(pictures, pixels, states, strict=True):
            size_hw = (image.shape[0], image.shape[1])
            self._meters.stage_took("look", share)
            for one in alike:
                look = Look((one.picture.digest, one.picture.page, choice), state, size_hw)
                one.looks[choice] = look
                self._note(look, keep=one.keep)
                if one.keep and one is alike[0]:
                    self._write(one.picture, look, segmenter)
            alike[0].seconds.append((time.perf_counter() - begun) / len(pictures))
        return True

    def selection(
        self,
        seen: Look | Picture,
        view: View,
        prompt: prompting.Prompt,
        one: ControlVocabulary,
        number: int,
        segmenter: Segmenter,
        *,
        seed: str,
    ) -> tuple[bytes, float]:
        """The prompted label's region as a JSON list, and its presence.

        `number` is the label's among the sought of `one`. Raises as `result`.
        """
        with failures_as_ours(self._answers):
            look = seen if isinstance(seen, Look) else self._look(seen, choice_of(one), segmenter)
            self.refuse_brush(look.size_hw, (one,))
            scores = self._scores(look, one, segmenter)
            decision = for_masks(one.decision(segmenter.decision(one.preset)), scores, look.size_hw)
            if not np.isfinite(scores.presence).all():
                raise CouldNotPredict(NO_NUMBERS)
            presence = round(float(np.clip(scores.presence[number], 0.0, 1.0)), 4)
            with self._meters.stage("decide"):
                mask = prompting.selected(scores, number, prompt, decision)
            with self._meters.stage("write"):
                regions = write(
                    mask,
                    one,
                    one.sought[number],
                    region_id=hashlib.sha256(seed.encode()).hexdigest()[:12],
                    score=presence,
                    size_hw=look.size_hw,
                    index=view.index,
                )
                return json.dumps(regions, separators=(",", ":")).encode(), presence

    def studied(self, picture: Picture, view: View, segmenters: Segmenters) -> StudiedPicture:
        """What learning needs to know of a picture. Raises CouldNotPredict, ConfigError,
        ModelFailed; controls whose method cannot learn are left out."""
        with failures_as_ours(self._answers):
            controls: list[Studied] = []
            cells: Float[np.ndarray, "h w embed"] = np.zeros((0, 0, 0), np.float32)
            look: Look | None = None
            for one in view.wanted:
                segmenter = segmenters[choice_of(one)]
                if not is_taught(segmenter) or one.control.is_answer:
                    continue
                if one.control.labels_key is not None:
                    continue  # every task has its own labels
                if controls and controls[0].choice != choice_of(one):
                    continue  # evidence holds what one model saw
                look = look or self._look(
                    picture, choice_of(one), segmenter, keep=False, let_by=self._let_by
                )
                self._let_by()
                scores = self._scores(look, one, segmenter, keep=False)
                self._let_by()
                decision = one.decision(segmenter.decision(one.preset))
                cells = segmenter.cells(look.state).numpy()
                controls.append(
                    Studied(
                        control=one.control.from_name,
                        model=model_of(segmenter.identity, one.preset),
                        names=tuple(label.result_name for label in one.sought),
                        background=one.preset == OBJECTS,
                        segmentation=decide(scores, for_masks(decision, scores, look.size_hw)),
                        agreement=scores.agreement,
                        choice=choice_of(one),
                        taken=one.taken,
                        outlines=one.control.outlines,
                    )
                )
            return StudiedPicture(
                image=view.image.name,
                index=view.index,
                size_hw=look.size_hw if look is not None else (0, 0),
                cells=cells,
                controls=tuple(controls),
            )

    def doubts(
        self, picture: Picture, view: View, segmenters: Segmenters
    ) -> dict[tuple[str, str], float]:
        """How much of a picture may or may not be a label: control and result name -> the mean
        over places of p (1 - p). Raises as `studied`; cheap, since nothing is refined."""
        found: dict[tuple[str, str], float] = {}
        glances: dict[ModelChoice, Float[Tensor, "h w embed"]] = {}
        with failures_as_ours(self._answers):
            for one in view.wanted:
                choice = choice_of(one)
                segmenter = segmenters[choice]
                if not is_taught(segmenter) or one.control.is_answer:
                    continue
                vocabulary = self._vocabulary(one, segmenter)
                if choice not in glances:
                    glances[choice] = segmenter.glance(picture.unpack())
                self._let_by()
                told = cell_probabilities(glances[choice], vocabulary, segmenter.row_logits)
                doubt = (told * (1 - told)).mean(dim=0).tolist()
                for label, share in zip(one.sought, doubt, strict=False):  # last is none of them
                    found[one.control.from_name, label.result_name] = share
        return found

    def courses(self, plan: Plan, segmenters: Segmenters) -> tuple[Course, ...]:
        """What there is to learn, control by control. Raises as `result`."""
        found = []
        with failures_as_ours(self._answers):
            for one in plan.wanted:
                segmenter = segmenters[choice_of(one)]
                if not is_taught(segmenter) or one.control.is_answer or not one.sought:
                    continue
                decision = one.decision(segmenter.decision(one.preset))
                needed = decision.per_label("presence_threshold", len(one.sought))
                self._let_by()
                vocabulary = self._vocabulary(one, segmenter)
                found.append(
                    Course(
                        control=one.control.from_name,
                        model=model_of(segmenter.identity, one.preset),
                        names=tuple(label.result_name for label in one.sought),
                        words=tuple(label.prompts for label in one.labels),
                        vocabulary=vocabulary,
                        gains=gains_of(segmenter, vocabulary),
                        presence=tuple(map(float, needed)),
                    )
                )
        return tuple(found)

    def _quality(
        self, look: Look, one: ControlVocabulary, scores: Scores, segmenter: Segmenter
    ) -> float | None:
        """How good the masks of a control are expected to be."""
        if one.lesson is None or not one.lesson.quality or not is_taught(segmenter):
            return None
        vocabulary = self._vocabulary(one, segmenter)
        told = cell_probabilities(segmenter.cells(look.state), vocabulary, segmenter.row_logits)
        return expected_quality(places.signals(told, scores.agreement), one.lesson.quality)

    def read_ahead(self, one: ControlVocabulary, segmenters: Segmenters) -> None:
        """A control's words, before anybody waits for them; what is wrong with them is told to
        whoever does."""
        if one.sought:
            with (
                suppress(CouldNotPredict, ConfigError, ModelFailed),
                failures_as_ours(self._answers),
            ):
                self._vocabulary(one, segmenters[choice_of(one)])

    def advise(self, plan: Plan, segmenters: Segmenters) -> None:
        """On the log: labels that mean the same to their model."""
        for one in plan.wanted:
            if not one.sought:
                continue
            self._let_by()
            with (
                suppress(CouldNotPredict, ConfigError, ModelFailed),
                failures_as_ours(self._answers),
            ):
                vocabulary = self._vocabulary(one, segmenters[choice_of(one)])
                for warning in advice.of_meaning(vocabulary):
                    logger.warning("label config of %s: %s", plan.version, warning)

    def _look(
        self,
        picture: Picture,
        choice: ModelChoice,
        segmenter: Segmenter,
        *,
        keep: bool = True,
        let_by: LetBy = let_nobody_by,
        afterwards: ExitStack | None = None,
    ) -> Look:
        """What the model sees; people are let by between its steps. Written to the store in the
        end of `afterwards`, if given: the writing thread slows down whoever computes."""
        look = self._seen_before(picture, choice, segmenter, keep)
        if look is not None:
            self._note(look, keep=keep)
            return look
        pixels = picture.unpack()
        key = (picture.digest, picture.page, choice)
        state = self._observed(segmenter, pixels, let_by, lambda: self._remembered(key))
        if isinstance(state, Look):
            return state
        look = Look(key, state, (pixels.shape[0], pixels.shape[1]))
        self.looks += 1
        self._meters.looked(1, self._device)
        self._note(look, keep=keep)
        if keep and afterwards is not None:
            afterwards.callback(self._write, picture, look, segmenter)
        elif keep:
            self._write(picture, look, segmenter)
        return look

    def _observed(
        self,
        segmenter: Segmenter,
        pixels: UInt8[np.ndarray, "height width 3"],
        let_by: LetBy,
        known: Callable[[], Look | None],
    ) -> ImageState | Look:
        """The state; or the look of somebody who went by and looked at the same, by `known`."""
        begun, away = time.perf_counter(), 0.0
        try:
            if not isinstance(segmenter, InSteps):
                return segmenter.observe(pixels)
            steps = segmenter.observe_in_steps(pixels)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    state: ImageState = end.value
                    return state
                gone = let_by()
                away += gone
                if gone and (look := known()) is not None:
                    return look
        finally:
            self._meters.stage_took("look", time.perf_counter() - begun - away)

    def _seen_before(
        self, picture: Picture, choice: ModelChoice, segmenter: Segmenter, keep: bool
    ) -> Look | None:
        key = (picture.digest, picture.page, choice)
        look, found = self._remembered(key), "memory"
        if look is None and keep:
            look, found = self._from_store(key, picture, segmenter), "store"
        self._meters.asked_cache("looks", found if look is not None else "nowhere")
        return look

    def _note(self, look: Look, *, keep: bool) -> None:
        """`keep`: somebody may click on the picture soon."""
        if keep:
            self._seen.put(look.key, look)
            self._newest = look if self._keeps_newest else None

    def _write(self, picture: Picture, look: Look, segmenter: Segmenter) -> None:
        """To the store, so that it outlives the process."""
        if self._keeping is not None and not picture.passing:
            place = (picture.digest, picture.page)
            self._keeping.keep_look(
                picture.scope, place, segmenter, look.state, look.size_hw, nbytes=look.nbytes
            )

    def _from_store(
        self, key: tuple[str, int, ModelChoice], picture: Picture, segmenter: Segmenter
    ) -> Look | None:
        if self._keeping is None or picture.passing:
            return None
        place = (picture.digest, picture.page)
        found = self._keeping.look(picture.scope, place, segmenter)
        return None if found is None else Look(key, *found)

    def _scores(
        self, look: Look, one: ControlVocabulary, segmenter: Segmenter, *, keep: bool = True
    ) -> Scores:
        """What the look says about the control's words; remembered for clicks."""
        key = (look.key, one.reading)
        known = self._seen.get(key)
        if not isinstance(known, Scored):
            vocabulary = self._vocabulary(one, segmenter)
            with self._meters.stage("score"):
                known = Scored(segmenter.score(look.state, vocabulary))
            if keep:
                self._seen.put(key, known)
        return known.scores

    def _vocabulary(self, one: ControlVocabulary, segmenter: Segmenter) -> Vocabulary:
        """The control's words as text rows. Raises ConfigError, LabelsMissing, ModelFailed.

        What is wrong with words of the config is the config's trouble; with words of a task,
        the task's.
        """
        vocabulary = self._vocabularies.get(one.reading)
        if vocabulary is None:
            try:
                with model_errors_as_ours(), self._meters.stage("read"):
                    vocabulary = segmenter.read(
                        one.labels, background=one.background, preset=one.preset
                    )
            except ConfigError as error:
                if one.control.labels_key is None:
                    raise
                raise LabelsMissing(str(error)) from error
            vocabulary = replace(vocabulary, correction=one.correction(vocabulary))
            self._vocabularies[one.reading] = vocabulary
            if vocabulary.dropped:
                logger.info(
                    "%s: background words dropped, too close to a label: %s",
                    one.control.from_name,
                    ", ".join(vocabulary.dropped),
                )
        self._vocabularies.move_to_end(one.reading)
        while len(self._vocabularies) > REMEMBERED_VOCABULARIES:
            self._vocabularies.popitem(last=False)
        return vocabulary


def refuse_brush(
    size_hw: tuple[int, int], wanted: Sequence[ControlVocabulary], *, megapixels: float
) -> None:
    """Raises MaskTooLarge: the editor builds four bytes per pixel for every brush region."""
    brush = any(one.control.kind in BRUSHES for one in wanted)
    if brush and size_hw[0] * size_hw[1] > megapixels * MEGA:
        raise MaskTooLarge(size_hw, megapixels)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the graphics card or the machine.

    On the CPU torch says so with a plain RuntimeError: "DefaultCPUAllocator: can't allocate
    memory".
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def is_lost_device(error: BaseException, answers: Answers) -> bool:
    """Whether the device will refuse this process everything from now on, as a graphics card does
    after an illegal access, or once it is gone. Many an error sounds like that, so it is asked."""
    if not isinstance(error, RuntimeError):
        return False
    kind = type(error).__name__
    sounds = kind == "AcceleratorError" or any(words in str(error) for words in LOST)
    return sounds and not answers()


@contextmanager
def model_errors_as_ours() -> Iterator[None]:
    """What the model says about words is about the config; about weights, it is not ready."""
    try:
        yield
    except WeightsError as error:
        raise ModelFailed(str(error)) from error
    except CliperError as error:
        raise ConfigError(str(error)) from error


@contextmanager
def failures_as_ours(answers: Answers) -> Iterator[None]:
    """Raises CouldNotPredict, ConfigError or ModelFailed, whatever the model raised."""
    try:
        yield
    except (CouldNotPredict, ConfigError, ModelFailed):
        raise
    except CliperError as error:
        raise CouldNotPredict(str(error)) from error
    except Exception as error:
        if is_lost_device(error, answers):
            raise DeviceLost(type(error).__name__) from error
        if is_out_of_memory(error):
            raise OutOfMemory from error
        logger.exception("the model failed on a picture")
        kind = type(error).__name__
        raise CouldNotPredict(f"the model failed on this picture ({kind})") from error


def for_masks(decision: Decision, scores: Scores, size_hw: tuple[int, int]) -> Decision:
    """The decision for masks smaller than the picture: a radius in pixels shrinks with them."""
    if not decision.smooth or scores.size_hw == size_hw:
        return decision
    return replace(decision, smooth=round(decision.smooth * scores.size_hw[0] / size_hw[0]))


def _nbytes(value: object) -> int:
    """Bytes of the tensors in a state, also of the states of tiles in it, or of an array."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, ImageState):
        return sum(map(_nbytes, vars(value).values()))
    return sum(map(_nbytes, value)) if isinstance(value, tuple) else 0
