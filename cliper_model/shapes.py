"""Legend of the axis names used in tensor annotations.

layers    vision transformer blocks; negative numbers count from the last
heads     attention heads
n         tokens with the class token first, or diffusion tokens (rows are queries, columns keys)
patches   tokens without the class token, row-major over the patch grid
width     channels of a transformer
embed     joint image-text embedding
rows      text rows: one per synonym, then the background words, then the mean row
classes   labels, in the order the user gave them
h w       patch grid or diffusion token grid; `height width` are pixels
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Image: TypeAlias = UInt8[np.ndarray, "height width 3"]
Pixels: TypeAlias = Float[Tensor, "1 3 height width"]
LayerAttention: TypeAlias = Float[Tensor, "layers heads n n"]
HeadMaps: TypeAlias = Float[Tensor, "heads n n"]
ClassMaps: TypeAlias = Float[Tensor, "classes h w"]
TextRows: TypeAlias = Float[Tensor, "rows embed"]
LabelMap: TypeAlias = Int[np.ndarray, "height width"]
Mask: TypeAlias = Bool[np.ndarray, "height width"]

__all__ = [
    "ClassMaps",
    "HeadMaps",
    "Image",
    "LabelMap",
    "LayerAttention",
    "Mask",
    "Pixels",
    "TextRows",
]
