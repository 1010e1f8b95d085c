"""ProxyCLIP with CLIP-Surgery-style feature adjustment: the class token weighs the words.

Never published as code; defined in docs/specs/clip_surgery.md §5, to which section numbers
below refer. By §3 the subtraction changes no label once a softmax over the same rows follows;
what acts are the weights.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..profiles import Profile
from ..shapes import Image
from ..stages import resize
from ..stages.rows import cosines
from ..stages.surgery import class_token_weights, remove_redundancy
from . import proxyclip
from .frame import Parts, rgb_array
from .proxyclip import ProxyClip, ProxyClipConfig, source_of
from .windowed import WindowedState

REVISION = 2  # raise whenever the same inputs give other masks
ADJUSTMENTS = ("none", "weights", "weights+subtract", "subtract")


@dataclass(frozen=True, kw_only=True)
class AdjustConfig(ProxyClipConfig):
    """ProxyCLIP's numbers and what the class token does."""

    adjust: str = "weights+subtract"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adjust not in ADJUSTMENTS:
            raise ValueError(f"adjust must be one of {', '.join(ADJUSTMENTS)}, got {self.adjust!r}")


class AdjustedProxyClip(ProxyClip):
    """ProxyCLIP whose cosines are weighted by what the whole picture shows.

    Published, every crop has weights of its own, which leaves seams; ours takes them from one
    look at the whole picture (§5).
    """

    config: AdjustConfig

    def class_feature(self, tokens: Float[Tensor, "n width"]) -> Float[Tensor, " embed"]:
        """Class token of the unmodified last block (§5 step 1)."""
        through = self.clip.run(tokens, -1, self.clip.layers, self.form)
        return self.clip.embed(through, self.form)[0]

    def observe_in_steps(self, image: Image) -> Generator[None, None, WindowedState]:
        state = yield from super().observe_in_steps(image)
        if self.config.published or len(state.boxes) == 1:
            return state
        yield
        whole = resize.to_whole_cells(
            rgb_array(image), size_hw=self._glance_hw(state.input_hw), cell=self.clip.patch
        )
        tokens, _ = self.clip.enter(resize.normalise(whole), self.form)
        seen = self.class_feature(self.clip.run(tokens, 0, -1, self.form))
        return replace(state, class_features=seen.expand(len(state.boxes), -1).clone())

    def _glance_hw(self, input_hw: tuple[int, int]) -> tuple[int, int]:
        """The whole picture in as many pixels as a crop has."""
        share = min(1.0, self.config.crop / (input_hw[0] * input_hw[1]) ** 0.5)
        return max(1, round(input_hw[0] * share)), max(1, round(input_hw[1] * share))

    def adjusted(
        self,
        values: Float[Tensor, "places rows"],
        state: WindowedState,
        crop: int,
        rows: Float[Tensor, "rows embed"],
    ) -> Float[Tensor, "places rows"]:
        """Synonyms and background words count as rows of their own (§5 step 2)."""
        if self.config.adjust == "none":
            return values
        weights = torch.ones(len(rows), device=values.device)
        if self.config.adjust != "subtract":
            weights = class_token_weights(cosines(state.class_features[crop], rows))
        if self.config.adjust == "weights":
            return values * weights
        return remove_redundancy(values, weights)


def config_of(profile: Profile, *, published: bool = False) -> AdjustConfig:
    """As ProxyCLIP."""
    plain = proxyclip.config_of(profile, published=published)
    return AdjustConfig(
        short_side=plain.short_side,
        crop=plain.crop,
        stride=plain.stride,
        edge_aware=plain.edge_aware,
        published=published,
    )


def build(parts: Parts) -> AdjustedProxyClip:
    """ProxyCLIP with feature adjustment from the profile's files and its feature source."""
    return AdjustedProxyClip(
        parts.clip(),
        source_of(parts),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
