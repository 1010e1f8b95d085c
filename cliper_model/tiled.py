"""Large pictures, with any method: overlapping tiles and one look at the whole, blended.

    Tiled(cliper_model.load("fast"), TilePlan())

A network sees a picture at a few hundred pixels; in one of a hundred megapixels small things
disappear. `Tiled` lets the method look at the whole picture and at a few tiles, and blends their
scores before anything is decided. Small pictures are none of its business: they pass through.

Memory beyond the picture itself, and beyond what the method takes for a small one, is bounded
whatever the picture's size; `most_bytes` is the formula:

    looks x state + 12 x canvas values + 12 x pixels of the masks + 400 MB

looks          tiles and the whole picture, at most most_tiles + 1
state          what the method keeps of one look: demo 4 MiB, ViT-B/16 with diffusion 31 to 35 MiB
canvas values  words x cells, at most `MOST_VALUES`; twice as many for methods with row logits
masks          at most most_pixels; 4 bytes each, three times while specks are given away. Masks
               that may overlap take one more byte per label and pixel
400 MB         blocks of pixels on their way through `decide`, bands of the picture, one look's maps
"""

from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from .errors import NotTaught
from .methods.frame import rgb_array
from .segmenter import (
    Batching,
    Decision,
    Identity,
    ImageState,
    InSteps,
    Label,
    Learner,
    Scores,
    Segmentation,
    Segmenter,
    Vocabulary,
    finished,
    state_of_kind,
)
from .shapes import Image
from .stages import canvas, tiles
from .stages.decide import decide, scale_to_strength
from .stages.tiles import Grid, Span

REVISION = 1  # raise whenever the same plan gives other masks
LOOK_PIXELS = 2_000_000  # of what a method is shown; it sees 0.3 to 0.8 megapixels of them
MOST_VALUES = 32_000_000  # of the canvas: 128 MB of float32
WORKING_BYTES = 400_000_000  # blocks and bands that come and go, see above
MEGA = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """When a picture is large, and how it is cut. Every number is part of the model's version.

    above_megapixels  pictures up to this are looked at once, as without tiles. 16: those of
                      today's telephones (12 megapixels) stay what they are
    most_tiles        at most so many; in larger pictures tiles grow instead
    smallest_tile     pixels of a tile's side; a tile is seen at about 340, so smaller ones
                      would show what nobody outlines by hand in a picture of this size
    overlap           smallest share of its side that a tile has in common with its neighbour
    context           share of the look at the whole picture in every score; the tiles share
                      the rest. A quarter: on validation scenes more loses small things, and
                      less believes in more labels that are not there
    most_pixels       masks of larger pictures are decided on a smaller grid of this many
                      pixels; whoever shows them scales up
    """

    above_megapixels: float = 16.0
    most_tiles: int = 16
    smallest_tile: int = 1536
    overlap: float = 0.25
    context: float = 0.25
    most_pixels: int = 25_000_000

    def __post_init__(self) -> None:
        if not self.above_megapixels > 0:
            raise ValueError(f"above_megapixels must be positive, got {self.above_megapixels}")
        if not 2 <= self.most_tiles <= 64:
            raise ValueError(f"most_tiles must be in 2 ... 64, got {self.most_tiles}")
        if self.smallest_tile < tiles.SMALLEST_SIDE:
            raise ValueError(
                f"smallest_tile must be at least {tiles.SMALLEST_SIDE}, got {self.smallest_tile}"
            )
        if not 0.25 <= self.overlap <= 0.75:
            raise ValueError(f"overlap must be in [0.25, 0.75], got {self.overlap}")
        if not 0.0 <= self.context <= 1.0:
            raise ValueError(f"context must be in [0, 1], got {self.context}")
        if self.most_pixels < self.above_megapixels * MEGA:
            raise ValueError(
                f"most_pixels must be at least above_megapixels, "
                f"{self.above_megapixels * MEGA:.0f}, got {self.most_pixels}"
            )

    def is_large(self, size_hw: tuple[int, int]) -> bool:
        """Whether a picture of this size is cut into tiles."""
        return size_hw[0] * size_hw[1] > self.above_megapixels * MEGA

    def grid(self, size_hw: tuple[int, int]) -> Grid:
        """The tiles of a large picture, in its pixels."""
        return tiles.plan(
            size_hw, side=self.smallest_tile, overlap=self.overlap, most=self.most_tiles
        )

    def masks_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of the masks of a picture of this size."""
        if not self.is_large(size_hw):
            return size_hw
        return tiles.within(size_hw, most_pixels=self.most_pixels)

    def identity_of(self, inner: Identity) -> Identity:
        """What masks depend on once `inner`'s method is used with this plan."""
        settings = {**inner.settings, "tiles": {"revision": REVISION, **asdict(self)}}
        return replace(inner, settings=settings)


def most_bytes(
    plan: TilePlan,
    *,
    size_hw: tuple[int, int],
    state_bytes: float,
    row_logits: bool = False,
) -> int:
    """Upper bound of what a large picture takes beyond itself; `state_bytes` of one look."""
    looks = len(plan.grid(size_hw)) + 1
    canvases = (2 if row_logits else 1) * 3  # the blend, its labels that are present, a block
    height, width = plan.masks_hw(size_hw)
    values = MOST_VALUES
    return int(looks * state_bytes + 4 * canvases * values + 12 * height * width + WORKING_BYTES)


@dataclass(frozen=True)
class TiledState(ImageState):
    """What is left of the looks at a large picture; `size_hw` is that of the masks.

    context     the whole picture
    tiles       reading order; none for a method that cannot be cut up
    grid        their places, in pixels of the picture
    picture_hw  size of the picture itself
    """

    kind: ClassVar[str] = "tiled-1"

    context: ImageState
    tiles: tuple[ImageState, ...]
    grid: Grid
    picture_hw: tuple[int, int]

    def to_bytes(self) -> bytes:
        """safetensors; every inner state as its own bytes."""
        parts = [part.to_bytes() for part in (self.context, *self.tiles)]
        packed = _Packed(
            size_hw=self.size_hw,
            parts=torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8),
            lengths=tuple(map(len, parts)),
            inner_kind=self.context.kind,
            rows=self.grid.rows,
            columns=self.grid.columns,
            picture_hw=self.picture_hw,
        )
        return packed.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "TiledState":
        """Raises IncompatibleState for bytes of another kind, or of a method nobody loaded."""
        packed = _Packed.from_bytes(data)
        assert isinstance(packed, _Packed)
        kind = state_of_kind(packed.inner_kind)
        ends = np.cumsum(packed.lengths)
        stored = packed.parts.numpy()
        parts = [
            kind.from_bytes(stored[end - length : end].tobytes())
            for length, end in zip(packed.lengths, ends, strict=True)
        ]
        return cls(
            size_hw=packed.size_hw,
            context=parts[0],
            tiles=tuple(parts[1:]),
            grid=Grid(packed.rows, packed.columns),
            picture_hw=packed.picture_hw,
        )


@dataclass(frozen=True)
class _Packed(ImageState):
    """A TiledState as one tensor of bytes and plain numbers."""

    kind: ClassVar[str] = TiledState.kind

    parts: UInt8[Tensor, " bytes"]
    lengths: tuple[int, ...]
    inner_kind: str
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    picture_hw: tuple[int, int]


@runtime_checkable
class Tileable(Segmenter, Protocol):
    """A Segmenter whose scores can be merged: every `frame.Method` is one."""

    def presence(
        self, strength: Float[np.ndarray, " classes"], *, preset: str
    ) -> Float[np.ndarray, " classes"]:
        """The preset's monotone map of strength to [0, 1]."""
        ...


class Tiled:
    """A Segmenter that cuts large pictures up for another one. Immutable; share it freely."""

    def __init__(self, inner: Segmenter, plan: TilePlan) -> None:
        """Raises TypeError for a segmenter that cannot say what a strength is worth."""
        if isinstance(inner, Tiled) or not isinstance(inner, Tileable):
            raise TypeError(
                f"only a method that turns strengths into presence can be tiled, and only once; "
                f"got {type(inner).__name__}"
            )
        self.inner: Tileable = inner
        self.plan = plan

    # -- what callers look at in a method ------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self.plan.identity_of(self.inner.identity)

    @property
    def whole_because(self) -> str | None:
        """Why this method is shown large pictures at once, in words; None where tiles are cut."""
        return getattr(self.inner, "whole_because", None)

    @property
    def clip(self) -> Any:
        return getattr(self.inner, "clip", None)

    @property
    def diffusion(self) -> Any:
        return getattr(self.inner, "diffusion", None)

    @property
    def features(self) -> Any:
        return getattr(self.inner, "features", None)

    @property
    def recordings(self) -> Any:
        return getattr(self.inner, "recordings", None)

    @property
    def config(self) -> Any:
        return getattr(self.inner, "config", None)

    def with_numbers(self, **changes: Any) -> "Tiled":
        """The same plan around the method with other presets or settings."""
        method: Any = self.inner
        return Tiled(method.with_numbers(**changes), self.plan)

    def presence(
        self, strength: Float[np.ndarray, " classes"], *, preset: str
    ) -> Float[np.ndarray, " classes"]:
        return self.inner.presence(strength, preset=preset)

    def decision(self, preset: str) -> Decision:
        return self.inner.decision(preset)

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        return self.inner.read(labels, background=background, preset=preset)

    # -- what corrections teach -------------------------------------------------------

    def cells(self, state: ImageState) -> Float[Tensor, "h w embed"]:
        """Of the look at the whole picture. Raises NotTaught where the method cannot learn."""
        return self._learner.cells(state.context if isinstance(state, TiledState) else state)

    def glance(self, image: Image) -> Float[Tensor, "h w embed"]:
        """At the whole picture."""
        checked = rgb_array(image)
        large = self.plan.is_large((checked.shape[0], checked.shape[1]))
        small = tiles.shrink(checked, most_pixels=LOOK_PIXELS) if large else checked
        return self._learner.glance(np.ascontiguousarray(small))

    def row_logits(
        self, cells: Float[Tensor, "places embed"], vocabulary: Vocabulary
    ) -> Float[Tensor, "places rows"]:
        return self._learner.row_logits(cells, vocabulary)

    @property
    def _learner(self) -> Learner:
        if not isinstance(self.inner, Learner):
            raise NotTaught(self.inner.identity.method)
        return self.inner

    # -- pictures ---------------------------------------------------------------------

    def observe(self, image: Image) -> ImageState:
        """The method's own state of a small picture; a TiledState of a large one.

        What the method is shown is never larger than `LOOK_PIXELS`, by averaging areas.
        """
        return finished(self.observe_in_steps(image))

    def observe_in_steps(self, image: Image) -> Generator[None, None, ImageState]:
        """`observe`, tile by tile, and every tile in the steps that the method knows."""
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            return (yield from self._steps(image))  # says what is wrong, or knows what it is
        size_hw = (image.shape[0], image.shape[1])
        if not self.plan.is_large(size_hw):
            return (yield from self._steps(image))
        image = rgb_array(image)
        grid = self.plan.grid(size_hw)
        if self.whole_because is not None or len(grid) == 1:
            grid = Grid((), ())
        context = yield from self._look(image)
        seen = []
        for top, left, bottom, right in grid.boxes:
            yield
            seen.append((yield from self._look(image[top:bottom, left:right])))
        return TiledState(
            size_hw=self.plan.masks_hw(size_hw),
            context=context,
            tiles=tuple(seen),
            grid=grid,
            picture_hw=size_hw,
        )

    def observe_many(self, images: Sequence[Image]) -> list[ImageState]:
        """One after the other where the method cannot do better, or one of them is large."""
        small = all(self.bucket((image.shape[0], image.shape[1])) is not None for image in images)
        if small and isinstance(self.inner, Batching):
            return self.inner.observe_many(images)
        return [self.observe(image) for image in images]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """The method's own of small pictures; None for large ones, and where there is none."""
        if self.plan.is_large(size_hw) or not isinstance(self.inner, Batching):
            return None
        return self.inner.bucket(size_hw)

    def _look(self, part: Image) -> Generator[None, None, ImageState]:
        small = tiles.shrink(part, most_pixels=LOOK_PIXELS)
        return (yield from self._steps(np.ascontiguousarray(small)))

    def _steps(self, image: Image) -> Generator[None, None, ImageState]:
        """Of the method; a single one where it knows no others."""
        if isinstance(self.inner, InSteps):
            return (yield from self.inner.observe_in_steps(image))
        return self.inner.observe(image)

    # -- scores -----------------------------------------------------------------------

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores:
        """Scores of every look, one after the other, blended on one canvas.

        Class maps are blended after each was scaled to its own strength, so that tiles can be
        compared; row logits before the softmax, and their maps for display beside them. A
        label's strength is the maximum of its blended map: the largest strength of any look
        would believe in far more labels that are not there, since every look is one more chance
        to be wrong (docs/how-to/large-pictures.md).
        """
        if not isinstance(state, TiledState):
            return self.inner.score(state, vocabulary)
        if not state.tiles:
            return replace(self.inner.score(state.context, vocabulary), size_hw=state.size_hw)
        share = self.plan.context
        if vocabulary.correction is not None:
            common = self.cells(state).flatten(0, 1).mean(dim=0)
            correction = replace(vocabulary.correction, common=common)
            vocabulary = replace(vocabulary, correction=correction)
        seen = self.inner.score(state.tiles[0], vocabulary)
        blends = {name: _blend(state, values) for name, values in _values(seen).items()}
        for number, tile in enumerate(state.tiles):
            if number:
                seen = self.inner.score(tile, vocabulary)
            for name, values in _values(seen).items():
                blends[name].add_tile(number, values, share=1 - share)
        whole = self.inner.score(state.context, vocabulary)
        for name, values in _values(whole).items():
            blends[name].add_whole(values, share=share)
        return self._merged(state, whole, blends, preset=vocabulary.preset)

    def _merged(
        self, state: TiledState, whole: Scores, blends: Mapping[str, tiles.Blend], *, preset: str
    ) -> Scores:
        maps = blends["maps"].maps
        strength = maps.max(axis=(1, 2))
        rows = whole.rows
        return replace(
            whole,
            maps=maps,
            strength=strength,
            presence=self.inner.presence(strength, preset=preset),
            size_hw=state.size_hw,
            rows=None if rows is None else replace(rows, values=blends["rows"].maps),
            coarse=blends["coarse"].maps if "coarse" in blends else None,
        )

    def segment(
        self,
        image: Image,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        """Masks for `labels`; those of a very large picture are smaller than the picture."""
        vocabulary = self.read(labels, background=background, preset=preset)
        scores = self.score(self.observe(image), vocabulary)
        return decide(scores, decision or self.decision(vocabulary.preset))


def _values(scores: Scores) -> dict[str, Float[np.ndarray, "some h w"]]:
    """What of one look is blended. Raises ValueError for clusters, which cannot be stitched."""
    if scores.clusters is not None:
        raise ValueError(
            "clusters of tiles cannot be stitched; a method that has some says so in whole_because"
        )

    def scaled(maps: Float[np.ndarray, "some h w"]) -> Float[np.ndarray, "some h w"]:
        largest = maps.max(axis=(1, 2))
        return scale_to_strength(maps, largest=largest, strength=scores.strength)

    values = {"maps": scaled(scores.maps)}
    if scores.rows is not None:
        values["rows"] = scores.rows.values
    if scores.coarse is not None:
        values["coarse"] = scaled(scores.coarse)
    return values


def _blend(state: TiledState, values: Float[np.ndarray, "some h w"]) -> tiles.Blend:
    """An empty canvas with cells of a tile's size; fewer where there are many maps."""
    top, left, bottom, right = state.grid.boxes[0]
    height, width = state.picture_hw
    fine_hw = (
        max(1, round(height * values.shape[1] / (bottom - top))),
        max(1, round(width * values.shape[2] / (right - left))),
    )
    return tiles.Blend(
        len(values),
        picture_hw=state.picture_hw,
        canvas_hw=canvas.affordable_canvas(fine_hw, maps=len(values), most_values=MOST_VALUES),
        grid=state.grid,
    )
