"""The student: a segmentation network whose last layer is the frozen text rows (maskclip.md §6).

No weights are ever fetched: a network starts from nothing or from a local backbone file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsMismatch, WeightsMissing
from .tower import TowerShape, TowerTrunk

NETWORKS: Final = ("small", "tower", "resnet50", "resnet101")
SMALL_WIDTHS: Final = (24, 48, 96, 160)  # channels at strides 2, 4, 8, 16


class Student(nn.Module):
    """Trunk and head to the text width, then a 1x1 convolution with the text rows.

    Features are not normalised, so their length is the confidence. With `background` a
    learnable row, scaled to unit length, stands before the words.
    """

    def __init__(
        self,
        trunk: nn.Module,
        rows: Float[Tensor, "words embed"],
        *,
        background: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.rows: Tensor
        self.register_buffer("rows", rows.detach().clone().float())
        self.background = nn.Parameter(torch.randn(1, rows.shape[1])) if background else None

    def features(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed h w"]:
        """Dense features in text space, of ImageNet-normalised pixels."""
        return self.trunk(pixels)

    def all_rows(self) -> Float[Tensor, "classes embed"]:
        """The background row first, where there is one, then the words."""
        if self.background is None:
            return self.rows
        return torch.cat([functional.normalize(self.background, dim=-1), self.rows])

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes h w"]:
        """Logits on the network's own grid."""
        return torch.einsum("behw,ce->bchw", self.features(pixels), self.all_rows())


def build_student(
    network: str,
    rows: Float[Tensor, "words embed"],
    *,
    background: bool = False,
    backbone: Path | None = None,
    tower: TowerShape | None = None,
) -> Student:
    """One of four students.

    `resnet50` and `resnet101` are torchvision's DeepLabV3 with output stride 8; `small` learns
    from nothing on a CPU; `tower` is a CLIP vision tower with a branch for outlines.

    rows      frozen text rows, one per word
    backbone  local file with the weights of torchvision's ResNet of that depth
    tower     shape of the tower, for the network of that name

    Raises ValueError for an unknown network or a missing shape, WeightsMissing and
    WeightsMismatch for the file.
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
    if backbone is not None and not network.startswith("resnet"):
        raise ValueError(f"leave the backbone file out: {network} takes no weights of a ResNet")
    if network == "small":
        return Student(SmallTrunk(rows.shape[1]), rows, background=background)
    if network == "tower":
        if tower is None or tower.embed != rows.shape[1]:
            raise ValueError("give the shape of a tower that is as wide as the text rows")
        return Student(TowerTrunk(tower), rows, background=background)
    trunk = DeepLab(network, rows.shape[1])
    if backbone is not None:
        load_backbone(trunk.backbone, backbone)
    return Student(trunk, rows, background=background)


class DeepLab(nn.Module):
    """torchvision's DeepLabV3 with `embed` outputs, without dropout, as published."""

    def __init__(self, network: str, embed: int) -> None:
        super().__init__()
        builder = getattr(torchvision.models.segmentation, f"deeplabv3_{network}")
        built = builder(weights=None, weights_backbone=None, num_classes=embed, aux_loss=False)
        self.backbone: nn.Module = built.backbone
        self.classifier: nn.Module = built.classifier
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed h w"]:
        return self.classifier(self.backbone(pixels)["out"])


def load_backbone(backbone: nn.Module, file: Path) -> None:
    """Fill in a ResNet's weights from a local safetensors or torch state dict.

    The classifier (`fc`) of the file is left out. Raises WeightsMissing, WeightsMismatch.
    """
    state = _read_state(file)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    wanted = backbone.state_dict()
    missing = sorted(set(wanted) - set(state))
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    strange = sorted(set(state) - set(wanted))
    other = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    if missing or strange or other:
        first = (missing or strange or other)[0]
        raise WeightsMismatch(
            f"give a state dict of torchvision's ResNet of the same depth: {file} does not fit, "
            f"{len(missing)} tensors are missing, {len(strange)} are unknown and {len(other)} "
            f"have another shape, such as {first}"
        )
    backbone.load_state_dict(state, strict=False)


def _read_state(file: Path) -> Mapping[str, Tensor]:
    if not file.is_file():
        raise WeightsMissing("the backbone file", [file], "give the path of a local file")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for bytes that are no state dict
        raise WeightsMismatch(
            f"give a safetensors file or a plain torch state dict: {file} cannot be read "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsMismatch(f"give a plain state dict: {file} holds something else")
    return state


class SmallTrunk(nn.Module):
    """A residual encoder to stride 16 and a light decoder back to stride 4.

    Trains from nothing in minutes on a CPU. Wide views come from dilation at stride 16, sharp
    outlines from the early maps.
    """

    def __init__(self, embed: int, widths: tuple[int, int, int, int] = SMALL_WIDTHS) -> None:
        super().__init__()
        w2, w4, w8, w16 = widths
        self.stem = nn.Sequential(_conv(3, w2, stride=2), _conv(w2, w2))
        self.stage4 = nn.Sequential(Residual(w2, w4, stride=2), Residual(w4, w4))
        self.stage8 = nn.Sequential(Residual(w4, w8, stride=2), Residual(w8, w8))
        self.stage16 = nn.Sequential(
            Residual(w8, w16, stride=2), Residual(w16, w16, dilation=2), Residual(w16, w16)
        )
        self.wide = nn.ModuleList(_conv(w16, w16 // 4, dilation=rate) for rate in (1, 2, 4, 6))
        self.from16 = _conv(w16, w8, kernel=1)
        self.join8 = _conv(2 * w8, w8)
        self.from8 = _conv(w8, w4, kernel=1)
        self.join4 = _conv(2 * w4, 2 * w4)
        self.head = nn.Conv2d(2 * w4, embed, 1)

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch embed h w"]:
        at4 = self.stage4(self.stem(pixels))
        at8 = self.stage8(at4)
        at16 = self.stage16(at8)
        at16 = torch.cat([branch(at16) for branch in self.wide], dim=1)
        at8 = self.join8(torch.cat([at8, _to(self.from16(at16), at8)], dim=1))
        at4 = self.join4(torch.cat([at4, _to(self.from8(at8), at4)], dim=1))
        return self.head(at4)


class Residual(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, before: int, after: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = _conv(before, after, stride=stride, dilation=dilation)
        self.second = nn.Sequential(
            nn.Conv2d(after, after, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(after),
        )
        self.around: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.around = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after h w"]:
        return functional.relu(self.second(self.first(x)) + self.around(x))


def _conv(
    before: int, after: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(
            before, after, kernel, stride=stride, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _to(
    x: Float[Tensor, "batch channels small_h small_w"], like: Float[Tensor, "batch other h w"]
) -> Float[Tensor, "batch channels h w"]:
    size = (like.shape[2], like.shape[3])
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
