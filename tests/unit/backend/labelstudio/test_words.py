"""Labels -> words a text tower can read."""

import pytest

from backend.labelstudio.words import cleaned, is_latin, words_of


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("cls_03 - Person", "Person"),
        ("03: Person", "Person"),
        ("12. road", "road"),
        ("A1) chest bone", "chest bone"),
        ("[7] Person", "Person"),
        ("class 3: dog", "dog"),
        ("label 2 - Big cat", "Big cat"),
        ("Person (03)", "Person"),
        ("Person [cls_3]", "Person"),
        ("03_person", "person"),
        ("person_03", "person"),
        ("class_03_person", "person"),
        ("car_1", "car"),
        ("Boeing_747", "Boeing 747"),
        ("traffic_light", "traffic light"),
        ("traffic-light", "traffic light"),
        ("TrafficLight", "Traffic Light"),
        ("  Road   surface ", "Road surface"),
    ],
)
def test_a_code_around_a_word_is_taken_away(value: str, word: str):
    assert cleaned(value) == word


@pytest.mark.parametrize(
    "value", ["cls_03", "class 3", "0001", "c-12", "id_5", "Class", "[7]", "--"]
)
def test_of_a_code_alone_nothing_is_left(value: str):
    assert cleaned(value) == ""


@pytest.mark.parametrize(
    "value",
    [
        *("MP3 player", "2 wheels", "B2 bomber", "T-shirt", "X-ray", "A4 paper", "12-seat van"),
        *("24/7 store", "MP3/CD player", "A4/letter paper", "CO2", "H2O", "COVID-19", "ROI"),
    ],
)
def test_a_number_that_belongs_to_a_name_stays(value: str):
    assert cleaned(value) == value


def test_predicted_values_come_before_everything():
    assert words_of("cls_1", predicted_values=("cat", "kitten"), hint="x") == ("cat", "kitten")


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("Cat", "a domestic cat", ("Cat",)),
        ("cls_1", "cat", ("cat",)),
        ("Дорога", "road", ("road",)),
        ("Дорога", "проезжая часть", ("Дорога",)),
        ("cls_1", "", ("cls_1",)),
    ],
)
def test_the_hint_helps_where_the_value_is_no_readable_word(value, hint, words):
    assert words_of(value, hint=hint) == words


def test_letters_with_accents_are_latin_and_other_scripts_are_not():
    assert is_latin("façade")
    assert not is_latin("道路")
    assert not is_latin("123")
