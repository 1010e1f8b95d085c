"""`cliper segment`: picture files and words in, label maps, overlays and JSON out."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from cliper_model.errors import CliperError
from cliper_model.segmenter import Label, Segmentation, Segmenter, Vocabulary

from .. import overlay
from ..errors import BadRequest, CouldNotPredict, ImageBroken, ImageMissing, OutOfMemory
from ..images.decode import decode
from ..looking import is_out_of_memory
from ..settings import Settings

HELP = (
    "Segment picture files. For each picture DIR gets NAME.labels.png (label map), "
    "NAME.overlay.png (with legend) and NAME.json (presence, score, area, model)."
)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
MEGA = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture and the path its results start with."""

    picture: Path
    target: Path  # without suffix


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="picture files or folders of them"
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="WORDS",
        help="what to look for: 'sky, house|home|cottage' (commas between labels, | between "
        "synonyms; the first is the label's name)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where results go")
    parser.add_argument("--profile", help="demo, fast, standard or best; like PROFILE")
    parser.add_argument("--method", help="see 'cliper methods'; like METHOD")
    parser.add_argument(
        "--features", metavar="SOURCE", help="feature source, NAME or NAME:FILE; like FEATURES"
    )
    parser.add_argument(
        "--student", type=Path, metavar="FILE", help="trained student of maskclip+; like STUDENT"
    )
    parser.add_argument(
        "--vae", metavar="NAME", help="taesd: encode pictures with the small TAESD; like VAE"
    )
    parser.add_argument(
        "--background",
        metavar="WORDS",
        help="words for everything else; '' labels every pixel; default: the preset's words",
    )
    parser.add_argument("--preset", help="objects or whole-scene; default: by --background")
    parser.add_argument("--device", help="like DEVICE")
    parser.add_argument(
        "--json", action="store_true", help="also print one line of JSON per picture"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 when a picture failed; the others are written all the same.

    Raises BadRequest for labels that cannot be meant, and what loading the model raises.
    """
    settings = Settings.from_environ(os.environ)
    labels = parse_labels(args.labels)
    jobs, failures = plan(args.images, args.out)
    for sentence in failures:
        _complain(sentence)
    if not jobs:
        return 1

    model, profile = _load(args, settings)
    vocabulary = model.read(
        labels, background=parse_background(args.background), preset=args.preset
    )
    failed = len(failures)
    with tqdm(jobs, unit="picture", disable=None, file=sys.stderr) as bar:
        for job in bar:
            bar.set_postfix_str(job.picture.name, refresh=False)
            try:
                report = _one(job, model, profile, vocabulary, settings)
            except Exception as raised:
                error = OutOfMemory() if is_out_of_memory(raised) else raised
                if not isinstance(error, CouldNotPredict | CliperError | OSError):
                    raise
                failed += 1
                with bar.external_write_mode(file=sys.stderr):
                    _complain(f"{job.picture}: {error}")
                continue
            if args.json:
                with bar.external_write_mode(file=sys.stdout):
                    print(json.dumps(report), flush=True)
    done = len(jobs) + len(failures) - failed
    print(
        f"{done} of {len(jobs) + len(failures)} pictures segmented into {args.out}", file=sys.stderr
    )
    return 1 if failed else 0


def parse_labels(text: str) -> list[Label]:
    """'sky, house|home' -> labels with synonyms. Raises BadRequest for empty or double names."""
    labels = []
    for part in text.split(","):
        words = tuple(" ".join(word.split()) for word in part.split("|"))
        words = tuple(word for word in words if word)
        if words:
            labels.append(Label(words[0], words if len(words) > 1 else ()))
    if not labels:
        raise BadRequest("--labels names nothing; write for example --labels 'sky, house|home'")
    twice = [name for name, count in Counter(label.name for label in labels).items() if count > 1]
    if twice:
        raise BadRequest(f"--labels names {twice[0]!r} twice")
    if len(labels) > overlay.MOST:
        raise BadRequest(f"--labels may name at most {overlay.MOST} labels, got {len(labels)}")
    return labels


def parse_background(text: str | None) -> tuple[str, ...] | None:
    """None stays None (the preset's words); '' means none at all."""
    if text is None:
        return None
    return tuple(word for word in (" ".join(part.split()) for part in text.split(",")) if word)


def plan(given: Sequence[Path], out: Path) -> tuple[list[Job], list[str]]:
    """Every picture once, with a target of its own; a sentence for each path without any.

    Folders are searched deeply and keep their structure under `out`; what lies in `out`
    itself is not taken for a picture. Pictures that differ in their suffix only keep it.
    """
    pictures: dict[Path, Path] = {}  # picture -> where its results go, with suffix
    failures = []
    for path in given:
        if path.is_dir():
            found = list(_pictures_in(path, out))
            if not found:
                failures.append(f"{path}: there is no picture in this folder")
            pictures |= {picture: out / picture.relative_to(path) for picture in found}
        elif path.exists():
            pictures[path] = out / path.name
        else:
            failures.append(f"{path}: {ImageMissing('there is no such file')}")
    names = Counter(target.with_suffix("") for target in pictures.values())
    jobs, taken = [], set()
    for picture, target in pictures.items():
        stem = target.with_suffix("")
        chosen = stem if names[stem] == 1 else target
        number = 2
        while chosen in taken:
            chosen = target.with_name(f"{target.name}-{number}")
            number += 1
        taken.add(chosen)
        jobs.append(Job(picture=picture, target=chosen))
    return jobs, failures


def _pictures_in(folder: Path, out: Path) -> Iterator[Path]:
    own = out.resolve()
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (
            path.is_file()
            and path.suffix.lower() in SUFFIXES
            and not hidden
            and own not in path.resolve().parents
        ):
            yield path


def _load(args: argparse.Namespace, settings: Settings) -> tuple[Segmenter, str]:
    import cliper_model
    from cliper_model.loading import best_profile

    device = args.device or settings.first_device
    profile = args.profile or settings.profile or best_profile(device)
    model = cliper_model.load(
        profile,
        method=args.method or settings.method,
        features=args.features or settings.features,
        student=args.student or settings.student,
        vae=args.vae or settings.vae,
        device=device,
        dtype=settings.dtype,
        weights_dir=settings.model_dir,
    )
    return model, profile


def _one(
    job: Job, model: Segmenter, profile: str, vocabulary: Vocabulary, settings: Settings
) -> dict[str, Any]:
    """Segment one picture and write its three files."""
    from cliper_model.stages.decide import decide

    began = time.perf_counter()
    image = _read(job.picture, settings)
    scores = model.score(model.observe(image), vocabulary)
    result = decide(scores, model.decision(vocabulary.preset))
    seconds = time.perf_counter() - began

    palette = overlay.colours(len(result.labels))
    report = _report(job, model, vocabulary, result, palette, seconds)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    shown = [index for index in np.argsort(-result.areas, kind="stable") if result.areas[index]]
    _save(overlay.label_map(result.label_map, palette), job.target, ".labels.png")
    _save(
        overlay.overlay(
            image,
            [(result.mask(index), palette[index]) for index in shown],
            _legend(result, palette, shown),
        ),
        job.target,
        ".overlay.png",
    )
    text = json.dumps(report, indent=2) + "\n"
    _named(job.target, ".json").write_text(text, encoding="utf-8")
    return report


def _read(path: Path, settings: Settings) -> UInt8[np.ndarray, "height width 3"]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageBroken(f"the file cannot be read ({error.strerror})") from None
    return decode(data, max_pixels=int(settings.max_image_megapixels * MEGA))


def _legend(
    result: Segmentation, palette: Sequence[overlay.Colour], shown: Iterable[int]
) -> list[overlay.Entry]:
    size = result.label_map.size
    return [
        overlay.Entry(
            text=result.labels[index],
            note=f"{100 * result.areas[index] / size:.1f} %",
            colour=palette[index],
        )
        for index in shown
    ]


def _report(
    job: Job,
    model: Segmenter,
    vocabulary: Vocabulary,
    result: Segmentation,
    palette: Sequence[overlay.Colour],
    seconds: float,
) -> dict[str, Any]:
    height, width = result.size_hw
    identity = model.identity
    return {
        "image": str(job.picture),
        "width": width,
        "height": height,
        "seconds": round(seconds, 3),
        "score": round(result.score, 4),
        "preset": vocabulary.preset,
        "background": list(vocabulary.background),
        "dropped_background": list(vocabulary.dropped),
        "labels": [
            {
                "name": name,
                "value": index + 1,  # in the label map
                "colour": list(palette[index]),
                "presence": round(float(result.presence[index]), 4),
                "score": round(float(result.region_scores[index]), 4),
                "area": int(result.areas[index]),  # pixels
                "box_xyxy": _box(result.mask(index)),
            }
            for index, name in enumerate(result.labels)
        ],
        "model": {
            "method": identity.method,
            "revision": identity.revision,
            "profile": identity.profile,
            "weights": dict(identity.weights),
        },
    }


def _box(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[int] | None:
    """Smallest box around the mask, right and bottom exclusive; None without a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _named(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _save(picture: Image.Image, target: Path, suffix: str) -> None:
    picture.save(_named(target, suffix), optimize=False)


def _complain(sentence: str) -> None:
    print(f"cliper: {sentence}", file=sys.stderr, flush=True)
