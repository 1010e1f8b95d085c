"""Decision presets: the published numbers of a family of data sets, as data files.

A user's project is none of the published data sets, so two presets stand for the two ways
people label: `objects` (some things matter, the rest is background) and `whole-scene`
(every pixel belongs to a label). Numbers differ by CLIP model and live in
`data/presets/*.json`.
"""

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Float

from .errors import UnknownPreset
from .segmenter import Decision

NAMES = ("objects", "whole-scene")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What one preset means for one CLIP model (specification §11 for the published ones)."""

    name: str
    source: str  # data set and encoder the numbers were published or chosen for
    background: tuple[str, ...]  # words that stand for everything unlabelled
    templates: tuple[str, ...]
    background_cosine: float  # background words closer than this to a label are dropped
    logit_scale: float
    attention_floor: float  # τ: cuts the selected layer and weak diffusion links
    select_layer: int  # negative: counted from the last
    presence_knots: tuple[tuple[float, float], ...]  # strength -> presence, piecewise linear
    decision: Decision

    def __post_init__(self) -> None:
        if self.select_layer >= 0:
            raise ValueError(f"select_layer must be negative, got {self.select_layer}")
        strengths = [strength for strength, _ in self.presence_knots]
        values = [value for _, value in self.presence_knots]
        if strengths != sorted(set(strengths)) or values != sorted(values):
            raise ValueError(f"presence_knots must rise, got {self.presence_knots}")

    def presence(self, strength: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
        """Monotone map of the published per-class score to [0, 1]; 0.5 is the score threshold."""
        strengths, values = zip(*self.presence_knots, strict=True)
        return np.interp(strength, strengths, values).astype(np.float32)


def get(name: str, clip: str) -> Preset:
    """Preset `name` with the numbers of CLIP model `clip`, such as "ViT-B-16-quickgelu".

    Raises UnknownPreset.
    """
    from .prompts import templates

    if name not in NAMES:
        raise UnknownPreset(name, NAMES)
    text = (resources.files(__package__) / "data" / "presets" / f"{name}.json").read_text("utf-8")
    content = json.loads(text)
    numbers = content["numbers"].get(clip)
    if numbers is None:
        raise UnknownPreset(f"{name} for {clip}", tuple(content["numbers"]))
    return Preset(
        name=name,
        source=numbers["source"],
        background=tuple(numbers.get("background", content["background"])),
        templates=templates(numbers["templates"]),
        background_cosine=float(numbers["background_cosine"]),
        logit_scale=float(numbers["logit_scale"]),
        attention_floor=float(numbers["attention_floor"]),
        select_layer=numbers["select_layer"],
        presence_knots=tuple((float(s), float(p)) for s, p in numbers["presence_knots"]),
        decision=Decision(**numbers["decision"]),
    )
