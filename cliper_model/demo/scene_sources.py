"""Where the scenes come from that weights are measured on: kept, drawn anew, or drawn by a file.

A source is a small value that travels to a worker process; opened, it draws by index.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UnusableGenerator
from .scene_store import open_store
from .scenes import LABEL_IDS, Item, label_table, make_scene

SIZE: Final = 192  # pixels of a side

Drawn = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Picture `[S, S, 3]`, and label ids `[S, S]` with 0 where nothing is labelled."""


class Source(Protocol):
    """Scenes by index, the same ones whenever it is opened."""

    def open(self) -> Callable[[int], Drawn]: ...


@dataclass(frozen=True)
class StoredScenes:
    """Scenes of a store that `draw_store` filled."""

    folder: Path

    def open(self) -> Callable[[int], Drawn]:
        store = open_store(self.folder)
        return lambda index: (np.asarray(store.images[index]), store.label_map(index))


@dataclass(frozen=True)
class StyledScenes:
    """Scenes of our generator in one of its styles."""

    style: str
    seed: int

    def open(self) -> Callable[[int], Drawn]:
        def draw(index: int) -> Drawn:
            rng = np.random.default_rng((self.seed, index))
            scene = make_scene(rng, SIZE, style=self.style)
            return scene.image, scene.label_map()

        return draw


@dataclass(frozen=True)
class OtherScenes:
    """Scenes of another generator: a Python file with a function `scene(rng, size)`.

    The function returns the picture (uint8 `[S, S, 3]`), instances (uint8 `[S, S]`) and a list
    of `(label or None, colour or None)`; instance `k` is entry `k - 1`, 0 is nothing. The file is
    run, not copied: give only one you trust.
    """

    path: Path
    seed: int

    def open(self) -> Callable[[int], Drawn]:
        """Raises UnusableGenerator for a file without such a function."""
        scene = getattr(_run_file(self.path), "scene", None)
        if not callable(scene):
            raise UnusableGenerator(f"{self.path} lacks a function scene(rng, size); add it")

        def draw(index: int) -> Drawn:
            image, instances, items = scene(np.random.default_rng((self.seed, index)), SIZE)
            return _checked(self.path, np.asarray(image), np.asarray(instances), items)

        return draw

    def sha256(self) -> str:
        """Of the file, in hexadecimal digits."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnusableGenerator(f"there is no file {path}; give the path of a scene generator")
    spec = importlib.util.spec_from_file_location("cliper_other_scenes", path)
    if spec is None or spec.loader is None:
        raise UnusableGenerator(f"{path} is no Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _checked(
    path: Path,
    image: NDArray[np.uint8],
    instances: NDArray[np.uint8],
    items: list[tuple[str | None, str | None]],
) -> Drawn:
    if image.dtype != np.uint8 or image.shape != (SIZE, SIZE, 3):
        raise UnusableGenerator(f"{path}: mend scene(), pictures must be uint8 [{SIZE}, {SIZE}, 3]")
    if instances.shape != (SIZE, SIZE) or instances.max() > len(items):
        raise UnusableGenerator(f"{path}: mend scene(), instances must number the items")
    strangers = sorted({str(item[0]) for item in items if item[0] not in (None, *LABEL_IDS)})
    if strangers:
        raise UnusableGenerator(f"{path}: mend scene(), {strangers[0]!r} is no label of ours")
    return image, label_table([Item(item[0]) for item in items])[instances]
