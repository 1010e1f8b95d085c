"""Write docs/reference/presets.md from the presets themselves.

    python scripts/write_preset_docs.py

A test compares the page with the data, so it cannot fall behind.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "cliper_model" / "data" / "presets"
PAGE = ROOT / "docs" / "reference" / "presets.md"
MODELS = {
    "ViT-B-16-quickgelu": "ViT-B/16 (`fast`, `standard`)",
    "ViT-L-14-quickgelu": "ViT-L/14 (`best`)",
    "demo": "`demo`",
}

COLUMNS = (
    "model", "scale", "τ", "layer", "templates", "background below", "stretched",
    "presence", "cosine",
)  # fmt: skip

INTRODUCTION = """\
# Presets

The numbers that turn a look into masks. The label config chooses the preset: `objects` where some things matter and the rest is background, `whole-scene` with
`model_background=""`, where every pixel belongs to a label (see [label config](label-config.md)). They lie in `cliper_model/data/presets/*.json`, and each of them is part of the model version. The tables are CLIPer's; numbers of the [other methods](methods.md) lie in `cliper_model/data/methods/*.json`.

Made from these files by `python scripts/write_preset_docs.py`.

"""  # noqa: E501 - a page

EXPLANATION = """\
## What the columns mean, and where the numbers come from

| column | meaning | source for ViT-B/16 and ViT-L/14 |
| --- | --- | --- |
| scale | factor on cosine similarities before the softmax | published |
| τ | below it, weak values of the selected layer and weak diffusion links are cut | published |
| layer | last CLIP layer used, counted from the end | published |
| templates | sentences a word is put into: the authors' 15, or the demo's own | published |
| background below | pixels whose best score is lower are background; "never": each pixel gets the best label that is present | VOC: published; "never" is ours: Context59 ignores background |
| stretched | maps are stretched to 0 ... 1 first | published |
| presence | knots of the presence map, strength → presence | the middle knot is published, the upper one is ours |
| cosine | a background word whose text is closer than this to a label's is dropped | ours |

Published numbers are those of VOC (21 classes) and of Context59 in the [specification](../specs/cliper.md), section 11. Those of `demo` were chosen on validation scenes.

**Presence.** The method gives each label a strength: half the highest value of the coarse map plus half that of the refined one. It has no upper limit worth the name and no common scale: the
published thresholds run from 0 to 0.7. A label config should not need to know that, so strength is mapped to presence, 0 to 1, by straight lines between the knots. Strength 0 is presence 0, the
published threshold is presence 0.5, and from the upper knot on presence is 1. The default `model_score_threshold` is therefore 0.5 everywhere and then decides exactly as published;
the upper knot only stretches what lies above. Presence is no probability.

**What is not published.** The upper knots, and the cosine of 0.95. `best` looks through windows of 336 pixels, as published for VOC, whose numbers `objects` has; Context59 was published with
windows of 224 pixels.
"""  # noqa: E501 - a page with a table


def page() -> str:
    """The whole page as text."""
    return INTRODUCTION + "".join(table(name) for name in ("objects", "whole-scene")) + EXPLANATION


def table(name: str) -> str:
    """One preset: a row per CLIP model, and its background words."""
    content = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    lines = [
        f"## `{name}`",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    lines += [row(title, content["numbers"][model]) for model, title in MODELS.items()]
    for model, title in MODELS.items():
        words = content["numbers"][model].get("background")
        if words is not None:
            lines += ["", f"Background words of {title}: {', '.join(words)}."]
    words = content["background"]
    told = f"{', '.join(words)} (published for VOC)" if words else "none"
    lines += ["", f"Background words{' otherwise' if words else ''}: {told}.", "", ""]
    return "\n".join(lines)


def row(title: str, numbers: dict[str, Any]) -> str:
    decision = numbers["decision"]
    below = decision["background_threshold"] if decision["background"] == "threshold" else "never"
    cells = (
        title,
        f"{numbers['logit_scale']:g}",
        f"{numbers['attention_floor']:g}",
        numbers["select_layer"],
        numbers["templates"],
        below,
        "yes" if decision.get("normalise") else "no",
        ", ".join(f"{strength:g} → {value:g}" for strength, value in numbers["presence_knots"]),
        f"{numbers['background_cosine']:g}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
