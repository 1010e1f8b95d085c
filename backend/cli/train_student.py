"""`cliper train-student`: MaskCLIP+, a network of your own taught by any method."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..errors import BadRequest
from ..settings import Settings
from .segment import parse_labels

if TYPE_CHECKING:
    from cliper_model.segmenter import Label, Segmenter
    from cliper_model.student.gallery import Gallery
    from cliper_model.student.teachers import SegmenterTeacher, TeacherRules
    from cliper_model.student.tower import TowerShape
    from cliper_model.student.training import Training

HELP = (
    "Train a student network on pseudo labels of any method (MaskCLIP+). Seeded; FILE holds all "
    "that is needed to go on with --resume after a stop of any kind."
)
STOPPED = 143  # exit status after SIGTERM, as shells report it


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="training pictures, also in subfolders",
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="WORDS",
        help="what to learn: 'sky, house|home' (commas between labels, | between synonyms)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the student")
    parser.add_argument("--resume", action="store_true", help="go on from where FILE stands")

    teacher = parser.add_argument_group("teacher")
    teacher.add_argument("--teacher", default="maskclip", metavar="METHOD", help="default maskclip")
    teacher.add_argument("--profile", help="demo, fast, standard or best; like PROFILE")
    teacher.add_argument("--features", metavar="SOURCE", help="of METHOD, where it has one")
    teacher.add_argument("--vae", metavar="NAME", help="taesd: in front of Stable Diffusion")
    teacher.add_argument(
        "--no-refinement", action="store_true", help="coarse maps of a cliper teacher: faster"
    )
    teacher.add_argument(
        "--decide",
        choices=("every-pixel", "objects"),
        default="every-pixel",
        help="every-pixel gives each pixel its best label, as published; objects leaves out what "
        "the teacher calls background (default every-pixel)",
    )
    teacher.add_argument(
        "--confidence",
        type=float,
        default=0.0,
        metavar="X",
        help="ignore pixels whose best row logit is below X; maskclip only (default 0: none)",
    )
    teacher.add_argument(
        "--cache-labels",
        action="store_true",
        help="let the teacher look at each whole picture once instead of at every crop: not as "
        "published, much faster; kept in FILE.labels",
    )

    people = parser.add_argument_group("annotations")
    people.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="label maps NAME.labels.png or NAME.png of 8 bits: 0 = not annotated, 1 = first "
        "label and so on, 254 = background, 255 = ignored",
    )
    people.add_argument(
        "--unlabelled",
        metavar="WORDS",
        help="labels whose annotation is hidden and taken from the teacher (zero-shot protocol)",
    )

    network = parser.add_argument_group("student")
    network.add_argument(
        "--network",
        choices=("small", "tower", "resnet50", "resnet101"),
        default="resnet50",
        help="small starts from nothing, tower from the vision tower of the profile's CLIP; both "
        "suit a CPU (default resnet50)",
    )
    network.add_argument(
        "--backbone", type=Path, metavar="FILE", help="local weights of torchvision's ResNet"
    )
    network.add_argument(
        "--background-class",
        action="store_true",
        help="a learnable class for everything else, before the labels",
    )

    schedule = parser.add_argument_group("schedule")
    schedule.add_argument(
        "--steps",
        type=int,
        default=4000,
        metavar="N",
        help="default 4000; published 2000 (VOC), 4000 (Context), 8000 (Stuff)",
    )
    schedule.add_argument("--batch", type=int, default=4, metavar="N", help="default 4")
    schedule.add_argument("--crop", type=int, default=512, metavar="PX", help="default 512")
    schedule.add_argument(
        "--short-side",
        type=int,
        metavar="PX",
        help="of pictures at scale 1, in training and afterwards (default: like --crop)",
    )
    schedule.add_argument(
        "--scales", default="0.5,2", metavar="LOW,HIGH", help="random scale (default 0.5,2)"
    )
    schedule.add_argument("--plain-colours", action="store_true", help="no photometric distortion")
    schedule.add_argument(
        "--rate",
        type=float,
        default=0.01,
        metavar="X",
        help="learning rate at the start (default 0.01, published for a trained backbone)",
    )
    schedule.add_argument(
        "--balance",
        type=float,
        default=0.0,
        metavar="B",
        help="a class that fills the share s of a batch weighs s^-B in the loss (default 0: as "
        "published; 0.5 helps small things)",
    )
    schedule.add_argument(
        "--guided-steps",
        type=int,
        metavar="N",
        help="steps taught by the teacher before the student teaches itself (default: all, or "
        "a tenth with --masks; as published)",
    )
    schedule.add_argument("--seed", type=int, default=0, metavar="S", help="default 0")
    schedule.add_argument(
        "--save-every", type=int, default=200, metavar="N", help="steps (default 200)"
    )
    schedule.add_argument("--device", help="of teacher and student; like DEVICE")


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 143 when SIGTERM asked to stop: the checkpoint is written first.

    Raises BadRequest for options that cannot be meant, and what loading and training raise.
    """
    from cliper_model.student.tower import shape_of, vision_tower
    from cliper_model.student.training import train

    settings = Settings.from_environ(os.environ)
    labels = parse_labels(args.labels)
    words_hidden, rules = _hidden(args), _rules(args)
    segmenter, templates, device = _teacher(args, settings)
    visual = vision_tower(segmenter) if args.network == "tower" else None
    plan = _plan(args, shape_of(visual) if visual is not None else None)
    gallery = _gallery(args, segmenter, labels, templates, words_hidden)
    teacher = _asked(segmenter, gallery, rules)
    with _stopping() as should_stop, _bars(plan, gallery) as (report, report_label):
        outcome = train(
            plan,
            gallery,
            teacher,
            args.out,
            resume=args.resume,
            device=device,
            save_every=args.save_every,
            backbone=args.backbone,
            visual=visual,
            should_stop=should_stop,
            report=report,
            report_label=report_label,
        )
    if not outcome.finished:
        print(
            f"stopped after step {outcome.step} of {plan.steps}; go on with --resume",
            file=sys.stderr,
        )
        return STOPPED
    print(f"{args.out}: {plan.steps} steps, {len(gallery)} pictures, loss {outcome.loss:.3f}")
    return 0


def _plan(args: argparse.Namespace, tower: "TowerShape | None") -> "Training":
    """The options as a training. Raises BadRequest."""
    from cliper_model.student.crops import CropConfig
    from cliper_model.student.training import Phases, Training, published_phases

    try:
        phases = published_phases(args.steps, annotated=args.masks is not None)
        if args.guided_steps is not None and args.guided_steps < args.steps:
            last = args.guided_steps
            phases = Phases(guided=(1, last), self_training=(last + 1, -1))
        return Training(
            network=args.network,
            steps=args.steps,
            batch=args.batch,
            seed=args.seed,
            rate=args.rate,
            crops=CropConfig(
                side=args.crop,
                short_side=args.short_side or args.crop,
                scales=_scales(args.scales),
                photometric=not args.plain_colours,
            ),
            phases=phases,
            cache_labels=args.cache_labels,
            balance=args.balance,
            tower=tower,
            backbone=_digest(args.backbone),
        )
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _digest(backbone: Path | None) -> str:
    """SHA-256 of the backbone's file. Raises WeightsMissing."""
    from cliper_model.backbones.weights import sha256
    from cliper_model.errors import WeightsMissing

    if backbone is None:
        return ""
    if not backbone.is_file():
        raise WeightsMissing("the backbone file", [backbone], "give the path of a local file")
    return sha256(backbone)


def _scales(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise BadRequest(f"--scales must be two numbers like 0.5,2, got {text!r}") from None


def _hidden(args: argparse.Namespace) -> tuple[str, ...]:
    """Names whose annotation is hidden; checks what needs no model first. Raises BadRequest."""
    if args.save_every < 1:
        raise BadRequest(f"--save-every must be at least 1, got {args.save_every}")
    if args.unlabelled and not args.masks:
        raise BadRequest("--unlabelled hides annotations; give them with --masks")
    return tuple(label.name for label in parse_labels(args.unlabelled)) if args.unlabelled else ()


def _teacher(
    args: argparse.Namespace, settings: Settings
) -> tuple["Segmenter", tuple[str, ...], str]:
    """The teacher, the templates of its text rows, and the device."""
    import cliper_model
    from cliper_model import presets, profiles
    from cliper_model.devices import best_device
    from cliper_model.loading import best_profile
    from cliper_model.student.teachers import without_refinement

    device = args.device or settings.first_device or best_device()
    profile = args.profile or settings.profile or best_profile(device)
    segmenter = cliper_model.load(
        profile,
        method=args.teacher,
        features=args.features,
        vae=args.vae,
        device=device,
        dtype=settings.dtype,
        weights_dir=settings.model_dir,
    )
    if args.no_refinement:
        segmenter = without_refinement(segmenter)
    clip = profiles.get(profile).clip
    templates = presets.get("whole-scene", clip, segmenter.identity.method).templates
    return segmenter, templates, device


def _gallery(
    args: argparse.Namespace,
    segmenter: "Segmenter",
    labels: list["Label"],
    templates: tuple[str, ...],
    hidden: tuple[str, ...],
) -> "Gallery":
    from cliper_model.student.gallery import Gallery, find_masks, find_pictures
    from cliper_model.student.words import read_words

    words = read_words(segmenter, labels, templates=templates, background=args.background_class)
    strangers = [name for name in hidden if name not in words.names]
    if strangers:
        raise BadRequest(f"--unlabelled names {strangers[0]!r}, which --labels does not")
    pictures = find_pictures(args.images)
    masks = find_masks(args.masks, pictures, root=args.images) if args.masks else {}
    numbers = tuple(words.first + words.names.index(name) for name in hidden)
    return Gallery(pictures, masks, words, unlabelled=numbers)


def _rules(args: argparse.Namespace) -> "TeacherRules":
    """Raises BadRequest."""
    from cliper_model.student.teachers import TeacherRules

    if args.confidence > 0 and args.decide == "objects":
        raise BadRequest("give --confidence or --decide objects, not both")
    if not 0.0 <= args.confidence <= 1.0:
        raise BadRequest(f"--confidence must be from 0 to 1, got {args.confidence}")
    return TeacherRules(every_pixel=args.decide == "every-pixel", confidence=args.confidence)


def _asked(segmenter: "Segmenter", gallery: "Gallery", rules: "TeacherRules") -> "SegmenterTeacher":
    """Raises BadRequest for a confidence this teacher cannot give."""
    from cliper_model.student.teachers import SegmenterTeacher

    try:
        return SegmenterTeacher(segmenter, gallery.words, gallery.asked, rules)
    except ValueError as error:
        raise BadRequest(str(error)) from error


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """SIGTERM asks to stop after the current picture or step."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _bars(
    plan: "Training", gallery: "Gallery"
) -> Iterator[tuple[Callable[[int, float], None], Callable[[int], None]]]:
    """Progress on standard error: pictures labelled, then steps with loss and time left.

    Where standard error is no terminal, a line every hundredth of the steps.
    """
    quiet = not sys.stderr.isatty()
    labelled = tqdm(total=len(gallery), unit="picture", desc="labels", disable=quiet, leave=False)
    trained = tqdm(total=plan.steps, unit="step", desc="training", disable=quiet, delay=1)
    every = max(1, plan.steps // 100)

    def report_label(done: int) -> None:
        labelled.update(done - labelled.n)

    def report(step: int, loss: float) -> None:
        if not trained.n and step > 1:  # resumed: earlier steps say nothing about the speed
            trained.initial = trained.n = step - 1
            trained.unpause()
        labelled.close()
        trained.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        trained.update(1)
        if quiet and (step % every == 0 or step == plan.steps):
            print(f"step {step} of {plan.steps}, loss {loss:.3f}", file=sys.stderr, flush=True)

    try:
        yield report, report_label
    finally:
        labelled.close()
        trained.close()
