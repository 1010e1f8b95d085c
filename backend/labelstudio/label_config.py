"""The label config (XML) -> the controls we pre-label and the tools that ask, or why not.

A control is one tag that can hold what we find: masks, outlines, boxes, points, or answers about
the whole picture. Its labels compete with each other only. Attribute names follow the ecosystem
(protocol notes §5); ours are listed in `options`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..errors import ConfigError
from . import options
from .regions import TAGS
from .words import cleaned, words_of

MAX_CHARACTERS: Final = 1_000_000
MOST_TAGS: Final = 20_000  # of a config; a long Taxonomy that nobody fills may be in it
DEEPEST: Final = 100  # tags inside of one another
MOST_CONTROLS: Final = 200  # of a config; people draw with a dozen
MOST_LABELS: Final = 2_000  # of one control; the largest published vocabulary has 1,203
MOST_WORDS: Final = 50  # that are looked for, of one label
MOST_WORDS_IN_ALL: Final = 20_000  # of a config: each is read in up to a hundred sentences
LONGEST_NAME: Final = 200  # characters of a label, a word, a name or a key
MANY_LABELS: Final = 100  # published collapse of large vocabularies
MOST_LEVELS: Final = 20  # of a Taxonomy in task data
OBJECT_TAG: Final = "image"
LABELS_TAG: Final = "labels"

LABELLED: Final = {kind: tag for kind, tag in TAGS.items() if kind.endswith(LABELS_TAG)}
"""Types whose tag holds its own labels."""
PLAIN: Final = {kind: tag for kind, tag in TAGS.items() if kind not in LABELLED}
"""Types whose labels stand in a Labels tag on the same picture."""
ANSWERS: Final = {"choices": "Choices", "taxonomy": "Taxonomy"}  # about the picture as a whole
CONTROL_TAGS: Final = {**TAGS, **ANSWERS}
PROMPTS: Final = frozenset(  # marked smart they ask and are never filled
    {"keypointlabels", "rectanglelabels", "ellipselabels", "keypoint", "rectangle", "ellipse"}
)
PREFERRED: Final = "BrushLabels"  # what to name where a config has nothing for us


@dataclass(frozen=True, kw_only=True)
class ConfigLabel:
    """One `<Label>` or `<Choice>`: shown as `name`, written into results as `result_name`.

    words    what to look for; never empty
    path     result names of the choices it stands inside, for a Taxonomy
    options  its own `model_*` values
    colour   as the config writes it (`background`), "" where it does not; only for eyes
    """

    name: str
    result_name: str
    words: tuple[str, ...]
    path: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    colour: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class ConfigImage:
    """One `<Image>`: where the task data has its address.

    listed    the key holds a list of addresses (valueList)
    page_key  key with the page of a file with several, or None
    """

    name: str
    data_key: str
    listed: bool = False
    page_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control tag bound to one image.

    kind         result type: the tag in lower case
    labels       empty where `labels_key` names the task data that lists them
    labels_name  name of the Labels tag that holds the labels, or None
    options      its own `model_*` values
    several      for Choices: whether more than one may be chosen
    """

    kind: str
    from_name: str
    image: ConfigImage
    labels: tuple[ConfigLabel, ...]
    labels_key: str | None = None
    labels_name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    several: bool = True

    @property
    def to_name(self) -> str:
        return self.image.name

    @property
    def is_answer(self) -> bool:
        """About the picture as a whole: Choices, Taxonomy."""
        return self.kind in ANSWERS

    @property
    def outlines(self) -> bool:
        """Its regions say which pixels they cover; boxes, ellipses and points do not."""
        return not self.is_answer and self.kind not in PROMPTS

    def with_labels(self, data: Mapping[str, Any]) -> "Control":
        """The same control with the labels a task's data lists. Raises ConfigError."""
        if self.labels_key is None:
            return self
        return replace(self, labels=_listed_labels(data.get(self.labels_key), self))


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """A smart tool: what an annotator draws with it asks for a mask of its label."""

    kind: str
    from_name: str
    to_name: str


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What a config means to us. `warnings` are sentences for the admin's eyes."""

    controls: tuple[Control, ...]
    prompts: tuple[Prompting, ...] = ()
    warnings: tuple[str, ...] = ()


def parse(xml: str) -> LabelConfig:
    """Controls to pre-label, in the order of the config; never none.

    Controls we do not know are passed over as long as one we know is there, and so are smart
    tools, and what is marked `model_skip="true"`. Raises ConfigError with one sentence.
    """
    return _Reading(_root(xml)).result()


class _Reading:
    """One pass over a config, tag by tag."""

    def __init__(self, root: Element) -> None:
        self.elements = _elements(root)
        self.warnings: list[str] = []
        self.set_aside: list[str] = []  # sentences: why a known tag is not filled
        self.prompts: list[Prompting] = []
        self.elsewhere: list[tuple[str, str, str]] = []
        self.images: dict[str, Element] = {}
        for element in self.elements:
            if _tag(element) == OBJECT_TAG and (name := _attribute(element, "name")):
                self.images[_not_too_long(name, "The name of an Image")] = element
        if not self.images:
            raise ConfigError("Config has no Image tag with a name")
        self.label_tags = [e for e in self.elements if _tag(e) == LABELS_TAG]

    def result(self) -> LabelConfig:
        found = [
            control
            for element in self.elements
            if _tag(element) in CONTROL_TAGS and (control := self._control(element)) is not None
        ]
        controls = found
        if not controls:
            raise ConfigError(self._why_nothing())
        words = sum(len(label.words) for control in controls for label in control.labels)
        if words > MOST_WORDS_IN_ALL:
            raise ConfigError(
                f"Config has {words} words to look for, more than {MOST_WORDS_IN_ALL}"
            )
        _refuse_repeats(
            [control.from_name for control in controls], "Config has two controls named"
        )
        for control in controls:
            if len(control.labels) > MANY_LABELS:
                self.warnings.append(
                    f"{control.from_name!r} has {len(control.labels)} labels; published accuracy "
                    f"collapses above {MANY_LABELS}: split them over several tags"
                )
        return LabelConfig(
            controls=tuple(controls), prompts=tuple(self.prompts), warnings=tuple(self.warnings)
        )

    def _control(self, element: Element) -> Control | None:
        kind, name = _tag(element), _control_name(element)
        values = self._options(element, options.TAG, name)
        if values.get("model_skip"):
            self.set_aside.append(f"{name!r} is marked model_skip")
            return None
        target = _attribute(element, "toName") or ""
        if target not in self.images:
            self.elsewhere.append((CONTROL_TAGS[kind], name, target))
            return None
        if _switch(element, "smart", name) and kind in PROMPTS:
            self.prompts.append(Prompting(kind=kind, from_name=name, to_name=target))
            self.set_aside.append(f"{name!r} is marked smart: it asks and is never filled")
            return None
        if kind in ANSWERS:
            return self._answer(element, kind, name, target, values)
        source, labels_name = element, None
        if kind in PLAIN:
            holder = self._labels_beside(target)
            if holder is None:
                self.set_aside.append(f"{name!r} has no Labels tag beside it")
                return None
            source, labels_name = holder, _attribute(holder, "name")
            beside = self._options(holder, options.TAG, labels_name or "Labels")
            if beside.get("model_skip"):
                self.set_aside.append(f"{labels_name!r} is marked model_skip")
                return None
            values = {**beside, **values}
        labels, key = self._labels(source, CONTROL_TAGS[kind], name)
        return Control(
            kind=kind,
            from_name=name,
            image=self._image(target),
            labels=labels,
            labels_key=key,
            labels_name=labels_name,
            options=values,
        )

    def _answer(
        self, element: Element, kind: str, name: str, target: str, values: Mapping[str, Any]
    ) -> Control | None:
        """Choices and Taxonomy are filled only where the config asks for it."""
        if not values.get("model_fill"):
            self.set_aside.append(f'{name!r} is answered only with model_fill="true"')
            return None
        if any(_switch(element, one, name) for one in ("perRegion", "perItem")):
            self.warnings.append(
                f"{name!r} asks about regions, not about the picture: not answered"
            )
            self.set_aside.append(f"{name!r} asks about regions")
            return None
        if _attribute(self.images[target], "valueList") is not None:
            self.warnings.append(f"{name!r} asks about a list of pictures: not answered")
            self.set_aside.append(f"{name!r} asks about a list of pictures")
            return None
        several = (_attribute(element, "choice") or "single").lower() == "multiple"
        labels, key = self._labels(element, CONTROL_TAGS[kind], name, wanted="choice")
        return Control(
            kind=kind,
            from_name=name,
            image=self._image(target),
            labels=labels,
            labels_key=key,
            options=values,
            several=several or kind == "taxonomy",
        )

    def _labels_beside(self, target: str) -> Element | None:
        """The Labels tag on the same picture; without labels a region would be drawn black."""
        return next((e for e in self.label_tags if _attribute(e, "toName") == target), None)

    def _labels(
        self, element: Element, tag: str, control: str, *, wanted: str = "label"
    ) -> tuple[tuple[ConfigLabel, ...], str | None]:
        """Labels of a tag, or the key of the task data that lists them."""
        children = list(_nested(element, wanted))
        if len(children) > MOST_LABELS:
            raise ConfigError(
                f"{tag} {control!r} has {len(children)} labels, more than {MOST_LABELS}"
            )
        read = [self._label(child, control, path) for child, path in children]
        labels = tuple(label for label in read if label is not None)
        value = _attribute(element, "value") or ""
        if value.startswith("$") and len(value) > 1:
            if not read:
                return (), _not_too_long(value[1:], "A key of the task data")
            self.warnings.append(
                f"{control!r} lists labels and takes others from {value}: only those listed are "
                "looked for"
            )
        if not labels:
            raise ConfigError(f"{tag} {control!r} has no labels")
        what = f"{tag} {control!r}"
        _refuse_repeats(
            ["/".join((*one.path, one.name)) for one in labels], f"{what} lists twice the label"
        )
        _refuse_repeats(_names(labels), f"{what} uses twice the alias")
        return labels, None

    def _label(self, element: Element, control: str, path: tuple[str, ...]) -> ConfigLabel | None:
        shown = _attribute(element, "value") or ""
        value = " ".join(shown.split())
        if not value:
            raise ConfigError(f"A label of {control!r} has an empty value")
        for name in ("value", "alias", "hint"):
            _not_too_long(_attribute(element, name) or "", f"The {name} of a label of {control!r}")
        values = self._options(element, options.LABEL, value)
        if values.get("model_skip"):
            return None
        predicted = _predicted(_attribute(element, "predicted_values") or "", value)
        words = words_of(value, predicted_values=predicted, hint=_attribute(element, "hint") or "")
        if not predicted and words[0] not in (value, cleaned(value)):
            self.warnings.append(
                f"{value!r} is no readable word, so its hint {words[0]!r} is looked for; "
                "give English words in predicted_values if that is not what it looks like"
            )
        return ConfigLabel(
            name=value,
            result_name=_attribute(element, "alias") or shown,
            words=words,
            path=path,
            options={name: one for name, one in values.items() if name != "model_skip"},
            colour=_attribute(element, "background") or "",
        )

    def _image(self, name: str) -> ConfigImage:
        element = self.images[name]
        values = self._options(element, "image", name)
        many = _attribute(element, "valueList")
        value = (_attribute(element, "value") if many is None else many) or ""
        if not value.startswith("$") or len(value) == 1:
            attribute = "value" if many is None else "valueList"
            raise ConfigError(f'Image {name!r} needs {attribute}="$key", the task\'s data key')
        return ConfigImage(
            name=name,
            data_key=_not_too_long(value[1:], "A key of the task data"),
            listed=many is not None,
            page_key=values.get("model_page"),
        )

    def _options(self, element: Element, place: str, owner: str) -> Mapping[str, Any]:
        values, warnings = options.read_attributes(element.attrib, place=place, owner=owner)
        room = max(0, options.MOST_WARNINGS - len(self.warnings))
        self.warnings += [one for one in warnings if one not in self.warnings][:room]
        return values

    def _why_nothing(self) -> str:
        if self.elsewhere:
            tag, name, target = self.elsewhere[0]
            return f"{tag} {name!r} points to {target!r}, which is not an Image"
        if self.set_aside:
            return f"Nothing to pre-label: {self.set_aside[0]}"
        others = sorted(
            {e.tag for e in self.elements if e.get("toName") and isinstance(e.tag, str)}
        )
        if others:
            return f"{', '.join(others[:3])} cannot be pre-labelled; use {PREFERRED} for an Image"
        return f"Config has no {PREFERRED} tag bound to an Image"


def _root(xml: str) -> Element:
    if len(xml) > MAX_CHARACTERS:
        raise ConfigError(f"Config is longer than {MAX_CHARACTERS} characters")
    if not xml.strip():
        raise ConfigError("Config is empty")
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except DefusedXmlException:
        raise ConfigError("Config must not hold a DOCTYPE or entity definitions") from None
    except (ParseError, ValueError) as error:
        raise ConfigError(f"Config is not well-formed XML: {error}") from None
    return root


def _elements(root: Element) -> list[Element]:
    """All of a config. Raises ConfigError where they are too many, or too deep."""
    elements = list(itertools.islice(root.iter(), MOST_TAGS + 1))
    if len(elements) > MOST_TAGS:
        raise ConfigError(f"Config has more than {MOST_TAGS} tags")
    controls = sum(_tag(element) in CONTROL_TAGS for element in elements)
    if controls > MOST_CONTROLS:
        raise ConfigError(f"Config has {controls} tags to draw with, more than {MOST_CONTROLS}")
    level = [root]
    for _ in range(DEEPEST):
        level = [child for element in level for child in element]
    if level:
        raise ConfigError(f"Config has tags nested in more than {DEEPEST} levels")
    return elements


def _not_too_long(text: str, what: str) -> str:
    if len(text) > LONGEST_NAME:
        raise ConfigError(f"{what} has {len(text)} characters, more than {LONGEST_NAME}")
    return text


def _predicted(text: str, label: str) -> tuple[str, ...]:
    """The words of `predicted_values`. Raises ConfigError."""
    words = options.listed(text)
    if len(words) > MOST_WORDS:
        raise ConfigError(f"{label!r} has {len(words)} predicted_values, more than {MOST_WORDS}")
    for word in words:
        _not_too_long(word, f"A word of {label!r}")
    return words


def _tag(element: Element) -> str:
    return element.tag.lower() if isinstance(element.tag, str) else ""


def _attribute(element: Element, name: str) -> str | None:
    value = element.get(name)
    return value.strip() if value is not None else None


def _control_name(element: Element) -> str:
    name = _attribute(element, "name")
    if not name:
        raise ConfigError(f"A {CONTROL_TAGS[_tag(element)]} tag has no name")
    return _not_too_long(name, f"The name of a {CONTROL_TAGS[_tag(element)]} tag")


def _switch(element: Element, name: str, owner: str) -> bool:
    value = (_attribute(element, name) or "false").lower()
    if value not in ("true", "false", "1", "0", "yes", "no"):
        raise ConfigError(f"{name} of {owner!r} must be true or false, not {value!r}")
    return value in ("true", "1", "yes")


def _nested(element: Element, tag: str) -> Iterator[tuple[Element, tuple[str, ...]]]:
    """Elements of one tag without such elements inside, and what they stand inside.

    Labels stand in no other label; a choice of a Taxonomy may, and then only the innermost are
    looked for.
    """

    def walk(parent: Element, path: tuple[str, ...]) -> Iterator[tuple[Element, tuple[str, ...]]]:
        for child in parent:
            if _tag(child) != tag:
                yield from walk(child, path)
                continue
            name = _attribute(child, "alias") or _attribute(child, "value") or ""
            inside = list(walk(child, (*path, name)))
            yield from inside or [(child, path)]

    yield from walk(element, ())


def _listed_labels(given: object, control: Control) -> tuple[ConfigLabel, ...]:
    """Labels as task data lists them: texts, or objects with `value` and perhaps `alias`; of a
    Taxonomy the innermost `children`. Raises ConfigError."""
    tag, name, key = CONTROL_TAGS[control.kind], control.from_name, control.labels_key
    problem = f"{tag} {name!r} takes its labels from {key!r}; the task has no such list"
    labels: list[ConfigLabel] = []

    def walk(listed: object, path: tuple[str, ...]) -> None:
        if not isinstance(listed, list) or not listed or len(path) > MOST_LEVELS:
            raise ConfigError(problem)
        for one in listed:
            fields = one if isinstance(one, Mapping) else {"value": one}
            shown = fields.get("value")
            if not isinstance(shown, str) or not shown.strip():
                raise ConfigError(problem)
            result_name = str(fields.get("alias") or shown)
            hint = str(fields.get("hint") or "")
            if not all(map(_is_label, (shown, result_name, hint))):
                raise ConfigError(f"{what}: the task lists a label that cannot be written")
            if control.kind == "taxonomy" and fields.get("children"):
                walk(fields["children"], (*path, result_name))
                continue
            value = " ".join(shown.split())
            predicted = fields.get("predicted_values")
            words = _predicted(predicted, value) if isinstance(predicted, str) else ()
            labels.append(
                ConfigLabel(
                    name=value,
                    result_name=result_name,
                    words=words_of(value, predicted_values=words, hint=hint),
                    path=path,
                    colour=str(fields.get("background") or ""),
                )
            )
            if len(labels) > MOST_LABELS:
                raise ConfigError(f"{what}: the task lists more than {MOST_LABELS} labels")

    what = f"{tag} {name!r}"
    walk(given, ())
    _refuse_repeats(_names(labels), f"{what}: the task lists twice the label")
    return tuple(labels)


def _is_label(text: str) -> bool:
    """JSON may hold halves of characters, which no result can."""
    return len(text) <= LONGEST_NAME and not any("\ud800" <= one <= "\udfff" for one in text)


def _names(labels: Sequence[ConfigLabel]) -> list[str]:
    """What results would hold; two equal ones could not be told apart."""
    return ["/".join((*label.path, label.result_name)) for label in labels]


def is_only_code(label: ConfigLabel) -> bool:
    """Whether a label is read as it stands although it is nothing but a code."""
    return label.words == (label.name,) and not cleaned(label.name)


def _refuse_repeats(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{what} {name!r}")
        seen.add(name)
