"""CLIP's own values in the form of a feature source: what every other source is compared with."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..stages.resize import CLIP_MEAN, CLIP_STD
from .clip import ClipBackbone, TowerForm
from .vit import check_size


class ClipValues:
    """Values of the last block's attention, heads side by side, class token left out.

    They are what ProxyCLIP moves around; a source is of use where it holds together what they
    do not. Positions are resized bicubically with the "+0.1 scale factor" (proxyclip.md §2).
    """

    def __init__(self, backbone: ClipBackbone, *, name: str = "clip") -> None:
        self._backbone, self._name = backbone, name

    @property
    def name(self) -> str:
        return self._name

    @property
    def multiple(self) -> int:
        return self._backbone.patch

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        """Raises ValueError for a picture smaller than one patch."""
        clip, form = self._backbone, TowerForm(positions="bicubic+0.1")
        check_size(pixels, least=self.multiple, name=self.name)
        mean = torch.tensor(CLIP_MEAN, device=pixels.device).view(1, 3, 1, 1)
        seen = (pixels - mean) / torch.tensor(CLIP_STD, device=pixels.device).view(1, 3, 1, 1)
        tokens, grid_hw = clip.enter(seen, form)
        values = clip.heads(-1, clip.run(tokens, 0, -1, form), form).values[:, 1:]
        return values.transpose(1, 2).flatten(0, 1).float().unflatten(1, grid_hw)
