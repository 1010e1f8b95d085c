"""CLIPer: hierarchical spatial representation of CLIP, refined by diffusion attention.

Sun, Cao, Xie, Jiang, Pang; ICCV 2025, arXiv 2411.13836. Section numbers below are those of
docs/specs/cliper.md.
"""

import math
from collections.abc import Generator, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor

from ..backbones.base import FeatureSource
from ..backbones.clip import ATTENTION_TYPES, ClipBackbone, Seen
from ..backbones.diffusion import DiffusionBackbone, Links
from ..presets import Preset
from ..profiles import Profile
from ..segmenter import Identity, ImageState, Scores, Vocabulary, finished
from ..shapes import Image
from ..stages import attention as attend
from ..stages import classify, coarse, edges, places, refine, resize, transfer, windows
from ..stages.cards import kernels
from ..stages.recordings import Recordings
from .frame import Method, Parts, Presets, WordCheck, own_state, rgb_array

REVISION = 3  # raise whenever the same inputs give other masks
MOST_PLACES = 6400  # of a feature map that refines; their similarities take 160 MB
PRESET = "objects"  # whose numbers a card is warmed up with
LABELS_COMPILED_FOR = (1, 17, 33)  # one for every width that kernels have
RESIZERS = 8  # threads that resize a batch for a card, which would wait for one the longest
SMALLEST_CELL = 8  # pixels; a source that stretches its input says 1
SPREADING = ("links", "queries", "keys", "row_levels", "strongest")  # what it reads of a state
REFINEMENTS = ("SFSA", "mean", "selection", "similarity", "none")


@dataclass(frozen=True, kw_only=True)
class CliperConfig:
    """What one look at an image depends on, besides the weights."""

    short_side: int = 336  # pixels of the CLIP input; rounded to whole patches
    attention_type: str = "fused-attn"  # how values are mixed in the last block (§4.3)
    only_layer: int | None = None  # None fuses all layers; else the one to use, negative (§4.4)
    refinement: str = "SFSA"  # how diffusion attention is applied (§8)
    refinement_head: int = 1  # used by "selection" only
    similarity_beta: float = 1.2  # used by "similarity" only: ProxyCLIP's numbers
    similarity_gamma: float = 3.0
    most_patches: int = 2500  # longer pictures are seen smaller; published: no limit
    crop: int = 0  # side of sliding windows in pixels; 0 = none (§6)
    half_positions: bool = False  # the authors' float16 rounding of positions (§2)
    edge_aware: str = "none"  # rule by which refined maps follow edges of the picture; ours
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
        edges.check_rule(self.edge_aware, published=self.published)

    @property
    def epsilon(self) -> float:
        """Keeps a perfectly uniform map from becoming NaN; the published code has none."""
        return 0.0 if self.published else 1e-12


Look = tuple[Float[Tensor, "layers patches embed"], Float[Tensor, "patches patches"]]


@dataclass(frozen=True)
class CliperState(ImageState):
    """Everything CLIPer keeps of an image.

    patches      every layer's tokens through the last block, without class token
    links        head mean of the last layer's map between patches
    window_*     the same per sliding window (padded to the largest), with their places in
                 pixels, and the smoothing matrix over the whole grid; empty without windows
    queries/keys diffusion self-attention heads; empty without diffusion refinement
    features     one dense feature map; empty unless its similarities refine
    row_levels, strongest
                 `refine.Levels` of the diffusion heads; empty where they are found out with
                 every question
    """

    kind: ClassVar[str] = "cliper-3"

    patches: Float[Tensor, "layers patches embed"]
    links: Float[Tensor, "patches patches"]
    window_patches: Float[Tensor, "crops layers window_patches embed"]
    window_links: Float[Tensor, "n n"]
    window_boxes: tuple[tuple[int, int, int, int], ...]
    queries: Float[Tensor, "heads positions width"]
    keys: Float[Tensor, "heads positions width"]
    features: Float[Tensor, "channels fine_h fine_w"]
    grid_hw: tuple[int, int]
    patch: int
    row_levels: Float[Tensor, "heads positions"] = field(default_factory=lambda: torch.zeros(0, 0))
    strongest: Float[Tensor, "heads positions"] = field(default_factory=lambda: torch.zeros(0, 0))


@dataclass(frozen=True)
class _Scored:
    """Coarse maps, refined maps and strength of a picture, on their way from a card; and what share
    of places refinement left as it was, where there is any."""

    state: CliperState
    coming: transfer.Coming


class Cliper(Method):
    """The method on one set of weights. Immutable; share it between threads."""

    synonyms_published = False
    config: CliperConfig

    def __init__(
        self,
        clip: ClipBackbone,
        diffusion: DiffusionBackbone | None,
        config: CliperConfig,
        *,
        features: FeatureSource | None = None,
        presets: Presets,
        identity: Identity,
        check_words: WordCheck | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        """`diffusion` or `features` refine; without both the coarse maps are the answer.

        cuda_graphs  a card starts what it is asked again all at once
        """
        super().__init__(clip, config, presets=presets, identity=identity, check_words=check_words)
        self.diffusion, self.features = diffusion, features
        self.recordings = Recordings(wanted=cuda_graphs)

    @property
    def _on_a_card(self) -> bool:
        return self.clip.device.type == "cuda"

    def warm_up(self) -> None:
        """Let a card compile and choose its kernels before anybody waits for a picture."""
        state = self.observe(np.full((48, 64, 3), 128, np.uint8))
        for labels in LABELS_COMPILED_FOR:
            rough = state.links.new_ones(labels, *state.grid_hw)
            self.refined(state, rough, floor=0.5)
        preset = self._presets(PRESET)
        layer_maps = rough.expand(self.clip.layers, *rough.shape).contiguous()
        for _ in range(2):  # what is asked twice is recorded: whether it can be is known then
            self._spread(state, layer_maps, preset).arrived()
        self.recordings.forget()

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image | PilImage.Image) -> CliperState:
        """CLIP over the whole picture and its windows, diffusion attention once (§2 to §7).

        A PIL image is taken as published only: resized in its own mode, RGB afterwards.
        """
        return finished(self.observe_in_steps(image))

    def observe_in_steps(self, image: Image | PilImage.Image) -> Generator[None, None, CliperState]:
        """`observe`: the autoencoder, one half of the U-Net, the other, and CLIP."""
        pixels, grid_hw = self._clip_input(image)
        if isinstance(image, PilImage.Image):
            image = np.asarray(image.convert("RGB"))
        (links,) = yield from self._diffusion_steps([image])  # what takes most finds most room
        yield
        return self._state(image, pixels, grid_hw, self.look(pixels), links)

    def observe_many(self, images: Sequence[Image]) -> list[ImageState]:
        """Pictures of one `bucket` pass both networks together; others one after the other.

        Windows and feature sources take every picture for itself.
        """
        images = [rgb_array(image) for image in images]
        buckets = {self.bucket((image.shape[0], image.shape[1])) for image in images}
        if len(buckets) != 1 or None in buckets:
            return [self.observe(image) for image in images]
        links = finished(self._diffusion_steps(images))  # a card goes on while we resize
        inputs = self._clip_inputs(images, threads=RESIZERS if self._on_a_card else 1)
        if len({grid_hw for _, grid_hw in inputs}) == 1:
            looks = self._look_at_many(torch.cat([pixels for pixels, _ in inputs]))
        else:
            looks = [self.look(pixels) for pixels, _ in inputs]
        return [
            self._state(image, *seen, look, own)
            for image, seen, look, own in zip(images, inputs, looks, links, strict=True)
        ]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """The size at which CLIP sees such a picture; None for endless strips."""
        height, width = size_hw
        config, patch = self.config, self.clip.patch
        if max(size_hw) > config.most_patches * min(size_hw):
            return None
        side = resize.affordable_side(
            (width, height),
            short_side=config.short_side,
            patch=patch,
            most_patches=config.most_patches,
        )
        return resize.whole_patch_size((width, height), short_side=side, patch=patch)

    def _state(
        self,
        image: Image,
        pixels: Float[Tensor, "1 3 height width"],
        grid_hw: tuple[int, int],
        look: Look,
        links: Links,
    ) -> CliperState:
        """One picture's, with what still has to be looked at for itself."""
        plan = (
            windows.plan((pixels.shape[-2], pixels.shape[-1]), crop=self.config.crop)
            if self.config.crop
            else ()
        )
        window_patches, window_links = self._look_through_windows(pixels, plan, grid_hw)
        patches, patch_links = look
        return CliperState(
            size_hw=(image.shape[0], image.shape[1]),
            guide=edges.guide_of(image, rule=self.config.edge_aware),
            patches=patches,
            links=patch_links,
            window_patches=window_patches,
            window_links=window_links,
            window_boxes=tuple((w.top, w.left, w.bottom, w.right) for w in plan),
            queries=links.queries,
            keys=links.keys,
            row_levels=links.levels.rows,
            strongest=links.levels.strongest,
            features=self._fine_features(image),
            grid_hw=grid_hw,
            patch=self.clip.patch,
        )

    def _clip_input(
        self, image: Image | PilImage.Image
    ) -> tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]:
        resized, grid_hw = self._resized(image)
        return self._normalised(resized), grid_hw

    def _clip_inputs(
        self, images: Sequence[Image], *, threads: int
    ) -> list[tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]]:
        """Each as `_clip_input` gives it; several threads resize, one sends."""
        if len(images) == 1 or threads == 1:
            return [self._clip_input(image) for image in images]
        with ThreadPoolExecutor(min(len(images), threads)) as pool:
            resized = list(pool.map(self._resized, images))
        return [(self._normalised(pixels), grid_hw) for pixels, grid_hw in resized]

    def _resized(
        self, image: Image | PilImage.Image
    ) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
        """Whole patches of the picture; never more than is affordable, unless published."""
        short_side, patch = self.config.short_side, self.clip.patch
        if self.config.published and isinstance(image, PilImage.Image):
            return resize.whole_patches(image, short_side=short_side, patch=patch)
        picture = rgb_array(image)
        if not self.config.published:
            picture, short_side = resize.affordable(
                picture, short_side=short_side, patch=patch, most_patches=self.config.most_patches
            )
        return resize.whole_patches(picture, short_side=short_side, patch=patch)

    def _normalised(self, pixels: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
        return resize.normalise(pixels, device=self.clip.device if self._on_a_card else "cpu")

    def look(self, pixels: Float[Tensor, "1 3 height width"]) -> Look:
        """Features of every layer through the last block, and patch links (§4, §5 step 5)."""
        return self._look_at_many(pixels)[0]

    def _look_at_many(self, pixels: Float[Tensor, "b 3 height width"]) -> list[Look]:
        seen = self.clip.look(pixels, half_positions=self.config.half_positions)
        if self.config.only_layer is not None:
            seen = keep_one_layer(seen, self.config.only_layer)
        tokens, last_map = self.clip.last_block(
            seen, attention_type=self.config.attention_type, epsilon=self.config.epsilon
        )
        if len(pixels) == 1:
            tokens, last_map = tokens[:, None], last_map[None]
        return [  # whole in memory: whoever writes them down later has nothing to compute
            (own[:, 1:].contiguous(), attend.patch_links(one_map).contiguous())
            for own, one_map in zip(tokens.unbind(1), last_map, strict=True)
        ]

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

    def _diffusion_steps(self, images: Sequence[Image]) -> Generator[None, None, list[Links]]:
        if self.diffusion is None or self.config.refinement in ("none", "similarity"):
            nothing = refine.Levels(torch.zeros(0, 0), torch.zeros(0, 0))
            return [Links(torch.zeros(0, 0, 0), torch.zeros(0, 0, 0), nothing) for _ in images]
        return (yield from self.diffusion.links_in_steps(images))

    def _fine_features(self, image: Image) -> Float[Tensor, "channels fine_h fine_w"]:
        """Features of the whole picture as CLIP sees it, whole cells of their source."""
        if self.features is None or self.config.refinement != "similarity":
            return torch.zeros(0, 0, 0)
        cell = max(self.features.multiple, SMALLEST_CELL)
        picture, short_side = resize.affordable(
            image, short_side=self.config.short_side, patch=cell, most_patches=MOST_PLACES
        )
        return self.features.features(
            resize.to_multiple(picture, short_side=short_side, multiple=cell)
        )

    # -- what corrections teach -------------------------------------------------------

    def cells(self, state: ImageState) -> Float[Tensor, "h w embed"]:
        """Unit-length patches, averaged over layers: ours, see docs/learning.md."""
        state = own_state(state, CliperState)
        return places.mean_of_layers(state.patches).unflatten(0, state.grid_hw).float().cpu()

    def glance(self, image: Image) -> Float[Tensor, "h w embed"]:
        """CLIP once over the whole picture, neither windows nor diffusion."""
        pixels, grid_hw = self._clip_input(image)
        patches, _ = self.look(pixels)
        return places.mean_of_layers(patches).unflatten(0, grid_hw).float().cpu()

    def row_logits(
        self, cells: Float[Tensor, "places embed"], vocabulary: Vocabulary
    ) -> Float[Tensor, "places rows"]:
        """The mean over layers of what `layer_probabilities` begins with."""
        rows = vocabulary.rows
        if vocabulary.mean_row is not None:
            rows = torch.cat([rows, vocabulary.mean_row[None]])
        scale = self._presets(vocabulary.preset).logit_scale
        return scale * cells @ torch.nn.functional.normalize(rows.float().cpu(), dim=-1).T

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Probabilities per layer, coarse map, refined map, strength and presence (§5, §8, §9)."""
        return self._told(self._scored(state, vocabulary), vocabulary)

    def score_many(self, states: Sequence[ImageState], vocabulary: Vocabulary) -> Iterator[Scores]:
        """`score` of several pictures; a card has begun them all before the first is asked for."""
        scored = [self._scored(state, vocabulary) for state in states]
        return (self._told(one, vocabulary) for one in scored)

    def _scored(self, state: ImageState, vocabulary: Vocabulary) -> "_Scored":
        state = own_state(state, CliperState)
        preset = self._presets(vocabulary.preset)
        layer_maps = self.layer_probabilities(state, vocabulary, scale=preset.logit_scale)
        return _Scored(state, self._spread(state, layer_maps, preset))

    def _spread(
        self,
        state: CliperState,
        layer_maps: Float[Tensor, "layers classes h w"],
        preset: Preset,
    ) -> transfer.Coming:
        """Coarse maps, refined maps, strength; and agreement where refinement runs."""

        def compute(layer_maps: Tensor, *of_state: Tensor) -> tuple[Tensor, ...]:
            given: dict[str, Any] = dict(zip(SPREADING, of_state, strict=True))
            seen = replace(state, **given)
            rough = self.coarse(seen, layer_maps, preset)
            refined = self.refined(seen, rough, floor=preset.attention_floor)
            strength = (rough.amax(dim=(-2, -1)) + refined.amax(dim=(-2, -1))) / 2
            agreement = () if refined is rough else (places.agreement(rough, refined),)
            return rough, refined, strength, *agreement

        def take(found: tuple[Tensor, ...]) -> transfer.Coming:
            return transfer.Coming.of(*found)

        given = (layer_maps, *(getattr(state, name) for name in SPREADING))
        if not self._has_many_kernels(state):
            return take(compute(*given))
        key = (self.config, preset.select_layer, preset.attention_floor)
        return self.recordings.run(compute, given, key=key, take=take)

    def _has_many_kernels(self, state: CliperState) -> bool:
        """Whether scores are many small kernels, as the chain's are; others keep a card busy."""
        heads, _, width = state.queries.shape
        own = kernels(state.queries.device, width=width)
        return heads > 0 and not state.features.numel() and own is not None

    def _told(self, scored: "_Scored", vocabulary: Vocabulary) -> Scores:
        state, (rough, refined, strength, *agreement) = scored.state, scored.coming.arrived()
        strengths = strength.numpy().astype(np.float32)
        scores = Scores(
            labels=vocabulary.labels,
            maps=refined.numpy().astype(np.float32),
            strength=strengths,
            presence=self._presets(vocabulary.preset).presence(strengths),
            size_hw=state.size_hw,
            rest=vocabulary.rest,
            agreement=float(agreement[0]) if agreement else None,
            coarse=rough.numpy().astype(np.float32) if agreement else None,
            device=str(self.clip.device) if self._on_a_card else None,
        )
        return edges.sharpen(scores, state.guide, rule=self.config.edge_aware)

    def layer_probabilities(
        self, state: CliperState, vocabulary: Vocabulary, *, scale: float
    ) -> Float[Tensor, "layers classes h w"]:
        """Softmax over all text rows, per layer; averaged with the windows' (§5 steps 1 to 3)."""
        classes = len(vocabulary.labels)
        rows = vocabulary.rows
        if vocabulary.mean_row is not None:
            rows = torch.cat([rows, vocabulary.mean_row[None]])

        learnt = vocabulary.correction
        common = None
        if learnt is not None:  # of the whole picture, for its windows too
            own = places.mean_of_layers(state.patches).mean(dim=0)
            common = own if learnt.common is None else learnt.common

        def logits_of(
            patches: Float[Tensor, "layers patches embed"],
        ) -> Float[Tensor, "layers patches rows"]:
            logits = classify.cosine_logits(patches, rows.to(patches.device), scale=scale)
            if learnt is not None:
                logits = places.trust_words(logits, learnt.word_bias)
            folded = classify.fold_synonyms(logits, row_class=vocabulary.row_class, classes=classes)
            if learnt is None:
                return folded
            bonus = learnt.bonus(places.standing_out(places.mean_of_layers(patches), common))
            return places.corrected(folded, bonus, learnt.taught, others=learnt.others)

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
        if state.features.numel():
            config = self.config
            return refine.spread_along_similarity(
                rough, state.features, beta=config.similarity_beta, gamma=config.similarity_gamma
            )
        if not state.queries.shape[0]:
            return rough
        side = math.isqrt(state.queries.shape[1])
        start = resize.resize_maps(rough, size_hw=(side, side)).flatten(1).T
        start = start.to(state.queries.device)
        heads, known = (state.queries, state.keys), None
        if state.strongest.shape == state.row_levels.shape == state.queries.shape[:2]:
            known = refine.Levels(state.row_levels, state.strongest)
        match self.config.refinement:
            case "SFSA":
                spread = refine.chain(start, *heads, floor=floor, known=known)
            case "mean":
                spread = refine.mean_of_heads(start, *heads, floor=floor, known=known)
            case _:
                head = self.config.refinement_head
                spread = refine.one_head(start, *heads, floor=floor, head=head, known=known)
        return spread.T.reshape(-1, side, side)


def keep_one_layer(seen: Seen, layer: int) -> Seen:
    """Without layer fusion all other layers enter the last block as zeros (§4.4)."""
    inputs = torch.zeros_like(seen.inputs)
    inputs[layer] = seen.inputs[layer]
    return Seen(inputs, seen.accumulated, seen.grid_hw)


def config_of(profile: Profile, *, published: bool = False) -> CliperConfig:
    """Windows and refinement as the profile has them."""
    own = "SFSA" if profile.diffusion else "none"
    return CliperConfig(
        short_side=profile.short_side,
        refinement="similarity" if profile.features else own,
        crop=profile.window,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def build(parts: Parts) -> Cliper:
    """CLIPer from the profile's files."""
    model = Cliper(
        parts.clip(),
        parts.diffusion(),
        config_of(parts.profile, published=parts.published),
        features=parts.features(),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
        cuda_graphs=parts.cuda_graphs,
    )
    if model._on_a_card:
        model.warm_up()
    return model
