"""The trained CLIP's own coarse maps of training scenes: what refinement learns to correct."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from .evaluation import Sight
from .scene_store import SceneStore

MOST_CLASSES: Final = 10
"""Scenes with more labels, or with a single one, are left out of the training."""


@dataclass(frozen=True)
class CoarseMaps:
    """Maps of the labels a scene shows, in the order of their ids; the rest is zero."""

    labels: NDArray[np.uint8]  # [n, MOST_CLASSES]; label ids, 0 for none
    maps: NDArray[np.float16]  # [n, MOST_CLASSES, g, g]

    @property
    def usable(self) -> NDArray[np.int64]:
        """Indices of scenes with maps."""
        return np.flatnonzero(self.labels[:, 1])


def extract(folder: Path, sight: Sight, store: SceneStore, *, count: int) -> CoarseMaps:
    """Coarse maps of the first `count` scenes, kept in `folder`; continues where it stopped."""
    count = min(count, len(store))
    stamp = folder / "coarse.json"
    done = json.loads(stamp.read_text())["done"] if stamp.is_file() else 0
    grid = sight.grid(store.images.shape[1])
    folder.mkdir(parents=True, exist_ok=True)
    mode = "r+" if done else "w+"
    labels = np.lib.format.open_memmap(folder / "labels.npy", mode, np.uint8, (count, MOST_CLASSES))
    maps = np.lib.format.open_memmap(
        folder / "maps.npy", mode, np.float16, (count, MOST_CLASSES, grid, grid)
    )
    for index in tqdm(range(done, count), desc="coarse maps", unit="scene"):
        shown = np.unique(store.label_map(index))
        shown = shown[shown > 0]
        if 2 <= len(shown) <= MOST_CLASSES:
            with torch.no_grad():
                found = sight.coarse(np.asarray(store.images[index]), shown)
            labels[index, : len(shown)] = shown
            maps[index, : len(shown)] = found.numpy()
        if (index + 1) % 500 == 0 or index + 1 == count:
            stamp.write_text(json.dumps({"done": index + 1}))
    return open_coarse(folder)


def open_coarse(folder: Path) -> CoarseMaps:
    """Maps extracted before."""
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    return CoarseMaps(labels, np.load(folder / "maps.npy", mmap_mode="r"))
