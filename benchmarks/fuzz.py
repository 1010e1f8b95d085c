"""Hostile input for every route and decoder: nothing breaks, and memory is bounded.

    python -m benchmarks.fuzz [--cases 100000] [--seed 9] [--only NUMBER]

Ends 1 at the first case that breaks something, and says which; `--only` runs that one alone. What
must hold of each is in `tests/fuzz/rig.py`; `make test` runs the first 5,000.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.cases import case
from tests.fuzz.rig import Broken, rig
from tests.fuzz.running import MOST_HELD_MIB, MOST_PEAK_MIB, run

from . import record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one case, told in full")
    parser.add_argument("--name", default="proof-fuzz", help="of the file with the result")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # decoders warn of damage, which is all there is here
    with tempfile.TemporaryDirectory() as folder:
        try:
            if args.only is not None:
                return _one(args.seed, args.only, Path(folder))
            return _all(args.seed, args.cases, Path(folder), name=args.name)
        except Broken as broken:
            print(broken, file=sys.stderr)
            return 1


def _one(seed: int, number: int, folder: Path) -> int:
    one = case(seed, number)
    print(one)
    with rig(folder) as service:
        print(service.run(one))
    return 0


def _all(seed: int, count: int, folder: Path, *, name: str) -> int:
    begun, cpu = time.perf_counter(), time.process_time()
    with _quiet_decoders():
        figures = run(seed, count, folder, lambda done: print(f"\r{done}", end="", flush=True))
    print()
    peak, held = figures.peak_growth_mib, figures.held_growth_mib
    bounded = peak is not None and held is not None
    bounded = bounded and (peak or 0) < MOST_PEAK_MIB and (held or 0) < MOST_HELD_MIB
    path = record.write(
        name,
        {
            "cases": count,
            "seed": seed,
            "seconds": round(time.perf_counter() - begun, 1),
            "processor seconds": round(time.process_time() - cpu, 1),
            "how each kind ended": figures.by_kind,
            "answers of 500 and above": 0,  # one would have ended the run
            "threads that ended": 0,
            "peak growth, MiB": peak,
            "peak growth allowed, MiB": MOST_PEAK_MIB,
            "growth held at the end, MiB": held,
            "growth held allowed, MiB": MOST_HELD_MIB,
            "holds": bounded,
        },
    )
    print(f"{path}: {count} cases, peak {peak} MiB and {held} MiB held above the warm-up")
    return 0 if bounded else 1


class _quiet_decoders:
    """libtiff writes of every broken tag to the process' own standard error."""

    def __enter__(self) -> None:
        self._kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def __exit__(self, *error: object) -> None:
        os.dup2(self._kept, 2)
        os.close(self._kept)


if __name__ == "__main__":
    raise SystemExit(main())
