"""ProxyCLIP and its feature adjustment, stage by stage: `pytest tests/parity --golden DIR`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional

from cliper_model import prompts
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.methods.clip import PlainClip
from cliper_model.methods.proxyclip import ProxyClip, ProxyClipConfig
from cliper_model.methods.proxyclip_adjust import AdjustConfig, AdjustedProxyClip
from cliper_model.methods.windowed import WindowedConfig, WindowedMethod, WindowedState
from cliper_model.presets import Preset
from cliper_model.segmenter import Decision, Identity, Label
from cliper_model.stages import resize
from cliper_model.stages.decide import (
    decide,
    likeliest_rows,
    row_probabilities,
    upsampled_rows,
)
from cliper_model.stages.proxy import proxy_attention
from cliper_model.stages.rows import cosines, row_scores
from cliper_model.stages.surgery import class_token_weights

from .feature_bench import FeatureGolden
from .unpack import opened
from .where import directory

VOCABULARY_SIZE = 49408
LOW_RES = 1e-4  # logits
PROBABILITY = 1e-3
MARGIN = 1e-4  # between the two likeliest classes, and to the threshold
DECIDED = Decision(presence_threshold=0.0, background="threshold", background_threshold=0.0)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "proxy_case" in metafunc.fixturenames:
        cases = FeatureGolden(directory(metafunc.config, "proxyclip")).index["cases"]
        if not cases:
            raise pytest.UsageError("the golden directory lists no cases")
        metafunc.parametrize("proxy_case", cases, ids=[case["name"] for case in cases])


class Bench(FeatureGolden):
    """The directory's CLIP towers and methods."""

    def clip(self, name: str) -> ClipBackbone:
        weights = {key: value.float() for key, value in self._file(name).items()}
        table = torch.zeros(VOCABULARY_SIZE, weights["token_embedding.rows"].shape[1])
        table[weights.pop("token_embedding.ids").long()] = weights.pop("token_embedding.rows")
        weights["token_embedding.weight"] = table
        weights["logit_scale"] = weights["logit_scale"].reshape(())
        config = self.index["weights"][name]["config"]
        model = CLIP(**config)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert set(missing) <= {"attn_mask"}
        context = config["text_cfg"]["context_length"]
        return ClipBackbone(model, open_clip.SimpleTokenizer(context_length=context))

    def _file(self, name: str) -> dict[str, Tensor]:
        return self.tensors({"name": name})

    def method(self, case: dict[str, Any]) -> WindowedMethod:
        """The case's own numbers on the case's own networks, published."""
        clip = self.clip(case["clip"])
        about = {
            "presets": lambda _: preset_of(case),
            "identity": Identity(method="golden", revision=0, profile="golden"),
        }
        numbers = {
            "crop": case.get("slide_crop", 0),
            "stride": case.get("slide_stride", 56),
            "short_side": min(case["image"]),
            "published": True,
        }
        if case.get("vfm") is None:
            return PlainClip(clip, WindowedConfig(**numbers), **about)
        numbers |= {"beta": case["beta"], "gamma": case["gamma"]}
        source = self.source(case["vfm"])
        if "class_weights" in case["tensors"]:
            return AdjustedProxyClip(clip, source, AdjustConfig(**numbers), **about)
        return ProxyClip(clip, source, ProxyClipConfig(**numbers), **about)


def preset_of(case: dict[str, Any]) -> Preset:
    return Preset(
        name="objects",
        source="golden case",
        background=(),
        templates=prompts.templates("80"),
        background_cosine=1.0,
        logit_scale=case.get("logit_scale", 40),
        presence_knots=((0.0, 0.0), (1.0, 1.0)),
        decision=replace(DECIDED, background_threshold=case.get("prob_thd", 0.0)),
    )


def labels_of(case: dict[str, Any]) -> list[Label]:
    """Lines of a class file: synonyms are separated by semicolon and blank (§4).

    The background's line is a class like any other here, whatever its words are.
    """
    lines = case["class_lines"]
    return [Label(f"class {place}", tuple(line.split("; "))) for place, line in enumerate(lines)]


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder: Path = directory(request.config, "proxyclip")
    return Bench(opened(folder, tmp_path_factory.mktemp("proxyclip")))


class Checks:
    """Which tensors of a case were compared."""

    def __init__(self, bench: Bench, theirs: dict[str, Tensor]) -> None:
        self.theirs, self.features = theirs, bench.tolerance
        self.done = {name for name in theirs if re.fullmatch(r".*ex_feats.*", name)}
        self.done |= {"image_u8", "safe_mask", "latents", "encoder_hidden_states", "timestep"}

    def near(self, name: str, ours: Tensor, *, absolute: float, relative: float = 0.0) -> None:
        """`ours` against the tensor of that name, or its every N-th rows and columns."""
        for stored in self.theirs:
            if re.fullmatch(re.escape(name) + r"(_s\d+)?", stored):
                step = int(stored.removeprefix(name).removeprefix("_s") or 1)
                theirs, taken = self.theirs[stored], ours[::step]
                if name in ("logits", "class_probs") or name.endswith("clip_in"):
                    taken = ours[:, ::step, ::step]
                assert taken.shape == theirs.shape, stored
                away = (taken - theirs).abs() - relative * theirs.abs()
                assert away.max() <= absolute, f"{stored} is off by {float(away.max()):.2e}"
                self.done.add(stored)

    def feature(self, name: str, ours: Tensor) -> None:
        self.near(name, ours, absolute=self.features, relative=self.features)


def test_every_stage_of_the_case(proxy_case: dict[str, Any], bench: Bench) -> None:
    theirs = bench.tensors(proxy_case)
    checks = Checks(bench, theirs)
    if any(name.startswith("ex_feats.") for name in theirs):
        taps(proxy_case, bench, checks)
    elif "feature_grid" in proxy_case:
        one_operation(proxy_case, bench, checks)
    elif "class_weights" in theirs:
        adjustment(proxy_case, bench, checks)
    else:
        whole_path(proxy_case, bench, checks)

    left = set(theirs) - checks.done
    assert not left, f"tensors without a check: {sorted(left)}"


def pixels_of(theirs: dict[str, Tensor]) -> Tensor:
    return resize.normalise(theirs["image_u8"].numpy())


def taps(case: dict[str, Any], bench: Bench, checks: Checks) -> None:
    """Features of a diffusion U-Net, given; what proxy attention makes of them."""
    clip = bench.clip(case["clip"])
    for name, fine in checks.theirs.items():
        if name.startswith("ex_feats."):
            tap = name.removeprefix("ex_feats.")
            beta, gamma = case.get("beta", 1.2), case.get("gamma", 3.0)
            checks.feature(f"patch_feats.{tap}", through(clip, fine, checks.theirs, beta, gamma))


def through(
    clip: ClipBackbone, fine: Tensor, theirs: dict[str, Tensor], beta: float, gamma: float
) -> Tensor:
    method = _bare(clip, beta, gamma)
    tokens, grid_hw = clip.enter(pixels_of(theirs), method.form)
    tokens = clip.run(tokens, 0, -1, method.form)
    return clip.embed(method.through_proxy(tokens, fine, grid_hw=grid_hw), method.form)


def _bare(clip: ClipBackbone, beta: float, gamma: float) -> ProxyClip:
    """The operation alone, without a network of features."""
    return ProxyClip(
        clip,
        None,  # type: ignore[arg-type]
        ProxyClipConfig(beta=beta, gamma=gamma, published=True),
        presets=lambda _: preset_of({}),
        identity=Identity(method="golden", revision=0, profile="golden"),
    )


def one_operation(case: dict[str, Any], bench: Bench, checks: Checks) -> None:
    """Proxy attention on a picture that is not square: the intended result, not the swapped one."""
    clip = bench.clip(case["clip"])
    theirs = checks.theirs
    ours = through(clip, theirs["ex_feats"], theirs, case["beta"], case["gamma"])
    checks.feature("patch_feats_intended", ours)
    swapped = (ours - theirs["patch_feats_official_swapped"]).abs().max()
    told = case["max_abs_diff_official_vs_intended"]
    assert swapped > 0.9 * told > 0  # rows and columns are told apart
    checks.done.add("patch_feats_official_swapped")
    method = _bare(clip, case["beta"], case["gamma"])
    rows = method.read(labels_of(case), background=()).rows
    checks.feature("text_features", rows)
    grid_hw = tuple(case["feature_grid"])
    logits = cosines(ours, rows).T.reshape(len(rows), *grid_hw)
    checks.near("logits_lowres", logits, absolute=LOW_RES)


def adjustment(case: dict[str, Any], bench: Bench, checks: Checks) -> None:
    """Class-token weights and subtraction on one square crop."""
    method, theirs = bench.method(case), checks.theirs
    assert isinstance(method, AdjustedProxyClip)
    words = method.read(labels_of(case), background=())
    checks.feature("text_features", words.rows)
    state = method.observe(theirs["image_u8"].numpy())
    assert state.grids[0][0] * state.grids[0][1] == state.features.shape[1]
    class_feature, patches = state.class_features[0], state.features[0]
    checks.feature("cls_feature", _scaled_as(class_feature, theirs["cls_feature"]))
    checks.feature("patch_feats", _rows_scaled_as(patches, theirs["patch_feats"]))
    seen = torch.cat([class_feature[None], patches])
    values = cosines(seen, words.rows)
    checks.near("cosine", values, absolute=LOW_RES)
    checks.near("class_weights", class_token_weights(values[0]), absolute=LOW_RES)
    adjusted = method.adjusted(values, state, 0, words.rows)
    checks.near("adjusted", adjusted, absolute=LOW_RES)
    labels(case, method, state, checks)


def _scaled_as(ours: Tensor, theirs: Tensor) -> Tensor:
    """Stored with unit length or without; both say the same."""
    unit = abs(float(theirs.norm()) - 1) < 1e-3
    return functional.normalize(ours, dim=-1) if unit else ours


def _rows_scaled_as(ours: Tensor, theirs: Tensor) -> Tensor:
    unit = bool(((theirs.norm(dim=-1) - 1).abs() < 1e-3).all())
    return functional.normalize(ours, dim=-1) if unit else ours


def whole_path(case: dict[str, Any], bench: Bench, checks: Checks) -> None:
    """Crops, features, attention, embeddings, stitched logits, probabilities, labels."""
    method, theirs = bench.method(case), checks.theirs
    words = method.read(labels_of(case), background=())
    checks.feature("text_features", words.rows)
    owners = torch.tensor(words.row_class, dtype=theirs["query_idx"].dtype)
    assert torch.equal(owners, theirs["query_idx"])
    checks.done.add("query_idx")

    state = method.observe(theirs["image_u8"].numpy())
    assert len(state.boxes) == case["n_crops"]
    crops = bench.crops(case, theirs["image_u8"])
    for index in range(len(state.boxes)):
        name = f"crop{index}"
        if not any(stored.startswith(f"{name}.") for stored in theirs):
            continue
        pixels = (crops[index] - _column(resize.CLIP_MEAN)) / _column(resize.CLIP_STD)
        checks.near(f"{name}.clip_in", pixels[0], absolute=1e-5)
        checks.feature(f"{name}.patch_feats", state.features[index])
        if isinstance(method, ProxyClip):
            fine = method.features.features(crops[index])
            attention = proxy_attention(fine, beta=case["beta"], gamma=case["gamma"], safe=False)
            checks.feature(f"{name}.attn", attention)
            checks.feature(f"{name}.attn_rows", attention)
            tokens, grid_hw = method.clip.enter(pixels, method.form)
            tokens = method.clip.run(tokens, 0, -1, method.form)
            out = method.through_proxy(tokens, fine, grid_hw=grid_hw)
            checks.feature(f"{name}.attn_out", out)
    labels(case, method, state, checks)


def _column(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def labels(
    case: dict[str, Any], method: WindowedMethod, state: WindowedState, checks: Checks
) -> None:
    """From stitched cosines to the label map, through the package's own decision."""
    theirs = checks.theirs
    size_hw = tuple(case.get("output_size", case["image"]))
    words = method.read(labels_of(case), background=())
    stitched = method.stitched(state, words.rows)
    full = torch.from_numpy(
        np.concatenate(
            [block for _, block in upsampled_rows(stitched.numpy(), size_hw=size_hw)], axis=1
        )
    )
    checks.near("logits", full, absolute=LOW_RES)
    likely, _ = likeliest_rows(
        row_probabilities(full.numpy(), scale=case["logit_scale"]),
        row_class=words.row_class,
        classes=len(words.labels),
    )
    checks.near("class_probs", torch.from_numpy(np.ascontiguousarray(likely)), absolute=PROBABILITY)

    scores = replace(method.score(state, words), size_hw=size_hw)
    again = row_scores(
        stitched,
        words,
        owners=words.row_class,
        scale=case["logit_scale"],
        size_hw=size_hw,
        presence=lambda strength: strength,
    )
    np.testing.assert_array_equal(scores.maps, again.maps)
    decided = decide(scores, method.decision(words.preset)).label_map
    ours = torch.from_numpy(np.maximum(decided - 1, 0))  # a weak pixel becomes class 0 (§5)
    safe = theirs["safe_mask"].bool() if "safe_mask" in theirs else _safe(likely, case)
    different = (ours != theirs["label_map"].int()) & safe
    assert not different.any(), f"{int(different.sum())} labels differ"
    checks.done.add("label_map")


def _safe(likely: np.ndarray, case: dict[str, Any]) -> Tensor:
    """The index's own rule, where a case brings no mask: not too close to call."""
    first = np.sort(likely, axis=0)[::-1]
    clear = np.abs(first[0] - case.get("prob_thd", 0.0)) > MARGIN
    if len(first) > 1:
        clear &= first[0] - first[1] > MARGIN
    return torch.from_numpy(clear)
