"""Pictures per second against how many of them are looked at together."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backend.labelstudio import label_config
from backend.painting import Painted, image_result
from backend.plan import vocabularies
from cliper_model import decide
from cliper_model.methods.cliper import Cliper
from cliper_model.segmenter import Decision, Segmentation
from cliper_model.shapes import Image

from . import floors


def measure(
    model: Cliper,
    pictures: Sequence[Image],
    words: Sequence[str],
    *,
    batches: Sequence[int],
    rounds: int,
    device: str,
) -> dict[str, list[dict[str, Any]]]:
    """Per refinement, on and off where the profile has any, one row per size of a batch.

    `pictures`, all of one size, are at least as many as the largest batch holds. Rounds go up and
    down through all sizes in turn, after one that is not counted.
    """
    return {
        name: _rows(one, pictures, words, batches=batches, rounds=rounds, device=device)
        for name, one in with_and_without_refinement(model).items()
    }


def with_and_without_refinement(model: Cliper) -> dict[str, Cliper]:
    coarse = model.with_numbers(refinement="none")
    assert isinstance(coarse, Cliper)
    refined = {} if model.config.refinement == "none" else {"refined": model}
    return {**refined, "without refinement": coarse}


def _rows(
    model: Cliper,
    pictures: Sequence[Image],
    words: Sequence[str],
    *,
    batches: Sequence[int],
    rounds: int,
    device: str,
) -> list[dict[str, Any]]:
    predict = predicting(model, words)
    seconds: dict[int, list[float]] = {size: [] for size in batches}
    for size in batches:
        predict(pictures[:size])
    for number in range(rounds):
        for size in batches if number % 2 == 0 else reversed(batches):
            part = pictures[:size]
            seconds[size].append(floors.once(lambda part=part: predict(part), device)[0])  # type: ignore[misc]
    return [_row(size, seconds[size]) for size in batches]


def _row(size: int, seconds: Sequence[float]) -> dict[str, Any]:
    middle = statistics.median(seconds)
    spread = {"min": min(seconds), "median": middle, "max": max(seconds)}
    return {
        "batch": size,
        "images_per_second": round(size / middle, 2),
        "seconds": {name: round(value, 4) for name, value in spread.items()},
    }


def predicting(model: Cliper, words: Sequence[str]) -> Callable[[Sequence[Image]], list[bytes]]:
    """From pixels to the regions of every picture, as JSON; words are read once, now."""
    vocabulary = model.read(words)
    decision = model.decision(vocabulary.preset)
    write = writing(words, decision)

    def predict(pictures: Sequence[Image]) -> list[bytes]:
        states = model.observe_many(pictures)
        return [write(decide(model.score(state, vocabulary), decision)) for state in states]

    return predict


def writing(words: Sequence[str], decision: Decision) -> Callable[[Segmentation], bytes]:
    """What a BrushLabels control with these words stores of a picture, as JSON."""
    (one,) = vocabularies(label_config.parse(brush_config(words)), ())

    def write(found: Segmentation) -> bytes:
        painted = Painted(one=one, segmentation=found, decision=decision)
        return image_result([painted], size_hw=found.size_hw, index=None, seed="bench").regions

    return write


def brush_config(words: Sequence[str], *, more: Mapping[str, str] | None = None) -> str:
    """A label config with brush masks; `more`: tag -> its attributes, with the same labels."""
    labels = "".join(f'<Label value="{word}"/>' for word in words)
    tags = {"BrushLabels": 'name="masks" toName="photo"', **(more or {})}
    controls = "".join(f"<{tag} {given}>{labels}</{tag}>" for tag, given in tags.items())
    return f'<View><Image name="photo" value="$image"/>{controls}</View>'
