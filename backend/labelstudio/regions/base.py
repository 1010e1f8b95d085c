"""What every region format offers, and what it is told about the mask it writes."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool

from ..tasks import Region


@dataclass(frozen=True, kw_only=True)
class RegionControl:
    """Whose mask it is: the control tag of the config, the label, and what is said of it.

    kind    result type, the format's key in the table, such as `brushlabels`
    score   confidence in [0, 1], or None where nobody knows
    """

    from_name: str
    to_name: str
    kind: str
    label: str
    region_id: str
    score: float | None = None


class RegionFormat(Protocol):
    """One way to write a mask down; `[height, width]` is the picture as displayed."""

    def encode(
        self, mask: Bool[np.ndarray, "height width"], control: RegionControl
    ) -> list[Region]:
        """The regions that cover the mask; none for an empty mask."""
        ...

    def decode(self, region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where the region is painted. Raises BadMask."""
        ...
