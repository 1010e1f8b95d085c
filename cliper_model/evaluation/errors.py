"""What can go wrong with a measurement, each with one sentence that says what to do.

EvaluationError (a CliperError)
├── UnknownDataset     a data set without a data file
├── BadDataset         folders, lists or masks that are not what the data set says
├── NoSuchNumbers      a method or model the data file has no numbers for
├── NotApplicable      an option that would change nothing
├── RunDiffers         a folder that holds another measurement
└── CannotMerge        shards that are not parts of one measurement
"""

from collections.abc import Sequence

from ..errors import CliperError


class EvaluationError(CliperError):
    """Root of everything about measuring."""


class UnknownDataset(EvaluationError):
    """The caller asked for a data set that has no data file."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown data set {name!r}; choose one of: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class BadDataset(EvaluationError):
    """What lies under --root is not the data set it should be."""


class NoSuchNumbers(EvaluationError):
    """The data file has no numbers for this method, or not for this model."""


class NotApplicable(EvaluationError):
    """An option that this method or this data knows nothing of; it would change nothing."""


class RunDiffers(EvaluationError):
    """The folder holds a measurement made with other settings."""


class CannotMerge(EvaluationError):
    """The shards given are not the parts of one measurement."""
