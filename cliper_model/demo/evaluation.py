"""Measure the demo weights on scenes they were not trained on, through the method itself.

Every figure comes out of `methods.cliper.Cliper`, so what is measured is what is shipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import Tensor, nn
from tqdm import tqdm

from .. import presets, profiles
from ..backbones.clip import ClipBackbone
from ..backbones.diffusion import DiffusionBackbone
from ..methods.cliper import Cliper, CliperConfig, CliperState
from ..presets import Preset
from ..prompts import mean_of_classes
from ..segmenter import Decision, Identity, Scores, Vocabulary
from ..stages import edges, resize
from ..stages.decide import decide
from .captions import BACKGROUND_WORDS, PROMPT_TEMPLATES
from .clip_network import CONTEXT
from .diffusion_network import TIMESTEP, signal_shares
from .scene_sources import Drawn
from .scenes import LABELS
from .tally import Tally, near_outlines, sum_of


@dataclass(frozen=True, kw_only=True)
class Inference:
    """The choices of inference; made on validation scenes only."""

    short_side: int = 160  # pixels of the CLIP input
    logit_scale: float = 20.0
    attention_threshold: float = 0.3
    select_layer: int = -1
    diffusion_size: int = 208  # pixels of the diffusion input
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
        empty_prompt: Tensor | None = None,
    ) -> None:
        """`vae`, `unet` and `empty_prompt` belong together; without them nothing is refined."""
        self.inference, self.preset = inference, _preset(inference)
        chosen = self.preset  # the method must not hold its owner, or both stay in memory
        tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        backbone = ClipBackbone(clip, tokenizer)
        diffusion = None
        if vae is not None and unet is not None and empty_prompt is not None:
            diffusion = _diffusion(vae, unet, empty_prompt, inference)
        self.method = Cliper(
            backbone,
            diffusion,
            CliperConfig(short_side=inference.short_side),
            presets=lambda _: chosen,
            identity=Identity(method="cliper", revision=0, profile="demo"),
        )
        with torch.no_grad():
            rows = backbone.encode_words([*LABELS, BACKGROUND_WORDS[0]], PROMPT_TEMPLATES)
        self._rows, self._background = rows[:-1], rows[-1:]

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


def _preset(inference: Inference) -> Preset:
    """The inference choices as a preset without thresholds."""
    return Preset(
        name="whole-scene",
        source="demo",
        background=(),
        templates=PROMPT_TEMPLATES,
        background_cosine=1.0,
        logit_scale=inference.logit_scale,
        attention_floor=inference.attention_threshold,
        select_layer=inference.select_layer,
        presence_knots=((0.0, 0.0), (2.0, 1.0)),
        decision=Decision(background="none", presence_threshold=0.0),
    )


def without_refinement(state: CliperState) -> CliperState:
    """The same look at the image as if there were no diffusion half."""
    return replace(state, queries=torch.zeros(0, 0, 0), keys=torch.zeros(0, 0, 0))


def _diffusion(
    vae: nn.Module, unet: nn.Module, empty_prompt: Tensor, inference: Inference
) -> DiffusionBackbone:
    share = signal_shares()[inference.timestep]
    return DiffusionBackbone(
        vae,
        unet,
        empty_prompt=empty_prompt,
        side=inference.diffusion_size,
        timestep=inference.timestep,
        noise_share=(float(share.sqrt()), float((1 - share).sqrt())),
        noise_seed=inference.noise_seed,
    )


@dataclass(frozen=True)
class Strengths:
    """Per-label strength in every scene under one kind of vocabulary; NaN where not asked."""

    values: NDArray[np.float32]  # [scenes, labels]
    present: NDArray[np.bool_]  # [scenes, labels]


@dataclass(frozen=True)
class Measured:
    """All that is counted on some scenes.

    tallies     "given" (the image's words) and "all", both also " refined", and " as shipped":
                refined and made to follow edges of the picture
    asked_all   strengths of all labels at once
    asked_none  strengths of six labels the scene does not show, all others being background
    named       which labels get a region of their own as shipped, all 34 being asked for
    """

    tallies: Mapping[str, Tally]
    asked_all: Strengths
    asked_none: Strengths
    named: Strengths


def measure(
    sight: Sight,
    draw: Callable[[int], Drawn],
    indices: Sequence[int],
    *,
    seed: int = 0,
    progress: bool = False,
) -> Measured:
    """Segment and score some scenes. A scene of one label is only scored."""
    every_id = list(range(1, len(LABELS) + 1))
    everything = sight.vocabulary(every_id)
    shipped = as_shipped(sight)
    objects, decision = shipped.read(LABELS), shipped.decision("objects")
    tallies: dict[str, Tally] = {}
    strengths, absent, named, present = [], [], [], []
    for index in tqdm(indices, desc="measuring", disable=not progress):
        image, truth = draw(index)
        near, shown = near_outlines(truth), np.setdiff1d(truth, [0]).astype(np.int64)
        state = shipped.observe(image)
        among_all = _ways(sight, state, everything)
        if len(shown) > 1:
            given = _ways(sight, state, sight.vocabulary(shown.tolist()))
            for way, found in given.items():
                labels = shown[winners(found) - 1]
                tallies.setdefault("given" + way, Tally()).add(labels, truth, near)
            for way, found in among_all.items():
                tallies.setdefault("all" + way, Tally()).add(winners(found), truth, near)
        missing = np.setdiff1d(every_id, shown)
        rng = np.random.default_rng((seed, index))
        asked = sorted(rng.choice(missing, min(6, len(missing)), replace=False).tolist())
        behind = [k for k in every_id if k not in asked]
        row = np.full(len(LABELS), np.nan, np.float32)
        row[[k - 1 for k in asked]] = sight.score(state, sight.vocabulary(asked, behind)).strength
        strengths.append(list(among_all.values())[-1].strength)  # edges leave it as it was
        absent.append(row)
        named.append(decide(shipped.score(state, objects), decision).areas > 0)
        present.append(np.isin(every_id, shown))
    there = np.stack(present)
    return Measured(
        tallies,
        Strengths(np.stack(strengths), there),
        Strengths(np.stack(absent), there),
        Strengths(np.stack(named).astype(np.float32), there),
    )


def _ways(sight: Sight, state: CliperState, words: Vocabulary) -> dict[str, Scores]:
    """Scores without refinement, with it, and with edges; only the first without a U-Net."""
    ways = {"": sight.score(without_refinement(state), words)}
    if state.queries.shape[0]:
        ways[" refined"] = sight.score(state, words)
        rule = shipped_edges()
        ways[" as shipped"] = edges.sharpen(ways[" refined"], state.guide, rule=rule)
    return ways


def shipped_edges() -> str:
    """The rule by which maps of the demo follow edges of the picture."""
    return profiles.method_card("cliper").edge_aware.get("demo", "none")


def as_shipped(sight: Sight) -> Cliper:
    """The same networks with the package's own presets and edges, as users get them."""
    method = sight.method.with_numbers(
        presets=lambda name: presets.get(name, "demo"), edge_aware=shipped_edges()
    )
    assert isinstance(method, Cliper)
    return method


def together(parts: Sequence[Measured]) -> Measured:
    """What was measured on several runs of scenes, in their order."""
    ways = dict.fromkeys(way for part in parts for way in part.tallies)
    return Measured(
        {way: sum_of(part.tallies[way] for part in parts if way in part.tallies) for way in ways},
        _joined([part.asked_all for part in parts]),
        _joined([part.asked_none for part in parts]),
        _joined([part.named for part in parts]),
    )


def _joined(parts: Sequence[Strengths]) -> Strengths:
    return Strengths(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
    )


def measure_given(sight: Sight, draw: Callable[[int], Drawn], indices: Sequence[int]) -> Tally:
    """Segment some scenes given the image's words, refined: for controls."""
    tally = Tally()
    for index in indices:
        image, truth = draw(index)
        shown = np.setdiff1d(truth, [0]).astype(np.int64)
        if len(shown) > 1:
            state = sight.method.observe(image)
            found = winners(sight.score(state, sight.vocabulary(shown.tolist())))
            tally.add(shown[found - 1], truth, near_outlines(truth))
    return tally


def winners(scores: Scores) -> NDArray[np.int64]:
    """Position + 1 of the best label at every pixel, none left out, `[H, W]`."""
    decision = Decision(background="none", presence_threshold=0.0)
    label_map: NDArray[np.int64] = decide(scores, decision).label_map.astype(np.int64)
    return np.maximum(label_map, 1)


def presence_figures(found: Strengths, threshold: float) -> Mapping[str, float]:
    """Percent: precision and recall of `strength > threshold`; and false labels per image."""
    claimed = found.values > threshold
    right = float((claimed & found.present).sum())
    return {
        "precision": 100 * right / max(1.0, float(claimed.sum())),
        "recall": 100 * right / max(1.0, float(found.present.sum())),
        "false labels per image": float((claimed & ~found.present).sum()) / len(found.values),
    }


def absent_figures(found: Strengths, threshold: float) -> Mapping[str, float]:
    """Of scenes asked for nothing they show: percent without any claim, and false labels."""
    claimed = found.values > threshold  # NaN, not asked, claims nothing
    return {
        "empty": 100 * float((~claimed.any(1)).mean()),
        "false labels per image": float(claimed.sum()) / len(claimed),
    }


def choose_threshold(
    found: Strengths, *, precision: float = 90.0, false_labels: float = 0.4
) -> float:
    """The score threshold of largest recall among those that claim carefully, in hundredths.

    precision     percent of the claims that have to be right
    false_labels  per image, at most

    `found` must come from validation scenes. Raises ValueError where no threshold is careful.
    """
    best: tuple[float, float] | None = None
    for threshold in np.arange(5, 200) / 100:
        figures = presence_figures(found, float(threshold))
        careful = (
            figures["precision"] >= precision and figures["false labels per image"] <= false_labels
        )
        if careful and (found.values > threshold).any():
            best = max(best or (0.0, 0.0), (figures["recall"], float(threshold)))
    if best is None:
        raise ValueError(
            f"no threshold reaches precision {precision:g} with at most {false_labels:g} false "
            "labels per image; train longer or ask for less"
        )
    return best[1]
