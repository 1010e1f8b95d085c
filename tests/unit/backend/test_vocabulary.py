"""What a control asks of the model, and what of it marks the version."""

from dataclasses import replace

import pytest

from backend.errors import ConfigError
from backend.labelstudio.label_config import parse
from backend.predictor import version_of
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
    score_threshold: float | None = None,
) -> tuple[ControlVocabulary, ...]:
    xml = (
        f'<View>{image}<BrushLabels name="{name}" toName="image" {attributes}>{labels}'
        "</BrushLabels></View>"
    )
    return tuple(
        ControlVocabulary.of(control, score_threshold=score_threshold) for control in parse(xml)
    )


def version(identity: Identity = IDENTITY, **changes) -> str:
    return version_of(identity, wanted(**changes))


def test_labels_reach_the_model_with_their_words_and_background_stays_out():
    (one,) = wanted(LABELS + '<Label value="Background" predicted_values="wall"/>')

    assert one.labels == (
        Label("Cat", ("cat", "kitten"), also=("Cat",)),
        Label("Road", also=("road",)),
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
    (environment,) = wanted(score_threshold=0.9)
    (both,) = wanted(attributes='model_score_threshold="0.7"', score_threshold=0.9)

    assert silent.decision(base) == base
    assert loud.decision(base) == replace(base, presence_threshold=0.7, mask_threshold=0.0)
    assert environment.decision(base).presence_threshold == 0.9
    assert both.decision(base).presence_threshold == 0.7


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
        {"score_threshold": 0.7},
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
