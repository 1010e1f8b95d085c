"""Golden directories of one layout: toy CLIP weights under OpenAI's names, cases in the index.

MaskCLIP, CLIPtrase and CLIP Surgery share it. No case is known by its name, and every number
(sizes, thresholds, tolerances) comes from the directory's own index.json.
"""

import json
import re
import tarfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import load, load_file
from torch import Tensor

from cliper_model import prompts
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.presets import Preset
from cliper_model.segmenter import Decision

from .where import directory

VOCABULARY_SIZE = 49408  # of CLIP's byte pair encoding


def generate(
    metafunc: pytest.Metafunc,
    method: str,
    wanted: Callable[[dict[str, Any]], bool] = lambda case: True,
) -> None:
    """One test per case of the index, for tests that ask for a `case`."""
    if "case" not in metafunc.fixturenames:
        return
    index = directory(metafunc.config, method) / "index.json"
    cases = [case for case in json.loads(index.read_text())["cases"] if wanted(case)]
    if not cases:
        raise pytest.UsageError(f"{index} lists no cases: nothing would be tested")
    metafunc.parametrize("case", cases, ids=[case["name"] for case in cases])


class OpenaiGolden:
    """A directory of golden tensors, opened by its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] = json.loads((folder / "index.json").read_text())

    @cached_property
    def tolerances(self) -> dict[str, float]:
        """The numbers of the index's sentence, such as "features 2e-4, points exact"."""
        found: dict[str, float] = {}
        for part in re.split(r"[;,]", self.index["tolerance"]):
            if match := re.fullmatch(r"\s*(.+?)\s+(\d[\d.]*e-?\d+)\s*", part):
                for name in match[1].split("/"):
                    found[name.strip()] = float(match[2])
        return found

    @cached_property
    def packed(self) -> dict[str, bytes]:
        """The files of the folder's archives; the shipped subsets are packed."""
        found = {}
        for archive in sorted(self.folder.glob("*.tar.xz")):
            with tarfile.open(archive, "r:xz") as opened:
                for member in opened.getmembers():
                    content = opened.extractfile(member)
                    assert content is not None, f"{archive} holds more than plain files"
                    found[member.name] = content.read()
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """One file, plain or out of an archive."""
        file = f"{name}.safetensors"
        return load(self.packed[file]) if file in self.packed else load_file(self.folder / file)

    def clip(self, name: str, about: dict[str, Any]) -> ClipBackbone:
        """The toy tower of file `name`; `about` holds its sizes. float16 -> float32 is exact."""
        weights = {key: value.float() for key, value in self.tensors(name).items()}
        ids = weights.pop("token_embedding.ids").long()
        table = torch.zeros(VOCABULARY_SIZE, about["text_width"])
        table[ids] = weights.pop("token_embedding.rows")
        weights["token_embedding.weight"] = table
        weights["logit_scale"] = weights["logit_scale"].reshape(())
        context = weights["positional_embedding"].shape[0]
        model = CLIP(
            embed_dim=about["embed"],
            vision_cfg={
                "image_size": about["grid"] * about["patch"],
                "layers": about["layers"],
                "width": about["width"],
                "head_width": about["width"] // about["heads"],
                "patch_size": about["patch"],
            },
            text_cfg={
                "context_length": context,
                "vocab_size": VOCABULARY_SIZE,
                "width": about["text_width"],
                "heads": about["text_heads"],
                "layers": about["text_layers"],
            },
            quick_gelu=True,  # CLIP's own; a method that differs says so itself
        )
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"attn_mask"}:
            raise ValueError(f"{name} does not fit: missing {missing}, unexpected {unexpected}")
        return ClipBackbone(model, open_clip.SimpleTokenizer(context_length=context))

    @property
    def only_tower(self) -> str:
        """The file with weights of a directory whose index names none: the one that is no case."""
        cases = {case["name"] for case in self.index["cases"]}
        plain = {file.stem for file in self.folder.glob("*.safetensors")}
        stems = plain | {name.removesuffix(".safetensors") for name in self.packed}
        (found,) = sorted(stems - cases)
        return found

    def logit_scale(self, name: str) -> float:
        return float(self.tensors(name)["logit_scale"].exp())


def preset(templates: str, **changes: Any) -> Preset:
    """Published templates; no background words unless the case gives them."""
    numbers: dict[str, Any] = {
        "name": "objects",
        "source": "golden case",
        "background": (),
        "templates": prompts.templates(templates),
        "background_cosine": 1.0,
        "logit_scale": 100.0,
        "attention_floor": 0.0,
        "select_layer": -1,
        "presence_knots": ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)),
        "decision": Decision(presence_threshold=0.0, background="none"),
    }
    return Preset(**{**numbers, **changes})


class Checks:
    """Remembers which tensors of a case were compared, so that none is forgotten."""

    def __init__(self, theirs: dict[str, Tensor]) -> None:
        self.theirs, self.done = theirs, set[str]()

    def near(self, name: str, ours: Tensor, tolerance: float) -> None:
        """Largest absolute difference within `tolerance`, where the case has the tensor."""
        if name not in self.theirs:
            return
        self.done.add(name)
        reference = self.theirs[name]
        assert tuple(ours.shape) == tuple(reference.shape), f"{name}: {tuple(ours.shape)}"
        difference = (ours.double() - reference.double()).abs()
        assert not torch.isnan(difference).any(), name
        assert float(difference.max()) <= tolerance, f"{name}: {float(difference.max()):.2e}"

    def same(self, name: str, ours: Tensor, *, where: Tensor | None = None) -> None:
        """Equal integers, everywhere or where a mask is 1."""
        if name not in self.theirs:
            return
        self.done.add(name)
        reference = self.theirs[name].long()
        assert tuple(ours.shape) == tuple(reference.shape), f"{name}: {tuple(ours.shape)}"
        different = ours.long() != reference
        if where is not None:
            different &= where.bool()
        assert not different.any(), f"{name}: {int(different.sum())} of {different.numel()} differ"

    def given(self, *names: str) -> None:
        """Inputs of the case: used, not compared."""
        self.done |= set(names) & set(self.theirs)

    def complete(self) -> None:
        left = sorted(set(self.theirs) - self.done)
        assert not left, f"tensors without a check: {left}"
