"""Evidence -> what is learnt for one control, and whether it is better: a pure function.

    logits = zero-shot logits + features @ weights + bias

A multinomial logistic regression over places. It starts from the words themselves and a part of the
Gaussian discriminant of the labels (one covariance for all), which few places determine well; so
with no evidence nothing changes. Labels that nobody painted yet keep what the words give them: the
others only share out anew what they have together. Places of rare labels count more, since people
count labels and not pixels. How strongly weights are held back and whether words are mistrusted is
chosen by cross-validation over tasks, and the same held-out tasks say whether it is better than
the words alone by more than chance would do. Where many annotations agree with nothing that the
others teach, they are set aside.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from cliper_model.segmenter import canonical_word
from cliper_model.stages import places

from ..lessons import BEHIND, Lesson
from ..studying import Course
from . import calibrate
from .evidence import WHOLE, Evidence, Sample

FOLDS: Final = 10
FEWER_FOLDS: Final = 5  # from `MANY` tasks on
MANY: Final = 40
USUAL_RIDGE: Final = 2e-4  # over the root of the tasks: how strongly weights are held at the start
RIDGES: Final = (3 * USUAL_RIDGE, USUAL_RIDGE, USUAL_RIDGE / 3)
START: Final = 0.2  # of the Gaussian discriminant, where weights start
HELD_BACK: Final = 100.0  # places by which a label's mean is held at the mean of all
ROUND_SHAPE: Final = 0.05  # of the mean variance, added to every feature's
ROUNDS: Final = 60  # of L-BFGS
SETTLED: Final = 1e-6  # change of the loss with which it ends before
MOST_PLACES: Final = 120_000  # more are thinned out, evenly
JUDGED_PLACES: Final = 12_000  # the same, for cross-validation, which fits many times
FLOOR: Final = 5.0  # places every label is taken to have at least, when rare ones count more
RARE: Final = 0.7  # power of how much there is of a label by which rare ones count more
SURE: Final = 1.0  # standard errors by which it must be better
LEAST_GAIN: Final = 0.5  # points of mIoU it must be better at least
FEWEST: Final = 5  # tasks
ODD: Final = 0.02  # mean IoU of places, below which an annotation agrees with nothing
LEAST_AGREEMENT: Final = 5 * ODD  # median of all tasks, without which nothing can be said of one
MANY_ODD: Final = 1 / 6  # share of tasks; fewer do no harm
FEWEST_ODD: Final = 3  # tasks; also of a label, before others are judged by it
WORD_TRUST: Final = (
    20.0  # places a word is taken to have been right in, as often as its label's best
)
MOST_LOST: Final = 4.0  # logits a word can lose
LEAST_QUALITY: Final = 0.01  # mean IoU of places that anything can be compared with
OFTEN: Final = 0.5  # share of tasks that asked for a label, so that its absence means something
BLOCK: Final = 8192  # places
SEEN: Final = 0.5  # places of a label that make it known
NEVER: Final = -1e4  # logits of what takes no part


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What held-out tasks say of a lesson; mIoU in points, over places, where a label counts as
    often as it was painted.

    better  whether masks are to change
    reason  one sentence for people
    """

    better: bool
    reason: str
    tasks: int
    before: float = math.nan
    after: float = math.nan
    noise: float = math.nan
    per_label: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # before, after


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A lesson as it would be switched on, one that changes masks in any case, and the verdict."""

    lesson: Lesson
    candidate: Lesson
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class _Place:
    """Places of many tasks, one after the other."""

    features: Float[Tensor, "n embed"]
    rows: Float[Tensor, "n rows"]  # logits of words
    truth: Float[Tensor, "n outcomes"]  # share of every label and of none; less than 1: unknown
    asked: Bool[Tensor, "tasks outcomes"]  # which labels people had before them
    task: Int[np.ndarray, " n"]  # number in the list of tasks
    weight: Float[Tensor, " n"]
    stands_for: float = 1.0  # places each is one of

    def only(self, chosen: np.ndarray) -> "_Place":
        index = torch.from_numpy(np.flatnonzero(chosen))
        return _Place(
            self.features[index],
            self.rows[index],
            self.truth[index],
            self.asked,
            self.task[chosen],
            self.weight[index],
            self.stands_for,
        )


@dataclass(frozen=True, eq=False)
class _Found:
    weights: Float[Tensor, "outcomes embed"]
    bias: Float[Tensor, " outcomes"]
    taught: Bool[Tensor, " outcomes"]
    word_bias: Float[Tensor, " words"]
    others: Float[Tensor, " outcomes"]

    def logits(self, place: _Place, course: Course) -> Float[Tensor, "n outcomes"]:
        base = places.outcome_logits(place.rows, course.vocabulary, word_bias=self.word_bias)
        bonus = place.features @ self.weights.T + self.bias
        return places.corrected(base, bonus, self.taught, others=self.others)


def learn(evidence: Sequence[Evidence], course: Course) -> Taught:
    """What follows for one control from these tasks; their order does not matter."""
    used = _usable(evidence, course)
    nothing = Lesson(model=course.model)
    if len(used) < FEWEST:
        reason = (
            f"{len(used)} corrected tasks of this model are too few to learn from; "
            f"{FEWEST} are needed"
        )
        return Taught(
            lesson=nothing,
            candidate=nothing,
            verdict=Verdict(better=False, reason=reason, tasks=len(used)),
        )
    chosen = _judged_by_others(used, course)
    odd = _odd(chosen)
    if odd:
        used = [one for number, one in enumerate(used) if number not in odd]
        chosen = _judged_by_others(used, course)
    before, after = chosen.before, chosen.after
    gain = 100 * (after.usual - before.usual)
    noise = 100 * _noise(before, after, _usual)
    lost = 100 * (before.miou - after.miou)
    doubt = 100 * _noise(before, after, _miou)
    better = gain >= LEAST_GAIN and gain > SURE * noise and lost <= SURE * doubt
    quality = calibrate.quality(_judged(chosen, used, course, better=better))
    thresholds = _thresholds(chosen, used, course, better=better)
    everything = _gathered(used, course, most=MOST_PLACES)
    found = _fitted(everything, course, ridge=chosen.ridge, words=chosen.words)
    lesson = _lesson(found, course)
    candidate = replace(lesson, thresholds=thresholds, quality=quality)
    return Taught(
        lesson=candidate if better else replace(nothing, quality=quality),
        candidate=candidate,
        verdict=Verdict(
            better=better,
            reason=_sentence(better, gain, noise, lost, len(used)) + _set_aside(len(odd)),
            tasks=len(used),
            before=100 * before.usual,
            after=100 * after.usual,
            noise=noise,
            per_label={
                name: (100 * float(before.each[number]), 100 * float(after.each[number]))
                for number, name in enumerate(course.names)
                if after.truth.sum(axis=0)[number] > 0.5
            },
        ),
    )


def _sentence(better: bool, gain: float, noise: float, lost: float, tasks: int) -> str:
    about = f"on {tasks} corrected tasks, each judged by what the others teach, mIoU changes by"
    told = f"{about} {gain:+.1f} points with a noise of {noise:.1f}"
    if better:
        return f"switched on: {told}"
    if gain < LEAST_GAIN:
        return f"not switched on: {told}; it must rise by {LEAST_GAIN} at least"
    if gain <= SURE * noise:
        return f"not switched on: {told}; that may be chance"
    return f"not switched on: {told}, but labels painted seldom lose {lost:.1f} points"


def _set_aside(odd: int) -> str:
    if not odd:
        return ""
    return f"; {odd} more were set aside, since they agree with nothing that the others teach"


# -- places ---------------------------------------------------------------------------------


def _usable(evidence: Sequence[Evidence], course: Course) -> list[tuple[Evidence, list[Sample]]]:
    """Tasks in the order of their numbers, with the pictures that say something."""
    found = []
    for one in sorted(evidence, key=lambda task: task.task):
        samples = [
            sample
            for sample in one.samples
            if course.control in sample.truths
            and sample.models.get(course.control) == course.model
            and sample.cells.mean.shape[0] == course.vocabulary.rows.shape[1]
        ]
        if samples:
            found.append((one, samples))
    return found


def _gathered(
    used: Sequence[tuple[Evidence, list[Sample]]], course: Course, *, most: int
) -> _Place:
    total = sum(len(sample.cells.left) for _, samples in used for sample in samples)
    stride = max(1, math.ceil(total / most))
    features, rows, truth, task, weight = [], [], [], [], []
    asked = torch.zeros(len(used), len(course.names) + 1, dtype=torch.bool)
    for number, (one, samples) in enumerate(used):
        for sample in samples:
            step = min(stride, len(sample.cells.left))  # a place of every picture at least
            kept = slice(number % step, None, step)
            known = set(sample.truths[course.control].asked)
            asked[number, :-1] |= torch.tensor([name in known for name in course.names])
            values = torch.from_numpy(sample.cells.values)
            features.append(places.standing_out(values)[kept].clone())
            values = values[kept]
            rows.append(course.logits(values))
            truth.append(torch.from_numpy(_outcomes(sample, course)[kept].copy()))
            task.append(np.full(len(values), number))
            weight.append(torch.full((len(values),), float(one.weight)))
    return _Place(
        torch.cat(features),
        torch.cat(rows),
        torch.cat(truth),
        asked,
        np.concatenate(task),
        torch.cat(weight),
        total / sum(map(len, task)),
    )


def _outcomes(sample: Sample, course: Course) -> Float[np.ndarray, "places outcomes"]:
    """Share of every label of today and of none.

    Of places of a label that has left the config nothing is known: it may have another name now.
    What was painted but never asked for, such as a label for the rest, is none of these.
    """
    truth = sample.truths[course.control]
    shares = np.zeros((len(sample.cells.left), len(course.names) + 1), np.float32)
    places_of = {name: number for number, name in enumerate(course.names)}
    gone = np.zeros((len(shares), 1), np.float32)
    for label, covered in zip(truth.labels, truth.shares, strict=True):
        share = covered / np.float32(WHOLE)
        if label in places_of or label not in truth.asked:
            shares[:, places_of.get(label, len(course.names))] += share
        else:
            gone[:, 0] += share
    over = shares.sum(axis=1, keepdims=True) + gone
    shares /= np.maximum(over, 1.0)  # masks may overlap
    if truth.rest:
        shares[:, -1] += np.maximum(1.0 - over[:, 0], 0.0)
    return shares


# -- one fit --------------------------------------------------------------------------------


def _fitted(
    place: _Place,
    course: Course,
    *,
    ridge: float,
    words: bool,
    everybody: bool = False,
    start: float = START,
) -> _Found:
    """Weights by L-BFGS from the start; the same places give the same weights.

    `everybody`: labels that nobody painted take part, and lose.
    """
    lost = _mistrust(place, course) if words else torch.zeros(len(course.vocabulary.rows))
    base = places.outcome_logits(place.rows, course.vocabulary, word_bias=lost)
    target = place.truth * place.weight[:, None]
    taught = ((target.sum(dim=0) > SEEN) | everybody) & torch.isfinite(base).all(dim=0)
    others = _others(place, base, taught)
    base = base.masked_fill(~taught, NEVER)
    mean = place.features.mean(dim=0)
    centred = place.features - mean
    target = target * taught
    gaussian, level = _discriminant(centred, target, held_back=HELD_BACK / place.stands_for)
    gaussian, level = start * gaussian, start * level
    base = base + centred @ gaussian.T + level
    mass = target.sum(dim=0) + FLOOR / place.stands_for
    target = target * (mass / mass.sum()) ** -RARE
    target = target / target.sum().clamp_min(SEEN)
    each = target.sum(dim=1)
    held = ridge / math.sqrt(len(np.unique(place.task)))
    weights = torch.zeros(base.shape[1], centred.shape[1], requires_grad=True)
    bias = torch.zeros(base.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias],
        max_iter=ROUNDS,
        history_size=8,
        tolerance_change=SETTLED,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        logits = base + centred @ weights.T + bias
        told = (each * torch.logsumexp(logits, dim=1)).sum() - (target * logits).sum()
        value = told + held * (weights**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    found, constant = weights.detach() * taught[:, None], bias.detach() * taught
    found, constant = found + gaussian, constant + level
    return _Found(found, constant - found @ mean, taught, lost, others)


def _discriminant(
    centred: Float[Tensor, "n embed"], target: Float[Tensor, "n outcomes"], *, held_back: float
) -> tuple[Float[Tensor, "outcomes embed"], Float[Tensor, " outcomes"]]:
    """Log-likelihood ratio of every outcome against all places together, as a linear function.

    Places of an outcome are taken to be normally distributed around its mean with the covariance
    that all outcomes share. What nobody painted keeps zero.
    """
    mass, each = target.sum(dim=0), target.sum(dim=1)
    total = mass.sum().clamp_min(SEEN)
    mean = each @ centred / total
    seen = (mass > SEEN)[:, None]
    apart = seen * (target.T @ centred - mass[:, None] * mean) / (mass + held_back)[:, None]
    width = centred.shape[1]
    within = -torch.outer(mean, mean) - (apart.T * mass / total) @ apart
    for first in range(0, len(centred), BLOCK):  # no copy of all places
        block = centred[first : first + BLOCK]
        within = within + (block.T * each[first : first + BLOCK]) @ block / total
    within = within + ROUND_SHAPE * within.trace() / width * torch.eye(width)
    weights = torch.linalg.lstsq(within, apart.T).solution.T
    return weights, -(weights * (apart / 2 + mean)).sum(dim=1)


def _others(
    place: _Place, base: Float[Tensor, "n outcomes"], taught: Bool[Tensor, " outcomes"]
) -> Float[Tensor, " outcomes"]:
    """What labels nobody painted yet lose: as much as words overstate them. Those that are new in
    the config lose nothing: nobody could paint them.

    How much of the next picture will be theirs is estimated as Good and Turing did: by how often
    so far a task had a label that no other task has. By how often and not by how much of a picture
    it was, since after few tasks that is chance, and what was not seen yet may be large.
    """
    lost = torch.zeros(base.shape[1])
    index = torch.from_numpy(place.task)
    never = ~taught & (place.asked[index.unique()].float().mean(dim=0) > OFTEN)
    if not bool(never.any()):
        return lost
    areas = torch.zeros(len(place.asked), base.shape[1]).index_add_(0, index, place.truth)[:, :-1]
    times = (areas > SEEN).sum(dim=0)
    share = (float((times == 1).sum()) + 1) / (float(times.sum()) + 1)
    claimed = float(torch.softmax(base, dim=1)[:, never].sum(dim=1).mean())
    lost[never] = min(0.0, math.log(share / max(claimed, 1e-9)))
    return lost


def _mistrust(place: _Place, course: Course) -> Float[Tensor, " words"]:
    """What every word loses: how much more often than its label's best word it is wrong.

    A word counts where it is the likeliest of all. Of background words the best counts likewise.
    """
    words = len(course.vocabulary.rows)
    labels = len(course.names)
    owner = torch.tensor([*course.vocabulary.row_class, *([labels] * words)])[:words]
    winner = place.rows.argmax(dim=1)
    right, wins = torch.zeros(words), torch.zeros(words)
    known = place.truth.sum(dim=1) * place.weight
    for word in range(words):
        here = winner == word
        wins[word] = known[here].sum()
        right[word] = (place.truth[here, owner[word]] * place.weight[here]).sum()
    lost = torch.zeros(words)
    for label in range(labels + 1):
        own = torch.nonzero(owner == label)[:, 0]
        if len(own) < 2:
            continue
        usual = float(right[own].sum() + 1) / float(wins[own].sum() + 2)
        rate = (right[own] + WORD_TRUST * usual) / (wins[own] + WORD_TRUST)
        lost[own] = torch.log(rate / rate.max()).clamp(min=-MOST_LOST)
    return lost


def _lesson(found: _Found, course: Course) -> Lesson:
    words: dict[str, dict[str, float]] = {}
    own = [
        (name, word)
        for name, group in zip(course.names, course.words, strict=True)
        for word in group
    ]
    own += [(BEHIND, word) for word in course.vocabulary.background]
    for (name, word), lost in zip(own, found.word_bias.tolist(), strict=True):
        if lost:
            words.setdefault(name, {})[canonical_word(word)] = round(lost, 3)
    known = found.taught[:-1].numpy()
    kept = np.append(known, True)
    return Lesson(
        model=course.model,
        labels=tuple(name for name, seen in zip(course.names, known, strict=True) if seen),
        rest=bool(found.taught[-1]),
        others={
            name: round(lost, 3)
            for name, lost in zip(course.names, found.others.tolist(), strict=False)
            if lost
        },
        weights=found.weights.numpy().astype(np.float16)[kept],
        bias=found.bias.numpy().astype(np.float16)[kept],
        words=words,
    )


# -- held-out tasks ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tally:
    """Intersections and areas per task and label, in places."""

    both: Float[np.ndarray, "tasks labels"]
    predicted: Float[np.ndarray, "tasks labels"]
    truth: Float[np.ndarray, "tasks labels"]

    def without(self, task: int) -> "_Tally":
        kept = np.arange(len(self.both)) != task
        return _Tally(self.both[kept], self.predicted[kept], self.truth[kept])

    @property
    def each(self) -> Float[np.ndarray, " labels"]:
        """IoU of every label."""
        both = self.both.sum(axis=0)
        union = self.predicted.sum(axis=0) + self.truth.sum(axis=0) - both
        ious: Float[np.ndarray, " labels"] = both / np.maximum(union, 1e-9)
        return ious

    @property
    def miou(self) -> float:
        """Mean over the labels that somebody painted."""
        painted = self.truth.sum(axis=0) > SEEN
        return float(self.each[painted].mean()) if painted.any() else 0.0

    @property
    def usual(self) -> float:
        """The same, where a label counts as often as it was painted: of one painted in a single
        task nothing can be said by the others."""
        times = (self.truth > SEEN).sum(axis=0)
        return float((self.each * times).sum() / times.sum()) if times.any() else 0.0

    def of_task(self, task: int) -> float:
        """Mean IoU over labels painted or predicted in one task; 1 where there are none."""
        union = self.predicted[task] + self.truth[task] - self.both[task]
        there = union > 0.5
        return float((self.both[task][there] / union[there]).mean()) if there.any() else 1.0


@dataclass(frozen=True, eq=False)
class _Chosen:
    ridge: float
    words: bool
    before: _Tally
    after: _Tally
    base: Float[Tensor, "n outcomes"]  # probabilities by the words alone
    held_out: Float[Tensor, "n outcomes"]
    place: _Place


def _judged_by_others(used: Sequence[tuple[Evidence, list[Sample]]], course: Course) -> _Chosen:
    place = _gathered(used, course, most=JUDGED_PLACES)
    count = FEWER_FOLDS if len(used) >= MANY else FOLDS
    folds = np.arange(len(used)) % min(count, len(used))
    return _chosen(place, folds, course)


def _odd(chosen: _Chosen) -> frozenset[int]:
    """Tasks whose masks agree neither with the words nor with what the others teach.

    None, unless there are many: a few do no harm, and may be rare views of a label. Who paints
    labels that hardly anybody else does is not judged, nor is anybody where little is known.
    """
    before, after = chosen.before, chosen.after
    tasks = len(after.truth)
    agreed = np.array(
        [max(before.of_task(number), after.of_task(number)) for number in range(tasks)]
    )
    painted = after.truth > SEEN
    known = painted.sum(axis=0) > FEWEST_ODD
    judged = (painted & known).any(axis=1)
    odd = np.flatnonzero(judged & (agreed < ODD))
    enough = len(odd) >= max(FEWEST_ODD, MANY_ODD * tasks) and tasks - len(odd) >= FEWEST
    if not enough or float(np.median(agreed)) < LEAST_AGREEMENT:
        return frozenset()
    return frozenset(odd.tolist())


def _chosen(place: _Place, folds: Int[np.ndarray, " tasks"], course: Course) -> _Chosen:
    """How to learn, by held-out tasks: as usual, unless another way is better by more than noise.

    The best of several noisy figures is too good to be true, and with few tasks often the wrong
    one; so every other way must beat the usual one by its standard error.
    """
    tasks = len(folds)
    alone = torch.softmax(places.outcome_logits(place.rows, course.vocabulary), dim=1)
    before = _tally(alone, place, tasks)

    def tried(ridge: float, words: bool) -> _Chosen:
        kept = torch.zeros_like(alone)
        for fold in range(int(folds.max()) + 1):
            out = folds[place.task] == fold
            found = _fitted(place.only(~out), course, ridge=ridge, words=words)
            kept[torch.from_numpy(np.flatnonzero(out))] = found.logits(place.only(out), course)
        told = torch.softmax(kept, dim=1)
        after = _tally(told, place, tasks)
        return _Chosen(ridge, words, before, after, alone, told, place)

    best = tried(USUAL_RIDGE, False)
    others = [(ridge, False) for ridge in RIDGES if ridge != USUAL_RIDGE]
    if len(course.vocabulary.rows) > len(course.names) + 1:  # words to choose between
        others.append((USUAL_RIDGE, True))
    for ridge, words in others:
        other = tried(ridge, words)
        if _usual(other.after) - _usual(best.after) > _noise(best.after, other.after, _usual):
            best = other
    return best


def _tally(probabilities: Float[Tensor, "n outcomes"], place: _Place, tasks: int) -> _Tally:
    labels = probabilities.shape[1] - 1
    won = functional.one_hot(probabilities.argmax(dim=1), labels + 1)[:, :labels].float()
    truth, known = place.truth[:, :labels], place.truth.sum(dim=1, keepdim=True)
    index = torch.from_numpy(place.task)

    def summed(values: Float[Tensor, "n labels"]) -> Float[np.ndarray, "tasks labels"]:
        return torch.zeros(tasks, labels).index_add_(0, index, values).double().numpy()

    return _Tally(summed(won * truth), summed(won * known), summed(truth))


Measure = Callable[[_Tally], float]


def _usual(tally: _Tally) -> float:
    return tally.usual


def _miou(tally: _Tally) -> float:
    return tally.miou


def _noise(before: _Tally, after: _Tally, measure: Measure) -> float:
    """Standard error of the gain, from leaving out one task at a time."""
    count = len(before.both)
    gains = np.array(
        [measure(after.without(task)) - measure(before.without(task)) for task in range(count)]
    )
    return float(np.sqrt((count - 1) / count * ((gains - gains.mean()) ** 2).sum()))


# -- what calibration needs ---------------------------------------------------------------------


def _judged(
    chosen: _Chosen, used: Sequence[tuple[Evidence, list[Sample]]], course: Course, *, better: bool
) -> list[calibrate.Judged]:
    """Signals and quality of every task, by what the other tasks teach.

    Places know nothing of refinement: real masks are taken to be better than places by the factor
    they were better by without corrections.
    """
    count = len(used)
    coarse = np.array([chosen.before.of_task(number) for number in range(count)])
    real = _real_quality(used, course)
    tally, told = (chosen.after, chosen.held_out) if better else (chosen.before, chosen.base)
    usual = float(coarse.mean())
    finer = float(real.mean()) / usual if usual > LEAST_QUALITY else 1.0
    expected = finer * np.array([tally.of_task(number) for number in range(count)])
    found = []
    for number, (one, samples) in enumerate(used):
        known = [sample.before[course.control].agreement for sample in samples]
        agreed = [value for value in known if value is not None]
        signals = places.signals(
            told[torch.from_numpy(chosen.place.task == number)],
            float(np.mean(agreed)) if agreed else None,
        )
        quality = float(np.clip(expected[number] if better else real[number], 0.0, 1.0))
        found.append(calibrate.Judged(signals=signals, quality=quality, weight=one.weight))
    return found


def _real_quality(
    used: Sequence[tuple[Evidence, list[Sample]]], course: Course
) -> Float[np.ndarray, " tasks"]:
    """Of the whole model's masks by the words alone."""
    return np.array(
        [
            np.mean([sample.before[course.control].quality for sample in samples])
            for _, samples in used
        ]
    )


def _thresholds(
    chosen: _Chosen, used: Sequence[tuple[Evidence, list[Sample]]], course: Course, *, better: bool
) -> Mapping[str, float]:
    count, labels = len(used), len(course.names)
    if not course.presence:
        return {}
    real, painted = np.zeros((count, labels)), np.zeros((count, labels), bool)
    for number, (_, samples) in enumerate(used):
        for sample in samples:
            before, truth = sample.before[course.control], sample.truths[course.control]
            for label, name in enumerate(course.names):
                real[number, label] = max(real[number, label], before.presence.get(name, 0.0))
                painted[number, label] |= name in truth.labels
    if better:
        real = calibrate.as_presence(
            _highest(chosen.held_out, chosen.place, count),
            places=_highest(chosen.base, chosen.place, count),
            presence=real,
        )
    return calibrate.thresholds(real, painted, course.presence, course.names)


def _highest(
    probabilities: Float[Tensor, "n outcomes"], place: _Place, tasks: int
) -> Float[np.ndarray, "tasks labels"]:
    labels = probabilities.shape[1] - 1
    index = torch.from_numpy(place.task)[:, None].expand(-1, labels)
    highest = torch.zeros(tasks, labels).scatter_reduce_(
        0, index, probabilities[:, :labels], reduce="amax"
    )
    return highest.double().numpy()
