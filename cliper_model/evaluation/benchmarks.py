"""Data set name -> what is published about measuring it, from `data/evaluation/*.json`.

A file holds, per data set: class names per family of methods with where they come from, the
background words, the numbers per family and model, and what was published.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .datasets.base import DataSet
from .datasets.table import LAYOUTS
from .errors import NoSuchNumbers, UnknownDataset

OWN = ("folder",)  # data of one's own: no published numbers
FAMILIES: Mapping[str, str] = MappingProxyType(  # methods with one protocol
    {
        "cliper": "cliper",
        "clip": "proxyclip",
        "proxyclip": "proxyclip",
        "proxyclip-adjust": "proxyclip",
        "maskclip": "maskclip",
        "maskclip+": "maskclip",
        "clip-surgery": "clip-surgery",
        "cliptrase": "cliptrase",
    }
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Prompts of one family of methods on one data set, one string per class."""

    source: str
    classes: tuple[str, ...]
    background: tuple[str, ...]
    ignored_is_background: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One data file, as far as it does not depend on a root."""

    name: str
    title: str
    source: str  # "published", or "ours" where nothing was
    layout: str
    images: int | None  # pictures of the published evaluation
    background: bool
    classes: tuple[str, ...] | None  # None: named by a file of the data set
    words: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, Mapping[str, Mapping[str, Any]]]
    published: tuple[Mapping[str, Any], ...]

    def words_of(self, method: str, classes: tuple[str, ...]) -> Words:
        """`classes` are the data set's own names, used where a family has no others.

        Raises NoSuchNumbers.
        """
        found = self._of(self.words, method)
        return Words(
            source=found["names_source"],
            classes=tuple(found.get("classes") or classes),
            background=tuple(found["background"]),
            ignored_is_background=found.get("ignored_is_background", False),
        )

    def numbers_of(self, method: str, variant: str) -> Mapping[str, Any]:
        """Numbers for a CLIP model, or for CLIPtrase's side. Raises NoSuchNumbers."""
        family = self._of(self.numbers, method)
        found = family.get(variant, family.get("*"))
        if found is None:
            known = ", ".join(family)
            raise NoSuchNumbers(
                f"{self.name} has numbers of {method!r} for {known}, not for {variant!r}; choose "
                "another profile, or --dataset folder, which takes the profile's own numbers"
            )
        return found

    def _of(self, table: Mapping[str, Mapping[str, Any]], method: str) -> Mapping[str, Any]:
        """The family's part of words or numbers; a method may have one of its own name."""
        family = FAMILIES.get(method, method)
        if family not in table:
            raise NoSuchNumbers(
                f"{self.name} has no published words and numbers for the method {method!r}; "
                "measure it with --dataset folder, which takes the profile's own numbers"
            )
        return table[family]


def names() -> tuple[str, ...]:
    """Every data set of the table."""
    return tuple(LAYOUTS)


def get(name: str) -> Benchmark:
    """Read one data file. Raises UnknownDataset."""
    if name not in LAYOUTS or name in OWN:
        raise UnknownDataset(name, names())
    path = resources.files("cliper_model") / "data" / "evaluation" / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    return Benchmark(
        name=content["name"],
        title=content["title"],
        source=content["source"],
        layout=content["layout"],
        images=content["images"],
        background=content["background"],
        classes=tuple(content["classes"]) if content["classes"] is not None else None,
        words=content["words"],
        numbers=content["numbers"],
        published=tuple(content["published"]),
    )


def open_data(name: str, root: Path) -> DataSet:
    """The data set under `root`. Raises UnknownDataset, BadDataset."""
    if name not in LAYOUTS:
        raise UnknownDataset(name, names())
    layout = LAYOUTS[name](root)
    if name in OWN:
        classes, background = layout.classes, True
    else:
        known = get(name)
        classes, background = layout.classes or known.classes, known.background
    assert classes is not None  # the layout or the data file names them
    shown = tuple(one.split("|")[0].strip() for one in classes) if name in OWN else classes
    return DataSet(name=name, classes=shown, background=background, layout=layout)
