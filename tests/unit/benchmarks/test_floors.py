"""What a computation must do: operations, bytes, and the most it makes at one time."""

import torch
from torch import nn

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


def test_a_bias_in_another_format_is_not_what_is_multiplied() -> None:
    plain, packed = nn.Linear(8, 16).bfloat16(), torch.ops.mkldnn._linear_pointwise
    given, bias = torch.ones(4, 8, dtype=torch.bfloat16), torch.zeros(16)

    with torch.no_grad():
        work = floors.work_of(lambda: packed(given, plain.weight, bias, "none", [], ""))
        alike = floors.work_of(lambda: plain(given))

    assert work.flops == alike.flops == {"bfloat16": 2 * 4 * 8 * 16}
