"""The job for a cluster: its command is one of ours, its versions agree, and it runs as nobody."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.commands import parser_of

ROOT = Path(__file__).parents[2]
JOB = ROOT / "docker" / "ray" / "job.yaml"
DOCKERFILE = ROOT / "docker" / "ray" / "Dockerfile"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    return found


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_its_command_is_accepted_by_cliper(job: dict[str, Any]) -> None:
    program, command, *words = shlex.split(job["spec"]["entrypoint"])

    asked = parser_of(command).parse_args(words)

    assert program == "cliper"
    assert (asked.engine, asked.ray_address, asked.gpus_per_actor) == ("ray", "auto", 1.0)


def test_ray_is_of_one_version_everywhere(job: dict[str, Any]) -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None

    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned.group(1)
    assert f"ray[data,default]=={pinned.group(1)}" in DOCKERFILE.read_text(encoding="utf-8")


def test_every_pod_runs_as_nobody_and_gets_no_more_rights(job: dict[str, Any]) -> None:
    assert len(pods(job)) == 2
    for pod in pods(job):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_actors_ask_for_as_many_cards_as_there_are_workers(job: dict[str, Any]) -> None:
    command, *words = shlex.split(job["spec"]["entrypoint"])[1:]
    asked = parser_of(command).parse_args(words)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]

    assert asked.concurrency == group["replicas"]


def test_the_image_ends_as_an_ordinary_user() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)

    assert users == ["root", "cliper"]
