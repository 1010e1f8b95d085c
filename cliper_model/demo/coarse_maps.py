"""The trained CLIP's own coarse maps of training scenes: what refinement learns to correct."""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from .evaluation import Inference, Sight
from .export import read_clip
from .scene_store import open_store

MOST_CLASSES: Final = 10
"""Scenes with more labels, or with a single one, are left out of the training."""

_CHUNK = 100


@dataclass(frozen=True)
class CoarseMaps:
    """Maps of the labels a scene shows, in the order of their ids; the rest is zero."""

    labels: NDArray[np.uint8]  # [n, MOST_CLASSES]; label ids, 0 for none
    maps: NDArray[np.float16]  # [n, MOST_CLASSES, g, g]

    @property
    def usable(self) -> NDArray[np.int64]:
        """Indices of scenes with maps."""
        return np.flatnonzero(self.labels[:, 1])


@dataclass(frozen=True)
class _Job:
    folder: Path
    weights: Path
    scenes: Path
    inference: Inference
    start: int
    stop: int


def extract(
    folder: Path,
    *,
    weights: Path,
    scenes: Path,
    inference: Inference,
    count: int,
    workers: int = 2,
    progress: bool = True,
) -> CoarseMaps:
    """Coarse maps of the first `count` scenes of a store, kept in `folder`.

    They are made anew when the CLIP in `weights` or the inference choices have changed.
    """
    count = min(count, len(open_store(scenes)))
    digest = hashlib.sha256((weights / "clip.safetensors").read_bytes()).hexdigest()
    wanted = {"count": count, "clip": digest, "inference": asdict(inference)}
    stamp = folder / "coarse.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return open_coarse(folder)
    folder.mkdir(parents=True, exist_ok=True)
    grid = Sight(read_clip(weights), inference).grid(open_store(scenes).images.shape[1])
    shape = (count, MOST_CLASSES)
    np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, shape)
    np.lib.format.open_memmap(folder / "maps.npy", "w+", np.float16, (*shape, grid, grid))
    jobs = [
        _Job(folder, weights, scenes, inference, start, min(count, start + _CHUNK))
        for start in range(0, count, _CHUNK)
    ]
    bar = tqdm(total=count, desc="coarse maps", unit="scene", disable=not progress)
    if workers < 2 or len(jobs) < 2:
        for job in jobs:
            bar.update(_extract_chunk(job))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for done in pool.map(_extract_alone, jobs):
                bar.update(done)
    bar.close()
    stamp.write_text(json.dumps(wanted))
    return open_coarse(folder)


def open_coarse(folder: Path) -> CoarseMaps:
    """Maps extracted before."""
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    return CoarseMaps(labels, np.load(folder / "maps.npy", mmap_mode="r"))


def _extract_alone(job: _Job) -> int:
    """In a process of a pool: every process has one thread."""
    torch.set_num_threads(1)
    return _extract_chunk(job)


def _extract_chunk(job: _Job) -> int:
    store, sight = open_store(job.scenes), Sight(read_clip(job.weights), job.inference)
    labels = np.lib.format.open_memmap(job.folder / "labels.npy", "r+")
    maps = np.lib.format.open_memmap(job.folder / "maps.npy", "r+")
    for index in range(job.start, job.stop):
        shown = np.unique(store.label_map(index))
        shown = shown[shown > 0]
        if 2 <= len(shown) <= MOST_CLASSES:
            with torch.no_grad():
                found = sight.coarse(np.asarray(store.images[index]), shown.tolist())
            labels[index, : len(shown)] = shown
            maps[index, : len(shown)] = found.numpy()
    return job.stop - job.start
