"""A report as one page that needs nothing else: no script, no request, light and dark."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from ..prelabel.figures import duration, number, percent, plural
from ..prelabel.page import STYLE
from .charts import quality_by_order, score_against_quality, short
from .comparing import EQUAL, GOOD, KINDS, REDONE, UNTOUCHED, Name
from .learnt import ACTIVE, Judgement, LearntVersion
from .making import Report, Worst
from .panels import ADD, REMOVE, SWAP
from .pieces import SIGNS, chip, image_of, rgb, stack, table_of, two, whole_percents
from .reading import BEFORE, UNSEEN
from .saving import WORDS
from .style import OWN_STYLE
from .tally import Edits, LabelTally, VersionTally

FEWEST_TO_TELL: Final = 10  # corrected pictures of a version, before versions are compared aloud
FIRST_LABELS: Final = 12  # of a version, before the rest is folded away
HELPS: Final = 0.9  # of the brush work, from which sharper edges are worth a word
SWEPT: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # columns of the whole sweep
MOST_SWEPT: Final = 60  # labels in it
MOST_TAUGHT: Final = 30  # labels of a verdict


def page(seen: Report) -> str:
    """The whole page; everything that comes from Label Studio is escaped."""
    parts = [
        f"<h1>What pre-labelling saves in “{escape(seen.title)}”</h1>",
        f'<p class="faint sub">{escape(_about(seen))}</p>',
        *_lead(seen),
        *_warnings(seen),
        *_versions(seen),
        *_labels(seen),
        *_advice(seen),
        *_worst(seen),
        '<div class="two">',
        *_calibration(seen),
        *_edges(seen),
        "</div>",
        *_learnt(seen.learnt),
        *_method(seen),
    ]
    title = f"Report: {seen.title}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def headline(seen: Report) -> list[str]:
    """The two sentences that matter, in plain text."""
    saved = seen.saving
    if not saved.pictures:
        return ["Nobody has corrected a prediction yet."]
    shares = whole_percents([saved.share(kind) for kind in KINDS])
    pictures = plural(saved.pictures, "corrected picture")
    return [
        f"Of {pictures}, {shares[0]} % were taken as they were, {shares[1]} % touched up, "
        f"{shares[2]} % redone.",
        _saved(saved.seconds),
    ]


def _saved(seconds: float) -> str:
    if abs(seconds) < 60:
        return "No time saved to speak of."
    return f"About {duration(abs(seconds))} {'saved' if seconds > 0 else 'lost'}."


def _about(seen: Report) -> str:
    parts = [f"Project {seen.project}"] if seen.project is not None else []
    parts.append(plural(seen.counts.annotated, "annotated task"))
    if seen.asked.version is not None:
        parts.append(f"version {seen.asked.version} only")
    elif seen.versions:
        parts.append(plural(len(seen.versions), "model version"))
    return " · ".join([*parts, seen.made])


def _lead(seen: Report) -> Iterator[str]:
    saved = seen.saving
    if not saved.pictures:
        yield f'<p class="lead">{headline(seen)[0]}</p>'
        yield f"<p>{escape(_nothing(seen))}</p>"
        return
    shares = whole_percents([saved.share(kind) for kind in KINDS])
    pictures = plural(saved.pictures, "corrected picture")
    yield (
        f'<p class="lead">Of <strong>{pictures}</strong>, <strong>{shares[0]} %</strong> were '
        f"taken as they were, <strong>{shares[1]} %</strong> touched up, "
        f"<strong>{shares[2]} %</strong> redone.</p>"
    )
    lost = " lost" if saved.seconds < -60 else ""
    yield f'<p class="saved{lost}">{_saved(saved.seconds)}</p>'
    yield stack(saved.kinds, small=False)
    yield '<ul class="legend">'
    for kind, css in SIGNS.items():
        yield f'<li><i class="{css}"></i>{WORDS[kind]} ({number(saved.kinds[kind])})</li>'
    yield "</ul>"
    if (told := _progress(seen)) is not None:
        yield f"<p><strong>{escape(told)}</strong></p>"
    yield (
        f'<div class="note"><p><strong>{escape(saved.assumption)}</strong> '
        f"{escape(saved.details)}</p>"
        f"<p>That is {duration(saved.by_hand)} by hand against {duration(saved.spent)} with "
        'predictions. <span class="faint">To reckon with other figures: '
        "<code>--seconds-per-mask</code>, <code>--seconds-per-touch</code>, "
        "<code>--seconds-per-look</code>.</span></p></div>"
    )
    yield from _cards(seen)


def _nothing(seen: Report) -> str:
    counts = seen.counts
    if not counts.annotated:
        return "No task has an annotation: correct some predictions, then come back."
    if counts.compared:
        return (
            "There are predictions for annotated tasks, but all were made after the annotation: "
            "their quality can be told below, time saved cannot."
        )
    if counts.unpredicted:
        return (
            f"{plural(counts.unpredicted, 'annotated task')} had no prediction to compare with. An "
            "export must hold predictions themselves, not only their numbers; with --project they "
            "are read from Label Studio."
        )
    return "No annotated task has a prediction of this version that could be read."


def _progress(seen: Report) -> str | None:
    """Newest version against the one before, where both have enough."""
    enough = [one for one in seen.versions if one.seen >= FEWEST_TO_TELL]
    if len(enough) < 2:
        return None
    before, now = enough[-2:]
    (was_taken, was_redone), (taken, redone) = (
        [f"{100 * one.kinds[kind] / one.seen:.0f} %" for kind in (UNTOUCHED, REDONE)]
        for one in (before, now)
    )
    return (
        f"With the newest version {taken} are taken as they are and {redone} redone; with the one "
        f"before it was {was_taken} and {was_redone}."
    )


def _cards(seen: Report) -> Iterator[str]:
    total = sum((one.all for one in seen.versions), Edits())
    lines = seen.lines
    cards = []
    if lines:
        mean = sum(one.quality for one in lines) / len(lines)
        cards.append(("Quality of masks", f"{mean:.2f}", "mean IoU, 1 is perfect"))
    if total.truth:
        changed = (total.add + total.remove) / total.truth
        add, remove = total.add / total.truth, total.remove / total.truth
        cards.append(
            (
                "Brush work",
                percent(changed),
                f"{percent(add)} to add, {percent(remove)} to remove",
            )
        )
    if seen.calibration.error is not None:
        error = seen.calibration.error
        cards.append(("Scores are off by", f"{error:.2f}", "on average, 0 is perfect"))
    per = seen.saving.seconds / seen.saving.pictures if seen.saving.pictures else 0.0
    if seen.open_tasks and per > 0:
        cards.append(
            (
                "Still to save",
                f"about {duration(per * seen.open_tasks)}",
                f"on {plural(seen.open_tasks, 'open task')}, if all goes on so",
            )
        )
    yield '<dl class="cards">'
    for name, value, note in cards:
        yield f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>"
    yield "</dl>"


def _warnings(seen: Report) -> Iterator[str]:
    found = list(seen.warnings)
    if seen.counts.failures:
        count = sum(seen.counts.failures.values())
        found.append(f"{plural(count, 'comparison')} could not be made; the reasons are below")
    bases = {basis: sum(one.basis == basis for one in seen.lines) for basis in (BEFORE, UNSEEN)}
    if bases[UNSEEN]:
        found.append(
            f"{plural(bases[UNSEEN], 'prediction')} here were not what the annotation started "
            "from: they count for the quality of their version, not for the saving. A version that "
            "learnt from an annotation does well on its picture"
        )
    if not found:
        return
    yield '<ul class="warnings">'
    for sentence in found:
        yield f"<li>{escape(sentence[:1].upper() + sentence[1:])}.</li>"
    yield "</ul>"


def _versions(seen: Report) -> Iterator[str]:
    if not seen.versions:
        return
    yield "<h2>Is it getting better?</h2>"
    if seen.order:
        count = max(one.count for one in seen.order)
        yield '<div class="beside">'
        yield quality_by_order(seen.order)
        yield (
            f'<p class="faint">Each dot is the mean over {plural(count, "corrected picture")} or '
            "one less; a dashed line marks a new model version. Which pictures come first is "
            "chance, or asked for: when the most uncertain ones are corrected first, the curve "
            "starts low.</p></div>"
        )
    yield table_of("Versions")
    yield (
        '<thead><tr><th scope="col">version, oldest first</th><th scope="col" class="num">pictures'
        '</th><th scope="col" colspan="2">quality (mean IoU)</th><th scope="col">taken, touched '
        'up, redone</th><th scope="col" class="num">score error</th></tr></thead><tbody>'
    )
    for one in seen.versions:
        noise = f' <span class="faint">± {one.noise:.2f}</span>' if one.noise is not None else ""
        error = seen.calibrations[one.version].error
        kinds = stack(one.kinds, small=True) if one.seen else '<span class="faint">unseen</span>'
        yield (
            f'<tr><th scope="row">{escape(short(one.version, 48))}</th>'
            f'<td class="num">{number(one.count)}</td>'
            f'<td><span class="bar"><i style="width:{100 * one.mean:.0f}%"></i></span></td>'
            f'<td class="value">{one.mean:.2f}{noise}</td><td>{kinds}</td>'
            f'<td class="num">{"–" if error is None else f"{error:.2f}"}</td></tr>'
        )
    yield "</tbody></table></div>"


def _labels(seen: Report) -> Iterator[str]:
    if seen.newest is None:
        return
    yield "<h2>What each label needs</h2>"
    yield (
        f'<p class="faint">Masks of {escape(short(seen.newest.version, 60))}. '
        "Pixels a brush has to add and remove, as a share of the right mask; "
        "boundary F says how well outlines lie. The labels with most work come first.</p>"
    )
    yield from _label_table(seen.newest, seen)
    for one in reversed(seen.versions[:-1]):
        name = escape(short(one.version, 60))
        yield f"<details><summary>{name}, {plural(one.count, 'picture')}</summary>"
        yield from _label_table(one, seen)
        yield "</details>"


def _label_table(version: VersionTally, seen: Report) -> Iterator[str]:
    rows = sorted(
        version.labels.items(), key=lambda pair: (-(pair[1].all.add + pair[1].all.remove), pair[0])
    )
    yield from _label_rows(f"Labels of {version.version}", rows[:FIRST_LABELS], seen)
    if rest := rows[FIRST_LABELS:]:
        yield f"<details><summary>{plural(len(rest), 'more label')}</summary>"
        yield from _label_rows(f"More labels of {version.version}", rest, seen)
        yield "</details>"


def _label_rows(words: str, rows: Sequence[tuple[Name, LabelTally]], seen: Report) -> Iterator[str]:
    several = len({name.control for one in seen.versions for name in one.labels} - {""}) > 1
    yield table_of(words)
    tag = '<th scope="col">tag</th>' if several else ""
    yield (
        f'<thead><tr><th scope="col">label</th>{tag}<th scope="col" class="num">pictures</th>'
        '<th scope="col" colspan="2">IoU</th><th scope="col" class="num">boundary F</th>'
        '<th scope="col" class="num">to add</th><th scope="col" class="num">to remove</th>'
        '<th scope="col">taken, touched up, redone</th></tr></thead><tbody>'
    )
    for name, one in rows:
        edits = one.all
        own = f"<td>{escape(name.control)}</td>" if several else ""
        iou = edits.iou or 0.0
        yield (
            f'<tr><th scope="row">{chip(seen.palette, name)}</th>{own}'
            f'<td class="num">{_aside(one)}{number(edits.pictures)}</td>'
            f'<td><span class="bar"><i style="width:{100 * iou:.0f}%"></i></span></td>'
            f'<td class="value">{iou:.2f}</td><td class="num">{two(edits.boundary_f)}</td>'
            f'<td class="num">{_pixels(edits, edits.add)}</td>'
            f'<td class="num">{_pixels(edits, edits.remove)}</td>'
            f"<td>{stack(one.kinds, small=True)}</td></tr>"
        )
    yield "</tbody></table></div>"


def _aside(one: LabelTally) -> str:
    """Where it was predicted and nobody painted it, or the other way round."""
    false, missed = one.all.pictures - one.painted, one.all.pictures - one.predicted
    told = [
        f"{number(count)} {word}" for count, word in ((false, "false"), (missed, "missed")) if count
    ]
    return f'<span class="faint">{", ".join(told)} of </span>' if told else ""


def _pixels(edits: Edits, pixels: int) -> str:
    share = edits.share(pixels)
    first = f" {percent(share)}" if share is not None else ""
    return f'<span class="faint">{number(pixels)} px</span>{first}'


def _advice(seen: Report) -> Iterator[str]:
    if not seen.sweeps:
        return
    advised = [one for one in seen.sweeps if one.advice is not None]
    yield "<h2>What to change in the label config</h2>"
    if advised:
        yield '<ul class="advice">'
        for one in advised:
            sentence = one.sentence[:1].upper() + one.sentence[1:]
            tag = f" (tag {one.name.control})" if _several(seen) else ""
            yield (f"<li>{escape(sentence + tag)}.<code>{escape(one.attribute or '')}</code></li>")
        yield "</ul>"
    else:
        yield "<p>Nothing: no threshold would clearly remove more wrong masks than right ones.</p>"
    yield "<details><summary>The whole sweep</summary>"
    yield (
        '<p class="faint">Wrong masks removed / right ones lost at each threshold, at most: a '
        "region’s score is never above the presence that the threshold compares. Masks of "
        f"{escape(seen.versions[-1].version)}.</p>"
    )
    yield table_of("The whole sweep")
    columns = "".join(f'<th scope="col" class="num">{one:g}</th>' for one in SWEPT)
    yield (
        '<thead><tr><th scope="col">label</th><th scope="col" class="num">wrong</th>'
        f'<th scope="col" class="num">right</th>{columns}</tr></thead><tbody>'
    )
    for one in seen.sweeps[:MOST_SWEPT]:
        steps = {step.threshold: step for step in one.steps}
        cells = "".join(
            f'<td class="num">{steps[at].removed} / {steps[at].lost}</td>' for at in SWEPT
        )
        yield (
            f'<tr><th scope="row">{chip(seen.palette, one.name)}</th>'
            f'<td class="num">{one.false}</td><td class="num">{one.right}</td>{cells}</tr>'
        )
    yield "</tbody></table></div></details>"


def _several(seen: Report) -> bool:
    return len({one.name.control for one in seen.sweeps}) > 1


def _worst(seen: Report) -> Iterator[str]:
    if not seen.worst:
        return
    count = len(seen.worst)
    which = "The worst one" if count == 1 else f"The worst {count}"
    of = f" of {escape(short(seen.worst[0].line.version, 40))}" if len(seen.versions) > 1 else ""
    yield f"<h2>{which}{of}</h2>"
    yield (
        '<p class="faint">In the difference '
        f'<span class="key" style="background:{rgb(ADD)}"></span>green had to be added, '
        f'<span class="key" style="background:{rgb(REMOVE)}"></span>red to be removed, '
        f'<span class="key" style="background:{rgb(SWAP)}"></span>yellow had another label.</p>'
    )
    yield '<div class="worst">'
    for one in seen.worst:
        yield _worst_one(seen, one)
    yield "</div>"


def _worst_one(seen: Report, one: Worst) -> str:
    task = f"task {one.line.task}"
    which = "" if one.place.number is None else f", picture {one.place.number + 1}"
    linked = f'<a href="{escape(one.link)}">{task}</a>' if one.link else task
    shown = f"{linked}{which} · quality {one.line.quality:.2f}"
    chips = "".join(chip(seen.palette, name) for name in one.labels)
    if one.panels is None:
        return f"<section><h3>{shown}</h3><p>{escape(one.reason)}</p></section>"
    panels = one.panels
    first = f'<div class="none">{escape(panels.reason or "no picture")}</div>'
    if panels.picture is not None:
        first = image_of(panels.picture, f"Picture of {task}")
    cells = (
        (first, "picture"),
        (image_of(panels.predicted, f"Predicted for {task}"), "predicted"),
        (image_of(panels.right, f"Correction of {task}"), "corrected"),
        (image_of(panels.difference, f"To add and to remove in {task}"), "difference"),
    )
    listed = "".join(f"<li>{inside}<span>{words}</span></li>" for inside, words in cells)
    return (
        f'<section><h3>{shown}</h3><ul class="four">{listed}</ul>'
        f'<span class="chips">{chips}</span></section>'
    )


def _calibration(seen: Report) -> Iterator[str]:
    found = seen.calibration
    yield "<section><h2>Do scores tell the truth?</h2>"
    if not found.bins:
        yield "<p>Not measured: no compared prediction has a score.</p></section>"
        return
    yield score_against_quality(found)
    yield (
        f"<p>Over {plural(found.count, 'prediction')} score and measured quality are "
        f"<strong>{found.error:.2f}</strong> apart on average (expected calibration error). Dots "
        "below the dashed line promise too much; larger ones stand for more pictures.</p></section>"
    )


def _edges(seen: Report) -> Iterator[str]:
    yield "<section><h2>Would sharper edges help?</h2>"
    newest = seen.newest
    if newest is None or not seen.sampled:
        reason = _first_reason(seen.unsampled)
        if not seen.asked.sample:
            reason = "no sample was asked for"
        yield f"<p>Not measured: {escape(reason)}.</p></section>"
        return
    rows = [(name, one) for name, one in sorted(newest.labels.items()) if one.stored.pictures]
    stored = sum((one.stored for _, one in rows), Edits())
    moved = sum((one.snapped for _, one in rows), Edits())
    yield (
        f"<p>{escape(_edge_words(stored, moved))} Measured on {plural(stored.pictures, 'mask')} of "
        "a sample of pictures: as they were, and after one guided filter moved them "
        'onto the picture’s edges. <span class="faint">Only masks that people changed: one that '
        "was accepted says nothing about edges. Masks that were made edge-aware already gain "
        "nothing from it.</span></p>"
    )
    yield from _edge_table("Edges", [(None, stored, moved)], seen)
    yield "<details><summary>By label</summary>"
    each = [(name, one.stored, one.snapped) for name, one in rows]
    yield from _edge_table("Edges by label", each, seen)
    yield "</details></section>"


def _edge_table(
    words: str, rows: Sequence[tuple[Name | None, Edits, Edits]], seen: Report
) -> Iterator[str]:
    yield table_of(words)
    yield (
        '<thead><tr><th scope="col">label</th><th scope="col" class="num">to change</th>'
        '<th scope="col" class="num">on edges</th><th scope="col" class="num">boundary F</th>'
        '<th scope="col" class="num">on edges</th></tr></thead><tbody>'
    )
    for name, before, after in rows:
        told = "all" if name is None else chip(seen.palette, name)
        yield (
            f'<tr><th scope="row">{told}</th><td class="num">{_change(before)}</td>'
            f'<td class="num">{_change(after)}</td><td class="num">{two(before.boundary_f)}</td>'
            f'<td class="num">{two(after.boundary_f)}</td></tr>'
        )
    yield "</tbody></table></div>"


def _edge_words(stored: Edits, moved: Edits) -> str:
    before = stored.share(stored.add + stored.remove)
    after = moved.share(moved.add + moved.remove)
    if before is None or after is None:
        return "Nobody painted anything on these pictures."
    if after < HELPS * before:
        return (
            f"Yes: {percent(before)} of the right masks had to be changed, with moved edges it "
            f"would be {percent(after)}."
        )
    if after > before / HELPS:
        return (
            f"No: {percent(before)} of the right masks had to be changed, with moved edges it "
            f"would be {percent(after)}."
        )
    return f"Hardly: {percent(before)} of the right masks to change, {percent(after)} after it."


def _change(edits: Edits) -> str:
    share = edits.share(edits.add + edits.remove)
    return "–" if share is None else percent(share)


def _first_reason(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "no picture was at hand"
    most = max(reasons, key=lambda one: reasons[one])
    return f"no picture was at hand ({most})"


def _learnt(versions: Sequence[LearntVersion]) -> Iterator[str]:
    yield "<h2>What was learnt from corrections</h2>"
    if not versions:
        yield (
            "<p>Nothing learnt yet. Corrections teach the model by themselves once five tasks are "
            "corrected and the service hears of them; here it says then what was switched on, and "
            "why not.</p>"
        )
        return
    active = next((one for one in versions if one.state == ACTIVE), None)
    told = (
        f"Version {active.digest}, learnt from {plural(active.tasks, 'task')}, is switched on."
        if active is not None
        else "Nothing learnt is switched on now."
    )
    yield f"<p><strong>{escape(told)}</strong></p>"
    first, *others = versions
    yield _learnt_one(first)
    if others:
        yield "<details><summary>Earlier versions</summary>"
        for one in others:
            yield _learnt_one(one)
        yield "</details>"


def _learnt_one(one: LearntVersion) -> str:
    when = "" if one.when is None else f" · {datetime.fromtimestamp(one.when, UTC):%Y-%m-%d %H:%M}"
    tasks = plural(one.tasks, "corrected task")
    about = f"{one.digest or 'nothing to use'} · {one.state} · {tasks}{when}"
    css = "verdict on" if one.state == ACTIVE else "verdict"
    verdicts = "".join(_judgement(each) for each in one.judgements) or "<p>No verdict was kept.</p>"
    return f'<div class="{css}"><p class="faint sub">{escape(about)}</p>{verdicts}</div>'


def _judgement(one: Judgement) -> str:
    told = f"<p><code>{escape(one.control)}</code>: {escape(one.reason)}.</p>"
    if not one.per_label:
        return told
    most = sorted(one.per_label.items(), key=lambda pair: pair[1][0] - pair[1][1])[:MOST_TAUGHT]
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="num">{before:.1f}</td>'
        f'<td class="num">{after:.1f}</td><td class="num">{after - before:+.1f}</td></tr>'
        for name, (before, after) in most
    )
    return (
        f"{told}<details><summary>By label</summary>{table_of(f'Labels of {one.control}')}"
        '<thead><tr><th scope="col">label</th><th scope="col" class="num">IoU before</th>'
        '<th scope="col" class="num">after</th><th scope="col" class="num">gain</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _method(seen: Report) -> Iterator[str]:
    counts, bases = seen.counts, seen.bases
    yield "<h2>How this was measured</h2>"
    yield (
        "<p>Of each task the ground truth annotation counts, else the latest; skipped ones and "
        "drafts do not. Regions of a label are joined, and compared with the prediction the "
        "annotation started from "
        f"({number(bases['parent'])}); where Label Studio no longer knows it, with the newest from "
        f"before the annotation ({number(bases[BEFORE])}). {number(bases[UNSEEN])} predictions "
        "were made later, or somebody started from another one.</p>"
    )
    yield (
        "<p><strong>Quality</strong> is the mean IoU over labels painted or predicted. A picture "
        f"is <strong>taken as it was</strong> when all masks agree in {100 * EQUAL:g} % of their "
        f"pixels, <strong>touched up</strong> when its quality is {GOOD:g} or more, "
        "<strong>redone</strong> below that. Boxes, points and answers without a mask are not "
        "compared.</p>"
    )
    yield (
        f"<p>{plural(counts.annotated, 'annotated task')}: {number(counts.compared)} compared, "
        f"{number(counts.unpredicted)} without a prediction, "
        f"{number(counts.other_version)} without one of this version.</p>"
    )
    if counts.failures:
        yield table_of("Failures")
        yield '<thead><tr><th scope="col">what could not be compared</th>'
        yield '<th scope="col" class="num">times</th></tr></thead><tbody>'
        for sentence, count in counts.failures.most_common():
            yield f'<tr><td>{escape(sentence)}</td><td class="num">{number(count)}</td></tr>'
        yield "</tbody></table></div>"
