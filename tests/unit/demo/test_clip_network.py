"""The training path of the demo CLIP computes what inference computes."""

import numpy as np
import open_clip
import pytest
import torch

from cliper_model.backbones.clip import ClipBackbone
from cliper_model.demo.clip_network import (
    CONTEXT,
    build_clip,
    encode_text,
    fused_map,
    look,
    normalise_pixels,
    project_layer,
    short_ids,
    text_ends,
    used_token_ids,
)
from cliper_model.stages import attention as attend


@pytest.fixture(scope="module")
def small_clip():
    torch.manual_seed(0)
    return build_clip(200).eval()


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return normalise_pixels(torch.from_numpy(rng.integers(0, 255, (2, 64, 48, 3), np.uint8)))


@pytest.mark.parametrize("rounds", [1, 3, 6])
def test_scaling_vectors_equal_repeated_normalisation(rounds):
    accumulated = torch.rand(2, 2, 5, 5, generator=torch.Generator().manual_seed(1)) + 0.1

    quick = fused_map(accumulated, rounds)

    slow = attend.fuse(accumulated, rounds=rounds, epsilon=1e-12)[-1]
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_layer_equals_the_inference_path(small_clip, pixels):
    backbone = ClipBackbone(small_clip, open_clip.SimpleTokenizer(context_length=CONTEXT))
    seen = look(small_clip, pixels)
    layers = len(seen.tokens)

    for picture in range(2):
        told = backbone.look(pixels[picture : picture + 1])
        wanted, _ = backbone.last_block(told, attention_type="fused-attn", epsilon=1e-12)
        wanted = torch.nn.functional.normalize(wanted[:, 1:], dim=-1)
        for layer in range(layers):
            fused = fused_map(seen.accumulated, rounds=layer + 1)
            found = project_layer(small_clip, seen, layer, fused)[picture]
            torch.testing.assert_close(found, wanted[layer], atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_the_image_embedding_equals_the_model_s_own(small_clip, pixels):
    square = pixels[:, :, :48, :48].repeat(1, 1, 2, 2)  # 96 x 96, no resized positions

    found = look(small_clip, square).image

    wanted = torch.nn.functional.normalize(small_clip.encode_image(square), dim=-1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_cutting_the_padding_changes_no_text_embedding(small_clip):
    texts, used = ["a picture of a cat.", "sky."], used_token_ids()
    ids = short_ids(texts, used)

    found = encode_text(small_clip, ids, text_ends(texts))
    alone = encode_text(small_clip, ids[1:], text_ends(texts[1:]))

    assert ids.shape[1] == CONTEXT
    torch.testing.assert_close(found[1:], alone)
