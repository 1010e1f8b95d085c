"""Region formats: one result type, one file, one line in this table.

A format turns a mask into Label Studio regions and back:

    encode(mask, control) -> regions
    decode(region, size_hw) -> mask
"""

from . import bitmask, brush, ellipse, keypoint, polygon, rectangle, vector
from .base import RegionControl, RegionFormat

__all__ = ["FORMATS", "TAGS", "RegionControl", "RegionFormat"]

FORMATS: dict[str, RegionFormat] = {
    "brushlabels": brush,
    "bitmasklabels": bitmask,
    "polygonlabels": polygon,
    "vectorlabels": vector,
    "rectanglelabels": rectangle,
    "ellipselabels": ellipse,
    "keypointlabels": keypoint,
    # without labels of their own: a Labels tag carries them in a second result
    "brush": brush,
    "bitmask": bitmask,
    "polygon": polygon,
    "vector": vector,
    "rectangle": rectangle,
    "ellipse": ellipse,
    "keypoint": keypoint,
}

TAGS: dict[str, str] = {  # result type -> its control tag as documented
    "brushlabels": "BrushLabels",
    "bitmasklabels": "BitmaskLabels",
    "polygonlabels": "PolygonLabels",
    "vectorlabels": "VectorLabels",
    "rectanglelabels": "RectangleLabels",
    "ellipselabels": "EllipseLabels",
    "keypointlabels": "KeyPointLabels",
    "brush": "Brush",
    "bitmask": "Bitmask",
    "polygon": "Polygon",
    "vector": "Vector",
    "rectangle": "Rectangle",
    "ellipse": "Ellipse",
    "keypoint": "KeyPoint",
}
