"""Evidence -> lesson: what is learnt, what is left alone, and when it is switched on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.learning import fit
from backend.learning.evidence import Evidence
from backend.lessons import BEHIND

from ....doubles.turned_tasks import EMBED, NAMES, SIDE, course, task


def test_other_looks_are_learnt_and_switched_on() -> None:
    turned = [task(number, looks=(4, 5, 6)) for number in range(8)]

    known = fit.learn(turned, course())

    assert known.verdict.better
    assert known.verdict.after > known.verdict.before + 20
    assert known.lesson.labels == NAMES
    assert known.lesson.rest
    assert known.verdict.reason.startswith("switched on: on 8 corrected tasks")


def test_what_is_right_already_is_left_alone() -> None:
    known = fit.learn([task(number) for number in range(8)], course())

    assert not known.verdict.better
    assert not len(known.lesson.bias)
    assert len(known.candidate.bias) == 4  # shown, but not used
    assert "it must rise by 0.5 at least" in known.verdict.reason


def test_masks_that_have_nothing_to_do_with_the_picture_teach_nothing() -> None:
    def anywhere(number: int) -> Evidence:
        one = task(number)
        sample = one.samples[0]
        order = np.random.default_rng(number).permutation(SIDE * SIDE)
        truth = sample.truths["label"]
        scattered = replace(truth, shares=truth.shares[:, order])
        return replace(one, samples=(replace(sample, truths={"label": scattered}),))

    known = fit.learn([anywhere(number) for number in range(10)], course())

    assert not known.verdict.better
    assert known.lesson.labels == ()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_few_tasks_are_too_few(count: int) -> None:
    known = fit.learn([task(number) for number in range(count)], course())

    assert not known.verdict.better
    assert known.lesson.is_empty
    assert f"{count} corrected tasks of this model are too few" in known.verdict.reason


def test_the_order_of_tasks_does_not_matter() -> None:
    tasks = [task(number, looks=(4, 5, 6)) for number in range(7)]

    there, back = fit.learn(tasks, course()), fit.learn(tasks[::-1], course())

    assert there.candidate.digest == back.candidate.digest
    assert there.verdict == back.verdict


def test_a_label_nobody_painted_yet_keeps_what_its_word_says() -> None:
    two = [task(number, labels=NAMES[:2], looks=(4, 5)) for number in range(6)]

    known = fit.learn(two, course())

    assert known.candidate.labels == ("cat", "dog")
    asked = known.candidate.correction(
        course().vocabulary, NAMES, [(f"{name} 0",) for name in NAMES]
    )
    assert asked is not None
    assert asked.taught.tolist() == [True, True, False, True]


def test_a_label_that_is_new_in_the_config_loses_nothing() -> None:
    """Tasks were corrected when there was no fox to paint."""
    two = [task(number, labels=NAMES[:2], looks=(4, 5)) for number in range(6)]

    assert fit.learn(two, course()).candidate.others == {}


def test_a_label_that_was_there_and_never_painted_loses_what_words_overstate() -> None:
    def asked_for_all(one: Evidence) -> Evidence:
        sample = one.samples[0]
        truth = replace(sample.truths["label"], asked=NAMES)
        return replace(one, samples=(replace(sample, truths={"label": truth}),))

    two = [task(number, labels=NAMES[:2], looks=(4, 2)) for number in range(6)]

    known = fit.learn([asked_for_all(one) for one in two], course())

    assert set(known.candidate.others) == {"fox"}
    assert known.candidate.others["fox"] < -1


def test_of_places_of_a_label_that_left_nothing_is_known() -> None:
    (_, (sample,)), *_ = fit._usable([task(0)], course(("cat", "dog")))

    told = fit._outcomes(sample, course(("cat", "dog")))

    fox = sample.truths["label"].shares[2] > 0
    assert told[fox].sum() == 0
    assert told[~fox].sum(axis=1).min() == 1


def test_evidence_of_another_model_is_passed_over() -> None:
    tasks = [task(number, looks=(4, 5, 6)) for number in range(8)]

    known = fit.learn(tasks, replace(course(), model="another"))

    assert known.verdict.tasks == 0


def test_a_label_that_left_the_config_is_no_more_learnt() -> None:
    tasks = [task(number, looks=(4, 5, 6)) for number in range(8)]

    known = fit.learn(tasks, course(("cat", "dog")))

    assert known.candidate.labels == ("cat", "dog")
    assert known.verdict.better


def test_the_start_leads_from_all_places_to_a_labels_own() -> None:
    """Two labels apart along axis 0, whose places also spread along axis 1."""
    chance = np.random.default_rng(0)
    side = np.repeat([1.0, -1.0], 500)
    features = np.zeros((1000, EMBED))
    features[:, 0] = side + 0.1 * chance.normal(size=1000)
    features[:, 1] = 2.0 * chance.normal(size=1000)
    target = torch.from_numpy(np.stack([side > 0, side < 0, side > 9], axis=1)).float()

    weights, level = fit._discriminant(torch.from_numpy(features).float(), target, held_back=100.0)

    ratio = features @ weights.numpy().T.astype(np.float64) + level.numpy()
    assert (ratio.argmax(axis=1)[:500] == 0).all()
    assert (ratio.argmax(axis=1)[500:] == 1).all()
    assert weights[0, 0] > 20 * weights[0, 1].abs()  # along what tells them apart only
    assert weights[2].abs().max() == level[2].abs() == 0.0  # nobody painted it


def test_what_labels_never_seen_lose_grows_with_what_was_seen() -> None:
    """Two labels known, one asked for and never painted."""
    asked = course(("cat", "dog", "fox"))

    def lost(tasks: int) -> float:
        told = [task(number, painted=(0, 1, 1)) for number in range(tasks)]
        place = fit._gathered(fit._usable(told, asked), asked, most=100_000)
        return float(fit._fitted(place, asked, ridge=1e-4, words=False).others[2])

    assert 0.0 >= lost(2) > lost(8) > lost(32)


def scattered(number: int) -> Evidence:
    """Masks of one label far from its things."""
    one = task(number, painted=(1, 2, 0), labels=NAMES, looks=(4, 5, 6))
    sample = one.samples[0]
    truth = sample.truths["label"]
    moved = replace(truth, shares=np.roll(truth.shares, 1, axis=1))  # onto what is none of them
    return replace(one, samples=(replace(sample, truths={"label": moved}),))


def test_annotations_that_agree_with_nothing_are_set_aside_where_they_are_many() -> None:
    right = [task(number, looks=(4, 5, 6)) for number in range(8)]
    wrong = [scattered(number) for number in range(8, 11)]

    known = fit.learn([*right, *wrong], course())

    assert known.lesson.digest == fit.learn(right, course()).lesson.digest
    assert known.verdict.tasks == 8
    assert known.verdict.reason.endswith(
        "; 3 more were set aside, since they agree with nothing that the others teach"
    )


def test_two_odd_annotations_are_left_where_they_are() -> None:
    right = [task(number, looks=(4, 5, 6)) for number in range(8)]

    known = fit.learn([*right, *(scattered(number) for number in range(8, 10))], course())

    assert known.verdict.tasks == 10
    assert "set aside" not in known.verdict.reason


def test_a_word_that_is_often_wrong_is_mistrusted() -> None:
    """The second word of every label means another label."""
    asked = course(words=2)
    tasks = [task(number) for number in range(6)]

    lost = fit._mistrust(fit._gathered(fit._usable(tasks, asked), asked, most=10_000), asked)

    assert lost[[0, 2, 4]].max() == 0.0
    assert (lost[[1, 3, 5]] <= 0.0).all()


def test_of_background_words_those_that_win_on_labels_lose() -> None:
    asked = course(behind=2)
    gains = asked.gains.clone()
    gains[:, -1] = 10 * torch.eye(EMBED)[0]  # the second background word means the cat
    asked = replace(asked, gains=gains)
    tasks = [task(number) for number in range(6)]

    lost = fit._mistrust(fit._gathered(fit._usable(tasks, asked), asked, most=10_000), asked)

    assert lost[-1] < -0.3
    assert lost[-2] == 0.0


def test_mistrusted_words_are_written_under_their_label_or_behind() -> None:
    found = fit._Found(
        weights=torch.zeros(4, EMBED),
        bias=torch.zeros(4),
        taught=torch.ones(4, dtype=torch.bool),
        word_bias=torch.tensor([0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -0.5]),
        others=torch.zeros(4),
    )

    lesson = fit._lesson(found, course(words=2))

    assert lesson.words == {"cat": {"cat 1": -1.0}, BEHIND: {"behind 0": -0.5}}


def test_tasks_accepted_at_a_glance_say_less() -> None:
    wrong = [task(number, looks=(4, 5, 6), weight=0.01) for number in range(5)]
    right = [task(number + 5, looks=(4, 5, 6), painted=(1, 2, 0)) for number in range(5)]

    known = fit.learn([*wrong, *right], course())
    heavy = fit.learn([replace(one, weight=1.0) for one in [*wrong, *right]], course())

    assert known.candidate.digest != heavy.candidate.digest


def test_a_label_alone_without_background_teaches_nothing_and_harms_nothing() -> None:
    alone = course(("cat",), behind=0)
    tasks = [task(number, labels=("cat",), looks=(0,)) for number in range(6)]

    known = fit.learn(tasks, alone)

    assert not known.verdict.better
    assert np.isfinite(known.candidate.weights).all()


def test_empty_annotations_teach_what_is_not_there() -> None:
    """Nothing is painted in half of the tasks, whose places look like cats to the words."""

    def empty(number: int) -> Evidence:
        one = task(number, labels=("cat",), looks=(0,))
        sample = one.samples[0]
        nothing = replace(
            sample.truths["label"], labels=(), shares=np.zeros((0, SIDE * SIDE), np.uint8)
        )
        return replace(one, samples=(replace(sample, truths={"label": nothing}),))

    known = fit.learn([empty(number) for number in range(6)], course(("cat",)))

    assert known.candidate.labels == ()
    assert known.candidate.rest


def test_many_places_are_thinned_out_evenly() -> None:
    tasks = [task(number) for number in range(8)]

    place = fit._gathered(fit._usable(tasks, course()), course(), most=100)

    assert len(place.features) <= 8 * SIDE * SIDE // 3 + 8
    assert set(place.task.tolist()) == set(range(8))
