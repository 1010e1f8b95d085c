"""Figures of a measurement as JSON, CSV and one HTML page that needs nothing else."""

import base64
import csv
import html
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image as PilImage

from ..stages.decide import voc_palette
from . import boundary, confusion, presence
from .gallery import strip_path, worst_of
from .runner import Measured

JSON, CLASSES, IMAGES, PAGE = "results.json", "classes.csv", "images.csv", "report.html"
VERSIONS = ("torch", "numpy", "pillow", "open_clip_torch", "diffusers", "cliper-label-studio")
PASSED_OVER: Final = "regions_without_mask"  # note of a data set: region type -> how many
CELL: Final = 16  # pixels per pair in the confusion picture, less where there are many labels
MOST_SIDE: Final = 900  # pixels of the confusion picture
MOST_FAILED: Final = 50  # sentences on the page; images.csv has all


def figures_of(measured: Measured) -> dict[str, Any]:
    """Every figure. Only integers were counted, so any split of the run gives the same ones."""
    counted = measured.counted
    numbers = confusion.figures(measured.matrix)
    found = presence.figures((one.present, one.claimed) for one in counted)
    return {
        "miou": numbers.miou,
        "pixel_accuracy": numbers.pixel_accuracy,
        "mean_accuracy": numbers.mean_accuracy,
        "frequency_weighted_iou": numbers.frequency_weighted_iou,
        "boundary_f": boundary.mean_f(boundary.image_f(one.outlines) for one in counted),
        "presence_precision": found.precision,
        "presence_recall": found.recall,
        "presence_false_per_image": found.false_per_image,
        "images": len(counted),
        "failed": len(measured.failed),
        "pixels": int(measured.matrix.sum()),
    }


def class_rows(measured: Measured, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per label of the confusion matrix; NaN for labels that are not in the truth."""
    numbers = confusion.figures(measured.matrix)
    return [
        {
            "label": index,
            "name": name,
            "iou": float(numbers.iou[index]),
            "accuracy": float(numbers.accuracy[index]),
            "truth_pixels": int(numbers.truth_pixels[index]),
            "predicted_pixels": int(numbers.predicted_pixels[index]),
        }
        for index, name in enumerate(names)
    ]


def image_rows(measured: Measured) -> list[dict[str, Any]]:
    """One row per picture in the order of the data set."""
    return [
        {
            "index": one.index,
            "name": one.name,
            "miou": confusion.image_miou(one.confusion),
            "boundary_f": boundary.image_f(one.outlines),
            "seconds": one.seconds,
            "failed": one.failed or "",
        }
        for one in measured.records.values()
    ]


def write(
    out: Path,
    measured: Measured,
    *,
    title: str,
    context: Mapping[str, Any],
    published: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Write all four files into `out`; returns what results.json holds.

    `context` says how it was measured (command, machine, date); nothing depends on it.
    """
    names = label_names(measured.header.settings)
    figures = figures_of(measured)
    classes = class_rows(measured, names)
    images = image_rows(measured)
    seconds = [one.seconds for one in measured.counted]
    results = {
        "title": title,
        "figures": figures,
        "seconds_per_image": math.fsum(seconds) / len(seconds) if seconds else None,
        "shard": list(measured.header.shard),
        "settings": measured.header.settings,
        "classes": classes,
        "failed": [{"name": one.name, "reason": one.failed} for one in measured.failed],
        "published": [dict(row) for row in published],
        "context": dict(context),
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(results), indent=1, ensure_ascii=False)
    (out / JSON).write_text(text + "\n", encoding="utf-8")
    _write_csv(out / CLASSES, classes)
    _write_csv(out / IMAGES, images)
    page = _page(out, results, measured, names)
    (out / PAGE).write_text(page, encoding="utf-8")
    return results


def label_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all labels of a measurement, label 0 first."""
    return ("background" if settings["background"] else "(nothing)", *settings["classes"])


def machine() -> dict[str, Any]:
    """What the run was made on, for the record."""
    import torch

    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": card,
        "versions": versions,
    }


def confusion_picture(
    matrix: Int[np.ndarray, "labels labels"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Share of each truth (row) that met each prediction (column), white to dark blue.

    The diagonal is green, so that errors stand out. Rows without truth are grey.
    """
    rows = matrix.sum(axis=1, keepdims=True)
    share = np.sqrt(matrix / np.maximum(rows, 1))[..., None]  # small errors stay visible
    paper = np.full(3, 255.0)
    blue, green = np.array([20.0, 40.0, 120.0]), np.array([20.0, 120.0, 60.0])
    ink = np.where(np.eye(len(matrix), dtype=bool)[..., None], green, blue)
    cells = paper + (ink - paper) * share
    cells[rows[:, 0] == 0] = 235
    size = max(1, min(CELL, MOST_SIDE // len(matrix)))
    return np.repeat(np.repeat(cells.round().astype(np.uint8), size, axis=0), size, axis=1)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        if rows:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; what was not counted is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value


STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem}
table{border-collapse:collapse}td,th{padding:.15rem .7rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr:nth-child(even) td{background:#f6f6f6}
.figures{display:flex;flex-wrap:wrap;gap:1rem}
.figures div{background:#f3f5f9;border-radius:.4rem;padding:.6rem 1rem;min-width:7rem}
.figures b{display:block;font-size:1.4rem}
.bar{background:#dde3ee;width:18rem;height:.8rem;margin-top:.35rem}
.bar i{display:block;height:100%;background:#2b5fab}
.warn{background:#fff3d6;border-left:4px solid #d79b00;padding:.6rem 1rem}
img{max-width:100%}.confusion{image-rendering:pixelated;border:1px solid #ccc}
.gallery{display:flex;flex-wrap:wrap;gap:1.2rem}figure{margin:0}figcaption{font-size:.85rem;color:#555}
.sw{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem;border:1px solid #999}
pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:.8rem}
"""


def _page(out: Path, results: Mapping[str, Any], measured: Measured, names: Sequence[str]) -> str:
    figures = results["figures"]
    method = results["settings"].get("method", {})
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        f"<title>{_text(results['title'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_text(results['title'])}</h1>",
        f"<p>{_text(_subtitle(results, method))}</p>",
        *_warnings(results),
        '<div class="figures">',
        *(
            f"<div><b>{_number(figures[key])}</b>{_text(label)}</div>"
            for key, label in (
                ("miou", "mIoU, %"),
                ("pixel_accuracy", "pixel accuracy, %"),
                ("mean_accuracy", "mean accuracy, %"),
                ("frequency_weighted_iou", "frequency-weighted IoU, %"),
                ("boundary_f", "boundary F, %"),
                ("presence_precision", "presence precision, %"),
                ("presence_recall", "presence recall, %"),
                ("presence_false_per_image", "false classes per picture"),
            )
        ),
        "</div>",
        *_published(results["published"]),
        *_bars(results["classes"], voc_palette(len(names))),
        *_confusion(measured.matrix, names),
        *_gallery(out, measured),
        *_failures(results["failed"]),
        "<h2>How it was measured</h2>",
        f"<pre>{_text(json.dumps(_shown_settings(results), indent=1, ensure_ascii=False))}</pre>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _subtitle(results: Mapping[str, Any], method: Mapping[str, Any]) -> str:
    figures, seconds = results["figures"], results["seconds_per_image"]
    parts = [
        " ".join(str(method.get(key)) for key in ("name", "profile") if method.get(key)),
        f"{figures['images']} pictures, {figures['pixels']:,} pixels counted",
    ]
    if seconds is not None:
        parts.append(f"{1000 * seconds:.0f} ms per picture")
    which, of = results["shard"]
    if of > 1:
        parts.append(f"shard {which} of {of}")
    date = results["context"].get("date")
    return " · ".join([*(part for part in parts if part), *([str(date)] if date else [])])


def _warnings(results: Mapping[str, Any]) -> list[str]:
    failed = results["figures"]["failed"]
    found = []
    if failed:
        found.append(f"{failed} pictures could not be measured; no figure counts them.")
    passed_over = results["settings"].get(PASSED_OVER)
    if passed_over:
        found.append(passed_over_sentence(passed_over))
    if results["settings"].get("limit"):
        found.append(f"Only the first {results['settings']['limit']} pictures were asked for.")
    if str(results["settings"].get("numbers", {}).get("source", "")).startswith("ours"):
        found.append("The numbers of this measurement are ours; nothing was published for it.")
    return [f'<p class="warn">{_text(sentence)}</p>' for sentence in found]


def passed_over_sentence(counts: Mapping[str, int]) -> str:
    """What people are told of labelled regions that nothing counts, by their type."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    return (
        f"{sum(counts.values())} regions carry no mask ({kinds}) and are passed over; what only "
        "they mark counts as not painted."
    )


def _published(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["<h2>Published beside it</h2>", "<table><tr><th>method</th>"]
    lines.append('<th class="n">mIoU, %</th><th>source</th><th>confidence</th></tr>')
    for row in rows:
        lines.append(
            f'<tr><td>{_text(describe(row))}</td><td class="n">{row["miou"]}</td>'
            f"<td>{_text(str(row['source']))}</td><td>{_text(str(row['confidence']))}</td></tr>"
        )
    return [*lines, "</table>"]


def describe(row: Mapping[str, Any]) -> str:
    """`cliper, ViT-B/16, with refinement, with windows` of a published row."""
    words = [str(row["method"]), str(row["clip"]).removesuffix("-quickgelu")]
    for key in ("refinement", "windows"):
        if key in row:
            words.append(f"{'with' if row[key] else 'without'} {key}")
    if "features" in row:
        words.append(str(row["features"]))
    if "side" in row:
        words.append(f"{row['side']} px")
    return ", ".join(words)


def _bars(rows: Sequence[Mapping[str, Any]], palette: UInt8[np.ndarray, "n 3"]) -> list[str]:
    lines = [
        "<h2>Per class</h2>",
        '<table><tr><th>class</th><th>IoU</th><th class="n">IoU, %</th>'
        '<th class="n">accuracy, %</th><th class="n">pixels</th></tr>',
    ]
    for row in rows:
        if math.isnan(row["iou"]):
            continue
        red, green, blue = (int(value) for value in palette[row["label"]])
        lines.append(
            f'<tr><td><span class="sw" style="background:rgb({red},{green},{blue})"></span>'
            f"{_text(row['name'])}</td>"
            f'<td><div class="bar"><i style="width:{row["iou"]:.2f}%"></i></div></td>'
            f'<td class="n">{_number(row["iou"])}</td><td class="n">{_number(row["accuracy"])}</td>'
            f'<td class="n">{row["truth_pixels"]:,}</td></tr>'
        )
    missing = sum(math.isnan(row["iou"]) for row in rows)
    lines.append("</table>")
    if missing:
        lines.append(f"<p>{missing} labels do not occur in the truth and are not counted.</p>")
    return lines


def _confusion(matrix: Int[np.ndarray, "labels labels"], names: Sequence[str]) -> list[str]:
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:12]
    pairs = [divmod(int(place), len(matrix)) for place in order if errors.flat[place]]
    total = max(1, int(matrix.sum()))
    lines = [
        "<h2>What is taken for what</h2>",
        "<p>Rows are the truth, columns the prediction, from the first class at the top left; "
        "darker is a larger share of the row. The diagonal is right.</p>",
        f'<img class="confusion" alt="confusion matrix" src="{_png(confusion_picture(matrix))}"/>',
        '<table><tr><th>truth</th><th>taken for</th><th class="n">% of all pixels</th></tr>',
    ]
    for truth, predicted in pairs:
        lines.append(
            f"<tr><td>{_text(names[truth])}</td><td>{_text(names[predicted])}</td>"
            f'<td class="n">{100 * int(matrix[truth, predicted]) / total:.2f}</td></tr>'
        )
    return [*lines, "</table>"]


def _gallery(out: Path, measured: Measured) -> list[str]:
    lines = [
        "<h2>Worst pictures</h2>",
        "<p>Picture, prediction, truth; colours as above, light grey is not counted.</p>",
        '<div class="gallery">',
    ]
    for miou, index in worst_of(measured.records.values()):
        strip = strip_path(out, index)
        if strip.is_file():
            data = base64.b64encode(strip.read_bytes()).decode("ascii")
            lines.append(
                f'<figure><img alt="picture, prediction, truth" '
                f'src="data:image/png;base64,{data}"/><figcaption>'
                f"{_text(measured.records[index].name)}: mIoU {miou:.1f} %</figcaption></figure>"
            )
    return [*lines, "</div>"]


def _failures(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    if not failed:
        return []
    rows = "".join(
        f"<tr><td>{_text(one['name'])}</td><td>{_text(one['reason'])}</td></tr>"
        for one in failed[:MOST_FAILED]
    )
    more = len(failed) - MOST_FAILED
    note = f"<p>{more} more in {IMAGES}.</p>" if more > 0 else ""
    return ["<h2>Not measured</h2>", f"<table>{rows}</table>", note]


def _shown_settings(results: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in results["settings"].items() if key != "classes"}
    return _without_nan({"settings": settings, "context": results["context"]})


def _png(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    stream = io.BytesIO()
    PilImage.fromarray(picture).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _text(value: str) -> str:
    return html.escape(value)
