"""What people and Label Studio send to the service in a soak, and whether the answers are right.

The right answer to a scene under a config, or to a click on it, is the one that was given at the
start, before there was any traffic. A picture is given under an address that leads to nothing only
where that is the point; then its task, and no other, gets an error.
"""

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from backend.labelstudio.regions import FORMATS, RegionControl
from cliper_model.demo.scenes import LABELS

from .clicks import CONFIG as CLICKED
from .clicks import innermost, point, things_of
from .soak_studio import BROKEN, Studio

PATIENCE = 120.0  # seconds; an answer later than that is lost
BULK = (4, 8)  # pictures in a bulk request, from and to
FEW = ("sky", "house", "tree")
OUTLINED = ("sun", "cloud", "grass")
PROJECT = "900001.0"  # in which nothing is learnt: none of the studio's
DEEP = 100_000  # brackets in a hostile body

Json = Any
Right = dict[tuple[Any, ...], str]


class Wrong(Exception):
    """An answer that is not the right one."""


class Lost(Exception):
    """No answer, or none to a task that should have one."""


def config(kind: str, labels: Sequence[str]) -> str:
    """One control of a kind of regions with these labels."""
    inside = "".join(f'<Label value="{label}"/>' for label in labels)
    return (
        f'<View><Image name="image" value="$image"/>'
        f'<{kind} name="masks" toName="image">{inside}</{kind}></View>'
    )


CONFIGS = (
    config("BrushLabels", LABELS),
    config("BrushLabels", FEW),
    config("PolygonLabels", OUTLINED),
)
CLICKS = CLICKED.format(labels="".join(f'<Label value="{label}"/>' for label in LABELS))
BOMB = (
    '<!DOCTYPE View [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<View><Image name="image" value="$image"/>&b;</View>'
)
ONE = [{"id": 1, "data": {"image": "/data/upload/1/0.png"}}]
HOSTILE: tuple[tuple[str, str, bytes], ...] = (  # method, path, body; all are refused
    ("POST", "/predict", b""),
    ("POST", "/predict", b"{"),
    ("POST", "/predict", b"\xff\xfe" * 1000),
    ("POST", "/predict", b"[" * DEEP),
    ("POST", "/predict", b'{"tasks": {"1": 2}, "label_config": "<View/>"}'),
    ("POST", "/predict", b'{"tasks": ["text"], "label_config": "<View/>"}'),
    ("POST", "/predict", json.dumps({"tasks": ONE, "label_config": 7}).encode()),
    ("POST", "/predict", json.dumps({"tasks": ONE, "label_config": "<View><View"}).encode()),
    ("POST", "/setup", json.dumps({"schema": BOMB}).encode()),
    ("POST", "/setup", json.dumps({"schema": "x" * 3_000_000}).encode()),
    ("POST", "/setup", b'{"schema": null}'),
    ("GET", "/predict", b""),
    ("GET", "/../../etc/passwd", b""),
    ("DELETE", "/setup", b"{}"),
)


def masks(regions: Sequence[Mapping[str, Any]]) -> str:
    """What a result shows, as a digest; numbers of regions do not count."""
    shown = sorted(
        json.dumps([one["from_name"], one["type"], one["value"]], sort_keys=True) for one in regions
    )
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


@dataclass
class Traffic:
    """Everything that is asked, each a method; raises Wrong, Lost, or as requests does.

    url        of the service
    studio     where its pictures come from
    project    in which corrections are made
    """

    url: str
    studio: Studio
    project: int
    seed: int
    right: Right = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    corrected: int = 0

    def __post_init__(self) -> None:
        self._names = itertools.count()
        self._prompts = [
            [point(thing, innermost(thing.truth)) for thing in things_of(scene)[:2]]
            for scene in self.studio.scenes
        ]

    @property
    def key(self) -> str:
        """The learning project as Label Studio names it."""
        return f"{self.project}.0"

    # -- the right answers ----------------------------------------------------------------

    def learn_what_is_right(self) -> None:
        """Ask for everything once."""
        for number in range(len(self.studio.scenes)):
            for text in CONFIGS:
                answer = self._predict([self._known(number)], text)[0]
                self.right[text, number] = masks(_result(answer))
                self._same_version(text, answer)
            for at in range(len(self._prompts[number])):
                answer = self._click(self._known(number), number, at)
                self.right[CLICKS, number, at] = masks(_result(answer))

    def _known(self, number: int) -> str:
        return f"/data/upload/1/{number}.png"

    def _new(self, number: int | str) -> str:
        """An address nobody has asked for."""
        return f"/data/upload/1/{number}-{self.seed}-{next(self._names)}.png"

    # -- what people do -------------------------------------------------------------------

    def open_new(self, choice: random.Random) -> None:
        """A task is opened whose picture nobody has looked at."""
        self._opened(choice, self._new)

    def open_known(self, choice: random.Random) -> None:
        """A task is opened again."""
        self._opened(choice, self._known)

    def click(self, choice: random.Random) -> None:
        """On a picture that was looked at before."""
        self._clicked(choice, self._known)

    def click_new(self, choice: random.Random) -> None:
        """On a picture nobody has looked at."""
        self._clicked(choice, self._new)

    def bulk(self, choice: random.Random) -> None:
        """Several tasks at once, none of them looked at."""
        text = choice.choice(CONFIGS)
        numbers = choice.choices(range(len(self.studio.scenes)), k=choice.randint(*BULK))
        answers = self._predict([self._new(number) for number in numbers], text)
        for number, answer in zip(numbers, answers, strict=True):
            self._same(answer, text, number)

    def broken(self, choice: random.Random) -> None:
        """A picture that cannot be read, between two that can."""
        text, number = choice.choice(CONFIGS), choice.randrange(len(self.studio.scenes))
        addresses = [self._known(number), self._new(choice.choice(BROKEN)), self._known(number)]
        before, error, after = self._predict(addresses, text)
        if "result" in error or not isinstance(error.get("error"), str):
            raise Wrong(f"{addresses[1]} was answered with {str(error)[:200]}")
        self._same(before, text, number)
        self._same(after, text, number)

    def other_labels(self, choice: random.Random) -> None:
        """The label config is changed; the same config always gets the same version."""
        labels = choice.sample(LABELS, k=choice.randint(2, 5))
        text = config(choice.choice(("BrushLabels", "RectangleLabels")), sorted(labels))
        body = {"project": PROJECT, "schema": text, "hostname": self.studio.url}
        self._same_version(text, self._ask("POST", "/setup", body))

    def submit(self, choice: random.Random) -> None:
        """A correction: Label Studio has it, and sends an event."""
        task = choice.choice(self.studio.state.ids(self.project))
        number = int(self.studio.state.tasks[task]["data"]["image"].rpartition("/")[2][:-4])
        regions = self._truth(number)
        regions.pop(choice.randrange(len(regions)))  # something is overlooked: they differ
        annotation, new = self.studio.correct(task, regions)
        event = {
            "action": "ANNOTATION_CREATED" if new else "ANNOTATION_UPDATED",
            "project": {"id": self.project},
            "task": {"id": task},
            "annotation": {"id": annotation, "task": task},
        }
        if self._ask("POST", "/webhook", event) != {"status": "received"}:
            raise Wrong("an event was not acknowledged")
        self.corrected += 1

    def open_taught(self, choice: random.Random) -> None:
        """A task of the project that is corrected; what is right goes with the version."""
        number = choice.randrange(len(self.studio.scenes))
        answer = self._predict([self._known(number)], CONFIGS[0], project=self.key)[0]
        name = ("taught", number, answer.get("model_version"))
        found = masks(_result(answer))
        if self.right.setdefault(name, found) != found:
            raise Wrong(f"scene {number} has other masks under version {name[2]}")

    def list_versions(self, choice: random.Random) -> None:
        told = self._ask("GET", "/versions")
        if not isinstance(told.get("versions"), list) or not told["versions"]:
            raise Wrong(f"versions are {told}")

    def hostile(self, choice: random.Random) -> None:
        """Refused, in one sentence, whatever it is."""
        method, path, body = choice.choice(HOSTILE)
        answer = requests.request(method, self.url + path, data=body, timeout=PATIENCE)
        if not 400 <= answer.status_code < 500:
            raise Wrong(f"{method} {path} {body[:40]!r} was answered {answer.status_code}")
        if "Traceback" in answer.text:
            raise Wrong(f"{method} {path} {body[:40]!r} was answered with a traceback")

    # -- the end --------------------------------------------------------------------------

    def unsettled(self) -> int:
        """Events and projects that nobody has dealt with yet."""
        told = self._ask("GET", "/health")["learning"]
        return int(told["pending"]) + len(told["unsettled"])

    # -- parts ----------------------------------------------------------------------------

    def _ask(self, method: str, path: str, body: Json = None) -> Json:
        answer = requests.request(method, self.url + path, json=body, timeout=PATIENCE)
        if answer.status_code != 200:
            raise Lost(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def _predict(
        self,
        addresses: Sequence[str],
        text: str,
        *,
        context: Json = None,
        project: str = PROJECT,
    ) -> list[Json]:
        """One entry per address."""
        tasks = [{"id": at, "data": {"image": one}} for at, one in enumerate(addresses, start=1)]
        body = {
            "tasks": tasks,
            "label_config": text,
            "project": project,
            "params": {"context": context},
        }
        results: list[Json] = self._ask("POST", "/predict", body)["results"]
        if len(results) != len(addresses):
            raise Lost(f"{len(results)} entries for {len(addresses)} tasks")
        return results

    def _opened(self, choice: random.Random, address: Callable[[int], str]) -> None:
        text, number = choice.choice(CONFIGS), choice.randrange(len(self.studio.scenes))
        self._same(self._predict([address(number)], text)[0], text, number)

    def _clicked(self, choice: random.Random, address: Callable[[int], str]) -> None:
        number = choice.choice([at for at, prompts in enumerate(self._prompts) if prompts])
        at = choice.randrange(len(self._prompts[number]))
        answer = self._click(address(number), number, at)
        if masks(_result(answer)) != self.right[CLICKS, number, at]:
            raise Wrong(f"click {at} on scene {number} got another mask")

    def _click(self, address: str, number: int, at: int) -> Json:
        context = {"result": [self._prompts[number][at]]}
        return self._predict([address], CLICKS, context=context)[0]

    def _same(self, answer: Json, text: str, number: int) -> None:
        if masks(_result(answer)) != self.right[text, number]:
            raise Wrong(f"scene {number} got other masks than at the start")
        self._same_version(text, answer)

    def _same_version(self, text: str, answer: Json) -> None:
        found = answer["model_version"]
        if self.versions.setdefault(text, found) != found:
            raise Wrong(f"version {found} in place of {self.versions[text]}")

    def _truth(self, number: int) -> list[Json]:
        """Regions of a scene as a careful annotator would paint them."""
        return [
            region
            for label, mask in self.studio.scenes[number].truth.items()
            for region in FORMATS["brushlabels"].encode(
                mask,
                RegionControl(
                    from_name="masks",
                    to_name="image",
                    kind="brushlabels",
                    label=label,
                    region_id=f"by-hand-{label}",
                    score=None,
                ),
            )
        ]


def _result(answer: Json) -> list[Json]:
    """Regions of one entry. Raises Lost."""
    if "result" not in answer:
        raise Lost(f"no result but {str(answer)[:200]}")
    regions: list[Json] = answer["result"]
    return regions


# How often each is done, in a hundred.
MIX: Mapping[str, int] = {
    "open_new": 24,
    "open_known": 16,
    "bulk": 5,
    "click": 14,
    "click_new": 4,
    "broken": 7,
    "other_labels": 8,
    "submit": 6,
    "open_taught": 5,
    "list_versions": 3,
    "hostile": 8,
}
