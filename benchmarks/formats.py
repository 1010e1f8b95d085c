"""Every region format at full size: 10,000 masks there and back, and the pace of brush code.

    python -m benchmarks.formats [--masks 10000]

Needs node and npm: brush code is read and written by the editor's own package too. Ends 0 when
every stream equals the SDK's, both readers agree on it, every format brings every mask back as
well as it can, and packing takes at most a fifth of the SDK's time.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from label_studio_sdk.converter.brush import mask2rle
from tqdm import tqdm

from backend.labelstudio import rle
from backend.labelstudio.regions import FORMATS, RegionControl
from backend.labelstudio.regions.pieces import pieces

from . import record
from .rle_peer import Peer

SEED: Final = 20_251_128
LARGEST: Final = 48  # pixels along a side of a random mask
SIZES_HW: Final = ((1000, 1000), (2000, 2000), (3000, 4000))
REPETITIONS: Final = 11
LEAST_RATIO: Final = 5.0
SMOOTH: Final = 40  # smooth masks for the outlines' own bound
OUTLINED: Final = ("polygon", "vector")
LEAST_IOU: Final = {"bitmask": 0.99, "polygon": 0.97, "vector": 0.97}

Mask = Bool[np.ndarray, "height width"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=10_000)
    count = parser.parse_args().masks
    masks = list(random_masks(count))
    figures = {
        "masks": count,
        "seed": SEED,
        "brush code": brush_code(masks),
        "random masks": random_round_trips(masks),
        "smooth masks, worst IoU": smooth_round_trips(),
        "pace": pace(),
    }
    wrong = failures(figures)
    record.write("proof-formats", {**figures, "holds": not wrong})
    print(json.dumps(figures, indent=1))
    print("\n".join(wrong) or "every format holds")
    return 1 if wrong else 0


def random_masks(count: int) -> Iterator[Mask]:
    """Noise of every density, and blobs; one in twenty has runs of thousands."""
    random = np.random.default_rng(SEED)
    for index in range(count):
        height, width = random.integers(1, LARGEST + 1, 2)
        if index % 20 == 0:
            height, width = height + 100, width + 100
        grain = 1 if index % 3 == 0 else int(random.integers(2, 12))
        noise = random.random((-(-height // grain), -(-width // grain))).astype(np.float32)
        hills = cv2.resize(noise, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
        yield np.asarray(hills < random.random())


def smooth_mask(size_hw: tuple[int, int], seed: int, *, cell: int = 100) -> Mask:
    """Two fifths of the picture in blobs with smooth outlines, some `cell` pixels wide."""
    random = np.random.default_rng(seed)
    places = (size_hw[0] // cell + 3, size_hw[1] // cell + 3)
    hills = cv2.resize(
        random.random(places).astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC
    )
    return np.asarray(hills > float(np.quantile(np.asarray(hills, np.float64), 0.6)))


def brush_code(masks: list[Mask]) -> dict[str, int]:
    """How many masks are packed and unpacked alike by us, the SDK and the editor's package."""
    opaque = [mask.astype(np.uint8) * 255 for mask in masks]
    packed = [rle.encode(one) for one in opaque]
    rgba = [np.repeat(one.ravel(), rle.CHANNELS).tobytes() for one in opaque]
    with tempfile.TemporaryDirectory() as folder:
        answers = Peer(Path(folder)).answers(list(zip(rgba, packed, strict=True)))
    return {
        "bytes equal the SDK's": sum(
            list(ours) == mask2rle(one) for ours, one in zip(packed, tqdm(opaque), strict=True)
        ),
        "ours read back by us": _read_alike(packed, opaque),
        "ours read by the peer": sum(
            answer.unpacked == values for answer, values in zip(answers, rgba, strict=True)
        ),
        "the peer's read by us": _read_alike([answer.packed for answer in answers], opaque),
    }


def _read_alike(streams: list[bytes], opaque: list[UInt8[np.ndarray, "height width"]]) -> int:
    return sum(
        np.array_equal(rle.decode(stream, size_hw=(one.shape[0], one.shape[1])), one)
        for stream, one in zip(streams, opaque, strict=True)
    )


def random_round_trips(masks: list[Mask]) -> dict[str, dict[str, float]]:
    """By format: masks that came back wrong, or whose boxes and so on break their definition.

    Outlines are drawn with a tolerance of zero; a slit into a hole may cost a pixel, so what
    counts there are wrong pixels beyond one per hole.
    """
    found: dict[str, dict[str, float]] = {
        kind: {"masks wrong": 0, "regions": 0} for kind in FORMATS if not kind.endswith("labels")
    }
    for mask in tqdm(masks):
        parts = list(pieces(mask))
        for kind, figures in found.items():
            if kind in OUTLINED and max(mask.shape) > LARGEST:
                continue  # noise of more holes than are cut open
            regions = encode(kind, mask, tolerance=0.0, most_points=20_000)
            figures["regions"] += len(regions)
            figures["masks wrong"] += not _came_back(kind, regions, mask, parts)
    return found


def _came_back(kind: str, regions: list[Any], mask: Mask, parts: list[Any]) -> bool:
    size_hw = (mask.shape[0], mask.shape[1])
    painted = [FORMATS[kind].decode(region, size_hw) for region in regions]
    back = np.logical_or.reduce(painted) if painted else np.zeros(size_hw, bool)
    if kind in ("brush", "bitmask"):
        return np.array_equal(back, mask)
    if len(regions) != len(parts):
        return False
    if kind in OUTLINED:
        seen = np.zeros(size_hw, bool)
        for part in parts:
            left, top, right, bottom = part.box_xyxy
            seen[top:bottom, left:right] |= part.crop
        return int(np.count_nonzero(back ^ seen)) <= _holes(mask)
    return all(
        _keeps_its_definition(kind, region, one, part, size_hw)
        for region, one, part in zip(regions, painted, parts, strict=True)
    )


def _keeps_its_definition(
    kind: str, region: Any, painted: Mask, part: Any, size_hw: tuple[int, int]
) -> bool:
    left, top, right, bottom = part.box_xyxy
    value = region["value"]
    if kind == "rectangle":
        box = np.zeros(size_hw, bool)
        box[top:bottom, left:right] = True
        return np.array_equal(painted, box)
    x, y = value["x"] / 100 * size_hw[1], value["y"] / 100 * size_hw[0]
    if kind == "keypoint":
        return bool(part.crop[int(y) - top, int(x) - left])
    rows, columns = np.nonzero(part.crop)
    return abs(columns.mean() + left + 0.5 - x) < 0.01 and abs(rows.mean() + top + 0.5 - y) < 0.01


def _holes(mask: Mask) -> int:
    return max(0, sum(1 for _ in pieces(~np.pad(mask, 1))) - 1)


def smooth_round_trips() -> dict[str, float]:
    """By format: the lowest IoU with the formats' own tolerance, also of masks that are reduced."""
    worst = dict.fromkeys(LEAST_IOU, 1.0)
    for seed in tqdm(range(SMOOTH)):
        size_hw = (3000, 4000) if seed % 20 == 0 else (480 + 13 * seed, 640)
        mask = smooth_mask(size_hw, seed, cell=size_hw[1] // 6)
        for kind in worst:
            back = np.zeros(size_hw, bool)
            for region in encode(kind, mask):
                back |= FORMATS[kind].decode(region, size_hw)
            iou = np.count_nonzero(back & mask) / np.count_nonzero(back | mask)
            worst[kind] = min(worst[kind], iou)
    return worst


def encode(kind: str, mask: Mask, **changes: Any) -> list[Any]:
    control = RegionControl(
        kind=kind,
        from_name="tag",
        to_name="image",
        label="Cat",
        region_id="r",
        **changes,
    )
    return FORMATS[kind].encode(mask, control)


def pace() -> dict[str, dict[str, float]]:
    """Milliseconds to pack smooth masks into the list of a region, ours and the SDK's in turn."""
    found = {}
    for size_hw in SIZES_HW:
        opaque = smooth_mask(size_hw, SEED).astype(np.uint8) * np.uint8(255)
        ours, theirs = [], []
        for _ in range(REPETITIONS):
            begin = time.perf_counter()
            packed = list(rle.encode(opaque))
            between = time.perf_counter()
            expected = mask2rle(opaque)
            theirs.append(time.perf_counter() - between)
            ours.append(between - begin)
        if packed != expected:
            raise AssertionError(f"{size_hw} is packed differently")
        found[f"{size_hw[0] * size_hw[1] / 1e6:g} MP"] = {
            "ours, ms": median(ours) * 1e3,
            "SDK, ms": median(theirs) * 1e3,
            "ratio": median(their / our for their, our in zip(theirs, ours, strict=True)),
        }
    return found


def failures(figures: dict[str, Any]) -> list[str]:
    """One sentence per claim that does not hold."""
    wrong = [
        f"brush code: {name} for {alike} of {figures['masks']}"
        for name, alike in figures["brush code"].items()
        if alike != figures["masks"]
    ]
    wrong += [
        f"{kind}: {worst['masks wrong']} random masks did not come back"
        for kind, worst in figures["random masks"].items()
        if worst["masks wrong"]
    ]
    wrong += [
        f"{kind}: IoU {iou:.4f} of a smooth mask, less than {LEAST_IOU[kind]}"
        for kind, iou in figures["smooth masks, worst IoU"].items()
        if iou < LEAST_IOU[kind]
    ]
    ratio = median(one["ratio"] for one in figures["pace"].values())
    if ratio < LEAST_RATIO:
        wrong.append(f"packing is {ratio:.1f} times as quick as the SDK's, less than {LEAST_RATIO}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
