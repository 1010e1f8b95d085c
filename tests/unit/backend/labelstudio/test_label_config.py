"""Label configs -> controls, one sentence for each that cannot be followed."""

from itertools import pairwise

import pytest

from backend.errors import ConfigError
from backend.labelstudio.label_config import ConfigLabel, parse

IMAGE = '<Image name="image" value="$photo"/>'


def config(inside: str, image: str = IMAGE) -> str:
    return f"<View>{image}{inside}</View>"


def brush(labels: str = '<Label value="Cat"/>', attributes: str = "") -> str:
    return f'<BrushLabels name="seg" toName="image" {attributes}>{labels}</BrushLabels>'


def test_the_example_of_the_documentation_is_understood():
    (control,) = parse(
        """<View>
          <Header value="What is it?"/>
          <Image name="image" value="$image" zoom="true"/>
          <BrushLabels name="seg" toName="image" model_score_threshold="0.3">
            <Label value="Cat" background="#FF0000" predicted_values="cat, kitten" hint="x"/>
            <Label value="Road surface" alias="road"/>
          </BrushLabels>
        </View>"""
    )

    assert (control.kind, control.from_name, control.to_name) == ("brushlabels", "seg", "image")
    assert control.data_key == "image"
    assert control.labels == (
        ConfigLabel(name="Cat", result_name="Cat", words=("cat", "kitten")),
        ConfigLabel(name="Road surface", result_name="road"),
    )
    assert control.score_threshold == 0.3
    assert control.mask_threshold is None
    assert control.background is None


def test_labels_may_stand_in_groups_inside_the_control():
    (control,) = parse(config(brush('<View><Label value="a"/></View><Label value="b"/>')))

    assert [label.name for label in control.labels] == ["a", "b"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", None),
        ('model_background=""', ()),
        ('model_background=" , "', ()),
        ('model_background="wall, floor"', ("wall", "floor")),
    ],
)
def test_background_is_absent_empty_or_words(attributes: str, expected):
    (control,) = parse(config(brush(attributes=attributes)))

    assert control.background == expected


def test_the_newer_threshold_name_wins_over_the_older():
    both = 'score_threshold="0.2" model_score_threshold="0.4" model_mask_threshold="0.6"'
    (old,) = parse(config(brush(attributes='score_threshold="0.2"')))
    (new,) = parse(config(brush(attributes=both)))

    assert old.score_threshold == 0.2
    assert (new.score_threshold, new.mask_threshold) == (0.4, 0.6)


def test_several_controls_and_pictures_keep_their_order_and_bindings():
    controls = parse(
        """<View><Image name="a" value="$x"/><Image name="b" value="$y"/>
        <BrushLabels name="one" toName="b"><Label value="Cat"/></BrushLabels>
        <BrushLabels name="two" toName="a"><Label value="Dog"/></BrushLabels></View>"""
    )

    assert [(c.from_name, c.to_name, c.data_key) for c in controls] == [
        ("one", "b", "y"),
        ("two", "a", "x"),
    ]


@pytest.mark.parametrize("switch", ['smart="true"', 'model_skip="true"', 'model_skip="1"'])
def test_prompts_and_skipped_controls_are_set_aside(switch: str):
    other = f'<BrushLabels name="p" toName="image" {switch}></BrushLabels>'

    assert [control.from_name for control in parse(config(brush() + other))] == ["seg"]


def test_controls_of_other_kinds_are_passed_over():
    others = """<RectangleLabels name="r" toName="image"><Label value="x"/></RectangleLabels>
      <Choices name="c" toName="image"><Choice value="y"/></Choices>
      <TextArea name="t" toName="image"/>"""

    assert [control.from_name for control in parse(config(others + brush()))] == ["seg"]


def test_fill_is_read_from_the_control_and_from_the_label():
    (control,) = parse(
        config(brush('<Label value="Void" model_fill="true"/>', 'model_fill="true"'))
    )

    assert control.fill
    assert control.labels[0].fill


def test_blanks_around_and_inside_names_do_not_make_new_words():
    (control,) = parse(config(brush('<Label value=" Road   surface "/>')))

    assert control.labels[0].name == "Road surface"
    assert control.labels[0].result_name == "Road   surface"  # as Label Studio knows it


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("<View>", "Config is not well-formed XML: no element found: line 1, column 6"),
        ("   ", "Config is empty"),
        ("<View>" + " " * 1_000_001 + "</View>", "Config is longer than 1000000 characters"),
        (brush(), "Config has no Image tag with a name"),
        (config(""), "Config has no BrushLabels tag bound to an Image"),
        (
            config('<KeyPointLabels name="k" toName="image"><Label value="x"/></KeyPointLabels>'),
            "KeyPointLabels cannot be pre-labelled; use BrushLabels for an Image",
        ),
        (
            config('<Text name="t" value="$t"/>' + brush().replace('"image"', '"t"')),
            "BrushLabels 'seg' points to 't', which is not an Image",
        ),
        (
            config(brush(attributes='smart="true"')),
            "Nothing to pre-label: 'seg' is marked smart or model_skip",
        ),
        (config(brush("")), "BrushLabels 'seg' has no labels"),
        (
            config(brush("", 'value="$labels"')),
            "BrushLabels 'seg' takes labels from task data; list them instead",
        ),
        (config(brush('<Label value=""/>')), "A label of 'seg' has an empty value"),
        (config(brush("<Label/>")), "A label of 'seg' has an empty value"),
        (
            config(brush('<Label value="a"/><Label value="a"/>')),
            "BrushLabels 'seg' lists twice the label 'a'",
        ),
        (
            config(brush('<Label value="a" alias="x"/><Label value="b" alias="x"/>')),
            "BrushLabels 'seg' uses twice the alias 'x'",
        ),
        (config(brush() + brush()), "Config has two controls named 'seg'"),
        (
            config('<BrushLabels toName="image"><Label value="a"/></BrushLabels>'),
            "A BrushLabels tag has no name",
        ),
        (
            config(brush(attributes='model_score_threshold="1.5"')),
            "model_score_threshold of 'seg' must be a number from 0 to 1, not '1.5'",
        ),
        (
            config(brush(attributes='model_mask_threshold="nan"')),
            "model_mask_threshold of 'seg' must be a number from 0 to 1, not 'nan'",
        ),
        (
            config(brush(attributes='model_skip="maybe"')),
            "model_skip of 'seg' must be true or false, not 'maybe'",
        ),
        (
            config(brush(), '<Image name="image" value="photo"/>'),
            "Image 'image' needs value=\"$key\", the task's data key",
        ),
        (
            config(brush(), '<Image name="image" valueList="$photos"/>'),
            "Image 'image' shows a list of pictures (valueList), not supported yet",
        ),
    ],
)
def test_each_wrong_config_gets_its_own_sentence(xml: str, sentence: str):
    with pytest.raises(ConfigError) as caught:
        parse(xml)

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE v [<!ENTITY a "x">]>',
        '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE v SYSTEM "http://127.0.0.1/v.dtd">',
    ],
)
def test_entity_tricks_are_refused(head: str):
    with pytest.raises(ConfigError, match="must not hold a DOCTYPE or entity definitions"):
        parse(head + config(brush('<Label value="a"/>')))


def test_a_billion_laughs_end_at_once():
    names = "abcdefghij"
    bomb = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {later} "{f"&{earlier};" * 10}">' for earlier, later in pairwise(names)
    )

    with pytest.raises(ConfigError, match="entity definitions"):
        parse(f"<!DOCTYPE v [{bomb}]><View>&j;</View>")
