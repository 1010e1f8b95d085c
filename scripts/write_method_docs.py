"""Write docs/reference/methods.md from the methods' cards and the measured tables.

    python scripts/write_method_docs.py

A test compares the page with the data, so it cannot fall behind.
"""

import json
from pathlib import Path
from typing import Any

from cliper_model import profiles

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "methods.md"
RESULTS = ROOT / "benchmarks" / "results"

INTRODUCTION = """\
# Methods

CLIPer is the default, not the only voice. Every method below runs on the CLIP model of any profile, answers the same three questions (observe a picture, score words, decide masks), and is chosen
by its name: `METHOD=proxyclip cliper serve`, `cliper segment --method proxyclip`, `cliper evaluate --method proxyclip`, or `cliper_model.load("fast", method="proxyclip")`. The method is part of the
model version. `cliper methods` prints this table.

Made by `python scripts/write_method_docs.py`.

"""  # noqa: E501 - a page

CHOOSING = """\
## Which one?

* No room or time for a diffusion model: `PROFILE=fast`, which is CLIPer without refinement; or `proxyclip` with DINO B/8, whose features bring finer outlines than CLIP's grid.
* A licence without use restrictions: everything except the diffusion networks is MIT or Apache-2.0.
* Pictures of one narrow kind: measure. `cliper evaluate --dataset folder` on 20 corrected pictures tells more than any table; `cliper sources` says which feature source holds your classes together
  ([how to choose one](../how-to/choose-a-feature-source.md)).
* Thousands of pictures of a fixed list of labels: `maskclip+`, a network of your own, [taught by any method](../how-to/train-a-student.md).
* Points or heat maps for single words: `clip-surgery` has `similarity_maps` and `points`.

## Published form and default

`published=True` (in Python) or `cliper evaluate --published` restores every quirk the published numbers depend on; tests compare it with the authors' programs stage by stage
(`pytest tests/parity --golden DIR`). The default mends what the [specifications](../specs/methods.md) list as unsafe and nothing else:

| method | published | default |
| --- | --- | --- |
| `clip`, `proxyclip`, `proxyclip-adjust` | positions left alone on another grid with as many patches; crops padded to 56 px; uniform features give NaN; a repeated text row takes probability; resize without antialias | positions resized whenever the shape differs; padded to whole cells of both networks; a place with nothing similar attends to itself; equal rows of a label count once; antialiased |
| `proxyclip-adjust` | class-token weights per crop, which leaves seams | one look at the whole picture gives the weights |
| `maskclip` | ordinary GELU, epsilon 1e-6, ImageNet statistics; padding stretched; keys normalised over positions; softmax without temperature | the weights' own activation, epsilon and statistics; padding cut off; cosine of keys; the weights' temperature |
| `cliptrase` | centre square only, fixed eps and neighbours, one cluster paints the whole picture | whole picture, eps and neighbours follow the number of patches, no vote with fewer than two clusters |
| `clip-surgery` | square input whatever the shape, at least 6 blocks, constant maps give NaN | aspect ratio kept, fewer blocks allowed, epsilon |
| `cliper` | unseeded noise, no epsilon, one string per label | seeded noise, epsilon, synonyms |

"""  # noqa: E501 - a page with tables

COMPARED = """\
## All of them on the drawn scenes

Demo weights, {scenes} held-out scenes, one thread's worth of words: `{command}`, {date}, {processor}, {cores} cores. As found; no number was chosen on these scenes.

{table}
![The same scenes, one line per method](../../benchmarks/results/compare.jpg)

**The order here is no evidence about the papers.** The demo's CLIP is a small network that learned its words through CLIPer's own last layer: early attention fused, values without residual and MLP,
class token left out. Its ordinary last block was never asked to give patch embeddings a meaning, so plain CLIP fails here in a way the published models do not; the nearer a method's last layer is to
CLIPer's, the better it must look. The pictures are flat drawings with sharp edges, the diffusion network was trained on the same drawings for refinement alone, and there is no DINO for them:
ProxyCLIP takes its similarities from CLIP's own values. The published figures above come from photographs, and from weights a hundred times larger.

**Where a source fails, and why.** ProxyCLIP with the demo's diffusion features stays near plain CLIP. The command `cliper sources` shows the reason on the same kind of scenes: what belongs together is
barely more alike than what does not, so every place attends to half of the picture and small things drown; with CLIP's own values the same method is among the best.

| source | grid | same class | other class | separation | AUC |
| --- | --- | --- | --- | --- | --- |
| `clip` | 20x20 | 0.794 | 0.164 | 0.630 | 0.959 |
| `diffusion-p` | 44x44 | 0.505 | 0.078 | 0.427 | 0.705 |
| `diffusion-s` | 64x64 | 0.610 | 0.301 | 0.309 | 0.724 |

Mean cosine of places of the same and of other classes: `cliper scenes -n 24 --seed 7 --out scenes`, `cliper sources --images scenes/images --masks scenes/masks --profile demo`, 2026-11-20.

**Why smoothing hurts MaskCLIP here.** Key smoothing replaces a patch's probabilities by the sum over all patches, each weighted by the cosine of its key; the sum is not renormalised, so a large sky
outvotes a small star wherever keys are not far apart, and the demo's keys were never trained to be. On 40 of these scenes the image's words give 56.1 mIoU without it, 30.9 with it; prompt denoising
alone changes nothing (`python -m benchmarks.compare --scenes 40 --only "maskclip" "maskclip, smoothed" "maskclip, denoised"`). It is off unless asked for, as in the published base configuration.

"""  # noqa: E501 - a page

TRUE = """\
## At true size

Random weights in the true layouts and sizes, one {image} picture, {words} words, float32 on a CPU: `{command}`, {date}, {processor}, {cores} cores. Seconds were taken on a machine that was also doing
other things: compare them with each other, not with yours. GFLOP: one 336 x 336 picture, observing and scoring.

{table}
"""  # noqa: E501 - a page


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, cards(), CHOOSING]
    for name, text in (("compare", COMPARED), ("proof-true-methods", TRUE)):
        figures = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        table = RESULTS / ("compare.md" if name == "compare" else "true-methods.md")
        parts.append(
            text.format(table=table.read_text(encoding="utf-8"), **_facts(figures), **figures)
        )
    return "".join(parts).rstrip() + "\n"


def cards() -> str:
    """One row per method."""
    lines = [
        "| method | what it is | paper | weights | published mIoU (%), not measured here |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in profiles.methods():
        card = profiles.method_card(name)
        title = card.title.partition(": ")[2] or card.title
        published = ", ".join(f"{key} {value:g}" for key, value in card.published_miou.items())
        note = f"{published} ({card.published_with})" if published else card.published_with
        lines.append(f"| `{name}` | {title} | {card.paper} | {', '.join(card.needs)} | {note} |")
    return "\n".join(lines) + "\n\n"


def _facts(figures: dict[str, Any]) -> dict[str, Any]:
    machine = figures["machine"]
    return {"processor": machine["processor"], "cores": machine["cores"]}


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
