"""Three steps, every method: observe the image, score the words, decide the masks.

    observe(image) -> ImageState        the network looks once; never sees a word
    score(state, vocabulary) -> Scores  cheap; runs again when words or thresholds change
    decide(scores, decision) -> Segmentation   cheap; never runs the network

Nothing is remembered between calls: whatever the next step needs travels in the value.
"""

import json
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from .errors import EmptyVocabulary, IncompatibleState
from .shapes import Image

ALL = slice(None)  # rows or columns
BLOCK_PIXELS = 1_000_000  # counted at once, in 8 bytes each

REST_NAMES = frozenset({"background", "other", "void", "unlabeled", "unlabelled", "ignore"})
MOST_SMOOTH = 50  # pixels; the largest radius outlines are rounded with

Outcome = TypeVar("Outcome")


def canonical_word(word: str) -> str:
    """One spelling per word: lower case, single blanks, no surrounding blanks."""
    return " ".join(word.lower().split())


@dataclass(frozen=True)
class Label:
    """One thing to look for: the name shown to people, and the words that describe it.

    `words` are synonyms; any of them may match. Without words the name itself is the word.
    `also` are other names of the same thing, such as an alias: never looked for, but never
    background either. `templates` are the sentences its words are read in, `{}` takes the word;
    without any the preset's are used.
    A label named Background, Other, Void, Unlabeled or Ignore is never looked for; it
    stands for the rest of the picture.
    """

    name: str
    words: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Distinct words in the order given; case and extra blanks do not make a new word."""
        distinct: dict[str, str] = {}
        for word in self.words or (self.name,):
            distinct.setdefault(canonical_word(word), " ".join(word.split()))
        return tuple(distinct.values())

    @property
    def is_rest(self) -> bool:
        return canonical_word(self.name) in REST_NAMES


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What people's corrections add to the logits of words; linear in CLIP's joint space.

    weights    of a place's features (`places.standing_out` of `Learner.cells`), per label, and
               last for everything that is no label: background words and the mean row
    bias       the same order
    taught     of whom something is known, the same order: they share out anew what they claim
               together by the words, so that labels nobody painted yet are not taken away
    others     added to those of whom nothing is known, the same order: what words overstate
    common     mean of the whole picture's features, where a look shows only a part of it
    word_bias  per text row, before synonyms are folded: 0 leaves a word alone, less mistrusts it

    In units of logits, so the numbers belong to one method and one preset.
    """

    weights: Float[Tensor, "outcomes embed"]
    bias: Float[Tensor, " outcomes"]
    taught: Bool[Tensor, " outcomes"]
    word_bias: Float[Tensor, " rows"]
    others: Float[Tensor, " outcomes"]
    common: Float[Tensor, " embed"] | None = None

    def bonus(self, cells: Float[Tensor, "*places embed"]) -> Float[Tensor, "*places outcomes"]:
        """What every place adds to every outcome."""
        device = cells.device
        return cells @ self.weights.to(device).T + self.bias.to(device)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Labels as text rows, ready to be compared with patches.

    `rows` holds one row per distinct word of every label, then one per background word;
    `row_class` says which label a foreground row belongs to. `mean_row` is the generic
    "some object of the list" row, or None where it would only repeat a single label.
    `preset` names the numbers the rows were made for. `correction`: what was learnt on top.
    """

    labels: tuple[str, ...]
    preset: str
    rows: Float[Tensor, "rows embed"]
    row_class: tuple[int, ...]
    mean_row: Float[Tensor, " embed"] | None
    background: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()  # background words too close to a label
    rest: str | None = None  # the label that means everything else
    correction: Correction | None = None

    def __post_init__(self) -> None:
        if not self.labels:
            raise EmptyVocabulary
        if self.correction is not None:
            outcomes, rows = len(self.labels) + 1, len(self.rows)
            if len(self.correction.bias) != outcomes or len(self.correction.word_bias) != rows:
                raise ValueError(
                    f"the correction is for {len(self.correction.bias) - 1} labels and "
                    f"{len(self.correction.word_bias)} words, not for {outcomes - 1} and {rows}"
                )


@dataclass(frozen=True)
class ImageState:
    """What one look at an image leaves behind; depends on the image and the model only.

    Subclasses name their tensors as fields; the other fields are numbers or tuples of
    numbers. Serialised as safetensors, never pickle.

    guide  the picture at a bounded size, for methods whose maps follow its edges; else empty
    """

    kind: ClassVar[str] = "image-state"

    size_hw: tuple[int, int]
    guide: UInt8[Tensor, "3 guide_h guide_w"] = field(
        default_factory=lambda: torch.zeros(3, 0, 0, dtype=torch.uint8), kw_only=True
    )

    def to_bytes(self) -> bytes:
        """safetensors; plain numbers travel in the header."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {
            name: value.contiguous().cpu()
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        plain = {name: value for name, value in values.items() if name not in tensors}
        header = json.dumps({"kind": self.kind, **plain}, sort_keys=True)
        return bytes(save_safetensors(tensors, {"state": header}))

    @classmethod
    def from_bytes(cls, data: bytes) -> "ImageState":
        """Raises IncompatibleState for bytes of another kind."""
        length = int.from_bytes(data[:8], "little")
        try:
            plain = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
            kind = plain.pop("kind")
        except (ValueError, KeyError, TypeError) as unreadable:
            raise IncompatibleState("unreadable bytes", cls.kind) from unreadable
        if kind != cls.kind:
            raise IncompatibleState(kind, cls.kind)
        values: dict[str, Any] = {name: _as_tuples(value) for name, value in plain.items()}
        values.update(load_safetensors(data))
        return cls(**values)


def read_state(data: bytes) -> ImageState:
    """A state of whatever kind, of a method that was imported. Raises IncompatibleState."""
    length = int.from_bytes(data[:8], "little")
    try:
        kind = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])["kind"]
    except (ValueError, KeyError, TypeError) as unreadable:
        raise IncompatibleState("unreadable bytes", "any state") from unreadable
    return state_of_kind(kind).from_bytes(data)


def state_of_kind(kind: str) -> type[ImageState]:
    """The class that writes states of this kind, among those that were ever imported.

    Raises IncompatibleState.
    """
    waiting = ImageState.__subclasses__()
    while waiting:
        found = waiting.pop()
        if found.kind == kind and not found.__name__.startswith("_"):
            return found
        waiting.extend(found.__subclasses__())
    raise IncompatibleState(kind, "a method that is loaded")


def _as_tuples(value: Any) -> Any:
    """JSON's lists back to tuples, however deep."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class RowLogits:
    """Logits per text row, of a method whose softmax comes after upsampling.

    At every pixel: bilinear, times `scale`, softmax over all rows; a label is as likely as its
    likeliest row. Rows of class -1 are background words: where one of them is the likeliest,
    the pixel is background.
    """

    values: Float[np.ndarray, "rows h w"]
    row_class: tuple[int, ...]
    scale: float

    def __post_init__(self) -> None:
        if len(self.row_class) != len(self.values):
            raise ValueError(f"{len(self.values)} rows but {len(self.row_class)} classes of rows")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How much each label claims each place, on the model's own grid (`h w`), and presence.

    `maps` are not limited to [0, 1]; `strength` is the published per-class score
    (specification §9 step 1); `presence` is its monotone map to [0, 1], where 0.5 is the
    preset's published threshold. `size_hw` is the size of the image in pixels.
    With `rows`, pixels are decided by these logits, and `maps` are the probabilities they
    give on a coarse grid, for display. With `clusters`, every pixel belongs to the strongest
    cluster and the most frequent label of a cluster takes all of it (CLIPtrase).
    `agreement` is the share of places where refinement left the strongest label as it was; None
    where nothing was refined. `coarse` are the maps before refinement; None likewise. `device` is
    the graphics card that made the maps, where pixels are labelled fastest; None: a processor did.
    """

    labels: tuple[str, ...]
    maps: Float[np.ndarray, "classes h w"]
    strength: Float[np.ndarray, " classes"]
    presence: Float[np.ndarray, " classes"]
    size_hw: tuple[int, int]
    rest: str | None = None
    rows: RowLogits | None = None
    clusters: Float[np.ndarray, "clusters h2 w2"] | None = None
    agreement: float | None = None
    coarse: Float[np.ndarray, "classes coarse_h coarse_w"] | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Every number that turns scores into masks; changing one never runs the network.

    `presence_threshold`, `mask_threshold`, `min_area` and `min_piece` may be one number or one
    per label.
    `mask_threshold` is relative to the label's own maximum, 0 leaves the preset's rule alone.
    `refined` False cuts masks from the maps before refinement, where there are any; which labels
    are there is judged as before.
    `background` is the published rule: "threshold" (branch A: pixels whose best score is
    below `background_threshold` are background), "quadratic" (branch B: background scores
    (1 - max)²), or "none" (every pixel gets the best label that is present).
    """

    presence_threshold: float | tuple[float, ...] = 0.5
    mask_threshold: float | tuple[float, ...] = 0.0
    background: str = "threshold"
    background_threshold: float = 0.3
    normalise: bool = False  # stretch each map to [0, 1] first (published for VOC only)
    overlap: bool = False  # True: each label is thresholded on its own; masks may overlap
    min_area: float | tuple[float, ...] = 0.0  # labels with a smaller share of it are dropped
    min_piece: float | tuple[float, ...] = 0.0  # connected pieces with a smaller share, too
    largest_hole: float = 0.0  # share; unclaimed holes in a label up to this one are filled
    smooth: int = 0  # pixels; radius of the rounding of outlines, 0 leaves them alone
    refined: bool = True  # False: as if nothing had been refined

    def __post_init__(self) -> None:
        if self.background not in ("threshold", "quadratic", "none"):
            raise ValueError(
                f"background must be 'threshold', 'quadratic' or 'none', got {self.background!r}"
            )
        threshold = float(self.background_threshold)  # numpy's own numbers compare otherwise
        object.__setattr__(self, "background_threshold", threshold)
        for name in ("presence_threshold", "mask_threshold", "largest_hole"):
            for number in _numbers(getattr(self, name)):
                if not 0.0 <= number <= 1.0:
                    raise ValueError(f"{name} must be in [0, 1], got {number}")
        for name in ("min_area", "min_piece"):
            for number in _numbers(getattr(self, name)):
                if not 0.0 <= number < 1.0:
                    raise ValueError(f"{name} must be in [0, 1), got {number}")
        if not isinstance(self.smooth, int) or not 0 <= self.smooth <= MOST_SMOOTH:
            raise ValueError(
                f"smooth must be a whole number of pixels from 0 to {MOST_SMOOTH}, "
                f"got {self.smooth}"
            )

    def per_label(self, name: str, count: int) -> Float[np.ndarray, " classes"]:
        """The number `name` of each of `count` labels. Raises ValueError for another count."""
        numbers = _numbers(getattr(self, name))
        if isinstance(getattr(self, name), tuple) and len(numbers) != count:
            many = "number" if len(numbers) == 1 else "numbers"
            raise ValueError(f"{name} has {len(numbers)} {many} for {count} labels")
        return np.broadcast_to(np.asarray(numbers, np.float64), (count,))


def _numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Masks of one image. Labels that were not found have an empty mask.

    `label_map` holds 0 where no label claims the pixel, else index of the label + 1.
    `layers` is given only for overlapping masks; `label_map` then shows the strongest one.
    """

    labels: tuple[str, ...]
    label_map: Int[np.ndarray, "height width"]
    confidence: Float[np.ndarray, " classes"]  # mean inside the mask, 0 without a mask
    presence: Float[np.ndarray, " classes"]
    rest: str | None = None
    layers: Bool[np.ndarray, "classes height width"] | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.label_map.shape[0], self.label_map.shape[1]

    def mask(
        self, index: int, rows: slice = ALL, columns: slice = ALL
    ) -> Bool[np.ndarray, "height width"]:
        """Where label number `index` is, in these rows and columns."""
        if self.layers is not None:
            return self.layers[index, rows, columns]
        return self.label_map[rows, columns] == index + 1

    @property
    def rest_mask(self) -> Bool[np.ndarray, "height width"]:
        """Pixels no label claims."""
        return self.label_map == 0

    @property
    def areas(self) -> Int[np.ndarray, " classes"]:
        """Pixels per label."""
        if self.layers is not None:
            return np.array([np.count_nonzero(layer) for layer in self.layers], np.int64)
        counts = np.zeros(len(self.labels) + 1, np.int64)
        step = max(1, BLOCK_PIXELS // max(1, self.label_map.shape[1]))
        for start in range(0, self.label_map.shape[0], step):
            block = self.label_map[start : start + step]
            counts += np.bincount(block.ravel(), minlength=len(counts))
        return counts[1:]

    @property
    def region_scores(self) -> Float[np.ndarray, " classes"]:
        """Presence times mean in-mask confidence, per label."""
        return self.presence * self.confidence

    @property
    def score(self) -> float:
        """Area-weighted mean of the region scores; without a region 1 - highest presence."""
        areas = self.areas.astype(np.float64)
        if areas.sum() == 0:
            return float(1.0 - self.presence.max(initial=0.0))
        return float((areas * self.region_scores).sum() / areas.sum())


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What masks depend on besides words and decisions; feeds the model version."""

    method: str
    revision: int  # raised whenever the method's masks change
    profile: str
    weights: Mapping[str, str] = field(default_factory=dict)  # file -> SHA-256
    settings: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Segmenter(Protocol):
    """What every method offers. Instances are immutable and may be shared between threads."""

    @property
    def identity(self) -> Identity: ...

    def read(
        self,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
    ) -> Vocabulary:
        """Encode words. `background` None = the preset's own words; () = none.

        `preset` None picks `objects`, or `whole-scene` when `background` is empty but given.
        Raises EmptyVocabulary, UnknownPreset, UntrainedWords.
        """
        ...

    def observe(self, image: Image) -> ImageState: ...

    def score(self, state: ImageState, vocabulary: Vocabulary) -> Scores: ...

    def decision(self, preset: str) -> Decision:
        """The preset's own decision numbers for this method and these weights."""
        ...

    def segment(
        self,
        image: Image,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str] | None = None,
        preset: str | None = None,
        decision: Decision | None = None,
    ) -> Segmentation:
        """observe, score and decide in one call."""
        ...


@runtime_checkable
class Batching(Segmenter, Protocol):
    """A Segmenter that looks at several pictures at once, where that is faster."""

    def observe_many(self, images: Sequence[Image]) -> list[ImageState]:
        """The states `observe` gives, in the same order, up to rounding; images of one bucket.

        Raises as `observe`, and then for all of them.
        """
        ...

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """Pictures of the same bucket may be looked at together; None: such a picture never is."""
        ...


@runtime_checkable
class InSteps(Segmenter, Protocol):
    """A Segmenter whose look at a picture can be interrupted, so that others need not wait for the
    end of it."""

    def observe_in_steps(self, image: Image) -> Generator[None, None, ImageState]:
        """The state `observe` gives, to the bit.

        Between two steps nothing begins, little is held, and other pictures may be looked at; a
        card may still be at work on what the steps before gave it. Raises as `observe`, in
        whichever step.
        """
        ...


def finished(
    steps: Generator[None, None, Outcome], *, between: Callable[[], object] = lambda: None
) -> Outcome:
    """What steps lead to, all of them taken, with a call of `between` between any two."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        between()


@runtime_checkable
class Learner(Segmenter, Protocol):
    """A Segmenter that corrections can teach: it honours `Vocabulary.correction`."""

    def cells(self, state: ImageState) -> Float[Tensor, "h w embed"]:
        """What words are compared with, place by place, on the CPU as float32.

        Of several looks at a picture the one at the whole. Raises IncompatibleState.
        """
        ...

    def glance(self, image: Image) -> Float[Tensor, "h w embed"]:
        """`cells` of a picture without all that only masks need, such as refinement."""
        ...

    def row_logits(
        self, cells: Float[Tensor, "places embed"], vocabulary: Vocabulary
    ) -> Float[Tensor, "places rows"]:
        """Logits of every text row, and last of the mean row where there is one; no correction.

        Linear in `cells`.
        """
        ...
