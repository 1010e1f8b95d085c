"""Write docs/how-to/choose-words.md from what `python -m benchmarks.wording` measured.

    python scripts/write_word_docs.py

A test compares the page with the data, so it cannot fall behind.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "choose-words.md"
RESULT = ROOT / "benchmarks" / "results" / "wording.json"

INTRODUCTION = """\
# Choose words well

The words of the label config are all the model is told. They cost nothing to change, and often matter more than the size of the network.

## In short

* **Name what is seen**, in plain English: `car`, `wet road`, `person with helmet`. Not its role (`defect`, `ROI`, `class 3`), and not your trade's term for it: put the term into `value` and what it looks like into `predicted_values`.
* **Give synonyms** where several words are common: `predicted_values="car, automobile, van"`. Any of them counts.
* **Ask for what can be there.** Every label that is in none of your pictures is one more chance to be wrong.
* **Say what else there is to see**, in `model_background`, where only some things matter.
* **Thresholds come last**, and one at a time: `model_score_threshold` for labels that should not be there at all, `model_mask_threshold` for masks that are too fat.

```xml
<View>
  <Image name="photo" value="$image"/>
  <BrushLabels name="masks" toName="photo" model_background="sky, water, quay, street">
    <Label value="VES-02 Tug" predicted_values="tugboat, small boat, ship"/>
    <Label value="Container" predicted_values="shipping container, container"/>
  </BrushLabels>
</View>
```

Every attribute: [label config](../reference/label-config.md). `cliper doctor` says which words the model hardly reads and which labels mean the same to it, and `cliper preview --project 1` shows what comes of them on
twenty-four pictures.

## What was measured

`{command}`, {date}: the demo weights on {scenes} drawn scenes that no weight and no number was chosen on, {labels} labels in all, everything else left alone. **The demo model knows a few dozen words, and its
pictures are drawings**: which way things go is what to take from these tables, not by how much. With real weights and photographs words matter more, since there are more of them to be confused with; measure it on
your own pictures as below.

"""  # noqa: E501 - a page

LISTS = """\
### The list

{table}
Every pixel gets one of the labels asked for (preset `whole-scene`); *wrong labels* are those named in a scene that does not have them. {labels} labels are few, and these were all taught: real lists are longer, and real
words closer.

"""  # noqa: E501 - a page

SPELLING = """\
### Synonyms and narrower words

{several} of the labels have several words. All {labels} are asked for; IoU is counted where those {several} are:

{table}
* **The demo model cannot tell what true synonyms bring**: it was taught them as one thing (their texts have a cosine of {cosine:g} or more), so the first three rows are equal. Real CLIP hears *car* and *automobile* as two
  things that are alike; give it both.
* **A word that is too narrow is no synonym.** `red car` means red cars: things of other colours go to other labels. Here every label for things that has synonyms was narrowed so.
* **One wrong word is worse than a missing one.** In the last row every label has a neighbour's word besides its own, and takes what is the neighbour's.

With several words for a label the best of them counts at every place: they compete as one label. So a good word more never takes a place away from the others, and a wrong one takes places from the neighbours.

"""  # noqa: E501 - a page

BACKGROUND = """\
### Background words

One thing is asked for, the largest of each scene (preset `objects`); what stands beside it changes:

{table}
*Painted and right*: share of the mask that is the thing; *there and painted*: share of the thing that is in the mask. Means over masks. A label alone has nothing to lose against: then every pixel is its own, and only
the threshold of the preset holds it back.

"""  # noqa: E501 - a page

SCORE = """\
### `model_score_threshold`

All {labels} labels are asked for (preset `objects`); which of them are named:

{table}
*Precision*: named labels that are there; *recall*: labels there that are named. 0.5 is the preset's own threshold. What is below it changes nothing here: the demo model is seldom in doubt. Raise it when wrong labels
appear, and see in the recall what that costs.

"""  # noqa: E501 - a page

MASK = """\
### `model_mask_threshold`

One thing is asked for beside the preset's background words, as above; a pixel needs this share of the label's highest score:

{table}
A little makes masks more right than they lose; a lot eats them away.

"""  # noqa: E501 - a page

END = """\
## On your own pictures

Correct twenty pictures, export them as JSON, and count with one config and with the other. The folder holds the export and its pictures; words come from its config:

```shell
cliper evaluate --dataset labelstudio --root my-export --profile fast --out before
```

Or look first: the same pictures with other words, each time into another folder.

```shell runnable
cliper segment photos --labels "house|home|cottage" --background "sky, grass, tree" --out beside --profile demo
```

And when people correct, words are weighed by themselves: one that is often wrong where it wins says less, where that is found better ([learning from corrections](../learning.md)).
"""  # noqa: E501 - a page


def page() -> str:
    """The whole page as Markdown."""
    figures: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    several = figures["labels with synonyms"]
    labels = figures["labels"]
    spelling = {how: {"mIoU": value} for how, value in figures["spelling"].items()}
    return "".join(
        (
            INTRODUCTION.format(**figures),
            LISTS.format(table=table("labels asked for", figures["list"]), labels=labels),
            SPELLING.format(
                table=table("words", spelling),
                several=several,
                labels=labels,
                cosine=figures["least cosine of synonyms"],
            ),
            BACKGROUND.format(table=table("background words", figures["background"])),
            SCORE.format(table=table("threshold", figures["model_score_threshold"]), labels=labels),
            MASK.format(table=table("threshold", figures["model_mask_threshold"])),
            END,
        )
    )


def table(first: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown; one line per row, figures to the right."""
    columns = list(next(iter(rows.values())))
    lines = [
        f"| {first} | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    lines += [
        f"| {name} | {' | '.join(f'{row[column]:g}' for column in columns)} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
