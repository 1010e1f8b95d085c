"""Do a network's features know which places belong together? Two measures, both pure.

The source text of ProxyCLIP wants feature models chosen by this: places of one class should be
similar, places of two classes should not be, and the edge between them should be sharp.

Label maps hold 0 for "no class" and 255 for "unknown", everything else is a class. Places
without a class are never compared, but where they meet a class there is an edge; unknown
places count for nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

REST: Final = 0
UNKNOWN: Final = 255
MOST_PLACES: Final = 2048  # compared with each other; more are drawn by lot
THRESHOLDS: Final = 96  # of 1 - cosine, evenly spaced on a logarithmic scale
LOWEST: Final = 1e-5


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """How alike places are, over all pairs of places with a class.

    same   mean cosine of two places of one class
    other  mean cosine of two places of different classes
    auc    how often a pair of one class is more alike than a pair of two (0.5: by chance)
    """

    same: float
    other: float
    auc: float

    @property
    def separation(self) -> float:
        return self.same - self.other


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Counts per threshold, from the lowest to the highest; those of several pictures add up.

    marked      places the features call an edge
    marked_hit  of these, places within one place of a true edge
    found       true edge places within one place of a marked one
    truth       true edge places
    places      all places that count
    near        places within one place of a true edge
    """

    marked: Int[np.ndarray, " thresholds"]
    marked_hit: Int[np.ndarray, " thresholds"]
    found: Int[np.ndarray, " thresholds"]
    truth: int
    places: int
    near: int

    def __add__(self, other: "Edges") -> "Edges":
        return Edges(
            marked=self.marked + other.marked,
            marked_hit=self.marked_hit + other.marked_hit,
            found=self.found + other.found,
            truth=self.truth + other.truth,
            places=self.places + other.places,
            near=self.near + other.near,
        )

    @property
    def f(self) -> Float[np.ndarray, " thresholds"]:
        """Harmonic mean of precision and recall per threshold; 0 where nothing is hit."""
        precision = self.marked_hit / np.maximum(self.marked, 1)
        recall = self.found / max(self.truth, 1)
        return 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    @property
    def best_f(self) -> float:
        """At the one threshold that is best for the whole set."""
        return float(self.f.max(initial=0.0))

    @property
    def chance_f(self) -> float:
        """F of calling every place an edge: what a useless source reaches."""
        precision = self.near / max(self.places, 1)
        return 2 * precision / (1 + precision) if self.truth else 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A source on a set of pictures: means over the pictures that show at least two classes."""

    pictures: int
    same: float
    other: float
    auc: float
    boundary_f: float
    chance_f: float

    @property
    def separation(self) -> float:
        return self.same - self.other


def summarise(affinities: Iterable[Affinity | None], edges: Iterable[Edges]) -> Summary | None:
    """One line of the table; None where no picture shows two classes."""
    kept = [affinity for affinity in affinities if affinity is not None]
    if not kept:
        return None
    total: Edges | None = None
    for part in edges:
        total = part if total is None else total + part
    return Summary(
        pictures=len(kept),
        same=float(np.mean([affinity.same for affinity in kept])),
        other=float(np.mean([affinity.other for affinity in kept])),
        auc=float(np.mean([affinity.auc for affinity in kept])),
        boundary_f=total.best_f if total is not None else 0.0,
        chance_f=total.chance_f if total is not None else 0.0,
    )


def to_grid(
    label_map: Int[np.ndarray, "height width"], grid_hw: tuple[int, int]
) -> Int[np.ndarray, "h w"]:
    """The label most pixels of every cell have; the lower one where two have as many."""
    pixels = torch.from_numpy(np.ascontiguousarray(label_map).astype(np.int64))
    labels = torch.unique(pixels)
    most = torch.full(grid_hw, -1.0)
    chosen = torch.zeros(grid_hw, dtype=torch.int64)
    for label in labels:
        share = functional.adaptive_avg_pool2d((pixels == label).float()[None, None], grid_hw)[0, 0]
        better = share > most
        most, chosen = share.where(better, most), label.where(better, chosen)
    return chosen.numpy()


def affinity(
    features: Float[Tensor, "channels h w"], labels: Int[np.ndarray, "h w"], *, seed: int = 0
) -> Affinity | None:
    """Compare every two places that have a class; None where fewer than two classes show, or
    none of them twice.

    Of more than `MOST_PLACES` places that many are drawn by lot from `seed`.
    """
    classes = torch.from_numpy(np.ascontiguousarray(labels)).flatten()
    places = torch.nonzero((classes != REST) & (classes != UNKNOWN)).flatten()
    if len(places) > MOST_PLACES:
        generator = torch.Generator().manual_seed(seed)
        places = places[torch.randperm(len(places), generator=generator)[:MOST_PLACES]]
    vectors = _unit(features).flatten(1).T[places.to(features.device)]
    upper = torch.triu_indices(len(places), len(places), offset=1)
    cosines = (vectors @ vectors.T).cpu()[upper[0], upper[1]]
    together = classes[places][upper[0]] == classes[places][upper[1]]
    same, other = cosines[together], cosines[~together]
    if not len(same) or not len(other):
        return None
    return Affinity(
        same=float(same.double().mean()),
        other=float(other.double().mean()),
        auc=area_under_curve(same, other),
    )


def area_under_curve(above: Float[Tensor, " a"], below: Float[Tensor, " b"]) -> float:
    """How often a number of `above` is larger than one of `below`; ties count half."""
    ordered = below.sort().values
    smaller = torch.searchsorted(ordered, above, right=False)
    not_larger = torch.searchsorted(ordered, above, right=True)
    return float((smaller + not_larger).double().mean() / (2 * len(below)))


def edges(features: Float[Tensor, "channels h w"], labels: Int[np.ndarray, "h w"]) -> Edges:
    """How well edges of the features meet edges of the labels, within one place.

    A place is as much of an edge as it differs (1 - cosine) from its neighbour to the right or
    below, whichever differs more. It is a true edge where either has another label.
    """
    unit = _unit(features)
    strength = _towards_neighbours(
        1 - (unit[:, :, 1:] * unit[:, :, :-1]).sum(0), 1 - (unit[:, 1:] * unit[:, :-1]).sum(0)
    ).cpu()
    known = torch.from_numpy(np.ascontiguousarray(labels))
    unknown = known == UNKNOWN
    counts = (
        ~_towards_neighbours(unknown[:, 1:] | unknown[:, :-1], unknown[1:] | unknown[:-1])
        & ~unknown
    )
    truth = counts & _towards_neighbours(known[:, 1:] != known[:, :-1], known[1:] != known[:-1])
    near = _grown(truth) & counts

    levels = torch.logspace(np.log10(LOWEST), np.log10(2.0), THRESHOLDS)
    marked, hit, found = [], [], []
    for level in levels:
        here = (strength >= level) & counts
        marked.append(int(here.sum()))
        hit.append(int((here & near).sum()))
        found.append(int((truth & _grown(here)).sum()))
    return Edges(
        marked=np.array(marked),
        marked_hit=np.array(hit),
        found=np.array(found),
        truth=int(truth.sum()),
        places=int(counts.sum()),
        near=int(near.sum()),
    )


def _unit(features: Float[Tensor, "channels h w"]) -> Float[Tensor, "channels h w"]:
    return functional.normalize(features.float(), dim=0)


def _towards_neighbours(right: Tensor, below: Tensor) -> Tensor:
    """Per place the larger of what lies towards the right and below; the rim has fewer."""
    to_right = functional.pad(right.float(), (0, 1))
    to_below = functional.pad(below.float(), (0, 0, 0, 1))
    larger = torch.maximum(to_right, to_below)
    return larger.bool() if right.dtype == torch.bool else larger


def _grown(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """One place further in all eight directions."""
    return functional.max_pool2d(mask.float()[None], 3, stride=1, padding=1)[0].bool()
