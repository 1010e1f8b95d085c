"""What can go wrong in the model, each with one sentence that says what to do.

CliperError
├── UnknownMethod          a segmentation method nobody registered
├── UnknownProfile         a profile name that does not exist
├── UnknownPreset          a decision preset that does not exist
├── EmptyVocabulary        nothing to look for
├── UntrainedWords         a word outside the demo text tower's training
├── BadImage               an array that is not an HWC uint8 picture
├── IncompatibleState      an ImageState of another method, model or format
└── WeightsError
    ├── WeightsMissing     files that are not on this machine
    ├── WeightsMismatch    files that do not fit the model (layout, shape, activation)
    └── WeightsCorrupt     files whose checksum is wrong
"""

from collections.abc import Sequence
from pathlib import Path


class CliperError(Exception):
    """Root of everything this package raises on purpose."""


class UnknownMethod(CliperError):
    """The caller asked for a segmentation method that is not registered."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown method {name!r}; choose one of: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class UnknownProfile(CliperError):
    """The caller asked for a profile that is not shipped."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown profile {name!r}; choose one of: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class UnknownPreset(CliperError):
    """The caller asked for a decision preset that is not shipped."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown preset {name!r}; choose one of: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class EmptyVocabulary(CliperError):
    """No label is left that names something visible."""

    def __init__(self) -> None:
        super().__init__(
            "no label names something to look for; give at least one label that is not "
            "Background, Other, Void, Unlabeled or Ignore"
        )


class UntrainedWords(CliperError):
    """The demo text tower was not trained on these words."""

    def __init__(self, words: Sequence[str], known: Sequence[str]) -> None:
        quoted = ", ".join(repr(word) for word in words)
        super().__init__(
            f"the demo model does not know {quoted}; it was trained on a few storybook words "
            f"only ({', '.join(known)}): use one of these, or a profile with real weights "
            "(PROFILE=fast)"
        )
        self.words, self.known = tuple(words), tuple(known)


class BadImage(CliperError):
    """The picture is not an array [height, width, 3] of uint8."""

    def __init__(self, what: str) -> None:
        super().__init__(f"expected an RGB picture as uint8 [height, width, 3], got {what}")


class IncompatibleState(CliperError):
    """A stored ImageState does not belong to this method or format version."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"this image state is of {found!r}, not {wanted!r}; observe the image again"
        )
        self.found, self.wanted = found, wanted


class WeightsError(CliperError):
    """Root of everything about weight files."""


class WeightsMissing(WeightsError):
    """Weight files are not on this machine."""

    def __init__(self, what: str, places: Sequence[str | Path], remedy: str) -> None:
        looked = ", ".join(str(place) for place in places) or "nowhere"
        super().__init__(f"{what} not found (looked in {looked}); {remedy}")
        self.what, self.places, self.remedy = what, tuple(map(str, places)), remedy


class WeightsMismatch(WeightsError):
    """Weight files do not fit the model that should load them."""


class WeightsCorrupt(WeightsError):
    """A weight file's checksum differs from the recorded one."""

    def __init__(self, path: str | Path, wanted: str, found: str) -> None:
        super().__init__(
            f"{path} is damaged: SHA-256 {found[:12]}… instead of {wanted[:12]}…; "
            "delete it and run 'cliper weights fetch' again"
        )
        self.path, self.wanted, self.found = str(path), wanted, found
