"""CLIPtrase: patches that correlate form clusters, and each cluster votes for one label.

Shao, Tian, Zhao, Su: Explore the Potential of CLIP for Training-Free Open Vocabulary Semantic
Segmentation; ECCV 2024, arXiv 2407.08268. Section numbers below are those of
docs/specs/cliptrase.md.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from ..backbones.clip import Heads, TowerForm
from ..profiles import Profile
from ..segmenter import ImageState, Scores, Vocabulary
from ..shapes import Image
from ..stages import attention as attend
from ..stages import clusters, edges, resize, rows
from .frame import Method, Parts, own_state, rgb_array

REVISION = 2  # raise whenever the same inputs give other masks
PUBLISHED_SHORT_SIDES = (224, 336)  # pixels
PUBLISHED_NEIGHBOURHOODS = {224: (0.7, 3), 336: (1.1, 7)}  # side -> eps, min_samples


@dataclass(frozen=True, kw_only=True)
class CliptraseConfig:
    """What masks depend on, besides the weights.

    `published` restores what the specification lists as unsafe (§8): only the centre square
    of the picture is seen and labelled, DBSCAN's numbers are absolute, a single cluster
    paints everything with one label, and positions are left alone on any grid with as many
    patches as the table.
    """

    short_side: int = 224  # pixels of the network's input
    most_patches: int = 2500  # longer pictures are seen smaller; published: squares only
    eps: float | None = None  # DBSCAN's distance; None: by the number of patches
    min_samples: int | None = None  # None: by the number of patches
    class_token_product: bool = False  # published for VOC20: times the class token's logit (§3)
    edge_aware: str = "none"  # rule by which logits and clusters follow the picture; ours
    published: bool = False

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.most_patches < 1:
            raise ValueError("short_side and most_patches must be positive")
        if self.eps is not None and not self.eps > 0:
            raise ValueError(f"eps must be positive, got {self.eps}")
        if self.min_samples is not None and self.min_samples < 1:
            raise ValueError(f"min_samples must be at least 1, got {self.min_samples}")
        edges.check_rule(self.edge_aware, published=self.published)

    @property
    def form(self) -> TowerForm:
        return TowerForm(positions="bicubic+0.1", by_count=self.published)

    @property
    def fewest_clusters(self) -> int:
        """A vote needs two parties; published: one cluster is enough (§8 no. 3)."""
        return 1 if self.published else 2

    def neighbourhood(self, patches: int) -> tuple[float, int]:
        """eps and min_samples for a picture of so many patches (§4 step 2)."""
        eps, samples = clusters.neighbourhood(patches)
        if self.published:
            side = max(PUBLISHED_SHORT_SIDES) if self.short_side > 224 else 224
            eps, samples = PUBLISHED_NEIGHBOURHOODS[side]
        return self.eps or eps, self.min_samples or samples


@dataclass(frozen=True)
class CliptraseState(ImageState):
    """Features and clusters of one picture.

    class_feature  of the class token, L2-normalised
    patches        features of the patches, L2-normalised
    clusters       one map per cluster, enlarged and filtered; may be none
    """

    kind: ClassVar[str] = "cliptrase-1"

    class_feature: Float[Tensor, " embed"]
    patches: Float[Tensor, "patches embed"]
    clusters: Float[Tensor, "clusters h4 w4"]
    grid_hw: tuple[int, int]


class Cliptrase(Method):
    """The method on one set of weights. Immutable; share it between threads."""

    synonyms_published = False
    whole_because = "clusters of patches vote for labels, and those of two tiles are not the same"

    config: CliptraseConfig

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image) -> CliptraseState:
        """Features of the last block, clusters of the one before (§2, §4 steps 1 to 4).

        As published the state is that of the centre square, and so are masks.
        """
        image = rgb_array(image)
        if self.config.published:
            image = centre_square(image, side=self.config.short_side)
        tokens, correlation, grid_hw = self.look(self.pixels(image))
        shared = clusters.denoised(correlation)
        eps, samples = self.config.neighbourhood(len(shared))
        numbers = clusters.group(shared, eps=eps, min_samples=samples)
        means = clusters.cluster_means(shared, numbers, grid_hw=grid_hw)
        return CliptraseState(
            size_hw=(image.shape[0], image.shape[1]),
            guide=edges.guide_of(image, rule=self.config.edge_aware),
            class_feature=tokens[0],
            patches=tokens[1:],
            clusters=torch.from_numpy(clusters.enlarge_and_filter(means)),
            grid_hw=grid_hw,
        )

    def pixels(self, image: Image) -> Float[Tensor, "1 3 input_h input_w"]:
        """Whole patches of the whole picture, no more than is affordable."""
        if self.config.published:
            return resize.normalise(image)
        picture, short_side = resize.affordable(
            image,
            short_side=self.config.short_side,
            patch=self.clip.patch,
            most_patches=self.config.most_patches,
        )
        return resize.to_whole_patches(picture, short_side=short_side, patch=self.clip.patch)[0]

    def look(
        self, pixels: Float[Tensor, "1 3 input_h input_w"]
    ) -> tuple[Float[Tensor, "n embed"], Float[Tensor, "n n"], tuple[int, int]]:
        """Normalised features, the correlation map, and the grid (§2).

        The map is that of the last block but one, the features are those of the last, as
        published for a tower of twelve blocks.
        """
        clip, form = self.clip, self.config.form
        tokens, grid_hw = clip.enter(pixels, form)
        tokens = clip.run(tokens, 0, -2, form)
        seen = clip.heads(-2, tokens, form)
        tokens = clip.run(tokens, -2, -1, form)
        mixed = summed_attention(clip.heads(-1, tokens, form))
        tokens = tokens + clip.attention_output(-1, mixed)
        tokens = tokens + clip.mlp(-1, tokens, form)
        features = functional.normalize(clip.embed(tokens, form), dim=-1)
        correlation = clusters.correlation(seen.queries, seen.keys, seen.values)
        return features, correlation, grid_hw

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Logits per word and the clusters that will vote (§3, §4 steps 5 and 6)."""
        state = own_state(state, CliptraseState)
        preset = self._presets(vocabulary.preset)
        owners = rows.row_owners(vocabulary)
        kept = list(range(len(owners))) if self.published else rows.distinct(vocabulary)
        maps, scale = self.logits(state, vocabulary.rows[kept], scale=preset.logit_scale)
        vote = len(state.clusters) >= self.config.fewest_clusters
        scores = rows.row_scores(
            maps,
            vocabulary,
            owners=tuple(owners[index] for index in kept),
            scale=scale,
            presence_scale=self.presence_scale(preset.logit_scale),
            size_hw=state.size_hw,
            presence=preset.presence,
            clusters=state.clusters.cpu().numpy() if vote else None,
        )
        return edges.sharpen(scores, state.guide, rule=self.config.edge_aware)

    def presence_scale(self, own: float) -> float:
        """Of the probabilities that tell how likely a label is somewhere in the picture.

        A product of two logits is far too large for a softmax; one of the two scales is taken
        back. Labels are decided by the product as it is.
        """
        return 1 / own if self.config.class_token_product else own

    def logits(
        self, state: CliptraseState, text: Float[Tensor, "rows embed"], *, scale: float
    ) -> tuple[Float[Tensor, "rows h w"], float]:
        """Values per row on the patch grid, and what they are still to be multiplied with (§3).

        `scale` is CLIP's own, 100. With the product of VOC20 both logits are scaled already.
        """
        maps = rows.cosines(state.patches, text).T.reshape(-1, *state.grid_hw)
        if not self.config.class_token_product:
            return maps, scale
        whole = scale * rows.cosines(state.class_feature, text)
        return scale * maps * whole[:, None, None], 1.0


def summed_attention(heads: Heads) -> Float[Tensor, "heads n d"]:
    """Values mixed by q-q, k-k and v-v attention together: a sum, so rows add up to 3 (§2)."""
    values = heads.values.float()
    mixed = torch.zeros_like(values)
    for part in (heads.queries.float(), heads.keys.float(), values):
        mixed += attend.self_similarity(part, part) @ values
    return mixed.to(heads.values.dtype)


def centre_square(image: Image, *, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Short side to `side` px (antialiased bicubic on 8-bit data), then the centre square (§1).

    The published scores are measured on such squares of picture and annotation alike.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    size_wh = (width * side // short, height * side // short)
    resized = PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in size_wh)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def config_of(profile: Profile, *, published: bool = False) -> CliptraseConfig:
    """The profile's size; published: 336 px, or 224 px for a smaller profile."""
    short_side = profile.short_side
    if published:
        fitting = [side for side in PUBLISHED_SHORT_SIDES if side <= short_side]
        short_side = max(fitting, default=min(PUBLISHED_SHORT_SIDES))
    return CliptraseConfig(
        short_side=short_side,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def build(parts: Parts) -> Cliptrase:
    """CLIPtrase on the profile's CLIP."""
    return Cliptrase(
        parts.clip(),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
