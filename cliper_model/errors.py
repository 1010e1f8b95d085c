"""What can go wrong in the model, each with one sentence that says what to do.

Whoever shows a sentence may have to cut it (a status line holds less than 200 characters), so
the remedy comes first where facts can be long, and lists come last.

CliperError
├── UnknownMethod          a segmentation method nobody registered
├── UnknownProfile         a profile name that does not exist
├── UnknownPreset          a decision preset that does not exist
├── UnknownSource          a feature source that does not exist
├── UnneededSource         a feature source for a method that has no use for one
├── UnneededStudent        a trained student for a method that has no use for one
├── UnknownVae             an image encoder that does not exist
├── UnneededVae            an image encoder where none of its kind is to stand in for another
├── EmptyVocabulary        nothing to look for
├── UntrainedWords         a word outside the demo text tower's training
├── NoSuchDevice           a device this machine does not have
├── UnfitPrecision         a number format that this model or device is not for
├── UnknownStyle           a style of drawn scenes that does not exist
├── UnusableGenerator      a file that draws no scenes of the demo's labels
├── BadImage               an array that is not an HWC uint8 picture
├── IncompatibleState      an ImageState of another method, model or format
├── NotTaught              a method that corrections cannot teach
└── WeightsError
    ├── WeightsMissing     files that are not on this machine
    ├── WeightsMismatch    files that do not fit the model (layout, shape, activation)
    ├── WeightsCorrupt     files whose checksum is wrong
    └── DiskFull           no room for the files to download
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024  # bytes


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


class UnknownSource(CliperError):
    """The caller asked for a feature source that is not in the table."""

    def __init__(self, features: str, known: Sequence[str]) -> None:
        super().__init__(
            f"unknown feature source {features!r}; choose one of: {', '.join(known)}; a file of "
            f"your own is given as NAME:FILE: 'unet' always needs one, 'clip' and the diffusion "
            f"sources, which are the profile's own, take none"
        )
        self.features, self.known = features, tuple(known)


class UnneededSource(CliperError):
    """The method does not look through a feature source."""

    def __init__(self, method: str, features: str) -> None:
        super().__init__(
            f"leave the feature source out: {method} has no use for {features!r}; proxyclip, "
            f"proxyclip-adjust and cliper do"
        )
        self.method, self.features = method, features


class UnneededStudent(CliperError):
    """The method is not a trained student."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"leave the student out, or choose METHOD=maskclip+: {method} has no use for it"
        )
        self.method = method


class UnknownVae(CliperError):
    """The caller asked for an encoder in front of Stable Diffusion that is not in the table."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"unknown VAE {name!r}; leave it out, or choose one of: {', '.join(known)}"
        )
        self.name, self.known = name, tuple(known)


class UnneededVae(CliperError):
    """Nothing runs whose encoder another may stand in for."""

    def __init__(self, vae: str, because: str) -> None:
        super().__init__(f"leave the VAE {vae!r} out: {because}")
        self.vae, self.because = vae, because


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
            f"choose a profile with real weights (PROFILE=fast), or storybook words: the demo "
            f"model does not know {quoted}; it knows only {', '.join(known)}"
        )
        self.words, self.known = tuple(words), tuple(known)


class NoSuchDevice(CliperError):
    """The caller asked for a device that is not in this machine."""

    def __init__(self, device: str, known: Sequence[str]) -> None:
        super().__init__(f"no device {device!r} is found here; choose one of: {', '.join(known)}")
        self.device, self.known = device, tuple(known)


class UnfitPrecision(CliperError):
    """The caller asked for a number format that brings nothing here, or was not measured."""

    def __init__(self, name: str, because: str) -> None:
        super().__init__(f"leave the number format {name!r} out: {because}")
        self.name, self.because = name, because


class UnknownStyle(CliperError):
    """The caller asked for a style of scenes that is not in the table."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown style {name!r}; choose one of: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


class UnusableGenerator(CliperError):
    """The caller named a file that draws no scenes of the demo's labels."""


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


class NotTaught(CliperError):
    """Corrections are to teach a method that has no place for what was learnt."""

    def __init__(self, method: str) -> None:
        super().__init__(f"the method {method!r} cannot learn from corrections; use cliper")
        self.method = method


class WeightsError(CliperError):
    """Root of everything about weight files."""


class WeightsMissing(WeightsError):
    """Weight files are not on this machine.

    `remedy` is short and comes first; `details` (another way, or why downloads failed) may be
    long and come last.
    """

    def __init__(
        self, what: str, places: Sequence[str | Path], remedy: str, *, details: str = ""
    ) -> None:
        looked = ", ".join(str(place) for place in places) or "nowhere"
        more = f"; {details}" if details else ""
        super().__init__(f"{remedy}: {what} not found (looked in {looked}){more}")
        self.what, self.places, self.remedy = what, tuple(map(str, places)), remedy


class WeightsMismatch(WeightsError):
    """Weight files do not fit the model that should load them."""


class WeightsCorrupt(WeightsError):
    """A weight file's checksum differs from the recorded one."""

    def __init__(self, path: str | Path, wanted: str, found: str, *, remedy: str) -> None:
        super().__init__(
            f"{remedy}: {path} is damaged, SHA-256 {found[:12]}… instead of {wanted[:12]}…"
        )
        self.path, self.wanted, self.found = str(path), wanted, found
        self.remedy = remedy


class DiskFull(WeightsError):
    """There is not enough room for the files to download; sizes are in bytes."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(
            f"make room or set MODEL_DIR to a folder on a larger disk: {-(-needed // MIB)} MiB "
            f"are needed, {free // MIB} MiB are free in {folder}"
        )
        self.folder, self.needed, self.free = str(folder), needed, free
