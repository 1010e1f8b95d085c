"""Which of a task's annotations counts, and what it says. Pure.

skipped, drafts            say nothing
several                    ground truth, else the one changed last, else the newest
regions of a control       their labels are there; what else it could paint is not
nothing at all             every label is absent
accepted at a glance       unchanged within `GLANCE` seconds: counts for little
regions without a mask     the control says nothing: a box is no outline
regions without a label    what the control did not paint says nothing: they may be any label
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..labelstudio.annotations import that_counts
from ..labelstudio.export import Labelled, drawn
from ..labelstudio.tasks import Region

REVISION: Final = 1  # of the rules here; raise when annotations come to mean something else
GLANCE: Final = 2.0  # seconds; nobody checks masks in less
AT_A_GLANCE: Final = 0.3  # weight of what was accepted in less
FROM_PREDICTION: Final = "prediction"  # origin of a region nobody touched

SAYS: Final = (
    "id", "type", "from_name", "to_name", "value", "original_width", "original_height",
    "image_rotation", "item_index",
)  # fmt: skip
"""Keys of a region that mean something to us."""


@dataclass(frozen=True, kw_only=True)
class Counting:
    """The annotation that counts.

    number   Label Studio's
    regions  as Label Studio has them
    weight   from 0 to 1
    stamp    digest of all of it and of the rules here
    """

    number: int
    regions: tuple[Region, ...]
    weight: float
    stamp: str

    @property
    def is_empty(self) -> bool:
        """Somebody looked and submitted nothing: no label is there."""
        return not self.regions

    def drawn(self, control: str, image: str, index: int | None) -> list[Labelled]:
        """Regions of one control on one picture, of whatever kind, also those without a label.

        `index`: number of the picture in a list of pictures.
        """
        return [
            one
            for one in drawn(self.regions)
            if one.region.get("from_name") == control
            and one.region.get("to_name") == image
            and index in (None, one.region.get("item_index") or 0)
        ]


def counting(annotations: Sequence[Mapping[str, Any]]) -> Counting | None:
    """Of a task's annotations as Label Studio's API has them; None where none counts."""
    chosen = that_counts(annotations)
    if chosen is None:
        return None
    regions = tuple(one for one in chosen["result"] if isinstance(one, dict))
    weight = AT_A_GLANCE if _at_a_glance(chosen, regions) else 1.0
    return Counting(
        number=int(chosen["id"]),
        regions=regions,
        weight=weight,
        stamp=_stamp(int(chosen["id"]), regions, weight),
    )


def _at_a_glance(one: Mapping[str, Any], regions: Sequence[Region]) -> bool:
    """A prediction that was submitted as it came, faster than anybody could look at it.

    Regions know that they were predicted for good. An annotation forgets the prediction it came
    from as soon as that is deleted, so it is asked only where there are no regions.
    """
    seconds = one.get("lead_time")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= GLANCE:
        return False
    if not regions:
        return one.get("parent_prediction") is not None
    return all(region.get("origin") == FROM_PREDICTION for region in regions)


def _stamp(number: int, regions: Sequence[Region], weight: float) -> str:
    says = [{key: region[key] for key in SAYS if key in region} for region in regions]
    text = json.dumps([REVISION, number, weight, says], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
