"""What lies beside the weights: `figures.json`, `MODEL_CARD.md`, and the logs of the training."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from ..errors import WeightsMismatch, WeightsMissing
from .figures import Bench, Figures
from .model_card import About, model_card

FIGURES: Final = "figures.json"
CARD: Final = "MODEL_CARD.md"
LOGS: Final = ("train-clip.log", "train-diffusion.log")

_ABOUT: Final = "about"  # the entry of figures.json that is no row
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "clip": ("clip.safetensors",),
    "diffusion": ("vae.safetensors", "unet.safetensors"),
}


def write_papers(weights: Path, figures: Figures, about: About, *, logs: Path) -> None:
    """Figures and card into `weights`, and the training's logs from the folder `logs`."""
    for log in LOGS:
        if logs != weights and (logs / log).is_file():
            shutil.copyfile(logs / log, weights / log)
    text = json.dumps({_ABOUT: asdict(about), **figures}, indent=1)
    (weights / FIGURES).write_text(text + "\n", encoding="utf-8")
    (weights / CARD).write_text(card_text(weights, figures, about), encoding="utf-8")


def read_papers(weights: Path) -> tuple[Figures, About]:
    """What `figures.json` says.

    Raises WeightsMissing where it is not there, WeightsMismatch where an older training wrote it.
    """
    told = dict(json.loads(_text(weights / FIGURES)))
    about: dict[str, Any] | None = told.pop(_ABOUT, None)
    if about is None:
        raise WeightsMismatch(
            f"{weights / FIGURES} does not say how it was measured; measure again with "
            "'python -m cliper_model.demo --papers'"
        )
    about["bench"] = Bench(**about["bench"])
    about["notes"] = tuple(about["notes"])
    return told, About(**about)


def card_text(weights: Path, figures: Figures, about: About) -> str:
    """`MODEL_CARD.md` as it follows from everything else in the folder. Raises WeightsMissing."""
    card = json.loads(_text(weights / "demo.json"))
    return model_card(
        figures,
        about,
        choices=card["inference"],
        logs=[_text(weights / log) for log in LOGS],
        parameters={
            part: sum(_values(weights / name) for name in names) for part, names in _PARTS.items()
        },
    )


def _values(path: Path) -> int:
    """How many numbers a weight file holds, lists of ids not counted."""
    with safe_open(str(path), "pt") as tensors:
        total = 0
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            held = tensors.get_slice(name)
            if held.get_dtype().startswith(("F", "BF")):
                count = 1
                for length in held.get_shape():
                    count *= length
                total += count
        return total


def _text(path: Path) -> str:
    if not path.is_file():
        raise WeightsMissing(
            f"the demo model's {path.name}", [path.parent], "give the folder that training wrote"
        )
    return path.read_text(encoding="utf-8")
