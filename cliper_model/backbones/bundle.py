"""A profile's weights in one file, for a site without a connection.

A bundle is a plain tar: `manifest.json` first (what is in it, with sizes and checksums), then
`LICENCES.md`, then `weights/<component>/<file>` for each file. Nothing in it is packed, so it
cannot become larger than it is. `unpack` believes nothing: what is not written down in the
manifest, is no plain file, or does not belong to the profile is refused, and every file is
compared with the manifest and with the checksum that this program has on record, before any gets
its name. Tensors of which no checksum is on record, here or at the site, are refused unless
somebody asks for them; configurations without one are small, and only the manifest vouches for
them.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from .. import profiles
from ..errors import CliperError, DiskFull, WeightsCorrupt, WeightsError
from ..profiles import Profile
from . import weights

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
LICENCES: Final = "LICENCES.md"
INSIDE: Final = "weights/"
MOST_MANIFEST: Final = 1 << 20  # bytes
MOST_CONFIG: Final = 16 << 20  # bytes of a file that holds no tensors
MOST_BYTES: Final = 1 << 40  # of one file
STAGING: Final = ".unbundle-"
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)+")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One weight file: `path` is `component/file`, as below the weights folder."""

    path: str
    bytes: int
    sha256: str


def pack(profile: Profile, file: Path, weights_dir: Path | None = None) -> list[Entry]:
    """Write `file`, which is there whole or not at all.

    A stored embedding goes along where it stands for files that are not here.

    Raises WeightsMissing, WeightsCorrupt for a file that is not what it should be, WeightsError.
    """
    if profile.shipped:
        raise WeightsError(
            f"the profile {profile.name!r} ships with the package: nothing to bundle"
        )
    weights.locate(profile, weights_dir)  # raises, with what to do
    sources: list[tuple[Entry, Path]] = []
    verdicts = [
        *weights.verify(profile, weights_dir),
        *weights.verify_stand_ins(profile, weights_dir),
    ]
    for verdict in verdicts:
        if verdict.file.startswith("demo/"):
            continue
        if verdict.state == "damaged":
            remedy = f"delete it and run 'cliper weights fetch {profile.choice}'"
            wanted, found = verdict.wanted or "", verdict.sha256 or ""
            raise WeightsCorrupt(verdict.path, wanted, found, remedy=remedy)
        size = verdict.path.stat().st_size
        entry = Entry(path=verdict.file, bytes=size, sha256=str(verdict.sha256))
        sources.append((entry, verdict.path))
    entries = [entry for entry, _ in sources]
    with _whole_or_nothing(file) as draft, tarfile.open(draft, "w") as archive:
        _add(archive, MANIFEST, json.dumps(_manifest(profile, entries), indent=1).encode())
        _add(archive, LICENCES, _licences(profile).encode())
        for entry, path in sources:
            with path.open("rb") as stream:
                archive.addfile(_member(INSIDE + entry.path, entry.bytes), stream)
    return entries


def unrecorded(profile: Profile, entries: list[Entry]) -> list[Entry]:
    """Those that hold tensors and have no checksum on record."""
    pins = _known_paths(profile)
    return [
        entry for entry in entries if weights.holds_tensors(entry.path) and not pins[entry.path]
    ]


def unpack(
    file: Path, weights_dir: Path | None = None, *, take_unrecorded: bool = False
) -> tuple[Profile, list[Entry]]:
    """Put a bundle's files in place: none of them, unless all can be.

    What comes, with what is there, has to make every component whole. All that can be looked at
    is looked at before the first file gets its name. A rename that fails even so (the disk dies)
    leaves whole files, some of them old; unpacking again goes on.

    Tensors without a checksum on record are taken where this folder's own notes have the same
    one from an earlier use, or with `take_unrecorded`: then the bundle alone vouches for them.

    Raises WeightsError for what is no bundle of ours, WeightsCorrupt, DiskFull.
    """
    root = weights_dir or weights.default_folder()
    try:
        with tarfile.open(file, "r:") as archive:
            profile, entries = _announced(archive)
            root.mkdir(parents=True, exist_ok=True)
            with weights.alone(root):
                _clear_left_behind(root)
                _check_whole(profile, entries, root)
                if not take_unrecorded:
                    _check_recorded(profile, entries, root)
                _check_places(entries, root)
                _check_space(root, entries)
                with tempfile.TemporaryDirectory(prefix=STAGING, dir=root) as staging:
                    _receive(archive, entries, profile, Path(staging))
                    _put_in_place(entries, Path(staging), root)
    except tarfile.TarError as error:
        raise WeightsError(f"{file} is not a whole bundle of weights ({error})") from None
    except OSError as error:
        raise WeightsError(f"cannot unpack {file}: {error.strerror or error}") from None
    return profile, entries


# --- writing ---------------------------------------------------------------------------------


def _manifest(profile: Profile, entries: list[Entry]) -> Mapping[str, Any]:
    return {
        "format": FORMAT,
        "profile": profile.name,
        "method": profile.method,
        "features": profile.features,
        "vae": profile.vae,
        "licences": {part.title: part.licence for part in profile.components},
        "files": [
            {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256} for entry in entries
        ],
    }


def _licences(profile: Profile) -> str:
    rows = [
        f"* {part.title}: {part.licence}; from {', '.join(map(str, part.variants[0].sources))}"
        for part in profile.components
    ]
    return "\n".join(
        [
            "# Licences of these weights",
            "",
            "Each licence goes with its file, whoever passes it on. Stable Diffusion's, CreativeML",
            "Open RAIL++-M, forbids the uses listed in its attachment A and wants that passed on.",
            "",
            *rows,
            "",
        ]
    )


def _member(name: str, size: int) -> tarfile.TarInfo:
    """The same for everybody who packs the same: no owner, no time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_member(name, len(content)), BytesIO(content))


@contextlib.contextmanager
def _whole_or_nothing(file: Path) -> Iterator[Path]:
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(file)
    except OSError as error:
        raise WeightsError(f"cannot write {file}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


# --- reading ---------------------------------------------------------------------------------


def _announced(archive: tarfile.TarFile) -> tuple[Profile, list[Entry]]:
    """The manifest, as far as it can be believed. Raises WeightsError."""
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MOST_MANIFEST:
        raise WeightsError(f"this is no bundle of weights: it does not begin with {MANIFEST}")
    try:
        told = json.loads(_content(archive, first).read())
        if told["format"] != FORMAT:
            raise WeightsError(f"the bundle has format {told['format']!r}, this program knows 1")
        profile = profiles.get(
            str(told["profile"]),
            method=str(told["method"]),
            features=told["features"],
            vae=told["vae"],
        )
        entries = [
            Entry(path=str(row["path"]), bytes=int(row["bytes"]), sha256=str(row["sha256"]))
            for row in told["files"]
        ]
    except WeightsError:
        raise
    except CliperError as error:
        raise WeightsError(f"the bundle is of a profile not known here: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"the bundle's {MANIFEST} cannot be read: {error!r}") from None
    except (OverflowError, RecursionError) as error:
        raise WeightsError(
            f"the bundle's {MANIFEST} cannot be read: {type(error).__name__}"
        ) from None
    known = _known_paths(profile)
    for entry in entries:
        if not NAME.fullmatch(entry.path) or entry.path not in known:
            raise WeightsError(f"the bundle lists {entry.path!r}, which is no file of its profile")
        most = MOST_BYTES if weights.holds_tensors(entry.path) else MOST_CONFIG
        if not 0 <= entry.bytes <= most:
            raise WeightsError(f"the bundle lists {entry.path} with a size it cannot have")
    if len({entry.path for entry in entries}) != len(entries):
        raise WeightsError("the bundle lists a file twice")
    return profile, entries


def _known_paths(profile: Profile) -> dict[str, set[str]]:
    """Files that a profile may have -> checksums on record; none where nobody pinned one, as of
    what stands for others."""
    known: dict[str, set[str]] = {}
    for component in profile.components:
        for variant in component.variants:
            for file in variant.files:
                pins = known.setdefault(f"{component.name}/{file.path}", set())
                pins |= {file.sha256} if file.sha256 else set()
                if file.unless is not None:
                    known.setdefault(f"{component.name}/{file.unless}", set())
    return known


def _check_whole(profile: Profile, entries: list[Entry], root: Path) -> None:
    """Raises WeightsError where a component would still lack files afterwards."""
    coming = {entry.path for entry in entries}
    short = [
        component.title
        for component in profile.components
        if not weights.is_whole(component, root, coming)
    ]
    if short:
        raise WeightsError(
            f"with this bundle {root} would still lack files of {' and '.join(short)}; make it "
            "again where 'cliper weights verify' finds nothing missing"
        )


def _check_recorded(profile: Profile, entries: list[Entry], root: Path) -> None:
    """Raises WeightsError for tensors that nobody but the bundle vouches for."""
    noted = weights.noted_checksums(root)
    for entry in unrecorded(profile, entries):
        if noted.get(str((root / entry.path).resolve())) != entry.sha256:
            raise WeightsError(
                f"nobody recorded a checksum of {entry.path}, so only the bundle vouches for it; "
                f"compare its SHA-256 {entry.sha256} with the one where it was packed, then "
                "unpack with --unrecorded"
            )


def _receive(
    archive: tarfile.TarFile, entries: list[Entry], profile: Profile, staging: Path
) -> None:
    """Every file of the bundle into `staging`, each compared. Raises WeightsError."""
    wanted = {INSIDE + entry.path: entry for entry in entries}
    pins = _known_paths(profile)
    while (member := archive.next()) is not None:
        if member.name == LICENCES and member.isreg():
            continue
        entry = wanted.pop(member.name, None)
        if entry is None or not member.isreg() or member.issparse():
            raise WeightsError(
                f"the bundle holds {member.name!r}, which it does not list as a file"
            )
        if member.size != entry.bytes:
            raise WeightsError(f"the bundle's {entry.path} has another size than it lists")
        target = staging / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _copy(_content(archive, member), target)
        for digest in ({entry.sha256}, pins[entry.path]):
            if digest and found not in digest:
                raise WeightsCorrupt(
                    f"{entry.path} in the bundle",
                    min(digest),
                    found,
                    remedy="copy the bundle again, or make it again",
                )
    if wanted:
        raise WeightsError(f"the bundle lacks {min(wanted)}, which it lists")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # it is a plain file
    return stream


def _copy(stream: IO[bytes], target: Path) -> str:
    """Write to the disk, and return the digest."""
    digest = hashlib.sha256()
    with target.open("xb") as written:
        while block := stream.read(weights.BLOCK):
            digest.update(block)
            written.write(block)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _clear_left_behind(root: Path) -> None:
    """What an unpacking that was killed left; the lock is ours, so none is at work."""
    for folder in root.glob(f"{STAGING}*"):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _check_places(entries: list[Entry], root: Path) -> None:
    """Whether every file can get its name; makes nothing. Raises WeightsError."""
    disk = root.stat().st_dev
    for entry in entries:
        target = root / entry.path
        if target.is_dir() and not target.is_symlink():
            raise WeightsError(f"{target} is a folder; remove it")
        folder = target.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        if not folder.resolve().is_relative_to(root.resolve()):
            raise WeightsError(f"{folder} is a link that leads out of {root}; remove it")
        if not folder.is_dir():
            raise WeightsError(f"{folder} is no folder; remove it")
        if folder.stat().st_dev != disk:
            raise WeightsError(f"{folder} is on another disk than {root}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WeightsError(f"nothing can be written into {folder}: Permission denied")


def _put_in_place(entries: list[Entry], staging: Path, root: Path) -> None:
    """All is compared and on the same disk: what is left is giving names. Raises WeightsError."""
    _check_places(entries, root)  # again: receiving took a while
    for entry in entries:
        (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        (staging / entry.path).replace(root / entry.path)


def _check_space(root: Path, entries: list[Entry]) -> None:
    needed = sum(entry.bytes for entry in entries) + weights.SPARE
    free = shutil.disk_usage(root).free
    if needed > free:
        raise DiskFull(root, needed, free)
