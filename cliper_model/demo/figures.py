"""Every figure of the model card, measured from the files in a weights folder alone.

The work is cut into jobs that single-threaded processes share. What a job says depends on the
scenes it is about and on nothing else, so the number of processes changes no figure.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from ..errors import WeightsMissing
from . import described, unseen
from .controls import TRAINED, Networks, controls
from .evaluation import (
    Inference,
    Measured,
    absent_figures,
    measure,
    measure_given,
    presence_figures,
    together,
)
from .scene_sources import OtherScenes, Source, StoredScenes, StyledScenes
from .scene_store import draw_store
from .scenes import STYLES
from .tally import Tally, largest_loss, sum_of

Figures = dict[str, dict[str, float]]
"""Row -> figure -> value."""

Job = Callable[[], Any]

TEST_SEED: Final = 3  # of our own test scenes, in whatever style
OTHER_SEED: Final = 6  # of the scenes of another generator
SHIFTS: Final = tuple(style for style in STYLES if style != "storybook")

_AT_ONCE: Final = 25  # scenes of one job; loading the networks takes as long as one of them
_NAMES_AT_ONCE: Final = 6  # described names of one job


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How many pictures each part of the card rests on; 0 leaves a part out."""

    test_scenes: int = 300
    control_scenes: int = 100  # the first of the test scenes
    other_scenes: int = 100
    style_scenes: int = 40  # of each style
    described_pictures: int = 16  # of each name
    unseen_pictures: int = 24  # of each class

    def __post_init__(self) -> None:
        if self.test_scenes < 1 or min(getattr(self, f.name) for f in fields(self)) < 0:
            raise ValueError("a bench needs at least one test scene, and no number below 0")


def recompute(
    weights: Path,
    bench: Bench,
    out: Path,
    *,
    generator: Path | None = None,
    processes: int = 1,
    progress: bool = True,
) -> Figures:
    """All figures of the weights in a folder, in float32; scenes are drawn into `out`.

    `generator` is a file with scenes of another generator (`OtherScenes`).
    Raises WeightsMissing, WeightsMismatch, UnusableGenerator.
    """
    inference, threshold = _choices(weights)
    networks = Networks(weights, inference)
    folder = out / "scenes" / "test"
    draw_store(
        folder, count=bench.test_scenes, seed=TEST_SEED, workers=processes, progress=progress
    )
    found = run_jobs(
        _jobs(networks, bench, StoredScenes(folder), generator),
        processes=processes,
        progress=progress,
    )
    first, rest = found.pop("first"), found.pop("rest")
    figures = _scene_figures(together([*first, *rest]), threshold)
    figures |= _control_figures(first, found)
    if other := found.get("other"):
        rows = _scene_figures(together(other), threshold)
        told = {row: values for row, values in rows.items() if "per label" not in row}
        figures |= {f"other: {row}": values for row, values in told.items()}
    for style in SHIFTS:
        if parts := found.get(f"shift {style}"):
            for way, tally in together(parts).tallies.items():
                if not way.endswith("as shipped"):
                    figures[f"shift {style}: {way}"] = tally.figures()
    if answers := found.get("described"):
        by_pair = {pair: given for part in answers for pair, given in part.items()}
        figures |= described.described_figures(by_pair)
    if overlaps := found.get("unseen"):
        figures |= unseen.unseen_figures(overlaps[0])
    return figures


def _choices(weights: Path) -> tuple[Inference, float]:
    """Inference choices and score threshold as `demo.json` has them."""
    card = weights / "demo.json"
    if not card.is_file():
        raise WeightsMissing(
            "the demo model's demo.json", [weights], "give the folder that training wrote"
        )
    told = json.loads(card.read_text(encoding="utf-8"))["inference"]
    known = {field.name for field in fields(Inference)}
    chosen = Inference(**{name: value for name, value in told.items() if name in known})
    return chosen, float(told["score_threshold"])


# rows


def _scene_figures(measured: Measured, threshold: float) -> Figures:
    """Tables, what refinement does to single labels, and presence."""
    figures: Figures = {}
    for way, tally in measured.tallies.items():
        figures[way] = tally.figures()
        figures[f"{way}: IoU per label"] = tally.per_label()
    for words in ("given", "all"):
        before, after = (measured.tallies.get(words + way) for way in ("", " refined"))
        if before is not None and after is not None:
            figures[f"refinement: {words}"] = _gain(before, after)
    figures["presence"] = dict(presence_figures(measured.asked_all, threshold))
    figures["presence as shipped"] = dict(presence_figures(measured.named, 0.5))
    figures["absent"] = dict(absent_figures(measured.asked_none, threshold))
    return figures


def _gain(before: Tally, after: Tally) -> dict[str, float]:
    """In points."""
    first, last = before.figures(), after.figures()
    gained = {f"gain of {name}": last[name] - first[name] for name in ("mIoU", "outline mIoU")}
    return {**gained, "largest loss of a label by refinement": largest_loss(before, after)}


def _control_figures(first: Sequence[Measured], found: Mapping[str, list[Any]]) -> Figures:
    """Rows of the control table; all rest on the same scenes."""
    figures: Figures = {}
    if first:
        ways = together(first).tallies
        for row, way in (("no refinement", "given"), (TRAINED, "given refined")):
            if way in ways:
                figures[f"control: {row}"] = ways[way].figures()
    for row, parts in found.items():
        if row.startswith("control: "):
            figures[row] = sum_of(parts).figures()
    return figures


# jobs


def _jobs(
    networks: Networks, bench: Bench, test: Source, generator: Path | None
) -> dict[str, list[Job]]:
    """By group; every group's results come back in this order."""
    controlled = min(bench.control_scenes, bench.test_scenes)
    jobs: dict[str, list[Job]] = {
        "first": _by_scenes(_measured, networks, test, 0, controlled),
        "rest": _by_scenes(_measured, networks, test, controlled, bench.test_scenes),
    }
    for name in controls(networks.weights) if controlled else ():
        other = Networks(networks.weights, networks.inference, name)
        jobs[f"control: {name}"] = _by_scenes(_controlled, other, test, 0, controlled)
    if generator is not None:
        source = OtherScenes(generator, OTHER_SEED)
        source.open()  # refuses an unusable file before anything is measured
        jobs["other"] = _by_scenes(_measured, networks, source, 0, bench.other_scenes)
    for style in SHIFTS:
        shifted = StyledScenes(style, TEST_SEED)
        jobs[f"shift {style}"] = _by_scenes(_measured, networks, shifted, 0, bench.style_scenes)
    if count := bench.described_pictures:
        cuts = range(0, len(described.PAIRS), _NAMES_AT_ONCE)
        groups = [described.PAIRS[start : start + _NAMES_AT_ONCE] for start in cuts]
        jobs["described"] = [partial(_described, networks, pairs, count) for pairs in groups]
    if count := bench.unseen_pictures:
        jobs["unseen"] = [partial(_unseen, networks, count)]
    return jobs


def _by_scenes(
    work: Callable[..., Any], networks: Networks, source: Source, start: int, stop: int
) -> list[Job]:
    cuts = range(start, stop, _AT_ONCE)
    return [partial(work, networks, source, range(a, min(stop, a + _AT_ONCE))) for a in cuts]


def _measured(networks: Networks, source: Source, indices: Sequence[int]) -> Measured:
    return measure(networks.sight(), source.open(), indices)


def _controlled(networks: Networks, source: Source, indices: Sequence[int]) -> Tally:
    return measure_given(networks.sight(), source.open(), indices)


def _described(
    networks: Networks, pairs: Sequence[tuple[str, str]], count: int
) -> dict[tuple[str, str], list[described.Answer]]:
    sight = networks.sight()
    return {
        pair: [described.ask(sight, described.question(*pair, index)) for index in range(count)]
        for pair in pairs
    }


def _unseen(
    networks: Networks, count: int
) -> dict[str, list[tuple[unseen.Overlap, unseen.Overlap]]]:
    sight = networks.sight()
    return {
        name: [unseen.look(sight, unseen.picture(name, index)) for index in range(count)]
        for name in unseen.UNSEEN
    }


def run_jobs(
    jobs: Mapping[str, Sequence[Job]], *, processes: int, progress: bool = True
) -> dict[str, list[Any]]:
    """Results by group, in the order of the jobs; with one process, right here."""
    flat = [job for group in jobs.values() for job in group]
    bar = tqdm(total=len(flat), desc="measuring", unit="job", disable=not progress)
    results = []
    if processes < 2:
        for job in flat:
            results.append(job())
            bar.update()
    else:
        with ProcessPoolExecutor(
            processes,
            mp_context=get_context("spawn"),
            initializer=torch.set_num_threads,
            initargs=(1,),
        ) as pool:
            for result in pool.map(_call, flat):
                results.append(result)
                bar.update()
    bar.close()
    left = iter(results)
    return {name: [next(left) for _ in group] for name, group in jobs.items()}


def _call(job: Job) -> Any:
    return job()
