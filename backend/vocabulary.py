"""What one control of a label config asks of the model, and which of it marks the version."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cliper_model.errors import EmptyVocabulary
from cliper_model.segmenter import Decision, Label, canonical_word

from .errors import ConfigError
from .labelstudio.label_config import ConfigLabel, Control

OBJECTS, WHOLE_SCENE = "objects", "whole-scene"


@dataclass(frozen=True, kw_only=True)
class ControlVocabulary:
    """The words and numbers of one control.

    `sought` are the labels to look for and `labels` the same as the model takes them.
    `rest` is the label to paint on everything unclaimed, if one asks for it.
    `background` None = the preset's words. Thresholds None = the preset's numbers.
    """

    control: Control
    sought: tuple[ConfigLabel, ...]
    rest: ConfigLabel | None
    preset: str
    background: tuple[str, ...] | None
    presence_threshold: float | None
    mask_threshold: float | None

    @classmethod
    def of(cls, control: Control, *, score_threshold: float | None) -> "ControlVocabulary":
        """`score_threshold` serves controls that name none. Raises ConfigError."""
        rests = [label for label in control.labels if _as_label(label).is_rest]
        sought = tuple(label for label in control.labels if label not in rests)
        if not sought:
            raise ConfigError(f"{control.from_name!r}: {EmptyVocabulary()}")
        for label in sought:
            if label.fill:
                raise ConfigError(
                    f"model_fill is for labels such as Background, not for {label.name!r}"
                )
        return cls(
            control=control,
            sought=sought,
            rest=_rest_to_paint(control, rests),
            preset=WHOLE_SCENE if control.background == () else OBJECTS,
            background=control.background,
            presence_threshold=(
                score_threshold if control.score_threshold is None else control.score_threshold
            ),
            mask_threshold=control.mask_threshold,
        )

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(_as_label(label) for label in self.sought)

    @property
    def explicit_words(self) -> tuple[Label, ...]:
        """Everything the config itself makes us read, background words included."""
        return (*self.labels, *(Label(word) for word in self.background or ()))

    @property
    def reading(self) -> tuple[object, ...]:
        """Equal for controls whose words are encoded the same."""
        return (self.preset, self.background, self.labels)

    def decision(self, base: Decision) -> Decision:
        """The preset's decision with the thresholds the config chose."""
        if self.presence_threshold is not None:
            base = replace(base, presence_threshold=self.presence_threshold)
        if self.mask_threshold is not None:
            base = replace(base, mask_threshold=self.mask_threshold)
        return base

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
        return {
            "kind": self.control.kind,
            "from_name": self.control.from_name,
            "to_name": self.control.to_name,
            "data_key": self.control.data_key,
            "labels": [
                [
                    shown.result_name,
                    canonical_word(label.name),
                    sorted({canonical_word(word) for word in label.prompts}),
                ]
                for shown, label in zip(self.sought, self.labels, strict=True)
            ],
            "rest": self.rest.result_name if self.rest else None,
            "preset": self.preset,
            "background": background,
            "presence_threshold": self.presence_threshold,
            "mask_threshold": self.mask_threshold,
        }


def _as_label(label: ConfigLabel) -> Label:
    return Label(label.name, label.words, also=(label.result_name,))


def _rest_to_paint(control: Control, rests: list[ConfigLabel]) -> ConfigLabel | None:
    """The label that fills the rest; on the control the switch means whichever there is."""
    asking = [label for label in rests if label.fill or control.fill]
    if len(asking) > 1:
        names = " and ".join(repr(label.name) for label in asking)
        raise ConfigError(f"{control.from_name!r}: {names} cannot both fill the rest")
    if control.fill and not asking:
        raise ConfigError(
            f"model_fill of {control.from_name!r} needs a label such as Background to paint"
        )
    return asking[0] if asking else None
