"""The method on toy networks: what is fixed by default and what `published` restores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from cliper_model import presets, prompts
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.errors import BadImage
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity, InSteps, Label, finished
from cliper_model.stages import attention

IDENTITY = Identity(method="cliper", revision=1, profile="tiny")


def build(diffusion: Any = None, **changes: Any) -> Cliper:
    return Cliper(
        tiny_clip(),
        diffusion,
        CliperConfig(**{"short_side": 64, **changes}),
        presets=lambda name: presets.get(name, "tiny"),
        identity=IDENTITY,
    )


def test_noise_is_fixed_by_default_and_fresh_as_published(picture: Any) -> None:
    image = picture(50, 70)
    fixed, fresh = tiny_diffusion(), tiny_diffusion(noise_seed=None)

    assert torch.equal(fixed.links(image)[0], fixed.links(image)[0])
    assert not torch.equal(fresh.links(image)[0], fresh.links(image)[0])


def test_a_single_label_can_fill_the_picture_unless_published(picture: Any) -> None:
    image = picture(50, 70)
    ours, published = build(), build(published=True)

    def strongest(method: Cliper) -> float:
        vocabulary = method.read(["house"], background=())
        maps = method.layer_probabilities(method.observe(image), vocabulary, scale=50)
        return float(maps.max())

    assert strongest(ours) == 1.0
    assert strongest(published) == pytest.approx(0.5)


def test_published_resizes_a_palette_picture_before_it_is_rgb(picture: Any) -> None:
    rgb = picture(90, 120)
    palette = PilImage.fromarray(rgb).convert("P")
    as_rgb = np.asarray(palette.convert("RGB"))
    published = build(published=True)

    state = published.observe(palette)

    assert state.size_hw == (90, 120)
    assert not torch.equal(state.patches, published.observe(as_rgb).patches)
    with pytest.raises(BadImage, match="got Image"):
        build().observe(palette)


def test_published_keeps_one_string_per_class() -> None:
    label = Label("bird avian", ("bird", "parrot"))

    assert len(build().read([label, "tree"], background=()).row_class) == 3
    assert len(build(published=True).read([label, "tree"], background=()).row_class) == 2


def test_the_mean_row_counts_every_label_once() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])

    mean = prompts.mean_of_classes(rows, (0, 1, 1), 2)

    assert mean.tolist() == [0.5, 0.375]


def test_rows_that_are_equal_count_once_in_the_mean() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])

    mean = prompts.mean_of_classes(rows, (0, 0, 0, 1), 2)

    assert mean.tolist() == [0.75, 0.25]


def test_an_alias_is_never_background() -> None:
    vocabulary = build().read([Label("Dach", ("roof",), ("house",))], background=["House", "lamp"])

    assert vocabulary.dropped == ("House",)


def test_a_background_word_close_to_a_label_in_text_space_is_dropped() -> None:
    rows = torch.eye(3)[:2]
    near = torch.tensor([[0.99, 0.14, 0.0], [0.0, 0.5, 0.87]])

    assert prompts.too_close(near, rows, cosine=0.95) == [True, False]


def test_prompts_cut_to_their_longest_length_are_encoded_the_same() -> None:
    clip = tiny_clip()
    short, long = "a cat.", "a photo of a very small cat that sits on a red chair in the scene."

    together = clip.encode_text(clip.tokenize([short, long]))

    alone = clip.encode_text(clip.tokenize([short]))
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)


def test_text_equals_open_clip_s_own_encoder() -> None:
    clip = tiny_clip()
    tokens = clip.tokenize(["a cat.", "two dogs in the snow"])

    theirs = clip._model.encode_text(tokens, normalize=True)

    torch.testing.assert_close(clip.encode_text(tokens), theirs, atol=1e-6, rtol=0)


def test_the_unet_stops_at_the_second_tapped_layer(picture: Any) -> None:
    diffusion = tiny_diffusion()
    expected = diffusion.links(picture(50, 70))
    last = diffusion._unet.up_blocks[-1]
    diffusion._unet.conv_out = diffusion._unet.conv_norm_out = None
    last.attentions[1].transformer_blocks[0].attn1.to_v = None
    last.attentions[1].transformer_blocks[0].ff = None
    diffusion._vae.decoder = None

    queries, keys = diffusion.links(picture(50, 70))

    assert torch.equal(queries, expected[0])
    assert torch.equal(keys, expected[1])


def test_the_taps_equal_what_the_whole_unet_computes(picture: Any) -> None:
    diffusion = tiny_diffusion()
    seen: dict[int, torch.Tensor] = {}
    for index, transformer in enumerate(diffusion._unet.up_blocks[-1].attentions):
        attn1 = transformer.transformer_blocks[0].attn1
        attn1.to_q.register_forward_hook(lambda _, __, out, i=index: seen.__setitem__(i, out))
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    diffusion._unet(latent, torch.tensor([101]), diffusion._empty_prompt)
    whole = {index: out.clone() for index, out in seen.items()}
    queries, _ = diffusion.taps(latent)

    for part, index in ((queries[:2], 1), (queries[2:], 0)):
        expected = whole[index][0].unflatten(-1, (2, -1)).transpose(0, 1)
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("refinement", ["SFSA", "mean", "selection", "none"])
def test_every_refinement_gives_finite_maps(refinement: str, picture: Any) -> None:
    method = build(tiny_diffusion(), refinement=refinement)

    scores = method.score(method.observe(picture(50, 70)), method.read(["a", "b"]))

    assert scores.maps.shape[1:] == ((4, 6) if refinement == "none" else (16, 16))
    assert np.isfinite(scores.maps).all()


@pytest.mark.parametrize("kind", ["fused-attn", "q-q", "k-k", "v-v", "vanilla", "identity"])
def test_every_attention_type_gives_its_own_maps(kind: str, picture: Any) -> None:
    state = build(attention_type=kind).observe(picture(50, 70))
    other = build(attention_type="q-q" if kind != "q-q" else "vanilla").observe(picture(50, 70))

    assert torch.isfinite(state.patches).all()
    assert not torch.equal(state.patches, other.patches)


def test_presence_rises_with_strength_and_is_half_at_the_threshold() -> None:
    preset = presets.get("objects", "ViT-B-16-quickgelu")

    presence = preset.presence(np.array([0.0, 0.35, 0.7, 1.0, 9.0], np.float32))

    assert presence[2] == pytest.approx(0.5)
    assert (np.diff(presence) > 0).all()
    assert presence[-1] == 1.0


def test_every_preset_has_numbers_for_every_profile_s_encoder() -> None:
    for clip in ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "demo"):
        for name in presets.NAMES:
            assert presets.get(name, clip).templates


def test_shipped_template_lists_have_their_published_lengths() -> None:
    assert len(prompts.templates("15")) == 15
    assert len(prompts.templates("80")) == 80
    assert all("{}" in template for template in prompts.templates("15"))


def test_wrong_settings_are_refused_at_birth() -> None:
    with pytest.raises(ValueError, match="attention_type must be one of fused-attn"):
        CliperConfig(attention_type="fused")
    with pytest.raises(ValueError, match="only_layer must be negative"):
        CliperConfig(only_layer=3)
    with pytest.raises(ValueError, match="select_layer must be negative"):
        replace(presets.get("objects", "tiny"), select_layer=0)


@pytest.mark.parametrize("kind", ["fused-attn", "vanilla", "identity"])
def test_pictures_seen_together_give_the_states_they_give_alone(kind: str, picture: Any) -> None:
    method = build(tiny_diffusion(), attention_type=kind)
    images = [picture(50, 70), picture(50, 70)[::-1].copy(), picture(100, 140)]
    assert len({method.bucket(image.shape[:2]) for image in images}) == 1
    encoder = method.diffusion.vae.encoder.conv_in
    passes: list[int] = []
    encoder.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))

    together = method.observe_many(images)

    assert passes == [3]
    for found, image in zip(together, images, strict=True):
        alone = method.observe(image)
        for name, value in vars(alone).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(found, name), value, atol=2e-5, rtol=2e-4)
            else:
                assert getattr(found, name) == value
    assert not torch.equal(together[0].patches, together[1].patches)


def test_other_pictures_may_be_looked_at_between_two_steps_of_a_look(picture: Any) -> None:
    method = build(tiny_diffusion())
    image, other = picture(50, 70), picture(90, 40)
    alone, alone_too = method.observe(image), method.observe(other)
    between: list[bytes] = []

    def look() -> None:
        assert torch.is_grad_enabled()  # as it was outside
        between.append(method.observe(other).to_bytes())

    assert isinstance(method, InSteps)
    found = finished(method.observe_in_steps(image), between=look)

    assert found.to_bytes() == alone.to_bytes()
    assert between == [alone_too.to_bytes()] * 3  # autoencoder, half a U-Net, the other half, CLIP


def test_pictures_of_other_buckets_are_looked_at_one_after_the_other(picture: Any) -> None:
    method = build(tiny_diffusion())
    images = [picture(50, 70), picture(70, 50)]
    assert method.bucket((50, 70)) != method.bucket((70, 50))
    assert method.bucket((1, 20_000)) is None

    found = method.observe_many(images)

    for one, image in zip(found, images, strict=True):
        assert torch.equal(one.patches, method.observe(image).patches)


def test_a_few_heads_at_a_time_give_what_all_at_once_give(
    picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tiny_clip()
    pixels = torch.randn(3, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    seen = clip.look(pixels)
    whole, whole_map = clip.last_block(seen, attention_type="fused-attn", epsilon=1e-12)

    monkeypatch.setattr(attention, "CACHE_VALUES", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert attention.maps_at_once(seen.accumulated[0]) == 1 < seen.accumulated.shape[1]
    tokens, last_map = clip.last_block(seen, attention_type="fused-attn", epsilon=1e-12)

    torch.testing.assert_close(tokens, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last_map, whole_map, atol=1e-6, rtol=1e-5)


def test_what_depends_on_step_and_prompt_alone_is_computed_once(picture: Any) -> None:
    images = [picture(50, 70), picture(60, 40)]
    plain, settled = tiny_diffusion(), tiny_diffusion()
    before = sum(weight.numel() for weight in settled.unet.parameters())

    settled.settle()

    for own, other in zip(settled.links_of_many(images), plain.links_of_many(images), strict=True):
        torch.testing.assert_close(own.queries, other.queries, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(own.keys, other.keys, atol=1e-6, rtol=1e-5)
    assert sum(weight.numel() for weight in settled.unet.parameters()) < before
    again = settled.settle().links_of_many(images[:1])[0]
    torch.testing.assert_close(again.queries, settled.links_of_many(images[:1])[0].queries)
    names = {name for name, _ in settled.unet.named_parameters()}
    assert not any("time_emb" in name or "attn2.to_k" in name for name in names)


def test_without_a_seed_every_picture_of_a_batch_has_its_own_noise(picture: Any) -> None:
    diffusion = tiny_diffusion()
    image = picture(50, 70)
    seeded = diffusion.links_of_many([image, image])
    diffusion._noise_seed = None
    fresh = diffusion.links_of_many([image, image])

    assert torch.equal(seeded[0].queries, seeded[1].queries)
    assert not torch.equal(fresh[0].queries, fresh[1].queries)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_encoder_written_out_gives_what_diffusers_gives_to_the_byte(dtype: torch.dtype) -> None:
    diffusion = tiny_diffusion()
    vae = diffusion.vae.to(dtype)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = pixels.clone()
    diffusion.unet.to(dtype)

    with torch.no_grad():
        whole = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)[0]
        found = diffusion.encode(pixels)

    assert torch.equal(found, whole * vae.config.scaling_factor)
    assert torch.equal(pixels, before)
