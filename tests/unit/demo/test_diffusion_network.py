"""The demo diffusion half: layout, start, and the chain that training goes through."""

import pytest
import torch

from cliper_model.demo.clip_network import build_clip, tokens_of
from cliper_model.demo.diffusion_network import (
    Tap,
    build_unet,
    build_vae,
    chain,
    empty_prompt,
    install_taps,
    signal_shares,
    tapped_layers,
)
from cliper_model.demo.unet_training import mask_errors
from cliper_model.stages import refine


def tap_of(attention):
    tap = Tap()
    tap.attention = attention
    return tap


def naive(maps, attentions, floor):
    for attention in reversed(attentions):
        for head in reversed(range(attention.shape[1])):
            links = attention[:, head] / (attention[:, head].amax(1, keepdim=True) + 1e-5)
            links = torch.where(links < floor, 0.0, links)
            maps = links @ maps / (links.sum(-1, keepdim=True) + 1e-5)
    return maps


def test_the_chain_and_its_gradient_equal_plain_operations():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 2, 9, 9, generator=generator, dtype=torch.float64) for _ in range(2)]
    maps = torch.rand(2, 9, 3, generator=generator, dtype=torch.float64)
    weight = torch.arange(54.0, dtype=torch.float64).view(2, 9, 3).sin()
    results = []
    for run in (
        lambda a: chain(maps, [tap_of(x) for x in a], floor=0.3, leak=0.3),
        lambda a: naive(maps, a, 0.3),
    ):
        leaves = [x.clone().requires_grad_() for x in logits]
        result = run([leaf.softmax(-1) for leaf in leaves])
        (result * weight).sum().backward()
        results.append((result.detach(), [leaf.grad for leaf in leaves]))

    (found, found_grads), (wanted, wanted_grads) = results
    torch.testing.assert_close(found, wanted)
    for gradient, expected in zip(found_grads, wanted_grads, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_a_cut_link_receives_gradient_down_to_the_leak():
    # key 0 is seen by both queries, the second link is cut at 0.5 and felt at 0.2
    attention = torch.tensor([[[[0.8, 0.2], [0.3, 0.7]]]], requires_grad=True)
    maps = torch.tensor([[[1.0], [0.0]]])

    chain(maps, [tap_of(attention)], floor=0.5, leak=0.2)[0, 1].sum().backward()

    assert attention.grad is not None
    assert attention.grad[0, 0, 1, 0] > 0


def test_the_chain_equals_the_one_of_inference():
    generator = torch.Generator().manual_seed(1)
    queries, keys = (torch.randn(2, 9, 4, generator=generator) for _ in range(2))
    maps = torch.rand(9, 3, generator=generator)
    attention = torch.stack(
        [refine.attention_map(q, k) for q, k in zip(queries, keys, strict=True)]
    )

    found = chain(maps[None], [tap_of(attention[None])], floor=0.3 - 1e-6, leak=0.3)

    torch.testing.assert_close(found[0], refine.chain(maps, queries, keys, floor=0.3))


@torch.no_grad()
def test_the_autoencoder_starts_by_passing_colours_on():
    torch.manual_seed(0)
    vae = build_vae().eval()
    red, blue = torch.tensor([0.8, -0.6, -0.6]), torch.tensor([-0.6, -0.6, 0.8])
    images = torch.stack([red, blue]).view(2, 3, 1, 1).expand(2, 3, 32, 32)

    latent = vae.encode(images).latent_dist.mean.mean((2, 3))

    assert latent[0, 0] > latent[1, 0] + 0.3
    assert latent[1, 2] > latent[0, 2] + 0.3


@torch.no_grad()
def test_the_fourth_latent_channel_starts_by_telling_which_corner_is_brighter():
    torch.manual_seed(0)
    vae = build_vae().eval()
    flat = torch.zeros(1, 3, 32, 32)
    falling = flat.clone()
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    falling[:] = torch.where((x % 4) + (y % 4) < 3, 0.8, -0.8)  # bright corner of every square
    rising = falling.flip((2, 3))

    told = [vae.encode(image).latent_dist.mean[:, 3].mean() for image in (flat, falling, rising)]

    assert told[1] > told[0] + 0.3
    assert told[2] < told[0] - 0.3


@torch.no_grad()
def test_the_empty_prompt_is_what_the_text_tower_makes_of_it():
    torch.manual_seed(0)
    clip = build_clip().eval()

    prompt = empty_prompt(clip)

    whole = clip.transformer(
        clip.token_embedding(tokens_of("")[None]) + clip.positional_embedding,
        attn_mask=clip.attn_mask,
    )
    assert prompt.shape == (1, 8, 128)
    torch.testing.assert_close(prompt, clip.ln_final(whole)[:, :8], rtol=1e-4, atol=1e-5)


def test_tapped_layers_start_with_key_equal_query_and_one_head():
    layers = tapped_layers(build_unet())

    assert len(layers) == 2
    for layer in layers:
        assert layer.heads == 1
        torch.testing.assert_close(layer.to_k.weight, layer.to_q.weight)


@torch.no_grad()
def test_taps_do_not_change_what_the_network_says():
    torch.manual_seed(0)
    unet = build_unet().eval()
    latent, time, prompt = torch.randn(1, 4, 8, 8), torch.tensor([20]), torch.randn(1, 8, 128)
    before = unet(latent, time, prompt).sample

    taps = install_taps(unet)
    after = unet(latent, time, prompt).sample

    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert [tuple(tap.attention.shape) for tap in taps] == [(1, 1, 64, 64)] * 2


def test_signal_share_is_that_of_stable_diffusion():
    assert float(signal_shares()[101]) == pytest.approx(0.892980, abs=1e-5)


def halves(grid, *, blur=0):
    """Two labels side by side as maps `[1, g g, 2]`, `blur` columns at the border undecided."""
    left = (torch.arange(grid) < grid // 2).float()
    left[grid // 2 - blur : grid // 2 + blur] = 0.5
    maps = torch.stack([left, 1 - left]).expand(grid, 2, grid).permute(1, 0, 2)
    return maps.flatten(1).T[None]


def test_an_undecided_outline_costs_more_the_more_outlines_count():
    truth = halves(32).transpose(1, 2).reshape(1, 2, 32, 32)
    costs = [
        mask_errors(halves(16, blur=2), truth, sharpness=3.0, outline_weight=weight)[0]
        for weight in (0.0, 2.0)
    ]
    right, overlap = mask_errors(halves(16), truth, sharpness=3.0, outline_weight=2.0)

    assert costs[1] > 1.2 * costs[0]
    assert right < costs[0]
    assert overlap < 0.1
