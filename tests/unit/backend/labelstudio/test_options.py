"""The `model_*` attributes: what they take, and which layer wins."""

import pytest

from backend.errors import ConfigError
from backend.labelstudio.options import (
    ENVIRONMENT,
    EXTRA,
    LABEL,
    OPTIONS,
    PRESET,
    TAG,
    choose,
    read_attributes,
    read_extra,
)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("model_score_threshold", "0.4", 0.4),
        ("model_mask_threshold", "1", 1.0),
        ("model_background", "wall, floor", ("wall", "floor")),
        ("model_background", "", ()),
        ("model_min_area", "0.002", 0.002),
        ("model_min_area", "0.2%", 0.002),
        ("model_holes", "true", 1.0),
        ("model_holes", "false", 0.0),
        ("model_holes", "1%", 0.01),
        ("model_smooth", "3", 3),
        ("model_overlap", "true", True),
        ("model_instances", "no", False),
        ("model_max_regions", "7", 7),
        ("model_prompt", "a photo of a {}. | fog", ("a photo of a {}.", "fog")),
        ("model_method", "ProxyCLIP", "proxyclip"),
        ("model_profile", "fast", "fast"),
    ],
)
def test_an_attribute_is_read_as_the_table_says(name: str, text: str, value: object):
    values, warnings = read_attributes({name: text}, place=TAG, owner="seg")

    assert values == {name: value}
    assert warnings == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model_score_threshold", "1.5"),
        ("model_mask_threshold", "nan"),
        ("model_min_area", "200%"),
        ("model_min_area", "-1"),
        ("model_holes", "some"),
        ("model_smooth", "51"),
        ("model_smooth", "1.5"),
        ("model_overlap", "maybe"),
        ("model_max_regions", "0"),
        ("model_max_regions", "1001"),
        ("model_prompt", "a {thing}"),
        ("model_prompt", "a {} or {}"),
    ],
)
def test_a_value_that_cannot_be_meant_names_attribute_owner_and_form(name: str, text: str):
    with pytest.raises(ConfigError) as caught:
        read_attributes({name: text}, place=TAG, owner="seg")

    assert str(caught.value) == f"{name} of 'seg' must be {OPTIONS[name].must}, not {text!r}"


def test_an_unknown_attribute_is_warned_about_with_the_nearest_known():
    _, warnings = read_attributes({"model_score_treshold": "1"}, place=TAG, owner="seg")

    assert warnings == (
        "'seg' has an unknown attribute model_score_treshold; the nearest known is "
        "model_score_threshold",
    )


def test_an_attribute_in_the_wrong_place_is_warned_about_and_has_no_effect():
    values, warnings = read_attributes({"model_smooth": "3"}, place=LABEL, owner="Cat")

    assert values == {}
    assert warnings == ("'Cat': model_smooth has no effect here, it belongs on the tag",)


def test_attributes_of_other_backends_and_of_label_studio_are_left_alone():
    given = {"model_path": "x.pt", "background": "#fff", "hotkey": "c"}

    assert read_attributes(given, place=TAG, owner="seg") == ({}, ())


@pytest.mark.parametrize(
    ("without", "value", "source"),
    [
        ((), 0.1, LABEL),
        ((LABEL,), 0.2, TAG),
        ((LABEL, TAG), 0.3, EXTRA),
        ((LABEL, TAG, EXTRA), 0.4, ENVIRONMENT),
        ((LABEL, TAG, EXTRA, ENVIRONMENT), 0.0005, PRESET),
    ],
)
def test_the_nearest_layer_that_says_something_wins(without, value: float, source: str):
    layers = [
        (layer, {} if layer in without else {"model_min_area": number})
        for layer, number in ((LABEL, 0.1), (TAG, 0.2), (EXTRA, 0.3), (ENVIRONMENT, 0.4))
    ]

    chosen = choose("model_min_area", layers)

    assert (chosen.value, chosen.source) == (value, source)


def test_extra_params_take_json_values_and_leave_strangers_alone():
    given = {
        "model_score_threshold": 0.3,
        "model_overlap": True,
        "model_background": ["sky", "sea"],
        "model_skip": True,
        "temperature": 1,
        "model_smooth": None,
    }

    assert read_extra(given) == {
        "model_score_threshold": 0.3,
        "model_overlap": True,
        "model_background": ("sky", "sea"),
    }


def test_extra_params_may_be_a_text_as_the_form_stores_it():
    assert read_extra('{"model_smooth": 3}') == {"model_smooth": 3}
    with pytest.raises(ConfigError, match="extra parameters of the connection are not JSON"):
        read_extra("smooth please")


@pytest.mark.parametrize("given", [None, "", " ", {}])
def test_no_extra_params_are_no_options(given):
    assert read_extra(given) == {}


def test_extra_params_that_are_no_object_are_refused():
    with pytest.raises(ConfigError, match="extra_params must be a JSON object"):
        read_extra([1])
