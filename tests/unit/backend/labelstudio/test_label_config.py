"""Label configs -> controls, one sentence for each that cannot be followed."""

from itertools import pairwise
from typing import Any

import pytest

from backend.errors import ConfigError
from backend.labelstudio.label_config import LABELLED, PLAIN, ConfigLabel, Control, parse

IMAGE = '<Image name="image" value="$photo"/>'


def config(inside: str, image: str = IMAGE) -> str:
    return f"<View>{image}{inside}</View>"


def controls(xml: str) -> tuple[Control, ...]:
    return parse(xml).controls


def only(xml: str) -> Control:
    (control,) = controls(xml)
    return control


def brush(labels: str = '<Label value="Cat"/>', attributes: str = "") -> str:
    return f'<BrushLabels name="seg" toName="image" {attributes}>{labels}</BrushLabels>'


def test_the_example_of_the_documentation_is_understood():
    control = only(
        """<View>
          <Header value="What is it?"/>
          <Image name="image" value="$image" zoom="true"/>
          <BrushLabels name="seg" toName="image" model_score_threshold="0.3">
            <Label value="Cat" background="#FF0000" predicted_values="cat, kitten" hint="x"/>
            <Label value="Road surface" alias="road" model_min_area="1%"/>
          </BrushLabels>
        </View>"""
    )

    assert (control.kind, control.from_name, control.to_name) == ("brushlabels", "seg", "image")
    assert control.image.data_key == "image"
    assert control.labels == (
        ConfigLabel(name="Cat", result_name="Cat", words=("cat", "kitten")),
        ConfigLabel(
            name="Road surface",
            result_name="road",
            words=("Road surface",),
            options={"model_min_area": 0.01},
        ),
    )
    assert control.options == {"model_score_threshold": 0.3}


def test_labels_may_stand_in_groups_inside_the_control():
    control = only(config(brush('<View><Label value="a"/></View><Label value="b"/>')))

    assert [label.name for label in control.labels] == ["a", "b"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('model_background=""', ()),
        ('model_background=" , "', ()),
        ('model_background="wall, floor"', ("wall", "floor")),
    ],
)
def test_background_is_empty_or_words(attributes: str, expected):
    assert only(config(brush(attributes=attributes))).options == {"model_background": expected}


def test_the_newer_threshold_name_wins_over_the_older():
    both = 'score_threshold="0.2" model_score_threshold="0.4"'
    old = only(config(brush(attributes='score_threshold="0.2"')))
    new = only(config(brush(attributes=both)))

    assert old.options == {"model_score_threshold": 0.2}
    assert new.options == {"model_score_threshold": 0.4}


def test_several_controls_and_pictures_keep_their_order_and_bindings():
    found = controls(
        """<View><Image name="a" value="$x"/><Image name="b" value="$y"/>
        <BrushLabels name="one" toName="b"><Label value="Cat"/></BrushLabels>
        <BrushLabels name="two" toName="a"><Label value="Dog"/></BrushLabels></View>"""
    )

    assert [(c.from_name, c.to_name, c.image.data_key) for c in found] == [
        ("one", "b", "y"),
        ("two", "a", "x"),
    ]


TOOLS = """
  <KeyPointLabels name="k" toName="image" smart="true"><Label value="Cat"/></KeyPointLabels>
  <RectangleLabels name="r" toName="image" smart="true"><Label value="Cat"/></RectangleLabels>
  <EllipseLabels name="e" toName="image" smart="true"><Label value="Cat"/></EllipseLabels>"""


@pytest.mark.parametrize("tag", sorted({**LABELLED, **PLAIN}.values()))
def test_what_is_painted_or_traced_says_which_pixels_and_boxes_and_points_do_not(tag: str):
    control = only(
        config(
            f'<{tag} name="x" toName="image"><Label value="Cat"/></{tag}>'
            '<Labels name="words" toName="image"><Label value="Cat"/></Labels>'
        )
    )

    outlines = ("brush", "bitmask", "polygon", "vector")
    assert control.outlines == tag.lower().startswith(outlines)


def test_smart_points_and_boxes_are_tools_that_ask_and_are_never_filled():
    read = parse(config(TOOLS + brush()))

    assert [control.from_name for control in read.controls] == ["seg"]
    assert [(tool.kind, tool.from_name, tool.to_name) for tool in read.prompts] == [
        ("keypointlabels", "k", "image"),
        ("rectanglelabels", "r", "image"),
        ("ellipselabels", "e", "image"),
    ]


@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels", "BitmaskLabels"])
def test_a_smart_mask_is_filled_like_any_other(tag: str):
    control = only(
        config(f'<{tag} name="seg" toName="image" smart="true"><Label value="Cat"/></{tag}>')
    )

    assert control.kind == tag.lower()


@pytest.mark.parametrize("switch", ['model_skip="true"', 'model_skip="1"'])
def test_a_skipped_control_is_set_aside(switch: str):
    other = f'<PolygonLabels name="p" toName="image" {switch}><Label value="x"/></PolygonLabels>'

    assert only(config(brush() + other)).from_name == "seg"


def test_a_skipped_label_is_not_looked_for():
    control = only(config(brush('<Label value="a"/><Label value="b" model_skip="true"/>')))

    assert [label.name for label in control.labels] == ["a"]


def test_controls_of_other_kinds_are_passed_over():
    others = """<Choices name="c" toName="image"><Choice value="y"/></Choices>
      <TextArea name="t" toName="image"/><Number name="n" toName="image"/>"""

    assert only(config(others + brush())).from_name == "seg"


@pytest.mark.parametrize("kind", sorted(LABELLED))
def test_every_tag_with_labels_can_be_filled(kind: str):
    tag = LABELLED[kind]
    control = only(config(f'<{tag} name="x" toName="image"><Label value="Cat"/></{tag}>'))

    assert (control.kind, control.labels_name) == (kind, None)


@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_a_plain_tag_takes_the_labels_of_the_labels_tag_beside_it(kind: str):
    control = only(
        config(
            f'<{PLAIN[kind]} name="x" toName="image"/>'
            '<Labels name="words" toName="image"><Label value="Cat" alias="c"/></Labels>'
        )
    )

    assert (control.kind, control.labels_name) == (kind, "words")
    assert [label.result_name for label in control.labels] == ["c"]


def test_what_stands_on_the_labels_tag_holds_for_the_tag_that_uses_it():
    shape = '<Brush name="x" toName="image" model_smooth="2"/>'
    words = '<Labels name="words" toName="image" model_smooth="3" model_overlap="true">'

    control = only(config(f'{shape}{words}<Label value="Cat"/></Labels>'))

    assert control.options == {"model_smooth": 2, "model_overlap": True}


def answers(attributes: str = 'model_fill="true"', tag: str = "Choices") -> str:
    return f"""<{tag} name="what" toName="image" {attributes}>
      <Choice value="Animal"><Choice value="Cat" alias="c"/><Choice value="Dog"/></Choice>
      <Choice value="Car"/></{tag}>"""


def test_choices_are_answered_only_where_the_config_asks_for_it():
    with pytest.raises(ConfigError, match="'what' is answered only with model_fill"):
        parse(config(answers("")))


def test_a_taxonomy_looks_for_the_innermost_and_keeps_the_way_to_them():
    control = only(config(answers(tag="Taxonomy")))

    assert [(*label.path, label.result_name) for label in control.labels] == [
        ("Animal", "c"),
        ("Animal", "Dog"),
        ("Car",),
    ]
    assert control.several


@pytest.mark.parametrize(("choice", "several"), [("", False), ('choice="multiple"', True)])
def test_choices_take_one_answer_or_several(choice: str, several: bool):
    assert only(config(answers(f'model_fill="true" {choice}'))).several is several


def test_choices_about_regions_are_not_answered_and_that_is_said():
    read = parse(config(brush() + answers('model_fill="true" perRegion="true"')))

    assert [control.from_name for control in read.controls] == ["seg"]
    assert read.warnings == ("'what' asks about regions, not about the picture: not answered",)


def test_answers_about_a_list_of_pictures_are_set_aside_and_that_is_said():
    pages = '<Image name="image" valueList="$photos"/>'

    read = parse(config(brush() + answers(), pages))

    assert [control.from_name for control in read.controls] == ["seg"]
    assert read.warnings == ("'what' asks about a list of pictures: not answered",)


def test_labels_beside_those_of_the_task_are_all_there_is_and_that_is_said():
    read = parse(config(brush('<Label value="fix"/>', 'value="$labels"')))

    assert [label.name for label in read.controls[0].labels] == ["fix"]
    assert read.warnings == (
        "'seg' lists labels and takes others from $labels: only those listed are looked for",
    )


def test_a_hint_that_stands_in_for_a_code_is_said():
    read = parse(config(brush('<Label value="cls_1" hint="press W"/>')))

    assert read.controls[0].labels[0].words == ("press W",)
    (warning,) = read.warnings
    assert warning.startswith("'cls_1' is no readable word, so its hint 'press W' is looked for")


def test_a_taxonomy_from_task_data_looks_for_the_innermost():
    tree = '<Taxonomy name="t" toName="image" value="$tree" model_fill="true"/>'
    given = [{"value": "animal", "children": [{"value": "cat", "alias": "c"}]}, {"value": "plant"}]

    labels = only(config(tree)).with_labels({"tree": given}).labels

    assert [(*label.path, label.result_name) for label in labels] == [("animal", "c"), ("plant",)]


def test_a_task_must_not_list_an_alias_twice():
    control = only(config(brush("", 'value="$labels"')))

    with pytest.raises(ConfigError, match="the task lists twice the label 'x'"):
        control.with_labels({"labels": [{"value": "a", "alias": "x"}, {"value": "x"}]})


def test_labels_from_task_data_are_found_there():
    control = only(config(brush("", 'value="$labels"')))
    assert control.labels_key == "labels"
    assert control.labels == ()

    given: dict[str, Any] = {
        "labels": ["sky", {"value": "Road", "alias": "r", "predicted_values": "road, street"}]
    }
    labels = control.with_labels(given).labels

    assert [(one.result_name, one.words) for one in labels] == [
        ("sky", ("sky",)),
        ("r", ("road", "street")),
    ]


@pytest.mark.parametrize("data", [{}, {"labels": []}, {"labels": "sky"}, {"labels": [{"x": 1}]}])
def test_a_task_without_its_labels_is_told_so(data: dict[str, Any]):
    control = only(config(brush("", 'value="$labels"')))

    with pytest.raises(ConfigError, match="takes its labels from 'labels'; the task has no such"):
        control.with_labels(data)


def test_a_list_of_pictures_is_understood():
    image = '<Image name="image" valueList="$photos" model_page="$page"/>'

    found = only(config(brush(), image)).image

    assert (found.data_key, found.listed, found.page_key) == ("photos", True, "page")


def test_unknown_model_attributes_are_warned_about_by_name():
    read = parse(config(brush(attributes='model_smoth="3"')))

    assert read.warnings == (
        "'seg' has an unknown attribute model_smoth; the nearest known is model_smooth",
    )


def test_more_than_a_hundred_labels_are_warned_about():
    labels = "".join(
        f'<Label value="thing {chr(97 + n // 26)}{chr(97 + n % 26)}"/>' for n in range(101)
    )

    (warning,) = parse(config(brush(labels))).warnings

    assert warning.startswith("'seg' has 101 labels; published accuracy collapses above 100")


def test_blanks_around_and_inside_names_do_not_make_new_words():
    control = only(config(brush('<Label value=" Road   surface "/>')))

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
            config('<TextArea name="k" toName="image"/>'),
            "TextArea cannot be pre-labelled; use BrushLabels for an Image",
        ),
        (
            config('<Text name="t" value="$t"/>' + brush().replace('"image"', '"t"')),
            "BrushLabels 'seg' points to 't', which is not an Image",
        ),
        (
            config(brush(attributes='model_skip="true"')),
            "Nothing to pre-label: 'seg' is marked model_skip",
        ),
        (
            config(TOOLS),
            "Nothing to pre-label: 'k' is marked smart: it asks and is never filled",
        ),
        (
            config('<Brush name="b" toName="image"/>'),
            "Nothing to pre-label: 'b' has no Labels tag beside it",
        ),
        (config(brush("")), "BrushLabels 'seg' has no labels"),
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
            config(brush(), '<Image name="image" valueList="photos"/>'),
            "Image 'image' needs valueList=\"$key\", the task's data key",
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
