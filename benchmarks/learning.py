"""How much corrections teach: curves over corrected tasks, under one shift at a time.

    python -m benchmarks.learning [--seeds 5] [--shifts palette night ...] [--workers 2]

A simulated annotator paints what is there. Masks of new pictures, refined and decided as they are
shipped with all labels asked, are compared with the truth: mIoU over labels in percent.

    words       zero-shot, nothing learnt
    learnt      what `backend.learning` switches on, after so many tasks
    candidate   what it would have switched on without its gate
    prototypes  text vectors replaced by the mean features of corrected labels
    batch       the same regression without holding back for labels nobody painted yet
    oracle      a linear probe on 300 tasks: plain logistic regression from the words on, the better
                of two ridges on the very test pictures
    three hundred   what the learner itself makes of those 300 tasks, of two ridges the better

Writes `results/proof-learning.json`; exit status 1 if one of the bounds in `judged` is missed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float

import cliper_model
from backend.learning import evidence as kept
from backend.learning import fit
from backend.learning.evidence import AsItWas, Cells, Evidence, Sample, Truth
from backend.lessons import Lesson, expected_quality, model_of
from backend.studying import Course, cell_probabilities, gains_of
from cliper_model import Decision, Label, Scores, Segmentation, Vocabulary, decide
from cliper_model.methods.cliper import Cliper, CliperState
from cliper_model.segmenter import Correction
from cliper_model.stages import edges, places

from . import record
from .shifts import APPEARANCE, SHIFTS, Chance, LabelMap, Pixels, Shift

CONTROL: Final = "label"
COUNTS: Final = (5, 10, 20, 50, 100)  # below 5 nothing is learnt
ORACLE: Final = 300  # tasks
ORACLE_RIDGES: Final = (3e-5, 1e-5)
COMPARED: Final = (20, 100)  # counts at which other ways are tried
UNKNOWN: Final = AsItWas(quality=0.0, agreement=None, presence={})
BINS: Final = 10
NOISES: Final = (0.1, 0.4)  # shares of annotations that are random masks
TRAIN, MORE, TEST, CHANCE = range(4)  # streams of scenes that never meet


@dataclass(frozen=True, eq=False)
class Drawn:
    """A test picture as the model sees it, and the truth."""

    state: CliperState
    truth: LabelMap


class Bench:
    """One shift, one seed."""

    def __init__(self, name: str, seed: int, *, tests: int) -> None:
        torch.set_num_threads(1)
        self.shift: Shift = SHIFTS[name]
        self.labels = tuple(self.shift.words)
        method: Any = cliper_model.load("demo")
        self.method: Cliper = method
        asked = [Label(label, (word,)) for label, word in self.shift.words.items()]
        self.vocabulary = self.method.read(asked)
        self.decision = replace(self.method.decision("objects"), min_piece=0.0005)
        self._seed = [seed, list(SHIFTS).index(name)]
        self.tests = [self._drawn(picture, truth) for picture, truth in self._scenes(TEST, tests)]
        self.course = Course(
            control=CONTROL,
            model=model_of(self.method.identity, "objects"),
            names=self.labels,
            words=tuple((word,) for word in self.shift.words.values()),
            vocabulary=self.vocabulary,
            gains=gains_of(self.method, self.vocabulary),
            presence=tuple(
                map(float, self.decision.per_label("presence_threshold", len(self.labels)))
            ),
        )

    def _scenes(self, stream: int, count: int) -> Iterator[tuple[Pixels, LabelMap]]:
        for number in range(count):
            yield self.shift.draw(np.random.default_rng([*self._seed, stream, number]))

    def _drawn(self, picture: Pixels, truth: LabelMap) -> Drawn:
        return Drawn(self.method.observe(picture), truth)

    # -- what annotators say ------------------------------------------------------------

    def corrected(self, count: int) -> list[Evidence]:
        """Evidence of tasks painted as they are."""
        found = []
        for number, (picture, truth) in enumerate(self._scenes(TRAIN, count)):
            state = self.method.observe(picture)
            found.append(self._evidence(number, state, truth, self._before(state, truth)))
        return found

    def more(self, count: int) -> list[Evidence]:
        """For the oracle, which is not calibrated."""
        bare: Any = self.method.with_numbers(refinement="none")
        return [
            self._evidence(10_000 + number, bare.observe(picture), truth)
            for number, (picture, truth) in enumerate(self._scenes(MORE, count))
        ]

    def spoilt(self, evidence: Sequence[Evidence], share: float) -> list[Evidence]:
        """With random masks in place of a share of the annotations."""
        chance = np.random.default_rng([*self._seed, CHANCE, round(100 * share)])
        wrong = set(chance.permutation(len(evidence))[: round(share * len(evidence))].tolist())
        return [
            self._repainted(one, random_masks(chance, len(self.labels))) if number in wrong else one
            for number, one in enumerate(evidence)
        ]

    def _repainted(self, one: Evidence, painted: LabelMap) -> Evidence:
        sample = one.samples[0]
        truths = {CONTROL: self._truth(painted, sample.grid_hw)}
        return replace(one, samples=(replace(sample, truths=truths),))

    def _evidence(
        self, number: int, state: CliperState, painted: LabelMap, before: AsItWas = UNKNOWN
    ) -> Evidence:
        cells = self.method.cells(state)
        grid_hw = (cells.shape[0], cells.shape[1])
        assert grid_hw == kept.pooled_hw(grid_hw), "the demo's grid is small enough as it is"
        truth = self._truth(painted, grid_hw)
        sample = Sample(
            grid_hw=grid_hw,
            cells=Cells.of(
                cells.flatten(0, 1).numpy(), most_bytes=kept.rank_bytes(1, len(truth.labels))
            ),
            truths={CONTROL: truth},
            before={CONTROL: before},
            models={CONTROL: self.course.model},
        )
        one = Evidence(
            task=number, annotation=number, stamp=str(number), weight=1.0, samples=(sample,)
        )
        return Evidence.from_bytes(one.to_bytes())  # as it is after it was stored

    def _before(self, state: CliperState, truth: LabelMap) -> AsItWas:
        scores = self.method.score(state, self.vocabulary)
        return AsItWas(
            quality=quality_of(decide(scores, self.decision), truth),
            agreement=scores.agreement,
            presence=dict(zip(self.labels, map(float, scores.presence), strict=True)),
        )

    def _truth(self, painted: LabelMap, grid_hw: tuple[int, int]) -> Truth:
        there = [number for number in range(len(self.labels)) if (painted == number + 1).any()]
        shares = [kept.covered(painted == number + 1, grid_hw) for number in there]
        return Truth(
            asked=self.labels,
            labels=tuple(self.labels[number] for number in there),
            shares=np.stack(shares) if shares else np.zeros((0, grid_hw[0] * grid_hw[1]), np.uint8),
            rest=True,
        )

    # -- what comes of it ---------------------------------------------------------------

    def taught(self, lesson: Lesson) -> tuple[Vocabulary, Decision]:
        words = [(word,) for word in self.shift.words.values()]
        correction = lesson.correction(self.vocabulary, self.labels, words)
        needed = self.decision.per_label("presence_threshold", len(self.labels))
        thresholds = tuple(
            lesson.thresholds.get(name, float(value))
            for name, value in zip(self.labels, needed, strict=True)
        )
        return (
            replace(self.vocabulary, correction=correction),
            replace(self.decision, presence_threshold=thresholds),
        )

    def measured(self, ways: Mapping[str, tuple[Vocabulary, Decision]]) -> dict[str, "Measured"]:
        """Every way on every test picture; a picture is refined once for all of them."""
        found = {way: Measured(len(self.labels)) for way in ways}
        for number, drawn in enumerate(self.tests):
            words = [vocabulary for vocabulary, _ in ways.values()]
            together = scores_of(self.method, drawn.state, words)
            for (way, (vocabulary, decision)), scores in zip(ways.items(), together, strict=True):
                if number == 0:
                    check_equal(scores, self.method.score(drawn.state, vocabulary))
                found[way].add(
                    decide(scores, decision), drawn.truth, self._signals(drawn, vocabulary, scores)
                )
        return found

    def _signals(self, drawn: Drawn, vocabulary: Vocabulary, scores: Scores) -> tuple[float, ...]:
        cells = self.method.cells(drawn.state)
        told = cell_probabilities(cells, vocabulary, self.method.row_logits)
        return places.signals(told, scores.agreement)

    def _places(self, evidence: Sequence[Evidence]) -> Any:
        used = fit._usable(evidence, self.course)
        return fit._gathered(used, self.course, most=fit.MOST_PLACES)

    def prototypes(self, evidence: Sequence[Evidence]) -> Vocabulary:
        """Text rows of corrected labels replaced by mean features."""
        count = len(self.labels)
        mass, sums = torch.zeros(count), torch.zeros(count, self.vocabulary.rows.shape[1])
        for one in evidence:
            for sample in one.samples:
                truth = torch.from_numpy(fit._outcomes(sample, self.course))[:, :count]
                mass += truth.sum(dim=0)
                sums += truth.T @ torch.from_numpy(sample.cells.values)
        means = sums / mass.clamp(min=fit.SEEN)[:, None]
        rows = self.vocabulary.rows.clone()
        seen = mass > fit.SEEN
        rows[: len(self.labels)][seen] = torch.nn.functional.normalize(means[seen], dim=-1)
        return replace(self.vocabulary, rows=rows)

    def regression(
        self, evidence: Sequence[Evidence], *, ridge: float, start: float = fit.START
    ) -> Vocabulary:
        """Without gate, without cross-validation, and with all labels in the contest."""
        place = self._places(evidence)
        found = fit._fitted(
            place, self.course, ridge=ridge, words=False, everybody=True, start=start
        )
        return replace(
            self.vocabulary,
            correction=Correction(
                weights=found.weights,
                bias=found.bias,
                taught=torch.ones_like(found.taught),
                others=torch.zeros_like(found.bias),
                word_bias=found.word_bias,
            ),
        )


class Measured:
    """Masks against the truth, summed up, and expected against real quality."""

    def __init__(self, labels: int) -> None:
        self._counts = np.zeros((labels + 1, labels + 1), np.int64)
        self.signals: list[tuple[float, ...]] = []
        self.qualities: list[float] = []

    def add(self, masks: Segmentation, truth: LabelMap, signals: tuple[float, ...]) -> None:
        side = len(self._counts)
        pairs = truth.ravel() * side + masks.label_map.ravel()
        self._counts += np.bincount(pairs, minlength=side * side).reshape(side, side)
        self.signals.append(signals)
        self.qualities.append(quality_of(masks, truth))

    @property
    def miou(self) -> float:
        both = np.diag(self._counts)[1:]
        either = (self._counts.sum(axis=0) + self._counts.sum(axis=1))[1:] - both
        there = self._counts.sum(axis=1)[1:] > 0
        return float(100 * (both[there] / either[there]).mean())

    def told(self, weights: Sequence[float]) -> list[list[float]]:
        """Expected and real quality of every picture."""
        return [
            [round(expected_quality(one, weights), 4), round(real, 4)]
            for one, real in zip(self.signals, self.qualities, strict=True)
        ]


def calibration_error(told: Sequence[Sequence[float]]) -> float:
    """Expected calibration error in `BINS` bins of expected quality; `told` as `Measured.told`."""
    expected, real = np.array(told).T
    bins = np.minimum((expected * BINS).astype(int), BINS - 1)
    apart = [abs(expected[bins == one].sum() - real[bins == one].sum()) for one in np.unique(bins)]
    return float(sum(apart) / len(real))


def quality_of(masks: Segmentation, truth: LabelMap) -> float:
    """Mean IoU over labels painted or predicted; 1 where there are none."""
    found = masks.label_map
    there = [one for one in np.union1d(found, truth).tolist() if one]
    if not there:
        return 1.0
    ious = [
        ((found == one) & (truth == one)).sum() / ((found == one) | (truth == one)).sum()
        for one in there
    ]
    return float(np.mean(ious))


def scores_of(method: Cliper, state: CliperState, words: Sequence[Vocabulary]) -> list[Scores]:
    """`method.score` for many vocabularies of the same labels: links are worked out once."""
    preset = method._presets(words[0].preset)
    rough = [
        method.coarse(
            state, method.layer_probabilities(state, one, scale=preset.logit_scale), preset
        )
        for one in words
    ]
    together = method.refined(state, torch.cat(rough), floor=preset.attention_floor)
    found = []
    for vocabulary, before, refined in zip(
        words, rough, together.split(len(words[0].labels)), strict=True
    ):
        strength = ((before.amax(dim=(-2, -1)) + refined.amax(dim=(-2, -1))) / 2).numpy()
        scores = Scores(
            labels=vocabulary.labels,
            maps=refined.numpy().astype(np.float32),
            strength=strength.astype(np.float32),
            presence=preset.presence(strength.astype(np.float32)),
            size_hw=state.size_hw,
            agreement=float(places.agreement(before, refined)),
        )
        found.append(edges.sharpen(scores, state.guide, rule=method.config.edge_aware))
    return found


def check_equal(ours: Scores, own: Scores) -> None:
    """Raises AssertionError where the short cut gives other scores than the method itself."""
    np.testing.assert_allclose(ours.maps, own.maps, atol=1e-3)
    np.testing.assert_allclose(ours.strength, own.strength, atol=1e-3)
    assert abs((ours.agreement or 0.0) - (own.agreement or 0.0)) < 0.01


def random_masks(chance: Chance, labels: int) -> LabelMap:
    """A few ellipses of labels that have nothing to do with the picture."""
    y, x = np.mgrid[:192, :192]
    painted = np.zeros((192, 192), np.int64)
    for _ in range(int(chance.integers(2, 7))):
        centre, radii = chance.uniform(0, 192, 2), chance.uniform(10, 70, 2)
        inside: Bool[np.ndarray, "h w"] = ((y - centre[0]) / radii[0]) ** 2 + (
            (x - centre[1]) / radii[1]
        ) ** 2 < 1
        painted[inside] = int(chance.integers(labels)) + 1
    return painted


def run(shift: str, seed: int, tests: int, noises: Sequence[float]) -> dict[str, Any]:
    """All figures of one shift and seed."""
    begun = time.perf_counter()

    def tell(what: str) -> None:
        print(f"{shift} {seed}: {what} after {time.perf_counter() - begun:.0f} s", flush=True)

    bench = Bench(shift, seed, tests=tests)
    evidence = bench.corrected(max(COUNTS))
    tell("tasks painted")
    everything = [*evidence, *bench.more(ORACLE - len(evidence))]
    plain = (bench.vocabulary, bench.decision)
    ways: dict[str, tuple[Vocabulary, Decision]] = {"words": plain}
    for ridge in ORACLE_RIDGES:
        per_task = ridge * ORACLE**0.5  # as the learner's ridges are given
        for way, start in (("oracle", 0.0), ("three hundred", fit.START)):
            found = bench.regression(everything, ridge=per_task, start=start)
            ways[f"{way} {ridge:g}"] = (found, bench.decision)
    tell("oracle fitted")
    told: dict[str, Any] = {"learnt": {}, "spoilt": {}}
    lessons: dict[str, Lesson] = {}
    for count in COUNTS:
        some = evidence[:count]
        known = fit.learn(some, bench.course)
        lessons[f"learnt {count}"] = known.lesson
        ways[f"learnt {count}"] = bench.taught(known.lesson)
        ways[f"candidate {count}"] = bench.taught(known.candidate)
        if count in COMPARED:
            ways[f"prototypes {count}"] = (bench.prototypes(some), bench.decision)
            batch = bench.regression(some, ridge=fit.USUAL_RIDGE)
            ways[f"batch {count}"] = (batch, bench.decision)
        told["learnt"][count] = _told(known)
    for share in noises:
        spoilt = bench.spoilt(evidence, share)
        for count in COMPARED:
            known = fit.learn(spoilt[:count], bench.course)
            ways[f"spoilt {share:g} {count}"] = bench.taught(known.lesson)
            ways[f"spoilt candidate {share:g} {count}"] = bench.taught(known.candidate)
            told["spoilt"][f"{share:g} {count}"] = _told(known)
    tell("fitted")
    measured = bench.measured(ways)
    miou = {way: round(one.miou, 2) for way, one in measured.items()}
    qualities = {
        way: measured[way].told(lesson.quality) for way, lesson in lessons.items() if lesson.quality
    }
    errors = {way: round(calibration_error(one), 4) for way, one in qualities.items()}
    print(f"{shift} {seed}: {miou} calibration {errors}", flush=True)
    seconds = round(time.perf_counter() - begun)
    return {
        "shift": shift, "seed": seed, "miou": miou, "calibration error": errors, "told": told,
        "expected and real quality": qualities, "seconds": seconds,
    }  # fmt: skip


def _told(known: fit.Taught) -> dict[str, Any]:
    verdict = known.verdict
    return {
        "better": verdict.better,
        "reason": verdict.reason,
        "gain": round(verdict.after - verdict.before, 2),
        "noise": round(verdict.noise, 2),
    }


def summed_up(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per shift: medians over seeds, and the worst against the words alone."""
    summary: dict[str, Any] = {}
    for shift in dict.fromkeys(one["shift"] for one in results):
        runs = [one["miou"] for one in results if one["shift"] == shift]
        words = np.array([one["words"] for one in runs])
        oracle = np.array(
            [max(value for way, value in one.items() if way.startswith("oracle")) for one in runs]
        )
        of: dict[str, Any] = {
            "words": spread(words),
            "oracle": spread(oracle),
            "seeds": len(runs),
        }
        for way in runs[0]:
            if way.startswith(("words", "oracle")):
                continue
            values = np.array([one[way] for one in runs])
            of[way] = {**spread(values), "worst against words": round(min(values - words), 2)}
            if way.startswith("learnt"):
                closed = (values - words) / np.maximum(oracle - words, 1e-9)
                of[way]["gap closed"] = round(100 * float(np.median(closed)), 1)
        of["calibration error"] = _calibration(
            [one["expected and real quality"] for one in results if one["shift"] == shift]
        )
        summary[shift] = of
    return summary


def _calibration(runs: Sequence[Mapping[str, Sequence[Sequence[float]]]]) -> dict[str, Any]:
    """Of all seeds' pictures together: in those of one seed a bin holds three or four, and their
    own spread would count as an error. The error of each seed beside it."""
    found = {}
    for way in dict.fromkeys(way for one in runs for way in one):
        told = [one[way] for one in runs if way in one]
        together = [pair for one in told for pair in one]
        apart = [float(np.subtract(*np.array(one).T).mean()) for one in told]
        found[way] = {
            "pictures": len(together),
            "farthest mean of a seed": round(max(map(abs, apart)), 4),
            "together": round(calibration_error(together), 4),
            "by seed": [round(calibration_error(one), 4) for one in told],
        }
    return found


def spread(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "lowest": round(float(values.min()), 3),
        "highest": round(float(values.max()), 3),
    }


def judged(summary: Mapping[str, Any]) -> dict[str, bool]:
    """Every bound, and whether it holds."""
    bounds: dict[str, bool] = {}
    for shift, of in summary.items():
        allowed = -0.5 if shift == "familiar" else -1.0
        for way, one in of.items():
            if way.startswith("learnt"):
                bounds[f"{shift}: {way} never {-allowed} below the words"] = (
                    one["worst against words"] >= allowed
                )
            if way.startswith("spoilt") and "candidate" not in way:
                bounds[f"{shift}: {way} never 1.0 below the words"] = (
                    one["worst against words"] >= -1.0
                )
        if shift in APPEARANCE:
            for count, least in ((20, 40.0), (100, 65.0)):
                bounds[f"{shift}: {least} % of the gap at {count}"] = (
                    of[f"learnt {count}"]["gap closed"] >= least
                )
        if "learnt 50" in of["calibration error"]:
            error = of["calibration error"]["learnt 50"]
            bounds[f"{shift}: calibration error at 50, all pictures"] = error["together"] <= 0.10
            bounds[f"{shift}: calibration error at 50, median over seeds"] = (
                float(np.median(error["by seed"])) <= 0.10
            )
    return bounds


def main() -> int:
    parser = argparse.ArgumentParser(description="What corrections teach.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--shifts", nargs="+", choices=list(SHIFTS), default=list(SHIFTS))
    parser.add_argument("--tests", type=int, default=30, help="test pictures")
    parser.add_argument("--noises", type=float, nargs="*", default=list(NOISES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--name", default="proof-learning", help="of the result")
    parser.add_argument(
        "--judge", type=Path, metavar="FILE", help="measure nothing: judge an earlier result anew"
    )
    args = parser.parse_args()

    measured: dict[str, Any] = {}
    if args.judge is not None:
        earlier = json.loads(args.judge.read_text(encoding="utf-8"))
        results = earlier["runs"]
        first = earlier.get("measured", earlier)
        measured = {"measured": {key: first[key] for key in ("commit", "date", "command")}}
    else:
        wanted = [
            (shift, seed, args.tests, args.noises) for seed in args.seeds for shift in args.shifts
        ]
        with multiprocessing.get_context("spawn").Pool(args.workers, maxtasksperchild=1) as pool:
            results = pool.starmap(run, wanted, chunksize=1)
    summary = summed_up(results)
    bounds = judged(summary)
    path = record.write(
        args.name,
        {
            **measured,
            "passed": all(bounds.values()),
            "bounds": bounds,
            "summary": summary,
            "runs": sorted(results, key=lambda one: (one["shift"], one["seed"])),
        },
    )
    for bound, holds in bounds.items():
        print("holds " if holds else "MISSED", bound)
    print(path.name)
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
