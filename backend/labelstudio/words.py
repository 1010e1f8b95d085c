"""What a label is called in words a text tower can read.

    predicted_values   if there are any, they and nothing else
    value              cleaned of codes: `cls_03 - Person` is read as `Person`
    hint               where the value is nothing but a code, or not in Latin letters
    value              as it stands, where there is no hint either

Cleaning, in this order:

    1. a code in front, up to a dash, colon, full stop, bracket, bar or slash: `03: Person`,
       `cls_03 - Person`, `A1) Person`, `[7] Person`
    2. a code in brackets behind: `Person (03)`, `Person [cls_3]`
    3. numbers tied on by an underscore, behind at most two digits: `03_person`, `person_03`,
       `class_03_person`
    4. underscores, and dashes between letters, become blanks: `traffic_light`, `traffic-light`
    5. words run together are taken apart: `trafficLight`, `TrafficLight`

A code is a number, with at most two letters or a word such as `class` or `id` before it; standing
alone, with at most one letter (`c-12`), since `CO2` and `H2O` are words. A number that belongs to a
name (`MP3 player`, `2 wheels`, `24/7 store`) stays, since nothing divides them.
"""

import re

GENERIC = "class|cls|label|lbl|category|object|obj|type|id|no|nr"  # say nothing about the thing
CODE = rf"(?:[A-Za-z]{{0,2}}|{GENERIC})[ ._#-]?\d[\d._-]*[A-Za-z]?"
FRONT = re.compile(
    rf"^(?:[\[(]\s*{CODE}\s*[\])]\s*[-:.|/]?|{CODE}(?:\s+[-–—/]\s+|\s*[:)|]|\.\s))\s*", re.I
)
BEHIND = re.compile(rf"\s*[\[(]\s*{CODE}\s*[\])]$", re.I)
TIED_FRONT = re.compile(rf"^(?:(?:{GENERIC})_)?\d+_(?=[^\W\d])", re.I)
TIED_BEHIND = re.compile(r"(?<=[^\W\d])_\d{1,2}$")
ONLY_CODE = re.compile(
    rf"^[\[(]?(?:(?:[A-Za-z]|{GENERIC})?[ ._#-]?\d[\d._-]*|{GENERIC})[\])]?$", re.I
)
BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
HUMP = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")
LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
LETTER = re.compile(r"[^\W\d_]")


def cleaned(value: str) -> str:
    """A label's value without its code, in single blanks; empty where nothing else is left."""
    text = " ".join(value.split())
    if ONLY_CODE.match(text):
        return ""
    for code in (FRONT, BEHIND, TIED_FRONT, TIED_BEHIND):
        text = code.sub("", text)
    if ONLY_CODE.match(text):
        return ""
    text = text.replace("_", " ")
    text = BETWEEN_WORDS.sub(" ", text)
    if " " not in text:
        text = HUMP.sub(" ", text)
    text = " ".join(text.split())
    return text if LETTER.search(text) else ""


def is_latin(text: str) -> bool:
    """Whether most letters are Latin: the text towers have read little else."""
    letters = LETTER.findall(text)
    return bool(letters) and 2 * sum(bool(LATIN.match(one)) for one in letters) > len(letters)


def words_of(
    value: str, *, predicted_values: tuple[str, ...] = (), hint: str = ""
) -> tuple[str, ...]:
    """The words to look for, as the list above has it; never empty unless `value` is."""
    if predicted_values:
        return predicted_values
    word, hint = cleaned(value), " ".join(hint.split())
    if is_latin(word) or not is_latin(hint):
        return (word or " ".join(value.split()),)
    return (hint,)
