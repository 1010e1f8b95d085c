"""Weight files: where they are, where they come from, and whether they are whole.

`locate` finds what is on this machine, `fetch` gets what is not (resuming, one mirror after
the other), `checksums` names files by content, `verify` reads them again. Nothing is
downloaded unless `fetch` is called, and nothing at all while HF_HUB_OFFLINE is set.

Environment, read at the moment of the call, in the hub's own words:
    MODEL_DIR       where weights are kept (default: cliper/weights in the user's cache)
    HF_HUB_OFFLINE  1 forbids every download
    HF_ENDPOINT     another address of the hub
    HF_HUB_CACHE, HF_HOME   the hub's cache, where files of earlier downloads are found
"""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import safe_open

from .. import profiles
from ..errors import DiskFull, WeightsCorrupt, WeightsError, WeightsMissing
from ..profiles import MIB, Component, File, Profile, Source, Variant

logger = logging.getLogger(__name__)

EMPTY_PROMPT: Final = "empty_prompt.safetensors"
SIDECAR: Final = ".checksums.json"
BLOCK: Final = 1 << 20  # bytes read at once
SPARE: Final = 64 * MIB  # disk space left over after a download
ATTEMPTS: Final = 5  # connections in a row without a new byte before a mirror is given up
TIMEOUT: Final = 30.0  # seconds without an answer


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fetch has come, in bytes of all files it has to get."""

    file: str  # relative to the weights folder
    source: str
    done: int
    total: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 1.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found about one file: `ok`, `unpinned` (no recorded checksum), `damaged` or
    `missing`; by `glance` also `short`."""

    file: str
    path: Path
    state: str
    sha256: str | None = None
    wanted: str | None = None


Report = Callable[[Progress], None]


def default_folder() -> Path:
    """Where weights are kept when nobody says otherwise."""
    chosen = os.environ.get("MODEL_DIR")
    return Path(chosen).expanduser() if chosen else _user_cache() / "cliper" / "weights"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def locate(profile: str | Profile, weights_dir: str | Path | None = None) -> dict[str, Path]:
    """Find a profile's weights: part (`clip`, `diffusion`, `features`, `vae`) -> file or folder.

    Looks into `weights_dir/<component>` first, then into the hub's cache. The shipped demo
    model is one folder for both parts. Raises WeightsMissing, which says what to do.
    """
    chosen = _profile(profile)
    found: dict[str, Path] = {}
    if chosen.on_demo_weights:
        found["clip"] = found["diffusion"] = _shipped_folder()
    for component, (folder, variant) in _places(chosen, _root(weights_dir)).items():
        single = len(variant.files) == 1
        found[component.part] = folder / variant.files[0].path if single else folder
    return found


def checksums(profile: str | Profile, weights_dir: str | Path | None = None) -> Mapping[str, str]:
    """SHA-256 of every weight file a profile's masks depend on: `component/file` -> digest.

    The text encoder stands for the stored empty-prompt embedding that was made with it, so
    that keeping either gives the same answer. Files are streamed; digests are kept in a
    small file beside the weights and reused while size and modification time are the same.

    Raises WeightsMissing.
    """
    chosen = _profile(profile)
    digests = _shipped_checksums() if chosen.on_demo_weights else {}
    if chosen.shipped:
        return digests

    root = _root(weights_dir)
    notes = _Sidecar(root / SIDECAR)
    for component, (folder, variant) in _places(chosen, root).items():
        for file in variant.files:
            path = folder / file.path
            if not holds_tensors(file.path) or file.path.startswith("text_encoder/"):
                continue
            digests[f"{component.name}/{file.path}"] = notes.sha256(path)
        if component.part == "diffusion":
            digests[f"{component.name}/text_encoder"] = _text_encoder(folder, variant, notes)
    notes.save()
    return digests


def checksums_after_fetch(
    profile: str | Profile, weights_dir: str | Path | None = None
) -> Mapping[str, str] | None:
    """What `checksums` will return once `fetch` is through, as far as that is certain already.

    Recorded digests stand for files that are not here yet: `fetch` keeps no other. None where
    one has none, or where downloads are forbidden.
    """
    chosen = _profile(profile)
    root = _root(weights_dir)
    absent = [part for part in chosen.components if _place(part, root) is None]
    if not absent:
        return checksums(chosen, weights_dir)
    if is_offline():
        return None
    notes = _Sidecar(root / SIDECAR)
    digests = _shipped_checksums() if chosen.on_demo_weights else {}
    for component in chosen.components:
        folder, variant = _place(component, root) or (
            root / component.name,
            component.variants[0],
        )
        pins = {file.path: file.sha256 for file in variant.files}
        for file in variant.files:
            if not holds_tensors(file.path):
                continue
            is_text = file.path.startswith("text_encoder/")
            here = (folder / file.path).is_file()
            if is_text and not here and not _needed(file, folder):
                digest: str | None = _text_encoder(folder, variant, notes)
            else:
                digest = notes.sha256(folder / file.path) if here else pins[file.path]
            if digest is None:
                return None
            name = "text_encoder" if is_text else file.path
            digests[f"{component.name}/{name}"] = digest
    notes.save()
    return digests


def is_published(profile: Profile, part: str, digests: Mapping[str, str]) -> bool:
    """Whether all files of a part (`clip`) are the published ones, by their recorded digests."""
    pins = {
        f"{component.name}/{file.path}": {file.sha256}
        for component in profile.components
        if component.part == part
        for variant in component.variants
        for file in variant.files
    }
    own = of_part(profile, part, digests)
    return bool(own) and all(digest in pins.get(name, set()) for name, digest in own.items())


def of_part(profile: Profile, part: str, digests: Mapping[str, str]) -> Mapping[str, str]:
    """Those of a profile's checksums that belong to a part (`clip`)."""
    names = {component.name for component in profile.components if component.part == part}
    return {
        name: digest
        for name, digest in digests.items()
        if name.split("/")[0] in names
        or (profile.on_demo_weights and name == f"demo/{part}.safetensors")
    }


def verify(profile: str | Profile, weights_dir: str | Path | None = None) -> list[Verdict]:
    """Read every file of a profile again and compare it with its recorded checksum."""
    chosen = _profile(profile)
    root = _root(weights_dir)
    verdicts = [
        Verdict(
            file=name, path=_shipped_folder() / Path(name).name, state="unpinned", sha256=digest
        )
        for name, digest in (_shipped_checksums() if chosen.on_demo_weights else {}).items()
    ]
    for component in chosen.components:
        place = _place(component, root)
        folder, variant = place or (root / component.name, component.variants[0])
        verdicts += [
            _judge(component, file, folder / file.path)
            for file in variant.files
            if (folder / file.path).is_file() or _needed(file, folder)
        ]
    return verdicts


def verify_stand_ins(
    profile: str | Profile, weights_dir: str | Path | None = None
) -> list[Verdict]:
    """Stored files that stand for missing ones, read again: nobody has a checksum of them."""
    chosen = _profile(profile)
    root = _root(weights_dir)
    verdicts = []
    for component in chosen.components:
        folder, variant = _place(component, root) or (root / component.name, component.variants[0])
        used = {
            file.unless: folder / file.unless
            for file in variant.files
            if file.unless is not None
            and (folder / file.unless).is_file()
            and not (folder / file.path).is_file()
        }
        verdicts += [
            Verdict(
                file=f"{component.name}/{name}", path=path, state="unpinned", sha256=sha256(path)
            )
            for name, path in used.items()
        ]
    return verdicts


def is_whole(component: Component, root: Path, coming: Collection[str]) -> bool:
    """Whether all of a component is here once the files `coming` (`component/file`) are."""

    def here(path: str) -> bool:
        name = f"{component.name}/{path}"
        return name in coming or (root / name).is_file()

    return _place(component, root) is not None or any(
        all(
            here(file.path) or (file.unless is not None and here(file.unless))
            for file in variant.files
        )
        for variant in component.variants
    )


def noted_checksums(root: Path) -> Mapping[str, str]:
    """What this folder noted when it first used its files: place, links resolved -> digest."""
    return _Sidecar(root / SIDECAR).digests


def holds_tensors(path: str) -> bool:
    """By the file's name."""
    return path.endswith((".safetensors", ".pt", ".pth", ".bin"))


def glance(profile: str | Profile, weights_dir: str | Path | None = None) -> list[Verdict]:
    """Like `verify` at no cost: no file is read, only its size is looked at.

    Sizes on record are rounded for some files, so `short` begins at nine tenths, and small files
    are only looked for. Shipped files are not listed.
    """
    chosen = _profile(profile)
    root = _root(weights_dir)
    verdicts = []
    for component in chosen.components:
        folder, variant = _place(component, root) or (
            root / component.name,
            component.variants[0],
        )
        for file in variant.files:
            path = folder / file.path
            if not path.is_file():
                if not _needed(file, folder):
                    continue
                state = "missing"
            else:
                large = file.bytes >= MIB
                state = "short" if large and path.stat().st_size < 0.9 * file.bytes else "ok"
            verdicts.append(
                Verdict(
                    file=f"{component.name}/{file.path}",
                    path=path,
                    state=state,
                    wanted=file.sha256,
                )
            )
    return verdicts


def fetch(
    profile: str | Profile,
    weights_dir: str | Path | None = None,
    progress: Report | None = None,
    *,
    free_bytes: Callable[[Path], int] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Path]:
    """Download what a profile misses and return what `locate` returns.

    A cut connection goes on where it stopped, also in a later call; sources are tried in
    order; every file with a recorded checksum is compared with it before it gets its name.
    Two fetches into one folder wait for each other.

    Raises WeightsMissing (offline, or no source has the files), WeightsCorrupt, DiskFull.
    """
    chosen = _profile(profile)
    if chosen.shipped:
        return locate(chosen)
    root = _root(weights_dir)
    with contextlib.suppress(WeightsMissing):
        return locate(chosen, root)
    if is_offline():
        return locate(chosen, root)  # raises with what to do

    root.mkdir(parents=True, exist_ok=True)
    with alone(root):
        absent = [part for part in chosen.components if _place(part, root) is None]
        _check_space(absent, root, free_bytes or (lambda folder: shutil.disk_usage(folder).free))
        total = sum(
            file.bytes for part in absent for file in _wanted(part.variants[0], root / part.name)
        )
        meter = _Meter(total, progress)
        for component in absent:
            _fetch_component(chosen, component, root / component.name, meter, pause)
    return locate(chosen, root)


def sha256(path: Path) -> str:
    """Digest of a file of any size, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hub_snapshots(repository: str, revision: str | None = None) -> list[Path]:
    """Folders of a hub repository in the hub's own cache, the newest first."""
    folder = _hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    if revision is not None:
        return [folder / revision] if (folder / revision).is_dir() else []
    if not folder.is_dir():
        return []
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)


# --- finding ---------------------------------------------------------------------------------


def _profile(profile: str | Profile) -> Profile:
    return profiles.get(profile) if isinstance(profile, str) else profile


def _shipped_folder() -> Path:
    folder = profiles.demo_folder()
    if not (folder / "demo.json").is_file():
        raise WeightsMissing(
            "the demo model's weights",
            [folder],
            "reinstall the package, or train the demo model with 'cliper train-demo'",
        )
    return folder


def _shipped_checksums() -> dict[str, str]:
    files = sorted(_shipped_folder().glob("*.safetensors"))
    return {f"demo/{file.name}": sha256(file) for file in files}


def _root(weights_dir: str | Path | None) -> Path:
    return default_folder() if weights_dir is None else Path(weights_dir).expanduser()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _hub_cache() -> Path:
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _user_cache() / "huggingface") / "hub"


def _hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _needed(file: File, folder: Path) -> bool:
    return file.unless is None or not (folder / file.unless).is_file()


def _wanted(variant: Variant, folder: Path) -> list[File]:
    """Files of `variant` that `folder` still lacks."""
    return [
        file
        for file in variant.files
        if _needed(file, folder) and not (folder / file.path).is_file()
    ]


def _place(component: Component, root: Path) -> tuple[Path, Variant] | None:
    """The first folder that holds every file of one variant."""
    own = root / component.name
    for variant in component.variants:
        cached = [
            snapshot
            for source in variant.sources
            if source.hub is not None
            for snapshot in hub_snapshots(source.hub, source.revision)
        ]
        for folder in (own, *cached):
            if folder.is_dir() and not _wanted(variant, folder):
                return folder, variant
    return None


def _places(profile: Profile, root: Path) -> dict[Component, tuple[Path, Variant]]:
    """Where each component is. Raises WeightsMissing naming all that are nowhere."""
    places = {component: _place(component, root) for component in profile.components}
    absent = [component for component, place in places.items() if place is None]
    if absent:
        raise _missing(profile, absent, root)
    return {component: place for component, place in places.items() if place is not None}


def _missing(profile: Profile, absent: Sequence[Component], root: Path) -> WeightsMissing:
    wanted = {part: _wanted(part.variants[0], root / part.name) for part in absent}
    size = max(1, round(sum(file.bytes for files in wanted.values() for file in files) / MIB))
    by_hand = " and ".join(
        f"download {_addresses(part.variants[0].sources[0], files)} on a machine with a "
        f"connection and put {_listed([file.path for file in files])} into {root / part.name}"
        for part, files in wanted.items()
    )
    command = f"run 'cliper weights fetch {profile.choice}' ({size} MiB)"
    return WeightsMissing(
        f"{' and '.join(part.title for part in absent)} for the profile {profile.choice!r}",
        [root / part.name for part in absent],
        f"unset HF_HUB_OFFLINE and {command}" if is_offline() else command,
        details=f"without a connection, {by_hand} (MODEL_DIR chooses another folder than {root})",
    )


def _addresses(source: Source, files: Sequence[File]) -> str:
    if source.hub is not None and len(files) > 1:
        return f"{_hub_endpoint()}/{source.hub}/tree/{source.revision}"
    return _listed([source.address(file.path, hub_endpoint=_hub_endpoint()) for file in files])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


# --- checksums -------------------------------------------------------------------------------


def _judge(component: Component, file: File, path: Path) -> Verdict:
    name = f"{component.name}/{file.path}"
    if not path.is_file():
        return Verdict(file=name, path=path, state="missing", wanted=file.sha256)
    found = sha256(path)
    state = "unpinned" if file.sha256 is None else "ok" if found == file.sha256 else "damaged"
    return Verdict(file=name, path=path, state=state, sha256=found, wanted=file.sha256)


def _text_encoder(folder: Path, variant: Variant, notes: "_Sidecar") -> str:
    """Digest of the text encoder, or of the one the stored empty prompt was made with."""
    for file in variant.files:
        path = folder / file.path
        if file.path.startswith("text_encoder/") and holds_tensors(file.path) and path.is_file():
            return notes.sha256(path)
    stored = folder / EMPTY_PROMPT
    with safe_open(str(stored), "pt") as tensors:
        metadata = tensors.metadata() or {}
    return str(metadata.get("text_encoder_sha256") or notes.sha256(stored))


class _Sidecar:
    """Digests by path, size and modification time, kept in one small JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        self._known: dict[str, dict[str, object]] = {}
        with contextlib.suppress(OSError, ValueError):
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._known = stored if isinstance(stored, dict) else {}

    @property
    def digests(self) -> dict[str, str]:
        return {
            place: str(entry["sha256"])
            for place, entry in self._known.items()
            if isinstance(entry, dict) and "sha256" in entry
        }

    def sha256(self, path: Path) -> str:
        stat = path.stat()
        stamp = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        entry = self._known.get(str(path.resolve()))
        entry = entry if isinstance(entry, dict) else {}
        if {**entry, **stamp} == entry and "sha256" in entry:
            return str(entry["sha256"])
        digest = sha256(path)
        before = entry.get("sha256", digest)
        if before != digest:
            logger.warning(
                "%s changed since it was first read: SHA-256 %.12s…, before %.12s…; if nobody "
                "meant to, run 'cliper weights verify'. Predictions get a new version",
                path,
                digest,
                before,
            )
        self._known[str(path.resolve())] = {**stamp, "sha256": digest}
        self._changed = True
        return digest

    def save(self) -> None:
        if not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            draft.write_text(json.dumps(self._known, indent=1, sort_keys=True), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            logger.warning(
                "cannot keep checksums in %s (%s): they are computed again at each start",
                self._path,
                error.strerror,
            )


# --- downloading -----------------------------------------------------------------------------


class _Failed(Exception):
    """One source could not deliver a file; the next one may."""


class _Meter:
    """Adds up the bytes of all files and tells the caller."""

    def __init__(self, total: int, report: Report | None) -> None:
        self._total, self._report = total, report
        self._finished = 0

    def at(self, file: str, source: str, done: int) -> None:
        if self._report is not None:
            self._report(
                Progress(file=file, source=source, done=self._finished + done, total=self._total)
            )

    def finish(self, expected: int, actual: int) -> None:
        """The file is complete; sizes on record may be rounded."""
        self._finished += actual
        self._total += actual - expected


def _check_space(absent: Sequence[Component], root: Path, free: Callable[[Path], int]) -> None:
    needed = 0
    for component in absent:
        folder = root / component.name
        for file in _wanted(component.variants[0], folder):
            part = _part(folder / file.path, file, component.variants[0].sources[0])
            needed += max(0, file.bytes - (part.stat().st_size if part.is_file() else 0))
    available = free(root)
    if needed + SPARE > available:
        raise DiskFull(root, needed + SPARE, available)


def _fetch_component(
    profile: Profile,
    component: Component,
    folder: Path,
    meter: _Meter,
    pause: Callable[[float], None],
) -> None:
    """Get the first variant that some source can deliver completely."""
    reasons: list[str] = []
    for variant in component.variants:
        try:
            for file in _wanted(variant, folder):
                _fetch_file(profile, component, variant, file, folder, meter, pause)
            return
        except _Failed as failure:
            reasons.append(str(failure))
    raise WeightsMissing(
        component.title,
        [str(source) for variant in component.variants for source in variant.sources],
        f"try again later, or put the files into {folder}",
        details="; ".join(dict.fromkeys(reasons)),
    )


def _fetch_file(
    profile: Profile,
    component: Component,
    variant: Variant,
    file: File,
    folder: Path,
    meter: _Meter,
    pause: Callable[[float], None],
) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons: list[str] = []
    damaged: WeightsCorrupt | None = None
    for source in variant.sources:
        part = _part(target, file, source)
        address = source.address(file.path, hub_endpoint=_hub_endpoint())
        name = f"{component.name}/{file.path}"

        def told(done: int, name: str = name, source: Source = source) -> None:
            meter.at(name, str(source), done)

        try:
            _download(address, part, told, pause)
        except _Failed as failure:
            reasons.append(str(failure))
            continue
        found = sha256(part)
        if file.sha256 is not None and found != file.sha256:
            part.unlink()
            damaged = WeightsCorrupt(
                f"the download from {address}",
                file.sha256,
                found,
                remedy=f"run 'cliper weights fetch {profile.name}' again",
            )
            logger.warning("the download from %s is damaged and was thrown away", address)
            continue
        meter.finish(file.bytes, part.stat().st_size)
        part.replace(target)
        return
    if damaged is not None:
        raise damaged
    raise _Failed("; ".join(reasons))


def _part(target: Path, file: File, source: Source) -> Path:
    """Where the unfinished download lies.

    Bytes of different mirrors may be joined only where a checksum guards the result.
    """
    key = file.sha256 or hashlib.sha256(str(source).encode()).hexdigest()
    return target.with_name(f".{target.name}.{key[:12]}.part")


def _download(
    address: str, part: Path, told: Callable[[int], None], pause: Callable[[float], None]
) -> None:
    """Get one file into `part`, going on where an earlier attempt stopped."""
    if not address.startswith(("https://", "http://")):
        raise _Failed(f"{address} is not an http address")
    idle = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _receive(address, part, before, told):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # what we have does not belong to that file
                part.unlink()
                reason = "the file there is shorter than what was downloaded before"
            elif error.code < 500 and error.code not in (408, 425, 429):
                raise _Failed(f"{address} answered {error.code} {error.reason}") from None
            else:
                reason = f"answered {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = f"cannot be reached ({error.reason})"
        except _Cut as cut:
            reason = f"the connection was cut ({cut})"
        except (OSError, http.client.HTTPException) as error:
            reason = f"gave no proper answer ({error or type(error).__name__})"
        after = part.stat().st_size if part.is_file() else 0
        idle = 0 if after > before else idle + 1
        if idle >= ATTEMPTS:
            raise _Failed(f"{address}: {reason}")
        pause(min(0.5 * 2**idle, 8.0))


def _receive(address: str, part: Path, offset: int, told: Callable[[int], None]) -> bool:
    """One connection; True when the file is complete."""
    request = urllib.request.Request(address, headers={"User-Agent": "cliper"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206 and _starts_at(answer.headers, offset)
        if answer.status == 206 and not resumed:
            raise _Failed(f"{address} answered with another part than asked for")
        size = offset if resumed else 0
        length = answer.headers.get("Content-Length")
        whole = size + int(length) if length is not None else None
        with _writing(part), part.open("ab" if resumed else "wb") as stream:
            told(size)
            while block := _read_from(answer):
                stream.write(block)
                size += len(block)
                told(size)
    return whole is None or size == whole


class _Cut(Exception):
    """The connection ended early; told apart from errors of the disk."""


def _read_from(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error


def _starts_at(headers: Mapping[str, str], offset: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {offset}-")


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock: a second fetch waits for the first."""
    with (root / ".fetch.lock").open("a") as handle:
        try:
            import fcntl
        except ImportError:  # no such lock on this system; checksums still guard the result
            yield
            return
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
