"""What new words cost at true size, and the same words from the shelf, on a CPU in float32.

    python -m benchmarks.words [--cache .cache/true-size] [--limit 10]

Random ViT-B/16 weights are written once in the true layout (0.6 GB). The profile `fast` reads 20
words it never saw, 15 sentences each; then the same from memory, and, as after a restart, by
another copy of the model from a SQLite file opened anew. Writes `results/proof-words.json`. Exit
status 1 if new words take longer than the limit, or a remembered row differs in any bit from the
one that was computed, or a row from the one of its word in other company or alone.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import cliper_model
from backend.keeping import Keeping
from backend.row_shelf import KeptRows
from backend.storage.open import open_storage
from cliper_model import prompts
from cliper_model.backbones.clip import ClipBackbone

from . import record, true_size

TEMPLATES = prompts.templates("15")
WORDS = (
    "sky", "grass", "house", "tree", "car", "person", "traffic light", "zebra crossing", "bicycle",
    "dining table", "potted plant", "television", "sofa", "bottle", "motorbike", "old wooden boat",
    "water", "road", "roof with red tiles", "dog",
)  # fmt: skip
BLOB_BYTES = 512_000_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=true_size.ROOT / ".cache" / "true-size")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for 20 new words")
    args = parser.parse_args()
    weights: Path = args.cache.absolute()
    true_size.synthesise_clip(weights)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(weights, f"sqlite:{folder}/cliper.sqlite")
    figures["limit_seconds"] = args.limit
    figures["passed"] = figures["new"]["seconds"] <= args.limit and figures["equal_bits"]
    print(json.dumps(figures, indent=1))
    print(record.write("proof-words", figures))
    return 0 if figures["passed"] else 1


def measure(weights: Path, address: str) -> dict[str, Any]:
    """Seconds and sources of the rows, read four times."""
    store = open_storage(address, max_blob_bytes=BLOB_BYTES)
    keeping = Keeping(store)
    shelf = KeptRows(keeping)
    clip = loaded(weights, shelf)
    clip.encode_text(clip.tokenize(["warm up"]))
    made, new = timed(clip, shelf)
    near, memory = timed(clip, shelf)
    keeping.close()
    store.close()

    store = open_storage(address, max_blob_bytes=BLOB_BYTES)
    keeping = Keeping(store)
    shelf = KeptRows(keeping)
    clip = loaded(weights, shelf)
    far, stored = timed(clip, shelf)
    keeping.close()
    store.close()

    turned = loaded(weights, None).encode_words(WORDS[::-1], TEMPLATES).flip(0)
    alone = loaded(weights, None).encode_words(WORDS[:1], TEMPLATES)
    return {
        "profile": "fast",
        "weights": "random, true layout and size",
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "words": len(WORDS),
        "sentences": len(WORDS) * len(TEMPLATES),
        "new": new,
        "from_memory": memory,
        "from_store": stored,
        "equal_bits": all(torch.equal(made, other) for other in (near, far, turned))
        and torch.equal(made[:1], alone),
    }


def loaded(weights: Path, shelf: KeptRows | None) -> ClipBackbone:
    """The CLIP of the profile `fast`."""
    method: Any = cliper_model.load(
        "fast", device="cpu", dtype="float32", weights_dir=weights, shelf=shelf
    )
    clip: ClipBackbone = method.clip
    return clip


def timed(clip: ClipBackbone, shelf: KeptRows) -> tuple[torch.Tensor, dict[str, Any]]:
    """The rows, the seconds they took, and where they came from."""
    before = shelf.facts()
    began = time.perf_counter()
    rows = clip.encode_words(WORDS, TEMPLATES)
    seconds = round(time.perf_counter() - began, 4)
    came = {where: count - before[where] for where, count in shelf.facts().items()}
    return rows, {"seconds": seconds, **came}


if __name__ == "__main__":
    raise SystemExit(main())
