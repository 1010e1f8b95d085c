"""One picture under one label config, as the page shows it: numbers and packed maps, no HTML.

    label_map   0 where no label is, else index of the label + 1
    layers      where masks overlap: one bit per pixel and label
    pieces      where regions are pieces: their number + 1
    claims      what every label claims, on the model's grid, for whoever points at a pixel
    doubt       how close the decision was, likewise

Maps are little-endian, packed with zlib, in base64. Large pictures are thinned out for the eye by a
whole number of pixels (`step`); what is exported is not.
"""

import base64
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cliper_model import Identity

from .. import overlay
from ..labelstudio.label_config import ConfigLabel
from ..labelstudio.options import LABEL
from ..looking import Segmented
from ..painting import Part, label_map, masks, parts, written_labels
from ..vocabulary import RASTERS
from . import claims as claimed

MOST_SHOWN = 16_000_000  # pixels of a label map that a browser gets
LEVEL = 1  # of zlib: label maps shrink a hundredfold at any
BYTES, PAIRS = 255, 65_535  # largest numbers of one byte, and of two

Colour = overlay.Colour


@dataclass(frozen=True, kw_only=True, eq=False)
class Pane:
    """A control of a label config, decided on a picture.

    found     what the model said and what became of it
    identity  of the model
    version   what predictions for this config carry
    controls  names of all controls of the config that have masks on this picture
    seconds   for all of it; `looked`: whether the picture was new to the model
    """

    found: Segmented
    identity: Identity
    version: str
    controls: tuple[str, ...]
    seconds: float
    looked: bool
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[ConfigLabel, ...]:
        """Those that the control may write, the rest last: label map and lists follow them."""
        return written_labels(self.found.one)

    @property
    def colours(self) -> list[Colour]:
        """One per label: the config's own, else one of the palette."""
        palette = overlay.colours(len(self.labels))
        own = [overlay.colour_of(label.colour) for label in self.labels]
        return [mine or given for mine, given in zip(own, palette, strict=True)]

    @property
    def names(self) -> list[str]:
        return [label.result_name for label in self.labels]

    @property
    def parts(self) -> list[Part]:
        """Its regions, as a prediction would have them."""
        return parts(self.found.painted)

    def label_map(self) -> np.ndarray:
        """At the size of the picture: what a prediction would write."""
        return label_map(self.found.painted, size_hw=self.found.size_hw)

    def to_json(self) -> dict[str, Any]:
        found, segmentation = self.found, self.found.segmentation
        height, width = segmentation.size_hw
        step = math.ceil(math.sqrt(max(1.0, height * width / MOST_SHOWN)))
        map_hw = (-(-height // step), -(-width // step))
        whole = label_map(found.painted, size_hw=segmentation.size_hw)
        counted = np.bincount(whole.ravel(), minlength=len(self.names) + 1)[1:]
        areas = dict(zip(self.names, map(int, counted), strict=True))
        regions, layers = self.parts, None
        if segmentation.layers is not None:  # what overlaps is counted for every label
            layers = np.zeros((len(self.names), *map_hw), bool)
            for label, mask in masks(found.painted, size_hw=segmentation.size_hw):
                areas[label.result_name] = int(np.count_nonzero(mask))
                layers[self.names.index(label.result_name)] = mask[::step, ::step]
        return {
            "control": found.one.control.from_name,
            "controls": list(self.controls),
            "kind": found.one.control.kind,
            "version": self.version,
            "method": self.identity.method,
            "profile": self.identity.profile,
            "preset": found.one.preset,
            "background": list(found.vocabulary.background),
            "dropped": list(found.vocabulary.dropped),
            "seconds": round(self.seconds, 4),
            "looked": self.looked,
            "size_hw": list(found.size_hw),
            "map_hw": list(map_hw),
            "step": step,
            "options": self._options(),
            "labels": self._labels(areas, Counter(part.label.result_name for part in regions)),
            "regions": len(regions),
            "refinable": found.scores.coarse is not None,
            "refined": found.decision.refined,
            "agreement": found.scores.agreement,
            "quality": found.quality,
            "warnings": list(self.warnings),
            "label_map": packed(_narrow(whole[::step, ::step], len(self.names))),
            "layers": None if layers is None else packed(_bits(layers)),
            "pieces": packed(self._pieces(regions, step)) if self._is_apart else None,
            **self._for_pointing(),
        }

    @property
    def _is_apart(self) -> bool:
        """Whether regions are pieces of what a label covers."""
        one = self.found.one
        return one.control.kind not in RASTERS or any(one.each("model_instances"))

    def _options(self) -> dict[str, dict[str, Any]]:
        """Value and source of every option of the tag; of labels with one of their own, the
        others'."""
        one = self.found.one
        chosen = {name: known for name, known in one.of_tag.items()}
        for name in one.of_label[0] if one.of_label else ():
            others = [each[name] for each in one.of_label if each[name].source != LABEL]
            if others:
                chosen[name] = others[0]
        return {
            name: {
                "value": list(known.value) if isinstance(known.value, tuple) else known.value,
                "source": known.source,
            }
            for name, known in chosen.items()
        }

    def _labels(self, areas: Mapping[str, int], counts: Mapping[str, int]) -> list[dict[str, Any]]:
        """What is known of each; of the rest, which nobody looks for, only its area."""
        found, pixels = self.found, math.prod(self.found.segmentation.size_hw)
        scores = found.segmentation.region_scores
        needed = found.decision.per_label("presence_threshold", len(found.one.sought))
        shares = found.decision.per_label("mask_threshold", len(found.one.sought))
        sought = {label.result_name: number for number, label in enumerate(found.one.sought)}
        told = []
        for label, colour in zip(self.labels, self.colours, strict=True):
            name = label.result_name
            one: dict[str, Any] = {
                "name": name,
                "shown": label.name,
                "words": list(label.words),
                "colour": list(colour),
                "area": areas[name],
                "share": round(areas[name] / pixels, 6),
                "regions": counts.get(name, 0),
                "rest": name not in sought,
            }
            if name in sought:
                number = sought[name]
                source = found.one.of_label[number]["model_score_threshold"].source
                one |= {
                    "presence": round(float(found.segmentation.presence[number]), 4),
                    "needed": round(float(needed[number]), 4),
                    "threshold_from": source,
                    "mask_threshold": round(float(shares[number]), 4),
                    "score": round(float(scores[number]), 4),
                }
            told.append(one)
        return told

    def _pieces(self, regions: Sequence[Part], step: int) -> np.ndarray:
        """Number + 1 of the region at every pixel; of overlapping ones the later."""
        height, width = self.found.segmentation.size_hw
        numbers = np.zeros((height, width), np.uint16)
        for number, part in enumerate(regions, start=1):
            numbers[part.paint()] = number
        return numbers[::step, ::step]

    def _for_pointing(self) -> Mapping[str, Any]:
        found = self.found
        told, behind = claimed.of_labels(found.scores, refined=found.decision.refined)
        unsure = claimed.doubt(told, behind, found.scores, found.decision)
        told = self._of_written(told)
        most = max(float(told.max(initial=0.0)), 1e-9)
        return {
            "grid_hw": list(told.shape[1:]),
            "most": round(most, 6),  # what 255 means in claims
            "claims": packed((np.clip(told / most, 0, 1) * BYTES).round().astype(np.uint8)),
            "doubt": packed((unsure * BYTES).round().astype(np.uint8)),
        }

    def _of_written(self, claims: np.ndarray) -> np.ndarray:
        """In the order of `labels`; the rest claims nothing."""
        places = {label.result_name: number for number, label in enumerate(self.found.one.sought)}
        ordered = np.zeros((len(self.names), *claims.shape[1:]), np.float32)
        for number, name in enumerate(self.names):
            if name in places:
                ordered[number] = claims[places[name]]
        return ordered


def packed(values: np.ndarray) -> str:
    """Bytes of an array, row by row, little-endian, shrunk by zlib, as base64."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(little.tobytes(), LEVEL)).decode()


def _narrow(label_map: np.ndarray, labels: int) -> np.ndarray:
    return label_map.astype(np.uint8 if labels <= BYTES else np.uint16)


def _bits(layers: np.ndarray) -> np.ndarray:
    """Each label's pixels row by row, eight to a byte, the first one highest."""
    return np.packbits(layers.reshape(len(layers), -1), axis=1)
