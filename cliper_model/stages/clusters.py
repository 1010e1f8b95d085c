"""CLIPtrase: patches that correlate form clusters, and a cluster votes for one label.

The vote itself is part of `decide`. Source: specification cliptrase §2 and §4.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

EPS_PER_ROOT = 0.05  # distance per square root of the number of patches: 0.7 at 14 x 14
PATCHES_PER_SAMPLE = 64  # 3 samples at 14 x 14 patches, 7 at 21 x 21, as published
FEWEST_SAMPLES = 3
ENLARGED = 4  # cluster maps are this much finer than the patches before they are filtered
FILTER_SIDE = 7  # of the median filter, in cells of the enlarged map


def correlation(
    queries: Float[Tensor, "heads n d"],
    keys: Float[Tensor, "heads n d"],
    values: Float[Tensor, "heads n d"],
) -> Float[Tensor, "n n"]:
    """Mean over heads, and over queries, keys and values, of the cosine between tokens.

    From -1 to 1, the diagonal is 1. Source: §2, `R`.
    """
    parts = [functional.normalize(part.float(), dim=-1) for part in (queries, keys, values)]
    unit = torch.cat(parts).transpose(0, 1).flatten(1)  # one long row per token: heads side by side
    return unit @ unit.T / (3 * len(queries))


def denoised(correlation: Float[Tensor, "n n"]) -> Float[Tensor, "patches patches"]:
    """What two patches share beyond what the class token shares with every patch.

    The class token's row is subtracted from each patch's row and the rest cut at 0.
    Source: §4 step 1, `D`.
    """
    return (correlation[1:, 1:] - correlation[:1, 1:]).clamp_min(0)


def neighbourhood(patches: int) -> tuple[float, int]:
    """Distance and number of samples for DBSCAN on any number of patches.

    Rows of the denoised correlation have one entry per patch, so distances grow with the
    square root of their number: 0.05 √N is the published 0.7 at 224 px and 1.05 (published
    1.1) at 336 px; N / 64 samples, at least 3, are the published 3 and 7. Source: §8 no. 3.
    """
    samples = max(FEWEST_SAMPLES, math.floor(patches / PATCHES_PER_SAMPLE + 0.5))
    return EPS_PER_ROOT * math.sqrt(patches), samples


def group(
    rows: Float[Tensor, "patches patches"], *, eps: float, min_samples: int
) -> Int[np.ndarray, " patches"]:
    """DBSCAN on the rows: cluster number of every patch, -1 for noise.

    `eps` is a Euclidean distance between rows; a patch counts itself among `min_samples`.
    """
    from sklearn.cluster import DBSCAN

    found = DBSCAN(eps=eps, min_samples=min_samples).fit(rows.detach().cpu().numpy())
    return np.asarray(found.labels_, np.int64)


def cluster_means(
    rows: Float[Tensor, "patches patches"],
    numbers: Int[np.ndarray, " patches"],
    *,
    grid_hw: tuple[int, int],
) -> Float[Tensor, "clusters h w"]:
    """Per cluster the mean of its patches' rows, laid out on the patch grid; noise has none."""
    where = torch.from_numpy(numbers).to(rows.device)
    means = [rows[where == number].mean(dim=0) for number in range(int(numbers.max()) + 1)]
    return torch.stack(means).view(-1, *grid_hw) if means else rows.new_zeros(0, *grid_hw)


def enlarge_and_filter(
    means: Float[Tensor, "clusters h w"],
) -> Float[np.ndarray, "clusters h4 w4"]:
    """Four times finer (bilinear), then a 7 x 7 median whose border repeats the edge.

    The border matters: zeros outside would change 3 % of the pixels. Source: §4 step 4.
    """
    from scipy.ndimage import median_filter

    if not len(means):
        return np.zeros((0, ENLARGED * means.shape[1], ENLARGED * means.shape[2]), np.float32)
    fine = functional.interpolate(
        means[None].float(), scale_factor=ENLARGED, mode="bilinear", align_corners=False
    )[0]
    maps = [median_filter(one, size=FILTER_SIDE, mode="reflect") for one in fine.cpu().numpy()]
    return np.stack(maps).astype(np.float32)
