"""Weights in one file: what is packed, what is believed, and what is left behind by a refusal."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

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
OTHER = {"sd-x/unet/d.safetensors": b"nobody recorded", "sd-x/c.json": b"{}"}
Rewrite = Callable[[dict[str, Any], list[tuple[tarfile.TarInfo, bytes]]], bytes | None]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def component(name: str, part: str, *files: File, other: tuple[File, ...] = ()) -> Component:
    sources = (Source(hub="owner/name"),)
    variants = [Variant(files=one, sources=sources) for one in (files, other) if one]
    return Component(
        name=name,
        part=part,
        title=f"a {part}",
        licence="MIT",
        variants=tuple(variants),
    )


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile `fast` of three small files, two of them with a checksum on record; of another
    variant's tensors nobody recorded one."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MODEL_DIR", raising=False)
    monkeypatch.setattr(weights, "SPARE", 0)
    pin = {path: digest(data) for path, data in CONTENT.items()}
    other = (File(path="unet/d.safetensors", bytes=15), File(path="c.json", bytes=2))
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
            other=other,
        ),
    )
    original = profiles.get
    chosen = replace(original("fast"), components=parts)

    def get(name: str, **more: Any) -> Any:
        return chosen if name == "fast" else original(name, **more)

    monkeypatch.setattr(profiles, "get", get)


def filled(folder: Path, content: Mapping[str, bytes] = CONTENT) -> Path:
    for path, data in content.items():
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
    """The same bundle, forged: `change` may alter its manifest and its members in place, or return
    other bytes for the manifest."""
    with tarfile.open(packed) as archive:
        members = [(one, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
    manifest = json.loads(members.pop(0)[1])
    head = change(manifest, members) or json.dumps(manifest).encode()
    forged = packed.with_name("forged.tar")
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


def other_size(size: object) -> Rewrite:
    return lambda manifest, members: manifest["files"][0].update(bytes=size)


def nested(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return b"[" * (bundle.MOST_MANIFEST // 2)


def added_and_listed(path: str, data: bytes) -> Rewrite:
    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest["files"].append({"path": path, "bytes": len(data), "sha256": digest(data)})
        info = tarfile.TarInfo(f"weights/{path}")
        info.size = len(data)
        members.append((info, data))

    return change


def only(*wanted: str) -> Rewrite:
    """Neither listed nor there is anything else."""

    def change(manifest: dict[str, Any], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest["files"] = [row for row in manifest["files"] if row["path"] in wanted]
        members[:] = [one for one in members if one[0].name.removeprefix("weights/") in wanted]

    return change


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
    "endless size": other_size(float("inf")),
    "size beyond any": other_size(10**400),
    "size below nothing": other_size(-1),
    "deeply nested": nested,
    "tensors of which nobody recorded a checksum": added_and_listed(
        "sd-x/unet/d.safetensors", b"evil"
    ),
    "a part missing, unlisted": only("clip-x/a.safetensors"),
    "a file of a part missing, unlisted": only("clip-x/a.safetensors", "sd-x/unet/b.safetensors"),
    "nothing listed": only(),
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


def without_prompt_encoder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Weights where a stored embedding stands for a text encoder that is not there any more."""
    chosen = profiles.get("fast")
    clip, diffusion = chosen.components
    first = diffusion.variants[0]
    encoder = File(
        path="text_encoder/e.safetensors",
        bytes=1,
        sha256=digest(b"e"),
        unless=weights.EMPTY_PROMPT,
    )
    variant = replace(first, files=(*first.files, encoder))
    parts = (clip, replace(diffusion, variants=(variant,)))
    monkeypatch.setattr(profiles, "get", lambda name, **more: replace(chosen, components=parts))
    return filled(folder, {**CONTENT, f"sd-x/{weights.EMPTY_PROMPT}": b"embedding"})


def test_an_embedding_goes_along_where_it_stands_for_the_text_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    here, there = without_prompt_encoder(monkeypatch, tmp_path / "here"), tmp_path / "there"
    file = tmp_path / "weights.tar"
    assert main(["weights", "bundle", str(file), "--profile", "fast", "--dir", str(here)]) == 0
    told = capsys.readouterr()
    assert f"unbundle {file.name} --unrecorded" in told.out
    assert "sd-x/empty_prompt.safetensors" in told.err

    with pytest.raises(WeightsError, match=r"nobody recorded a checksum of sd-x/empty_prompt"):
        bundle.unpack(file, there)
    assert everything_below(there) == {}
    assert main(["weights", "unbundle", str(file), "--dir", str(there), "--unrecorded"]) == 0

    assert everything_below(there) == everything_below(here)
    assert weights.locate(profiles.get("fast"), there)
    told = capsys.readouterr()
    assert f"vouches for sd-x/empty_prompt.safetensors: {digest(b'embedding')}" in told.err


def test_an_embedding_stays_where_the_text_encoder_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = without_prompt_encoder(monkeypatch, tmp_path / "here")
    filled(here, {"sd-x/text_encoder/e.safetensors": b"e"})

    entries = bundle.pack(profiles.get("fast"), tmp_path / "weights.tar", here)

    assert {entry.path for entry in entries} == {*CONTENT, "sd-x/text_encoder/e.safetensors"}
    assert len(bundle.unpack(tmp_path / "weights.tar", tmp_path / "there")[1]) == len(entries)


def test_what_is_there_already_makes_up_for_what_does_not_come(packed: Path, tmp_path: Path):
    there = filled(tmp_path / "there", {"sd-x/c.json": CONTENT["sd-x/c.json"]})
    part = rewritten(packed, only("clip-x/a.safetensors", "sd-x/unet/b.safetensors"))

    bundle.unpack(part, there)

    assert everything_below(there) == CONTENT


@pytest.mark.parametrize("noted", [b"nobody recorded", b"something else", None])
def test_tensors_without_a_record_are_taken_where_the_site_has_its_own(
    tmp_path: Path, noted: bytes | None
):
    content = {**OTHER, "clip-x/a.safetensors": CONTENT["clip-x/a.safetensors"]}
    file, there = tmp_path / "weights.tar", tmp_path / "there"
    bundle.pack(profiles.get("fast"), file, filled(tmp_path / "here", content))
    if noted is not None:
        filled(there, {**content, "sd-x/unet/d.safetensors": noted})
        save_file({"empty_prompt": torch.zeros(1)}, there / "sd-x" / weights.EMPTY_PROMPT)
        weights.checksums(profiles.get("fast"), there)
        (there / "sd-x/unet/d.safetensors").unlink()

    if noted == OTHER["sd-x/unet/d.safetensors"]:
        bundle.unpack(file, there)
        assert weights.locate(profiles.get("fast"), there)
    else:
        with pytest.raises(WeightsError, match="nobody recorded a checksum of sd-x/unet/d"):
            bundle.unpack(file, there)
        bundle.unpack(file, there, take_unrecorded=True)
        assert (there / "sd-x/unet/d.safetensors").read_bytes() == b"nobody recorded"


def test_a_configuration_is_small(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundle, "MOST_CONFIG", 1)

    with pytest.raises(WeightsError, match=r"lists sd-x/c\.json with a size it cannot have"):
        bundle.unpack(packed, tmp_path / "there")


def test_a_link_that_leads_out_is_refused_before_any_folder_is_made(packed: Path, tmp_path: Path):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    for folder in (there, elsewhere):
        folder.mkdir()
    (there / "sd-x").symlink_to(elsewhere)

    with pytest.raises(WeightsError, match="leads out of"):
        bundle.unpack(packed, there)

    assert list(elsewhere.iterdir()) == []
    assert not (there / "clip-x").exists()


@pytest.mark.parametrize("fault", ["folder in its place", "file for a folder", "not ours", "disk"])
def test_what_cannot_get_its_name_is_seen_before_anything_has(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
):
    there = tmp_path / "there"
    last = there / "sd-x"
    if fault == "file for a folder":
        filled(there, {"sd-x": b"a file"})
    else:
        last.mkdir(parents=True)
    if fault == "folder in its place":
        (last / "c.json").mkdir()
    elif fault == "not ours":
        monkeypatch.setattr(bundle.os, "access", lambda path, mode: path != last)
    elif fault == "disk":
        plain = Path.stat

        def stat(path: Path, **more: Any) -> Any:
            found = plain(path, **more)
            return SimpleNamespace(st_dev=-1, st_mode=found.st_mode) if path == last else found

        monkeypatch.setattr(Path, "stat", stat)
    before = everything_below(there)

    with pytest.raises(WeightsError, match=r"remove it|written into|another disk"):
        bundle.unpack(packed, there)

    assert everything_below(there) == before
    assert not (there / "clip-x").exists()


def test_what_a_killed_unpacking_left_is_cleared_away(packed: Path, tmp_path: Path):
    there = filled(tmp_path / "there", {".unbundle-dead/clip-x/a.safetensors": b"half"})

    bundle.unpack(packed, there)

    assert everything_below(there) == CONTENT
    assert not list(there.glob(".unbundle*"))
