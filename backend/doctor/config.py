"""The label config as the service understands it, every number with where it comes from."""

from collections.abc import Iterator, Mapping
from typing import Any

from cliper_model import presets, profiles
from cliper_model.errors import CliperError, WeightsMissing
from cliper_model.profiles import Profile

from .. import advice
from ..errors import ConfigError
from ..labelstudio import options
from ..labelstudio.label_config import parse
from ..plan import Plan, choice_of, vocabularies
from ..vocabulary import ControlVocabulary
from .case import Case, known
from .findings import Finding, fail, ok, warn
from .model import profile_of

PAGE = "see docs/reference/label-config.md"
READER = "maskclip"  # needs nothing but the text tower's own CLIP
OF_PRESET = {
    "model_score_threshold": "presence_threshold",
    "model_mask_threshold": "mask_threshold",
}


def label_config(case: Case) -> Iterator[Finding]:
    """It can be used; the words of its labels mean something to the model."""
    xml = str(known(case.project).get("label_config") or "")
    try:
        read = parse(xml)
        wanted = vocabularies(read, _layers(case))
        for one in wanted:
            _check_words(one, case)
    except (ConfigError, CliperError) as error:
        yield fail(str(error), f"correct it in Settings, Labeling Interface; {PAGE}")
        return
    case.plan = Plan(wanted=wanted, prompts=read.prompts, identities={}, version="")
    warnings = [*read.warnings, *advice.of_config(wanted)]
    unread = []
    for one in wanted:
        warnings += advice.of_spelling(one)
        try:
            warnings += _advice_on_meaning(one, case)
        except CliperError as error:
            unread.append(_why_unread(error))
    lines = [line for one in wanted for line in _table(one, case)]
    lines += [f"clicks: {tool.from_name} ({tool.kind})" for tool in read.prompts]
    lines += [
        f"the model was not asked which labels mean the same: {reason}"
        for reason in dict.fromkeys(unread)
    ]
    lines += [f"warning: {warning}" for warning in warnings]
    facts: dict[str, Any] = {
        "controls": [_facts(one, case) for one in wanted],
        "clicks": [tool.from_name for tool in read.prompts],
        "warnings": warnings,
        "words_read": not unread,
    }
    names = ", ".join(f"{one.control.from_name} ({one.control.kind})" for one in wanted)
    what = f"{names}, labels: {sum(len(one.sought) for one in wanted)}"
    if warnings:
        first = warnings[0] if len(warnings) == 1 else f"{len(warnings)} warnings, see below"
        yield warn(f"{what}; {first}", PAGE, lines=tuple(lines), **facts)
    else:
        yield ok(what, lines=tuple(lines), **facts)


def _layers(case: Case) -> tuple[tuple[str, options.Values], ...]:
    """What stands behind label and tag. Raises ConfigError."""
    extra = extra_params(case)
    return (
        (options.EXTRA, options.read_extra(extra)),
        (options.ENVIRONMENT, known(case.settings).options),
    )


def extra_params(case: Case) -> object:
    """Of the first connection. Raises ConfigError."""
    connections = case.connections or []
    given = connections[0].get("extra_params") if connections else None
    return options.extra_params(given)


def _check_words(one: ControlVocabulary, case: Case) -> None:
    """Raises UntrainedWords, UnknownProfile, UnknownMethod."""
    profile = _profile(one, case)
    if known(case.settings).student is None:
        profiles.check_words(profile.name, one.explicit_words)


def _profile(one: ControlVocabulary, case: Case) -> Profile:
    choice = choice_of(one)
    own = profile_of(case, named=choice.profile)
    return own if choice.method is None else profiles.get(own.name, method=choice.method)


def _advice_on_meaning(one: ControlVocabulary, case: Case) -> list[str]:
    """Raises CliperError, such as WeightsMissing."""
    if not one.sought:
        return []
    import cliper_model

    profile = _profile(one, case)
    reader = cliper_model.load(
        profile.name,
        method=READER,
        device="cpu",
        weights_dir=known(case.settings).model_dir,
    )
    read = reader.read(one.labels, background=one.background, preset=one.preset)
    return list(advice.of_meaning(read))


def _why_unread(error: CliperError) -> str:
    return "its weights are not here" if isinstance(error, WeightsMissing) else str(error)


def _table(one: ControlVocabulary, case: Case) -> Iterator[str]:
    """Lines about one control: its output, its labels, its options with their sources."""
    control = one.control
    key = f"${control.image.data_key}"
    yield f"{control.from_name}: {control.kind} on {control.to_name} ({key}), preset {one.preset}"
    for label, chosen in zip(_facts(one, case)["labels"], one.of_label, strict=True):
        written = ", ".join(_shown(name, label[name], chosen[name].source) for name in chosen)
        yield f"  {label['label']}: looks for {', '.join(label['words'])}; {written}"
    if control.labels_key is not None:
        yield f"  labels come from the task's {control.labels_key!r}"
    if one.rest is not None:
        yield f"  {one.rest.name}: paints the rest"
    of_tag = (_shown(name, chosen.value, chosen.source) for name, chosen in one.of_tag.items())
    yield f"  the whole tag: {', '.join(of_tag)}"


def _shown(name: str, value: object, source: str) -> str:
    """`score_threshold 0.4 (tag)`."""
    short = name.removeprefix("model_")
    if value is None:
        whose = "the service's" if name in ("model_method", "model_profile") else "the preset's"
        return f"{short} {whose}"
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, tuple):
        value = " | ".join(map(str, value)) or "none"
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"{short} {value} ({source})"


def _facts(one: ControlVocabulary, case: Case) -> dict[str, Any]:
    """The same for programs. Thresholds nobody chose are the preset's."""
    profile = _profile(one, case)
    decision = one.decision(presets.get(one.preset, profile.clip, profile.method).decision)
    rows = []
    for index, (label, chosen) in enumerate(zip(one.sought, one.of_label, strict=True)):
        values: dict[str, Any] = {name: option.value for name, option in chosen.items()}
        for name, field in OF_PRESET.items():
            number = getattr(decision, field)
            values[name] = float(number[index] if isinstance(number, tuple) else number)
        rows.append(
            {
                "label": label.name,
                "result": label.result_name,
                "words": list(label.words),
                **values,
                "sources": _sources(chosen),
            }
        )
    return {
        "control": one.control.from_name,
        "output": one.control.kind,
        "image": one.control.to_name,
        "preset": one.preset,
        "labels": rows,
        "labels_key": one.control.labels_key,
        "rest": one.rest.name if one.rest else None,
        **{name: option.value for name, option in one.of_tag.items()},
        "sources": _sources(one.of_tag),
    }


def _sources(chosen: Mapping[str, Any]) -> dict[str, str]:
    return {name: option.source for name, option in chosen.items()}
