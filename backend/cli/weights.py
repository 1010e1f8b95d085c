"""`cliper weights`: which weights there are, which are here, and how to get the others."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from cliper_model import profiles
from cliper_model.errors import WeightsMissing
from cliper_model.profiles import Profile

from ..settings import Settings

HELP = "List, fetch, verify and carry model weights; MODEL_DIR or --dir says where they are kept."


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every profile, its price, and what is here")
    fetching = actions.add_parser("fetch", help="download what a profile misses, resuming")
    fetching.add_argument("profile", choices=profiles.names(), metavar="PROFILE")
    verifying = actions.add_parser("verify", help="compare files with their recorded checksums")
    verifying.add_argument(
        "profile", nargs="*", metavar="PROFILE", help="default: all that are here"
    )
    showing = actions.add_parser("path", help="where weights are kept, or a profile's own files")
    showing.add_argument("profile", nargs="?", choices=profiles.names(), metavar="PROFILE")
    packing = actions.add_parser(
        "bundle", help="one file with a profile's weights, checksums and licences"
    )
    packing.add_argument("file", type=Path, metavar="FILE", help="to write, such as weights.tar")
    packing.add_argument(
        "--profile", choices=profiles.names(), metavar="PROFILE", help="default: like PROFILE"
    )
    unpacking = actions.add_parser(
        "unbundle", help="put such a file's weights in place, each compared with its checksum"
    )
    unpacking.add_argument("file", type=Path, metavar="FILE", help="a file 'bundle' wrote")
    unpacking.add_argument(
        "--unrecorded",
        action="store_true",
        help="take tensors, too, that nobody recorded a checksum of: only the bundle vouches",
    )
    for action in (fetching, verifying, showing, packing):
        action.add_argument("--method", help="another method than the profile's")
        action.add_argument("--features", metavar="SOURCE", help="feature source of that method")
        action.add_argument("--vae", metavar="NAME", help="taesd: with the small encoder TAESD")
    for action in (listing, fetching, verifying, showing, packing, unpacking):
        action.add_argument("--dir", "--model-dir", type=Path, metavar="DIR", help="like MODEL_DIR")


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 when `verify` finds something wrong. Raises WeightsError."""
    settings = Settings.from_environ(os.environ)
    folder: Path | None = args.dir or settings.model_dir
    match args.action:
        case "list":
            return _list(folder)
        case "fetch":
            return _fetch(_chosen(args), folder)
        case "verify":
            return _verify(args, folder)
        case "bundle":
            name = args.profile or settings.profile
            if name is None:
                print("cliper: say which: --profile PROFILE, or set PROFILE", file=sys.stderr)
                return 2
            return _bundle(_profile(name, args), args.file, folder)
        case "unbundle":
            return _unbundle(args.file, folder, take_unrecorded=args.unrecorded)
        case _:
            return _path(_chosen(args) if args.profile else None, folder)


def _chosen(args: argparse.Namespace) -> Profile:
    return _profile(args.profile, args)


def _profile(name: str, args: argparse.Namespace) -> Profile:
    return profiles.get(name, method=args.method, features=args.features, vae=args.vae)


def _list(folder: Path | None) -> int:
    rows = [("profile", "here", "download", "memory", "VOC mIoU*", "licence", "what it is")]
    for name in profiles.names():
        profile = profiles.get(name)
        published = profile.published_miou
        rows.append(
            (
                name,
                "yes" if _is_here(profile, folder) else "no",
                "ships with it" if profile.shipped else f"{profile.download_mib} MiB",
                f"{profile.ram_mib} MiB" if profile.ram_mib else "not measured",
                f"{published['VOC21']:.1f} %" if published else "-",
                profile.licence,
                profile.summary,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(wide) for cell, wide in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print("\n* published by the method's authors on PASCAL VOC (21 classes), not measured here")
    return 0


def _fetch(profile: Profile, folder: Path | None) -> int:
    from cliper_model.backbones import weights

    for component in profile.components:
        print(f"{component.title}: {component.licence}", file=sys.stderr)
    with tqdm(
        total=None, unit="B", unit_scale=True, unit_divisor=1024, disable=None, file=sys.stderr
    ) as bar:

        def show(progress: weights.Progress) -> None:
            bar.total = progress.total
            bar.set_description(progress.file, refresh=False)
            bar.update(progress.done - bar.n)

        found = weights.fetch(profile, folder, show)
    for part, place in found.items():
        print(f"{part}: {place}")
    return 0


def _verify(args: argparse.Namespace, folder: Path | None) -> int:
    from cliper_model.backbones import weights

    chosen = [_profile(name, args) for name in args.profile]
    if not chosen:
        everything = _every_profile()
        chosen = [profile for profile in everything if _is_here(profile, folder)]
    if not chosen:
        print("no weights here; get some with 'cliper weights fetch PROFILE'")
        return 1
    verdicts = {
        verdict.file: (verdict, profile.choice)
        for profile in chosen
        for verdict in weights.verify(profile, folder)
    }
    for verdict, _ in verdicts.values():
        note = f"  {verdict.sha256}" if verdict.sha256 else ""
        print(f"{verdict.state:<9}{verdict.file}{note}")
    wrong = [pair for pair in verdicts.values() if pair[0].state in ("damaged", "missing")]
    for verdict, name in wrong:
        remedy = f"delete {verdict.path} and run" if verdict.state == "damaged" else "run"
        print(
            f"cliper: {verdict.file} is {verdict.state}; {remedy} 'cliper weights fetch {name}'",
            file=sys.stderr,
        )
    return 1 if wrong else 0


def _bundle(profile: Profile, file: Path, folder: Path | None) -> int:
    from cliper_model.backbones import bundle

    entries = bundle.pack(profile, file, folder)
    for entry in entries:
        print(f"{entry.sha256}  {entry.path}")
    alone = bundle.unrecorded(profile, entries)
    for entry in alone:
        print(
            f"cliper: nobody recorded a checksum of {entry.path}: take the one above along, too",
            file=sys.stderr,
        )
    option = " --unrecorded" if alone else ""
    print(f"{file}: take it along and run 'cliper weights unbundle {file.name}{option}' there")
    return 0


def _unbundle(file: Path, folder: Path | None, *, take_unrecorded: bool) -> int:
    from cliper_model.backbones import bundle, weights

    profile, entries = bundle.unpack(file, folder, take_unrecorded=take_unrecorded)
    for component in profile.components:
        print(f"{component.title}: {component.licence}", file=sys.stderr)
    for entry in entries:
        print((folder or weights.default_folder()) / entry.path)
    for entry in bundle.unrecorded(profile, entries):
        print(f"cliper: only the bundle vouches for {entry.path}: {entry.sha256}", file=sys.stderr)
    print(f"start with HF_HUB_OFFLINE=1 cliper serve --profile {profile.choice}")
    return 0


def _every_profile() -> Iterator[Profile]:
    """As they are, and with every VAE that may stand in for Stable Diffusion's."""
    for name in profiles.names():
        profile = profiles.get(name)
        yield profile
        if profiles.runs_stable_diffusion(profile):
            yield from (profiles.with_vae(profile, vae) for vae in profiles.VAES)


def _path(profile: Profile | None, folder: Path | None) -> int:
    from cliper_model.backbones import weights

    if profile is None:
        print(folder or weights.default_folder())
        return 0
    for place in dict.fromkeys(weights.locate(profile, folder).values()):
        print(place)
    return 0


def _is_here(profile: Profile, folder: Path | None) -> bool:
    from cliper_model.backbones import weights

    try:
        weights.locate(profile, folder)
    except WeightsMissing:
        return False
    return True
