"""What corrections add to logits, place by place."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Correction, Identity, Label, Learner
from cliper_model.stages import places
from cliper_model.tiled import Tiled, TilePlan


def method(diffusion: Any = None) -> Cliper:
    return Cliper(
        tiny_clip(),
        diffusion,
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=Identity(method="cliper", revision=1, profile="tiny"),
    )


def correction(labels: int, rows: int, embed: int, **changes: Any) -> Correction:
    values = {
        "weights": torch.zeros(labels + 1, embed),
        "bias": torch.zeros(labels + 1),
        "taught": torch.ones(labels + 1, dtype=torch.bool),
        "word_bias": torch.zeros(rows),
        "others": torch.zeros(labels + 1),
    }
    return Correction(**{**values, **changes})


def test_taught_labels_share_anew_what_they_have_and_others_keep_theirs() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5, 3.0]])  # three labels, one background word
    bonus = torch.tensor([[5.0, 0.0, -1.0, 0.0]])
    taught = torch.tensor([True, True, False, False])

    before = logits.softmax(-1)[0]
    after = places.corrected(logits, bonus, taught, others=torch.zeros(bonus.shape[1])).softmax(-1)[
        0
    ]

    torch.testing.assert_close(after[2:], before[2:])
    torch.testing.assert_close(after[:2].sum(), before[:2].sum())
    assert after[0] > before[0]


def test_labels_nobody_painted_lose_what_words_overstate() -> None:
    logits = torch.zeros(1, 3)
    taught = torch.tensor([True, False, True])

    after = places.corrected(
        logits, torch.zeros(1, 3), taught, others=torch.tensor([0.0, -2.0, 0.0])
    )

    torch.testing.assert_close(after, torch.tensor([[0.0, -2.0, 0.0]]))


def test_every_channel_behind_the_labels_gets_what_was_learnt_of_none() -> None:
    logits = torch.zeros(1, 4)  # one label, three channels for everything else
    bonus = torch.tensor([[0.0, 2.0]])

    after = places.corrected(
        logits, bonus, torch.tensor([True, True]), others=torch.zeros(bonus.shape[1])
    )[0]

    torch.testing.assert_close(after[1:] - after[0], torch.full((3,), 2.0))


def test_with_nobody_taught_nothing_changes() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    nobody = torch.zeros(3, dtype=torch.bool)

    after = places.corrected(logits, torch.ones(5, 3), nobody, others=-torch.ones(3))

    torch.testing.assert_close(after, logits)


def test_without_any_other_row_nothing_speaks_for_none(picture: Any) -> None:
    ours = method()
    vocabulary = ours.read(["house"], background=())

    told = places.outcome_logits(torch.zeros(2, 1), vocabulary)

    assert told[:, 1].tolist() == [-torch.inf, -torch.inf]


def test_synonyms_are_folded_and_mistrusted_ones_say_less() -> None:
    ours = method()
    vocabulary = ours.read([Label("pet", ("dog", "cat")), "house"], background=())
    rows = torch.tensor([[3.0, 1.0, 2.0, 0.0]])  # dog, cat, house, mean row

    plain = places.outcome_logits(rows, vocabulary)
    wary = places.outcome_logits(rows, vocabulary, word_bias=torch.tensor([-2.5, 0.0, 0.0]))

    assert plain.tolist() == [[3.0, 2.0, 0.0]]
    assert wary.tolist() == [[1.0, 2.0, 0.0]]


def test_signals_of_a_sure_picture_are_one_and_of_a_doubtful_one_low() -> None:
    sure = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    doubtful = torch.full((2, 3), 1 / 3)

    assert places.signals(sure, 1.0) == (1.0, 1.0, 1.0, 1.0)
    margin, sureness, named, agreement = places.signals(doubtful, 0.5)

    assert margin == 0.0
    assert sureness == pytest.approx(1 / 3)
    assert named == pytest.approx(1 / 3)
    assert agreement == 0.5


def test_places_where_only_none_wins_are_judged_by_all_of_them() -> None:
    nothing = torch.tensor([[0.1, 0.9], [0.3, 0.7]])

    _, sureness, named, agreement = places.signals(nothing, None)

    assert sureness == named == pytest.approx(0.8)
    assert agreement == 1.0


@pytest.mark.parametrize(("height", "width"), [(50, 70), (64, 64)])
def test_a_correction_of_nothing_leaves_scores_as_they_were(
    picture: Any, height: int, width: int
) -> None:
    ours = method(tiny_diffusion())
    state = ours.observe(picture(height, width))
    vocabulary = ours.read(["house", "tree"])
    nothing = correction(2, *vocabulary.rows.shape)

    plain = ours.score(state, vocabulary)
    taught = ours.score(state, replace(vocabulary, correction=nothing))

    torch.testing.assert_close(torch.tensor(taught.maps), torch.tensor(plain.maps))
    assert taught.agreement == plain.agreement
    assert plain.agreement is not None


def test_a_correction_moves_masks_towards_its_label(picture: Any) -> None:
    ours = method()
    state = ours.observe(picture(50, 70))
    vocabulary = ours.read(["house", "tree"])
    rows, embed = vocabulary.rows.shape
    towards = correction(2, rows, embed, bias=torch.tensor([6.0, 0.0, 0.0]))

    plain = ours.score(state, vocabulary)
    taught = ours.score(state, replace(vocabulary, correction=towards))

    assert taught.maps[0].mean() > plain.maps[0].mean()
    assert taught.maps[1].mean() < plain.maps[1].mean()
    assert plain.agreement is None  # nothing was refined


def test_logits_of_cells_are_the_mean_of_what_the_layers_say(picture: Any) -> None:
    ours = method()
    state = ours.observe(picture(50, 70))
    vocabulary = ours.read(["house", "tree"], background=())

    told = ours.row_logits(ours.cells(state).flatten(0, 1), vocabulary)

    unit = torch.nn.functional.normalize(state.patches, dim=-1)
    text = torch.nn.functional.normalize(vocabulary.rows, dim=-1)
    scale = presets.get("whole-scene", "tiny").logit_scale
    torch.testing.assert_close(told[:, :2], scale * (unit @ text.T).mean(dim=0))
    assert told.shape[1] == 3  # and the mean row


def test_a_correction_for_other_words_is_refused() -> None:
    vocabulary = method().read(["house", "tree"])

    with pytest.raises(ValueError, match="the correction is for 1 labels and 1 words"):
        replace(vocabulary, correction=correction(1, 1, vocabulary.rows.shape[1]))


def test_a_large_picture_is_learnt_from_as_a_whole(picture: Any) -> None:
    ours = method()
    tiled = Tiled(ours, TilePlan(above_megapixels=0.003, smallest_tile=256, most_pixels=10**6))
    state = tiled.observe(picture(300, 200))

    assert isinstance(tiled, Learner)
    assert tiled.cells(state).shape == tiled.cells(ours.observe(picture(300, 200))).shape


def test_a_part_of_a_picture_stands_out_from_the_whole() -> None:
    whole = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    common = whole.mean(dim=0)

    part = places.standing_out(whole[:1], common)

    torch.testing.assert_close(part, places.standing_out(whole)[:1])
    assert not torch.equal(part, places.standing_out(whole[:1]))
