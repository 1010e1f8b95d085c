"""The refinement chain never multiplies attention maps with each other."""

import torch

from cliper_model.stages import refine

from .flops import counting

N, WIDTH, HEADS, CLASSES = 256, 8, 10, 3


def heads(seed: int) -> torch.Tensor:
    return torch.randn(HEADS, N, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_a_product_of_three_large_sides_is_noticed():
    with counting() as count:
        torch.rand(4, N, N) @ torch.rand(4, N, N)

    assert count.cubes(N) == {(N, N, N): 4}
    assert count.flops == 4 * 2 * N**3


def test_the_chain_has_no_product_of_maps_and_costs_what_thin_products_cost():
    with counting() as count:
        refine.chain(torch.rand(N, CLASSES), heads(0), heads(1), floor=0.1)

    assert count.cubes(N) == {}
    columns = refine.LANES  # classes, the sum of links, and what fills the processor's width
    assert count.flops_of(rows=N, inner=N) == HEADS * 2 * N * N * columns
    once, with_levels = WIDTH, WIDTH + 2  # for the levels, and with them as channels
    assert count.flops == HEADS * 2 * N * N * (once + with_levels + columns)


def test_the_thin_chain_gives_the_product_of_all_maps():
    queries, keys, maps = heads(0), heads(1), torch.rand(N, CLASSES)
    product = torch.eye(N)
    for head in range(HEADS):
        links = refine.keep_strong_links(refine.attention_map(queries[head], keys[head]), floor=0.1)
        product = product @ (links / (links.sum(dim=-1, keepdim=True) + refine.EPSILON))

    thin = refine.chain(maps, queries, keys, floor=0.1)

    torch.testing.assert_close(thin, product @ maps, rtol=1e-4, atol=1e-6)
