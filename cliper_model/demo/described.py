"""Names made of known parts: does "blue car" find the blue one of two cars?

Every picture shows one class twice, with different qualities of one kind. The name asked for is
one of `captions.NEVER_TOGETHER`, so no training text ever put its two words together. Pictures
come in twins with the two sides exchanged: position cannot help.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..segmenter import Scores
from ..stages.decide import upsampled_rows
from .captions import NEVER_TOGETHER
from .evaluation import Sight, winners, without_refinement
from .scene_sources import SIZE
from .scenes import HOURS, LABELS, PATTERNS, STUFF, Item, Scene
from .scenes.canvas import Canvas
from .scenes.grounds import EVERYWHERE, ground, mountains, sky
from .scenes.styles import storybook
from .scenes.things import TABLE, place

KINDS: Final = ("colour", "pattern", "hour")
PAIRS: Final = tuple(sorted(NEVER_TOGETHER))
"""(quality, label), in the order of their pictures."""

SEED: Final = 4  # with the position of the pair and of its twins

_GROUNDS: Final[Mapping[str, tuple[str, ...]]] = {
    "car": ("road", "grass", "snow"),
    "boat": ("sea",),
    "tent": ("grass", "sand", "snow"),
    "ball": ("sand", "grass", "road"),
    "fish": ("sea",),
    "cat": ("grass", "road", "snow"),
    "house": ("grass", "sand", "snow"),
    "balloon": ("grass", "sea"),
    "umbrella": ("sand", "grass"),
}
_MOST_WIDTH: Final = 0.4  # of the picture, for either of the two


@dataclass(frozen=True)
class Question:
    """A picture with two of one class, and the name of only one of them."""

    image: NDArray[np.uint8]  # [S, S, 3]
    right: NDArray[np.bool_]  # [S, S]; the one that the name describes
    wrong: NDArray[np.bool_]  # [S, S]
    name: str
    label: str
    others: tuple[str, ...]  # the picture's other words


@dataclass(frozen=True)
class Answer:
    """Whether the right one was found.

    coarse, refined  the name's mean score is higher on it, without and with refinement
    beside           so it is, refined, when the plain label is asked for as well
    pixels           most pixels of the name, refined, lie on it
    """

    coarse: bool
    refined: bool
    beside: bool
    pixels: bool


def kind_of(quality: str) -> str:
    """One of `KINDS`."""
    return "hour" if quality in HOURS else "pattern" if quality in PATTERNS else "colour"


def question(quality: str, label: str, index: int) -> Question:
    """Picture number `index` about one pair; an even and the next odd one are twins."""
    seed = (SEED, PAIRS.index((quality, label)), index // 2)
    right_first = index % 2 == 0
    if label in STUFF:
        return _two_hours(seed, quality, label, right_first=right_first)
    return _two_things(seed, quality, label, right_first=right_first)


def ask(sight: Sight, asked: Question) -> Answer:
    """Segment the picture with the name and the picture's other words."""
    words = sight.method.read((asked.name, *asked.others), background=())
    contest = sight.method.read((asked.name, asked.label, *asked.others), background=())
    state = sight.method.observe(asked.image)
    refined = sight.score(state, words)
    named = winners(refined) == 1
    return Answer(
        coarse=_higher(sight.score(without_refinement(state), words), asked),
        refined=_higher(refined, asked),
        beside=_higher(sight.score(state, contest), asked),
        pixels=bool(2 * (named & asked.right).sum() > named.sum()),
    )


def described_figures(
    answers: Mapping[tuple[str, str], Sequence[Answer]],
) -> dict[str, dict[str, float]]:
    """Percent of right answers by kind, together and by name; and how many pictures."""
    rows = {}
    for kind in KINDS:
        of_kind = [a for pair, given in answers.items() if kind_of(pair[0]) == kind for a in given]
        rows[f"described: {kind}"] = _shares(of_kind)
    rows["described"] = _shares([answer for given in answers.values() for answer in given])
    rows["described: by name"] = {
        " ".join(pair): _shares(given)["higher score, refined"] for pair, given in answers.items()
    }
    return rows


def _shares(answers: Sequence[Answer]) -> dict[str, float]:
    count = max(1, len(answers))
    return {
        "higher score": 100 * sum(answer.coarse for answer in answers) / count,
        "higher score, refined": 100 * sum(answer.refined for answer in answers) / count,
        "beside the label, refined": 100 * sum(answer.beside for answer in answers) / count,
        "most pixels, refined": 100 * sum(answer.pixels for answer in answers) / count,
        "pictures": len(answers),
    }


def _higher(scores: Scores, asked: Question) -> bool:
    blocks = [block[0] for _, block in upsampled_rows(scores.maps[:1], size_hw=scores.size_hw)]
    values = np.concatenate(blocks)
    return bool(values[asked.right].mean() > values[asked.wrong].mean())


def finished(canvas: Canvas) -> Scene:
    """What was drawn so far, as a scene in the style of the training."""
    drawing = canvas.drawing()
    image = storybook.render(drawing, canvas.rng)
    return Scene(image, drawing.instances, drawing.items)


# two things


def _two_things(
    seed: tuple[int, int, int], quality: str, label: str, *, right_first: bool
) -> Question:
    canvas = Canvas(np.random.default_rng(seed), (SIZE, SIZE))
    rng, thing = canvas.rng, TABLE[label]
    floor = str(rng.choice(_GROUNDS[label]))
    horizon = rng.uniform(0.3, 0.5)
    if label == "fish":
        ground(canvas, "sea", EVERYWHERE, open_air=False)
    else:
        sky(canvas, horizon, night=False)
        ground(canvas, floor, [(0, horizon), (1, horizon)])
    others = tuple(dict.fromkeys(item.label for item in canvas.items if item.label))
    colours = [word for word in thing.colours if isinstance(word, str)]
    said = _qualities(rng, quality, colours)
    height = min(rng.uniform(0.6, 1) * thing.height[1], _MOST_WIDTH / thing.aspect)
    sides = said if right_first else said[::-1]
    numbers = []
    for middle, item in zip((0.26, 0.74), sides, strict=True):
        x = middle + rng.uniform(-0.02, 0.02)
        foot = height + rng.uniform(0.02, 0.1) if label == "balloon" else rng.uniform(0.65, 0.9)
        numbers.append(place(canvas, label, x, foot, height, colour_word=item.colour))
        _wear(canvas, numbers[-1], item.pattern)
    scene = finished(canvas)
    masks = [scene.instances == number for number in numbers]
    right, wrong = masks if right_first else masks[::-1]
    return Question(scene.image, right, wrong, f"{quality} {label}", label, others)


def _qualities(rng: np.random.Generator, quality: str, colours: Sequence[str]) -> list[Item]:
    """What the right and the wrong one look like; only what the name says differs."""
    if quality in PATTERNS:
        colour = str(rng.choice(colours))
        plain_or_other = [None, *(word for word in PATTERNS if word != quality)]
        pattern = plain_or_other[int(rng.integers(len(plain_or_other)))]
        return [Item(colour=colour, pattern=quality), Item(colour=colour, pattern=pattern)]
    other = str(rng.choice([colour for colour in colours if colour != quality]))
    return [Item(colour=quality), Item(colour=other)]


def _wear(canvas: Canvas, number: int, pattern: str | None) -> None:
    """Lay on the pattern asked for, in place of any that fell to the item by chance."""
    if canvas.items[number - 1].pattern:
        del canvas.textures[number]
        canvas.items[number - 1] = canvas.items[number - 1]._replace(pattern=None)
    if pattern:
        canvas.pattern(number, pattern)


# two hours


def _two_hours(
    seed: tuple[int, int, int], quality: str, label: str, *, right_first: bool
) -> Question:
    """One half of the picture by night, the other by day."""
    rng = np.random.default_rng(seed)
    horizon, floor = rng.uniform(0.35, 0.6), str(rng.choice(["grass", "snow", "sea"]))
    halves = []
    for hour in HOURS:
        canvas = Canvas(np.random.default_rng((*seed, HOURS.index(hour))), (SIZE, SIZE))
        halves.append(_landscape(canvas, label, floor, horizon, night=hour == "night"))
    right_hour = HOURS.index(quality)
    left, other = (right_hour, 1 - right_hour) if right_first else (1 - right_hour, right_hour)
    first, second = halves[left], halves[other]
    seam = np.arange(SIZE)[None, :] < SIZE // 2
    image = np.where(seam[..., None], first.image, second.image)
    masks = [first.masks()[label] & seam, second.masks()[label] & ~seam]
    right, wrong = masks if right_first else masks[::-1]
    shown = [w for w in LABELS if w != label and (w in first.masks() or w in second.masks())]
    return Question(image, right, wrong, f"{quality} {label}", label, tuple(shown))


def _landscape(canvas: Canvas, label: str, floor: str, horizon: float, *, night: bool) -> Scene:
    """Sky and ground, mountains where they are asked for; every label reaches both halves."""
    sky(canvas, horizon, night=night)
    if label == "mountain":
        for _ in range(3):
            mountains(canvas, horizon, night=night)
    ground(canvas, "sand" if label == "sand" else floor, [(0, horizon), (1, horizon)], night=night)
    return finished(canvas)
