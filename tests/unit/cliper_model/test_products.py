"""Products by either library, and which one is taken."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cliper_model.stages import products

AMD = {"avx512_f": True, "cpu_name": "AMD EPYC"}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("wide", [False, True], ids=["torch", "onednn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 1, 1), (7, 66, 20), (64, 5, 300)])
def test_both_libraries_multiply(
    rows: int,
    inner: int,
    columns: int,
    dtype: torch.dtype,
    wide: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "takes_all_of_the_width", lambda: wide)
    left, right = drawn(rows, inner, seed=1).to(dtype), drawn(columns, inner, seed=2).to(dtype)
    wanted = (left.double() @ right.double().T).to(dtype)
    room = torch.empty(rows, columns, dtype=dtype)
    factor = products.laid_out(right)

    assert factor.is_mkldnn == wide
    for found in (
        products.product(left, right),
        products.product(left, factor),
        products.product(left, factor, out=room),
        products.product(left, products.laid_out(right.T.contiguous().T)),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("wide", [False, True], ids=["torch", "onednn"])
def test_sums_have_a_bias_and_negative_ones_a_factor(
    wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "takes_all_of_the_width", lambda: wide)
    left, right, bias = drawn(7, 12, seed=1), drawn(20, 12, seed=2), drawn(20, seed=3)
    wanted = left @ right.T
    room = torch.empty(7, 20)

    torch.testing.assert_close(products.product(left, right, bias), wanted + bias)
    torch.testing.assert_close(products.product(left, right, bias, out=room), wanted + bias)
    steep = products.product(left, right, below_zero=1e30)
    torch.testing.assert_close(steep, wanted.where(wanted > 0, 1e30 * wanted))
    assert bool((steep.exp2() == 0).any())


def test_other_numbers_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "takes_all_of_the_width", lambda: True)
    left, right = drawn(3, 4, seed=1).double(), drawn(5, 4, seed=2).double()

    assert products.laid_out(right) is right
    torch.testing.assert_close(products.product(left, right), left @ right.T)


@pytest.mark.parametrize(
    ("told", "wide"),
    [
        (AMD, True),
        ({**AMD, "cpu_name": "Intel(R) Xeon(R) Processor"}, False),
        ({**AMD, "avx512_f": False}, False),
        ({"avx512_f": True}, False),
        ({}, False),
    ],
)
def test_onednn_multiplies_where_the_width_is_not_intels(
    told: dict[str, Any], wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)

    assert products.takes_all_of_the_width.__wrapped__() == wide


def test_a_torch_without_mkl_multiplies_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AMD)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)

    assert not products.takes_all_of_the_width.__wrapped__()


def test_a_torch_without_the_operators_multiplies_as_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: AMD)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(products, "OPERATORS", ("_no_such_operator",))

    assert not products.takes_all_of_the_width.__wrapped__()


def test_a_torch_that_does_not_tell_multiplies_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")

    assert not products.takes_all_of_the_width.__wrapped__()
