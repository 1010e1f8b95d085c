"""Which annotation counts, what it is held against, and exports of any size."""

import io
import json
from pathlib import Path

import pytest

from backend.errors import BadRequest
from backend.report import reading
from backend.report.reading import BEFORE, PARENT, UNSEEN, answer_of, elements, made_of, pairs_of

from ....doubles.corrections import annotated, predicted


def answer(**fields):
    found = answer_of([annotated([], **fields)])
    assert found is not None
    return found


def test_of_several_annotations_the_latest_counts():
    older, newer = annotated([], hour=2, id=9), annotated([], hour=3, id=4)

    found = answer_of([newer, older])

    assert found is not None
    assert found.id == 4


def test_the_ground_truth_counts_before_later_ones():
    truth = annotated([], hour=2, id=1, ground_truth=True)

    found = answer_of([truth, annotated([], hour=3, id=2)])

    assert found is not None
    assert found.id == 1


def test_skipped_annotations_never_count():
    assert answer_of([annotated([], was_cancelled=True)]) is None
    assert answer_of([]) is None


@pytest.mark.parametrize("seconds", [None, 0, -3, True, float("nan"), "5"])
def test_seconds_that_are_none_are_not_taken(seconds):
    assert answer(lead_time=seconds).seconds is None


def test_the_prediction_it_started_from_is_the_only_one_to_compare():
    made = made_of([predicted(1, []), predicted(2, [], version="v2")], answer())

    (pair,) = pairs_of(answer(parent=1), made)

    assert (pair.made.id, pair.basis) == (1, PARENT)


def test_without_it_the_newest_from_before_the_annotation_was_corrected():
    made = made_of(
        [
            predicted(1, [], hour=1),
            predicted(2, [], hour=2, version="v2"),
            predicted(3, [], hour=9, version="v3"),
            predicted(4, [], hour=9, version="v1"),
        ],
        answer(),
    )

    pairs = pairs_of(answer(hour=5), made)

    assert [(one.made.id, one.basis) for one in pairs] == [(1, UNSEEN), (2, BEFORE), (3, UNSEEN)]


def test_a_prediction_made_later_was_seen_by_nobody():
    (pair,) = pairs_of(answer(hour=5), made_of([predicted(1, [], hour=6)], answer()))

    assert not pair.is_seen


def test_where_what_it_started_from_is_gone_nothing_was_seen():
    (pair,) = pairs_of(answer(parent=77), made_of([predicted(1, [])], answer()))

    assert pair.basis == UNSEEN


def test_a_version_that_is_asked_for_is_compared_in_any_case():
    made = made_of([predicted(1, []), predicted(2, [], version="v2")], answer())

    (pair,) = pairs_of(answer(parent=1), made, "v2")

    assert (pair.made.id, pair.basis) == (2, UNSEEN)
    assert pairs_of(answer(parent=1), made, "v9") == ()


def test_a_plain_export_has_the_prediction_kept_with_the_annotation():
    found = answer(parent=8, prediction=predicted(8, [{"type": "brushlabels"}]))

    made = made_of([8, 9], found)

    assert [one.id for one in made] == [8]
    assert pairs_of(found, made)[0].basis == PARENT


def test_a_prediction_that_names_no_version_is_called_as_label_studio_calls_it():
    (made,) = made_of([{"id": 1, "model_version": None, "result": None}], answer())

    assert made.version == "undefined"
    assert made.regions == ()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_elements_come_as_they_were_whatever_is_read_at_once(count, chunk, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    items = [{"id": number, "text": 'a ] , " [ é' * number} for number in range(count)]

    assert list(elements(io.StringIO(json.dumps(items, indent=2)))) == items


def test_the_first_task_is_there_before_the_last_is_read(monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 8)
    file = io.StringIO('[{"id": 1}, ' + " " * 1000 + '{"id": 2}]')

    next(elements(file))

    assert file.tell() < 100


@pytest.mark.parametrize("text", ["", "{}", "[1", '[{"id": 1}', '[{"id": 1} {"id": 2}]', "[,]"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        list(elements(io.StringIO(text)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "is not a JSON list of tasks"),
        ("[[]]", "export the project as JSON, not JSON-MIN"),
        ('[{"image": "a.png", "label": []}]', "export the project as JSON, not JSON-MIN"),
    ],
)
def test_a_file_that_is_no_export_says_so(text, sentence, tmp_path: Path):
    path = tmp_path / "export.json"
    path.write_text(text)

    with pytest.raises(BadRequest, match=sentence):
        list(reading.tasks_of(path))


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(BadRequest, match="cannot be read"):
        list(reading.tasks_of(tmp_path / "none.json"))
