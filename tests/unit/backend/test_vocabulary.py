"""What a control asks of the model, and what of it marks the version."""

from dataclasses import replace

import pytest

from backend.errors import ConfigError
from backend.labelstudio.label_config import parse
from backend.labelstudio.options import ENVIRONMENT, EXTRA, PRESET
from backend.model_pool import ModelChoice
from backend.plan import choice_of, version_of, vocabularies
from backend.vocabulary import ControlVocabulary
from cliper_model import Decision, Identity, Label

LABELS = '<Label value="Cat" predicted_values="cat, kitten"/><Label value="Road" alias="road"/>'
IDENTITY = Identity(
    method="cliper",
    revision=1,
    profile="demo",
    weights={"clip.safetensors": "aa", "unet.safetensors": "bb"},
    settings={"short_side": 336},
)


def wanted(
    labels: str = LABELS,
    attributes: str = "",
    name: str = "seg",
    image: str = '<Image name="image" value="$image"/>',
    environment: dict | None = None,
    extra: dict | None = None,
    tag: str = "BrushLabels",
) -> tuple[ControlVocabulary, ...]:
    xml = f'<View>{image}<{tag} name="{name}" toName="image" {attributes}>{labels}</{tag}></View>'
    layers = ((EXTRA, extra or {}), (ENVIRONMENT, environment or {}))
    return vocabularies(parse(xml), layers)


def version(identity: Identity = IDENTITY, **changes) -> str:
    asked = wanted(**changes)
    return version_of({choice_of(one): identity for one in asked}, asked)


def test_labels_reach_the_model_with_their_words_and_background_stays_out():
    (one,) = wanted(LABELS + '<Label value="Background" predicted_values="wall"/>')

    assert one.labels == (
        Label("Cat", ("cat", "kitten"), also=("Cat",)),
        Label("Road", ("Road",), also=("road",)),
    )
    assert one.rest is None


@pytest.mark.parametrize(
    ("attributes", "preset", "background"),
    [
        ("", "objects", None),
        ('model_background=""', "whole-scene", ()),
        ('model_background="wall, floor"', "objects", ("wall", "floor")),
    ],
)
def test_the_background_attribute_chooses_the_preset(attributes: str, preset: str, background):
    (one,) = wanted(attributes=attributes)

    assert (one.preset, one.background) == (preset, background)


def test_thresholds_replace_the_preset_s_only_where_given():
    base = Decision(presence_threshold=0.4, mask_threshold=0.1, background="quadratic")
    (silent,) = wanted()
    (loud,) = wanted(attributes='model_score_threshold="0.7" model_mask_threshold="0"')
    (environment,) = wanted(environment={"model_score_threshold": 0.9})
    (both,) = wanted(
        attributes='model_score_threshold="0.7"', environment={"model_score_threshold": 0.9}
    )

    kept = silent.decision(base)
    assert (kept.presence_threshold, kept.mask_threshold, kept.background) == (
        0.4,
        0.1,
        "quadratic",
    )
    assert loud.decision(base).presence_threshold == (0.7, 0.7)
    assert loud.decision(base).mask_threshold == (0.0, 0.0)
    assert environment.decision(base).presence_threshold == (0.9, 0.9)
    assert both.decision(base).presence_threshold == (0.7, 0.7)


def test_a_label_s_own_number_goes_before_the_tag_s_and_the_others_keep_theirs():
    labels = (
        '<Label value="Cat" model_score_threshold="0.2" model_min_area="1%"/><Label value="Dog"/>'
    )

    (one,) = wanted(labels, 'model_score_threshold="0.7"')

    decision = one.decision(Decision())
    assert decision.presence_threshold == (0.2, 0.7)
    assert decision.min_piece == (0.01, 0.0005)


def test_a_label_without_a_number_of_its_own_keeps_the_preset_s():
    (one,) = wanted('<Label value="Cat" model_mask_threshold="0.5"/><Label value="Dog"/>')

    assert one.decision(Decision(mask_threshold=0.3)).mask_threshold == (0.5, 0.3)


def test_every_value_knows_where_it_came_from():
    (one,) = wanted(
        '<Label value="Cat" model_score_threshold="0.2"/>',
        'model_smooth="3"',
        extra={"model_overlap": True, "model_smooth": 5},
        environment={"model_max_regions": 7, "model_overlap": False},
    )

    assert one.of_label[0]["model_score_threshold"].source == "label"
    assert (one.of_tag["model_smooth"].value, one.of_tag["model_smooth"].source) == (3, "tag")
    assert (one.of_tag["model_overlap"].value, one.of_tag["model_overlap"].source) == (
        True,
        "extra_params",
    )
    assert one.of_tag["model_max_regions"].source == "environment"
    assert one.of_tag["model_holes"].source == PRESET


def test_a_prompt_of_the_tag_holds_for_labels_without_their_own():
    labels = '<Label value="Cat" model_prompt="fur of a {}"/><Label value="Dog"/>'

    (one,) = wanted(labels, 'model_prompt="a {}. | the {}."')

    assert [label.templates for label in one.labels] == [("fur of a {}",), ("a {}.", "the {}.")]


def test_a_tag_may_name_its_own_model():
    (one,) = wanted(attributes='model_method="ProxyCLIP" model_profile="fast"')

    assert choice_of(one) == ModelChoice(method="proxyclip", profile="fast")


def test_a_background_behind_a_code_means_the_rest():
    (one,) = wanted('<Label value="Cat"/><Label value="0 - Background" model_fill="true"/>')

    assert one.rest is not None
    assert [label.name for label in one.sought] == ["Cat"]


def test_labels_of_a_task_come_with_its_data():
    (one,) = wanted("", 'value="$names" model_score_threshold="0.3" model_fill="true"')
    assert one.labels == ()

    told = one.for_task({"names": ["Cat", "Dog", "Background"]})

    assert [label.name for label in told.labels] == ["Cat", "Dog"]
    assert told.rest is not None
    assert told.decision(Decision()).presence_threshold == (0.3, 0.3)


@pytest.mark.parametrize(
    "labels",
    [
        '<Label value="Cat"/><Label value="Void" model_fill="true"/><Label value="Other"/>',
        '<Label value="Cat"/><Label value="VOID"/>',
    ],
)
def test_fill_on_the_label_or_on_the_control_chooses_the_rest(labels: str):
    attributes = "" if "model_fill" in labels else 'model_fill="true"'

    (one,) = wanted(labels, attributes)

    assert one.rest is not None
    assert one.rest.name.lower() == "void"


@pytest.mark.parametrize(
    ("labels", "attributes", "sentence"),
    [
        (
            '<Label value="Cat" model_fill="true"/>',
            "",
            "model_fill is for labels such as Background, not for 'Cat'",
        ),
        (
            '<Label value="Cat"/><Label value="Void"/><Label value="Other"/>',
            'model_fill="true"',
            "'seg': 'Void' and 'Other' cannot both fill the rest",
        ),
        (
            '<Label value="Cat"/>',
            'model_fill="true"',
            "model_fill of 'seg' needs a label such as Background to paint",
        ),
    ],
)
def test_fill_that_makes_no_sense_is_refused(labels: str, attributes: str, sentence: str):
    with pytest.raises(ConfigError) as caught:
        wanted(labels, attributes)

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "identity",
    [
        replace(IDENTITY, method="proxyclip"),
        replace(IDENTITY, revision=2),
        replace(IDENTITY, profile="fast"),
        replace(IDENTITY, weights={**IDENTITY.weights, "clip.safetensors": "cc"}),
        replace(IDENTITY, settings={"short_side": 448}),
    ],
    ids=["method", "revision", "profile", "weights", "settings"],
)
def test_the_version_changes_with_the_model(identity: Identity):
    assert version(identity) != version()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": LABELS.replace("Road", "Street")},
        {"labels": LABELS.replace('alias="road"', 'alias="way"')},
        {"labels": LABELS.replace("kitten", "tiger")},
        {"labels": LABELS.replace('value="Cat"', 'value="Wall" alias="Cat"')},
        {"labels": LABELS + '<Label value="Sky"/>'},
        {"labels": LABELS + '<Label value="Void" model_fill="true"/>'},
        {"attributes": 'model_background=""'},
        {"attributes": 'model_background="wall"'},
        {"attributes": 'model_score_threshold="0.7"'},
        {"attributes": 'model_mask_threshold="0.7"'},
        {"environment": {"model_score_threshold": 0.7}},
        {"extra": {"model_score_threshold": 0.7}},
        {"attributes": 'model_smooth="3"'},
        {"attributes": 'model_min_area="0"'},
        {"attributes": 'model_holes="true"'},
        {"attributes": 'model_overlap="true"'},
        {"attributes": 'model_instances="true"'},
        {"attributes": 'model_max_regions="3"'},
        {"attributes": 'model_prompt="a {}"'},
        {"image": '<Image name="image" valueList="$image"/>'},
        {"labels": LABELS.replace('alias="road"', 'alias="road" model_min_area="1%"')},
        {"tag": "PolygonLabels"},
        {"name": "brush"},
        {"image": '<Image name="image" value="$photo"/>'},
    ],
    ids=str,
)
def test_the_version_changes_with_everything_that_changes_results(changes):
    assert version(**changes) != version()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": LABELS.replace('value="Cat"', 'value="Cat" background="#123456"')},
        {"labels": LABELS.replace('value="Cat"', 'value="Cat" hotkey="c" hint="x" html="y"')},
        {"labels": LABELS.replace("cat, kitten", "kitten,  CAT")},
        {"labels": LABELS.replace("cat, kitten", "cat, kitten, Kitten")},
        {"labels": LABELS + '<Label value="Void"/>'},
        {"attributes": 'opacity="0.5" strokeWidth="3"'},
        {"image": '<Image name="image" value="$image" zoom="true"/>'},
    ],
    ids=str,
)
def test_the_version_stays_where_results_stay(changes):
    assert version(**changes) == version()


@pytest.mark.parametrize(
    ("tag", "attribute"),
    [("PolygonLabels", 'model_instances="true"'), ("KeyPointLabels", 'model_instances="true"')],
)
def test_an_option_without_effect_for_its_tag_is_no_new_version(tag: str, attribute: str):
    assert version(tag=tag, attributes=attribute) == version(tag=tag)


def two_tags(first: str, second: str) -> tuple[ControlVocabulary, ...]:
    xml = (
        '<View><Image name="image" value="$image"/>'
        f'<PolygonLabels name="one" toName="image">{first}</PolygonLabels>'
        f'<BrushLabels name="two" toName="image" model_fill="true">{second}</BrushLabels></View>'
    )
    return vocabularies(parse(xml), ())


CAT, DOG, REST = (f'<Label value="{name}"/>' for name in ("Cat", "Dog", "Background"))


def test_of_two_tags_with_the_same_label_only_the_first_writes_it():
    first, second = two_tags(CAT + REST, CAT + DOG + REST)

    assert first.written == ("Cat",)
    assert second.written == ("Dog", "Background")
    assert [label.name for label in second.sought] == ["Cat", "Dog"]


def test_a_tag_whose_labels_are_all_taken_is_left_out():
    first, *others = two_tags(CAT, CAT + REST.replace("Background", "Void"))

    assert first.written == ("Cat",)
    assert [one.written for one in others] == [("Void",)]
    assert len(vocabularies(parse(TWICE), ())) == 1


TWICE = """<View><Image name="image" value="$image"/>
  <BrushLabels name="a" toName="image"><Label value="Cat"/></BrushLabels>
  <RectangleLabels name="b" toName="image"><Label value="Cat"/></RectangleLabels></View>"""


def test_the_same_label_on_another_picture_is_written_twice():
    xml = TWICE.replace("</View>", '<Image name="other" value="$o"/></View>').replace(
        'name="b" toName="image"', 'name="b" toName="other"'
    )

    assert [one.written for one in vocabularies(parse(xml), ())] == [("Cat",), ("Cat",)]


def test_background_words_count_after_those_a_label_uses_are_dropped():
    plain = version(attributes='model_background="wall, floor"')

    assert version(attributes='model_background="Floor,wall , wall"') == plain
    assert version(attributes='model_background="wall, floor, KITTEN, road, cat"') == plain
    assert version(attributes='model_background="wall"') != plain


def test_a_background_word_equal_to_an_alias_is_as_good_as_absent():
    labels = LABELS.replace('alias="road"', 'alias="way"')

    plain = version(labels=labels, attributes='model_background="wall"')

    assert version(labels=labels, attributes='model_background="wall, WAY"') == plain


def test_the_order_of_labels_decides_ties_so_it_counts():
    first, second = LABELS.replace("><", ">\n<").split("\n")

    assert version(labels=second + first) != version()


def test_an_option_that_came_later_leaves_versions_as_they_were():
    assert version(attributes='model_refine="true"') == version()
    assert version(attributes='model_refine="false"') != version()
    (one,) = wanted(attributes='model_refine="false"')
    assert not one.decision(Decision()).refined
