"""`cliper evaluate`: mIoU and its relatives, on a benchmark or on one's own pictures."""

import argparse
import logging
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cliper_model.evaluation import benchmarks

from ..errors import BadRequest
from ..images.folder import PictureFolder
from ..settings import Settings

if TYPE_CHECKING:
    from cliper_model.evaluation.datasets.base import DataSet
    from cliper_model.evaluation.runner import Measured
    from cliper_model.evaluation.settings import Choice, Chosen
    from cliper_model.segmenter import Segmenter

logger = logging.getLogger(__name__)

HELP = (
    "Measure a method: mIoU, accuracies, boundary F and presence over a whole data set, written to "
    "DIR as results.json, classes.csv, images.csv and report.html. Exit status 1 when a picture "
    "could not be measured."
)
STUDIO = "labelstudio"
OWN = (*benchmarks.OWN, STUDIO)
DATASETS = (*benchmarks.names(), STUDIO)
EXPORT = "export.json"
WHOLE = (1, 1)  # the one shard that is all
MERGE_ONLY = frozenset({"command", "merge", "out"})  # what may be given beside --merge


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        type=str.lower,
        choices=DATASETS,
        metavar="NAME",
        help="what is measured on; upper and lower case are the same",
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="PATH",
        help="the data set's folder; for labelstudio the folder of an export and its pictures",
    )
    parser.add_argument("--method", metavar="M", help="see 'cliper methods'; like METHOD")
    parser.add_argument("--profile", metavar="P", help="demo, fast, standard or best; like PROFILE")
    parser.add_argument(
        "--features", metavar="SOURCE", help="feature source, NAME or NAME:FILE; like FEATURES"
    )
    parser.add_argument(
        "--student", type=Path, metavar="FILE", help="trained student of maskclip+; like STUDENT"
    )
    parser.add_argument(
        "--vae", metavar="NAME", help="taesd: encode pictures with the small TAESD; like VAE"
    )
    parser.add_argument("--device", metavar="D", help="like DEVICE")
    parser.add_argument(
        "--published",
        action="store_true",
        help="with every published quirk, as for the tables; benchmarks only",
    )
    parser.add_argument(
        "--windows",
        action=argparse.BooleanOptionalAction,
        help="CLIPer only: with or without sliding windows; default: as the profile",
    )
    parser.add_argument(
        "--refinement",
        action=argparse.BooleanOptionalAction,
        help="CLIPer only: with or without refinement; default: as the profile",
    )
    parser.add_argument(
        "--side",
        type=int,
        choices=(224, 336),
        help="CLIPtrase on benchmarks only: pixels of the centre crops (default 336)",
    )
    parser.add_argument(
        "--unlabelled",
        choices=("background", "ignored"),
        help="own pictures only: what mask value 0 means (default background); with ignored, "
        "every pixel gets a label and only labelled pixels are counted",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument(
        "--shard",
        type=_shard,
        default=WHOLE,
        metavar="I/N",
        help="every N-th picture from the I-th on; merge the parts with --merge",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with what DIR holds, if the settings agree"
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        metavar="PART",
        help="join the folders of all shards instead of measuring; takes --out and nothing else",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go (default evaluation/NAME-METHOD-PROFILE)",
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 when a picture could not be measured.

    Raises BadRequest and NotApplicable for options that cannot be meant, EvaluationError for
    data that is not what it should be, and what loading the model raises.
    """
    if args.merge:
        return _merge(args)
    if args.dataset is None or args.root is None:
        raise BadRequest("name a data set and its folder: --dataset voc21 --root DIR")
    if args.limit is not None and args.limit < 1:
        raise BadRequest(f"--limit must be at least 1, got {args.limit}")
    from dataclasses import replace

    from cliper_model.evaluation import check, runner

    settings = Settings.from_environ(os.environ)
    profile = _profile(args, settings)
    refuse_what_does_nothing(args, settings, profile)
    data = open_data(args.dataset, args.root)
    check.check(data)
    model = _load(args, settings, profile)
    chosen = _chosen(model, data, args, profile)
    protocol = chosen.protocol(limit=args.limit, shard=args.shard)
    if args.dataset in OWN and args.unlabelled == "ignored":
        protocol = replace(protocol, background_is_ignored=True)
    method = model.identity.method
    out = args.out or Path("evaluation") / f"{args.dataset}-{method}-{profile}"
    measured = runner.run(
        data,
        chosen.segment,
        out=out,
        settings=chosen.settings,
        protocol=protocol,
        resume=args.resume,
        show_progress=True,
    )
    return _report(out, measured)


def open_data(name: str, root: Path) -> "DataSet":
    """The data set under `root`, or a Label Studio export. Raises BadDataset, BadRequest."""
    if not root.exists():
        raise BadRequest(f"--root {root} does not exist")
    return _label_studio(root) if name == STUDIO else benchmarks.open_data(name, root)


def _label_studio(root: Path) -> "DataSet":
    """Labels are the classes, sorted; what nobody painted is background."""
    import numpy as np
    from PIL import Image, ImageOps

    from cliper_model.evaluation.datasets.base import DataSet, LabelMap, Layout, Sample
    from cliper_model.evaluation.datasets.folder import merge_masks
    from cliper_model.evaluation.errors import BadDataset
    from cliper_model.evaluation.report import PASSED_OVER, passed_over_sentence
    from cliper_model.segmenter import Label

    from ..errors import BadMask
    from ..labelstudio import export

    path = _export_file(root)
    try:
        tasks = export.read(path)
        names = export.labels_of(tasks)
    except BadMask as wrong:
        raise BadDataset(str(wrong)) from None
    classes = tuple(name for name in names if not Label(name).is_rest)
    if not classes:
        raise BadDataset(f"{path} has no painted label; annotate with brush labels first")
    pictures = PictureFolder(path.parent)
    samples = []
    by_name = {}
    for number, task in enumerate(tasks):
        name = f"{number:05d}-{task.id}"
        by_name[name] = task
        samples.append(Sample(name=name, image=pictures.of(task.file_names), truth=path))

    def read_truth(sample: Sample) -> LabelMap:
        with Image.open(sample.image) as picture:
            upright = ImageOps.exif_transpose(picture)
            size_hw = (upright.height, upright.width)
        try:
            painted = export.masks_of(by_name[sample.name], size_hw)
        except BadMask as wrong:
            raise BadDataset(str(wrong)) from None
        masks = {
            classes.index(name) + 1: np.asarray(mask)
            for name, mask in painted.items()
            if name in classes
        }
        return merge_masks(masks, size_hw)

    passed_over = export.without_mask(tasks)
    if passed_over:
        logger.warning("%s: %s", path, passed_over_sentence(passed_over))
    layout = Layout(
        samples=tuple(samples),
        ids=None,
        classes=classes,
        read_truth=read_truth,
        upright=True,
        notes={PASSED_OVER: passed_over},
    )
    return DataSet(name=STUDIO, classes=classes, background=True, layout=layout)


def _export_file(root: Path) -> Path:
    if root.is_file():
        return root
    found = [root / EXPORT] if (root / EXPORT).is_file() else sorted(root.glob("*.json"))
    if len(found) != 1:
        raise BadRequest(
            f"{root} holds {len(found)} .json files; name the export itself with --root, or call "
            f"it {EXPORT}"
        )
    return found[0]


def _profile(args: argparse.Namespace, settings: Settings) -> str:
    from cliper_model.loading import best_profile

    return args.profile or settings.profile or best_profile(args.device or settings.first_device)


def _load(args: argparse.Namespace, settings: Settings, profile: str) -> "Segmenter":
    import cliper_model

    return cliper_model.load(
        profile,
        method=args.method or settings.method,
        features=args.features or settings.features,
        student=args.student or settings.student,
        vae=args.vae or settings.vae,
        device=args.device or settings.first_device,
        dtype=settings.dtype,
        weights_dir=settings.model_dir,
        published=args.published,
    )


def _chosen(
    model: "Segmenter", data: "DataSet", args: argparse.Namespace, profile: str
) -> "Chosen":
    from cliper_model import profiles
    from cliper_model.evaluation import settings

    if args.dataset in OWN:
        every_pixel = args.unlabelled == "ignored"
        return settings.for_own_data(
            model,
            data.layout.classes or data.classes,
            background=() if every_pixel else None,
            choice=_choice(args),
        )
    return settings.for_benchmark(
        model,
        benchmarks.get(args.dataset),
        data.classes,
        clip=profiles.get(profile).clip,
        choice=_choice(args),
    )


def _choice(args: argparse.Namespace) -> "Choice":
    from cliper_model.evaluation.settings import Choice

    return Choice(windows=args.windows, refinement=args.refinement, side=args.side)


def refuse_what_does_nothing(args: argparse.Namespace, settings: Settings, profile: str) -> None:
    """Options that this data or this method would not follow. Raises BadRequest, NotApplicable,
    UnneededStudent, UnneededVae, and what an unknown profile or method raises.
    """
    from cliper_model import profiles
    from cliper_model.evaluation.settings import PUBLISHED_IS_FOR_BENCHMARKS

    own_data = args.dataset in OWN
    if own_data and args.published:
        raise BadRequest(PUBLISHED_IS_FOR_BENCHMARKS)
    if not own_data and args.unlabelled is not None:
        raise BadRequest(
            f"--unlabelled is for {' and '.join(OWN)}; leave it out with {args.dataset}, whose "
            "own protocol says what is counted"
        )
    method = profiles.get(
        profile,
        method=args.method or settings.method,
        features=args.features or settings.features,
        vae=args.vae or settings.vae,
    ).method
    if args.published:
        profiles.check_published(args.vae or settings.vae)
    profiles.check_student(method, args.student or settings.student)
    _choice(args).check(method, own_data=own_data)


def _merge(args: argparse.Namespace) -> int:
    from cliper_model.evaluation import gallery, records, runner

    if args.out is None:
        raise BadRequest("name the folder for the joined results with --out DIR")
    given = [
        f"--{name}"
        for name, value in vars(args).items()
        if name not in MERGE_ONLY and value not in (None, False, WHOLE)
    ]
    if given:
        raise BadRequest(
            f"--merge joins what was measured and takes only --out; leave out {', '.join(given)}"
        )
    header, found = records.merge(args.merge)
    args.out.mkdir(parents=True, exist_ok=True)
    gallery.collect(args.merge, found.values(), args.out)
    matrix = runner.sum_of(found.values(), labels=len(header.settings["classes"]) + 1)
    return _report(args.out, runner.Measured(header=header, records=found, matrix=matrix))


def _report(out: Path, measured: "Measured") -> int:
    """Write all results, say the figures, and give the exit status."""
    from cliper_model.evaluation import report

    name = measured.header.settings["dataset"]
    known = None if name in OWN else benchmarks.get(name)
    results = report.write(
        out,
        measured,
        title=known.title if known else f"Own pictures ({name})",
        published=known.published if known else (),
        context={
            "command": "cliper " + shlex.join(sys.argv[1:]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **report.machine(),
        },
    )
    figures = results["figures"]
    print(
        f"mIoU {figures['miou']:.2f} %, pixel accuracy {figures['pixel_accuracy']:.2f} %, mean "
        f"accuracy {figures['mean_accuracy']:.2f} %, boundary F {figures['boundary_f']:.2f} % over "
        f"{figures['images']} pictures; see {out / report.PAGE}"
    )
    if figures["failed"]:
        first = measured.failed[0]
        print(
            f"cliper: {figures['failed']} pictures could not be measured and are not in these "
            f"figures, the first is {first.name}: {first.failed}; add --resume to try them again",
            file=sys.stderr,
        )
        return 1
    return 0


def _shard(text: str) -> tuple[int, int]:
    which, slash, of = text.partition("/")
    if not slash or not which.isdigit() or not of.isdigit() or not 1 <= int(which) <= int(of):
        raise argparse.ArgumentTypeError(f"a shard is I/N with I from 1 to N, got {text!r}")
    return int(which), int(of)
