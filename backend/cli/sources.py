"""`cliper sources`: which network's features know what belongs together, on your own masks."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from tqdm import tqdm

from cliper_model.errors import UnknownSource, WeightsError

from ..errors import BadRequest
from ..images.decode import decode
from ..settings import Settings

if TYPE_CHECKING:
    from cliper_model.backbones.base import FeatureSource
    from cliper_model.evaluation.affinity import Summary

HELP = (
    "Compare feature sources on pictures with masks: how alike places of one class and of "
    "different classes are, and how well edges of the features meet edges of the masks."
)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MARK = "__"  # between stem and label, where every label has a mask of its own
PLAIN_MODES = frozenset({"L", "P", "I", "I;16", "1"})  # of a PNG whose pixels are numbers
CLIP = "clip"  # the row of CLIP's own values
MOST_PLACES = 4096  # of CLIP or a plain network; long pictures are looked at smaller
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
MEGA = 1_000_000

LabelMap = Int[np.ndarray, "height width"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture and its truth: one label map, or one mask per label (label -> file)."""

    image: Path
    label_map: Path | None = None
    masks: tuple[tuple[str, Path], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.label_map,) if self.label_map else tuple(path for _, path in self.masks)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One source's line of the table."""

    name: str
    title: str
    grid_hw: tuple[int, int]  # of the first picture
    seconds: float  # per picture
    summary: "Summary"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of pictures"
    )
    parser.add_argument(
        "--masks",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of their masks: STEM.png holds a class number per pixel (0 is no class, 255 "
        "unknown), or one mask STEM__LABEL.png per label, as 'cliper scenes' draws them; may be "
        "the folder of the pictures",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="class names, line n for the number n; higher numbers are then refused",
    )
    parser.add_argument("--profile", help="demo, fast, standard or best; like PROFILE")
    parser.add_argument(
        "--source",
        action="append",
        metavar="NAME",
        help="a feature source, or NAME:FILE for weights of your own; may be repeated; 'clip' is "
        "CLIP's own values; default: all whose weights are here",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures, by name")
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="N",
        help="pixels of the picture's short side as the networks see it; default: the profile's",
    )
    parser.add_argument("--device", help="like DEVICE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 where no source could be measured.

    Pictures and masks are checked before any network is loaded. Raises BadRequest, and what
    loading a source named with --source raises.
    """
    settings = Settings.from_environ(os.environ)
    for option, value in (("--limit", args.limit), ("--short-side", args.short_side)):
        if value is not None and value < 1:
            raise BadRequest(f"{option} must be at least 1, got {value}")
    pairs = pair(args.images, args.masks)[: args.limit]
    names = read_names(args.names) if args.names else None
    check(pairs, names)
    labels = label_numbers(pairs, names)

    from cliper_model import profiles
    from cliper_model.backbones import feature_sources

    profile = args.profile or settings.profile or "fast"
    short_side = args.short_side or profiles.get(profile).short_side
    wanted = args.source or list(feature_sources.names())
    for name in wanted:
        if name.partition(":")[0] not in feature_sources.names():
            raise UnknownSource(name, feature_sources.names())

    rows, missing = [], {}
    with tqdm(total=len(wanted) * len(pairs), unit="picture", disable=None, file=sys.stderr) as bar:
        for name in wanted:
            bar.set_postfix_str(name)
            try:
                source = load(name, profile, args.device or settings.first_device, settings)
            except WeightsError as error:
                if args.source:
                    raise
                missing[name] = str(error)
                bar.update(len(pairs))
                continue
            row = measure(source, pairs, labels, short_side, settings, bar)
            if row is None:
                raise BadRequest(
                    f"no picture in {args.images} shows two classes on {name}'s grid; give "
                    "pictures whose masks have at least two"
                )
            rows.append(row)
    rows.sort(key=lambda row: row.summary.separation, reverse=True)
    if args.json:
        print(json.dumps(as_json(rows, missing, profile, short_side), indent=2))
    else:
        print("\n".join(as_table(rows)))
        for name, sentence in missing.items():
            print(f"not here: {name}: {sentence}", file=sys.stderr)
    return 0 if rows else 1


# --- pictures and masks ----------------------------------------------------------------------


def pair(images: Path, masks: Path) -> list[Pair]:
    """Every picture with its truth, by name. Raises BadRequest for whatever has no partner."""
    for option, folder in (("--images", images), ("--masks", masks)):
        if not folder.is_dir():
            raise BadRequest(f"{option} must be a folder, and {folder} is none")
    same = images.resolve() == masks.resolve()
    per_label: dict[str, list[tuple[str, Path]]] = {}
    whole: dict[str, Path] = {}
    for path in sorted(masks.glob("*.png")):
        stem, mark, label = path.stem.partition(MARK)
        if mark and label:
            per_label.setdefault(stem, []).append((label, path))
        elif not same:
            whole[path.stem] = path
    pictures: dict[str, Path] = {}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in SUFFIXES or (same and MARK in path.stem):
            continue
        if path.stem in pictures:
            raise BadRequest(
                f"{pictures[path.stem].name} and {path.name} in {images} have the same stem, so "
                "one mask would belong to both; rename one"
            )
        pictures[path.stem] = path

    if not pictures:
        raise BadRequest(f"there is no picture in {images}; give --images a folder of pictures")
    if not per_label and not whole:
        raise BadRequest(
            f"there is no mask in {masks}; masks are PNG files, STEM.png or STEM{MARK}LABEL.png "
            "(are --images and --masks swapped?)"
        )
    alone = [stem for stem in pictures if stem not in whole and stem not in per_label]
    if alone:
        raise BadRequest(
            f"{len(alone)} of {len(pictures)} pictures in {images} have no mask in {masks}, the "
            f"first is {pictures[alone[0]].name}; add {alone[0]}.png, or take the picture out"
        )
    spare = [stem for stem in (*whole, *per_label) if stem not in pictures]
    if spare:
        raise BadRequest(
            f"{len(spare)} masks in {masks} have no picture in {images}, the first is that of "
            f"{spare[0]}; add the picture, or take the mask out"
        )
    return [
        Pair(image=path, masks=tuple(per_label[stem]))
        if stem in per_label
        else Pair(image=path, label_map=whole[stem])
        for stem, path in pictures.items()
    ]


def check(pairs: Sequence[Pair], names: Sequence[str] | None) -> None:
    """Read the headers of all files and, with `names`, every number. Raises BadRequest."""
    for each in pairs:
        size_wh, _ = _header(each.image)
        for path in each.files:
            mask_wh, mode = _header(path)
            if mode not in PLAIN_MODES:
                raise BadRequest(
                    f"{path} is a colour picture ({mode}), not a mask with a number per pixel; "
                    "are --images and --masks swapped?"
                )
            if mask_wh != size_wh:
                raise BadRequest(
                    f"{path} has {mask_wh[0]} x {mask_wh[1]} pixels, its picture {each.image.name} "
                    f"{size_wh[0]} x {size_wh[1]}; give masks of the pictures' size"
                )
        if names is None:
            continue
        for label, path in each.masks:
            if label not in names:
                raise BadRequest(f"{path} is a mask of {label!r}, which --names does not list")
        if each.label_map is not None:
            numbers = np.unique(_numbers(each.label_map))
            strange = [int(number) for number in numbers if len(names) < number != 255]
            if strange:
                raise BadRequest(
                    f"{each.label_map} holds the number {strange[0]}, and --names has "
                    f"{len(names)} classes; add names, or correct the mask"
                )


def read_names(path: Path) -> tuple[str, ...]:
    """One class per line. Raises BadRequest."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--names {path} cannot be read as text ({error})") from None
    names = tuple(line.split("|")[0].strip() for line in lines)
    if not names or not all(names):
        raise BadRequest(f"--names {path} must name a class on every line")
    return names


def label_numbers(pairs: Sequence[Pair], names: Sequence[str] | None) -> dict[str, int]:
    """A number for every label that has masks of its own."""
    listed = names or sorted({label for each in pairs for label, _ in each.masks})
    free = (number for number in range(1, len(listed) + 2) if number != 255)
    return dict(zip(listed, free, strict=False))


def truth(each: Pair, labels: dict[str, int]) -> LabelMap:
    """Class numbers of a picture; what two masks claim is unknown."""
    if each.label_map is not None:
        return _numbers(each.label_map)
    claimed: LabelMap | None = None
    for label, path in each.masks:
        painted = _numbers(path) > 0
        if claimed is None:
            claimed = np.zeros(painted.shape, np.int64)
        claimed[painted] = np.where(claimed[painted] == 0, labels[label], 255)
    assert claimed is not None  # a pair has a label map or masks
    return claimed


def _numbers(path: Path) -> LabelMap:
    try:
        with Image.open(path) as mask:
            return np.asarray(mask).astype(np.int64)
    except (OSError, SyntaxError) as error:
        raise BadRequest(f"{path} is not a whole picture ({error})") from None


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """Width and height as shown, and the mode; pixels are not read."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(0x0112) in SIDEWAYS
            return ((height, width) if sideways else (width, height)), picture.mode
    except (OSError, SyntaxError) as error:
        raise BadRequest(f"{path} is not a picture that can be read ({error})") from None


# --- sources ---------------------------------------------------------------------------------


def load(name: str, profile: str, device: str | None, settings: Settings) -> "FeatureSource":
    """Bring one source into memory. Raises WeightsError, NoSuchDevice, UnfitPrecision,
    UnknownProfile."""
    from cliper_model import loading, profiles
    from cliper_model.backbones import feature_sources
    from cliper_model.backbones.clip_features import ClipValues

    if name == CLIP:
        model = loading.load(
            profile,
            method="clip",
            device=device,
            dtype=settings.dtype,
            weights_dir=settings.model_dir,
        )
        return ClipValues(model.clip)  # type: ignore[attr-defined]
    import torch

    from cliper_model.devices import best_device

    where = loading.known_device(device or best_device())
    loading.check_precision(settings.dtype, where, None)
    own = loading.best_precision(where).dtype
    dtype = getattr(torch, settings.dtype) if settings.dtype else own
    bare, _, file = name.partition(":")
    place: Path
    if file:
        place = Path(file)
    elif profiles.get(profile).shipped and bare.startswith("diffusion-"):
        place = profiles.demo_folder()
    else:
        place = feature_sources.locate_source(bare, settings.model_dir)
    return feature_sources.load_source(bare, place, device=where, dtype=dtype)


def measure(
    source: "FeatureSource",
    pairs: Sequence[Pair],
    labels: dict[str, int],
    short_side: int,
    settings: Settings,
    bar: "tqdm[Any]",
) -> Row | None:
    """All pictures through one source; None where none of them shows two classes."""
    from cliper_model.backbones import feature_sources
    from cliper_model.evaluation import affinity

    found, edges, grids, seconds = [], [], [], []
    for each in pairs:
        image = decode(
            each.image.read_bytes(), max_pixels=int(settings.max_image_megapixels * MEGA)
        )
        pixels = prepare(image, short_side=short_side, multiple=source.multiple)
        began = time.perf_counter()
        features = source.features(pixels).cpu()
        seconds.append(time.perf_counter() - began)
        grids.append((int(features.shape[1]), int(features.shape[2])))
        on_grid = affinity.to_grid(truth(each, labels), grids[-1])
        found.append(affinity.affinity(features, on_grid))
        edges.append(affinity.edges(features, on_grid))
        bar.update()
    summary = affinity.summarise(found, edges)
    if summary is None:
        return None
    title = "values of CLIP's last block, for comparison"
    if source.name != CLIP:
        title = feature_sources.entry(source.name).title
    return Row(
        name=source.name,
        title=title,
        grid_hw=grids[0],
        seconds=float(np.median(seconds)),
        summary=summary,
    )


def prepare(image: UInt8[np.ndarray, "height width 3"], *, short_side: int, multiple: int) -> Any:
    """The whole picture as [1, 3, height, width] in [0, 1], sides whole multiples."""

    from cliper_model.stages import resize

    step = max(multiple, 8)  # a source that stretches its input cuts nothing, but has its limits
    picture, side = resize.affordable(
        image, short_side=short_side, patch=step, most_patches=MOST_PLACES
    )
    return resize.to_multiple(picture, short_side=side, multiple=step)


# --- telling ---------------------------------------------------------------------------------


def as_table(rows: Sequence[Row]) -> Iterator[str]:
    """The best separation first; cosines and AUC from 0 to 1, F in percent."""
    head = (
        "source", "grid", "same", "other", "separation", "AUC", "boundary F", "by chance",
        "pictures", "ms",
    )  # fmt: skip
    cells = [head]
    for row in rows:
        line = row.summary
        cells.append(
            (
                row.name,
                f"{row.grid_hw[0]}x{row.grid_hw[1]}",
                f"{line.same:.3f}",
                f"{line.other:.3f}",
                f"{line.separation:.3f}",
                f"{line.auc:.3f}",
                f"{100 * line.boundary_f:.1f}",
                f"{100 * line.chance_f:.1f}",
                str(line.pictures),
                f"{1000 * row.seconds:.0f}",
            )
        )
    widths = [max(len(texts[column]) for texts in cells) for column in range(len(head))]
    for texts in cells:
        first, *others = (cell.rjust(wide) for cell, wide in zip(texts, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others])


def as_json(
    rows: Sequence[Row], missing: dict[str, str], profile: str, short_side: int
) -> dict[str, Any]:
    return {
        "profile": profile,
        "short_side": short_side,
        "sources": [
            {
                "name": row.name,
                "title": row.title,
                "grid_hw": list(row.grid_hw),
                "pictures": row.summary.pictures,
                "same": round(row.summary.same, 4),
                "other": round(row.summary.other, 4),
                "separation": round(row.summary.separation, 4),
                "auc": round(row.summary.auc, 4),
                "boundary_f": round(row.summary.boundary_f, 4),
                "chance_f": round(row.summary.chance_f, 4),
                "seconds": round(row.seconds, 4),
            }
            for row in rows
        ],
        "missing": missing,
    }
