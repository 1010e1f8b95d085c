"""Many scenes on disk, drawn once by several processes and read through memory maps."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .scenes import COLOURS, HOURS, LABEL_IDS, LABELS, PATTERNS, Item, make_scene

COLOUR_WORDS: Final = tuple(COLOURS)
MOST_ITEMS: Final = 40  # items of one scene
FORMAT: Final = 3  # raise whenever the same seed draws other scenes, or tables change
_CHUNK = 250  # scenes drawn from one generator


@dataclass(frozen=True)
class SceneStore:
    """Memory-mapped scenes. A scene's instance `k` is column `k` of the tables of its items."""

    images: NDArray[np.uint8]  # [n, size, size, 3]
    instances: NDArray[np.uint8]  # [n, size, size]
    labels: NDArray[np.uint8]  # [n, 1 + MOST_ITEMS]; label id, 0 for none
    colours: NDArray[np.uint8]  # [n, 1 + MOST_ITEMS]; 1 + index in COLOUR_WORDS, 0 for none
    patterns: NDArray[np.uint8]  # [n, 1 + MOST_ITEMS]; 1 + index in PATTERNS, 0 for none
    hours: NDArray[np.uint8]  # [n, 1 + MOST_ITEMS]; 1 + index in HOURS, 0 for none

    def __len__(self) -> int:
        return len(self.images)

    def label_map(self, index: int) -> NDArray[np.uint8]:
        """Label ids of scene `index`, `[size, size]`."""
        return self.labels[index][self.instances[index]]

    def items(self, index: int) -> list[Item]:
        """What the tables say about scene `index`; position 0 is no item, as in `instances`."""
        tables = (LABELS, COLOUR_WORDS, PATTERNS, HOURS)
        rows = (self.labels, self.colours, self.patterns, self.hours)
        columns = [
            [words[value - 1] if value else None for value in row[index]]
            for words, row in zip(tables, rows, strict=True)
        ]
        return [Item(*values) for values in zip(*columns, strict=True)]


def open_store(folder: Path) -> SceneStore:
    """Map a finished store into memory, read only."""
    arrays = {name: np.load(_path(folder, name), mmap_mode="r") for name in _shapes(0, 0)}
    return SceneStore(**arrays)


def draw_store(
    folder: Path, *, count: int, seed: int, size: int = 192, workers: int = 2, progress: bool = True
) -> SceneStore:
    """Draw `count` scenes into `folder`, or reuse them when the same ones are already there.

    Every chunk has a generator of its own, so the number of workers changes nothing.
    """
    wanted = {"format": FORMAT, "count": count, "seed": seed, "size": size}
    stamp = folder / "store.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return open_store(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in _shapes(count, size).items():
        np.lib.format.open_memmap(_path(folder, name), "w+", np.uint8, shape)
    starts = range(0, count, _CHUNK)
    chunks = [(folder, seed, start, min(count, start + _CHUNK)) for start in starts]
    bar = tqdm(total=count, desc="drawing scenes", unit="scene", disable=not progress)
    for drawn in _run(chunks, workers):
        bar.update(drawn)
    bar.close()
    stamp.write_text(json.dumps(wanted))
    return open_store(folder)


def _run(chunks: list[tuple[Path, int, int, int]], workers: int) -> Iterator[int]:
    if workers < 2 or len(chunks) < 2:
        yield from map(_draw_chunk, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_chunk, chunks)


def _draw_chunk(job: tuple[Path, int, int, int]) -> int:
    folder, seed, start, stop = job
    names = _shapes(0, 0)
    arrays = {name: np.lib.format.open_memmap(_path(folder, name), "r+") for name in names}
    rng = np.random.default_rng((seed, start))
    size = arrays["images"].shape[1]
    for index in range(start, stop):
        scene = make_scene(rng, size)
        if len(scene.items) > MOST_ITEMS:
            raise ValueError(f"a scene has {len(scene.items)} items; room for {MOST_ITEMS}")
        arrays["images"][index] = scene.image
        arrays["instances"][index] = scene.instances
        for number, item in enumerate(scene.items, 1):
            arrays["labels"][index, number] = LABEL_IDS[item.label] if item.label else 0
            arrays["colours"][index, number] = _code(item.colour, COLOUR_WORDS)
            arrays["patterns"][index, number] = _code(item.pattern, PATTERNS)
            arrays["hours"][index, number] = _code(item.hour, HOURS)
    return stop - start


def _code(word: str | None, words: tuple[str, ...]) -> int:
    return 1 + words.index(word) if word else 0


def _shapes(count: int, size: int) -> dict[str, tuple[int, ...]]:
    return {
        "images": (count, size, size, 3),
        "instances": (count, size, size),
        **dict.fromkeys(("labels", "colours", "patterns", "hours"), (count, 1 + MOST_ITEMS)),
    }


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"
