"""Decision presets: the published numbers of a family of data sets, as data files.

A user's project is none of the published data sets, so two presets stand for the two ways
people label: `objects` (some things matter, the rest is background) and `whole-scene`
(every pixel belongs to a label). Numbers differ by method and CLIP model and live in
`data/presets/*.json` for CLIPer, and in `data/methods/*.json` for the other methods.
"""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

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
    presence_knots: tuple[tuple[float, float], ...]  # strength -> presence, piecewise linear
    decision: Decision
    attention_floor: float = 0.0  # CLIPer's τ: cuts the selected layer and weak diffusion links
    select_layer: int = -1  # CLIPer only; negative: counted from the last

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


def get(name: str, clip: str, method: str = "cliper") -> Preset:
    """Preset `name` with the numbers of `method` on CLIP model `clip` ("ViT-B-16-quickgelu").

    Raises UnknownPreset.
    """
    from .prompts import templates

    if name not in NAMES:
        raise UnknownPreset(name, NAMES)
    shared = _read("presets", name)
    numbers = _numbers_of(shared, name, clip, method)
    background = numbers.get("background")
    if background is None:  # as CLIPer with this model
        background = shared["numbers"].get(clip, {}).get("background", shared["background"])
    return Preset(
        name=name,
        source=numbers["source"],
        background=tuple(background),
        templates=templates(numbers["templates"]),
        background_cosine=float(numbers["background_cosine"]),
        logit_scale=float(numbers["logit_scale"]),
        attention_floor=float(numbers.get("attention_floor", 0.0)),
        select_layer=numbers.get("select_layer", -1),
        presence_knots=tuple((float(s), float(p)) for s, p in numbers["presence_knots"]),
        decision=Decision(**numbers["decision"]),
    )


def _numbers_of(shared: dict[str, Any], name: str, clip: str, method: str) -> dict[str, Any]:
    """CLIPer's numbers per model; another method's own, where a model may differ in some."""
    if method == "cliper":
        if clip not in shared["numbers"]:
            raise UnknownPreset(f"{name} for {clip}", tuple(shared["numbers"]))
        return dict(shared["numbers"][clip])
    own = _read("methods", method)["presets"][name]
    return {**own["any"], **own.get(clip, {})}


def _read(folder: str, name: str) -> dict[str, Any]:
    path = resources.files(__package__) / "data" / folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))
