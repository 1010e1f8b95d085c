"""Feature sources on small checkpoints in the real layouts."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn
from torch.nn import functional

from cliper_model import profiles
from cliper_model.backbones import feature_sources
from cliper_model.backbones.base import FeatureSource
from cliper_model.backbones.clip import TowerForm
from cliper_model.backbones.clip_features import ClipValues
from cliper_model.backbones.diffusion import DiffusionBackbone
from cliper_model.backbones.diffusion_features import DiffusionFeatures, tapped
from cliper_model.backbones.feature_sources import load_source
from cliper_model.backbones.sam import load_sam
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.backbones.unet import UNetSource, load_unet
from cliper_model.backbones.vit import load_vit, normalise, resize_grid
from cliper_model.errors import UnknownSource, WeightsMismatch, WeightsMissing
from cliper_model.stages.resize import CLIP_MEAN, CLIP_STD

State = dict[str, Tensor]


def pixels(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random numbers everywhere, also where modules start at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
        elif tensor.ndim == 0:
            tensor.fill_(1)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return module.eval()


def vit(*, patch: int = 8, grid: int = 4, registers: int = 0, layer_scale: bool = False) -> Any:
    """timm's own network with a class row in its table, as official files have it."""
    return shaken(
        VisionTransformer(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=32,
            depth=2,
            num_heads=2,
            num_classes=0,
            global_pool="",
            reg_tokens=registers,
            init_values=1.0 if layer_scale else None,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
    )


def saved(state: State, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.fixture
def dino(tmp_path: Path) -> Path:
    return saved(vit().state_dict(), tmp_path / "dino.safetensors")


# --- plain vision transformers ---------------------------------------------------------------


def test_on_its_own_grid_a_transformer_gives_what_timm_gives(dino: Path) -> None:
    seen = pixels(32, 32)

    ours = load_vit(dino, heads=2).features(seen)

    theirs = vit().forward_features(normalise(seen))[0, 1:]
    assert ours.shape == (32, 4, 4)
    torch.testing.assert_close(ours.flatten(1).T, theirs, atol=1e-5, rtol=1e-5)


def test_a_grid_runs_over_rows_first_whatever_the_shape(dino: Path) -> None:
    source = load_vit(dino, heads=2)

    assert source.features(pixels(24, 56)).shape == (32, 3, 7)
    assert source.features(pixels(56, 24)).shape == (32, 7, 3)


def test_what_is_less_than_a_patch_is_cut_right_and_below(dino: Path) -> None:
    source, seen = load_vit(dino, heads=2), pixels(37, 50)

    torch.testing.assert_close(source.features(seen), source.features(seen[..., :32, :48]))


@pytest.mark.parametrize("rule", ["bicubic+0.1", "bicubic-antialias"])
def test_positions_that_grow_downwards_still_do_on_another_grid(rule: str) -> None:
    down = torch.arange(4.0).repeat_interleave(4)[:, None]  # 4 x 4 cells, one channel

    resized = resize_grid(down, grid_hw=(3, 9), rule=rule)[:, 0].unflatten(0, (3, 9))

    assert (resized.diff(dim=0) > 0.5).all()
    torch.testing.assert_close(resized, resized[:, :1].expand(3, 9), atol=1e-5, rtol=0)


def test_the_factor_and_not_the_size_drives_dino_positions() -> None:
    table = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    as_image = table.T.reshape(1, 3, 4, 4)

    resized = resize_grid(table, grid_hw=(6, 6), rule="bicubic+0.1")

    official = functional.interpolate(as_image, scale_factor=(6.1 / 4, 6.1 / 4), mode="bicubic")
    torch.testing.assert_close(resized, official[0].flatten(1).T)
    by_size = functional.interpolate(as_image, size=(6, 6), mode="bicubic")
    assert (resized - by_size[0].flatten(1).T).abs().max() > 1e-3


def test_the_table_of_its_own_grid_is_left_alone() -> None:
    table = torch.rand(16, 3)

    assert resize_grid(table, grid_hw=(4, 4), rule="bicubic+0.1") is table


def test_official_and_timm_names_of_registers_give_the_same_features(tmp_path: Path) -> None:
    timm_state = vit(registers=4, layer_scale=True).state_dict()
    official = dict(timm_state)
    official["register_tokens"] = official.pop("reg_token")
    official["mask_token"] = torch.zeros(1, 32)
    own_table = dict(timm_state)  # timm keeps the class position in the class token
    own_table["cls_token"] = own_table["cls_token"] + own_table["pos_embed"][:, :1]
    # of 4 registers and 1 class row, official tables hold the class row alone
    table = torch.cat([official["pos_embed"][:, :1], official["pos_embed"][:, -16:]], dim=1)
    official["pos_embed"] = table
    own_table["pos_embed"] = table[:, 1:]

    paths = [
        saved(official, tmp_path / "official.safetensors"),
        saved(own_table, tmp_path / "timm.safetensors"),
    ]
    first, second = (
        load_vit(path, heads=2, registers=True, positions="bicubic-antialias").features(
            pixels(40, 24)
        )
        for path in paths
    )

    assert first.shape == (32, 5, 3)
    torch.testing.assert_close(first, second)


def test_registers_get_no_positions_and_leave_no_features(tmp_path: Path) -> None:
    network = vit(registers=4, layer_scale=True)
    state = dict(network.state_dict())
    table = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, -16:]], dim=1)
    path = saved({**state, "pos_embed": table}, tmp_path / "reg.safetensors")
    seen = pixels(32, 32)

    ours = load_vit(path, heads=2).features(seen)

    patches = network.patch_embed(normalise(seen)) + table[:, 1:]
    leading = [network.cls_token + table[:, :1], network.reg_token]
    theirs = network.norm(network.blocks(torch.cat([*leading, patches], dim=1)))[0, 5:]
    torch.testing.assert_close(ours.flatten(1).T, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"teacher": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"teacher": {f"backbone.{name}": value for name, value in state.items()}},
    ],
    ids=["bare", "model", "module", "backbone"],
)
def test_torch_files_of_tensors_are_read_in_their_usual_wrappings(
    wrap: Callable[[State], Any], dino: Path, tmp_path: Path
) -> None:
    path = tmp_path / "dino.pth"
    torch.save(wrap(vit().state_dict()), path)
    seen = pixels(32, 48)

    torch.testing.assert_close(
        load_vit(path, heads=2).features(seen), load_vit(dino, heads=2).features(seen)
    )


def test_a_masked_autoencoder_is_read_without_its_decoder(dino: Path, tmp_path: Path) -> None:
    extra = {"mask_token": torch.zeros(1, 1, 32), "decoder_embed.weight": torch.zeros(8, 32)}
    path = saved({**vit().state_dict(), **extra}, tmp_path / "mae.safetensors")
    seen = pixels(32, 32)

    torch.testing.assert_close(
        load_vit(path, heads=2).features(seen), load_vit(dino, heads=2).features(seen)
    )


def test_one_head_per_64_channels_where_nobody_says_otherwise(tmp_path: Path) -> None:
    network = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=128, depth=1, num_heads=2, num_classes=0
    )
    path = saved(shaken(network).state_dict(), tmp_path / "wide.safetensors")
    seen = pixels(16, 16)

    torch.testing.assert_close(
        load_vit(path).features(seen), load_vit(path, heads=2).features(seen)
    )
    assert (load_vit(path).features(seen) - load_vit(path, heads=4).features(seen)).abs().max() > 0


def test_bfloat16_stays_near_float32_and_answers_in_float32(dino: Path) -> None:
    seen = pixels(40, 24)

    exact = load_vit(dino, heads=2).features(seen)
    rough = load_vit(dino, heads=2, dtype=torch.bfloat16).features(seen)

    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.std()


def test_a_picture_smaller_than_a_patch_is_refused(dino: Path) -> None:
    with pytest.raises(ValueError, match="at least 8 pixels per side, got 7 x 40; pad"):
        load_vit(dino, heads=2, name="dino-vits8").features(pixels(7, 40))


REFUSED: list[tuple[str, Callable[[State], State], dict[str, Any], str]] = [
    ("other patch", dict, {"patch": 16}, "it has patches of 8 pixels, .* has patches of 16"),
    ("no registers", dict, {"registers": True}, "it has no registers, .* has registers"),
    ("no layer scale", dict, {"layer_scale": True}, "it has no layer scale"),
    ("strange width", dict, {"heads": None}, "32 channels, which is no published size"),
    ("strange heads", dict, {"heads": 3}, "3 heads cannot share"),
    (
        "no class token",
        lambda state: {name: value for name, value in state.items() if name != "cls_token"},
        {},
        "it lacks cls_token",
    ),
    (
        "a missing tensor",
        lambda state: {name: value for name, value in state.items() if name != "norm.bias"},
        {},
        r"it lacks 1 tensors \(norm.bias\)",
    ),
    (
        "a tensor too many",
        lambda state: {**state, "blocks.0.extra": torch.zeros(1)},
        {},
        r"has unexpected 1 tensors \(blocks.0.extra\)",
    ),
    (
        "another shape",
        lambda state: {**state, "norm.bias": torch.zeros(31)},
        {},
        r"norm.bias has the shape \[31\] where \[32\]",
    ),
    (
        "no square table",
        lambda state: {**state, "pos_embed": torch.zeros(1, 15, 32)},
        {},
        "15 positions are no square grid",
    ),
    (
        "a gated MLP",
        lambda state: {**state, "blocks.0.mlp.w12.weight": torch.zeros(1)},
        {},
        "give a small, base or large one",
    ),
    (
        "another library",
        lambda _: {"embeddings.cls_token": torch.zeros(1)},
        {},
        "those of the transformers library",
    ),
]


@pytest.mark.parametrize(
    ("change", "asked", "sentence"),
    [(change, asked, sentence) for _, change, asked, sentence in REFUSED],
    ids=[name for name, *_ in REFUSED],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_reason(
    change: Callable[[State], State], asked: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = saved(change(vit().state_dict()), tmp_path / "wrong.safetensors")

    with pytest.raises(WeightsMismatch, match=sentence):
        load_vit(path, **{"heads": 2, **asked})


def test_a_file_with_anything_but_tensors_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"model": Path("somewhere")}))

    with pytest.raises(WeightsMismatch, match="convert it to safetensors"):
        load_vit(path)


def test_a_torn_file_is_refused(dino: Path) -> None:
    dino.write_bytes(dino.read_bytes()[:100])

    with pytest.raises(WeightsMismatch, match="not a whole safetensors file"):
        load_vit(dino, heads=2)


def test_a_folder_stands_for_its_only_file(dino: Path) -> None:
    assert load_vit(dino.parent, heads=2).multiple == 8


def test_a_folder_without_a_weight_file_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"put a .safetensors or .pth file there"):
        load_vit(tmp_path)


# --- Segment Anything ------------------------------------------------------------------------


def sam() -> Any:
    """Grid 4 x 4 of 4 px; block 0 looks through windows of 3 patches, block 1 at everything."""
    return shaken(
        VisionTransformerSAM(
            img_size=16,
            patch_size=4,
            embed_dim=16,
            depth=2,
            num_heads=2,
            num_classes=0,
            global_pool="",
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
            neck_chans=8,
        )
    )


def official(state: State) -> State:
    """SAM's own file: a prefix, lin1 and lin2, and a decoder beside the encoder."""
    renamed = {
        "image_encoder." + name.replace("mlp.fc", "mlp.lin"): value for name, value in state.items()
    }
    return {**renamed, "mask_decoder.iou_token.weight": torch.zeros(1, 8)}


def sam_by_hand(state: State, seen: Tensor) -> Tensor:
    """The published encoder, one window, one head and one pair of places at a time."""

    def linear(tokens: Tensor, name: str) -> Tensor:
        return functional.linear(tokens, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(tokens: Tensor, name: str) -> Tensor:
        return functional.layer_norm(
            tokens, (16,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6
        )

    def attend(window: Tensor, block: str) -> Tensor:
        side = window.shape[0]
        qkv = linear(window.reshape(side * side, 16), f"{block}.attn.qkv").reshape(-1, 3, 2, 8)
        mixed = torch.zeros(side * side, 2, 8)
        for head in range(2):
            queries, keys, values = qkv[:, :, head].unbind(1)
            scores = queries @ keys.T / 8**0.5
            for a in range(side * side):
                for b in range(side * side):
                    rows, columns = a // side - b // side, a % side - b % side
                    down = state[f"{block}.attn.rel_pos_h"][rows + side - 1]
                    right = state[f"{block}.attn.rel_pos_w"][columns + side - 1]
                    scores[a, b] += queries[a] @ (down + right)
            mixed[:, head] = scores.softmax(-1) @ values
        return linear(mixed.flatten(1), f"{block}.attn.proj").reshape(side, side, 16)

    tokens = functional.conv2d(
        seen, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=4
    )
    tokens = tokens[0].permute(1, 2, 0) + state["pos_embed"][0]
    for block, window in (("blocks.0", 3), ("blocks.1", 4)):
        padded = torch.zeros(-(-4 // window) * window, -(-4 // window) * window, 16)
        padded[:4, :4] = norm(tokens, f"{block}.norm1")
        for top in range(0, padded.shape[0], window):
            for left in range(0, padded.shape[1], window):
                part = padded[top : top + window, left : left + window].clone()
                padded[top : top + window, left : left + window] = attend(part, block)
        tokens = tokens + padded[:4, :4]
        hidden = functional.gelu(linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
        tokens = tokens + linear(hidden, f"{block}.mlp.fc2")

    neck = tokens.permute(2, 0, 1)[None]
    for convolution, name, padding in (("neck.0", "neck.1", 0), ("neck.2", "neck.3", 1)):
        neck = functional.conv2d(neck, state[f"{convolution}.weight"], padding=padding)
        centred = neck - neck.mean(1, keepdim=True)
        neck = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        gain, shift = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        neck = neck * gain + shift
    return neck[0]


def test_windows_and_relative_positions_are_those_of_the_published_encoder(tmp_path: Path) -> None:
    state = sam().state_dict()
    path = saved(official(state), tmp_path / "sam.safetensors")
    seen = pixels(16, 16)

    ours = load_sam(path).features(seen)

    torch.testing.assert_close(ours, sam_by_hand(state, normalise(seen)), atol=1e-4, rtol=1e-4)


def test_official_and_timm_files_of_sam_give_the_same_features(tmp_path: Path) -> None:
    state = sam().state_dict()
    paths = [
        saved(official(state), tmp_path / "official.safetensors"),
        saved(state, tmp_path / "timm.safetensors"),
    ]

    first, second = (load_sam(path).features(pixels(20, 9)) for path in paths)

    torch.testing.assert_close(first, second)


def test_any_shape_is_stretched_to_the_square_sam_was_trained_on(tmp_path: Path) -> None:
    source = load_sam(saved(sam().state_dict(), tmp_path / "sam.safetensors"))
    seen = pixels(20, 9)

    stretched = functional.interpolate(seen, size=(16, 16), mode="bilinear", align_corners=False)

    assert source.features(seen).shape == (8, 4, 4)
    torch.testing.assert_close(source.features(seen), source.features(stretched))
    assert source.multiple == 1


def test_a_plain_transformer_is_not_taken_for_sam(dino: Path) -> None:
    with pytest.raises(WeightsMismatch, match=r"is not sam-vitb .* it lacks neck.2.weight"):
        load_sam(dino)


# --- the diffusion U-Net ---------------------------------------------------------------------


def own_pass(backbone: DiffusionBackbone, latent: Tensor, timestep: int) -> dict[str, Tensor]:
    """What diffusers' own whole pass hands from block to block."""
    unet, caught = backbone.unet, {}
    hooks = [
        unet.up_blocks[-1]
        .resnets[0]
        .register_forward_pre_hook(lambda _, given: caught.update(S=given[0][0])),
        unet.up_blocks[-2].register_forward_hook(
            lambda *told: caught.update({"S-without-skip": told[2][0]})
        ),
        unet.up_blocks[0].register_forward_hook(lambda *told: caught.update(P=told[2][0])),
    ]
    unet(latent, timestep, encoder_hidden_states=backbone.empty_prompt)
    for hook in hooks:
        hook.remove()
    return caught


@pytest.mark.parametrize("timestep", [0, 1])
def test_taps_are_what_diffusers_own_pass_has_there(timestep: int) -> None:
    backbone = tiny_diffusion()
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))

    theirs = own_pass(backbone, latent, timestep)

    for tap, expected in theirs.items():
        ours = tapped(backbone.unet, latent, backbone.empty_prompt, timestep=timestep, tap=tap)
        torch.testing.assert_close(ours, expected)
    assert theirs["S"].shape == (32, 16, 16)  # 16 channels upsampled, 16 of the skip


@pytest.mark.parametrize(("variant", "side", "timestep"), [("S", 64, 1), ("P", 88, 0)])
def test_a_variant_stretches_the_picture_and_adds_no_noise(
    variant: str, side: int, timestep: int
) -> None:
    backbone = tiny_diffusion()
    source = DiffusionFeatures(backbone, variant=variant, name="diffusion")
    seen = pixels(30, 50)

    ours = source.features(seen)

    square = functional.interpolate(seen, (side, side), mode="bilinear", align_corners=False)
    latent = backbone.vae.encode(2 * square - 1).latent_dist.mean
    theirs = own_pass(backbone, latent * backbone.vae.config.scaling_factor, timestep)
    assert source.side == side
    torch.testing.assert_close(ours, theirs[variant], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(source.features(seen), ours)  # the same again: nothing is drawn


def test_an_unknown_variant_or_tap_is_refused() -> None:
    backbone = tiny_diffusion()

    with pytest.raises(ValueError, match="variant must be one of S, P"):
        DiffusionFeatures(backbone, variant="Q", name="diffusion")
    with pytest.raises(ValueError, match="tap must be one of S, S-without-skip, P"):
        tapped(backbone.unet, torch.zeros(1, 4, 8, 8), backbone.empty_prompt, timestep=0, tap="Q")


# --- a plain U-Net ---------------------------------------------------------------------------


def unet_state(*, transposed: bool, bias: bool, widths: tuple[int, ...] = (4, 6, 10)) -> State:
    """inc, down1, down2, up1, up2, outc; the deepest level of the bilinear form is not wider."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return 0.5 * torch.randn(shape, generator=generator)

    def double(name: str, given: int, middle: int, after: int) -> State:
        state: State = {}
        for place, (before, behind) in ((0, (given, middle)), (3, (middle, after))):
            stem = f"{name}.double_conv.{place}"
            state[f"{stem}.weight"] = draw(behind, before, 3, 3)
            if bias:
                state[f"{stem}.bias"] = draw(behind)
            normed = f"{name}.double_conv.{place + 1}"
            state |= {
                f"{normed}.weight": draw(behind),
                f"{normed}.bias": draw(behind),
                f"{normed}.running_mean": draw(behind),
                f"{normed}.running_var": draw(behind).abs() + 0.5,
                f"{normed}.num_batches_tracked": torch.tensor(3),
            }
        return state

    first, second, third = widths
    state = double("inc", 3, first, first)
    state |= double("down1.maxpool_conv.1", first, second, second)
    state |= double("down2.maxpool_conv.1", second, third, third)
    if transposed:
        state |= {"up1.up.weight": draw(third, third // 2, 2, 2), "up1.up.bias": draw(third // 2)}
        state |= {"up2.up.weight": draw(second, second // 2, 2, 2)}
        state |= {"up2.up.bias": draw(second // 2)}
        state |= double("up1.conv", second + third // 2, second, second)
        state |= double("up2.conv", first + second // 2, first, first)
    else:
        state |= double("up1.conv", second + third, third, second)
        state |= double("up2.conv", first + second, second, first)
    return {**state, "outc.conv.weight": draw(2, first, 1, 1), "outc.conv.bias": draw(2)}


def unet_by_hand(state: State, seen: Tensor) -> Tensor:
    """The common layout, written out as far as the last up block's joined input."""

    def double(hidden: Tensor, name: str) -> Tensor:
        for place in (0, 3):
            stem, normed = f"{name}.double_conv.{place}", f"{name}.double_conv.{place + 1}"
            hidden = functional.conv2d(
                hidden, state[f"{stem}.weight"], state.get(f"{stem}.bias"), padding=1
            )
            hidden = functional.batch_norm(
                hidden,
                state[f"{normed}.running_mean"],
                state[f"{normed}.running_var"],
                state[f"{normed}.weight"],
                state[f"{normed}.bias"],
            ).relu()
        return hidden

    def up(hidden: Tensor, skip: Tensor, name: str) -> Tensor:
        if f"{name}.up.weight" in state:
            hidden = functional.conv_transpose2d(
                hidden, state[f"{name}.up.weight"], state[f"{name}.up.bias"], stride=2
            )
        else:
            hidden = functional.interpolate(
                hidden, scale_factor=2, mode="bilinear", align_corners=True
            )
        rows, columns = skip.shape[2] - hidden.shape[2], skip.shape[3] - hidden.shape[3]
        hidden = functional.pad(
            hidden, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
        )
        return torch.cat([skip, hidden], dim=1)

    top = double(seen, "inc")
    middle = double(functional.max_pool2d(top, 2), "down1.maxpool_conv.1")
    deep = double(functional.max_pool2d(middle, 2), "down2.maxpool_conv.1")
    middle = double(up(deep, middle, "up1"), "up1.conv")
    return up(middle, top, "up2")[0]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("transposed", [True, False], ids=["transposed", "bilinear"])
def test_a_u_net_is_tapped_where_its_last_up_block_begins(
    transposed: bool, bias: bool, tmp_path: Path
) -> None:
    state = unet_state(transposed=transposed, bias=bias)
    path = saved(state, tmp_path / "unet.safetensors")
    seen = pixels(22, 37)  # odd on some levels

    whole = load_unet(path, cell=1).features(seen)

    torch.testing.assert_close(whole, unet_by_hand(state, seen), atol=1e-4, rtol=1e-4)
    cells = load_unet(path).features(seen)
    assert cells.shape[1:] == (2, 4)
    torch.testing.assert_close(cells[:, 1, 3], whole[:, 8:16, 24:32].mean((1, 2)))


def test_a_u_net_is_whole_where_its_levels_and_cells_are(tmp_path: Path) -> None:
    path = saved(unet_state(transposed=True, bias=True), tmp_path / "unet.safetensors")

    assert load_unet(path).multiple == 8
    assert load_unet(path, cell=6).multiple == 12
    with pytest.raises(ValueError, match="at least 8 pixels per side"):
        load_unet(path).features(pixels(7, 30))
    with pytest.raises(ValueError, match="cell must be at least 1"):
        load_unet(path, cell=0)


def test_what_is_no_such_u_net_is_refused(dino: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match=r"it lacks inc.double_conv.0.weight"):
        load_unet(dino)
    state = unet_state(transposed=False, bias=True)
    lame = {name: value for name, value in state.items() if not name.startswith("up2.")}
    with pytest.raises(WeightsMismatch, match="2 down and 1 up blocks"):
        load_unet(saved(lame, tmp_path / "lame.safetensors"))


# --- the table -------------------------------------------------------------------------------


def test_the_table_and_the_profiles_know_the_same_names() -> None:
    assert feature_sources.names() == tuple(profiles.SOURCES)


@pytest.mark.parametrize("name", [name for name in feature_sources.names() if name != "clip"])
def test_every_source_without_weights_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"^(put .+ into |give a file of your own as unet:)"):
        feature_sources.locate_source(name, tmp_path)


def test_clips_own_values_need_a_clip() -> None:
    with pytest.raises(WeightsMissing, match=r"^choose a profile: a CLIP model"):
        feature_sources.load_source("clip", None)


@pytest.mark.parametrize(
    "name", [name for name, row in feature_sources.SOURCES.items() if row.component == name]
)
def test_every_source_has_its_component_with_the_same_licence(name: str) -> None:
    component = profiles.component(name)

    assert component.part == "features"
    assert component.licence == feature_sources.entry(name).licence
    assert all(variant.sources and variant.bytes > 1e7 for variant in component.variants)


def test_weights_are_found_where_they_are_kept(dino: Path, tmp_path: Path) -> None:
    kept = tmp_path / "weights" / "dino-vits8"
    kept.mkdir(parents=True)
    dino.rename(kept / "model.safetensors")

    place = feature_sources.locate_source("dino-vits8", tmp_path / "weights")

    assert load_source("dino-vits8", place, heads=2).multiple == 8


def test_a_name_is_not_given_to_another_network(dino: Path) -> None:
    with pytest.raises(WeightsMismatch, match="patches of 8 pixels, dino-vitb16 has patches of 16"):
        load_source("dino-vitb16", dino, heads=2)
    with pytest.raises(WeightsMismatch, match="is not dinov2-vitb14"):
        load_source("dinov2-vitb14", dino, heads=2)


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownSource, match="unknown feature source 'dino'; choose one of: dino-"):
        load_source("dino", None)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="give a file or folder that exists"):
        load_source("sam-vitb", tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("name", ["diffusion-s", "diffusion-p"])
def test_diffusion_sources_take_the_model_that_is_loaded_already(name: str) -> None:
    source = load_source(name, None, diffusion=tiny_diffusion())

    assert source.name == name
    assert source.features(pixels(20, 30)).isfinite().all()


def test_the_shipped_demo_model_is_a_source() -> None:
    source = load_source("diffusion-s", profiles.demo_folder())

    assert source.features(pixels(60, 90)).shape == (112, 52, 52)


def test_all_kinds_keep_the_contract(dino: Path, tmp_path: Path) -> None:
    unet: UNetSource = load_unet(
        saved(unet_state(transposed=True, bias=True), tmp_path / "unet.safetensors")
    )
    sources = [
        load_vit(dino, heads=2),
        load_sam(saved(sam().state_dict(), tmp_path / "sam.safetensors")),
        DiffusionFeatures(tiny_diffusion(), variant="S", name="diffusion-s"),
        unet,
        ClipValues(tiny_clip()),
    ]
    seen = pixels(48, 64)
    for source in sources:
        kept = seen.clone()

        features = source.features(seen)

        assert isinstance(source, FeatureSource)
        assert features.dtype == torch.float32
        assert features.ndim == 3
        assert features.isfinite().all()
        assert torch.equal(seen, kept), "the input is left alone"
        assert torch.equal(source.features(seen), features), "nothing is remembered or drawn"


# --- CLIP's own values -----------------------------------------------------------------------


def test_clip_values_lie_on_the_grid_of_the_picture() -> None:
    clip = tiny_clip()
    source = ClipValues(clip)
    seen = pixels(32, 64)

    features = source.features(seen)

    assert (source.name, source.multiple) == ("clip", 16)
    assert features.shape == (64, 2, 4)
    picture = (seen - torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)) / torch.tensor(CLIP_STD).view(
        1, 3, 1, 1
    )
    form = TowerForm(positions="bicubic+0.1")
    tokens, _ = clip.enter(picture, form)
    values = clip.heads(-1, clip.run(tokens, 0, 3, form), form).values
    torch.testing.assert_close(features[:32, 1, 2], values[0, 1 + 4 + 2])  # head 0, row 1, column 2
    torch.testing.assert_close(features[32:, 0, 3], values[1, 1 + 3])
