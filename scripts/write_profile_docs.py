"""Write docs/how-to/choose-a-profile.md from the profiles, published tables and measurements.

    python scripts/write_profile_docs.py

A test compares the page with the data, so it cannot fall behind.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "choose-a-profile.md"
RESULTS = ROOT / "benchmarks" / "results"
SETS = {  # data file -> for people
    "voc21": "VOC, 21 classes",
    "voc20": "VOC, 20",
    "context60": "Context, 60",
    "context59": "Context, 59",
    "coco-object": "COCO objects",
    "coco-stuff": "COCO-Stuff",
    "ade20k": "ADE20K",
    "cityscapes": "Cityscapes",
}
ROWS = {  # profile -> CLIP model, refinement, windows
    "fast": ("ViT-B-16-quickgelu", False, False),
    "standard": ("ViT-B-16-quickgelu", True, False),
    "best": ("ViT-L-14-quickgelu", True, True),
}

INTRODUCTION = """\
# Choose a profile

A profile is a choice of networks: what they cost, and what their masks are like. `--profile`, `PROFILE`, or `model_profile` on a tag of the label config. Made by `python scripts/write_profile_docs.py`.

## In short

* **Trying it out, no download:** `demo`. It knows drawn storybook scenes and nothing else.
* **No graphics card, or many pictures:** `fast`. It is the default where no CUDA is found.
* **A graphics card, or time:** `standard`, the default on CUDA. The diffusion model makes outlines follow things.
* **Small things in large pictures, and a graphics card:** `best`. The larger CLIP looks through windows.
* **No use restrictions on the weights:** `fast`. Those of Stable Diffusion [forbid some uses](../licences.md#weights).

When in doubt start with `fast` and good [words](choose-words.md): a wrong word costs more than a smaller network. Then compare on your own pictures, as below.

## What they cost

"""  # noqa: E501 - a page

COST_NOTE = """\

Seconds and memory for one picture of {image} and {classes} words, {weights}, on {cores} cores of {processor}: `{command}`, {date}. They compute in bfloat16 where the processor has units for it, as this one has;
elsewhere it takes longer and needs more memory. The same picture with other words, other thresholds or a click costs a fraction: [what a prediction costs](../reference/speed.md). `demo` is measured in
`{demo_command}`, {demo_date}, on {demo_cores} cores of {demo_processor}, in float32, {demo_image} pixels and {demo_words} words. On a graphics card none of them was measured.

## What their masks are like

mIoU in percent, **published by the authors, not measured here**; every data set with its own words and numbers, and windows as in the profile:

"""  # noqa: E501 - a page

QUALITY_NOTE = """\

[Evaluation](../evaluation.md) lists every published row, these among them, with the command that reproduces it. `demo` has no column: it does not know these words.

## Find out on your own pictures

Correct twenty pictures in Label Studio, export them as JSON, and count each profile on them:

```shell
cliper evaluate --dataset labelstudio --root my-export --profile fast --out fast
cliper evaluate --dataset labelstudio --root my-export --profile standard --out standard
```

`report.html` in each folder shows the worst pictures; look at them before you believe the mean. Or see the two side by side before anything is corrected:

```shell
cliper preview --project 1 --profile fast --out preview-fast
cliper preview --project 1 --profile standard --out preview-standard
```

## Between the profiles

* `METHOD=proxyclip` on `fast` takes outlines from DINO instead of a diffusion model: [methods](../reference/methods.md).
* `VAE=taesd` makes `standard` and `best` faster on a processor: [a smaller encoder](../reference/speed.md#a-smaller-encoder).
* A tag may have a profile of its own: `model_profile="fast"` in the [label config](../reference/label-config.md#options).
* A list of labels that stays, and very many pictures: [train a student](train-a-student.md).
"""  # noqa: E501 - a page


def page() -> str:
    """The whole page as Markdown."""
    speed, bench = _result("proof-speed"), _result("bench-demo")
    note = COST_NOTE.format(
        image=speed["image"].replace("x", " x "),
        classes=speed["classes"],
        weights="random weights of the true layout and size",
        cores=speed["machine"]["cores"],
        processor=speed["machine"]["processor"],
        command=speed["command"],
        date=speed["date"],
        demo_command=bench["command"],
        demo_date=bench["date"],
        demo_cores=bench["machine"]["cores"],
        demo_processor=bench["machine"]["processor"],
        demo_image=bench["image"].replace("x", " x "),
        demo_words=bench["words"],
    )
    return INTRODUCTION + costs(speed, bench) + note + quality() + QUALITY_NOTE


def costs(speed: dict[str, Any], bench: dict[str, Any]) -> str:
    """One row per profile."""
    from cliper_model import profiles

    lines = [
        "| profile | networks | download | seconds | peak memory | licence of the weights |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for name in profiles.names():
        profile = profiles.get(name)
        if name in speed["rows"]:
            ours = speed["rows"][name]["ours"]
            seconds, memory = f"{ours['seconds']:.1f}", f"{ours['peak_mb'] / 1000:.1f} GB"
        else:
            seconds = f"{bench['latency']['cold']['median_ms'] / 1000:.1f}"
            memory = f"{profile.ram_mib} MiB"
        download = "ships with it" if profile.shipped else f"{profile.download_mib} MiB"
        cells = (f"`{name}`", profile.summary, download, seconds, memory, profile.licence)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def quality() -> str:
    """One row per data set, one column per profile."""
    lines = [
        f"| data set | {' | '.join(f'`{name}`' for name in ROWS)} |",
        f"| --- |{' ---: |' * len(ROWS)}",
    ]
    for name, title in SETS.items():
        path = ROOT / "cliper_model" / "data" / "evaluation" / f"{name}.json"
        published = {
            (row["clip"], row["refinement"], row["windows"]): row["miou"]
            for row in json.loads(path.read_text(encoding="utf-8"))["published"]
            if row["method"] == "cliper"
        }
        cells = [f"{published[row]:.1f}" for row in ROWS.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _result(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
