"""The `model_*` attributes of a label config: what each takes, and where its value comes from.

One table serves the config, the connection's `extra_params`, the environment (names in upper
case) and the reference page. The first layer that says something wins:

    label > tag > extra_params > environment > learned > preset
"""

import difflib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import ConfigError
from . import bounded_json

LABEL, TAG, EXTRA, ENVIRONMENT, LEARNED, PRESET = (
    "label", "tag", "extra_params", "environment", "learned", "preset",
)  # fmt: skip
PREFIX = "model_"
MOST_REGIONS = 1000
MOST_SMOOTH = 50  # pixels
MOST_WORDS: Final = 200  # of a background; a preset has some twenty
LONGEST_WORD: Final = 200  # characters; a text tower reads some seventy pieces of words
MOST_SENTENCES: Final = 100  # that words are read in; published lists have 80
LONGEST_SENTENCE: Final = 300  # characters
LONGEST_NAME: Final = 100  # characters of a method, a profile or an attribute
MOST_WARNINGS: Final = 20  # of one config, on unknown attributes
LONGEST_EXTRA: Final = 100_000  # characters of extra parameters; they are kept per project

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One attribute. `read` turns its text into a value or raises ValueError.

    on      where it may stand: `tag`, `label`, `image`
    wide    whether extra_params and the environment may set it for a whole project or service
    older   names the ecosystem used before
    preset  value where nobody says anything; None: the model's own preset has one
    """

    name: str
    read: Callable[[str], Any]
    must: str
    about: str
    on: tuple[str, ...] = (TAG,)
    wide: bool = True
    older: tuple[str, ...] = ()
    preset: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.older)

    def parsed(self, text: str, owner: str) -> Any:
        """Raises ConfigError."""
        try:
            return self.read(text)
        except ValueError:
            raise ConfigError(
                f"{self.name} of {owner!r} must be {self.must}, not {text!r}"
            ) from None


def listed(text: str) -> tuple[str, ...]:
    """Words separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _words(text: str) -> tuple[str, ...]:
    words = listed(text)
    if len(words) > MOST_WORDS or any(len(word) > LONGEST_WORD for word in words):
        raise ValueError
    return words


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError
    return value


def _area(text: str) -> float:
    """A share of the picture: 0.002 or 0.2%."""
    text = text.strip()
    value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0.0 <= value < 1.0:
        raise ValueError
    return value


def _hole(text: str) -> float:
    """As an area; true means holes of any size, false none."""
    if text.strip().lower() in _SWITCH:
        return 1.0 if _switch(text) else 0.0
    return _area(text)


_SWITCH: Final = {
    "true": True, "1": True, "yes": True, "false": False, "0": False, "no": False,
}  # fmt: skip


def _switch(text: str) -> bool:
    word = text.strip().lower()
    if word not in _SWITCH:
        raise ValueError
    return _SWITCH[word]


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MOST_REGIONS:
        raise ValueError
    return value


def _pixels(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_SMOOTH:
        raise ValueError
    return value


def _templates(text: str) -> tuple[str, ...]:
    """Sentences separated by |; {} takes the word, and nothing else may stand in braces."""
    sentences = tuple(part.strip() for part in text.split("|") if part.strip())
    if len(sentences) > MOST_SENTENCES:
        raise ValueError
    for sentence in sentences:
        bare = sentence.replace("{}", "", 1)
        if "{" in bare or "}" in bare or len(sentence) > LONGEST_SENTENCE:
            raise ValueError
    return sentences


def _name(text: str) -> str:
    if not 0 < len(text.strip()) <= LONGEST_NAME:
        raise ValueError
    return text.strip().lower()


def _key(text: str) -> str:
    if not text.startswith("$") or not 1 < len(text) <= LONGEST_WORD:
        raise ValueError
    return text[1:]


SHARE: Final = "a number from 0 to 1"
AREA: Final = "a share of the picture such as 0.002 or 0.2%"
TRUTH: Final = "true or false"

OPTIONS: Final[dict[str, Option]] = {
    option.name: option
    for option in (
        Option(
            name="model_score_threshold",
            read=_share,
            must=SHARE,
            on=(TAG, LABEL),
            older=("score_threshold",),
            about="presence a label needs to be there at all; raise it when too many wrong labels "
            "appear",
        ),
        Option(
            name="model_mask_threshold",
            read=_share,
            must=SHARE,
            on=(TAG, LABEL),
            about="share of a label's highest score a pixel needs; raise it for tighter masks",
        ),
        Option(
            name="model_background",
            read=_words,
            must=f"at most {MOST_WORDS} words of at most {LONGEST_WORD} characters, separated by "
            "commas",
            about="what else there is to see. Absent: the preset's own words (preset `objects`). "
            "Empty: nothing else, every pixel belongs to a label (preset `whole-scene`)",
        ),
        Option(
            name="model_prompt",
            read=_templates,
            must=f"at most {MOST_SENTENCES} sentences of at most {LONGEST_SENTENCE} characters "
            "separated by |, with {} for the word",
            on=(TAG, LABEL),
            about="sentences the words are read in, separated by `|`; `{}` takes the word. Without "
            "`{}` the sentence is read as it stands",
        ),
        Option(
            name="model_method",
            read=_name,
            must="the name of a method",
            about="method for this tag, such as `proxyclip`; see `cliper methods`",
        ),
        Option(
            name="model_profile",
            read=_name,
            must="the name of a profile",
            about="profile for this tag, such as `fast`; its weights must be on the service",
        ),
        Option(
            name="model_min_area",
            read=_area,
            must=AREA,
            on=(TAG, LABEL),
            preset=0.0005,
            about="pieces smaller than this share of the picture are dropped; 0 keeps all",
        ),
        Option(
            name="model_holes",
            read=_hole,
            must=f"true, false or {AREA}",
            preset=0.0005,
            about="unclaimed holes inside a mask up to this size are filled; true: of any size",
        ),
        Option(
            name="model_smooth",
            read=_pixels,
            must=f"a radius from 0 to {MOST_SMOOTH} in whole pixels",
            preset=0,
            about="radius in pixels by which outlines are rounded",
        ),
        Option(
            name="model_overlap",
            read=_switch,
            must=TRUTH,
            preset=False,
            about="true: every label is judged by itself and masks may overlap; false: one label "
            "per pixel",
        ),
        Option(
            name="model_instances",
            read=_switch,
            must=TRUTH,
            on=(TAG, LABEL),
            preset=False,
            about="true: every connected piece is a region of its own. Outlines, boxes, ellipses "
            "and points always are",
        ),
        Option(
            name="model_refine",
            read=_switch,
            must=TRUTH,
            preset=True,
            about="false: masks are cut from the coarse maps, before refinement. For looking at "
            "what refinement does; it saves no time",
        ),
        Option(
            name="model_max_regions",
            read=_count,
            must=f"a whole number from 1 to {MOST_REGIONS}",
            preset=50,
            about="most regions per picture; the largest are kept",
        ),
        Option(
            name="model_fill",
            read=_switch,
            must=TRUTH,
            on=(TAG, LABEL),
            wide=False,
            preset=False,
            about="on masks: paint the label that means the rest, such as Background. On `Choices` "
            "and `Taxonomy`: answer them with what is in the picture",
        ),
        Option(
            name="model_skip",
            read=_switch,
            must=TRUTH,
            on=(TAG, LABEL),
            wide=False,
            preset=False,
            about="leave this tag or label alone",
        ),
        Option(
            name="model_page",
            read=_key,
            must="$key, a key of the task data",
            on=("image",),
            wide=False,
            about="key of the task data with the page (from 1) of a file with several pages",
        ),
    )
}
WIDE: Final = tuple(option for option in OPTIONS.values() if option.wide)
IGNORED: Final = frozenset({"model_path", "model_obb", "model_names", "model_synonyms"})
"""Attributes that other backends read; a config that serves both need not be warned."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A value, and which layer it came from."""

    value: Any
    source: str


def choose(name: str, layers: Sequence[tuple[str, Values]]) -> Chosen:
    """The value of the first layer that has one, else the option's preset."""
    for source, values in layers:
        if name in values:
            return Chosen(value=values[name], source=source)
    return Chosen(value=OPTIONS[name].preset, source=PRESET)


def read_attributes(
    attributes: Mapping[str, str], *, place: str, owner: str
) -> tuple[Values, tuple[str, ...]]:
    """The `model_*` attributes of one element, and a warning for each that nobody knows.

    `place` is `tag`, `label` or `image`. A blank value counts as absent, but for
    `model_background`, where it says: nothing else. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS.values():
        if place not in option.on:
            continue
        for name in option.names:
            text = attributes.get(name)
            if text is not None and (text.strip() or option.name == "model_background"):
                values[option.name] = option.parsed(text.strip(), owner)
                break
    return values, tuple(itertools.islice(_unknown(attributes, place, owner), MOST_WARNINGS))


def _unknown(attributes: Iterable[str], place: str, owner: str) -> Iterable[str]:
    for name in attributes:
        if not name.startswith(PREFIX) or name in IGNORED:
            continue
        option = OPTIONS.get(name)
        name = name[:LONGEST_NAME]
        if option is None:
            near = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.0)
            yield f"{owner!r} has an unknown attribute {name}; the nearest known is {near[0]}"
        elif place not in option.on:
            places = " or ".join(f"the {where}" for where in option.on)
            yield f"{owner!r}: {name} has no effect here, it belongs on {places}"


def read_extra(given: object) -> Values:
    """Options for a whole project, from the extra parameters of its connection.

    Other keys are somebody else's business. Raises ConfigError.
    """
    given = extra_params(given)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f'{EXTRA} must be a JSON object such as {{"model_score_threshold": 0.4}}')
    _refuse_what_cannot_be_kept(given)
    texts = {str(name): _as_text(value) for name, value in given.items() if value is not None}
    values: dict[str, Any] = {}
    for option in WIDE:
        for name in option.names:
            if name in texts:
                values[option.name] = option.parsed(texts[name], EXTRA)
                break
    return values


def extra_params(given: object) -> object:
    """What an admin stored on the connection: the form keeps a text, the API what it was sent.

    Raises ConfigError.
    """
    if not isinstance(given, str):
        return given or None
    if not given.strip():
        return None
    try:
        return bounded_json.loads(given[: LONGEST_EXTRA + 1])
    except bounded_json.Unreadable:
        if len(given) > LONGEST_EXTRA:
            raise _too_much() from None
        raise ConfigError(
            "the extra parameters of the connection are not JSON; "
            'write them like {"model_score_threshold": 0.4}'
        ) from None


def _refuse_what_cannot_be_kept(given: Mapping[str, Any]) -> None:
    """Raises ConfigError."""
    try:
        length = len(json.dumps(given, allow_nan=False))
    except ValueError:  # 1e999 is JSON, and an infinity to Python
        raise ConfigError(f"{EXTRA} hold a number that is too large") from None
    if length > LONGEST_EXTRA:
        raise _too_much()


def _too_much() -> ConfigError:
    return ConfigError(f"{EXTRA} have more than {LONGEST_EXTRA} characters")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
