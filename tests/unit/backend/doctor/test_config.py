"""What is said about a label config: what it asks for, and where every number comes from."""

from pathlib import Path
from typing import Any

import pytest

from backend.doctor.case import Case
from backend.doctor.config import extra_params
from backend.doctor.config import label_config as check
from backend.doctor.findings import FAIL, OK, WARN, Finding
from backend.errors import ConfigError

from .conftest import MakeCase

LABELS = '<Label value="house" model_min_area="0.01"/><Label value="tree" alias="t"/>'


def xml(labels: str = LABELS, attributes: str = "", more: str = "") -> str:
    return (
        '<View><Image name="photo" value="$image"/>'
        f'<BrushLabels name="masks" toName="photo" {attributes}>{labels}</BrushLabels>{more}</View>'
    )


def examined(case: Case) -> Finding:
    (finding,) = check(case)
    return finding


def case_of(make_case: MakeCase, config: str, **facts: Any) -> Case:
    return make_case(project={"id": 3, "title": "Cats", "label_config": config}, **facts)


def test_every_number_comes_with_its_source(make_case: MakeCase, environ: dict[str, str]):
    environ["MODEL_SMOOTH"] = "2"
    connection = {"id": 1, "extra_params": '{"model_holes": 0.1}'}
    config = xml(attributes='model_mask_threshold="0.3" model_overlap="true"')
    case = case_of(make_case, config, connections=[connection])

    finding = examined(case)

    assert finding.state == OK
    (control,) = finding.details["controls"]
    assert (control["output"], control["image"], control["preset"]) == (
        "brushlabels",
        "photo",
        "objects",
    )
    assert (control["model_smooth"], control["sources"]["model_smooth"]) == (2, "environment")
    assert (control["model_holes"], control["sources"]["model_holes"]) == (0.1, "extra_params")
    assert control["sources"]["model_overlap"] == "tag"
    house, tree = control["labels"]
    assert (house["model_min_area"], house["sources"]["model_min_area"]) == (0.01, "label")
    assert (tree["result"], tree["words"]) == ("t", ["tree"])
    assert (tree["model_mask_threshold"], tree["sources"]["model_mask_threshold"]) == (0.3, "tag")
    assert 0 < tree["model_score_threshold"] < 1
    assert tree["sources"]["model_score_threshold"] == "preset"
    assert any("looks for house" in line and "0.01 (label)" in line for line in finding.lines)
    assert case.plan is not None


def test_smart_tools_dynamic_labels_and_the_rest_have_their_lines(make_case: MakeCase):
    tips = (
        '<KeyPointLabels name="tips" toName="photo" smart="true"><Label value="house"/>'
        "</KeyPointLabels>"
    )
    rest = '<Label value="Background" model_fill="true"/>'
    dynamic = '<PolygonLabels name="outlines" toName="photo" value="$labels"/>'

    finding = examined(case_of(make_case, xml(LABELS + rest, more=tips + dynamic)))

    text = "\n".join(finding.lines)
    assert "clicks: tips (keypointlabels)" in text
    assert "labels come from the task's 'labels'" in text
    assert "Background: paints the rest" in text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("<View/>", "no Image tag"),
        ("<View", "not well-formed"),
        (xml('<Label value="mauve"/>'), "mauve"),
        (xml(attributes='model_holes="many"'), "model_holes"),
        (xml(attributes='model_method="none-such"'), "none-such"),
    ],
)
def test_a_config_that_cannot_be_used_fails_with_one_sentence(
    make_case: MakeCase, config: str, said: str
):
    case = case_of(make_case, config)

    finding = examined(case)

    assert finding.state == FAIL
    assert said in finding.finding
    assert case.plan is None


def test_warnings_of_config_and_words_are_told(make_case: MakeCase):
    unknown = examined(case_of(make_case, xml(attributes='model_score_treshold="0.3"')))
    alike = '<Label value="house"/><Label value="houses" predicted_values="house"/>'
    words = examined(case_of(make_case, xml(alike)))

    assert unknown.state == WARN
    assert "the nearest known is model_score_threshold" in unknown.finding
    assert words.state == WARN
    assert "mean nearly the same" in words.finding
    assert words.details["words_read"] is True


def test_without_weights_only_the_cheap_checks_run_and_it_says_so(
    make_case: MakeCase,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    environ |= {"PROFILE": "fast", "MODEL_DIR": str(tmp_path / "weights")}

    finding = examined(case_of(make_case, xml('<Label value="cls_03"/>')))

    assert finding.state == WARN
    assert "'cls_03' is a code, not a word" in finding.finding
    assert finding.details["words_read"] is False
    assert any("its weights are not here" in line for line in finding.lines)


def test_extra_params_may_be_a_text_an_object_or_nothing(make_case: MakeCase):
    def read(given: object) -> object:
        return extra_params(make_case(connections=[{"id": 1, "extra_params": given}]))

    assert read('{"a": 1}') == {"a": 1}
    assert read({"a": 1}) == {"a": 1}
    assert read("") is None
    assert read(None) is None
    assert extra_params(make_case()) is None
    with pytest.raises(ConfigError, match="not JSON"):
        read("plain text")
