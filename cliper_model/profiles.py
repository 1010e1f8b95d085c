"""Profiles: a name for a choice of weights, with its price and what was published for it.

The numbers live in `data/profiles/*.json`, the places weights come from in
`data/weights/*.json`. Nothing here imports torch, so a list of profiles costs nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .errors import (
    UnknownMethod,
    UnknownProfile,
    UnknownSource,
    UnknownVae,
    UnneededSource,
    UnneededStudent,
    UnneededVae,
    UntrainedWords,
    WeightsMissing,
)

if TYPE_CHECKING:
    from .segmenter import Label

ORDER: Final = ("demo", "fast", "standard", "best")  # from the smallest to the largest
MIB: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a component. `bytes` is its size as far as known, for disk space and display.

    `sha256` is None where nobody pinned it (small configuration files). A file with
    `unless` is not needed where that other file exists.
    """

    path: str  # relative to the component's folder
    bytes: int
    sha256: str | None = None
    unless: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place to download from: a hub repository at a fixed revision, or a plain address."""

    hub: str | None = None
    revision: str = "main"
    url: str | None = None  # `{path}` stands for the file's path

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.url is None):
            raise ValueError("a source has either a hub repository or a url")

    def address(self, path: str, *, hub_endpoint: str) -> str:
        """Where `path` can be downloaded."""
        if self.url is not None:
            return self.url.format(path=path)
        return f"{hub_endpoint.rstrip('/')}/{self.hub}/resolve/{self.revision}/{path}"

    def __str__(self) -> str:
        return f"{self.hub} at {self.revision[:8]}" if self.hub else str(self.url)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One complete way to have a component: these files, from the first source that has them."""

    files: tuple[File, ...]
    sources: tuple[Source, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A network's weights: `part` says what they are in a method: `clip`, `diffusion`, `features`,
    `vae`."""

    name: str
    part: str
    title: str
    licence: str
    variants: tuple[Variant, ...]  # the first is what `fetch` gets; any complete one is used


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named choice of weights. Memory figures are None until somebody measured them.

    `published_miou` (percent) are the authors' figures for this encoder, with refinement and
    windows as in the profile, on their data sets with their numbers for each; they were not
    measured here.
    `known_words` is None where any word may be asked for.
    """

    name: str
    summary: str
    method: str
    clip: str  # model name in open_clip's spelling, or `demo`
    diffusion: str | None  # component name, or None without refinement
    window: int  # pixels of the sliding crop; 0 looks once at the whole image
    short_side: int  # pixels
    components: tuple[Component, ...]
    licence: str
    ram_mib: int | None
    vram_mib: int | None
    published_miou: Mapping[str, float] | None
    known_words: frozenset[str] | None = None
    features: str | None = None  # feature source, NAME or NAME:FILE, for methods that use one
    vae: str | None = None  # encoder in front of Stable Diffusion's U-Net; None is its own

    @property
    def shipped(self) -> bool:
        """True where all weights come with the package."""
        return not self.components

    @property
    def on_demo_weights(self) -> bool:
        """True where CLIP is the shipped one; a feature source may still be fetched."""
        return self.clip == "demo"

    @property
    def edge_aware(self) -> str:
        """How maps follow edges of the picture by default (stages/edges.py): measured per method
        and CLIP model, and off where nobody measured it."""
        return method_card(self.method).edge_aware.get(self.clip, "none")

    @property
    def choice(self) -> str:
        """How a command line names it: the profile, and what differs from it as it is written."""
        written = _as_written(self.name) if self.name in ORDER else self
        method = f" --method {self.method}" if self.method != written.method else ""
        features = f" --features {self.features}" if self.features else ""
        return f"{self.name}{method}{features}" + (f" --vae {self.vae}" if self.vae else "")

    @property
    def sources(self) -> tuple[str, ...]:
        """Places the weights come from, in the order they are tried."""
        return tuple(
            str(source) for component in self.components for source in component.variants[0].sources
        )

    @property
    def download_mib(self) -> int:
        """What a fetch into an empty folder downloads."""
        return round(sum(part.variants[0].bytes for part in self.components) / MIB)


def names() -> tuple[str, ...]:
    """Every profile, from the smallest to the largest."""
    return ORDER


def get(
    name: str,
    *,
    method: str | None = None,
    features: str | None = None,
    vae: str | None = None,
) -> Profile:
    """Read one profile, as it is or for another method, feature source and VAE.

    Raises UnknownProfile, UnknownMethod, UnknownSource, UnneededSource, UnknownVae, UnneededVae.
    """
    if name not in ORDER:
        raise UnknownProfile(name, ORDER)
    profile = _as_written(name)
    if features is not None:
        check_source(features)
    if (method is not None and method != profile.method) or features is not None:
        profile = for_method(profile, method or profile.method, features)
    return profile if vae is None else with_vae(profile, vae)


def check_student(method: str, student: object) -> None:
    """Raises UnneededStudent where a student is named for a method that takes none."""
    if student is not None and "student" not in method_card(method).needs:
        raise UnneededStudent(method)


def for_method(profile: Profile, method: str, features: str | None = None) -> Profile:
    """The same CLIP model for another method: only the networks that one needs.

    Windows belong to CLIPer; the other methods cut pictures up in their own way. A method that
    looks through a feature source gets DINO B/8, and in `demo`, which ships without one, CLIP's
    own values, unless `features` names another.
    """
    needs = method_card(method).needs
    source = features
    if source is None and "features" in needs:
        source = "clip" if profile.on_demo_weights else "dino-vitb8"
    if source is not None and not {"features", "similarity"} & set(needs):
        raise UnneededSource(method, source)
    diffusion = profile.diffusion if "diffusion" in needs and source is None else None
    if source is not None and source.startswith("diffusion-"):
        diffusion = profile.diffusion or "stable-diffusion-2-1-base"
    clip = profile.clip if "clip" in needs else None
    own = [] if profile.on_demo_weights else [clip, diffusion]
    wanted = dict.fromkeys([*own, component_of(source) if source is not None else None])
    parts = tuple(component(part) for part in wanted if part is not None)
    return replace(
        profile,
        method=method,
        features=source,
        diffusion=diffusion,
        window=profile.window if method == profile.method else 0,
        components=parts,
        licence=", ".join(
            dict.fromkeys(
                [
                    *([profile.licence] if profile.on_demo_weights else []),
                    *(f"{part.licence} ({part.title})" for part in parts),
                ]
            )
        ),
        ram_mib=None,
        vram_mib=None,
        published_miou=None,
    )


VAES: Final = MappingProxyType({"taesd": "taesd"})  # name -> component with its weights


def runs_stable_diffusion(profile: Profile) -> bool:
    """Whether Stable Diffusion's encoder sees every picture, so that another may stand in."""
    return profile.diffusion is not None and profile.diffusion != "demo"


def with_vae(profile: Profile, vae: str) -> Profile:
    """The same profile with another encoder in front of Stable Diffusion's U-Net.

    The tensors of its own VAE are not needed then, and masks do not depend on them.
    Raises UnknownVae, UnneededVae.
    """
    if vae not in VAES:
        raise UnknownVae(vae, tuple(VAES))
    if profile.diffusion == "demo":
        raise UnneededVae(vae, "the demo weights have a VAE and a latent space of their own")
    if not runs_stable_diffusion(profile):
        raise UnneededVae(
            vae,
            f"{profile.choice!r} runs no Stable Diffusion, CLIPer with PROFILE=standard or "
            "PROFILE=best does",
        )
    other = component(VAES[vae])
    return replace(
        profile,
        vae=vae,
        components=(*map(_without_vae, profile.components), other),
        licence=f"{profile.licence}, {other.licence} ({other.title})",
        ram_mib=None,
        vram_mib=None,
        published_miou=None,
    )


def check_published(vae: str | None) -> None:
    """Raises UnneededVae where published figures are to be repeated with another VAE."""
    if vae is not None:
        raise UnneededVae(vae, "what is published was computed with Stable Diffusion's own")


def _without_vae(component: Component) -> Component:
    """Configuration stays: it says how large latents are."""
    variants = tuple(
        replace(
            variant,
            files=tuple(
                file
                for file in variant.files
                if not (file.path.startswith("vae/") and file.path.endswith(".safetensors"))
            ),
        )
        for variant in component.variants
    )
    return replace(component, variants=variants)


def _as_written(name: str) -> Profile:
    data = _read("profiles", name)
    words = demo_card().get("words") if name == "demo" else None
    return Profile(
        name=name,
        components=tuple(component(part) for part in data.pop("components")),
        known_words=frozenset(words) if words is not None else None,
        **data,
    )


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """What people read about a method before they choose it.

    `needs` are the networks: `clip`, `diffusion`, `features` (a feature source), `similarity`
    (a feature source may refine), `student` (a trained checkpoint). `published_miou` (percent)
    are the authors' figures, not measured here, under the setting `published_with`.
    `gflops` are operations of one 336 x 336 px picture and 20 words with ViT-B/16, measured
    with benchmarks/true_methods.py; None until measured. `edge_aware` names, per CLIP model, the
    rule of stages/edges.py that raised boundary F on validation scenes (benchmarks/edges.py).
    """

    name: str
    title: str
    paper: str
    parts: str
    needs: tuple[str, ...]
    published_with: str
    published_miou: Mapping[str, float]
    gflops: float | None = None
    edge_aware: Mapping[str, str] = field(default_factory=dict)


def methods() -> tuple[str, ...]:
    """Every method, in the order of the registry."""
    from .registry import METHODS

    return tuple(METHODS)


def method_card(name: str) -> MethodCard:
    """Read what is known about one method. Raises UnknownMethod."""
    if name not in methods():
        raise UnknownMethod(name, methods())
    data = _read("methods", name)
    data.pop("presets", None)
    return MethodCard(name=name, needs=tuple(data.pop("needs")), **data)


SOURCES: Final = MappingProxyType(
    {  # feature source -> component with its weights, None where it needs none of its own
        "dino-vits8": "dino-vits8",
        "dino-vits16": "dino-vits16",
        "dino-vitb8": "dino-vitb8",
        "dino-vitb16": "dino-vitb16",
        "dinov2-vitb14-reg": "dinov2-vitb14-reg",
        "dinov2-vitb14": "dinov2-vitb14",
        "sam-vitb": "sam-vitb",
        "diffusion-s": None,
        "diffusion-p": None,
        "unet": None,  # always a file of the user's own
        "clip": None,  # the profile's own CLIP
    }
)


def check_source(features: str) -> None:
    """Raises UnknownSource where `features`, NAME or NAME:FILE, names nothing known.

    CLIP and the diffusion model are the profile's own, so they take no FILE.
    """
    name, _, path = features.partition(":")
    fixed = name == "clip" or name.startswith("diffusion-")
    wrong = features.endswith(":") or (name == "unet" and not path) or (fixed and ":" in features)
    if name not in SOURCES or wrong:
        raise UnknownSource(features, tuple(SOURCES))


def component_of(features: str) -> str | None:
    """Weights a feature source needs; None where a file is given or none are needed."""
    check_source(features)
    name, _, path = features.partition(":")
    return None if path else SOURCES[name]


def component(name: str) -> Component:
    """Read where one network's weights come from."""
    data = _read("weights", name)
    variants = tuple(
        Variant(
            files=tuple(File(**file) for file in variant["files"]),
            sources=tuple(Source(**source) for source in variant["sources"]),
        )
        for variant in data["variants"]
    )
    return Component(
        name=name,
        part=data["part"],
        title=data["title"],
        licence=data["licence"],
        variants=variants,
    )


def demo_folder() -> Path:
    """Where the weights that ship with the package lie."""
    return Path(str(resources.files("cliper_model"))) / "demo_weights"


def demo_card() -> Mapping[str, Any]:
    """The shipped model's own description (`demo.json`), empty where it was left out."""
    path = demo_folder() / "demo.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def check_words(profile_name: str, labels: "Sequence[str | Label]") -> None:
    """Refuse words the shipped text tower was never trained on; other profiles take any word.

    Every word of every prompt must be in the list of trained words, in any case; words are
    what blanks and hyphens separate. A plural counts only where it was trained as such: the
    tower has never seen the token of another one. Labels that mean the rest are not asked for.

    Raises UntrainedWords, or WeightsMissing where the shipped weights were left out.
    """
    if profile_name != "demo":
        return
    card = demo_card()
    if not card:
        raise WeightsMissing(
            "the demo model's description demo.json",
            [demo_folder()],
            "reinstall the package, or train the demo model with 'cliper train-demo'",
        )
    unknown = untrained(labels, known=card["words"])
    if unknown:
        raise UntrainedWords(unknown, tuple(card.get("labels", ())) or sorted(card["words"]))


def untrained(labels: "Sequence[str | Label]", *, known: Iterable[str]) -> tuple[str, ...]:
    """Words of the labels' prompts that are not in `known`, once each, in order."""
    from .segmenter import Label  # the only name here that needs torch

    trained = {word.lower() for word in known}
    asked = [label if isinstance(label, Label) else Label(label) for label in labels]
    words = (
        word
        for label in asked
        if not label.is_rest
        for prompt in label.prompts
        for word in re.split(r"[\s\-]+", prompt.lower())
        if word
    )
    return tuple(dict.fromkeys(word for word in words if word not in trained))


def _data_folder() -> Traversable:
    return resources.files("cliper_model") / "data"


def _read(folder: str, name: str) -> dict[str, Any]:
    path = _data_folder() / folder / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))
