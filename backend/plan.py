"""What a label config asks for, worked out once per request, and per task where data says more."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cliper_model.segmenter import Identity

from .errors import ConfigError, LabelsMissing, TaskDataMissing
from .labelstudio import label_config, options
from .labelstudio.label_config import ConfigImage, LabelConfig, Prompting
from .labelstudio.tasks import Task
from .labelstudio.version import NO_EVIDENCE, model_version
from .lessons import Learned, model_of
from .model_pool import ModelChoice
from .vocabulary import ControlVocabulary, Layers, without_repeats

MOST_PICTURES = 200  # of one task with a list of pictures
REMEMBERED_CONFIGS = 32
LONGEST_REMEMBERED = 100_000  # characters of such a config; read, it takes some twenty times that
REVISION = 2  # of what happens between scores and regions; raise whenever results change


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of a task, and what is wanted of it.

    index   its number in a list of pictures, None for a single one
    labels  digest of the labels that came with the task's data, "" if the config has them all
    """

    image: ConfigImage
    address: str
    page: int
    index: int | None
    wanted: tuple[ControlVocabulary, ...]
    labels: str

    @property
    def place(self) -> str:
        """Tells views of one picture's bytes apart."""
        return json.dumps([self.image.name, self.page, self.index, self.labels])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a config asks for. `identities` are the models it uses, by choice."""

    wanted: tuple[ControlVocabulary, ...]
    prompts: tuple[Prompting, ...]
    identities: Mapping[ModelChoice, Identity]
    version: str
    warnings: tuple[str, ...] = ()

    def views(self, task: Task) -> list[View]:
        """The task's pictures in the order of the config. Raises TaskDataMissing, LabelsMissing."""
        by_image: dict[ConfigImage, list[ControlVocabulary]] = {}
        for one in self.wanted:
            by_image.setdefault(one.control.image, []).append(one)
        return [
            view
            for image, controls in by_image.items()
            for view in _views_of(image, controls, task)
        ]

    def picture_addresses(self, task: Task) -> list[str]:
        """Where the task's pictures are; empty where its data does not say."""
        try:
            return [view.address for view in self.views(task)]
        except (TaskDataMissing, LabelsMissing):
            return []


def choice_of(one: ControlVocabulary) -> ModelChoice:
    """The model a control asks for."""
    return ModelChoice(method=one.method, profile=one.profile)


def vocabularies(config: LabelConfig, layers: Layers) -> tuple[ControlVocabulary, ...]:
    """Every control that has something to write, with words and numbers. Raises ConfigError."""
    return without_repeats(
        [ControlVocabulary.of(control, layers=layers) for control in config.controls]
    )


class ConfigReader:
    """Reads label configs; what was read lately is not read again. Safe to use from many threads.

    Label Studio sends the whole config with every request.
    """

    def __init__(self, defaults: options.Values) -> None:
        """`defaults`: values of `model_*` options for configs that name none."""
        self._defaults = dict(defaults)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Reading] = OrderedDict()

    def read(self, config: str, extra: options.Values) -> "Reading":
        """A config, and what a connection's `extra_params` say. Raises ConfigError."""
        key = (config, repr(sorted(extra.items())))
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        read = label_config.parse(config)
        layers = ((options.EXTRA, extra), (options.ENVIRONMENT, self._defaults))
        found = Reading(config=read, wanted=vocabularies(read, layers))
        if len(config) <= LONGEST_REMEMBERED:
            with self._lock:
                self._known[key] = found
                while len(self._known) > REMEMBERED_CONFIGS:
                    self._known.popitem(last=False)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A label config, and every control of it that has something to write; equal to itself only."""

    config: LabelConfig
    wanted: tuple[ControlVocabulary, ...]

    def plan(self, identities: Mapping[ModelChoice, Identity], learned: Learned | None) -> Plan:
        """By these models, with what corrections taught."""
        wanted = taught(self.wanted, identities, learned)
        return Plan(
            wanted=wanted,
            prompts=self.config.prompts,
            identities=identities,
            version=version_of(identities, wanted),
            warnings=self.config.warnings,
        )


def version_of(
    identities: Mapping[ModelChoice, Identity],
    wanted: Sequence[ControlVocabulary],
    post_processing: Mapping[str, Any] | None = None,
) -> str:
    """The version string of everything `wanted`, read and decided by these models.

    `post_processing` holds settings of what happens between mask and region.
    """
    facts: dict[str, Any] = {
        "controls": [
            {**one.facts(), "model": _facts_of(identities[choice_of(one)])} for one in wanted
        ],
        "post_processing": {"revision": REVISION, **(post_processing or {})},
        "evidence": _evidence_of(wanted),
    }
    first = identities[choice_of(wanted[0])]
    return model_version(profile=first.profile, method=first.method, facts=facts)


def taught(
    wanted: Sequence[ControlVocabulary],
    identities: Mapping[ModelChoice, Identity],
    learned: Learned | None,
) -> tuple[ControlVocabulary, ...]:
    """The controls with what was learnt for them, where it is about the models they ask for."""
    lessons = {} if learned is None else learned.lessons
    return tuple(
        one
        if (lesson := lessons.get(one.control.from_name)) is None
        or lesson.is_empty
        or lesson.model != model_of(identities[choice_of(one)], one.preset)
        else one.taught(lesson)
        for one in wanted
    )


def _evidence_of(wanted: Sequence[ControlVocabulary]) -> Any:
    """A digest per control that something was learnt for."""
    digests = {one.control.from_name: one.lesson.digest for one in wanted if one.lesson is not None}
    return digests or NO_EVIDENCE


def _facts_of(identity: Identity) -> dict[str, Any]:
    return {
        "method": identity.method,
        "revision": identity.revision,
        "profile": identity.profile,
        "weights": dict(identity.weights),
        "settings": dict(identity.settings),
    }


def _views_of(image: ConfigImage, controls: Sequence[ControlVocabulary], task: Task) -> list[View]:
    try:
        told = [one.for_task(task.data) for one in controls]
    except ConfigError as error:
        raise LabelsMissing(str(error)) from None
    changed = any(one.control.labels_key is not None for one in told)
    wanted = without_repeats(told) if changed else tuple(told)
    dynamic = [one.facts() for one in wanted] if changed else []
    labels = hashlib.sha256(json.dumps(dynamic).encode()).hexdigest() if dynamic else ""
    addresses = task.image_addresses(image.data_key, listed=image.listed)
    if len(addresses) > MOST_PICTURES:
        raise LabelsMissing(f"the task has {len(addresses)} pictures, more than {MOST_PICTURES}")
    page = task.page(image.page_key)
    return [
        View(
            image=image,
            address=address,
            page=page,
            index=index if image.listed else None,
            wanted=wanted,
            labels=labels,
        )
        for index, address in enumerate(addresses)
    ]
