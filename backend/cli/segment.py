"""`cliper segment`: picture files and words in, label maps, overlays and JSON out."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image
from tqdm import tqdm

from cliper_model.errors import CliperError
from cliper_model.segmenter import Identity, Label, Segmenter, Vocabulary

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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is to be said and shown of one label; numbers are None where nobody knows them."""

    name: str
    mask: Bool[np.ndarray, "height width"]
    presence: float | None
    score: float | None


Report = dict[str, Any]
Segments = Callable[[Job], Sequence[Report]]  # writes what it finds in one picture


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="picture files or folders of them"
    )
    sought = parser.add_mutually_exclusive_group(required=True)
    sought.add_argument(
        "--labels",
        metavar="WORDS",
        help="what to look for: 'sky, house|home|cottage' (commas between labels, | between "
        "synonyms; the first is the label's name). Either this or --config",
    )
    sought.add_argument(
        "--config",
        metavar="FILE",
        help="a label config (XML) that says what to look for and how, its model_* options and "
        "those of the environment included: masks are those the service writes. - reads standard "
        "input. Each of several tags gets files of its own, NAME.TAG.labels.png and so on; masks "
        "that may overlap are NAME.mask-N.png, too",
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
        help="words for everything else; '' labels every pixel; default: the preset's words. With "
        "--labels only",
    )
    parser.add_argument(
        "--preset", help="objects or whole-scene; default: by --background. With --labels only"
    )
    parser.add_argument("--device", help="like DEVICE")
    parser.add_argument(
        "--json",
        action="store_true",
        help="also print one line of JSON per picture, with --config per picture and tag",
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 when a picture failed; the others are written all the same.

    Raises BadRequest for labels that cannot be meant, ConfigError for such a config, and what
    loading the model raises.
    """
    settings = Settings.from_environ(os.environ)
    ready = _by_words(args, settings) if args.config is None else _by_config(args, settings)
    jobs, failures = plan(args.images, args.out)
    for sentence in failures:
        complain(sentence)
    if not jobs:
        return 1

    segments = ready()
    failed = len(failures)
    with tqdm(jobs, unit="picture", disable=None, file=sys.stderr) as bar:
        for job in bar:
            bar.set_postfix_str(job.picture.name, refresh=False)
            try:
                reports = segments(job)
            except Exception as raised:
                error = OutOfMemory() if is_out_of_memory(raised) else raised
                if not isinstance(error, CouldNotPredict | CliperError | OSError):
                    raise
                failed += 1
                with bar.external_write_mode(file=sys.stderr):
                    complain(f"{job.picture}: {error}")
                continue
            if args.json:
                with bar.external_write_mode(file=sys.stdout):
                    for report in reports:
                        print(json.dumps(report), flush=True)
    done = len(jobs) + len(failures) - failed
    print(
        f"{done} of {len(jobs) + len(failures)} pictures segmented into {args.out}", file=sys.stderr
    )
    return 1 if failed else 0


def _by_words(args: argparse.Namespace, settings: Settings) -> Callable[[], Segments]:
    """Raises BadRequest; what it gives loads the model."""
    labels = parse_labels(args.labels)

    def ready() -> Segments:
        model, _ = _load(args, settings)
        vocabulary = model.read(
            labels, background=parse_background(args.background), preset=args.preset
        )
        return partial(_one, model=model, vocabulary=vocabulary, settings=settings)

    return ready


def _by_config(args: argparse.Namespace, settings: Settings) -> Callable[[], Segments]:
    """Raises BadRequest and ConfigError; what it gives loads the models."""
    from . import segment_by_config

    for option in ("background", "preset"):
        if getattr(args, option) is not None:
            raise BadRequest(f"--{option} goes with --labels; a label config says it itself")
    return segment_by_config.ready(args, settings)


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
    job: Job, *, model: Segmenter, vocabulary: Vocabulary, settings: Settings
) -> Sequence[Report]:
    """Segment one picture and write its three files."""
    from cliper_model.stages.decide import decide

    began = time.perf_counter()
    image = read(job.picture, settings)
    scores = model.score(model.observe(image), vocabulary)
    result = decide(scores, model.decision(vocabulary.preset))
    seconds = time.perf_counter() - began

    areas, nothing = result.areas, np.zeros(result.size_hw, bool)
    found = [
        Found(
            name=name,
            mask=result.mask(index) if areas[index] else nothing,
            presence=float(result.presence[index]),
            score=float(result.region_scores[index]),
        )
        for index, name in enumerate(result.labels)
    ]
    report = report_of(
        job,
        model.identity,
        vocabulary,
        size_hw=result.size_hw,
        score=result.score,
        seconds=seconds,
    )
    return [write(job.target, image, result.label_map, found, report)]


def read(path: Path, settings: Settings) -> UInt8[np.ndarray, "height width 3"]:
    """The picture in a file. Raises ImageError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageBroken(f"the file cannot be read ({error.strerror})") from None
    return decode(data, max_pixels=int(settings.max_image_megapixels * MEGA))


def write(
    target: Path,
    image: UInt8[np.ndarray, "height width 3"],
    label_map: Integer[np.ndarray, "height width"],
    found: Sequence[Found],
    report: Mapping[str, Any],
) -> Report:
    """Label map, overlay and report of a picture; in the map label number `i` is `i + 1`.

    The report as it was written: `report`, and what is to be said of every label.
    """
    palette = overlay.colours(len(found))
    areas = np.array([np.count_nonzero(one.mask) for one in found], np.int64)
    shown = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    whole: Report = {**report}
    whole["labels"] = [
        {
            "name": one.name,
            "value": index + 1,  # in the label map
            "colour": list(palette[index]),
            "presence": _rounded(one.presence),
            "score": _rounded(one.score),
            "area": int(areas[index]),  # pixels
            "box_xyxy": _box(one.mask),
        }
        for index, one in enumerate(found)
    ]
    whole["model"] = whole.pop("model")  # stands last, for people who read the file
    target.parent.mkdir(parents=True, exist_ok=True)
    _save(overlay.label_map(label_map, palette), target, ".labels.png")
    legend = [
        overlay.Entry(
            text=found[index].name,
            note=f"{100 * areas[index] / label_map.size:.1f} %",
            colour=palette[index],
        )
        for index in shown
    ]
    masks = [(found[index].mask, palette[index]) for index in shown]
    _save(overlay.overlay(image, masks, legend), target, ".overlay.png")
    named(target, ".json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return whole


def report_of(
    job: Job,
    identity: Identity,
    vocabulary: Vocabulary,
    *,
    size_hw: tuple[int, int],
    score: float,
    seconds: float,
) -> Report:
    """What the report says of the picture as a whole."""
    return {
        "image": str(job.picture),
        "width": size_hw[1],
        "height": size_hw[0],
        "seconds": round(seconds, 3),
        "score": round(score, 4),
        "preset": vocabulary.preset,
        "background": list(vocabulary.background),
        "dropped_background": list(vocabulary.dropped),
        "model": {
            "method": identity.method,
            "revision": identity.revision,
            "profile": identity.profile,
            "weights": dict(identity.weights),
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _box(mask: Bool[np.ndarray, "height width"]) -> list[int] | None:
    """Smallest box around the mask, right and bottom exclusive; None without a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def named(target: Path, suffix: str) -> Path:
    """The path of one of a picture's results."""
    return target.with_name(target.name + suffix)


def _save(picture: Image.Image, target: Path, suffix: str) -> None:
    picture.save(named(target, suffix), optimize=False)


def complain(sentence: str) -> None:
    print(f"cliper: {sentence}", file=sys.stderr, flush=True)
