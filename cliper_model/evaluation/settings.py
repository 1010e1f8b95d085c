"""(data set, method, weights) -> a function from a picture to a label map.

The one file that knows how a data file's numbers reach a method: as a preset, as the method's
own config, and as a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from .. import presets
from ..methods.frame import Method
from ..presets import Preset
from ..prompts import templates
from ..segmenter import Decision, Label, Segmenter
from ..stages.decide import decide
from . import views
from .benchmarks import Benchmark, Words
from .errors import NoSuchNumbers
from .runner import Prediction, Protocol, Segment

Rgb = UInt8[np.ndarray, "height width 3"]
SIDES = (224, 336)  # pixels; CLIPtrase's published centre crops


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the caller may choose beside method and weights.

    windows     CLIPer: sliding windows as in the published rows with them; None as the profile
    refinement  CLIPer: False measures the coarse maps, the published figures in brackets
    side        CLIPtrase: 224 or 336
    """

    windows: bool | None = None
    refinement: bool = True
    side: int = 336

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise ValueError(f"side must be one of {SIDES}, got {self.side}")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A method ready to be measured, how, and its account of itself for the record."""

    segment: Segment
    view_of: Mapping[str, views.View]
    ignored_is_background: bool
    settings: Mapping[str, Any]

    def protocol(self, *, limit: int | None, shard: tuple[int, int]) -> Protocol:
        return Protocol(
            view_of=self.view_of,
            ignored_is_background=self.ignored_is_background,
            limit=limit,
            shard=shard,
        )


def for_benchmark(
    model: Segmenter,
    benchmark: Benchmark,
    classes: tuple[str, ...],
    *,
    clip: str,
    choice: Choice,
) -> Chosen:
    """`model` with the numbers of a data file for CLIP model `clip`.

    `classes` are the data set's own names. Raises NoSuchNumbers, UnknownPreset, and what
    reading the words raises.
    """
    method = model.identity.method
    centre_only = method == "cliptrase"
    numbers = benchmark.numbers_of(method, str(choice.side) if centre_only else clip)
    words = benchmark.words_of(method, classes)
    windows = choice.windows
    if windows is None:
        windows = bool(getattr(getattr(model, "config", None), "crop", 0))
    if method == "cliper" and windows:
        numbers = {**numbers, **numbers["windows"]}
    preset = preset_of(benchmark, words, numbers, method=method, clip=clip)
    changes = config_changes(numbers, method=method, windows=windows, refinement=choice.refinement)
    ready = with_numbers(model, changes, preset)
    view_of: Mapping[str, views.View] = views.WHOLE
    if centre_only:
        view_of = views.centre(choice.side)
    elif numbers.get("halves"):
        view_of = views.HALVES
    labels = [Label(word) for word in words.classes]
    return Chosen(
        segment=segment_with(ready, labels, background=words.background, preset=preset.name),
        view_of=view_of,
        ignored_is_background=words.ignored_is_background,
        settings={
            "numbers": dict(numbers),
            "words": asdict(words),
            "decision": asdict(preset.decision),
            "method": account_of(ready),
        },
    )


def for_own_data(
    model: Segmenter,
    names: Sequence[str],
    *,
    background: Sequence[str] | None = None,
    preset: str | None = None,
) -> Chosen:
    """`model` with the profile's own numbers, as annotators get it.

    `names` may hold synonyms, "house|home"; the first is the name. `background` None takes the
    preset's words, `preset` None picks as the service does.
    """
    labels = [_label(name) for name in names]
    return Chosen(
        segment=segment_with(model, labels, background=background, preset=preset),
        view_of=views.WHOLE,
        ignored_is_background=False,
        settings={
            "words": {
                "source": "the data's own names",
                "classes": list(names),
                "background": None if background is None else list(background),
            },
            "preset": preset,
            "method": account_of(model),
        },
    )


def segment_with(
    model: Segmenter,
    labels: Sequence[Label],
    *,
    background: Sequence[str] | None,
    preset: str | None,
) -> Segment:
    """Words are read once; every picture is observed, scored and decided.

    A label that means the rest, such as Background, gets the pixels no other label claims. A
    class is claimed where it passes the presence threshold; without one, where it has pixels.
    """
    vocabulary = model.read(labels, background=background, preset=preset)
    decision = model.decision(vocabulary.preset)
    numbers = label_numbers(labels)

    def segment(image: Rgb) -> Prediction:
        result = decide(model.score(model.observe(image), vocabulary), decision)
        thresholds = np.broadcast_to(decision.presence_threshold, result.presence.shape)
        claimed = None
        if (thresholds > 0).all():
            there = np.flatnonzero(result.presence > thresholds) + 1
            claimed = tuple(int(number) for number in numbers[there])
        return Prediction(label_map=numbers[result.label_map], claimed=claimed)

    return segment


def label_numbers(labels: Sequence[Label]) -> Int[np.ndarray, " numbers"]:
    """Number in a segmentation's label map -> label of the data set (index + 1)."""
    sought = [index + 1 for index, label in enumerate(labels) if not label.is_rest]
    rest = [index + 1 for index, label in enumerate(labels) if label.is_rest]
    return np.array([rest[0] if rest else 0, *sought], np.int64)


def preset_of(
    benchmark: Benchmark, words: Words, numbers: Mapping[str, Any], *, method: str, clip: str
) -> Preset:
    """The method's own preset with the data file's numbers in it.

    Presence is the strength itself, so that a class is there where its strength exceeds the
    published score threshold. No background word is dropped. Raises UnknownPreset.
    """
    own = presets.get("objects" if words.background else "whole-scene", clip, method)
    changes: dict[str, Any] = {
        name: numbers[name]
        for name in ("logit_scale", "attention_floor", "select_layer")
        if name in numbers
    }
    return replace(
        own,
        name=benchmark.name,
        source=numbers["source"],
        background=words.background,
        templates=templates(numbers["templates"]),
        background_cosine=2.0,  # no cosine is as high
        presence_knots=((0.0, 0.0), (1.0, 1.0)),
        decision=decision_of(numbers, method=method, background=bool(words.background)),
        **changes,
    )


def decision_of(numbers: Mapping[str, Any], *, method: str, background: bool) -> Decision:
    """CLIPer: score threshold and background threshold; others: a probability, or the best label.

    Sources: CLIPer §9 step 4 branch A, ProxyCLIP §5 step 4, MaskCLIP §4, CLIPtrase §3.
    """
    if method == "cliper":
        return Decision(
            presence_threshold=float(numbers["score_threshold"]),
            background="threshold",
            background_threshold=float(numbers["background_threshold"]),
            normalise=bool(numbers["normalise"]),
        )
    key = "plain_clip_threshold" if method == "clip" else "probability_threshold"
    threshold = float(numbers.get(key, 0.0))
    if background or threshold > 0:  # the likeliest background word beats a label
        return Decision(
            presence_threshold=0.0, background="threshold", background_threshold=threshold
        )
    return Decision(presence_threshold=0.0, background="none")


def config_changes(
    numbers: Mapping[str, Any], *, method: str, windows: bool, refinement: bool
) -> dict[str, Any]:
    """Fields of the method's config that the data file sets."""
    if method == "cliper":
        changes: dict[str, Any] = {
            "short_side": numbers["short_side"],
            "crop": numbers["crop"] if windows else 0,
        }
        return changes if refinement else {**changes, "refinement": "none"}
    if method == "cliptrase":
        own = ("eps", "min_samples", "class_token_product")
        return {"short_side": numbers["side"], **{name: numbers[name] for name in own}}
    common = ("short_side", "long_side", "crop", "stride")
    return {name: numbers[name] for name in common if name in numbers}


def with_numbers(model: Segmenter, changes: Mapping[str, Any], preset: Preset) -> Segmenter:
    """The same networks with other numbers; `model` itself stays as it is.

    Raises NoSuchNumbers for a method that is not built from the common parts.
    """
    if not isinstance(model, Method):
        raise NoSuchNumbers(
            f"the numbers of {preset.name} cannot be given to {model.identity.method!r}; measure "
            "it with --dataset folder, which takes the profile's own"
        )
    known = {field.name for field in fields(model.config)} if hasattr(model, "config") else set()
    wanted = {name: value for name, value in changes.items() if name in known}
    return model.with_numbers(presets=lambda _: preset, **wanted)


def account_of(model: Segmenter) -> dict[str, Any]:
    """Method, revision, weights and settings, as they go into the record."""
    identity = model.identity
    config = getattr(model, "config", None)
    return {
        "name": identity.method,
        "revision": identity.revision,
        "profile": identity.profile,
        "weights": dict(identity.weights),
        "published": bool(identity.settings.get("published", False)),
        "features": identity.settings.get("features"),
        "presets": identity.settings.get("presets"),
        "config": asdict(config) if config is not None else {},
    }


def _label(name: str) -> Label:
    words = tuple(word for part in name.split("|") if (word := " ".join(part.split())))
    return Label(words[0], words if len(words) > 1 else ())
