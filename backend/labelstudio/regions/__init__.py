"""Region formats: one result type, one file, one line in this table.

A format turns a mask into Label Studio regions and back:

    encode(mask, *, from_name, to_name, label, region_id, score) -> regions
    decode(region, *, size_hw) -> mask
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ..tasks import Region
from . import brush


@dataclass(frozen=True)
class RegionFormat:
    """`encode` gives no region for an empty mask; `decode` raises BadMask."""

    encode: Callable[..., list[Region]]
    decode: Callable[..., Bool[np.ndarray, "height width"]]


FORMATS = {
    "brushlabels": RegionFormat(brush.encode, brush.decode),
}
