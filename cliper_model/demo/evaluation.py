"""Measure the demo weights on scenes they were not trained on, through the method itself.

Every figure comes out of `methods.cliper.Cliper`, so what is measured is what is shipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import Tensor, nn
from tqdm import tqdm

from ..backbones.clip import ClipBackbone
from ..backbones.diffusion import DiffusionBackbone
from ..methods.cliper import Cliper, CliperConfig, CliperState
from ..presets import Preset
from ..prompts import mean_of_classes
from ..segmenter import Decision, Identity, Scores, Vocabulary
from ..stages import resize
from ..stages.decide import decide
from .captions import BACKGROUND_WORDS, PROMPT_TEMPLATES
from .clip_network import CONTEXT
from .diffusion_network import TIMESTEP, empty_prompt, signal_shares
from .scene_store import SceneStore
from .scenes import LABELS

SMALL: Final = (
    "star", "bird", "moon", "flower", "lamp", "ball", "butterfly", "sun", "mushroom", "plane",
    "rocket", "cloud", "dog", "umbrella",
)  # fmt: skip
"""Labels whose median area in a scene is below 3 %."""

BAND: Final = 2  # pixels to either side of an outline that count as its band


@dataclass(frozen=True, kw_only=True)
class Inference:
    """The choices of inference; made on validation scenes only."""

    short_side: int = 160  # pixels of the CLIP input
    logit_scale: float = 20.0
    attention_threshold: float = 0.3
    select_layer: int = -1
    diffusion_size: int = 256  # pixels of the diffusion input
    timestep: int = TIMESTEP
    noise_seed: int = 0


class Sight:
    """CLIPer on demo networks, with the text rows of all labels at hand."""

    def __init__(
        self,
        clip: CLIP,
        inference: Inference,
        *,
        vae: nn.Module | None = None,
        unet: nn.Module | None = None,
    ) -> None:
        self.inference = inference
        tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        backbone = ClipBackbone(clip, tokenizer)
        diffusion = None if vae is None or unet is None else _diffusion(vae, unet, inference)
        self.method = Cliper(
            backbone,
            diffusion,
            CliperConfig(short_side=inference.short_side),
            presets=lambda _: self.preset,
            identity=Identity(method="cliper", revision=0, profile="demo"),
        )
        with torch.no_grad():
            rows = backbone.encode_words([*LABELS, BACKGROUND_WORDS[0]], PROMPT_TEMPLATES)
        self._rows, self._background = rows[:-1], rows[-1:]

    @property
    def preset(self) -> Preset:
        """The inference choices as a preset without thresholds."""
        return Preset(
            name="whole-scene",
            source="demo",
            background=(),
            templates=PROMPT_TEMPLATES,
            background_cosine=1.0,
            logit_scale=self.inference.logit_scale,
            attention_floor=self.inference.attention_threshold,
            select_layer=self.inference.select_layer,
            presence_knots=((0.0, 0.0), (2.0, 1.0)),
            decision=Decision(background="none", presence_threshold=0.0),
        )

    def grid(self, size: int) -> int:
        """Patches along one side of a square picture."""
        width, _ = resize.whole_patch_size(
            (size, size), short_side=self.inference.short_side, patch=self.method.clip.patch
        )
        return width // self.method.clip.patch

    def vocabulary(self, label_ids: Sequence[int], background: Sequence[int] = ()) -> Vocabulary:
        """Labels by id (1 is the first), other labels and the background word as background."""
        rows = self._rows[[int(k) - 1 for k in label_ids]]
        behind = self._rows[[int(k) - 1 for k in background]]
        classes = range(len(label_ids))
        mean_row = mean_of_classes(rows, classes, len(rows)) if len(rows) > 1 else None
        return Vocabulary(
            labels=tuple(LABELS[k - 1] for k in label_ids),
            preset="whole-scene",
            rows=torch.cat([rows, behind, *([self._background] if len(background) else [])]),
            row_class=tuple(classes),
            mean_row=mean_row,
            background=tuple(LABELS[k - 1] for k in background),
        )

    def coarse(
        self, image: NDArray[np.uint8], label_ids: Sequence[int]
    ) -> Float[Tensor, "classes h w"]:
        """CLIPer's coarse map without refinement."""
        state = self.method.observe(image)
        return self._coarse(state, self.vocabulary(label_ids))

    def _coarse(self, state: CliperState, words: Vocabulary) -> Float[Tensor, "classes h w"]:
        preset = self.preset
        layers = self.method.layer_probabilities(state, words, scale=preset.logit_scale)
        return self.method.coarse(state, layers, preset)

    def score(self, state: CliperState, words: Vocabulary) -> Scores:
        """Refined scores, or coarse ones where the state has no diffusion attention."""
        return self.method.score(state, words)


def without_refinement(state: CliperState) -> CliperState:
    """The same look at the image as if there were no diffusion half."""
    return replace(state, queries=torch.zeros(0, 0, 0), keys=torch.zeros(0, 0, 0))


def _diffusion(vae: nn.Module, unet: nn.Module, inference: Inference) -> DiffusionBackbone:
    share = signal_shares()[inference.timestep]
    return DiffusionBackbone(
        vae,
        unet,
        empty_prompt=empty_prompt(),
        side=inference.diffusion_size,
        timestep=inference.timestep,
        noise_share=(float(share.sqrt()), float((1 - share).sqrt())),
        noise_seed=inference.noise_seed,
    )


@dataclass
class Tally:
    """Confusion matrices of one way to segment; rows are the truth, id 0 unused."""

    whole: NDArray[np.int64] = field(default_factory=lambda: _empty_matrix())
    band: NDArray[np.int64] = field(default_factory=lambda: _empty_matrix())

    def add(
        self, predicted: NDArray[Any], truth: NDArray[np.uint8], near: NDArray[np.bool_]
    ) -> None:
        """Count labelled pixels; `near` marks those near an outline."""
        labelled = truth > 0
        self.whole += _confusion(predicted[labelled], truth[labelled])
        self.band += _confusion(predicted[labelled & near], truth[labelled & near])

    def figures(self) -> dict[str, float]:
        """Percent: mIoU, accuracy, mIoU near outlines, mIoU of the small labels."""
        small = [LABELS.index(label) + 1 for label in SMALL]
        return {
            "mIoU": mean_iou(self.whole),
            "accuracy": 100 * float(np.diag(self.whole).sum() / max(1, self.whole.sum())),
            "outline mIoU": mean_iou(self.band),
            "small mIoU": float(iou(self.whole)[small].mean()),
        }

    def per_label(self) -> dict[str, float]:
        """IoU in percent."""
        return dict(zip(LABELS, iou(self.whole)[1:].tolist(), strict=True))


def _empty_matrix() -> NDArray[np.int64]:
    return np.zeros((len(LABELS) + 1,) * 2, np.int64)


def _confusion(predicted: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    size = len(LABELS) + 1
    pairs = size * truth.astype(np.int64) + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=size**2).reshape(size, size)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Percent per label; 0 for a label that occurs nowhere."""
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * hits / np.maximum(1, union)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Percent, over labels that occur in the truth."""
    occurs = confusion.sum(1) > 0
    return float(iou(confusion)[occurs].mean()) if occurs.any() else 0.0


def near_outlines(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels within `BAND` of a pixel with another label."""
    padded = np.pad(truth, BAND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * BAND + 1,) * 2)
    near: NDArray[np.bool_] = windows.max((2, 3)) != windows.min((2, 3))
    return near


@dataclass(frozen=True)
class Strengths:
    """Per-class strength of every scene under one kind of vocabulary; NaN where not asked."""

    values: NDArray[np.float32]  # [scenes, labels]
    present: NDArray[np.bool_]  # [scenes, labels]


@dataclass(frozen=True)
class Measured:
    """All that is counted on one set of scenes.

    tallies     "given" (the image's words), "all", and " refined" versions of both
    asked_all   strengths of all labels at once
    asked_none  strengths of six labels the scene does not show, all others being background
    """

    tallies: Mapping[str, Tally]
    asked_all: Strengths
    asked_none: Strengths


def measure(
    sight: Sight, store: SceneStore, *, count: int, seed: int = 0, progress: bool = False
) -> Measured:
    """Segment and score the first `count` scenes. Scenes of one label are only scored."""
    rng = np.random.default_rng(seed)
    every_id = list(range(1, len(LABELS) + 1))
    everything = sight.vocabulary(every_id)
    tallies: dict[str, Tally] = {}
    strengths, absent, present = [], [], []
    for index in tqdm(range(min(count, len(store))), desc="measuring", disable=not progress):
        truth = store.label_map(index)
        near, shown = near_outlines(truth), np.setdiff1d(truth, [0]).astype(np.int64)
        state = sight.method.observe(np.asarray(store.images[index]))
        ways = {"": without_refinement(state)}
        if state.queries.shape[0]:
            ways[" refined"] = state
        for suffix, seen in ways.items():
            among_all = sight.score(seen, everything)
            if len(shown) < 2:
                continue
            given = winners(sight.score(seen, sight.vocabulary(shown.tolist())))
            tallies.setdefault("given" + suffix, Tally()).add(shown[given - 1], truth, near)
            tallies.setdefault("all" + suffix, Tally()).add(winners(among_all), truth, near)
        missing = np.setdiff1d(every_id, shown)
        asked = sorted(rng.choice(missing, 6, replace=False).tolist())
        behind = [k for k in every_id if k not in asked]
        row = np.full(len(LABELS), np.nan, np.float32)
        row[[k - 1 for k in asked]] = sight.score(state, sight.vocabulary(asked, behind)).strength
        strengths.append(among_all.strength)
        absent.append(row)
        present.append(np.isin(every_id, shown))
    there = np.stack(present)
    return Measured(
        tallies, Strengths(np.stack(strengths), there), Strengths(np.stack(absent), there)
    )


def measure_given(sight: Sight, store: SceneStore, *, count: int, progress: bool = False) -> Tally:
    """Segment the first `count` scenes given the image's words, refined: for controls."""
    tally = Tally()
    for index in tqdm(range(min(count, len(store))), desc="control", disable=not progress):
        truth = store.label_map(index)
        shown = np.setdiff1d(truth, [0]).astype(np.int64)
        if len(shown) >= 2:
            state = sight.method.observe(np.asarray(store.images[index]))
            found = winners(sight.score(state, sight.vocabulary(shown.tolist())))
            tally.add(shown[found - 1], truth, near_outlines(truth))
    return tally


def winners(scores: Scores) -> NDArray[np.int64]:
    """Position + 1 of the best label at every pixel, none left out, `[H, W]`."""
    decision = Decision(background="none", presence_threshold=0.0)
    label_map: NDArray[np.int64] = decide(scores, decision).label_map.astype(np.int64)
    return np.maximum(label_map, 1)


def presence_figures(found: Strengths, threshold: float) -> Mapping[str, float]:
    """Precision, recall and false labels per image of `strength > threshold`."""
    claimed = found.values > threshold
    right = float((claimed & found.present).sum())
    return {
        "precision": right / max(1.0, float(claimed.sum())),
        "recall": right / max(1.0, float(found.present.sum())),
        "false labels per image": float((claimed & ~found.present).sum()) / len(found.values),
    }


def absent_figures(found: Strengths, threshold: float) -> Mapping[str, float]:
    """Of scenes asked for nothing they show: share without any claim, and false labels."""
    claimed = found.values > threshold  # NaN, not asked, claims nothing
    return {
        "empty": float((~claimed.any(1)).mean()),
        "false labels per image": float(claimed.sum()) / len(claimed),
    }
