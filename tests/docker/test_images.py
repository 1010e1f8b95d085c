"""What can be said about the images without building them."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = ["docker/Dockerfile", "docker/Dockerfile.cuda"]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, rest) in order; comments dropped, continued lines joined."""
    lines = (ROOT / dockerfile).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if word
    ]


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def last(dockerfile: str, word: str) -> str:
    values = [rest for name, rest in stages(dockerfile)[-1] if name == word]
    assert values, f"{dockerfile}: the final stage has no {word}"
    return values[-1]


def folders(dockerfile: str) -> str:
    """The command that makes the user and the folders."""
    runs = [rest for word, rest in stages(dockerfile)[-1] if word == "RUN" and "useradd" in rest]
    assert len(runs) == 1
    return runs[0]


def variables(dockerfile: str) -> dict[str, str]:
    """What the image puts into the environment."""
    return dict(part.split("=", 1) for part in last(dockerfile, "ENV").split())


@pytest.fixture(params=DOCKERFILES)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_service_runs_as_an_ordinary_user(dockerfile: str) -> None:
    user = last(dockerfile, "USER")
    assert user not in ("root", "0")
    created = folders(dockerfile)
    assert f"--create-home {user}" in created


def test_the_image_says_whether_it_is_healthy(dockerfile: str) -> None:
    health = last(dockerfile, "HEALTHCHECK")
    assert "--start-period=" in health
    assert "healthcheck.py" in health


def test_weights_live_in_a_volume_the_user_owns(dockerfile: str) -> None:
    volume = last(dockerfile, "VOLUME")
    assert variables(dockerfile)["MODEL_DIR"].startswith(f"{volume}/")
    created = folders(dockerfile)
    assert variables(dockerfile)["MODEL_DIR"] in created
    assert "--owner cliper" in created


def test_the_store_lies_in_the_volume_the_user_owns(dockerfile: str) -> None:
    volume = last(dockerfile, "VOLUME")
    assert variables(dockerfile)["STORAGE"] == f"sqlite:{volume}/cliper.sqlite"
    created = folders(dockerfile)
    assert f"--owner cliper --group cliper {volume} " in created


def test_the_port_exposed_is_the_port_served(dockerfile: str) -> None:
    assert last(dockerfile, "EXPOSE") == variables(dockerfile)["PORT"] == "9090"


def test_nothing_is_downloaded_past_the_package_installer(dockerfile: str) -> None:
    for word, rest in instructions(dockerfile):
        assert word != "ADD", "COPY says what it does; ADD may fetch and unpack"
        assert not (word == "RUN" and re.search(r"\b(curl|wget)\b", rest))


def test_every_package_is_pinned_by_the_constraints_file(dockerfile: str) -> None:
    installs = [rest for word, rest in instructions(dockerfile) if "pip install" in rest]
    assert len(installs) == 2
    for install in installs:
        assert "--constraint constraints.txt" in install
    pinned = (ROOT / "constraints.txt").read_text()
    for package in ("torch", "torchvision", "flask", "gunicorn", "redis", "numpy"):
        assert re.search(rf"^{package}==\S+$", pinned, re.MULTILINE | re.IGNORECASE), package


def test_base_images_name_a_version(dockerfile: str) -> None:
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            assert re.fullmatch(r"python:3\.11-slim-trixie( AS build)?", rest)


def test_everything_copied_exists_and_reaches_the_build(dockerfile: str) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for word, rest in instructions(dockerfile):
        if word != "COPY" or "--from=" in rest:
            continue
        *sources, _ = (part for part in rest.split() if not part.startswith("--"))
        for source in sources:
            assert (ROOT / source).exists(), f"{dockerfile} copies {source}"
            assert source in allowed, f".dockerignore keeps {source} out"


def test_only_the_cpu_image_takes_torch_from_the_cpu_index() -> None:
    index = {
        name: rest.removeprefix("TORCH_INDEX_URL=")
        for name in DOCKERFILES
        for word, rest in instructions(name)
        if word == "ARG" and rest.startswith("TORCH_INDEX_URL=")
    }
    assert index["docker/Dockerfile"].endswith("/whl/cpu")
    assert index["docker/Dockerfile.cuda"] == ""


def test_ray_is_in_an_image_only_where_somebody_asks_for_it(dockerfile: str) -> None:
    assert ("ARG", "EXTRAS=all") in instructions(dockerfile)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert not [one for one in extras["all"] if "ray" in one]
    assert any(one.startswith("ray[data]") for one in extras["ray"])


def test_the_last_stage_is_small_since_it_only_copies_what_the_first_installed(
    dockerfile: str,
) -> None:
    build, final = stages(dockerfile)
    assert build[0][1].endswith(" AS build")
    assert any(word == "COPY" and rest.startswith("--from=build ") for word, rest in final)
    assert not any("pip" in rest for word, rest in final if word == "RUN")
    assert "PIP_NO_CACHE_DIR=1" in dict(build)["ENV"]


def test_process_1_hands_on_the_stop_signal(dockerfile: str) -> None:
    assert json.loads(last(dockerfile, "ENTRYPOINT"))[:2] == ["tini", "--"]
    installs = [rest for word, rest in stages(dockerfile)[-1] if "apt-get install" in rest]
    assert len(installs) == 1
    compiler = ("gcc", "libc6-dev") if dockerfile.endswith(".cuda") else ()  # Triton's
    assert installs[0].split(" && ")[1].split() == [
        *("apt-get", "install", "--yes", "--no-install-recommends", *compiler, "tini")
    ]


def test_package_lists_stay_in_no_layer(dockerfile: str) -> None:
    for word, rest in instructions(dockerfile):
        if word == "RUN" and "apt-get" in rest:
            steps = rest.split(" && ")
            assert steps[0] == "apt-get update"
            assert steps[-1] == "rm -rf /var/lib/apt/lists/*"


def test_what_is_started_is_started_without_a_shell(dockerfile: str) -> None:
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last(dockerfile, word)), list)
    assert isinstance(json.loads(last(dockerfile, "HEALTHCHECK").partition("CMD ")[2]), list)


def test_the_user_is_named_once_and_before_anything_is_started(dockerfile: str) -> None:
    words = [word for word, _ in stages(dockerfile)[-1]]
    assert words.count("USER") == words.count("ENTRYPOINT") == words.count("CMD") == 1
    assert max(n for n, word in enumerate(words) if word in ("RUN", "COPY")) < words.index("USER")
    assert words.index("USER") < words.index("ENTRYPOINT") < words.index("CMD")


def test_nothing_is_fetched_that_may_be_another_thing_tomorrow(dockerfile: str) -> None:
    text = " ".join(rest for _, rest in instructions(dockerfile))
    assert "latest" not in text
    assert not re.search(r"\b(sudo|git clone|apt-get (dist-)?upgrade)\b", text)
    assert not re.search(r"\bapt \w", text), "apt is for people, apt-get for programs"


def test_no_secret_can_be_baked_in(dockerfile: str) -> None:
    for word, rest in instructions(dockerfile):
        if word in ("ARG", "ENV"):
            assert not re.search(r"KEY|TOKEN|PASS|SECRET|AUTH", rest)


def test_folders_are_named_from_the_root(dockerfile: str) -> None:
    for word, rest in instructions(dockerfile):
        if word in ("WORKDIR", "VOLUME"):
            assert rest.startswith("/")


def test_the_labels_say_what_is_inside(dockerfile: str) -> None:
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', last(dockerfile, "LABEL"))
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["base.name"] == f"docker.io/library/{stages(dockerfile)[-1][0][1]}"
    assert labels["description"]


def test_whatever_a_library_keeps_goes_to_the_volume(dockerfile: str) -> None:
    found = variables(dockerfile)
    volume = last(dockerfile, "VOLUME")
    wanted = {"HF_HOME", "XDG_CACHE_HOME"}
    if dockerfile.endswith(".cuda"):
        wanted |= {"CUDA_CACHE_PATH", "TRITON_CACHE_DIR"}
    for name in wanted:
        assert found[name].startswith(f"{volume}/"), name
    assert found["PYTHONDONTWRITEBYTECODE"] == "1"


def test_both_images_differ_in_nothing_but_the_gpu() -> None:
    cpu, cuda = (stages(name)[-1] for name in DOCKERFILES)
    differ = {
        word
        for ours, theirs in zip(cpu, cuda, strict=True)
        for word in {ours[0], theirs[0]}
        if ours != theirs
    }
    assert differ == {"LABEL", "ENV", "HEALTHCHECK", "RUN"}
    more = variables("docker/Dockerfile.cuda").items() - variables("docker/Dockerfile").items()
    assert {name for name, _ in more} == {
        *(
            "DEVICE",
            "CUDA_CACHE_PATH",
            "TRITON_CACHE_DIR",
            "NVIDIA_VISIBLE_DEVICES",
            "NVIDIA_DRIVER_CAPABILITIES",
        )
    }


def test_the_folder_hides_no_python_package() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_the_entrypoint_is_a_program_with_valid_syntax() -> None:
    entrypoint = ROOT / "docker" / "entrypoint.sh"
    assert entrypoint.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", entrypoint], check=True)
