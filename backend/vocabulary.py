"""What one control of a label config asks of the model, and which of it marks the version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cliper_model.errors import EmptyVocabulary
from cliper_model.segmenter import (
    REST_NAMES,
    Correction,
    Decision,
    Label,
    Vocabulary,
    canonical_word,
)

from .errors import ConfigError
from .labelstudio.label_config import ConfigLabel, Control
from .labelstudio.options import LABEL, LEARNED, PRESET, TAG, Chosen, Values, choose
from .labelstudio.words import cleaned
from .lessons import Lesson

OBJECTS, WHOLE_SCENE = "objects", "whole-scene"
BY_TAG = (  # decided once per control, not label by label
    "model_background",
    "model_method",
    "model_profile",
    "model_holes",
    "model_smooth",
    "model_overlap",
    "model_refine",
    "model_max_regions",
)

PER_LABEL = (
    "model_score_threshold",
    "model_mask_threshold",
    "model_min_area",
    "model_instances",
    "model_prompt",
)

NOT_IN_FACTS = ("model_background", "model_method", "model_profile")  # told elsewhere, and better
RASTERS = frozenset({"brushlabels", "brush", "bitmasklabels", "bitmask"})
OF_MASKS = (
    "model_mask_threshold",
    "model_min_area",
    "model_holes",
    "model_smooth",
    "model_overlap",
    "model_refine",
    "model_instances",
    "model_max_regions",
)
NEW_IN_FACTS = {"model_refine": True}  # told where they say something else: versions stay the same

Layers = Sequence[tuple[str, Values]]  # below label and tag: extra_params, environment ...


@dataclass(frozen=True, kw_only=True)
class ControlVocabulary:
    """The words and numbers of one control.

    sought      labels to look for
    rest        the label to paint on everything unclaimed, if one asks for it
    of_tag      options that hold for the control as a whole, each with its source
    of_label    options per sought label, in their order
    taken       result names that an earlier control on the same picture writes
    lesson      what was learnt from people's corrections, None: nothing
    """

    control: Control
    sought: tuple[ConfigLabel, ...]
    rest: ConfigLabel | None
    of_tag: Mapping[str, Chosen]
    of_label: tuple[Mapping[str, Chosen], ...]
    layers: Layers = field(default=(), repr=False, compare=False)
    taken: frozenset[str] = frozenset()
    lesson: Lesson | None = None

    @classmethod
    def of(cls, control: Control, *, layers: Layers = ()) -> "ControlVocabulary":
        """`layers` are consulted after label and tag, in their order. Raises ConfigError.

        A control whose labels are in the task data has none yet: see `for_task`.
        """
        tag_layers = ((TAG, control.options), *layers)
        rests = [label for label in control.labels if _is_rest(label)]
        sought = tuple(label for label in control.labels if label not in rests)
        if not sought and control.labels_key is None:
            raise ConfigError(f"{control.from_name!r}: {EmptyVocabulary()}")
        for label in sought:
            if label.options.get("model_fill"):
                raise ConfigError(
                    f"model_fill is for labels such as Background, not for {label.name!r}"
                )
        return cls(
            control=control,
            sought=sought,
            rest=None if control.is_answer else _rest_to_paint(control, rests),
            of_tag={name: choose(name, tag_layers) for name in BY_TAG},
            of_label=tuple(
                {name: choose(name, ((LABEL, label.options), *tag_layers)) for name in PER_LABEL}
                for label in sought
            ),
            layers=tuple(layers),
        )

    def for_task(self, data: Mapping[str, Any]) -> "ControlVocabulary":
        """With the labels that the task's data lists, where the config says so.

        Raises ConfigError.
        """
        if self.control.labels_key is None:
            return self
        told = ControlVocabulary.of(self.control.with_labels(data), layers=self.layers)
        return told if self.lesson is None else told.taught(self.lesson)

    def taught(self, lesson: Lesson) -> "ControlVocabulary":
        """With what was learnt: it replaces presets, never what somebody wrote."""
        of_label = []
        for label, chosen in zip(self.sought, self.of_label, strict=True):
            known, name = lesson.thresholds.get(label.result_name), "model_score_threshold"
            if known is not None and chosen[name].source == PRESET:
                chosen = {**chosen, name: Chosen(value=known, source=LEARNED)}
            of_label.append(chosen)
        return replace(self, of_label=tuple(of_label), lesson=lesson)

    def is_taken(self, label: ConfigLabel) -> bool:
        """Looked for, since it competes, but written by another control."""
        return label.result_name in self.taken

    @property
    def written(self) -> tuple[str, ...]:
        """Result names this control may write."""
        labels = self.sought if self.rest is None else (*self.sought, self.rest)
        return tuple(label.result_name for label in labels if not self.is_taken(label))

    @property
    def background(self) -> tuple[str, ...] | None:
        """None = the preset's own words, () = no background, else those words."""
        value: tuple[str, ...] | None = self.of_tag["model_background"].value
        return value

    @property
    def preset(self) -> str:
        return WHOLE_SCENE if self.background == () else OBJECTS

    @property
    def method(self) -> str | None:
        value: str | None = self.of_tag["model_method"].value
        return value

    @property
    def profile(self) -> str | None:
        value: str | None = self.of_tag["model_profile"].value
        return value

    @property
    def most_regions(self) -> int:
        return int(self.of_tag["model_max_regions"].value)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The sought labels as the model takes them."""
        return tuple(
            Label(
                label.name,
                label.words,
                also=(label.result_name,),
                templates=chosen["model_prompt"].value or (),
            )
            for label, chosen in zip(self.sought, self.of_label, strict=True)
        )

    @property
    def explicit_words(self) -> tuple[Label, ...]:
        """Everything the config itself makes us read, background words included."""
        return (*self.labels, *(Label(word) for word in self.background or ()))

    @property
    def reading(self) -> tuple[object, ...]:
        """Equal for controls whose words are encoded the same."""
        learnt = None if self.lesson is None else self.lesson.digest
        return (self.method, self.profile, self.preset, self.background, self.labels, learnt)

    def correction(self, vocabulary: Vocabulary) -> Correction | None:
        """What was learnt, for these words as the model read them."""
        if self.lesson is None:
            return None
        names = [label.result_name for label in self.sought]
        return self.lesson.correction(vocabulary, names, [one.prompts for one in self.labels])

    def each(self, name: str) -> tuple[Any, ...]:
        """The values of one option, label by label."""
        return tuple(chosen[name].value for chosen in self.of_label)

    def decision(self, base: Decision) -> Decision:
        """The preset's decision with what the config and its layers chose."""
        presence, mask = self.each("model_score_threshold"), self.each("model_mask_threshold")
        return replace(
            base,
            presence_threshold=_filled(presence, base.presence_threshold),
            mask_threshold=_filled(mask, base.mask_threshold),
            overlap=bool(self.of_tag["model_overlap"].value),
            smooth=int(self.of_tag["model_smooth"].value),
            min_piece=self.each("model_min_area"),
            largest_hole=float(self.of_tag["model_holes"].value),
            refined=bool(self.of_tag["model_refine"].value),
        )

    @property
    def _without_effect(self) -> tuple[str, ...]:
        """Options that change nothing for this kind of control."""
        if self.control.is_answer:
            return OF_MASKS
        return () if self.control.kind in RASTERS else ("model_instances",)

    def facts(self) -> Mapping[str, Any]:
        """What of this control changes stored results, as plain JSON values.

        Words count in their canonical form and in any order; the order of labels decides
        between equal words, so it counts. A background word that a label uses is dropped
        by the model, so it does not; which of the preset's are dropped follows from the
        names of the labels, so they count. Colours, hotkeys and hints are not here.
        """
        label_words = {
            canonical_word(word)
            for label in self.labels
            for word in (label.name, *label.also, *label.prompts)
        }
        background = (
            None
            if self.background is None
            else sorted({canonical_word(word) for word in self.background} - label_words)
        )
        control = self.control
        return {
            "kind": control.kind,
            "from_name": control.from_name,
            "to_name": control.to_name,
            "data_key": control.image.data_key,
            "page_key": control.image.page_key,
            "listed": control.image.listed,
            "labels_key": control.labels_key,
            "labels_name": control.labels_name,
            "several": control.several,
            "labels": [
                [
                    [*shown.path, shown.result_name],
                    canonical_word(label.name),
                    sorted({canonical_word(word) for word in label.prompts}),
                    self.is_taken(shown),
                ]
                for shown, label in zip(self.sought, self.labels, strict=True)
            ],
            "rest": (self.rest.result_name if self.rest and not self.is_taken(self.rest) else None),
            "preset": self.preset,
            "background": background,
            "of_tag": {
                name: chosen.value
                for name, chosen in self.of_tag.items()
                if name not in (*NOT_IN_FACTS, *self._without_effect)
                and chosen.value != NEW_IN_FACTS.get(name)
            },
            "of_label": [
                {
                    name: chosen.value
                    for name, chosen in one.items()
                    if name not in self._without_effect
                }
                for one in self.of_label
            ],
        }


def _is_rest(label: ConfigLabel) -> bool:
    """Names such as Background, also behind a code (`0 - Background`)."""
    return bool({canonical_word(label.name), canonical_word(cleaned(label.name))} & REST_NAMES)


def _filled(values: tuple[Any, ...], base: Any) -> Any:
    """One number per label; the preset's where nobody chose, its own form if nobody did at all."""
    if all(value is None for value in values):
        return base
    defaults = base if isinstance(base, tuple) else (base,) * len(values)
    return tuple(
        default if value is None else value for value, default in zip(values, defaults, strict=True)
    )


def _rest_to_paint(control: Control, rests: list[ConfigLabel]) -> ConfigLabel | None:
    """The label that fills the rest; on the control the switch means whichever there is."""
    whole = bool(control.options.get("model_fill"))
    if control.labels_key is not None and not control.labels:
        return None  # the task's data will say
    asking = [label for label in rests if label.options.get("model_fill") or whole]
    if len(asking) > 1:
        names = " and ".join(repr(label.name) for label in asking)
        raise ConfigError(f"{control.from_name!r}: {names} cannot both fill the rest")
    if whole and not asking:
        raise ConfigError(
            f"model_fill of {control.from_name!r} needs a label such as Background to paint"
        )
    return asking[0] if asking else None


def without_repeats(wanted: Sequence[ControlVocabulary]) -> tuple[ControlVocabulary, ...]:
    """Of several controls with the same label on the same picture only the first writes it.

    A control that has nothing left to write is left out.
    """
    owners: dict[tuple[str, str], str] = {}
    kept = []
    for one in wanted:
        control = one.control
        if not control.is_answer:
            for name in one.written:
                owners.setdefault((control.to_name, name), control.from_name)
            taken = frozenset(
                name for name in one.written if owners[control.to_name, name] != control.from_name
            )
            one = replace(one, taken=taken)
        if one.written or not one.sought:  # without any the task's data will say
            kept.append(one)
    return tuple(kept)
