"""What a method may ask of a network that is not CLIP: one dense feature map per picture."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class FeatureSource(Protocol):
    """A frozen network that describes every place of a picture by a vector.

    Instances are immutable and may be shared between threads; they remember nothing about a
    picture. Which networks there are is written down in `feature_sources.py`.
    """

    @property
    def name(self) -> str:
        """The name in the table of feature sources, such as `dino-vitb8`."""
        ...

    @property
    def multiple(self) -> int:
        """Pixels; both sides of the input should be whole multiples of it.

        Whatever is left over at the right and at the bottom is cut off. 1 where the network
        stretches its input and nothing is lost.
        """
        ...

    def features(self, pixels: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "channels h w"]:
        """The feature map of one picture, float32, on the network's device.

        `pixels` is RGB in [0, 1] on any device; the network normalises it itself. Positions are
        not normalised to unit length. Rows of the grid run over the height, columns over the
        width, whatever the shape of the picture.
        """
        ...
