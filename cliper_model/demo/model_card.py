"""The text that travels with the demo weights: data, losses, figures, and what they do not show.

Every number in it comes from `figures.json`, `demo.json`, the logs, the weights or the code that
made them, so the text can be written again and compared word by word.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .captions import NEVER_TOGETHER
from .clip_batches import BALANCED
from .controls import NOISE_ONLY, TRAINED, UNTRAINED, WELL_STARTED
from .figures import SHIFTS, Bench, Figures
from .scenes import LABELS, STUFF, THINGS
from .scenes.layouts import FREQUENCIES
from .tally import BAND, SMALL

_WAYS: Final = (
    ("given", "image's words, without refinement"),
    ("given refined", "image's words, with refinement"),
    ("given as shipped", "image's words, as shipped"),
    ("all", "all {labels} words, without refinement"),
    ("all refined", "all {labels} words, with refinement"),
    ("all as shipped", "all {labels} words, as shipped"),
)
_SHIFT_WAYS: Final = ("given", "given refined", "all", "all refined")
_CONTROLS: Final = ("no refinement", TRAINED, UNTRAINED, WELL_STARTED, NOISE_ONLY)
_COLUMNS: Final = ("mIoU", "accuracy", "outline mIoU", "small mIoU")
_DESCRIBED: Final = (
    "higher score",
    "higher score, refined",
    "beside the label, refined",
    "most pixels, refined",
)
_LOG_LINE: Final = re.compile(r"^(\S+) (\d+)/(\d+) (\d+) s\b(?: (\d+) crops)?")
_TRAINED_PARTS: Final = {
    "step": "CLIP half",
    "autoencoder": "autoencoder",
    "unet.ckpt": "U-Net",
    "unet-noise-only.ckpt": "U-Net of the control",
}
"""First word of a log line -> what it is about."""

_TEXT: Final = """\
# Demo weights

A CLIP of {clip_parameters:.1f} million parameters and a diffusion half (autoencoder encoder and
U-Net) of {diffusion_parameters:.1f} million, trained from nothing on drawn storybook scenes. They
exist so that the whole program runs and can be tested without any download. They know {labels}
labels with their synonyms, colours, patterns and hours of the day (`demo.json`), nothing else.

Trained {date} on {machine} by the trainers in `cliper_model/demo`, which `cliper train-demo`
runs. Logs: `train-clip.log`, `train-diffusion.log`; all figures, also per label: `figures.json`.
Licence: Apache-2.0. This recomputes every figure below from the shipped files, and fails where
one differs:

    cliper train-demo --verify{generator_option}

## Data

Scenes of 192 x 192 pixels from the generator in `cliper_model/demo/scenes`: {stuff} kinds of
ground and {things} kinds of things, {layouts} layouts, day and night, faint textures, bold stripes
and dots, exact masks, captions made from what is visible. Training, validation and test scenes
come from different seeds. Described labels ("a red car", "the night sea") and qualities of
anything ("a blue thing") are read too, but no training text puts the two words of {never} pairs
such as {examples} together.

## Losses

CLIP half, on crops around things so that every label is seen as often ({balanced:.0%} of the crops;
the others lie anywhere): contrastive (crop against caption); is this word in the crop;
cross-entropy of every patch against all words, through CLIPer's own path (accumulated attention,
progressive normalisation, sharpening, the last block's value projection), for the last layer and
one random earlier layer; the strongest patch of a word, which is what tells presence; descriptions
with colours, patterns and hours, each against one that is wrong, and the thing described against
the things that it is not. Unknown words are negatives; unlabelled pixels belong to the background
word, or to the mean of all words. Muon descends the matrices of the blocks, AdamW all else.

**The patch features are supervised with masks of synthetic scenes.** This is not CLIP-style
pre-training from image and text alone.

Diffusion half: the autoencoder rebuilds colours and edges from a near-linear start. The U-Net
predicts noise, and three steps in four its attention, with key = query at the start, is trained
through the exact refinement chain: from this CLIP's own coarse maps to the true masks. Its
condition is what the demo text tower makes of the empty text.

{runs}

## Figures on {test_scenes} test scenes

Choices (short side {short_side} px, logit scale {logit_scale:g}, threshold
{attention_threshold:g}, diffusion input {diffusion_size} px, timestep {timestep}, score threshold
{score_threshold:g}) were made on validation scenes. All figures are of float32, through the method
itself. Percent; *outline* counts pixels within {band} px of an outline, *small* the {small} labels
whose median area is below 3 % of a scene. With all {labels} words every labelled pixel gets one of
them. *As shipped* is with refinement and maps that follow edges of the picture, as users get them;
all other figures are without those edges.

{table}

{refinement}

{presence}
{other}
## Other styles

The same generator in styles that are never trained on, {style_scenes} scenes each; mIoU.

{shifts}

## Described names

Two of one class, of which only one fits the name; the name is one of the {never} pairs that no
training text says. Percent of pictures, {described_pictures} per name, in which the right one has
the higher mean score, asked with the picture's grounds, or also beside the plain label; and in
which most pixels given the name lie on it. Chance is 50 for the first three.

{described}

## Unseen classes

Classes the training never draws, asked for by trained words beside the picture's other words; IoU
over {unseen_pictures} pictures each. Nothing was tuned for them.

{unseen}

## Controls

Image's words on {control_scenes} of the test scenes, refined with other U-Nets:

{controls}

"{UNTRAINED}" is a default start, "{WELL_STARTED}" the start used here before any step,
"{NOISE_ONLY}" the same start trained as a denoiser that sees no mask
(`control-noise-only.safetensors`, one byte per value). What refinement gains comes from training
through it, not from having a U-Net.

## What these figures do not show

- One seed: how far another one would move them was not measured.
- The attention is supervised with masks of synthetic scenes and fitted to this CLIP's own coarse
  maps; whoever retrains the CLIP half must retrain the diffusion half.
- The training scenes, the described names and the unseen classes come from one hand: shapes of the
  same manner, flat and clearly outlined. They flatter every step that follows colours.
- Neither figure is evidence about CLIP, about diffusion models, or about which published method
  is better.
- Photographs, and words outside the list, are out of reach; such words are refused.
{notes}"""

_OTHER: Final = """
## Figures on {count} scenes of another generator

Scenes of a file outside this repository (SHA-256
`{digest}`), none of which took part in training; same
choices. It draws the same labels in a manner near to ours, so this is no test on foreign data.

{table}

{presence}
"""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a card says besides figures.

    generator  SHA-256 of the file that drew the other scenes; None where there was none
    notes      sentences for the end of the card
    """

    date: str
    machine: str
    bench: Bench
    generator: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trained:
    """How long one part was trained, as its log tells."""

    part: str
    steps: int
    seconds: int
    crops: int
    resumed: int


def model_card(
    figures: Figures,
    about: About,
    *,
    choices: Mapping[str, float],
    logs: Sequence[str],
    parameters: Mapping[str, int],
) -> str:
    """`MODEL_CARD.md`.

    choices     inference and thresholds of `demo.json`
    logs        contents of the training logs
    parameters  how many values `clip` and `diffusion` hold
    """
    bench = about.bench
    return _TEXT.format(
        **choices,
        UNTRAINED=UNTRAINED,
        WELL_STARTED=WELL_STARTED,
        NOISE_ONLY=NOISE_ONLY,
        balanced=BALANCED,
        band=BAND,
        clip_parameters=parameters["clip"] / 1e6,
        control_scenes=bench.control_scenes,
        controls=_table([(row, figures.get(f"control: {row}")) for row in _CONTROLS]),
        date=about.date,
        described=_described(figures),
        described_pictures=bench.described_pictures,
        diffusion_parameters=parameters["diffusion"] / 1e6,
        examples=", ".join(f'"{" ".join(pair)}"' for pair in sorted(NEVER_TOGETHER)[:3]),
        generator_option=" --generator FILE" if about.generator else "",
        labels=len(LABELS),
        layouts=len(FREQUENCIES),
        machine=about.machine,
        never=len(NEVER_TOGETHER),
        notes="".join(f"- {note}\n" for note in about.notes),
        other=_other(figures, about),
        presence=_presence(figures, "", choices["score_threshold"]),
        refinement=_refinement(figures),
        runs=_runs(logs),
        shifts=_shifts(figures),
        small=len(SMALL),
        stuff=len(STUFF),
        style_scenes=bench.style_scenes,
        table=_ways(figures, ""),
        test_scenes=bench.test_scenes,
        things=len(THINGS),
        unseen=_unseen(figures),
        unseen_pictures=bench.unseen_pictures,
    )


def training_times(logs: Sequence[str]) -> list[Trained]:
    """Steps, seconds and resumptions of every part; a resumed part's clock starts anew."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    resumed: dict[str, int] = {}
    for line in (line for log in logs for line in log.splitlines()):
        if told := _LOG_LINE.match(line):
            name, done, _, seconds, crops = told.groups()
            found.setdefault(name, []).append((int(done), int(seconds), int(crops or 0)))
        elif "resumed at step" in line:
            name = "step" if line.startswith("resumed") else line.split()[0]
            resumed[name] = resumed.get(name, 0) + 1
    return [
        Trained(
            part=_TRAINED_PARTS.get(name, name),
            steps=lines[-1][0],
            seconds=_summed([line[1] for line in lines]),
            crops=_summed([line[2] for line in lines]),
            resumed=resumed.get(name, 0),
        )
        for name, lines in found.items()
    ]


def _summed(clock: Sequence[int]) -> int:
    """The last reading before every fall, and the last of all, added up."""
    return sum(a for a, b in zip(clock, [*clock[1:], -1], strict=True) if b < a)


def _runs(logs: Sequence[str]) -> str:
    told = []
    for part in training_times(logs):
        crops = f", {part.crops:,} crops" if part.crops else ""
        times = {0: "", 1: ", stopped and resumed once"}
        again = times.get(part.resumed, f", stopped and resumed {part.resumed} times")
        told.append(
            f"- {part.part}: {part.steps:,} steps{crops}, {part.seconds / 60:.0f} minutes{again}"
        )
    return "\n".join(told)


def _ways(figures: Figures, prefix: str) -> str:
    titled = [(title.format(labels=len(LABELS)), figures.get(prefix + r)) for r, title in _WAYS]
    return _table(titled)


def _refinement(figures: Figures) -> str:
    told = []
    for words, title in (("given", "the image's words"), ("all", f"all {len(LABELS)} words")):
        if gain := figures.get(f"refinement: {words}"):
            told.append(
                f"With {title}, refinement gains {gain['gain of mIoU']:.1f} points of mIoU and "
                f"{gain['gain of outline mIoU']:.1f} near outlines; the largest loss of a label is "
                f"{gain['largest loss of a label by refinement']:.1f} points."
            )
    for way, title in (("given", "the image's words"), ("all", f"all {len(LABELS)} words")):
        if ious := figures.get(f"{way}: IoU per label"):
            worst = min(ious, key=lambda label: ious[label])
            told.append(
                f"Without refinement the weakest label with {title} is {worst} "
                f"({ious[worst]:.1f} IoU)."
            )
    return "\n".join(told)


def _presence(figures: Figures, prefix: str, threshold: float) -> str:
    strong, named = (figures.get(prefix + row) for row in ("presence", "presence as shipped"))
    absent = figures.get(prefix + "absent")
    if strong is None or named is None or absent is None:
        return ""
    return (
        f"Is a label in the picture, asked with all {len(LABELS)} words? Strength above "
        f"{threshold:g}: {_claims(strong)}.\n"
        f"As shipped (preset `objects`, a label counts that gets a region): {_claims(named)}.\n"
        "Asked for six words that are not in the picture, the other words being background, "
        f"{absent['empty']:.1f} %\nof the images claim nothing "
        f"({absent['false labels per image']:.2f} false labels per image)."
    )


def _claims(figures: Mapping[str, float]) -> str:
    return (
        f"precision {figures['precision']:.1f} %, recall {figures['recall']:.1f} %, "
        f"{figures['false labels per image']:.2f} false labels per image"
    )


def _other(figures: Figures, about: About) -> str:
    if about.generator is None:
        return ""
    return _OTHER.format(
        count=about.bench.other_scenes,
        digest=about.generator,
        table=_ways(figures, "other: "),
        presence=_claims_of_other(figures),
    )


def _claims_of_other(figures: Figures) -> str:
    strong, named = (figures[f"other: presence{way}"] for way in ("", " as shipped"))
    return f"Presence by strength: {_claims(strong)}.\nAs shipped: {_claims(named)}."


def _shifts(figures: Figures) -> str:
    heads = [title.format(labels=len(LABELS)) for way, title in _WAYS if way in _SHIFT_WAYS]
    rows = [
        (style, [figures[f"shift {style}: {way}"]["mIoU"] for way in _SHIFT_WAYS])
        for style in SHIFTS
        if all(f"shift {style}: {way}" in figures for way in _SHIFT_WAYS)
    ]
    return _grid(heads, rows)


def _described(figures: Figures) -> str:
    titles = {
        row: row.removeprefix("described: ") for row in figures if row.startswith("described")
    }
    rows = [
        (title.replace("described", "together"), [figures[row][c] for c in _DESCRIBED])
        for row, title in titles.items()
        if title != "by name"
    ]
    return _grid(list(_DESCRIBED), rows)


def _unseen(figures: Figures) -> str:
    coarse, refined = figures.get("unseen", {}), figures.get("unseen refined", {})
    rows = [(title, [coarse[title], refined[title]]) for title in coarse]
    return _grid(["without refinement", "with refinement"], rows)


def _table(rows: Sequence[tuple[str, Mapping[str, float] | None]]) -> str:
    measured = [(title, [row[c] for c in _COLUMNS]) for title, row in rows if row is not None]
    return _grid(list(_COLUMNS), measured)


def _grid(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A table, or a sentence where nothing was measured."""
    if not rows:
        return "Not measured."
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for title, values in rows:
        lines.append(f"| {title} | {' | '.join(f'{value:.1f}' for value in values)} |")
    return "\n".join(lines)
