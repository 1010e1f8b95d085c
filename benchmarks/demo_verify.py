"""Recompute every figure of the demo weights' card, in time, and hold them against what is asked.

    python -m benchmarks.demo_verify [--generator FILE]

The figures are those of `cliper train-demo --verify`. Ends 0 when no figure differs from the
card, none misses its target, and it took no longer than ten minutes on two cores.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cliper_model.demo.export import size_in_bytes
from cliper_model.demo.verify import Row, report, verify
from cliper_model.profiles import demo_folder

from . import record

AT_LEAST: Final[Mapping[str, float]] = {
    "given: mIoU": 66,
    "all: mIoU": 57,
    "presence as shipped: precision": 90,
    "presence as shipped: recall": 90,
    "refinement: given: gain of mIoU": 4,
    "refinement: given: gain of outline mIoU": 8,
    "described: higher score, refined": 85,
}
AT_MOST: Final[Mapping[str, float]] = {
    "presence as shipped: false labels per image": 0.4,
    "refinement: given: largest loss of a label by refinement": 1,
}
WEAKEST: Final = 30  # IoU of any label, in percent, without refinement
MOST_BYTES: Final = 12e6
MOST_SECONDS: Final = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", type=Path, help="scenes of another generator")
    began = time.monotonic()
    verdict = verify(demo_folder(), generator=parser.parse_args().generator)
    seconds = time.monotonic() - began
    for line in report(verdict):
        print(line)
    missed = [*verdict.problems, *misses(verdict.rows)]
    if seconds > MOST_SECONDS:
        missed.append(f"it took {seconds:.0f} seconds")
    if (size := size_in_bytes(demo_folder())) > MOST_BYTES:
        missed.append(f"the files have {size} bytes")
    now = {row.figure: round(row.now, row.digits) for row in verdict.rows}
    record.write(
        "proof-demo-verify",
        {
            "seconds": round(seconds),
            "bytes": size,
            "figures": len(now),
            "differences": list(verdict.problems),
            "missed": missed,
            "targets": {name: now[name] for name in (*AT_LEAST, *AT_MOST)},
        },
    )
    print("\n".join(missed) or f"everything holds, after {seconds:.0f} seconds")
    return 1 if missed else 0


def misses(rows: tuple[Row, ...]) -> Iterator[str]:
    """Every target that the figures of now do not reach."""
    now = {row.figure: row.now for row in rows}
    for name, least in AT_LEAST.items():
        if now[name] < least:
            yield f"{name} is {now[name]:.1f}, at least {least} is asked"
    for name, most in AT_MOST.items():
        if now[name] > most:
            yield f"{name} is {now[name]:.2f}, at most {most} is asked"
    for name, value in now.items():
        if name.startswith(("given: IoU per label", "all: IoU per label")) and value < WEAKEST:
            yield f"{name} is {value:.1f}, at least {WEAKEST} is asked"


if __name__ == "__main__":
    raise SystemExit(main())
