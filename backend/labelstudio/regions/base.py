"""What every region format offers, and what it is told about the mask it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool

from ..tasks import Region

LABELLED = "labels"  # the name of a type that carries its own labels ends with it


@dataclass(frozen=True, kw_only=True)
class RegionControl:
    """Whose mask it is: the control tag of the config, the label, and what is said of it.

    kind         result type: the control's tag in lower case, such as `brushlabels`, or `brush`
                 where a Labels tag beside it carries the labels
    labels_name  name of that Labels tag; None where the control carries its labels itself
    size_hw      height and width of the picture as displayed, in pixels; None: the mask's own
    item_index   number of the picture in a list of pictures; None for a single one
    score        confidence in [0, 1], or None where nobody knows
    tolerance    pixels of the displayed picture by which an outline may be off
    most_points  of one outline
    """

    from_name: str
    to_name: str
    kind: str
    label: str
    region_id: str
    score: float | None = None
    labels_name: str | None = None
    size_hw: tuple[int, int] | None = None
    item_index: int | None = None
    tolerance: float = 1.0
    most_points: int = 400


class RegionFormat(Protocol):
    """One way to write a mask down.

    A mask may be smaller than the picture (`RegionControl.size_hw`); it then covers all of it.
    """

    def encode(
        self, mask: Bool[np.ndarray, "height width"], control: RegionControl
    ) -> list[Region]:
        """The results that cover the mask; none for an empty mask.

        The first region has `control.region_id`, others the same with a number behind it.
        """
        ...

    def decode(self, region: Region, size_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """Where the region is painted; `size_hw` is the picture as displayed. Raises BadMask."""
        ...


def results(
    control: RegionControl,
    value: Mapping[str, Any],
    *,
    size_hw: tuple[int, int],
    number: int = 0,
) -> list[Region]:
    """`value` as Label Studio stores it: one result, or two of one id where a Labels tag
    carries the labels (protocol notes §6). `number` counts the regions of one mask."""
    own: Region = {
        "id": control.region_id if number == 0 else f"{control.region_id}-{number + 1}",
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": control.kind,
        "original_width": size_hw[1],
        "original_height": size_hw[0],
        "image_rotation": 0,
        "value": dict(value),
    }
    if control.item_index is not None:
        own["item_index"] = control.item_index
    if control.score is not None:
        own["score"] = control.score
    if control.labels_name is None:
        own["value"][control.kind] = [control.label]
        return [own]
    labels = {
        **own,
        "from_name": control.labels_name,
        "type": LABELLED,
        "value": {**value, LABELLED: [control.label]},
    }
    return [own, labels]
