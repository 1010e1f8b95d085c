"""How many pictures must be corrected when `cliper next` chooses them, and when chance does.

    python -m benchmarks.choosing [--seeds 5] [--shifts palette texture night]

Out of 200 drawn pictures ten at a time are chosen, painted as they are, and learnt from; quality is
mIoU over the places of 100 other pictures. Asked is how many chosen ones are as good as 100 that
chance took. Writes `results/proof-choosing.json`; exit status 1 where more than 60 are needed.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float

from backend.learning import fit
from backend.learning.choosing import choose
from backend.learning.evidence import Evidence
from cliper_model.stages import places

from . import record
from .learning import Bench
from .shifts import APPEARANCE

CANDIDATES, TESTS, ROUND, MOST = 200, 100, 10, 100
PLACES: Final = 20_000  # a fit is made of at most
CHANCES: Final = 3  # orders at random, per seed
TARGET: Final = 60


class Study:
    """One shift and seed."""

    def __init__(self, shift: str, seed: int) -> None:
        self.bench = Bench(shift, seed, tests=0)
        drawn = self.bench.more(CANDIDATES + TESTS)
        self.candidates, tests = drawn[:CANDIDATES], drawn[CANDIDATES:]
        self.tests = self._places(tests, most=10**9)
        self.pool = self._places(self.candidates, most=10**9)

    def _places(self, evidence: Sequence[Evidence], *, most: int) -> Any:
        used = fit._usable(evidence, self.bench.course)
        return fit._gathered(used, self.bench.course, most=most)

    def fitted(self, chosen: Sequence[int]) -> Any:
        place = self._places([self.candidates[one] for one in chosen], most=PLACES)
        return fit._fitted(place, self.bench.course, ridge=fit.USUAL_RIDGE, words=False)

    def quality(self, found: Any) -> float:
        told = torch.softmax(found.logits(self.tests, self.bench.course), dim=1)
        return 100 * fit._tally(told, self.tests, TESTS).miou

    def doubt(self, found: Any | None) -> Float[np.ndarray, "tasks labels"]:
        """Of every candidate, as `Looking.doubts` has it."""
        if found is None:
            logits = places.outcome_logits(self.pool.rows, self.bench.vocabulary)
        else:
            logits = found.logits(self.pool, self.bench.course)
        told = torch.softmax(logits, dim=1)[:, :-1]
        index = torch.from_numpy(self.pool.task)
        summed = torch.zeros(CANDIDATES, told.shape[1]).index_add_(0, index, told * (1 - told))
        each = torch.bincount(index, minlength=CANDIDATES)[:, None]
        return (summed / each).double().numpy()


def run(shift: str, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    study = Study(shift, seed)
    counts = range(ROUND, MOST + 1, ROUND)
    chance = []
    for order in range(CHANCES):
        taken = np.random.default_rng([seed, order]).permutation(CANDIDATES)
        chance.append([study.quality(study.fitted(taken[:count].tolist())) for count in counts])
    chosen: list[int] = []
    found, curve = None, []
    for _ in counts:
        doubt = study.doubt(found)
        left = [one for one in range(CANDIDATES) if one not in set(chosen)]
        seen = doubt[chosen].sum(axis=0)
        chosen += [left[one] for one in choose(doubt[left], seen=seen, count=ROUND)]
        found = study.fitted(chosen)
        curve.append(study.quality(found))
    random = np.mean(chance, axis=0)
    print(shift, seed, "random", np.round(random, 1), "chosen", np.round(curve, 1), flush=True)
    return {"shift": shift, "seed": seed, "random": random.tolist(), "chosen": curve}


def needed(chosen: Float[np.ndarray, " rounds"], target: float) -> float:
    """How many chosen ones reach the target, in between by a straight line; else `MOST` + 1."""
    if chosen[0] >= target:
        return float(ROUND)
    for place in range(1, len(chosen)):
        low, high = chosen[place - 1], chosen[place]
        if low < target <= high:
            return float(ROUND * (place + (target - low) / (high - low)))
    return MOST + 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description="What choosing pictures saves.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--shifts", nargs="+", choices=APPEARANCE, default=list(APPEARANCE))
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()

    wanted = [(shift, seed) for seed in args.seeds for shift in args.shifts]
    with multiprocessing.get_context("spawn").Pool(args.workers, maxtasksperchild=1) as pool:
        results = pool.starmap(run, wanted, chunksize=1)
    summary: dict[str, Any] = {}
    for shift in args.shifts:
        runs = [one for one in results if one["shift"] == shift]
        random = np.mean([one["random"] for one in runs], axis=0)
        chosen = np.mean([one["chosen"] for one in runs], axis=0)
        each = [needed(np.array(one["chosen"]), one["random"][-1]) for one in runs]
        summary[shift] = {
            "random": np.round(random, 2).tolist(),
            "chosen": np.round(chosen, 2).tolist(),
            "chosen ones as good as 100 random ones": round(needed(chosen, random[-1]), 1),
            "by seed": [round(one, 1) for one in each],
        }
    name = "chosen ones as good as 100 random ones"
    passed = all(one[name] <= TARGET for one in summary.values())
    path = record.write("proof-choosing", {"passed": passed, "summary": summary, "runs": results})
    print({shift: one[name] for shift, one in summary.items()}, path.name)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
