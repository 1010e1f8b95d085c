"""What can be said about the images without building them."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = ["docker/Dockerfile", "docker/Dockerfile.cuda"]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, rest) in order; comments dropped, continued lines joined."""
    lines = (ROOT / dockerfile).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
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


@pytest.fixture(params=DOCKERFILES)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_service_runs_as_an_ordinary_user(dockerfile: str) -> None:
    user = last(dockerfile, "USER")
    assert user not in ("root", "0")
    created = next(rest for word, rest in stages(dockerfile)[-1] if word == "RUN")
    assert f"--create-home {user}" in created


def test_the_image_says_whether_it_is_healthy(dockerfile: str) -> None:
    health = last(dockerfile, "HEALTHCHECK")
    assert "--start-period=" in health
    assert "healthcheck.py" in health


def test_weights_live_in_a_volume_the_user_owns(dockerfile: str) -> None:
    volume = last(dockerfile, "VOLUME")
    variables = dict(part.split("=", 1) for part in last(dockerfile, "ENV").split())
    assert variables["MODEL_DIR"].startswith(f"{volume}/")
    created = next(rest for word, rest in stages(dockerfile)[-1] if word == "RUN")
    assert variables["MODEL_DIR"] in created
    assert "--owner cliper" in created


def test_the_store_lies_in_the_volume_the_user_owns(dockerfile: str) -> None:
    volume = last(dockerfile, "VOLUME")
    variables = dict(part.split("=", 1) for part in last(dockerfile, "ENV").split())
    assert variables["STORAGE"] == f"sqlite:{volume}/cliper.sqlite"
    created = next(rest for word, rest in stages(dockerfile)[-1] if word == "RUN")
    assert f"--owner cliper --group cliper {volume} " in created


def test_the_port_exposed_is_the_port_served(dockerfile: str) -> None:
    variables = dict(part.split("=", 1) for part in last(dockerfile, "ENV").split())
    assert last(dockerfile, "EXPOSE") == variables["PORT"] == "9090"


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
            assert re.fullmatch(r"python:3\.11-slim( AS build)?", rest)


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
    arguments = {name: dict(instructions(name))["ARG"] for name in DOCKERFILES}
    assert arguments["docker/Dockerfile"].endswith("/whl/cpu")
    assert arguments["docker/Dockerfile.cuda"] == "TORCH_INDEX_URL="


def test_the_folder_hides_no_python_package() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_the_entrypoint_is_a_program_with_valid_syntax() -> None:
    entrypoint = ROOT / "docker" / "entrypoint.sh"
    assert entrypoint.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", entrypoint], check=True)
