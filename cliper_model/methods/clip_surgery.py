"""CLIP Surgery: consistent self-attention on a second path, and maps without what all share.

Li, Wang, Duan, Zhang, Li: A closer look at the explainability of Contrastive language-image
pre-training; Pattern Recognition 162, 2025, arXiv 2304.05653. Section numbers below are those
of docs/specs/clip_surgery.md.

Masks follow the authors' advice: arg-max of the architecture part alone. The feature part
(redundancy removal) is for maps that are read one at a time, `similarity_maps`, and for the
point prompts drawn from them, `points`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor

from ..backbones.clip import ClipBackbone, TowerForm
from ..errors import WeightsMismatch
from ..profiles import Profile
from ..segmenter import Identity, ImageState, Scores, Vocabulary
from ..shapes import Image
from ..stages import edges, resize, rows, surgery
from ..stages.decide import likeliest_rows
from .frame import Method, Parts, Presets, WordCheck, own_state, rgb_array

REVISION = 2  # raise whenever the same inputs give other masks
PUBLISHED_SIDE = 512  # pixels of the high-resolution demo; 224 otherwise
REDUNDANCIES = ("auto", "label set", "empty name")

FORM = TowerForm(positions="bilinear")


@dataclass(frozen=True, kw_only=True)
class ClipSurgeryConfig:
    """What masks depend on, besides the weights.

    `published` restores what the specification lists as unsafe (§7): the picture is stretched
    to a square, a map without contrast becomes NaN, and fewer than `blocks` blocks are refused.
    """

    short_side: int = 336  # pixels of the network's input; published: both sides
    blocks: int = 6  # last blocks that feed the new path; 1 is the authors' small version
    most_patches: int = 2500  # longer pictures are seen smaller; published: squares only
    edge_aware: str = "none"  # rule by which row logits follow edges of the picture; ours
    published: bool = False

    def __post_init__(self) -> None:
        if min(self.short_side, self.blocks, self.most_patches) < 1:
            raise ValueError("short_side, blocks and most_patches must be positive")
        edges.check_rule(self.edge_aware, published=self.published)

    @property
    def epsilon(self) -> float:
        """Keeps a map without contrast from becoming NaN; the published code has none."""
        return 0.0 if self.published else surgery.EPSILON

    def changed_blocks(self, layers: int) -> int:
        """How many of the last blocks feed the new path in a tower of `layers` blocks.

        A tower with fewer than `blocks` keeps its first block ordinary, if it has two; as
        published it is refused. Raises WeightsMismatch.
        """
        if layers >= self.blocks:
            return self.blocks
        if self.published:
            raise WeightsMismatch(
                f"choose a larger CLIP model or leave `published` off: CLIP Surgery as published "
                f"changes {self.blocks} blocks, and this tower has {layers}"
            )
        return max(1, layers - 1)


@dataclass(frozen=True)
class ClipSurgeryState(ImageState):
    """Features of the class token (first) and the patches, not normalised."""

    kind: ClassVar[str] = "clip-surgery-1"

    features: Float[Tensor, "n embed"]
    grid_hw: tuple[int, int]


class ClipSurgery(Method):
    """The method on one set of weights. Immutable; share it between threads."""

    synonyms_published = False
    config: ClipSurgeryConfig

    def __init__(
        self,
        clip: ClipBackbone,
        config: ClipSurgeryConfig,
        *,
        presets: Presets,
        identity: Identity,
        check_words: WordCheck | None = None,
    ) -> None:
        """Raises WeightsMismatch for a tower with too few blocks, as published."""
        super().__init__(clip, config, presets=presets, identity=identity, check_words=check_words)
        config.changed_blocks(clip.layers)  # refuses at once what it would refuse later

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image) -> ClipSurgeryState:
        """Patches of the new path, class token of the original one (§1)."""
        image = rgb_array(image)
        new, original, grid_hw = self.paths(self.pixels(image))
        tokens = torch.cat([original[:1], new[1:]])
        return ClipSurgeryState(
            size_hw=(image.shape[0], image.shape[1]),
            guide=edges.guide_of(image, rule=self.config.edge_aware),
            features=self.clip.embed(tokens, FORM),
            grid_hw=grid_hw,
        )

    def pixels(self, image: Image) -> Float[Tensor, "1 3 input_h input_w"]:
        """Whole patches, ratio kept up to that rounding; published: a square (§1)."""
        config, patch = self.config, self.clip.patch
        if config.published:
            side = (config.short_side, config.short_side)
            stretched = PilImage.fromarray(image).resize(side, PilImage.Resampling.BICUBIC)
            return resize.normalise(np.asarray(stretched))
        picture, short_side = resize.affordable(
            image,
            short_side=config.short_side,
            patch=patch,
            most_patches=config.most_patches,
        )
        return resize.to_whole_patches(picture, short_side=short_side, patch=patch)[0]

    def paths(
        self, pixels: Float[Tensor, "1 3 input_h input_w"]
    ) -> tuple[Float[Tensor, "n channels"], Float[Tensor, "n channels"], tuple[int, int]]:
        """Tokens of the new and of the original path, and the grid (§1).

        The new path collects consistent attention of the last blocks. It reads the original
        path, has no MLP, and never feeds back.
        """
        clip = self.clip
        first = clip.layers - self.config.changed_blocks(clip.layers)
        original, grid_hw = clip.enter(pixels, FORM)
        original = clip.run(original, 0, first, FORM)
        new = original
        for block in range(first, clip.layers):
            values = clip.heads(block, original, FORM).values
            new = new + clip.attention_output(block, surgery.consistent_attention(values))
            original = clip.run(original, block, block + 1, FORM)
        return new, original, grid_hw

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Cosines of the architecture part; nothing is subtracted (§3)."""
        state = own_state(state, ClipSurgeryState)
        preset = self._presets(vocabulary.preset)
        kept, owners = self._rows(vocabulary)
        cosines = rows.cosines(state.features[1:], vocabulary.rows[kept])
        scores = rows.row_scores(
            cosines.T.reshape(-1, *state.grid_hw),
            vocabulary,
            owners=owners,
            scale=preset.logit_scale,
            size_hw=state.size_hw,
            presence=preset.presence,
        )
        return edges.sharpen(scores, state.guide, rule=self.config.edge_aware)

    def _rows(self, vocabulary: Vocabulary) -> tuple[list[int], tuple[int, ...]]:
        owners = rows.row_owners(vocabulary)
        kept = list(range(len(owners))) if self.published else rows.distinct(vocabulary)
        return kept, tuple(owners[index] for index in kept)

    # -- maps and points, one label at a time -------------------------------------------

    def similarity(
        self, state: ImageState, vocabulary: Vocabulary, *, redundancy: str = "auto"
    ) -> Float[Tensor, "n rows"]:
        """What every token says about every text row, without what it says about all (§3).

        redundancy  "label set": class-token weights, minus the mean over all rows;
                    "empty name": the row of an empty name is taken off every row;
                    "auto": the label set where there is more than one label or background word
        """
        state = own_state(state, ClipSurgeryState)
        if redundancy not in REDUNDANCIES:
            raise ValueError(f"redundancy must be one of {', '.join(REDUNDANCIES)}: {redundancy!r}")
        kept, _ = self._rows(vocabulary)
        text = vocabulary.rows[kept].to(state.features.device)
        alone = not vocabulary.background and len(vocabulary.labels) == 1
        if redundancy == "empty name" or (redundancy == "auto" and alone):
            nameless = self.nameless_row(vocabulary.preset).to(text.device)
            return surgery.remove_given_redundancy(state.features, text, nameless)
        cosines = rows.cosines(state.features, text)
        return surgery.remove_redundancy(cosines, surgery.class_token_weights(cosines[0]))

    def nameless_row(self, preset: str) -> Float[Tensor, " embed"]:
        """Text row of an empty name: what the templates say without one (§2)."""
        return self.clip.encode_words([""], self._presets(preset).templates)[0]

    def label_maps(
        self, state: ImageState, vocabulary: Vocabulary, *, redundancy: str = "auto"
    ) -> Float[Tensor, "classes h w"]:
        """`similarity` of every label's likeliest word on the patch grid."""
        state = own_state(state, ClipSurgeryState)
        _, owners = self._rows(vocabulary)
        by_row = self.similarity(state, vocabulary, redundancy=redundancy)[1:].T
        by_label, _ = likeliest_rows(
            by_row.cpu().numpy(), row_class=owners, classes=len(vocabulary.labels)
        )
        return torch.from_numpy(np.ascontiguousarray(by_label)).view(-1, *state.grid_hw)

    def similarity_maps(
        self,
        state: ImageState,
        vocabulary: Vocabulary,
        *,
        redundancy: str = "auto",
        size_hw: tuple[int, int] | None = None,
    ) -> Float[np.ndarray, "classes height width"]:
        """One map per label from 0 to 1, stretched on its own, bilinear to the image (§4).

        `size_hw` asks for another size than the image's; many labels at full size take
        4 bytes per label and pixel.
        """
        state = own_state(state, ClipSurgeryState)
        maps = self.label_maps(state, vocabulary, redundancy=redundancy)
        stretched = surgery.stretch(maps, epsilon=self.config.epsilon)
        enlarged = resize.resize_maps(stretched, size_hw=size_hw or state.size_hw)
        return np.asarray(enlarged.numpy(), np.float32)

    def points(
        self,
        state: ImageState,
        vocabulary: Vocabulary,
        *,
        threshold: float = surgery.THRESHOLD,
        redundancy: str = "auto",
    ) -> tuple[surgery.Points, ...]:
        """Point prompts per label, in pixels of the image (§4)."""
        state = own_state(state, ClipSurgeryState)
        return tuple(
            surgery.points(
                one, size_hw=state.size_hw, threshold=threshold, epsilon=self.config.epsilon
            )
            for one in self.label_maps(state, vocabulary, redundancy=redundancy)
        )

    def points_together(
        self,
        state: ImageState,
        vocabulary: Vocabulary,
        *,
        threshold: float = surgery.THRESHOLD,
        redundancy: str = "auto",
    ) -> surgery.Points:
        """Point prompts for one thing that all labels of `vocabulary` describe (§4, "+")."""
        state = own_state(state, ClipSurgeryState)
        return surgery.points_together(
            self.label_maps(state, vocabulary, redundancy=redundancy),
            size_hw=state.size_hw,
            threshold=threshold,
            epsilon=self.config.epsilon,
        )


def config_of(profile: Profile, *, published: bool = False) -> ClipSurgeryConfig:
    """The profile's size; published: that of the high-resolution demo."""
    short_side = PUBLISHED_SIDE if published else profile.short_side
    return ClipSurgeryConfig(
        short_side=short_side,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def build(parts: Parts) -> ClipSurgery:
    """CLIP Surgery on the profile's CLIP."""
    return ClipSurgery(
        parts.clip(),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
