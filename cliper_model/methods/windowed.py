"""Overlapping square crops, cosines stitched before the softmax: the frame ProxyCLIP gave.

A method of this family says how one crop becomes features on a grid; the crops, their
padding, the stitching and the scores are the same (proxyclip.md §5, §6).
"""

import math
from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..backbones.clip import TowerForm
from ..segmenter import ImageState, Scores, Vocabulary, finished
from ..shapes import Image
from ..stages import canvas, edges, resize, windows
from ..stages.rows import cosines, distinct, row_owners, row_scores
from .frame import Method, own_state, rgb_array

PUBLISHED_PADDING = 56  # pixels; not whole patches of 16


@dataclass(frozen=True, kw_only=True)
class WindowedConfig:
    """How a picture is cut up."""

    short_side: int = 336  # pixels
    long_side: int = 2048  # pixels; a longer picture gets a smaller short side
    crop: int = 336  # side of the square crops in pixels; 0 looks once at the whole picture
    stride: int = 112  # pixels
    edge_aware: str = "none"  # rule by which row logits follow edges of the picture; ours
    published: bool = False  # restore what the specification lists as unsafe

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.crop < 0:
            raise ValueError("short_side must be positive and crop must not be negative")
        if self.crop and not 0 < self.stride <= self.crop:
            raise ValueError(f"stride must be in 1 ... {self.crop}, got {self.stride}")
        edges.check_rule(self.edge_aware, published=self.published)


@dataclass(frozen=True)
class WindowedState(ImageState):
    """Features of every crop of a picture.

    features        one row per place of a crop, row by row; crops of another shape than the
                    largest are filled with zeros at the end
    class_features  class token of the ordinary last block per crop; empty where nobody asks
    boxes           places of the crops in pixels of the resized picture: top, left, bottom, right
    grids           rows and columns of features per crop
    padding         pixels added per crop: top, left, bottom, right
    """

    kind: ClassVar[str] = "windowed-1"

    features: Float[Tensor, "crops places embed"]
    class_features: Float[Tensor, "crops embed"]
    boxes: tuple[tuple[int, int, int, int], ...]
    grids: tuple[tuple[int, int], ...]
    padding: tuple[tuple[int, int, int, int], ...]
    input_hw: tuple[int, int]


@dataclass(frozen=True)
class Look:
    """What one crop gave."""

    features: Float[Tensor, "places embed"]
    grid_hw: tuple[int, int]
    class_feature: Float[Tensor, " embed"] | None = None


class WindowedMethod(Method):
    """Crops in, row logits out."""

    FORM: ClassVar[TowerForm] = TowerForm(positions="bicubic+0.1", by_count=True)

    config: WindowedConfig

    @property
    def form(self) -> TowerForm:
        """Positions as published; ours resizes them whenever the shape differs (methods §5)."""
        return self.FORM if self.published else TowerForm(positions=self.FORM.positions)

    @property
    def cell(self) -> int:
        """Pixels a side must be a multiple of, so that nothing is cut off."""
        return self.clip.patch

    @abstractmethod
    def look(self, pixels: Float[Tensor, "1 3 height width"]) -> Look:
        """Features of one crop in CLIP's normalisation."""

    def observe(self, image: Image) -> WindowedState:
        return finished(self.observe_in_steps(image))

    def observe_in_steps(self, image: Image) -> Generator[None, None, WindowedState]:
        """`observe`, crop by crop."""
        picture = rgb_array(image)
        pixels = resize.normalise(self._resized(picture))
        size_hw = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        plan = self._plan(size_hw)
        looks, paddings = [], []
        for number, window in enumerate(plan):
            if number:
                yield
            part = pixels[:, :, window.top : window.bottom, window.left : window.right]
            padded, padding = self._padded(part)
            looks.append(self.look(padded))
            paddings.append(padding)
        places = max(look.features.shape[0] for look in looks)
        classes = [look.class_feature for look in looks if look.class_feature is not None]
        return WindowedState(
            size_hw=(picture.shape[0], picture.shape[1]),
            guide=edges.guide_of(picture, rule=self.config.edge_aware),
            features=torch.stack(
                [
                    functional.pad(look.features, (0, 0, 0, places - look.features.shape[0]))
                    for look in looks
                ]
            ),
            class_features=torch.stack(classes) if classes else torch.zeros(0, 0),
            boxes=tuple((w.top, w.left, w.bottom, w.right) for w in plan),
            grids=tuple(look.grid_hw for look in looks),
            padding=tuple(paddings),
            input_hw=size_hw,
        )

    def _resized(self, picture: Image) -> Image:
        """Short side as configured; a picture seen at once is made of whole cells, unless
        published."""
        config = self.config
        small = resize.to_short_side(
            picture,
            short_side=config.short_side,
            long_side=config.long_side,
            antialias=not config.published,
        )
        if config.crop or config.published:
            return small
        size_hw = (small.shape[0], small.shape[1])
        return resize.to_whole_cells(picture, size_hw=size_hw, cell=self.cell)

    def _plan(self, size_hw: tuple[int, int]) -> tuple[windows.Window, ...]:
        if not self.config.crop:
            return (windows.Window(0, 0, *size_hw),)
        return windows.plan(size_hw, crop=self.config.crop, stride=self.config.stride)

    def _padded(
        self, part: Float[Tensor, "1 3 h w"]
    ) -> tuple[Float[Tensor, "1 3 h2 w2"], tuple[int, int, int, int]]:
        """Zeros around a crop that is not made of whole cells, one more at the far sides (§6)."""
        if not self.config.crop:
            return part, (0, 0, 0, 0)
        whole = PUBLISHED_PADDING if self.published else self.cell
        height, width = (-part.shape[-2]) % whole, (-part.shape[-1]) % whole
        top, left = height // 2, width // 2
        padding = (top, left, height - top, width - left)
        return functional.pad(part, (left, padding[3], top, padding[2])), padding

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Cosines of every crop, stitched at the size of the resized picture (§5, §6)."""
        own = own_state(state, WindowedState)
        preset = self._presets(vocabulary.preset)
        owners = row_owners(vocabulary)
        kept = list(range(len(owners))) if self.published else distinct(vocabulary)
        scores = row_scores(
            self.stitched(own, vocabulary.rows[kept]),
            vocabulary,
            owners=tuple(owners[index] for index in kept),
            scale=preset.logit_scale,
            size_hw=own.size_hw,
            presence=preset.presence,
        )
        return edges.sharpen(scores, own.guide, rule=self.config.edge_aware)

    def stitched(
        self, state: WindowedState, rows: Float[Tensor, "rows embed"]
    ) -> Float[Tensor, "rows h w"]:
        """Row logits before the scale: on the patch grid of a single look, else in pixels.

        With so many rows that pixels would not fit into memory, on a coarser canvas.
        """
        parts = [self._crop_logits(state, crop, rows) for crop in range(len(state.boxes))]
        if not self.config.crop:
            return parts[0]
        boxes = [
            (top - over, left - before, bottom + under, right + after)
            for (top, left, bottom, right), (over, before, under, after) in zip(
                state.boxes, state.padding, strict=True
            )
        ]
        whole = state.input_hw
        affordable = canvas.affordable_canvas(whole, maps=len(rows), most_values=canvas.MOST_VALUES)
        return canvas.paint(
            parts,
            boxes,
            seen_hw=whole,
            canvas_hw=whole if self.published else affordable,
            patch=None,
        )

    def _crop_logits(
        self, state: WindowedState, crop: int, rows: Float[Tensor, "rows embed"]
    ) -> Float[Tensor, "rows h w"]:
        height, width = state.grids[crop]
        values = cosines(state.features[crop, : height * width], rows)
        return self.adjusted(values, state, crop, rows).T.reshape(-1, height, width)

    def adjusted(
        self,
        values: Float[Tensor, "places rows"],
        state: WindowedState,
        crop: int,
        rows: Float[Tensor, "rows embed"],
    ) -> Float[Tensor, "places rows"]:
        """What a method does to the cosines of a crop; nothing here."""
        return values


def crop_and_stride(short_side: int, patch: int) -> tuple[int, int]:
    """Crops as high as the picture, moved by about a third: 336 and 112 px, as published."""
    return short_side, max(patch, round(short_side / 3 / patch) * patch)


def least_common(*cells: int) -> int:
    """Smallest length that is made of whole cells of every kind, in pixels."""
    return math.lcm(*cells)
