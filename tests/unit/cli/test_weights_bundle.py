"""Weights in one file: what is packed, what is believed, and what is left behind by a refusal."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.__main__ import main
from cliper_model import profiles
from cliper_model.backbones import bundle, weights
from cliper_model.errors import DiskFull, WeightsCorrupt, WeightsError
from cliper_model.profiles import Component, File, Source, Variant

CONTENT = {
    "clip-x/a.safetensors": b"tensors",
    "sd-x/unet/b.safetensors": b"more",
    "sd-x/c.json": b"{}",
}
Rewrite = Callable[[dict[str, Any], list[tuple[tarfile.TarInfo, bytes]]], None]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def component(name: str, part: str, *files: File) -> Component:
    sources = (Source(hub="owner/name"),)
    return Component(
        name=name,
        part=part,
        title=f"a {part}",
        licence="MIT",
        variants=(Variant(files=files, sources=sources),),
    )


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile `fast` of three small files, two of them with a checksum on record."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MODEL_DIR", raising=False)
    monkeypatch.setattr(weights, "SPARE", 0)
    pin = {path: digest(data) for path, data in CONTENT.items()}
    parts = (
        component(
            "clip-x",
            "clip",
            File(path="a.safetensors", bytes=7, sha256=pin["clip-x/a.safetensors"]),
        ),
        component(
            "sd-x",
            "diffusion",
            File(path="unet/b.safetensors", bytes=4, sha256=pin["sd-x/unet/b.safetensors"]),
            File(path="c.json", bytes=2),
        ),
    )
    original = profiles.get
    chosen = replace(original("fast"), components=parts)

    def get(name: str, **more: Any) -> Any:
        return chosen if name == "fast" else original(name, **more)

    monkeypatch.setattr(profiles, "get", get)


def filled(folder: Path) -> Path:
    for path, data in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    file = tmp_path / "weights.tar"
    bundle.pack(profiles.get("fast"), file, filled(tmp_path / "here"))
    return file


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".fetch.lock"
    }


def rewritten(packed: Path, change: Rewrite) -> Path:
    """The same bundle, forged: `change` may alter its manifest and its members in place."""
    with tarfile.open(packed) as archive:
        members = [(one, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
    manifest = json.loads(members.pop(0)[1])
    change(manifest, members)
    forged = packed.with_name("forged.tar")
    head = json.dumps(manifest).encode()
    info = tarfile.TarInfo("manifest.json")
    info.size = len(head)
    with tarfile.open(forged, "w") as archive:
        archive.addfile(info, io.BytesIO(head))
        for one, data in members:
            archive.addfile(one, io.BytesIO(data))
    return forged


def test_what_is_packed_here_is_there_after_unpacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    here, there, file = filled(tmp_path / "here"), tmp_path / "there", tmp_path / "weights.tar"

    assert main(["weights", "bundle", str(file), "--profile", "fast", "--dir", str(here)]) == 0
    assert main(["weights", "unbundle", str(file), "--model-dir", str(there)]) == 0

    assert everything_below(there) == CONTENT
    assert main(["weights", "verify", "fast", "--dir", str(there)]) == 0
    assert "a clip: MIT" in capsys.readouterr().err


def test_a_bundle_holds_checksums_and_licences_and_is_the_same_each_time(
    packed: Path, tmp_path: Path
):
    with tarfile.open(packed) as archive:
        names = archive.getnames()
        manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
        licences = archive.extractfile("LICENCES.md").read().decode()  # type: ignore[union-attr]
    again = tmp_path / "again.tar"
    bundle.pack(profiles.get("fast"), again, tmp_path / "here")

    assert names == ["manifest.json", "LICENCES.md", *(f"weights/{path}" for path in CONTENT)]
    told = {row["path"]: row["sha256"] for row in manifest["files"]}
    assert told == {path: digest(data) for path, data in CONTENT.items()}
    assert "* a diffusion: MIT; from owner/name" in licences
    assert again.read_bytes() == packed.read_bytes()


def test_unpacking_twice_changes_nothing(packed: Path, tmp_path: Path):
    for _ in range(2):
        bundle.unpack(packed, tmp_path / "there")

    assert everything_below(tmp_path / "there") == CONTENT


def test_missing_or_damaged_weights_are_not_packed(tmp_path: Path):
    here, file = filled(tmp_path / "here"), tmp_path / "weights.tar"
    (here / "clip-x/a.safetensors").write_bytes(b"tensorS")
    with pytest.raises(WeightsCorrupt):
        bundle.pack(profiles.get("fast"), file, here)
    (here / "clip-x/a.safetensors").unlink()
    with pytest.raises(WeightsError):
        bundle.pack(profiles.get("fast"), file, here)

    with pytest.raises(WeightsError, match="ships with the package"):
        bundle.pack(profiles.get("demo"), file, here)
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


def test_which_profile_must_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PROFILE", raising=False)

    assert main(["weights", "bundle", str(tmp_path / "a.tar")]) == 2
    assert capsys.readouterr().err == "cliper: say which: --profile PROFILE, or set PROFILE\n"


def other_path(path: str) -> Rewrite:
    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest["files"][0]["path"] = path
        members[1][0].name = f"weights/{path}"

    return change


def as_kind(kind: bytes, link: str = "") -> Rewrite:
    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[1][0].type, members[1][0].linkname = kind, link
        members[1] = (members[1][0], b"")
        members[1][0].size = 0

    return change


def added(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Rewrite:
    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        members.insert(1, (info, b""))

    return change


def other_bytes(data: bytes, *, listed: bool) -> Rewrite:
    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[1][0].size = len(data)
        members[1] = (members[1][0], data)
        if listed:
            manifest["files"][0] |= {"bytes": len(data), "sha256": digest(data)}

    return change


def dropped(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.pop()


def repeated(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append(members[1])


def told(**changes: Any) -> Rewrite:
    return lambda manifest, members: manifest.update(changes)


FORGED: dict[str, Rewrite] = {
    "path that climbs": other_path("../evil.safetensors"),
    "path that climbs inside": other_path("clip-x/../../evil.safetensors"),
    "absolute path": other_path("/tmp/evil.safetensors"),
    "path with backslashes": other_path("clip-x\\..\\evil"),
    "hidden path": other_path("clip-x/.evil"),
    "the notes of checksums": other_path(".checksums.json"),
    "path of another component": other_path("sd-y/a.safetensors"),
    "unknown file of a component": other_path("clip-x/b.safetensors"),
    "empty path": other_path(""),
    "symbolic link": as_kind(tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": as_kind(tarfile.LNKTYPE, "weights/sd-x/c.json"),
    "folder": as_kind(tarfile.DIRTYPE),
    "pipe": as_kind(tarfile.FIFOTYPE),
    "device": as_kind(tarfile.CHRTYPE),
    "added file": added("weights/clip-x/evil.py"),
    "added file that climbs": added("../evil.py"),
    "added absolute file": added("/tmp/evil.py"),
    "added link to a folder": added("weights/clip-x", tarfile.SYMTYPE, "/tmp"),
    "licences as a link": added("LICENCES.md", tarfile.SYMTYPE, "/etc/passwd"),
    "other bytes": other_bytes(b"tensorS", listed=False),
    "other bytes, listed": other_bytes(b"tensorS", listed=True),
    "more bytes than listed": other_bytes(b"tensors, and more", listed=False),
    "file missing": dropped,
    "file twice": repeated,
    "other format": told(format=2),
    "no profile": told(profile="nothing"),
    "no files": told(files="many"),
    "nothing at all": lambda manifest, members: manifest.clear(),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_bundle_is_refused_and_leaves_nothing(
    packed: Path, tmp_path: Path, change: Rewrite
):
    there = tmp_path / "there"
    forged = rewritten(packed, change)
    before = everything_below(tmp_path)

    with pytest.raises(WeightsError):
        bundle.unpack(forged, there)

    assert everything_below(tmp_path) == before
    assert not list(there.glob(".unbundle*"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5])
def test_a_bundle_cut_short_is_refused(packed: Path, tmp_path: Path, share: float):
    data = packed.read_bytes()
    packed.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(WeightsError):
        bundle.unpack(packed, tmp_path / "there")
    assert everything_below(tmp_path / "there") == {}


def test_packed_and_other_files_are_no_bundles(tmp_path: Path, packed: Path):
    squeezed = tmp_path / "weights.tar.gz"
    with tarfile.open(squeezed, "w:gz") as archive:
        archive.add(packed, "manifest.json")
    text = tmp_path / "text"
    text.write_bytes(b"no tar" * 1000)

    for file in (squeezed, text, tmp_path / "nowhere", tmp_path):
        with pytest.raises(WeightsError):
            bundle.unpack(file, tmp_path / "there")


def test_a_folder_that_is_a_link_to_elsewhere_is_not_written_through(packed: Path, tmp_path: Path):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    for folder in (there, elsewhere):
        folder.mkdir()
    (there / "clip-x").symlink_to(elsewhere)

    with pytest.raises(WeightsError, match="leads out of"):
        bundle.unpack(packed, there)
    assert list(elsewhere.iterdir()) == []


def test_room_for_all_of_it_is_asked_for_first(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(weights, "SPARE", 1 << 62)

    with pytest.raises(DiskFull, match="make room"):
        bundle.unpack(packed, tmp_path / "there")
