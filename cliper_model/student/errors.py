"""What can go wrong around a student, each with one sentence that says what to do.

CliperError
└── StudentError
    ├── NothingToLearn        no pictures, or labels nobody could learn
    ├── BrokenPicture         a training picture or label map that cannot be used
    ├── CheckpointExists      a checkpoint would be overwritten
    ├── CheckpointMissing     there is nothing to go on from, or to segment with
    ├── CheckpointUnreadable  a file that is no student
    ├── CheckpointDiffers     a checkpoint of other names, pictures, teacher or settings
    ├── UnlearnedWords        words the student was not trained on
    └── LossNotFinite         training left the numbers behind
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import CliperError


class StudentError(CliperError):
    """Root of everything about students."""


class NothingToLearn(StudentError):
    """There is no picture, or nothing to tell apart."""


class BrokenPicture(StudentError):
    """A training picture or its label map cannot be used."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"repair or remove {path}: {why}")
        self.path, self.why = str(path), why


class CheckpointExists(StudentError):
    """Training from the beginning would overwrite a student."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"go on with --resume or choose another --out: {path} exists")
        self.path = str(path)


class CheckpointMissing(StudentError):
    """No student lies where one was expected."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"train one with cliper train-student, or check the path: there is no student in {path}"
        )
        self.path = str(path)


class CheckpointUnreadable(StudentError):
    """The file is no student, or was damaged."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"train the student again or restore the file: {path} {why}")
        self.path, self.why = str(path), why


class CheckpointDiffers(StudentError):
    """A checkpoint belongs to another training; `what` names the difference."""

    def __init__(self, what: str, stored: object, asked: object) -> None:
        super().__init__(
            f"resume with the same {what} or choose another --out: the checkpoint has "
            f"{_short(stored)}, this training {_short(asked)}"
        )
        self.what = what


class UnlearnedWords(StudentError):
    """The student was not trained on these words."""

    def __init__(self, words: Sequence[str], known: Sequence[str]) -> None:
        quoted = ", ".join(repr(word) for word in words)
        super().__init__(
            f"train a student on {quoted} or ask for what this one knows: {', '.join(known)}"
        )
        self.words, self.known = tuple(words), tuple(known)


class LossNotFinite(StudentError):
    """The loss became infinite or not a number."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"train again with a lower learning rate: the loss is no finite number at step {step}"
        )
        self.step = step


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
