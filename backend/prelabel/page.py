"""A preview as one page that needs nothing else: no script, no request, light and dark."""

import base64
import io
import shlex
from collections.abc import Iterator, Sequence
from html import escape
from statistics import median

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .figures import buckets, duration, number, percent, plural, size
from .preview import Preview, Row
from .sheet import caption
from .tiles import Palette, Tile
from .wanted import Wanted

QUALITY = 86  # of the tiles, JPEG
STEPS = {
    "download": "fetching pictures",
    "decode": "unpacking",
    "model": "the model",
    "encode": "writing regions down",
}
STYLE = """
:root { color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #22222a; --faint: #64646e; --line: #e2dfd6;
  --fill: #2f6f64; --soft: #cfe3dd; --alarm: #8a2f22; --alarm-paper: #fbeae6; --note: #f3efe4; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #17181b; --card: #202226; --ink: #ececea; --faint: #a5a7ad; --line: #35383e;
  --fill: #6fbfae; --soft: #2c4a44; --alarm: #ffb4a6; --alarm-paper: #3a2320; --note: #2a2a26; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(24px, 4vw, 34px); line-height: 1.2; margin: 0 0 6px;
  overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 12px; }
p { margin: 0 0 10px; max-width: 75ch; }
code, pre { font: 14px/1.5 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
.faint { color: var(--faint); }
.sub { overflow-wrap: anywhere; }
.cards { display: grid; gap: 12px; margin: 24px 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px; }
.cards dt { color: var(--faint); font-size: 14px; }
.cards dd { margin: 2px 0 0; font-size: 23px; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.cards small { display: block; font-size: 13px; font-weight: 400; color: var(--faint); }
.warnings { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px; }
.warnings li { background: var(--note); border-left: 4px solid var(--faint); border-radius: 6px;
  padding: 10px 14px; overflow-wrap: anywhere; }
.warnings li.alarm { background: var(--alarm-paper); border-color: var(--alarm);
  color: var(--alarm); font-weight: 600; }
.sheet { display: grid; gap: 22px 18px;
  grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; border-radius: 10px;
  overflow: hidden; background: var(--line); }
.pair img { width: 100%; height: 100%; display: block; object-fit: contain; max-height: 300px;
  background: var(--card); }
figcaption { font-size: 13px; color: var(--faint); margin-top: 6px; }
.chips { display: flex; flex-wrap: wrap; gap: 2px 10px; }
.chip { display: inline-flex; align-items: center; gap: 6px; overflow-wrap: anywhere;
  color: var(--ink); }
.chip i { width: 12px; height: 12px; border-radius: 3px; flex: none;
  border: 1px solid rgb(127 127 127 / 50%); }
.failed { background: var(--alarm-paper); color: var(--alarm); border-radius: 10px;
  padding: 18px; min-height: 130px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; }
thead th { font-size: 13px; color: var(--faint); font-weight: 600; }
tbody th { font-weight: 500; min-width: 96px; }
td.count { text-align: right; white-space: nowrap; padding-right: 18px; }
th.count { text-align: right; padding-right: 18px; }
.bar { position: relative; display: block; height: 8px; min-width: 64px; border-radius: 4px;
  background: var(--line); overflow: hidden; }
.bar i { position: absolute; top: 0; bottom: 0; background: var(--fill); border-radius: 4px; }
.bar i.range { background: var(--soft); }
.bar i.tick { width: 3px; margin-left: -1px; border-radius: 0; }
.value { white-space: nowrap; font-size: 14px; }
.two { display: grid; gap: 0 48px; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); }
.narrow td:first-of-type { width: 45%; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; overflow-x: auto; }
@media (max-width: 640px) { main { padding: 20px 14px 48px; } th, td { padding-right: 8px; }
  td.count, th.count { padding-right: 8px; } .bar { min-width: 40px; }
  .cards { grid-template-columns: 1fr 1fr; } .cards dd { font-size: 19px; } }
"""


def page(seen: Preview) -> str:
    """The whole page; everything that comes from Label Studio is escaped."""
    title = seen.facts.title or "without a title"
    parts = [
        f"<h1>Preview of “{escape(title)}”</h1>",
        f'<p class="faint sub">Project {seen.facts.id} · {escape(seen.model)} · predictions would '
        f"be of version <code>{escape(seen.version)}</code></p>",
        "<p>Nothing was written to Label Studio.</p>",
        *_cards(seen),
        *_warnings(seen),
        *_sheet(seen),
        *_labels(seen.rows, seen.palette),
        '<div class="two">',
        *_regions(seen.regions),
        *_time(seen),
        "</div>",
        *_failures(seen),
        "<h2>Go on</h2>",
        f"<pre><code>{escape(command(seen.wanted))}</code></pre>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f'<link rel="icon" href="data:,">\n<title>Preview: {escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def command(wanted: Wanted) -> str:
    """What pre-labels the same tasks for good."""
    words = ["cliper", "prelabel", "--project", str(wanted.project)]
    if wanted.view is not None:
        words += ["--view", str(wanted.view)]
    for one in wanted.filters:
        words += ["--filter", one]
    return shlex.join(words)


def _cards(seen: Preview) -> Iterator[str]:
    to_do, matching = len(seen.candidates.to_do), len(seen.candidates.all)
    foretold = seen.estimate
    about = "about " if to_do else ""
    rough = " · a rough guess" if seen.pace.tasks < 4 else ""
    aside = f"of {number(matching)}" if to_do != matching else "all that match"
    cards = (
        ("To pre-label", plural(to_do, "task"), aside),
        (
            "Time",
            f"{about}{duration(foretold.seconds)}" if to_do else "none",
            f"{foretold.seconds_per_task:.3g} s per task{rough}",
        ),
        (
            "Room in the database",
            f"{about}{size(foretold.disk_bytes)}" if to_do else "none",
            f"{size(foretold.prediction_bytes)} per prediction",
        ),
        (
            "Looked at",
            plural(len(seen.tasks), "task"),
            f"{seen.failed} failed" if seen.failed else "none failed",
        ),
    )
    yield '<dl class="cards">'
    for name, value, note in cards:
        yield f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
    yield "</dl>"


def _warnings(seen: Preview) -> Iterator[str]:
    found = seen.warnings()
    if not found:
        return
    alarming = len(found) - len(seen.config_warnings)
    yield '<h2>Look at this first</h2>\n<ul class="warnings">'
    for place, sentence in enumerate(found):
        kind = ' class="alarm"' if place < alarming and _is_alarming(sentence) else ""
        yield f"<li{kind}>{escape(sentence[:1].upper() + sentence[1:])}.</li>"
    yield "</ul>"


def _is_alarming(sentence: str) -> bool:
    return not sentence.startswith("in ")


def _sheet(seen: Preview) -> Iterator[str]:
    if not seen.tiles:
        return
    yield "<h2>What came out</h2>"
    yield (
        '<p class="faint">Left the picture, right what Label Studio would get: spread evenly over '
        "the tasks, chosen by chance with a fixed seed.</p>"
    )
    yield '<div class="sheet">'
    for tile in seen.tiles:
        yield _tile(tile, seen.palette)
    yield "</div>"


def _tile(tile: Tile, palette: Palette) -> str:
    told = escape(caption(tile))
    if tile.picture is None or tile.painted is None:
        inside = f'<div class="failed"><strong>failed</strong><br>{escape(tile.reason)}</div>'
        return f"<figure>{inside}<figcaption>{told}</figcaption></figure>"
    names = ", ".join(name for _, name in tile.labels) or "nothing"
    chips = "".join(_chip(palette, *label) for label in tile.labels) or "nothing found"
    return (
        f'<figure><div class="pair"><img src="{_data_url(tile.picture)}" '
        f'alt="Picture of task {tile.task}"><img src="{_data_url(tile.painted)}" '
        f'alt="{escape(f"Found in task {tile.task}: {names}")}"></div>'
        f'<figcaption>{told}<span class="chips">{chips}</span></figcaption></figure>'
    )


def _chip(palette: Palette, control: str, label: str) -> str:
    red, green, blue = palette.colour(control, label)
    return (
        f'<span class="chip"><i style="background:rgb({red} {green} {blue})"></i>'
        f"{escape(label)}</span>"
    )


def _labels(rows: Sequence[Row], palette: Palette) -> Iterator[str]:
    if not rows:
        return
    several = len({row.control for row in rows}) > 1
    yield "<h2>Labels</h2>"
    yield (
        '<p class="faint">Presence says how likely a label is in a picture, found or not; the bar '
        "spans the middle four fifths of the pictures, the stroke is the median.</p>"
    )
    yield '<div class="scroll" role="region" aria-label="Labels" tabindex="0"><table>'
    tag = '<th scope="col">tag</th>' if several else ""
    yield (
        f'<thead><tr><th scope="col">label</th>{tag}<th scope="col" colspan="2">pictures with it'
        '</th><th scope="col" colspan="2">presence</th><th scope="col" class="count">area</th>'
        '<th scope="col" class="count">regions</th></tr></thead><tbody>'
    )
    for row in sorted(rows, key=lambda one: -one.share):
        own = f"<td>{escape(row.control)}</td>" if several else ""
        area = percent(row.area) if row.area is not None else "–"
        yield (
            f'<tr><th scope="row">{_chip(palette, row.control, row.label)}</th>{own}'
            f'<td><span class="bar"><i style="width:{100 * row.share:.0f}%"></i></span></td>'
            f'<td class="value">{row.found} of {row.asked}</td>{_presence(row)}'
            f'<td class="count">{area}</td><td class="count">{row.regions}</td></tr>'
        )
    yield "</tbody></table></div>"


def _presence(row: Row) -> str:
    low, middle, high = (row.presence(at) for at in (0.1, 0.5, 0.9))
    if low is None or middle is None or high is None:
        return '<td></td><td class="value">fills the rest</td>'
    return (
        f'<td><span class="bar"><i class="range" style="left:{100 * low:.0f}%;'
        f'width:{100 * (high - low):.0f}%"></i><i class="tick" style="left:{100 * middle:.0f}%">'
        f'</i></span></td><td class="value">{middle:.2f}</td>'
    )


def _regions(counts: Sequence[int]) -> Iterator[str]:
    if not counts:
        return
    yield "<section><h2>Regions per task</h2>"
    yield (
        f"<p>{median(counts):g} in the middle, {max(counts)} at most, "
        f"{plural(sum(counts), 'region')} in {plural(len(counts), 'task')}.</p>"
    )
    yield '<table class="narrow"><thead><tr><th scope="col">regions</th>'
    yield '<th scope="col">tasks</th><th scope="col" class="count"></th></tr></thead><tbody>'
    found = buckets(counts)
    most = max(many for _, many in found)
    for name, many in found:
        yield (
            f'<tr><th scope="row">{name}</th><td><span class="bar">'
            f'<i style="width:{100 * many / most:.0f}%"></i></span></td>'
            f'<td class="count">{many}</td></tr>'
        )
    yield "</tbody></table></section>"


def _time(seen: Preview) -> Iterator[str]:
    foretold, pace = seen.estimate, seen.pace
    if not seen.tasks:
        return
    yield "<section><h2>Time and room</h2>"
    aside = f", after {plural(seen.warm_up, 'task')} of warming up" if seen.warm_up else ""
    yield (
        f"<p>{plural(pace.tasks, 'task')} timed{aside}: {pace.per_task:.3g} s each. Listing a page "
        f"of tasks takes Label Studio {foretold.listing:.2g} s; writing goes on beside the model. "
        "The time counts from the moment the model is ready, on this machine, with as much else "
        "to do as during this preview.</p>"
    )
    if pace.shares:
        yield '<table class="narrow"><thead><tr><th scope="col">work</th>'
        yield '<th scope="col">share</th><th scope="col" class="count"></th></tr></thead><tbody>'
        for step, share in pace.shares.items():
            yield (
                f'<tr><th scope="row">{STEPS[step]}</th><td><span class="bar">'
                f'<i style="width:{100 * share:.0f}%"></i></span></td>'
                f'<td class="count">{percent(share)}</td></tr>'
            )
        yield "</tbody></table>"
    yield "</section>"


def _failures(seen: Preview) -> Iterator[str]:
    if not seen.failures:
        return
    yield "<h2>Failures</h2>"
    yield '<div class="scroll" role="region" aria-label="Failures" tabindex="0"><table>'
    yield '<thead><tr><th scope="col">reason</th><th scope="col" class="count">tasks</th>'
    yield '<th scope="col">such as</th></tr></thead><tbody>'
    for one in seen.failures.values():
        such = ", ".join(map(str, one.tasks))
        yield (
            f'<tr><th scope="row">{escape(one.sentence)}</th>'
            f'<td class="count">{one.count}</td><td>{such}</td></tr>'
        )
    yield "</tbody></table></div>"


def _data_url(picture: UInt8[np.ndarray, "tile_h tile_w 3"]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
