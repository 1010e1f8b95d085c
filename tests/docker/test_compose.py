"""docker-compose.yml as an administrator gets it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    found: dict[str, Any] = content["services"]
    return found


def test_label_studio_gets_both_settings_a_private_backend_needs(services: dict[str, Any]) -> None:
    settings = services["label-studio"]["environment"]
    assert settings["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert settings["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"
    assert "LABEL_STUDIO_HOST" in settings


def test_label_studio_has_the_version_the_protocol_was_observed_on(
    services: dict[str, Any],
) -> None:
    image = services["label-studio"]["image"]
    assert image == "heartexlabs/label-studio:1.23.2"
    pinned = (ROOT / "constraints-label-studio.txt").read_text()
    assert re.search(r"^label-studio==1\.23\.2$", pinned, re.MULTILINE)


def test_every_image_names_its_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), name


def test_the_backend_is_built_from_a_file_that_exists(services: dict[str, Any]) -> None:
    build = services["cliper"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_the_backend_reaches_label_studio_by_its_service_name(services: dict[str, Any]) -> None:
    address = services["cliper"]["environment"]["LABEL_STUDIO_URL"]
    assert address == "${LABEL_STUDIO_URL:-http://label-studio:8080}"
    assert "host.docker.internal:host-gateway" in services["cliper"]["extra_hosts"]


def test_leftovers_of_requests_can_be_finished_in_the_background(services: dict[str, Any]) -> None:
    assert services["cliper"]["environment"]["AUTO_PRELABEL"] == "${AUTO_PRELABEL:-false}"


def test_ports_are_the_ones_everybody_expects(services: dict[str, Any]) -> None:
    assert services["label-studio"]["ports"] == ["8080:8080"]
    assert services["cliper"]["ports"] == ["9090:9090"]
    assert services["cliper"]["environment"]["PORT"] == "9090"
    assert "ports" not in services["redis"], "redis has no password; it stays inside"


def test_no_secret_is_written_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"KEY|TOKEN|PASS|SECRET|AUTH", variable):
                assert value == f"${{{variable}:-}}", f"{name}: {variable}"


def test_weights_outlive_the_container(services: dict[str, Any]) -> None:
    service = services["cliper"]
    volume, folder = service["volumes"][0].split(":")
    assert volume in yaml.safe_load(COMPOSE.read_text())["volumes"]
    assert service["environment"]["MODEL_DIR"].startswith(f"{folder}/")


def test_what_outlives_a_restart_lies_in_a_volume(services: dict[str, Any]) -> None:
    service = services["cliper"]
    folder = service["volumes"][0].split(":")[1]
    assert service["environment"]["STORAGE"] == f"${{STORAGE:-sqlite:{folder}/cliper.sqlite}}"


def test_redis_writes_down_what_it_has_and_forgets_nothing(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command
    assert services["redis"]["volumes"] == ["redis-data:/data"]


def test_the_backend_is_watched_by_its_health_check(services: dict[str, Any]) -> None:
    check = services["cliper"]["healthcheck"]
    assert check["test"] == ["CMD", "python", "/usr/local/bin/healthcheck.py"]
    assert "start_period" in check


def test_every_backend_variable_is_one_the_settings_know(services: dict[str, Any]) -> None:
    known = (ROOT / "backend" / "settings.py").read_text()
    for variable in services["cliper"]["environment"]:
        assert f'"{variable}"' in known, variable


def test_the_commented_gpu_block_is_valid_when_uncommented() -> None:
    lines = COMPOSE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "# deploy:")
    end = next(i for i in range(start, len(lines)) if not lines[i].strip().startswith("#"))
    uncommented = [re.sub(r"^    # ", "    ", line) for line in lines[start:end]]
    content = yaml.safe_load("\n".join(lines[:start] + uncommented + lines[end:]))
    devices = content["services"]["cliper"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
