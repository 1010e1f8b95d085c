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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cliper_model import Identity

from .. import overlay
from ..looking import Segmented
from ..painting import Part, parts
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
    dropped   background words that are too close to a label
    """

    found: Segmented
    identity: Identity
    version: str
    controls: tuple[str, ...]
    seconds: float
    looked: bool
    warnings: tuple[str, ...] = ()

    @property
    def colours(self) -> list[Colour]:
        """One per label: the config's own, else one of the palette."""
        labels = self.found.one.sought
        palette = overlay.colours(len(labels))
        own = [overlay.colour_of(label.colour) for label in labels]
        return [mine or given for mine, given in zip(own, palette, strict=True)]

    @property
    def names(self) -> list[str]:
        return [label.result_name for label in self.found.one.sought]

    @property
    def parts(self) -> list[Part]:
        """Its regions, as a prediction would have them."""
        return parts(self.found.painted)

    def to_json(self) -> dict[str, Any]:
        found, segmentation = self.found, self.found.segmentation
        height, width = segmentation.size_hw
        step = math.ceil(math.sqrt(max(1.0, height * width / MOST_SHOWN)))
        label_map = segmentation.label_map[::step, ::step]
        layers = segmentation.layers
        several = any(found.one.each("model_instances"))
        regions = self.parts
        return {
            "control": found.one.control.from_name,
            "controls": list(self.controls),
            "kind": found.one.control.kind,
            "version": self.version,
            "method": self.identity.method,
            "profile": self.identity.profile,
            "preset": found.one.preset,
            "seconds": round(self.seconds, 4),
            "looked": self.looked,
            "size_hw": list(found.size_hw),
            "map_hw": list(label_map.shape),
            "step": step,
            "labels": self._labels(regions),
            "regions": len(regions),
            "rest": None if found.one.rest is None else found.one.rest.result_name,
            "refinable": found.scores.coarse is not None,
            "refined": found.decision.refined,
            "agreement": found.scores.agreement,
            "quality": found.quality,
            "warnings": list(self.warnings),
            "label_map": packed(_narrow(label_map, len(self.names))),
            "layers": None if layers is None else packed(_bits(layers[:, ::step, ::step])),
            "pieces": packed(self._pieces(regions, step)) if several else None,
            **self._for_pointing(),
        }

    def _labels(self, regions: Sequence[Part]) -> list[dict[str, Any]]:
        found = self.found
        areas, scores = found.segmentation.areas, found.segmentation.region_scores
        needed = found.decision.per_label("presence_threshold", len(self.names))
        shares = found.decision.per_label("mask_threshold", len(self.names))
        pixels = math.prod(found.segmentation.size_hw)
        counts = [0] * len(self.names)
        places = {id(label): index for index, label in enumerate(found.one.sought)}
        for part in regions:
            if id(part.label) in places:
                counts[places[id(part.label)]] += 1
        return [
            {
                "name": label.result_name,
                "shown": label.name,
                "words": list(label.words),
                "colour": list(colour),
                "presence": round(float(found.segmentation.presence[index]), 4),
                "needed": round(float(needed[index]), 4),
                "threshold_from": found.one.of_label[index]["model_score_threshold"].source,
                "mask_threshold": round(float(shares[index]), 4),
                "area": int(areas[index]),
                "share": round(float(areas[index]) / pixels, 6),
                "score": round(float(scores[index]), 4),
                "regions": counts[index],
            }
            for index, (label, colour) in enumerate(
                zip(found.one.sought, self.colours, strict=True)
            )
        ]

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
        most = max(float(told.max(initial=0.0)), 1e-9)
        unsure = claimed.doubt(told, behind, found.scores, found.decision)
        return {
            "grid_hw": list(told.shape[1:]),
            "most": round(most, 6),  # what 255 means in claims
            "claims": packed((np.clip(told / most, 0, 1) * BYTES).round().astype(np.uint8)),
            "doubt": packed((unsure * BYTES).round().astype(np.uint8)),
        }


def packed(values: np.ndarray) -> str:
    """Bytes of an array, row by row, little-endian, shrunk by zlib, as base64."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(little.tobytes(), LEVEL)).decode()


def _narrow(label_map: np.ndarray, labels: int) -> np.ndarray:
    return label_map.astype(np.uint8 if labels <= BYTES else np.uint16)


def _bits(layers: np.ndarray) -> np.ndarray:
    """Each label's pixels row by row, eight to a byte, the first one highest."""
    return np.packbits(layers.reshape(len(layers), -1), axis=1)
