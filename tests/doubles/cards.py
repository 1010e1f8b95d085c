"""Graphics cards whose models see colours, and that can be lost."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backend.model_host import ModelSource

from .colours import ColourSegmenter, colour_source


@dataclass
class Card:
    """A card that computes until it is lost; a picture that is `deadly` pixels wide is its end."""

    name: str
    segmenter: ColourSegmenter = field(default_factory=ColourSegmenter)
    is_lost: bool = False
    deadly: int | None = None

    def __post_init__(self) -> None:
        self.segmenter.on_observe = self._work

    def _work(self, pixels: np.ndarray) -> None:
        self.is_lost = self.is_lost or pixels.shape[1] == self.deadly
        if self.is_lost:
            raise RuntimeError("CUDA error: unspecified launch failure")

    def source(self, **more: Any) -> ModelSource:
        details = {"device": self.name, "dtype": "float16", "fallbacks": []}
        return colour_source(self.segmenter, details=details, **more)

    @property
    def looks(self) -> int:
        return len(self.segmenter.looks)

    @property
    def widths(self) -> list[int]:
        """Of the pictures it looked at."""
        return [look.shape[1] for look in self.segmenter.looks]


class Rack:
    """Several cards of one host."""

    def __init__(
        self,
        count: int,
        *,
        deadly: int | None = None,
        segmenter: Callable[[], ColourSegmenter] = ColourSegmenter,
    ) -> None:
        self.cards = [Card(f"cuda:{number}", segmenter(), deadly=deadly) for number in range(count)]
        self._by_name = {card.name: card for card in self.cards}

    def __getitem__(self, number: int) -> Card:
        return self.cards[number]

    @property
    def looks(self) -> list[int]:
        """How many pictures each card looked at."""
        return [card.looks for card in self.cards]

    @property
    def names(self) -> str:
        """As DEVICE has them."""
        return ",".join(self._by_name)

    def answers(self, device: str | None) -> bool:
        return not self._by_name[str(device)].is_lost

    def source(self, device: str) -> ModelSource:
        return self._by_name[device].source()

    def hold(self) -> None:
        """No look ends until `let_go`."""
        for card in self.cards:
            card.segmenter.gate.clear()

    def let_go(self) -> None:
        for card in self.cards:
            card.segmenter.gate.set()
