"""Places of a picture in CLIP's joint space: what corrections are learnt from and applied to.

Ours, no paper's: a linear correction of word logits, the same for every layer of a place.
"""

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ..segmenter import Vocabulary
from .classify import fold_synonyms
from .resize import resize_maps

COMMON: Final = 0.5  # share of a picture's mean that is taken away; chosen on drawn scenes
SIGNALS: Final = ("margin", "sureness", "named", "agreement")
"""What tells how good the masks of a picture are; see `signals`."""


def mean_of_layers(
    patches: Float[Tensor, "layers patches embed"],
) -> Float[Tensor, "patches embed"]:
    """Unit-length features averaged over layers: logits are linear in them."""
    return functional.normalize(patches, dim=-1).mean(dim=0)


def standing_out(
    cells: Float[Tensor, "places embed"], common: Float[Tensor, " embed"] | None = None
) -> Float[Tensor, "places embed"]:
    """Features with less of what a whole picture has in common, such as its light.

    Corrections are learnt and applied on these, so that they carry over to pictures in another
    light; words are compared with features as they are. `common`: mean of the whole picture, where
    these are only some of its places.
    """
    mean = cells.mean(dim=0) if common is None else common.to(cells.device)
    return cells - COMMON * mean


def trust_words(
    logits: Float[Tensor, "*places rows"], word_bias: Float[Tensor, " words"]
) -> Float[Tensor, "*places rows"]:
    """Words that are often wrong say less; the mean row, which is last, is no word."""
    less = torch.zeros(logits.shape[-1], device=logits.device)
    less[: len(word_bias)] = word_bias.to(logits.device)
    return logits + less


def corrected(
    logits: Float[Tensor, "*places channels"],
    bonus: Float[Tensor, "*places outcomes"],
    taught: Bool[Tensor, " outcomes"],
    *,
    others: Float[Tensor, " outcomes"],
) -> Float[Tensor, "*places channels"]:
    """Logits with what was learnt: channels of taught outcomes share anew what they have together.

    The first channels are the labels; whatever follows stands for the last outcome. `others` is
    added to those of which nothing is known.
    """
    labels, channels = bonus.shape[-1] - 1, logits.shape[-1]
    owner = torch.arange(channels, device=logits.device).clamp(max=labels)
    shares = taught.to(logits.device)[owner]
    if not bool(shares.any()):
        return logits
    moved = logits + bonus[..., owner]
    excess = _together(moved, shares) - _together(logits, shares)
    return torch.where(shares, moved - excess, logits + others.to(logits.device)[owner])


def _together(
    logits: Float[Tensor, "*places channels"], shares: Bool[Tensor, " channels"]
) -> Float[Tensor, "*places 1"]:
    return torch.logsumexp(logits[..., shares], dim=-1, keepdim=True)


def outcome_logits(
    row_logits: Float[Tensor, "places rows"],
    vocabulary: Vocabulary,
    *,
    word_bias: Float[Tensor, " words"] | None = None,
) -> Float[Tensor, "places outcomes"]:
    """Logits of every label, and last of "none of these": all other rows together.

    Without any other row the last is minus infinity.
    """
    classes = len(vocabulary.labels)
    if word_bias is not None:
        row_logits = trust_words(row_logits, word_bias)
    folded = fold_synonyms(row_logits[None], row_class=vocabulary.row_class, classes=classes)[0]
    none = torch.logsumexp(folded[:, classes:], dim=-1, keepdim=True)
    return torch.cat([folded[:, :classes], none], dim=-1)


def agreement(
    rough: Float[Tensor, "classes h w"], refined: Float[Tensor, "classes h2 w2"]
) -> Float[Tensor, ""]:
    """Share of places where refinement leaves the strongest label as it was."""
    size_hw = (refined.shape[-2], refined.shape[-1])
    before = resize_maps(rough, size_hw=size_hw).argmax(dim=0)
    return (before == refined.argmax(dim=0).to(before.device)).float().mean()


def signals(
    probabilities: Float[Tensor, "places outcomes"], agreement: float | None
) -> tuple[float, float, float, float]:
    """How sure a picture's places are, each in [0, 1], in the order of `SIGNALS`.

    margin     mean lead of the likeliest outcome over the next
    sureness   mean probability of the outcome, over the places that a label wins; of all places
               where none wins
    named      mean over the labels that win anywhere of their highest probability
    agreement  as given; 1 where nothing was refined
    """
    two = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1)
    best, winner = two.values[:, 0], two.indices[:, 0]
    next_best = two.values[:, 1] if two.values.shape[-1] > 1 else torch.zeros_like(best)
    labels = probabilities.shape[-1] - 1
    won = winner < labels
    sure = best[won].mean() if bool(won.any()) else best.mean()
    present = torch.unique(winner[won])
    named = probabilities[:, present].amax(dim=0).mean() if len(present) else best.mean()
    return (
        float((best - next_best).mean()),
        float(sure),
        float(named),
        1.0 if agreement is None else agreement,
    )
