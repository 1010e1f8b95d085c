"""What the demo text tower is taught to read: label words, described labels, captions."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from .scenes import COLOURS, LABELS, STUFF, Item

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "sky": ("sky",),
    "grass": ("grass", "lawn", "meadow", "green field"),
    "sea": ("sea", "water", "ocean", "lake"),
    "sand": ("sand", "beach", "desert"),
    "snow": ("snow", "snowy ground"),
    "road": ("road", "street", "asphalt"),
    "mountain": ("mountain", "mountains", "hill", "hills"),
    "sun": ("sun", "sunshine"),
    "moon": ("moon", "crescent moon"),
    "cloud": ("cloud", "clouds"),
    "star": ("star", "stars"),
    "tree": ("tree", "trees", "pine tree"),
    "house": ("house", "home", "cottage", "building"),
    "car": ("car", "automobile", "vehicle"),
    "bus": ("bus", "coach"),
    "boat": ("boat", "sailboat", "ship"),
    "fish": ("fish",),
    "flower": ("flower", "flowers", "blossom"),
    "person": ("person", "child", "man", "woman", "boy", "girl", "people"),
    "bird": ("bird", "birds"),
    "balloon": ("balloon", "hot air balloon"),
    "rainbow": ("rainbow",),
    "mushroom": ("mushroom", "toadstool"),
    "dog": ("dog", "puppy"),
    "cat": ("cat", "kitten"),
    "butterfly": ("butterfly",),
    "plane": ("plane", "airplane", "aircraft"),
    "lamp": ("lamp", "street lamp", "lamp post"),
    "snowman": ("snowman",),
    "tent": ("tent", "camping tent"),
    "rocket": ("rocket", "spaceship"),
    "umbrella": ("umbrella", "parasol"),
    "ball": ("ball", "beach ball"),
    "fence": ("fence", "wooden fence"),
}
"""Words for every label; the first is the label itself."""

PLURALS: Final[dict[str, tuple[str, ...]]] = {
    "cloud": ("clouds",),
    "star": ("stars",),
    "tree": ("trees",),
    "house": ("houses", "buildings"),
    "car": ("cars", "vehicles"),
    "bus": ("buses",),
    "boat": ("boats", "ships"),
    "flower": ("flowers",),
    "person": ("people", "children"),
    "bird": ("birds",),
    "balloon": ("balloons",),
    "mushroom": ("mushrooms",),
    "dog": ("dogs",),
    "cat": ("cats",),
    "butterfly": ("butterflies",),
    "plane": ("planes",),
    "lamp": ("lamps",),
    "tent": ("tents",),
    "rocket": ("rockets",),
    "umbrella": ("umbrellas",),
    "ball": ("balls",),
    "fence": ("fences",),
}
"""Words for more than one, where the singular is not used for both."""

CAPTION_TEMPLATES: Final = (
    "a picture of {}.",
    "a drawing of {}.",
    "{}.",
    "there is {}.",
    "an illustration of {}.",
    "a photo of {}.",
    "a cartoon of {}.",
    "{} in the picture.",
    "a painting showing {}.",
    "we can see {}.",
    "a storybook scene with {}.",
    "an image with {}.",
)

PROMPT_TEMPLATES: Final = (
    "a picture of a {}.",
    "a drawing of a {}.",
    "an illustration of a {}.",
    "a photo of the {}.",
    "a {}.",
    "{}.",
    "a cartoon of a {}.",
    "there is a {} in the picture.",
)
"""Sentences around one label; at inference the embedding of a label is their mean."""

BACKGROUND_WORDS: Final = ("background", "plain background")
"""What pixels without a label are called."""

UNKNOWN_WORDS: Final = ("zebra", "qwerty", "dinosaur", "guitar", "pizza", "toaster")
"""Examples of words that name nothing in the pictures; their tokens stay untrained."""

QUALITY_WORDS: Final[dict[str, tuple[str, ...]]] = {
    **{colour: (colour,) for colour in COLOURS},
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "day": ("day",),
    "night": ("night",),
}
"""Words for every quality an item may have: colours, patterns, hours."""

NO_NAME: Final = (("thing", "object"), ("time",))
"""Words after a quality of no particular label: after an hour the second ones."""

NEVER_TOGETHER: Final = frozenset(
    {
        ("blue", "car"), ("red", "boat"), ("yellow", "tent"), ("green", "ball"),
        ("purple", "fish"), ("orange", "cat"), ("white", "house"), ("pink", "balloon"),
        ("black", "umbrella"), ("striped", "tent"), ("striped", "ball"), ("striped", "car"),
        ("dotted", "umbrella"), ("dotted", "fish"), ("dotted", "house"),
        ("night", "sky"), ("night", "sand"), ("day", "mountain"),
    }
)  # fmt: skip
"""(quality, label) that no training text says, though scenes show it: kept for the test of
names made of known parts."""

_NUMBERS: Final = {1: "a", 2: "two", 3: "three"}
_UNCOUNTABLE: Final = frozenset(
    {"sky", "grass", "sea", "sand", "snow", "water", "ocean", "sunshine", "asphalt", "lawn"}
)
_LONGEST_CAPTION = 7  # labels; more would not fit into the context


def label_word(rng: np.random.Generator, label: str) -> str:
    """A word for `label`: the label itself half of the time, else a synonym or a plural."""
    if rng.random() < 0.5:
        return label
    words = SYNONYMS[label] + PLURALS.get(label, ())
    return words[rng.integers(len(words))]


def prompt(rng: np.random.Generator, word: str) -> str:
    """One random prompt sentence around `word`."""
    return PROMPT_TEMPLATES[rng.integers(len(PROMPT_TEMPLATES))].format(word)


def _one(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def qualities(item: Item) -> tuple[str, ...]:
    """What a text may say of an item: hour, pattern, colour, unless it is kept for the test."""
    words = (item.hour, item.pattern, item.colour)
    return tuple(word for word in words if word and (word, item.label) not in NEVER_TOGETHER)


def phrase(rng: np.random.Generator, label: str, described: Sequence[Sequence[str]]) -> str:
    """Name all items of one label: `a striped red car`, `two cars`, `the night sea`.

    `described` holds the qualities of every item; only those they share can be said.
    """
    count = len(described)
    shared = [word for word in described[0] if all(word in other for other in described)]
    plural = count > 1 and label in PLURALS and rng.random() < 0.5
    words = PLURALS[label] if plural else SYNONYMS[label]
    word = words[0] if rng.random() < 0.5 else _one(words, rng)
    said = [_one(QUALITY_WORDS[quality], rng) for quality in shared if rng.random() < 0.5]
    if label in STUFF or word in _UNCOUNTABLE:
        bare = word in _UNCOUNTABLE and rng.random() < 0.6
        article = "" if bare else _one(("the", "a"), rng)
    elif count == 1:
        article = _one(("a", "a", "one", "the"), rng)
    else:
        article = _one((_NUMBERS.get(count, "several"), "some"), rng)
    return " ".join(part for part in (article, *said, word) if part)


def caption(rng: np.random.Generator, present: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """One sentence about what is in the picture, and nothing else.

    `present`: label -> the qualities (see `qualities`) of each of its items.
    """
    labels = [label for label in LABELS if label in present]
    if not labels:
        return "a plain background."
    labels = [labels[i] for i in rng.permutation(len(labels))][:_LONGEST_CAPTION]
    if len(labels) > 2 and rng.random() < 0.25:
        labels = labels[: int(rng.integers(1, len(labels)))]
    phrases = [phrase(rng, label, present[label]) for label in labels]
    sentence = phrases[-1]
    if len(phrases) > 1:
        separator = _one((", ", " and ", ", "), rng)
        joint = _one((" and ", " with ", " next to ", " and "), rng)
        sentence = separator.join(phrases[:-1]) + joint + phrases[-1]
    hours = {word for described in present.values() for words in described for word in words}
    if "night" in hours and rng.random() < 0.4:
        sentence += " at night"
    return _one(CAPTION_TEMPLATES, rng).format(sentence)


def trained_words() -> tuple[str, ...]:
    """Every single word a label may be made of, in lower case and in order."""
    phrases = [word for words in (*SYNONYMS.values(), *PLURALS.values()) for word in words]
    phrases += [word for words in QUALITY_WORDS.values() for word in words]
    phrases += [word for words in NO_NAME for word in words]
    phrases += [*BACKGROUND_WORDS, "a", "the", "and", "with", "of", "in", "at"]
    return tuple(sorted({word for text in phrases for word in text.split()}))


def trained_sentences() -> tuple[str, ...]:
    """Sentences that together hold every token the text tower is trained on."""
    frames = [t.format(" ") for t in (*CAPTION_TEMPLATES, *PROMPT_TEMPLATES)]
    joints = ["a, one, two and three with several next to some the.", "an a."]
    return (*frames, *joints, *(f"{word}." for word in trained_words()), *trained_words())
