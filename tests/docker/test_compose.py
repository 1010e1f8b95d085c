"""docker-compose.yml, and docker-compose.gpu.yml laid over it, as an administrator gets it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
GPU = ROOT / "docker-compose.gpu.yml"
HAPROXY = ROOT / "docker" / "haproxy" / "haproxy.cfg"


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
    assert services["cliper"]["ports"] == ["${CLIPER_PORT:-9090}:9090"]
    assert services["cliper"]["environment"]["PORT"] == "9090"
    assert "ports" not in services["redis"], "redis has no password; it stays inside"


def test_several_of_the_backend_get_as_many_ports_that_no_other_service_has(
    services: dict[str, Any],
) -> None:
    taken = {
        int(port.split(":")[-2])
        for name, service in services.items()
        if name != "cliper"
        for port in service.get("ports", ())
    }
    scaled = re.findall(
        r"^CLIPER_PORT=(\d+)-(\d+) .*--scale cliper=(\d+)$",
        (ROOT / "docs" / "operations.md").read_text(),
        re.MULTILINE,
    )
    assert scaled
    for first, last, several in scaled:
        ports = range(int(first), int(last) + 1)
        assert len(ports) == int(several)
        assert not taken & set(ports)


def test_replicas_as_the_page_starts_them_have_ports_and_a_place_with_the_balancer(
    services: dict[str, Any],
) -> None:
    page = (ROOT / "docs" / "how-to" / "several-replicas.md").read_text()
    (first, last), *others = re.findall(r"\bCLIPER_PORT=(\d+)-(\d+)$", page, re.MULTILINE)
    assert not others
    ports = range(int(first), int(last) + 1)
    taken = {
        int(port.split(":")[-2])
        for name, service in services.items()
        if name != "cliper"
        for port in service.get("ports", ())
    }
    assert not taken & set(ports)
    places = re.findall(r"server-template replica 1-(\d+) ", HAPROXY.read_text())
    assert len(places) == 3
    for several in re.findall(r"--scale cliper=(\d+)", page):
        assert 1 < int(several) <= len(ports)
        assert all(int(most) >= int(several) for most in places)


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


def test_process_1_of_the_backend_is_the_images_own_and_not_a_second_one_on_top(
    services: dict[str, Any],
) -> None:
    assert "init" not in services["cliper"], "the image starts tini itself"


@pytest.mark.parametrize("name", ["label-studio", "cliper", "redis", "balancer"])
def test_no_container_has_a_right_of_the_root_user_or_a_way_to_one(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", ["cliper", "redis"])
def test_only_a_volume_and_memory_can_be_written(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert [volume.partition(":")[2] for volume in service["volumes"]] == ["/data"]


def test_redis_starts_as_its_own_user_since_it_cannot_change_to_it(
    services: dict[str, Any],
) -> None:
    assert services["redis"]["user"] == "redis"


@pytest.mark.parametrize("name", ["label-studio", "cliper", "redis"])
def test_memory_and_processes_of_every_container_end_somewhere(
    services: dict[str, Any], name: str
) -> None:
    assert gigabytes(services[name]["mem_limit"]) >= 4
    assert 128 <= services[name]["pids_limit"] <= 4096


def test_the_balancer_is_optional_and_finds_the_backend_by_its_name(
    services: dict[str, Any],
) -> None:
    service = services["balancer"]
    assert service["profiles"] == ["replicas"]
    name, port = service["environment"]["BALANCER_REPLICAS"].split(":")
    assert services[name]["environment"]["PORT"] == port
    inside = "/usr/local/etc/haproxy/haproxy.cfg"  # of the image
    assert service["volumes"] == [f"./{HAPROXY.relative_to(ROOT)}:{inside}:ro"]
    assert HAPROXY.is_file()


def test_the_balancer_is_watched_at_an_address_of_its_own(services: dict[str, Any]) -> None:
    _, port = services["balancer"]["ports"][0].split(":")
    address = services["balancer"]["healthcheck"]["test"][-1]
    text = HAPROXY.read_text()
    assert f"presetenv BALANCER_BIND :{port}\n" in text
    assert address == f"http://127.0.0.1:{port}/balancer"
    assert "if { path /balancer }" in text


def test_the_balancer_writes_nothing_and_runs_as_an_ordinary_user(
    services: dict[str, Any],
) -> None:
    service = services["balancer"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["user"] == "haproxy"


def test_the_balancer_s_buffers_fit_into_its_memory(services: dict[str, Any]) -> None:
    """Of a request: what it holds, what is kept of it to ask again, and the answer."""
    text = HAPROXY.read_text()
    (buffer,) = map(int, re.findall(r"^ +tune\.bufsize (\d+)$", text, re.MULTILINE))
    (most,) = map(int, re.findall(r"^ +maxconn (\d+)$", text, re.MULTILINE))
    assert 3 * buffer * most < gigabytes(services["balancer"]["mem_limit"]) * 1e9
    assert services["balancer"]["pids_limit"] <= 128


def test_redis_refuses_in_words_before_its_memory_ends(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    full = command[command.index("--maxmemory") + 1]
    assert 2 * gigabytes(full) <= gigabytes(services["redis"]["mem_limit"])


def gigabytes(text: str) -> int:
    """`8g`, `2gb` or `${NAME:-8g}`."""
    found = re.fullmatch(r"(?:\$\{\w+:-)?(\d+)gb?\}?", text)
    assert found, text
    return int(found[1])


def merged(base: Any, over: Any) -> Any:
    """As `docker compose -f base -f over` puts two files together: mappings key by key, lists one
    after the other, anything else from the later file."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = {name: merged(base[name], over[name]) for name in base.keys() & over.keys()}
        return {**base, **over, **both}
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *over]
    return over


@pytest.fixture(scope="module")
def on_a_gpu() -> dict[str, Any]:
    """The backend with both files."""
    files = [yaml.safe_load(path.read_text()) for path in (COMPOSE, GPU)]
    found: dict[str, Any] = merged(*files)["services"]["cliper"]
    return found


def test_on_a_gpu_the_backend_gets_one_device_unless_told_and_the_image_for_it(
    on_a_gpu: dict[str, Any],
) -> None:
    devices = on_a_gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "${GPUS:-1}", "capabilities": ["gpu"]}]
    assert on_a_gpu["build"] == {"context": ".", "dockerfile": "docker/Dockerfile.cuda"}
    assert (ROOT / on_a_gpu["build"]["dockerfile"]).is_file()
    assert on_a_gpu["image"] == "cliper-label-studio:cuda"
    assert on_a_gpu["environment"]["DEVICE"] == "${DEVICE:-cuda}"


def test_on_a_gpu_everything_else_is_as_without(
    on_a_gpu: dict[str, Any], services: dict[str, Any]
) -> None:
    changed = {"build", "image", "environment", "deploy"}
    assert {key: on_a_gpu[key] for key in on_a_gpu.keys() - changed} == {
        key: services["cliper"][key] for key in services["cliper"].keys() - changed
    }
    environment = dict(on_a_gpu["environment"])
    del environment["DEVICE"]
    assert environment == services["cliper"]["environment"]


def test_the_gpu_file_touches_no_other_service() -> None:
    content = yaml.safe_load(GPU.read_text())
    assert list(content) == ["services"]
    assert list(content["services"]) == ["cliper"]
    assert '"DEVICE"' in (ROOT / "backend" / "settings.py").read_text()
