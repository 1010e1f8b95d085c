"""Write docs/evaluation.md: published tables beside the commands that reproduce their rows.

    python scripts/write_evaluation_docs.py

A test compares the page with the data files, so it cannot fall behind.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "evaluation.md"
PROFILES = {"ViT-B-16-quickgelu": "fast", "ViT-L-14-quickgelu": "best"}
MEASURES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel acc."),
    ("mean_accuracy", "mean acc."),
    ("frequency_weighted_iou", "fw IoU"),
)

INTRODUCTION = """\
# Evaluation

One evaluator measures every method, on ten published benchmarks, three we chose numbers for, and your own pictures.

Three kinds of figures stand in these pages. What `cliper evaluate` prints comes from this evaluator. The tables in `benchmarks/results/` (demo weights, methods, edges, students) are counted on drawn scenes by programs of their own with the same confusion matrix and boundary F. Published figures are the authors' and were not measured here. What `cliper train-demo` says of its progress is that command's own.

Made from `cliper_model/data/evaluation/*.json` by `python scripts/write_evaluation_docs.py`.

## Your own pictures

A folder with `images/`, `masks/` of the same names and `names.txt`: line n names mask value n, synonyms follow after `|`. Value 0 is background, 255 is not counted. Or one folder with `STEM.png` and one mask per label beside it, `STEM__LABEL.png`. Every picture needs a stem of its own.

```shell
cliper evaluate --dataset folder --root my-pictures --profile fast --out results
```

A Label Studio export (JSON) with brushes, bitmasks, polygons or closed vectors, its pictures beside it or below it; the newest annotation that was not cancelled counts, several regions of a label are joined, and where two labels overlap nothing is counted. Regions that carry their label in a second result with the same id (such as `brush` and `labels`) are read alike. Regions that do not say which pixels belong to the thing (key points and boxes, often left by prompting, ellipses, open vectors) are passed over: one line says how many, and `results.json` holds them by type under `regions_without_mask`. Pictures turned in Label Studio are refused with the number of their task.

```shell
cliper evaluate --dataset labelstudio --root my-export --profile fast --out results
```

Both take the profile's own numbers, so the figures are those of what annotators get. `--unlabelled ignored` leaves pixels out that nobody labelled and asks for a label at every pixel. `--no-refinement` and `--windows` change CLIPer here as on a benchmark; windows are the profile's, or as wide as the picture is high where it has none. `--published` is refused: published protocols belong to benchmarks (CLIPtrase's labels only the centre square, others keep labels among the background words). So is every option that would change nothing. The drawn scenes are a folder too:

```shell
cliper scenes -n 40 --seed 77 --out scenes
cliper evaluate --dataset folder --root scenes --profile demo --unlabelled ignored --out results
```

## A benchmark

```shell
cliper evaluate --dataset voc21 --root VOCdevkit --profile standard --no-windows --published --out results
```

Every picture is one line in `results/records.jsonl`, on the disk before the next begins. After a crash, or with more machines:

```shell
cliper evaluate --dataset voc21 --root VOCdevkit --profile standard --out results --resume
cliper evaluate --dataset voc21 --root VOCdevkit --profile standard --shard 1/3 --out part1
cliper evaluate --dataset voc21 --root VOCdevkit --profile standard --shard 2/3 --out part2
cliper evaluate --dataset voc21 --root VOCdevkit --profile standard --shard 3/3 --out part3
cliper evaluate --merge part1 part2 part3 --out results-of-all
```

`--resume` and `--merge` refuse parts that were measured otherwise and say what differs: settings, words, numbers, weights, the kind of device, the precision (float32, bfloat16, float16), and the truth, known by the SHA-256 of every mask (of an export: of its file). The masks are read once more for that, which is little beside measuring. Settings in the record are those the method ran with. Only integers are counted, so a resumed run and merged shards give exactly the figures of one run. A picture that cannot be read or is too much for the memory is left out, named, and makes the exit status 1; `--resume` tries it again. Before the first picture, masks are looked at: pairs, sizes, channels and ids.

| file | what is in it |
| --- | --- |
| `results.json` | figures, settings, versions, machine, date, command |
| `classes.csv` | IoU, accuracy and pixels per class |
| `images.csv` | mIoU, boundary F, seconds and failures per picture |
| `report.html` | one page with bars, confusion picture and worst pictures; asks for nothing from outside |
| `records.jsonl` | what was counted on each picture |

## The protocol

* **One confusion matrix for the whole set**, rows are the truth; pixels the data set ignores are not counted. Label 0 is background. Where a data set has no background (VOC20, Context59, COCO-Stuff, ADE20K, Cityscapes), label 0 is no class, and saying it on a labelled pixel is an error.
* **mIoU** is the mean IoU over labels that occur in the truth; mean accuracy likewise; frequency-weighted IoU weights by the pixels of the truth. The published programs add 1e-5 or 0.01 to denominators to avoid dividing by zero; we take the exact ratio.
* **Boundary F** follows Csurka, Larlus and Perronnin (BMVC 2013): a boundary pixel is right where one of the same class lies within 0.75 % of the image diagonal; per class the harmonic mean of precision and recall, per picture the mean over the classes of its truth, then the mean over pictures. Unlabelled pixels first take the nearest label, which puts the boundary in the middle of the unlabelled band around objects; deep inside unlabelled regions nothing is counted. Nobody published this figure for these methods.
* **Presence**: a class is claimed where it passes the method's presence threshold, or, for methods without one, where it has a pixel. Precision and recall are over all pictures together.
* **CLIPer on Cityscapes** is measured on two square halves of each picture, the right one first. The published program resizes the whole picture before cutting; we cut first, so columns next to the seam differ a little.
* **CLIPtrase** is measured on centre crops of 224 or 336 pixels, not on whole pictures, and on data sets with background counts unlabelled pixels as background, both as published.
* The published multi-process runs repeat a few pictures to fill the last shard; here each is counted once.

`--published` restores every published quirk of a method ([specifications](specs/README.md)); the authors ran in half precision on a GPU, and CLIPer's noise was not seeded, so its figures moved from run to run. With `--published` and refinement that is so here too; without `--published` the same run gives the same figures.

## The order of methods on drawn scenes is no evidence

`make compare` measures all methods on drawn scenes with the demo's weights. That CLIP learned its words through CLIPer's own last layer, so methods near CLIPer look good there and others fail for a reason no photograph has; nothing follows about the papers. The table, and the reason at length: [methods](reference/methods.md).

## Another data set

One file in `cliper_model/evaluation/datasets/` that finds pictures and masks, one line in its `table.py`, and one data file in `cliper_model/data/evaluation/` with classes, words, numbers and where each comes from. The command offers what the table names; the runner stays as it is. A method takes the words and numbers of its own name in the data file, or those of the family that `FAMILIES` in `benchmarks.py` gives it; without either it is refused with one sentence and can be measured on own data.

## Data sets

The tables need the real weights and data; they were **not measured here**. Class names, background words, sizes, thresholds and templates come from the data files, each with its source.

| name | what | pictures | layout under `--root` | numbers |
| --- | --- | --- | --- | --- |
"""  # noqa: E501 - a page

NOTES = """\
## What to know about the published figures

* CLIPer: from the authors' repository. Its introduction still quotes 69.8 on VOC and 43.3 on COCO-Object for ViT-L/14, the earlier figures of the paper. COCO-Object was measured on a list of 5000 pictures of val2014; the layout here is val2017.
* ProxyCLIP: each row says whether it was cross-checked or recalled. H/14 has no profile here.
* CLIPtrase: from the paper, on centre crops; not to be compared with the other methods.
* MaskCLIP: ResNet teachers have no profile here. MaskCLIP+ needs a student trained on the data set's training pictures (`cliper train-student`), named by `--student`.
* Class names matter as much as the method: a changed word is another measurement, and the record of a run holds every one of them. `names_source` in the data files says where the published list was not known and the data set's own names are used.
"""  # noqa: E501 - a page


def command(name: str, row: Mapping[str, Any]) -> str:
    """What reproduces a published row, or why nothing does."""
    profile = PROFILES.get(row["clip"])
    if profile is None:
        return f"no profile with {short(row['clip'])}"
    words = ["cliper", "evaluate", "--dataset", name, "--root", "DIR"]
    if row["method"] == "cliper":
        if profile == "fast" and row["refinement"]:
            profile = "standard"
        words += ["--profile", profile, "--windows" if row["windows"] else "--no-windows"]
        if not row["refinement"] and profile != "fast":
            words.append("--no-refinement")
    else:
        words += ["--method", row["method"], "--profile", profile]
        if "features" in row:
            words += ["--features", row["features"]]
        if "side" in row:
            words += ["--side", str(row["side"])]
        if row["method"] == "maskclip+":
            words += ["--student", "FILE"]
    return f"`{' '.join([*words, '--published'])}`"


def short(clip: str) -> str:
    return (
        clip.removesuffix("-quickgelu")
        .replace("ViT-B-16", "ViT-B/16")
        .replace("ViT-L-14", "ViT-L/14")
        .replace("ViT-H-14", "ViT-H/14")
    )


def row_name(row: Mapping[str, Any]) -> str:
    words = [str(row["method"]), short(row["clip"])]
    if "refinement" in row:
        words.append("refined" if row["refinement"] else "not refined")
    if row.get("windows"):
        words.append("windows")
    if "features" in row:
        words.append(str(row["features"]))
    if "side" in row:
        words.append(f"{row['side']} px")
    return ", ".join(words)


def tables() -> Iterator[str]:
    from cliper_model.evaluation import benchmarks

    known = [benchmarks.get(name) for name in benchmarks.names() if name not in benchmarks.OWN]
    for found in known:
        count = found.images if found.images is not None else "–"
        source = "published" if found.source == "published" else "**ours**"
        yield f"| `{found.name}` | {found.title} | {count} | {found.layout} | {source} |"
    yield ""
    for found in known:
        if not found.published:
            continue
        yield from ("", f"### {found.name}: {found.title}", "")
        shown = [one for one in MEASURES if any(one[0] in row for row in found.published)]
        yield f"| published | {' | '.join(title for _, title in shown)} | confidence | command |"
        yield f"| --- |{' ---: |' * len(shown)} --- | --- |"
        for row in found.published:
            values = " | ".join(str(row.get(key, "")) for key, _ in shown)
            source = f"{row['source']}; {row['confidence']}"
            yield f"| {row_name(row)} | {values} | {source} | {command(found.name, row)} |"


def page() -> str:
    """The whole page as Markdown."""
    return INTRODUCTION + "\n".join(tables()).replace("\n\n\n", "\n\n") + "\n\n" + NOTES


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
