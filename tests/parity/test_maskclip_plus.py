"""Pseudo labels of MaskCLIP+ against the authors': `pytest tests/parity --golden DIR`."""

from typing import Any

import pytest
import torch

from cliper_model.methods.maskclip import Maskclip, MaskclipConfig
from cliper_model.segmenter import Identity
from cliper_model.stages import rows
from cliper_model.student.labels import IGNORE, UNLABELLED, assign

from . import openai_golden
from .openai_golden import OpenaiGolden


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case that says which classes are unlabelled."""
    if "case" not in metafunc.fixturenames:
        return
    golden = OpenaiGolden(openai_golden.directory(metafunc.config, "maskclip"))
    cases = [case for case in golden.index["cases"] if "unlabeled" in case]
    if not cases:
        raise pytest.UsageError(f"{golden.folder}/index.json lists no pseudo labels")
    metafunc.parametrize("case", [pytest.param((golden, one), id=one["name"]) for one in cases])


def test_pseudo_labels_are_the_authors_to_the_pixel(case: tuple[OpenaiGolden, Any]) -> None:
    golden, about = case
    theirs = golden.tensors(about["name"])
    method = teacher(golden, about)
    text = theirs["text_embeddings"]
    if about["cls_bg"]:
        text = torch.cat([theirs["bg_embeddings"], text])
    with torch.no_grad():
        dense = method.look(method.normalised(theirs["image_u8"].numpy()))
        cosines = rows.cosines(dense.features, text).T.reshape(len(text), *dense.grid_hw)

        ours = assign(
            cosines,
            theirs["gt_in"].long(),
            about["unlabeled"],
            refine=lambda maps: method.refined(maps, dense.keys),
            confidence=about["conf_thresh"],
        )

    expected = theirs["pseudo"].long()
    assert bool((theirs["gt_in"] == UNLABELLED).any())
    assert torch.equal(ours, expected.masked_fill(expected == UNLABELLED, IGNORE))


def teacher(golden: OpenaiGolden, about: dict[str, Any]) -> Maskclip:
    """MaskCLIP as published, with the case's refinement."""
    return Maskclip(
        golden.clip(about["weights"], golden.index["weights"][about["weights"]]),
        MaskclipConfig(
            key_smoothing=about["ks_thresh"],
            prompt_denoising=about["pd_thresh"],
            published=True,
        ),
        presets=lambda name: openai_golden.preset("85"),
        identity=Identity(method="maskclip", revision=0, profile="golden"),
    )
