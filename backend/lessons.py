"""What was learnt from corrections, as the predictor uses it: plain values, read-only.

`learning` makes them; here they are applied to the words of a label config. Everything goes by
the names that results have, so a label that is renamed on screen, gets other words, or stands in
another order keeps what was learnt, and one that is new starts as the model knows it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float

from cliper_model import Identity, Vocabulary
from cliper_model.segmenter import Correction, canonical_word

from .storage.base import Scope

BEHIND = ""  # in place of a label's name: background words


def model_of(identity: Identity, preset: str) -> str:
    """Digest of the model and preset that logits belong to."""
    facts = [
        identity.method,
        identity.revision,
        identity.profile,
        dict(identity.weights),
        dict(identity.settings),
        preset,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What was learnt for one control.

    model       whose logits these are, see `model_of`
    labels      result names of labels that were seen, in the order of `weights` and `bias`
    rest        whether places without any label were seen
    others      what is added to the logits of labels that were asked for and never painted
    weights     `[labels + 1, embed]`, last what speaks for no label; empty: masks as before
    bias        `[labels + 1]`
    words       label -> word -> what its logit loses; `BEHIND` for background words
    thresholds  label -> presence it needs
    quality     of the signals of `cliper_model.stages.places.SIGNALS`, and last a constant: their
                logistic is the expected quality; empty: not known
    """

    model: str
    labels: tuple[str, ...] = ()
    rest: bool = True
    others: Mapping[str, float] = field(default_factory=dict)
    weights: Float[np.ndarray, "outcomes embed"] = field(
        default_factory=lambda: np.zeros((0, 0), np.float16)
    )
    bias: Float[np.ndarray, " outcomes"] = field(default_factory=lambda: np.zeros(0, np.float16))
    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    quality: tuple[float, ...] = ()

    def to_json(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "labels": list(self.labels),
            "rest": self.rest,
            "others": dict(self.others),
            "embed": self.weights.shape[1],
            "weights": _to_text(self.weights),
            "bias": _to_text(self.bias),
            "words": {label: dict(words) for label, words in self.words.items()},
            "thresholds": dict(self.thresholds),
            "quality": list(self.quality),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        bias = _from_text(told["bias"])
        return cls(
            model=told["model"],
            labels=tuple(told["labels"]),
            rest=told["rest"],
            others=told["others"],
            weights=_from_text(told["weights"]).reshape(len(bias), told["embed"]),
            bias=bias,
            words=told["words"],
            thresholds=told["thresholds"],
            quality=tuple(told["quality"]),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change with it."""
        return not (len(self.bias) or self.words or self.thresholds or self.quality)

    @cached_property
    def digest(self) -> str:
        """Of everything in it; equal lessons give equal ones."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def correction(
        self, vocabulary: Vocabulary, result_names: Sequence[str], words: Sequence[Sequence[str]]
    ) -> Correction | None:
        """For these words; None where nothing of it is about them.

        `result_names` and `words` go with the labels of the vocabulary, in their order.
        """
        if not len(self.bias) and not self.words:
            return None
        embed = vocabulary.rows.shape[1]
        weights = np.zeros((len(result_names) + 1, embed), np.float32)
        bias = np.zeros(len(result_names) + 1, np.float32)
        taught = np.zeros(len(result_names) + 1, bool)
        places = {name: number for number, name in enumerate(self.labels)}
        if len(self.bias):
            for number, name in enumerate(result_names):
                if name in places:
                    weights[number] = self.weights[places[name]]
                    bias[number] = self.bias[places[name]]
                    taught[number] = True
            weights[-1], bias[-1], taught[-1] = self.weights[-1], self.bias[-1], self.rest
        behind = self.words.get(BEHIND, {})
        lost = [
            self.words.get(name, {}).get(canonical_word(word), 0.0)
            for name, own in zip(result_names, words, strict=True)
            for word in own
        ] + [behind.get(canonical_word(word), 0.0) for word in vocabulary.background]
        return Correction(
            weights=torch.from_numpy(weights),
            bias=torch.from_numpy(bias),
            taught=torch.from_numpy(taught),
            word_bias=torch.tensor(lost, dtype=torch.float32),
            others=torch.tensor(
                [*(self.others.get(name, 0.0) for name in result_names), 0.0], dtype=torch.float32
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One version of what was learnt in a project: a lesson per control (`from_name`)."""

    lessons: Mapping[str, Lesson]

    def to_json(self) -> Mapping[str, Any]:
        return {name: lesson.to_json() for name, lesson in sorted(self.lessons.items())}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        return cls(lessons={name: Lesson.from_json(one) for name, one in told.items()})

    @property
    def digest(self) -> str:
        """Names the version; equal ones have equal names."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Teaching(Protocol):
    """Who knows what is switched on, project by project."""

    def of(self, scope: Scope) -> Learned | None:
        """What predictions of this project are to use now; for any thread, and quick."""
        ...


class NothingLearnt:
    """Implements Teaching where nobody corrects anything."""

    def of(self, scope: Scope) -> Learned | None:
        return None


def expected_quality(signals: Sequence[float], weights: Sequence[float]) -> float:
    """From 0 to 1; `weights` as `Lesson.quality` has them."""
    told = sum(signal * weight for signal, weight in zip(signals, weights[:-1], strict=True))
    return float(1.0 / (1.0 + np.exp(-(told + weights[-1]))))


def _to_text(values: Float[np.ndarray, "..."]) -> str:
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def _from_text(text: str) -> Float[np.ndarray, " values"]:
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float16)
