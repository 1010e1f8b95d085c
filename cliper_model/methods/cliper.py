"""CLIPer: hierarchical spatial representation of CLIP, refined by diffusion attention.

Sun, Cao, Xie, Jiang, Pang; ICCV 2025, arXiv 2411.13836. Section numbers below are those of
docs/specs/cliper.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor

from .. import prompts
from ..backbones.clip import ATTENTION_TYPES, ClipBackbone, Seen
from ..backbones.diffusion import DiffusionBackbone
from ..errors import BadImage, EmptyVocabulary, IncompatibleState
from ..presets import Preset
from ..segmenter import (
    Decision,
    Identity,
    ImageState,
    Label,
    Scores,
    Segmentation,
    Vocabulary,
)
from ..shapes import Image
from ..stages import attention as attend
from ..stages import classify, coarse, refine, resize, windows
from ..stages.decide import decide

REVISION = 1  # raise whenever the same inputs give other masks
REFINEMENTS = ("SFSA", "mean", "selection", "none")


@dataclass(frozen=True, kw_only=True)
class CliperConfig:
    """What one look at an image depends on, besides the weights."""

    short_side: int = 336  # pixels of the CLIP input; rounded to whole patches
    attention_type: str = "fused-attn"  # how values are mixed in the last block (§4.3)
    only_layer: int | None = None  # None fuses all layers; else the one to use, negative (§4.4)
    refinement: str = "SFSA"  # how diffusion attention is applied (§8)
    refinement_head: int = 1  # used by "selection" only
    most_patches: int = 2500  # longer pictures are seen smaller; published: no limit
    crop: int = 0  # side of sliding windows in pixels; 0 = none (§6)
    half_positions: bool = False  # the authors' float16 rounding of positions (§2)
    published: bool = False  # restore what the specification lists as unsafe (§14)

    def __post_init__(self) -> None:
        if self.attention_type not in ATTENTION_TYPES:
            raise ValueError(f"attention_type must be one of {', '.join(ATTENTION_TYPES)}")
        if self.refinement not in REFINEMENTS:
            raise ValueError(f"refinement must be one of {', '.join(REFINEMENTS)}")
        if self.only_layer is not None and self.only_layer >= 0:
            raise ValueError(f"only_layer must be negative, got {self.only_layer}")
        if self.short_side < 1 or self.crop < 0:
            raise ValueError("short_side must be positive and crop must not be negative")

    @property
    def epsilon(self) -> float:
        """Keeps a perfectly uniform map from becoming NaN; the published code has none."""
        return 0.0 if self.published else 1e-12


@dataclass(frozen=True)
class CliperState(ImageState):
    """Everything CLIPer keeps of an image.

    patches      every layer's tokens through the last block, without class token
    links        head mean of the last layer's map between patches
    window_*     the same per sliding window (padded to the largest), with their places in
                 pixels, and the smoothing matrix over the whole grid; empty without windows
    queries/keys diffusion self-attention heads; empty without refinement
    """

    kind: ClassVar[str] = "cliper-1"

    patches: Float[Tensor, "layers patches embed"]
    links: Float[Tensor, "patches patches"]
    window_patches: Float[Tensor, "crops layers window_patches embed"]
    window_links: Float[Tensor, "n n"]
    window_boxes: tuple[tuple[int, int, int, int], ...]
    queries: Float[Tensor, "heads positions width"]
    keys: Float[Tensor, "heads positions width"]
    grid_hw: tuple[int, int]
    patch: int


class Cliper:
    """The method on one set of weights. Immutable; share it between threads."""

    def __init__(
        self,
        clip: ClipBackbone,
        diffusion: DiffusionBackbone | None,
        config: CliperConfig,
        *,
        presets: Callable[[str], Preset],
        identity: Identity,
        check_words: Callable[[Sequence[Label]], None] | None = None,
    ) -> None:
        """`presets` gives the numbers for these weights by preset name.

        `check_words` may refuse labels the text tower cannot read (UntrainedWords).
        """
        self.clip, self.diffusion, self.config = clip, diffusion, config
        self._presets, self._identity, self._check_words = presets, identity, check_words

    @property
    def identity(self) -> Identity:
        return self._identity

    def decision(self, preset: str) -> Decision:
        return self._presets(preset).decision

    # -- words ------------------------------------------------------------------------

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        """Labels and background words as text rows (§3)."""
        name = preset or ("whole-scene" if background is not None and not background else "objects")
        chosen = self._presets(name)
        given = [Label(label) if isinstance(label, str) else label for label in labels]
        sought = [label for label in given if not label.is_rest]
        rest = next((label.name for label in given if label.is_rest), None)
        if not sought:
            raise EmptyVocabulary
        words = [(label.name,) if self.config.published else label.prompts for label in sought]
        wanted = chosen.background if background is None else tuple(background)
        row_class = tuple(index for index, group in enumerate(words) for _ in group)
        flat = [word for group in words for word in group]
        names = [label.name for label in sought]
        taken = [*flat, *names, *(name for label in sought for name in label.also)]
        if self.config.published:
            kept, dropped = tuple(wanted), tuple[str, ...]()
        else:
            kept, dropped = prompts.keep_distinct_background(wanted, label_words=taken)
        if self._check_words is not None:
            self._check_words([*sought, *(Label(word) for word in kept)])

        rows = self.clip.encode_words([*flat, *kept], chosen.templates)
        front, back = rows[: len(flat)], rows[len(flat) :]
        if not self.config.published:
            close = prompts.too_close(back, front, cosine=chosen.background_cosine)
            dropped += tuple(w for w, near in zip(kept, close, strict=True) if near)
            kept = tuple(w for w, near in zip(kept, close, strict=True) if not near)
            back = back[[index for index, near in enumerate(close) if not near]]
        mean_row = prompts.mean_of_classes(front, row_class, len(sought))
        alone = len(sought) == 1 and not self.config.published
        return Vocabulary(
            labels=tuple(names),
            preset=name,
            rows=torch.cat([front, back]),
            row_class=row_class,
            mean_row=None if alone else mean_row,
            background=kept,
            dropped=dropped,
            rest=rest,
        )

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image | PilImage.Image) -> CliperState:
        """CLIP over the whole picture and its windows, diffusion attention once (§2 to §7).

        A PIL image is taken as published only: resized in its own mode, RGB afterwards.
        """
        pixels, grid_hw = self._clip_input(image)
        image = _as_rgb_array(image)
        patches, links = self.look(pixels)
        plan = (
            windows.plan((pixels.shape[-2], pixels.shape[-1]), crop=self.config.crop)
            if self.config.crop
            else ()
        )
        window_patches, window_links = self._look_through_windows(pixels, plan, grid_hw)
        queries, keys = self._diffusion_heads(image)
        return CliperState(
            size_hw=(image.shape[0], image.shape[1]),
            patches=patches,
            links=links,
            window_patches=window_patches,
            window_links=window_links,
            window_boxes=tuple((w.top, w.left, w.bottom, w.right) for w in plan),
            queries=queries,
            keys=keys,
            grid_hw=grid_hw,
            patch=self.clip.patch,
        )

    def _clip_input(
        self, image: Image | PilImage.Image
    ) -> tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]:
        """Whole patches of the picture; never more than is affordable, unless published."""
        short_side, patch = self.config.short_side, self.clip.patch
        if self.config.published:
            if not isinstance(image, PilImage.Image):
                _check_image(image)
            return resize.to_whole_patches(image, short_side=short_side, patch=patch)
        _check_image(image)
        most = self.config.most_patches
        picture = resize.affordable_picture(_as_rgb_array(image), most_patches=most)
        short_side = resize.affordable_side(
            (picture.shape[1], picture.shape[0]),
            short_side=short_side,
            patch=patch,
            most_patches=most,
        )
        return resize.to_whole_patches(picture, short_side=short_side, patch=patch)

    def look(
        self, pixels: Float[Tensor, "1 3 height width"]
    ) -> tuple[Float[Tensor, "layers patches embed"], Float[Tensor, "patches patches"]]:
        """Features of every layer through the last block, and patch links (§4, §5 step 5)."""
        seen = self.clip.look(pixels, half_positions=self.config.half_positions)
        if self.config.only_layer is not None:
            seen = keep_one_layer(seen, self.config.only_layer)
        weights = self.clip.layer_weights(
            seen, attention_type=self.config.attention_type, epsilon=self.config.epsilon
        )
        tokens, last_map = self.clip.last_block(seen.inputs, weights)
        return tokens[:, 1:], attend.patch_links(last_map)

    def _look_through_windows(
        self,
        pixels: Float[Tensor, "1 3 height width"],
        plan: Sequence[windows.Window],
        grid_hw: tuple[int, int],
    ) -> tuple[Float[Tensor, "crops layers window_patches embed"], Float[Tensor, "n n"]]:
        if not plan:
            return torch.zeros(0, 0, 0, 0), torch.zeros(0, 0)
        looks = [self.look(pixels[:, :, w.top : w.bottom, w.left : w.right]) for w in plan]
        merged = windows.merge_links(
            [links for _, links in looks], plan, grid_hw=grid_hw, patch=self.clip.patch
        )
        return torch.stack([patches for patches, _ in looks]), merged

    def _diffusion_heads(
        self, image: Image
    ) -> tuple[Float[Tensor, "heads positions width"], Float[Tensor, "heads positions width"]]:
        if self.diffusion is None or self.config.refinement == "none":
            return torch.zeros(0, 0, 0), torch.zeros(0, 0, 0)
        return self.diffusion.links(image)

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Probabilities per layer, coarse map, refined map, strength and presence (§5, §8, §9)."""
        if not isinstance(state, CliperState):
            raise IncompatibleState(state.kind, CliperState.kind)
        preset = self._presets(vocabulary.preset)
        layer_maps = self.layer_probabilities(state, vocabulary, scale=preset.logit_scale)
        rough = self.coarse(state, layer_maps, preset)
        refined = self.refined(state, rough, floor=preset.attention_floor)
        strength = (rough.amax(dim=(-2, -1)) + refined.amax(dim=(-2, -1))) / 2
        strengths = strength.cpu().numpy().astype(np.float32)
        return Scores(
            labels=vocabulary.labels,
            maps=refined.cpu().numpy().astype(np.float32),
            strength=strengths,
            presence=preset.presence(strengths),
            size_hw=state.size_hw,
            rest=vocabulary.rest,
        )

    def layer_probabilities(
        self, state: CliperState, vocabulary: Vocabulary, *, scale: float
    ) -> Float[Tensor, "layers classes h w"]:
        """Softmax over all text rows, per layer; averaged with the windows' (§5 steps 1 to 3)."""
        classes = len(vocabulary.labels)
        rows = vocabulary.rows
        if vocabulary.mean_row is not None:
            rows = torch.cat([rows, vocabulary.mean_row[None]])

        def logits_of(
            patches: Float[Tensor, "layers patches embed"],
        ) -> Float[Tensor, "layers patches rows"]:
            logits = classify.cosine_logits(patches, rows.to(patches.device), scale=scale)
            return classify.fold_synonyms(logits, row_class=vocabulary.row_class, classes=classes)

        whole = classify.probabilities(
            classify.to_grid(logits_of(state.patches), grid_hw=state.grid_hw), classes=classes
        )
        if not state.window_boxes:
            return whole
        merged = windows.merge_logits(
            [logits_of(patches) for patches in state.window_patches],
            [windows.Window(*box) for box in state.window_boxes],
            grid_hw=state.grid_hw,
            patch=state.patch,
        )
        smoothed = (merged.flatten(2) @ state.window_links).view_as(merged)
        return (whole + classify.probabilities(smoothed, classes=classes)) / 2

    def coarse(
        self,
        state: CliperState,
        layer_maps: Float[Tensor, "layers classes h w"],
        preset: Preset,
    ) -> Float[Tensor, "classes h w"]:
        """Selected layer spread along the links, plus the mean of all layers (§5 steps 4 to 6)."""
        only = self.config.only_layer
        layer = preset.select_layer if only is None else only
        cut = coarse.cut_selected_layer(layer_maps, layer=layer, floor=preset.attention_floor)
        return coarse.combine(cut, state.links, layer=layer, with_mean=only is None)

    def refined(
        self, state: CliperState, rough: Float[Tensor, "classes h w"], *, floor: float
    ) -> Float[Tensor, "classes h2 w2"]:
        """Fine-grained compensation on the diffusion grid, or the coarse map itself (§8)."""
        if not state.queries.shape[0]:
            return rough
        side = math.isqrt(state.queries.shape[1])
        start = resize.resize_maps(rough, size_hw=(side, side)).flatten(1).T
        start = start.to(state.queries.device)
        match self.config.refinement:
            case "SFSA":
                spread = refine.chain(start, state.queries, state.keys, floor=floor)
            case "mean":
                spread = refine.mean_of_heads(start, state.queries, state.keys, floor=floor)
            case _:
                spread = refine.one_head(
                    start, state.queries, state.keys, floor=floor, head=self.config.refinement_head
                )
        return spread.T.reshape(-1, side, side)

    # -- all at once ------------------------------------------------------------------

    def segment(
        self,
        image: Image,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        """Masks for `labels`; numbers not given come from the preset."""
        vocabulary = self.read(labels, background=background, preset=preset)
        scores = self.score(self.observe(image), vocabulary)
        return decide(scores, decision or self.decision(vocabulary.preset))


def keep_one_layer(seen: Seen, layer: int) -> Seen:
    """Without layer fusion all other layers enter the last block as zeros (§4.4)."""
    inputs = torch.zeros_like(seen.inputs)
    inputs[layer] = seen.inputs[layer]
    return Seen(inputs, seen.accumulated, seen.grid_hw)


def _as_rgb_array(image: Image | PilImage.Image) -> Image:
    return np.asarray(image.convert("RGB")) if isinstance(image, PilImage.Image) else image


def _check_image(image: object) -> None:
    if not isinstance(image, np.ndarray):
        raise BadImage(type(image).__name__)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadImage(f"{image.dtype} {list(image.shape)}")
