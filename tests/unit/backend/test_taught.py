"""What was learnt, in predictions: who gets it, what it replaces, and what it is called."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from backend.labelstudio import label_config
from backend.labelstudio.tasks import PredictRequest, SetupRequest, Task
from backend.lessons import Learned, Lesson, expected_quality, model_of
from backend.model_host import ModelHost, ModelSource
from backend.model_pool import ModelPool
from backend.outcomes import Predicted
from backend.predictor import Limits, Predictor
from backend.storage.base import Scope
from cliper_model import presets
from cliper_model.backbones.tiny import tiny_clip, tiny_diffusion
from cliper_model.methods.cliper import Cliper, CliperConfig
from cliper_model.segmenter import Identity

from ...doubles.pictures import brush_config, stripes
from .test_predictor import Album
from .test_predictor import predictor_of as colours

LABELS = ("house", "tree")
IDENTITY = Identity(method="cliper", revision=1, profile="tiny")
PROJECT = "12.1795190531"


class Teacher:
    """What is switched on, by the project's number; `asked` are the scopes that were looked up."""

    def __init__(self, **learned: Learned) -> None:
        self.learned, self.asked = learned, list[Scope]()

    def of(self, scope: Scope) -> Learned | None:
        self.asked.append(scope)
        return self.learned.get(f"p{scope.project.partition('.')[0]}")


def method() -> Cliper:
    return Cliper(
        tiny_clip(),
        tiny_diffusion(),
        CliperConfig(short_side=64),
        presets=lambda name: presets.get(name, "tiny"),
        identity=IDENTITY,
    )


def lesson(**changes: Any) -> Lesson:
    """Everything is a house."""
    embed = method().read(LABELS).rows.shape[1]
    values: dict[str, Any] = {
        "model": model_of(IDENTITY, "objects"),
        "labels": LABELS,
        "weights": np.zeros((3, embed), np.float16),
        "bias": np.array([8, -8, -8], np.float16),
    }
    return Lesson(**{**values, **changes})


def predictor_of(teacher: Teacher) -> Predictor:
    source = ModelSource(
        profile=lambda: "tiny",
        fetch=lambda name, progress: None,
        identify=lambda name: IDENTITY,
        load=lambda name, progress: method(),
        describe=lambda _: {},
        check_words=lambda name, labels: None,
    )
    model = ModelHost(source)
    model.start()
    model.join()
    limits = Limits(budget=60, fetch_timeout=5, waiting=2, result_bytes=10**6, state_bytes=10**7)
    picture = stripes("red", "green", "blue")
    return Predictor(ModelPool(model), Album(a=picture), limits, teaching=teacher)


def asked(config: str, project: str | None = PROJECT) -> PredictRequest:
    return PredictRequest(tasks=(Task(1, {"image": "a"}),), label_config=config, project=project)


def predicted(
    learned: Mapping[str, Learned], config: str, project: str | None = PROJECT
) -> Predicted:
    predictor = predictor_of(Teacher(**learned))
    try:
        (outcome,) = predictor.predict(asked(config, project))
        assert isinstance(outcome, Predicted)
        version = predictor.setup(SetupRequest(label_config=config, project=project))
        assert version == outcome.model_version  # protocol notes §1.4
        return outcome
    finally:
        predictor.close()


def labels_of(outcome: Predicted) -> set[str]:
    regions = json.loads(outcome.to_json())["result"]
    return {name for region in regions for name in region["value"]["brushlabels"]}


CONFIG = brush_config(LABELS, 'model_background="sky"')
CONTROL = label_config.parse(CONFIG).controls[0].from_name


def test_a_config_is_planned_anew_only_where_something_else_was_learnt() -> None:
    teacher = Teacher()
    predictor = predictor_of(teacher)
    desks = [predictor.desk_of(CONFIG, PROJECT) for _ in range(2)]
    teacher.learned["p12"] = learned()
    desks += [predictor.desk_of(CONFIG, PROJECT) for _ in range(2)]
    desks.append(predictor.desk_of(CONFIG, "13.1795190531"))
    predictor.close()

    before, again, taught, still, elsewhere = (desk.plan for desk in desks)
    assert again is before
    assert still is taught
    assert taught.version != before.version == elsewhere.version
    assert taught.wanted[0].lesson is not None
    assert elsewhere.wanted[0].lesson is None


@pytest.fixture(scope="module")
def plain() -> Predicted:
    return predicted({}, CONFIG)


def learned(**changes: Any) -> Learned:
    return Learned(lessons={CONTROL: lesson(**changes)})


def test_masks_and_version_follow_what_was_learnt(plain: Predicted) -> None:
    taught = predicted({"p12": learned()}, CONFIG)

    assert labels_of(taught) == {"house"}
    assert taught.model_version != plain.model_version
    assert taught.regions != plain.regions


def test_equal_lessons_give_equal_versions_and_masks() -> None:
    again = Learned.from_json(json.loads(json.dumps(learned().to_json())))

    one, two = predicted({"p12": learned()}, CONFIG), predicted({"p12": again}, CONFIG)

    assert again.digest == learned().digest
    assert one.to_json() == two.to_json()


def test_what_one_project_learnt_is_nobody_elses(plain: Predicted) -> None:
    other = predicted({"p12": learned()}, CONFIG, project="13.1795190531")

    assert other.to_json() == plain.to_json()


def test_without_a_project_nothing_was_learnt(plain: Predicted) -> None:
    assert predicted({"p12": learned()}, CONFIG, project=None).regions == plain.regions


@pytest.mark.parametrize(
    "changes",
    [{"model": "another"}, {"bias": np.zeros(0, np.float16), "weights": np.zeros((0, 0))}],
    ids=["of another model", "empty"],
)
def test_a_lesson_that_is_not_about_this_changes_nothing(
    plain: Predicted, changes: dict[str, Any]
) -> None:
    assert predicted({"p12": learned(**changes)}, CONFIG).to_json() == plain.to_json()


def test_a_lesson_for_another_control_changes_nothing(plain: Predicted) -> None:
    other = Learned(lessons={"nobody": lesson()})

    assert predicted({"p12": other}, CONFIG).to_json() == plain.to_json()


def test_a_label_that_is_new_in_the_config_keeps_what_its_word_says() -> None:
    more = brush_config([*LABELS, "car"], 'model_background="sky"')

    taught = predicted({"p12": learned()}, more)

    assert "tree" not in labels_of(taught)
    assert taught.model_version != predicted({}, more).model_version


def test_another_order_of_labels_changes_no_lesson() -> None:
    taught = predicted({"p12": learned()}, brush_config(LABELS[::-1], 'model_background="sky"'))

    assert labels_of(taught) == {"house"}


def test_a_learnt_threshold_replaces_the_presets_but_not_what_somebody_wrote() -> None:
    high = {"p12": learned(thresholds={"house": 1.0})}
    written = CONFIG.replace("<Label ", '<Label model_score_threshold="0.1" ')

    assert labels_of(predicted(high, CONFIG)) == set()
    assert labels_of(predicted(high, written)) == {"house"}


def test_the_score_is_the_expected_quality_where_it_is_known(plain: Predicted) -> None:
    sure = predicted({"p12": learned(quality=(0.0, 0.0, 0.0, 0.0, 2.0))}, CONFIG)

    assert sure.score == pytest.approx(expected_quality((0, 0, 0, 0), (0, 0, 0, 0, 2.0)), abs=1e-4)
    assert predicted({"p12": learned()}, CONFIG).score != sure.score


def test_a_mistrusted_word_says_less() -> None:
    wary = learned(
        bias=np.zeros(0, np.float16),
        weights=np.zeros((0, 0), np.float16),
        words={"house": {"house": -9.0}},
    )

    assert "house" not in labels_of(predicted({"p12": wary}, CONFIG))


def test_a_picture_is_studied_as_the_words_alone_see_it(plain: Predicted) -> None:
    predictor = predictor_of(Teacher(p12=learned()))
    try:
        desk = predictor.desk(CONFIG)
        (studied,) = predictor.study(Task(1, {"image": "a"}), desk)
        (course,) = predictor.courses(desk)
    finally:
        predictor.close()

    (control,) = studied.controls
    assert desk.plan.version == plain.model_version
    assert control.names == course.names == LABELS
    assert control.model == course.model == model_of(IDENTITY, "objects")
    assert control.background
    assert control.outlines
    assert control.agreement is not None
    assert studied.cells.shape[2] == course.vocabulary.rows.shape[1]
    assert studied.size_hw == control.segmentation.size_hw


def test_a_method_that_cannot_learn_has_no_courses() -> None:
    predictor = colours(Album(a=stripes("red")))
    try:
        desk = predictor.desk(brush_config(["red"]))
        (studied,) = predictor.study(Task(1, {"image": "a"}), desk)
        assert predictor.courses(desk) == ()
        assert studied.controls == ()
    finally:
        predictor.close()
