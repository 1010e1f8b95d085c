"""Students: shapes, the frozen last layer, local weights and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from cliper_model.backbones.tiny import tiny_clip
from cliper_model.errors import WeightsMismatch, WeightsMissing
from cliper_model.student.network import build_student
from cliper_model.student.tower import Tower, TowerTrunk, shape_of

ROWS = torch.nn.functional.normalize(
    torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=-1
)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1), (8, 70)])
def test_the_small_student_takes_any_size(size: tuple[int, int]) -> None:
    student = build_student("small", ROWS).eval()

    with torch.no_grad():
        logits = student(torch.zeros(1, 3, *size))

    assert logits.shape == (1, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_deeplab_has_output_stride_eight_and_the_text_width() -> None:
    student = build_student("resnet50", ROWS).eval()

    with torch.no_grad():
        features = student.features(torch.zeros(1, 3, 64, 96))

    assert features.shape == (1, 16, 8, 12)


def test_deeplab_has_no_dropout_as_published() -> None:
    student = build_student("resnet50", ROWS).train()

    shares = [m.p for m in student.modules() if isinstance(m, torch.nn.Dropout)]
    assert shares
    assert set(shares) == {0.0}


def test_logits_are_features_times_rows() -> None:
    student = build_student("small", ROWS, background=True).eval()
    pixels = torch.rand(2, 3, 16, 24)

    with torch.no_grad():
        logits, features = student(pixels), student.features(pixels)
        expected = torch.einsum("behw,ce->bchw", features, student.all_rows())

    assert logits.shape == (2, 6, 4, 6)
    torch.testing.assert_close(logits, expected)


def test_the_text_rows_are_no_parameter_and_the_background_row_is_one() -> None:
    names = dict(build_student("small", ROWS, background=True).named_parameters())

    assert "rows" not in names
    assert names["background"].shape == (1, 16)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of small, tower, resnet50, resnet101"):
        build_student("vgg", ROWS)


def backbone_file(folder: Path, suffix: str) -> tuple[Path, dict[str, Any]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = torchvision.models.resnet50(weights=None).state_dict()
    path = folder / f"resnet50{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path, state


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_backbone_is_filled_in(tmp_path: Path, suffix: str) -> None:
    path, state = backbone_file(tmp_path, suffix)

    student = build_student("resnet50", ROWS, backbone=path)

    loaded = student.state_dict()
    for name in ("conv1.weight", "layer4.2.bn3.running_var"):
        assert torch.equal(loaded[f"trunk.backbone.{name}"], state[name])


def test_a_backbone_of_another_depth_is_refused(tmp_path: Path) -> None:
    path, _ = backbone_file(tmp_path, ".safetensors")

    with pytest.raises(WeightsMismatch, match="torchvision's ResNet of the same depth"):
        build_student("resnet101", ROWS, backbone=path)


def test_a_missing_or_broken_backbone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")

    with pytest.raises(WeightsMissing, match="give the path of a local file"):
        build_student("resnet50", ROWS, backbone=tmp_path / "none.pth")
    with pytest.raises(WeightsMismatch, match="cannot be read"):
        build_student("resnet50", ROWS, backbone=tmp_path / "bad.pth")


def test_the_small_student_takes_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave the backbone file out"):
        build_student("small", ROWS, backbone=tmp_path / "x.pth")


# -- the tower ------------------------------------------------------------------------


def test_a_tower_sees_what_maskclip_sees() -> None:
    clip = tiny_clip()
    visual = clip.vision
    shape = shape_of(visual)
    tower = Tower(shape)
    tower.fill(visual)
    side = shape.patch * shape.grid
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        _, ours = tower(pixels)
        tokens, grid_hw = clip.enter(pixels)
        tokens = clip.run(tokens, 0, -1)
        tokens = tokens + clip.attention_output(-1, clip.heads(-1, tokens).values)
        theirs = clip.embed(tokens + clip.mlp(-1, tokens))[1:]

    assert grid_hw == (shape.grid, shape.grid)
    torch.testing.assert_close(ours[0].flatten(1).T, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (50, 91), (7, 9)])
def test_a_tower_student_has_stride_four_and_adds_nothing_before_training(
    size: tuple[int, int],
) -> None:
    visual = tiny_clip().vision
    trunk = TowerTrunk(shape_of(visual)).eval()
    trunk.tower.fill(visual)
    pixels = torch.zeros(2, 3, *size)

    with torch.no_grad():
        features = trunk(pixels)
        trunk.join[1][0].weight.mul_(3)  # the branch's inner weights change nothing yet

        again = trunk(pixels)

    assert features.shape == (2, shape_of(visual).embed, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.equal(features, again)


def test_a_tower_needs_a_shape_that_fits_the_words() -> None:
    with pytest.raises(ValueError, match="as wide as the text rows"):
        build_student("tower", ROWS)
