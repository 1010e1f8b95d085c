"""The images' entrypoint as a container runs it: as an ordinary user without a right, on a
read-only file system, with no network, and nothing downloaded. Without Docker: with namespaces of
the kernel, as Docker itself does it (`inside.py`)."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.demo import projects
from backend.labelstudio.regions import FORMATS

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("inside.py")
USER = 10001  # of the images
LABEL = "sky"
ALIKE = 0.5  # intersection over union that no mask of something else reaches
PATIENCE = 300.0  # seconds until the model must be ready, on a busy machine


def in_namespaces() -> list[str]:
    """The command in front of `inside.py`; whoever is not root becomes it in a namespace of
    users, which has no other user in it. The test fails where the kernel permits neither."""
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user", "--map-auto"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.fail(
            "this test needs namespaces of the kernel, as Docker does, and may not make them: "
            f"{shlex.join(command)} says {tried.stderr.strip()!r}. Run it as root, or allow user "
            "namespaces (subuid for this user, kernel.unprivileged_userns_clone=1); in a "
            "container, with --privileged"
        )
    return command


def image_environment(dockerfile: str) -> dict[str, str]:
    """What the image puts into the environment, and Docker adds."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "docker" / dockerfile).read_text())
    found = re.findall(r"^ENV (.*)$", text, re.MULTILINE)[-1]
    variables = dict(part.split("=", 1) for part in found.split())
    return {**variables, "HOME": "/home/cliper", "PATH": "/image/bin:/usr/bin:/bin"}


@pytest.fixture(scope="module")
def scene() -> projects.Picture:
    pictures = projects.everything(6, 5).pictures
    return next(one for one in pictures if LABEL in one.truth)


@pytest.fixture(scope="module")
def came_of_it(tmp_path_factory: pytest.TempPathFactory, scene: projects.Picture) -> dict[str, Any]:
    """One run of the container from start to stop."""
    folder = tmp_path_factory.mktemp("container")
    for name in ("root", "data"):
        (folder / name).mkdir()
    (folder / "data").chmod(0o777)  # the volume is the user's
    address = "data:image/png;base64," + base64.b64encode(scene.to_png()).decode()
    config = projects.everything(1, 5).label_config
    asked = {"tasks": [{"id": 1, "data": {"image": address}}], "label_config": config}
    environment = image_environment("Dockerfile") | {"PROFILE": "demo", "OMP_NUM_THREADS": "1"}
    wish = {
        "root": str(folder / "root"),
        "data": str(folder / "data"),
        "source": str(ROOT),
        "interpreter": os.path.realpath(sys.base_prefix),
        "packages": os.path.realpath(sys.prefix),
        "environment": environment,
        "entrypoint": ["/image/bin/entrypoint.sh", "serve"],
        "user": USER,
        "requests": [["POST", "/predict", asked], ["GET", "/nowhere", None]],
        "patience": PATIENCE,
    }
    (folder / "wish.json").write_text(json.dumps(wish))
    done = subprocess.run(
        [*in_namespaces(), sys.executable, INSIDE, folder / "wish.json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_runs_as_an_ordinary_user_without_a_right_or_a_way_to_one(
    came_of_it: dict[str, Any],
) -> None:
    probe = came_of_it["probe"]
    assert probe["user"] == USER
    assert probe["rights"] == 0
    assert probe["no_new_privileges"] == 1


def test_nothing_can_be_written_but_the_volume_and_tmp(came_of_it: dict[str, Any]) -> None:
    assert came_of_it["probe"]["writable"] == ["/data", "/tmp"]


def test_there_is_no_network(came_of_it: dict[str, Any]) -> None:
    assert came_of_it["probe"]["networks"] == ["lo"]


def test_the_model_gets_ready_and_the_health_check_says_so(came_of_it: dict[str, Any]) -> None:
    assert came_of_it["health"]["status"] == "UP"
    assert came_of_it["health"]["model"]["state"] == "ready"
    assert came_of_it["health"]["profile"] == "demo"
    assert came_of_it["healthcheck"] == 0


def test_a_picture_in_its_address_gets_its_masks(
    came_of_it: dict[str, Any], scene: projects.Picture
) -> None:
    predicted, missing = came_of_it["answers"]
    assert missing["status"] == 404
    assert predicted["status"] == 200
    (entry,) = predicted["body"]["results"]
    found = np.zeros(scene.image.shape[:2], bool)
    for region in entry["result"]:
        if region["value"]["brushlabels"] == [LABEL]:
            found |= FORMATS["brushlabels"].decode(region, found.shape)
    truth = scene.truth[LABEL]
    assert (found & truth).sum() / (found | truth).sum() > ALIKE


def test_the_stop_signal_ends_it_in_good_order(came_of_it: dict[str, Any]) -> None:
    assert came_of_it["exit"] == 0, came_of_it["log"]
    assert "Traceback" not in came_of_it["log"]
    assert "Read-only file system" not in came_of_it["log"]


def test_what_was_kept_is_the_store_and_nothing_else(came_of_it: dict[str, Any]) -> None:
    kept = {name.removesuffix("-wal").removesuffix("-shm") for name in came_of_it["data"]}
    assert kept == {"/data/cliper.sqlite"}
    assert came_of_it["tmp"] == []


def test_the_programs_that_play_the_container_are_there() -> None:
    assert [name for name in ("unshare", "setpriv", "ip") if shutil.which(name) is None] == []
