"""ProxyCLIP: values of CLIP's last block, mixed by the similarities of another network.

Lan, Chen, Ke, Wang, Feng, Zhang; ECCV 2024, arXiv 2408.04883. Section numbers below are those
of docs/specs/proxyclip.md.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..backbones.base import FeatureSource
from ..backbones.clip import ClipBackbone
from ..errors import WeightsMissing
from ..profiles import Profile
from ..segmenter import Identity
from ..stages import resize
from ..stages.proxy import proxy_attention
from .frame import Parts, Presets, WordCheck
from .windowed import Look, WindowedConfig, WindowedMethod, crop_and_stride, least_common

REVISION = 2  # raise whenever the same inputs give other masks


@dataclass(frozen=True, kw_only=True)
class ProxyClipConfig(WindowedConfig):
    """Numbers of the proxy attention; the same for every network and data set (§2)."""

    beta: float = 1.2  # how far above the mean a similarity must lie, as a factor
    gamma: float = 3.0  # contrast of what is left


class ProxyClip(WindowedMethod):
    """The method on one set of weights and one feature source."""

    config: ProxyClipConfig

    def __init__(
        self,
        clip: ClipBackbone,
        features: FeatureSource,
        config: ProxyClipConfig,
        *,
        presets: Presets,
        identity: Identity,
        check_words: WordCheck | None = None,
    ) -> None:
        super().__init__(clip, config, presets=presets, identity=identity, check_words=check_words)
        self.features = features

    @property
    def cell(self) -> int:
        """Whole patches of CLIP and whole cells of the source; published: 56 px (§6)."""
        return least_common(self.clip.patch, self.features.multiple)

    def look(self, pixels: Float[Tensor, "1 3 height width"]) -> Look:
        tokens, grid_hw = self.clip.enter(pixels, self.form)
        tokens = self.clip.run(tokens, 0, -1, self.form)
        fine = self.features.features(resize.without_normalisation(pixels))
        fine_hw = (int(fine.shape[1]), int(fine.shape[2]))
        mixed = self.through_proxy(tokens, fine, grid_hw=grid_hw)
        return Look(self.clip.embed(mixed, self.form), fine_hw, self.class_feature(tokens))

    def through_proxy(
        self,
        tokens: Float[Tensor, "n width"],
        fine: Float[Tensor, "channels fine_h fine_w"],
        *,
        grid_hw: tuple[int, int],
    ) -> Float[Tensor, "places width"]:
        """Proxy attention module: no residual, no MLP, no class token (§2).

        Values move to the grid of the source; the same attention serves every head.
        """
        values = self.clip.heads(-1, tokens, self.form).values[:, 1:]
        heads, _, width = values.shape
        as_map = values.transpose(1, 2).reshape(heads * width, *grid_hw)
        fine_hw = (int(fine.shape[1]), int(fine.shape[2]))
        moved = resize.resize_maps(as_map, size_hw=fine_hw).reshape(heads, width, -1)
        config = self.config
        attention = proxy_attention(
            fine, beta=config.beta, gamma=config.gamma, safe=not config.published
        )
        mixed = attention.to(moved.device, moved.dtype) @ moved.transpose(1, 2)
        return self.clip.attention_output(-1, mixed)

    def class_feature(self, tokens: Float[Tensor, "n width"]) -> Float[Tensor, " embed"] | None:
        """Nothing here; feature adjustment asks for it."""
        return None


def config_of(profile: Profile, *, published: bool = False) -> ProxyClipConfig:
    """The profile's short side, in crops of that size."""
    crop, stride = crop_and_stride(profile.short_side, 16)
    return ProxyClipConfig(
        short_side=profile.short_side,
        crop=crop,
        stride=stride,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def source_of(parts: Parts) -> FeatureSource:
    """The feature source the parts were chosen with. Raises WeightsMissing without one."""
    source = parts.features()
    if source is None:
        raise WeightsMissing("a feature source", [], "name one with FEATURES, such as dino-vitb8")
    return source


def build(parts: Parts) -> ProxyClip:
    """ProxyCLIP from the profile's files and its feature source."""
    return ProxyClip(
        parts.clip(),
        source_of(parts),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
