"""Regions of every type as editors write them, and ways to break them; brush masks bit by bit."""

import base64
import io
import struct
import zlib
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from backend.labelstudio import rle
from backend.labelstudio.regions import FORMATS, RegionControl

from .mutate import bytes_mutated, hostile, mutated
from .pictures import PNG, SIDES, chunk

Json = Any
SIZE_HW = (10, 14)
MASK = np.indices(SIZE_HW).sum(axis=0) % 7 < 4
REGIONS = tuple(
    FORMATS[kind].encode(
        MASK,
        RegionControl(
            from_name="seg",
            to_name="image",
            kind=kind,
            label="red",
            region_id="a1",
            labels_name="l" if not kind.endswith("labels") else None,
        ),
    )[0]
    for kind in FORMATS
)
CURVE = {
    "type": "vectorlabels",
    "value": {
        "closed": True,
        "vertices": [
            {"x": 10, "y": 10, "id": "a", "isBezier": True, "controlPoint1": {"x": 1, "y": 2},
             "controlPoint2": {"x": 30, "y": 5}, "prevPointId": "c"},
            {"x": 80, "y": 15, "id": "b", "prevPointId": "a"},
            {"x": 40, "y": 90, "id": "c", "prevPointId": "b"},
        ],
    },
}  # fmt: skip


def hostile_region(random: Random) -> tuple[str, Json, tuple[int, int]]:
    """A type, a broken region of it, and the picture's height and width."""
    region = random.choice((*REGIONS, CURVE))
    size_hw = random.choice((SIZE_HW, SIZE_HW, (1, 1), (400, 3), (700, 900)))
    kind = region["type"]
    if random.random() < 0.1:
        kind = random.choice(list(FORMATS))
    if kind.startswith("bitmask") and random.random() < 0.4:
        return kind, _lying_bitmask(random), size_hw
    broken = mutated(region, random) if random.random() < 0.95 else hostile(random)
    return kind, broken if isinstance(broken, dict) else {"value": broken}, size_hw


def _lying_bitmask(random: Random) -> Json:
    pick = random.random()
    if pick < 0.5:
        head = struct.pack(
            ">IIBBBBB", random.choice((*SIDES, 13_500)), random.choice((*SIDES, 13_500)),
            random.choice((1, 8, 16)), random.choice((0, 2, 3, 4, 6)), 0, 0, 0,
        )  # fmt: skip
        data = PNG + chunk(b"IHDR", head) + chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0\xff")
        data += chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    else:
        buffer = io.BytesIO()
        Image.fromarray(MASK.astype(np.uint8) * 255).convert("LA").save(buffer, "PNG")
        data = bytes_mutated(buffer.getvalue(), random)
    return {"value": {"imageDataURL": "data:image/png;base64," + base64.b64encode(data).decode()}}


class Bits:
    """A brush mask's code, written field by field."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, width: int) -> None:
        self._bits.append(f"{value & ((1 << width) - 1):0{width}b}")

    def stream(self) -> bytes:
        bits = "".join(self._bits)
        bits += "0" * (-len(bits) % 8)
        return int(f"1{bits}", 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def hostile_code(random: Random) -> tuple[Json, tuple[int, int]]:
    """A brush mask's code as the editor's JSON has it, and the picture's height and width."""
    size_hw = random.choice(
        (SIZE_HW, SIZE_HW, SIZE_HW, (1, 1), (0, 5), (300, 400), (3_000, 2_000), (30_000, 40_000))
    )
    pick = random.random()
    if pick < 0.5:
        return list(bytes_mutated(rle.encode(MASK.astype(np.uint8) * 255), random)), size_hw
    if pick < 0.9:
        return list(_written(random, size_hw)), size_hw
    return hostile(random), size_hw


def _written(random: Random, size_hw: tuple[int, int]) -> bytes:
    count = size_hw[0] * size_hw[1] * 4
    honest = random.random() < 0.6
    bits = Bits()
    bits.put(count if honest else random.choice((count, 0, 2**32 - 1, count - 1)), 32)
    word = 8 if honest else random.choice((8, 1, 3, 32))
    bits.put(word - 1, 5)
    widths = (3, 4, 8, 16)
    if not honest:
        widths = random.choice(((1, 1, 1, 1), (16, 16, 16, 16), (1, 2, 3, 4)))
    for width in widths:
        bits.put(width - 1, 4)
    left = count
    longest = random.choice((1, 2, 3, 300, 65_536))
    for _ in range(random.choice((10, 200, 2_000))):
        index = random.randrange(4)
        length = min(1 << widths[index], longest)
        if honest or random.random() < 0.9:
            length = max(1, min(length, left))
        run = random.random() < 0.6
        bits.put(int(run), 1)
        bits.put(index, 2)
        bits.put(length - 1, widths[index])
        for _ in range(1 if run else min(length, 400)):
            bits.put(random.choice((0, 255, 128, 1)), word)
        left -= length
        if left <= 0 and random.random() < 0.95:
            break
    return bits.stream()
