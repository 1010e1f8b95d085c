"""Plain CLIP patches: the ordinary last block, nothing changed. The floor of every comparison.

Source: specification methods.md §2, row "plain CLIP"; proxyclip.md §10.8 (the branch without
a vision foundation model), whose frame of crops and scale it shares.
"""

from jaxtyping import Float
from torch import Tensor

from ..profiles import Profile
from .frame import Parts
from .windowed import Look, WindowedConfig, WindowedMethod, crop_and_stride

REVISION = 2  # raise whenever the same inputs give other masks


class PlainClip(WindowedMethod):
    """CLIP's own patch embeddings, compared with the words."""

    def look(self, pixels: Float[Tensor, "1 3 height width"]) -> Look:
        tokens, grid_hw = self.clip.enter(pixels, self.form)
        embedded = self.clip.embed(self.clip.run(tokens, 0, self.clip.layers, self.form), self.form)
        return Look(embedded[1:], grid_hw)


def config_of(profile: Profile, *, published: bool = False) -> WindowedConfig:
    """The profile's short side, in crops of that size."""
    crop, stride = crop_and_stride(profile.short_side, 16)
    return WindowedConfig(
        short_side=profile.short_side,
        crop=crop,
        stride=stride,
        edge_aware="none" if published else profile.edge_aware,
        published=published,
    )


def build(parts: Parts) -> PlainClip:
    """Plain CLIP from the profile's files."""
    return PlainClip(
        parts.clip(),
        config_of(parts.profile, published=parts.published),
        presets=parts.presets,
        identity=parts.identity,
        check_words=parts.check_words,
    )
