"""The label config (XML) -> the controls we pre-label, or one sentence why not.

Attribute names follow the ecosystem (protocol notes §5):

    BrushLabels  model_score_threshold (older: score_threshold), model_mask_threshold,
                 model_background, model_fill, model_skip, smart
    Label        value, alias, predicted_values, model_fill
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ..errors import ConfigError
from .regions import FORMATS

CONTROL_TAGS = {"brushlabels": "BrushLabels"}  # tag in lower case -> as documented
OBJECT_TAG = "image"
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ConfigLabel:
    """One `<Label>`: shown as `name`, written into results as `result_name`.

    `words` describe it to the model; without words the name does. `fill` asks to paint it
    on the rest of the picture, which only labels such as Background may.
    """

    name: str
    result_name: str
    words: tuple[str, ...] = ()
    fill: bool = False


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control tag bound to one image.

    `background` None = the preset's own words, () = no background, else those words.
    Thresholds are None where the config says nothing.
    """

    kind: str  # region type: the tag in lower case
    from_name: str
    to_name: str
    data_key: str
    labels: tuple[ConfigLabel, ...]
    score_threshold: float | None = None
    mask_threshold: float | None = None
    background: tuple[str, ...] | None = None
    fill: bool = False


def parse(xml: str) -> tuple[Control, ...]:
    """Controls to pre-label, in the order of the config; never empty.

    Controls we do not know are passed over as long as one we know is there, and so are
    those marked `smart="true"` (they are prompts) or `model_skip="true"`.
    Raises ConfigError with one sentence.
    """
    root = _root(xml)
    elements = list(root.iter())
    images = {
        name: element
        for element in elements
        if _tag(element) == OBJECT_TAG and (name := _attribute(element, "name"))
    }
    if not images:
        raise ConfigError("Config has no Image tag with a name")

    controls, set_aside, elsewhere = [], [], []
    for element in elements:
        if _tag(element) not in CONTROL_TAGS:
            continue
        name = _control_name(element)
        if _switch(element, "smart", name) or _switch(element, "model_skip", name):
            set_aside.append(name)
        elif (target := _attribute(element, "toName") or "") in images:
            controls.append(_control(element, name, images[target]))
        else:
            elsewhere.append((name, target))
    if not controls:
        raise ConfigError(_why_nothing(elements, set_aside, elsewhere))
    _refuse_repeats([control.from_name for control in controls], "Config has two controls named")
    return tuple(controls)


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


def _tag(element: Element) -> str:
    return element.tag.lower() if isinstance(element.tag, str) else ""


def _attribute(element: Element, name: str) -> str | None:
    value = element.get(name)
    return value.strip() if value is not None else None


def _control_name(element: Element) -> str:
    name = _attribute(element, "name")
    if not name:
        raise ConfigError(f"A {CONTROL_TAGS[_tag(element)]} tag has no name")
    return name


def _control(element: Element, name: str, image: Element) -> Control:
    fill = _switch(element, "model_fill", name)
    background = _attribute(element, "model_background")
    return Control(
        kind=_tag(element),
        from_name=name,
        to_name=_attribute(image, "name") or "",
        data_key=_data_key(image),
        labels=_labels(element, name),
        score_threshold=_share(element, name, "model_score_threshold", "score_threshold"),
        mask_threshold=_share(element, name, "model_mask_threshold"),
        background=None if background is None else _listed(background),
        fill=fill,
    )


def _data_key(image: Element) -> str:
    name = _attribute(image, "name")
    if _attribute(image, "valueList") is not None:
        raise ConfigError(f"Image {name!r} shows a list of pictures (valueList), not supported yet")
    value = _attribute(image, "value") or ""
    if not value.startswith("$") or len(value) == 1:
        raise ConfigError(f'Image {name!r} needs value="$key", the task\'s data key')
    return value[1:]


def _labels(element: Element, control: str) -> tuple[ConfigLabel, ...]:
    tag = CONTROL_TAGS[_tag(element)]
    labels = tuple(_label(child, control) for child in element.iter() if _tag(child) == "label")
    if not labels:
        if (_attribute(element, "value") or "").startswith("$"):
            raise ConfigError(f"{tag} {control!r} takes labels from task data; list them instead")
        raise ConfigError(f"{tag} {control!r} has no labels")
    _refuse_repeats([label.name for label in labels], f"{tag} {control!r} lists twice the label")
    aliases = [label.result_name for label in labels]
    _refuse_repeats(aliases, f"{tag} {control!r} uses twice the alias")
    return labels


def _label(element: Element, control: str) -> ConfigLabel:
    value = " ".join((_attribute(element, "value") or "").split())
    if not value:
        raise ConfigError(f"A label of {control!r} has an empty value")
    return ConfigLabel(
        name=value,
        result_name=_attribute(element, "alias") or (_attribute(element, "value") or value),
        words=_listed(_attribute(element, "predicted_values") or ""),
        fill=_switch(element, "model_fill", value),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _switch(element: Element, name: str, owner: str) -> bool:
    value = (_attribute(element, name) or "false").lower()
    if value not in ("true", "false", "1", "0", "yes", "no"):
        raise ConfigError(f"{name} of {owner!r} must be true or false, not {value!r}")
    return value in ("true", "1", "yes")


def _share(element: Element, owner: str, *names: str) -> float | None:
    for name in names:
        text = _attribute(element, name)
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{name} of {owner!r} must be a number from 0 to 1, not {text!r}")
        return value
    return None


def _refuse_repeats(names: list[str], what: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(f"{what} {name!r}")


def _why_nothing(
    elements: list[Element], set_aside: list[str], elsewhere: list[tuple[str, str]]
) -> str:
    known = " or ".join(CONTROL_TAGS[kind] for kind in FORMATS if kind in CONTROL_TAGS)
    if elsewhere:
        name, target = elsewhere[0]
        return f"{known} {name!r} points to {target!r}, which is not an Image"
    if set_aside:
        return f"Nothing to pre-label: {set_aside[0]!r} is marked smart or model_skip"
    others = sorted({e.tag for e in elements if e.get("toName") and isinstance(e.tag, str)})
    if others:
        return f"{', '.join(others[:3])} cannot be pre-labelled; use {known} for an Image"
    return f"Config has no {known} tag bound to an Image"
