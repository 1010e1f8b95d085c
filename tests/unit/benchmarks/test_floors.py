"""What a computation must do: operations, bytes, and the most it makes at one time."""

import torch

from benchmarks import floors

SIDE = 64
MATRIX = SIDE * SIDE * 4  # bytes


def test_two_products_in_a_row_hold_two_matrices_at_one_time() -> None:
    there = torch.ones(SIDE, SIDE)

    def chain() -> torch.Tensor:
        product = there @ there
        product = product @ there
        return product.relu_()

    work = floors.work_of(chain)

    assert work.flops == {"float32": 2 * 2 * SIDE**3}
    assert work.peak_bytes == 2 * MATRIX


def test_what_was_there_before_and_views_of_it_are_not_made() -> None:
    there = torch.ones(SIDE, SIDE)

    work = floors.work_of(lambda: there.T.reshape(SIDE, SIDE).add_(1))

    assert work.peak_bytes == 0
    assert work.bytes == 2 * MATRIX
