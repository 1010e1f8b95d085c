"""CLIPer and its relatives: words in, masks out.

    import cliper_model
    model = cliper_model.load("demo")
    model.segment(image, ["sky", "house"]).mask(0)

Names are resolved on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import identity, load
    from .segmenter import (
        Decision,
        Identity,
        ImageState,
        Label,
        Scores,
        Segmentation,
        Segmenter,
        Vocabulary,
    )
    from .stages.decide import decide

_HOMES = (
    ("loading", ("identity", "load")),
    (
        "segmenter",
        (
            "Decision",
            "Identity",
            "ImageState",
            "Label",
            "Scores",
            "Segmentation",
            "Segmenter",
            "Vocabulary",
        ),
    ),
    ("stages.decide", ("decide",)),
)

__all__ = [
    "Decision",
    "Identity",
    "ImageState",
    "Label",
    "Scores",
    "Segmentation",
    "Segmenter",
    "Vocabulary",
    "decide",
    "identity",
    "load",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES:
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
