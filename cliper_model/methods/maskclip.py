"""MaskCLIP: the last block's values, position by position, are dense features.

Zhou, Loy, Dai: Extract Free Dense Labels from CLIP; ECCV 2022, arXiv 2112.01071. Section
numbers below are those of docs/specs/maskclip.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ..backbones.clip import TowerForm
from ..profiles import Profile
from ..segmenter import ImageState, Scores, Vocabulary
from ..shapes import Image
from ..stages import canvas, edges, resize, rows, smoothing, windows
from ..stages.decide import likeliest_rows
from .frame import Method, Parts, own_state, rgb_array

REVISION = 2  # raise whenever the same inputs give other masks
PUBLISHED_SHORT_SIDE = 512  # pixels; VOC and Stuff

PUBLISHED_FORM = TowerForm(positions="bicubic", by_count=True, gelu=True, eps=1e-6)
OWN_FORM = TowerForm(positions="bicubic")


@dataclass(frozen=True, kw_only=True)
class MaskclipConfig:
    """What masks depend on, besides the weights.

    `published` restores what the specification lists as unsafe (§8): ordinary GELU, epsilon
    1e-6 and ImageNet's pixel statistics; positions left alone on any grid with as many
    patches as the table; padding stretched over the picture instead of cut off; keys
    normalised over positions; all words muted at once; softmax without temperature.
    """

    short_side: int = 336  # pixels of the network's input
    long_side: int = 2048  # pixels; published only, ours limits the number of patches
    most_patches: int = 2500  # longer pictures are seen smaller; published: no limit
    key_smoothing: float = 0.0  # "ks_thresh": patches less sure than this are smoothed; 0 = off
    prompt_denoising: float = 0.0  # "pd_thresh": words nowhere as likely are muted; 0 = off
    crop: int = 0  # side of sliding windows in pixels; 0 = none, as published
    stride: int = 0  # pixels between windows; 0 = the crop
    edge_aware: str = "none"  # rule by which row logits follow edges of the picture; ours
    published: bool = False

    def __post_init__(self) -> None:
        for name in ("key_smoothing", "prompt_denoising"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if min(self.short_side, self.long_side, self.most_patches) < 1:
            raise ValueError("short_side, long_side and most_patches must be positive")
        if self.crop < 0 or not 0 <= self.stride <= self.crop:
            raise ValueError("crop must not be negative, and stride must be between 0 and crop")
        edges.check_rule(self.edge_aware, published=self.published)

    @property
    def form(self) -> TowerForm:
        return PUBLISHED_FORM if self.published else OWN_FORM

    def softmax_scale(self, own: float) -> float:
        """Of the probabilities at every pixel: the weights' `own`; published: 1 (§4).

        Cosines without a temperature make all words about as likely: the order of labels is
        the same, but no threshold and no confidence means anything (§8 no. 7). Smoothed
        values are sums of probabilities and keep the published scale.
        """
        return 1.0 if self.published or self.key_smoothing else own

    @property
    def display_scale(self) -> float:
        """Of the maps people look at; smoothed values are no cosines any more."""
        return 1.0 if self.key_smoothing else smoothing.LOGIT_SCALE


@dataclass(frozen=True)
class MaskclipState(ImageState):
    """Features of the picture, or of each of its windows.

    features   in the joint space, not normalised
    keys       of the last block, for key smoothing; empty without it
    boxes      top, left, bottom, right of each window in pixels of the network's input
    grid_hw    patches of one window, padding included
    seen_hw    pixels of the network's input without padding
    """

    kind: ClassVar[str] = "maskclip-1"

    features: Float[Tensor, "windows patches embed"]
    keys: Float[Tensor, "key_windows key_patches width"]
    boxes: tuple[tuple[int, int, int, int], ...]
    grid_hw: tuple[int, int]
    seen_hw: tuple[int, int]


@dataclass(frozen=True)
class Dense:
    """What one pass through the tower gives; the class token is left out.

    normed    behind the last LayerNorm
    features  projected into the joint space, not normalised
    keys      of the last block, through its output projection
    """

    normed: Float[Tensor, "patches width"]
    features: Float[Tensor, "patches embed"]
    keys: Float[Tensor, "patches width"]
    grid_hw: tuple[int, int]


class Maskclip(Method):
    """The method on one set of weights. Immutable; share it between threads."""

    synonyms_published = False

    config: MaskclipConfig

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image) -> MaskclipState:
        """Dense features of the whole picture, or window by window (§1, §4)."""
        image = rgb_array(image)
        picture = self.resized(image)
        seen_hw = (picture.shape[0], picture.shape[1])
        pixels = self.normalised(picture)
        crop = self.config.crop or max(seen_hw)
        plan = windows.plan(seen_hw, crop=crop, stride=self.config.stride or crop)
        looks = [self.look(pixels[:, :, w.top : w.bottom, w.left : w.right]) for w in plan]
        keys = [look.keys for look in looks] if self.config.key_smoothing else []
        return MaskclipState(
            size_hw=(image.shape[0], image.shape[1]),
            guide=edges.guide_of(image, rule=self.config.edge_aware),
            features=torch.stack([look.features for look in looks]),
            keys=torch.stack(keys) if keys else torch.zeros(0, 0, 0),
            boxes=tuple((w.top, w.left, w.bottom, w.right) for w in plan),
            grid_hw=looks[0].grid_hw,
            seen_hw=seen_hw,
        )

    def resized(self, image: Image) -> UInt8[np.ndarray, "input_h input_w 3"]:
        """The picture as large as the network sees it, ratio kept; whole patches not needed."""
        config = self.config
        if config.published:
            return resize.to_short_side(
                image, short_side=config.short_side, long_side=config.long_side, antialias=False
            )
        picture, short_side = resize.affordable(
            image,
            short_side=config.short_side,
            patch=self.clip.patch,
            most_patches=config.most_patches,
        )
        longest = max(picture.shape[:2]) * short_side  # never the limit
        return resize.to_short_side(picture, short_side=short_side, long_side=longest)

    def normalised(self, picture: Image) -> Float[Tensor, "1 3 height width"]:
        """The weights' own pixel statistics; published: ImageNet's (§1)."""
        if self.config.published:
            return resize.normalise(picture, resize.IMAGENET_MEAN, resize.IMAGENET_STD)
        return resize.normalise(picture)

    def look(self, pixels: Float[Tensor, "1 3 height width"]) -> Dense:
        """Values of the last block instead of its attention; residual and MLP are kept (§1).

        `pixels` are normalised and of any size; zeros at the bottom and the right fill up to
        whole patches.
        """
        clip, form = self.clip, self.config.form
        height, width = pixels.shape[-2:]
        padded = functional.pad(pixels, (0, -width % clip.patch, 0, -height % clip.patch))
        tokens, grid_hw = clip.enter(padded, form)
        tokens = clip.run(tokens, 0, -1, form)
        heads = clip.heads(-1, tokens, form)
        tokens = tokens + clip.attention_output(-1, heads.values)
        tokens = tokens + clip.mlp(-1, tokens, form)
        return Dense(
            normed=clip.post_norm(tokens, form)[1:],
            features=clip.embed(tokens, form)[1:],
            keys=clip.attention_output(-1, heads.keys)[1:].float(),
            grid_hw=grid_hw,
        )

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Refined cosines, enlarged to the network's input; presence from plain ones (§3, §4).

        `strength` is the probability prompt denoising compares with its threshold: the
        largest over all places of softmax(100 cosines).
        """
        state = own_state(state, MaskclipState)
        preset = self._presets(vocabulary.preset)
        owners = rows.row_owners(vocabulary)
        kept = list(range(len(owners))) if self.published else rows.distinct(vocabulary)
        owners = tuple(owners[index] for index in kept)
        cosines = self.cosine_maps(state, vocabulary.rows[kept])
        keys: list[Tensor | None] = [*state.keys] or [None] * len(cosines)
        refined = [self.refined(maps, own) for maps, own in zip(cosines, keys, strict=True)]
        scores = rows.row_scores(
            self.enlarged(refined, state),
            vocabulary,
            owners=owners,
            scale=self.config.softmax_scale(preset.logit_scale),
            size_hw=state.size_hw,
            presence=preset.presence,
            presence_scale=self.config.display_scale,
        )
        likely = smoothing.row_probabilities(cosines.transpose(0, 1)).flatten(1)
        best, _ = likeliest_rows(
            likely.amax(dim=1, keepdim=True).cpu().numpy(),
            row_class=owners,
            classes=len(vocabulary.labels),
        )
        scores = replace(scores, strength=best[:, 0], presence=preset.presence(best[:, 0]))
        return edges.sharpen(scores, state.guide, rule=self.config.edge_aware)

    def enlarged(
        self, maps: Sequence[Float[Tensor, "rows h w"]], state: MaskclipState
    ) -> Float[Tensor, "rows height width"]:
        """Maps of all windows at the size of the network's input (§4).

        Ours cuts the padding off, and is coarser where very many words would take too much
        memory.
        """
        height, width = state.seen_hw
        most = len(maps[0]) * height * width if self.published else canvas.MOST_VALUES
        return canvas.paint(
            maps,
            state.boxes,
            seen_hw=state.seen_hw,
            canvas_hw=canvas.affordable_canvas(state.seen_hw, maps=len(maps[0]), most_values=most),
            patch=None if self.published else self.clip.patch,
        )

    def cosine_maps(
        self, state: MaskclipState, text: Float[Tensor, "rows embed"]
    ) -> Float[Tensor, "windows rows h w"]:
        """Cosine between every patch of every window and every text row (§1 step 3)."""
        maps = rows.cosines(state.features, text).transpose(1, 2)
        return maps.reshape(*maps.shape[:2], *state.grid_hw)

    def refined(
        self, cosines: Float[Tensor, "rows h w"], keys: Float[Tensor, "patches width"] | None
    ) -> Float[Tensor, "rows h w"]:
        """Prompt denoising, then key smoothing, each where its threshold is above 0 (§3)."""
        if self.config.prompt_denoising:
            cosines = smoothing.mute_unseen_rows(
                cosines, threshold=self.config.prompt_denoising, may_mute_all=self.published
            )
        if self.config.key_smoothing and keys is not None:
            axis = "positions" if self.published else "channels"
            similarity = smoothing.key_similarity(keys.to(cosines.device), axis=axis)
            cosines = smoothing.smooth_by_keys(
                cosines, similarity, threshold=self.config.key_smoothing
            )
        return cosines


def config_of(profile: Profile, *, published: bool = False) -> MaskclipConfig:
    """The profile's size; published: that of VOC and Stuff."""
    short_side = PUBLISHED_SHORT_SIDE if published else profile.short_side
    return MaskclipConfig(
        short_side=short_side,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def build(parts: Parts) -> Maskclip:
    """MaskCLIP on the profile's CLIP."""
    return Maskclip(
        parts.clip(),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
