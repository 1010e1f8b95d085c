"""Attention a block of queries at a time against diffusers' own."""

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from cliper_model.backbones import blockwise
from cliper_model.backbones.blockwise import BlockwiseAttention


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise, "MANY", 30)


def both(layer: Attention, *given: Any) -> tuple[Tensor, Tensor]:
    """Diffusers' own, and ours."""
    with torch.no_grad():
        wanted: Tensor = layer(*given)
        BlockwiseAttention.take_over(nn.ModuleList([layer]))
        found: Tensor = layer(*given)
    return wanted, found


@pytest.mark.parametrize("rescale", [1.0, 2.0])
def test_a_map_is_attended_to_as_in_a_vae(rescale: float, few_are_many: None) -> None:
    torch.manual_seed(1)
    layer = Attention(
        16, heads=2, dim_head=8, norm_num_groups=4, bias=True, residual_connection=True,
        rescale_output_factor=rescale,
    )  # fmt: skip

    wanted, found = both(layer, drawn(2, 16, 6, 7))

    assert isinstance(layer.processor, BlockwiseAttention)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_attended_to_as_in_a_unet(dtype: torch.dtype, few_are_many: None) -> None:
    torch.manual_seed(1)
    layer = Attention(16, heads=2, dim_head=8).to(dtype)

    wanted, found = both(layer, drawn(2, 41, 16).to(dtype))

    assert found.dtype == dtype
    rounding = 0.005 if dtype == torch.bfloat16 else 1e-5  # of weights, and of sums
    torch.testing.assert_close(found, wanted, rtol=rounding, atol=rounding)


def test_short_and_crossed_attention_stay_with_diffusers(
    few_are_many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    crossed = Attention(16, cross_attention_dim=12, heads=2, dim_head=8)
    short = Attention(16, heads=2, dim_head=8)
    monkeypatch.setattr(blockwise, "attend_in_blocks", None)

    torch.testing.assert_close(*both(crossed, drawn(2, 41, 16), drawn(2, 5, 12)), rtol=0, atol=0)
    torch.testing.assert_close(*both(short, drawn(2, 29, 16)), rtol=0, atol=0)


def test_attention_that_normalises_its_heads_is_left_alone() -> None:
    layer = Attention(16, heads=2, dim_head=8, qk_norm="layer_norm")

    BlockwiseAttention.take_over(nn.ModuleList([layer]))

    assert isinstance(layer.processor, AttnProcessor2_0)


@pytest.mark.parametrize(
    ("wide", "threads", "pays"), [(True, 2, True), (True, 32, False), (False, 2, False)]
)
def test_blocks_pay_with_few_threads_on_a_wide_processor(
    wide: bool, threads: int, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockwise, "takes_all_of_the_width", lambda: wide)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    assert blockwise.pays_in_blocks() == pays
