"""Whether a card computes by our kernels what it computes by torch: asked before they are used."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import attention, kernels, refine

NEAR = 1e-2  # of the largest value, in half precision
COUNT, WIDTH, HEADS, LABELS, LAYERS, FLOOR = 100, 64, 2, 5, 2, 0.1


def differing(device: torch.device) -> list[str]:
    """Names of kernels that give something else. Raises whatever Triton and its compiler raise."""
    return [name for name, found, wanted in _pairs(device) if not _near(found, wanted)]


def _near(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    off = (found.float() - wanted.float()).abs().amax()
    return bool(off <= NEAR * wanted.float().abs().amax())  # NaN is not


def _pairs(device: torch.device) -> Iterator[tuple[str, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.float16)

    queries, keys = drawn(HEADS, COUNT, WIDTH), drawn(HEADS, COUNT, WIDTH)
    maps = refine.attention_map(queries, keys)
    rows, strongest = kernels.levels(queries, keys)
    logits = queries.float() @ keys.float().mT / WIDTH**0.5
    yield "levels of rows", rows, logits.logsumexp(dim=-1)
    yield "levels of columns", strongest, maps.amax(dim=-2)

    values = wanted = drawn(COUNT, LABELS).float().abs()
    for one in reversed(range(HEADS)):
        wanted = refine.apply_rows(refine.keep_strong_links(maps[one], floor=FLOOR), wanted)
    told: Any = {"weakest": math.log2(FLOOR), "epsilon": refine.EPSILON}
    found = kernels.chain(values, queries, keys, rows=rows, strongest=strongest, **told)
    yield "chain", found, wanted

    total = kernels.room_for_maps(1, HEADS, COUNT, device)
    parts = (queries[None], keys[None], drawn(1, HEADS, COUNT, WIDTH))
    mixed = kernels.attend(*parts, total)
    yield "attention", mixed, (maps @ parts[2][0].float())[None].transpose(1, 2).flatten(2)
    yield "accumulated attention", total, maps[None]

    layers = drawn(LAYERS, 1, COUNT, HEADS * WIDTH)
    heads_of = layers.float().unflatten(-1, (HEADS, -1)).transpose(-3, -2)
    fused = torch.stack(attention.fuse(total, rounds=LAYERS, epsilon=1e-12))
    factors = attention.factors(total, rounds=LAYERS, epsilon=1e-12)
    mixed = kernels.mix_fused(total, factors, layers, epsilon=1e-12)
    yield "fused attention", mixed, (fused @ heads_of).transpose(-3, -2).flatten(-2)

    last: Any = {"memory_format": torch.channels_last}
    picture, onto = (drawn(2, 32, 9, 8).to(**last) for _ in range(2))
    norm = torch.nn.GroupNorm(8, 32).requires_grad_(False).to(device, torch.float16)
    shift = drawn(32)
    moved = functional.group_norm(picture.float() + shift.float()[:, None, None], 8)
    found = kernels.group_norm(picture, norm, activated=True, shift=shift)
    yield "group normalisation", found, functional.silu(moved)

    layer = torch.nn.Conv2d(32, 32, 3, padding=1).requires_grad_(False)
    layer = layer.to(device, torch.float16).to(**last)
    yield "convolution", kernels.convolved(layer, picture, onto=onto), layer(picture) + onto

    found = kernels.group_norm(picture.contiguous(), norm, activated=False)
    yield "normalisation of other layouts", found, norm(picture)

    plain, gate = layers.float().chunk(2, dim=-1)
    yield "GEGLU", kernels.geglu(layers), plain * functional.gelu(gate)
    activated = layers.float() * torch.sigmoid(1.702 * layers.float())
    yield "QuickGELU", kernels.quick_gelu_(layers), activated
