"""Which tasks to correct next: pure, and without chance.

Masks are learnt label by label, so what helps is to see every label where the model is in doubt.
A task is worth, for every label, how much it adds to the doubt that corrected tasks have seen of
it, on a logarithmic scale: what was seen often counts little, and what was never seen counts most.
That asks for doubtful pictures and for different ones at once.

Source: a submodular cover as for data subset selection (Wei, Iyer, Bilmes, ICML 2015). What it
saves against chance is measured by `python -m benchmarks.choosing`.
"""

from typing import Final

import numpy as np
from jaxtyping import Float

LITTLE: Final = 0.01  # doubt that counts as seen of a label before anything was; share of a picture


def choose(
    doubt: Float[np.ndarray, "tasks labels"],
    *,
    seen: Float[np.ndarray, " labels"],
    count: int,
) -> list[int]:
    """Places of at most `count` tasks in the table, the most useful first.

    doubt  of every task, how much of its picture may or may not be a label: mean of p (1 - p)
    seen   the same, summed over tasks that are corrected already

    Greedy: at least 63 % of what any choice could add. Ties go to the earlier task.
    """
    have = seen.astype(np.float64) + LITTLE
    left = np.ones(len(doubt), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(doubt))):
        gain = np.log1p(doubt / have).sum(axis=1)
        best = int(np.where(left, gain, -1.0).argmax())
        left[best] = False
        have += doubt[best]
        chosen.append(best)
    return chosen
