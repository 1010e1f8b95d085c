"""The text that travels with the demo weights: data, losses, figures, and what they do not show."""

from collections.abc import Mapping, Sequence
from typing import Final

Figures = Mapping[str, Mapping[str, float]]
"""Row -> figure -> value; the contents of `figures.json`."""

_ROWS: Final = (
    ("given", "image's words, without refinement"),
    ("given refined", "image's words, with refinement"),
    ("all", "all 34 words, without refinement"),
    ("all refined", "all 34 words, with refinement"),
)
_CONTROLS: Final = (
    "no refinement",
    "as shipped",
    "untrained",
    "key = query start",
    "noise prediction only",
)
_COLUMNS: Final = ("mIoU", "accuracy", "outline mIoU", "small mIoU")

_TEXT: Final = """\
# Demo weights

A CLIP of 1.9 million parameters and a diffusion half (autoencoder encoder and U-Net) of
2.9 million, trained from nothing on drawn storybook scenes. They exist so that the whole program
runs and can be tested without any download. They know 34 labels and their synonyms
(`demo.json`), nothing else.

Trained {date} on {machine} by the trainers in `cliper_model/demo`, which
`cliper train-demo` runs. Logs: `train-clip.log`, `train-diffusion.log`; all figures, also per
label: `figures.json`. Licence: Apache-2.0.

## Data

Scenes of 192 x 192 pixels from the generator in `cliper_model/demo/scenes`: 7 kinds of ground and
27 kinds of things, nine layouts, day and night, textures, exact masks, captions made from what
is visible. Training, validation and test scenes come from different seeds.

## Losses

CLIP half, on crops of 64 to 128 pixels: contrastive (crop against caption); is this word in the
crop; cross-entropy of every patch against all words, through CLIPer's own path (accumulated
attention, progressive normalisation, sharpening, the last block's value projection), for the last
layer and one random earlier layer; colour phrases. Unknown words are negatives; unlabelled pixels
belong to the background word, or to the mean of all words.

**The patch features are supervised with masks of synthetic scenes.** This is not CLIP-style
pre-training from image and text alone.

Diffusion half: the autoencoder rebuilds colours and edges from a near-linear start. The U-Net
predicts noise, and three steps in four its attention, with key = query at the start, is trained
through the exact refinement chain: from this CLIP's own coarse maps to the true masks.

## Figures on {scenes} test scenes

Choices (short side {short_side} px, logit scale {logit_scale:g}, threshold {threshold},
diffusion input {diffusion_size} px, timestep {timestep}, score threshold {score_threshold})
were made on validation scenes. Percent; *outline* counts pixels within 2 px of an outline,
*small* the 14 labels whose median area is below 3 % of a scene. With all 34 words every labelled
pixel gets one of them.

{table}

Is a label in the picture, asked with all 34 words, strength above {score_threshold}: precision
{precision:.2f}, recall {recall:.2f}, {false_labels:.2f} false labels per image. Asked for six
words that are not in the picture, the other words being background, {empty:.0%} of the images
claim nothing.

## Controls

Image's words on {control_scenes} of the test scenes, refined with other U-Nets:

{controls}

"Untrained" is a default start, "key = query start" the start used here before any step, "noise
prediction only" the same after its first steps, which see no mask (so few that it is a weak
control). What refinement gains comes from training through it, not from having a U-Net.

## What these figures do not show

- One seed: how far another one would move them was not measured.
- The attention is supervised with masks of synthetic scenes and fitted to this CLIP's own coarse
  maps; whoever retrains the CLIP half must retrain the diffusion half.
- The condition of the U-Net is a constant stand-in for an empty prompt.
- Neither figure is evidence about CLIP, about diffusion models, or about which published method
  is better.
- Photographs, and words outside the list, are out of reach; such words are refused.
"""


def model_card(
    figures: Figures,
    choices: Mapping[str, float],
    *,
    scenes: int,
    control_scenes: int,
    date: str,
    machine: str,
) -> str:
    """`MODEL_CARD.md`; `choices` are those of `demo.json`."""
    presence, absent = figures["presence"], figures["absent"]
    return _TEXT.format(
        date=date,
        machine=machine,
        scenes=scenes,
        control_scenes=control_scenes,
        short_side=choices["short_side"],
        logit_scale=choices["logit_scale"],
        threshold=choices["attention_threshold"],
        diffusion_size=choices["diffusion_size"],
        timestep=choices["timestep"],
        score_threshold=choices["score_threshold"],
        table=_table([(title, figures[row]) for row, title in _ROWS if row in figures]),
        controls=_table([(row, figures[row]) for row in _CONTROLS if row in figures]),
        precision=presence["precision"],
        recall=presence["recall"],
        false_labels=presence["false labels per image"],
        empty=absent["empty"],
    )


def _table(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    lines = [f"| | {' | '.join(_COLUMNS)} |", "| --- |" + " --- |" * len(_COLUMNS)]
    for title, values in rows:
        lines.append(f"| {title} | {' | '.join(f'{values[c]:.1f}' for c in _COLUMNS)} |")
    return "\n".join(lines)
