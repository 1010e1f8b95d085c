"""Region formats: one result type, one file, one line in this table.

A format turns a mask into Label Studio regions and back:

    encode(mask, control) -> regions
    decode(region, size_hw) -> mask
"""

from . import brush
from .base import RegionControl, RegionFormat

__all__ = ["FORMATS", "RegionControl", "RegionFormat"]

FORMATS: dict[str, RegionFormat] = {
    "brushlabels": brush,
}
