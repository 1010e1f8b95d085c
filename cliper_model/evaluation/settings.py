"""(data set, method, weights) -> a function from a picture to a label map.

The one file that knows how a data file's numbers reach a method: as a preset, as the method's
own config, and as a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from .errors import NoSuchNumbers, NotApplicable
from .runner import Prediction, Protocol, Segment

Rgb = UInt8[np.ndarray, "height width 3"]
SIDES = (224, 336)  # pixels; CLIPtrase's published centre crops
USUAL_SIDE = 336
UNREFINED = "none"
SIZES = ("short_side", "long_side")  # pixels; of a method without a config
PUBLISHED_IS_FOR_BENCHMARKS = (
    "--published restores protocols that belong to benchmarks; leave it out on own data, which is "
    "measured as annotators get it"
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the caller may choose beside method and weights; None leaves it as it is.

    windows     CLIPer: sliding windows, those of the published rows with them; on own data
                those of the profile, or as wide as the picture is high
    refinement  CLIPer: False measures the coarse maps, the published figures in brackets
    side        CLIPtrase on benchmarks: 224 or 336, None is 336
    """

    windows: bool | None = None
    refinement: bool | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        if self.side is not None and self.side not in SIDES:
            raise ValueError(f"side must be one of {SIDES}, got {self.side}")

    def check(self, method: str, *, own_data: bool) -> None:
        """Raises NotApplicable where something was chosen that would change nothing."""
        for option, value in (("windows", self.windows), ("refinement", self.refinement)):
            if value is not None and method != "cliper":
                written = f"--{option}" if value else f"--no-{option}"
                raise NotApplicable(f"{written} is for cliper only; leave it out with {method}")
        if self.side is not None and own_data:
            raise NotApplicable(
                "--side picks a published centre crop of benchmarks; leave it out on own data, "
                "which is measured whole"
            )
        if self.side is not None and method != "cliptrase":
            raise NotApplicable(f"--side is for cliptrase only; leave it out with {method}")

    def check_refiner(self, model: Segmenter) -> None:
        """Raises NotApplicable where refinement is wanted and the model has nothing for it."""
        if self.refinement and config_of(model).get("refinement", UNREFINED) == UNREFINED:
            raise NotApplicable(
                f"the profile {model.identity.profile} has no network that refines; leave "
                "--refinement out, or choose --profile standard, --profile best or --features"
            )


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

    `classes` are the data set's own names. Raises NoSuchNumbers, NotApplicable, UnknownPreset,
    and what reading the words raises.
    """
    method = model.identity.method
    choice.check(method, own_data=False)
    choice.check_refiner(model)
    centre_only = method == "cliptrase"
    side = choice.side or USUAL_SIDE
    numbers = benchmark.numbers_of(method, str(side) if centre_only else clip)
    words = benchmark.words_of(method, classes)
    windows = choice.windows
    if windows is None:
        windows = bool(config_of(model).get("crop", 0))
    if method == "cliper" and windows:
        numbers = {**numbers, **numbers["windows"]}
    preset = preset_of(benchmark, words, numbers, method=method, clip=clip)
    changes = config_changes(
        numbers, method=method, windows=windows, refinement=choice.refinement is not False
    )
    ready = with_numbers(model, changes, preset)
    view_of: Mapping[str, views.View] = views.WHOLE
    if centre_only:
        view_of = views.centre(side)
    elif numbers.get("halves"):
        view_of = views.HALVES
    labels = [Label(word) for word in words.classes]
    return Chosen(
        segment=segment_with(ready, labels, background=words.background, preset=preset.name),
        view_of=view_of,
        ignored_is_background=words.ignored_is_background,
        settings={
            "numbers": {
                "source": numbers["source"],
                "templates": numbers["templates"],
                "logit_scale": preset.logit_scale,
                "attention_floor": preset.attention_floor,
                "select_layer": preset.select_layer,
            },
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
    choice: Choice | None = None,
) -> Chosen:
    """`model` with the profile's own numbers, as annotators get it.

    `names` may hold synonyms, "house|home"; the first is the name. `background` None takes the
    preset's words, `preset` None picks as the service does.
    Raises NotApplicable for a model in its published form, whose protocol is a benchmark's (it
    may see the centre of a picture only, or keep labels among the background words).
    """
    if model.identity.settings.get("published", False):
        raise NotApplicable(PUBLISHED_IS_FOR_BENCHMARKS)
    if choice is not None:
        choice.check(model.identity.method, own_data=True)
        choice.check_refiner(model)
        model = with_changes(model, own_changes(model, choice))
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
    """Fields of the method's config that the data file sets.

    A student sees pictures at the size it was trained for; nothing of it is set.
    """
    if method == "cliper":
        changes: dict[str, Any] = {
            "short_side": numbers["short_side"],
            "crop": numbers["crop"] if windows else 0,
        }
        return changes if refinement else {**changes, "refinement": UNREFINED}
    if method == "cliptrase":
        own = ("eps", "min_samples", "class_token_product")
        return {"short_side": numbers["side"], **{name: numbers[name] for name in own}}
    if method == "maskclip+":
        return {}
    common = ("short_side", "long_side", "crop", "stride")
    return {name: numbers[name] for name in common if name in numbers}


def own_changes(model: Segmenter, choice: Choice) -> dict[str, Any]:
    """Fields of CLIPer's config that the caller's choice sets on own data."""
    changes: dict[str, Any] = {}
    config = config_of(model)
    if choice.windows is not None:
        changes["crop"] = (config["crop"] or config["short_side"]) if choice.windows else 0
    if choice.refinement is False:
        changes["refinement"] = UNREFINED
    return changes


def with_numbers(model: Segmenter, changes: Mapping[str, Any], preset: Preset) -> Segmenter:
    """The same networks with other numbers; `model` itself stays as it is.

    Raises NoSuchNumbers for a method that is not built from the common parts, or whose config
    has no such field.
    """
    if not isinstance(model, Method):
        raise NoSuchNumbers(
            f"the numbers of {preset.name} cannot be given to {model.identity.method!r}; measure "
            "it with --dataset folder, which takes the profile's own"
        )
    return with_changes(model.with_numbers(presets=lambda _: preset), changes)


def with_changes(model: Segmenter, changes: Mapping[str, Any]) -> Segmenter:
    """Other values in the method's config. Raises NoSuchNumbers for a field it lacks."""
    if not changes:
        return model
    lacking = [name for name in changes if name not in config_of(model)]
    if lacking or not isinstance(model, Method):
        raise NoSuchNumbers(
            f"{model.identity.method!r} has no setting {', '.join(lacking)}; measure it with "
            "--dataset folder, which takes the profile's own numbers"
        )
    return model.with_numbers(**changes)


def config_of(model: Segmenter) -> dict[str, Any]:
    """What the method's own settings are; for a trained student, the size it sees."""
    config = getattr(model, "config", None)
    if config is not None:
        return asdict(config)
    return {name: getattr(model, name) for name in SIZES if hasattr(model, name)}


def account_of(model: Segmenter) -> dict[str, Any]:
    """Method, revision, weights and settings, as they go into the record."""
    identity = model.identity
    return {
        "name": identity.method,
        "revision": identity.revision,
        "profile": identity.profile,
        "weights": dict(identity.weights),
        "published": bool(identity.settings.get("published", False)),
        "features": identity.settings.get("features"),
        "presets": identity.settings.get("presets"),
        "config": config_of(model),
        **_place_of(model),
    }


def _place_of(model: Segmenter) -> dict[str, str | None]:
    """Kind of device and precision of the network that sees the picture; None where unknown.

    Figures move a little with both, so parts of one measurement must agree in them.
    """
    network: Any = getattr(model, "clip", None)
    if network is None:
        student: Any = getattr(model, "student", None)
        network = getattr(student, "rows", None)
    if network is None:
        return {"device": None, "dtype": None}
    own = str(network.dtype).removeprefix("torch.")
    return {"device": network.device.type, "dtype": getattr(network, "number_format", own)}


def _label(name: str) -> Label:
    words = tuple(word for part in name.split("|") if (word := " ".join(part.split())))
    return Label(words[0], words if len(words) > 1 else ())
