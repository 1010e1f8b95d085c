"""The graphs that ship with the compose file: they ask for what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.metrics.catalogue import CATALOGUE, HISTOGRAM, Metric

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DASHBOARD = DOCKER / "grafana" / "dashboards" / "cliper.json"
PROMETHEUS = DOCKER / "prometheus" / "prometheus.yml"
ALERTS = DOCKER / "prometheus" / "alerts.yml"
OF_PROMETHEUS = {"up"}  # what it notes of every target by itself
OF_EVERY_TARGET = {"instance", "job"}
WORDS = {"by", "without", "on", "ignoring", "and", "or", "unless", "bool", "offset", "le"}


def exported() -> dict[str, Metric]:
    """Name of a sample -> its metric; `tests/http/test_metrics.py` finds the same at `/metrics`."""
    return {
        name: metric
        for metric in CATALOGUE
        for name in (
            [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
            if metric.kind == HISTOGRAM
            else [metric.name]
        )
    }


def names_in(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*", bare)
    called = set(re.findall(r"([a-zA-Z_:][\w:]*)\s*\(", bare))
    return set(words) - called - WORDS


def selected(expression: str) -> Iterator[tuple[str, str, str, str]]:
    """Metric, label, operator and word of every choice an expression makes."""
    for name, inside in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression):
        for label, sign, word in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside):
            yield name, label, sign, word


def grouped(expression: str) -> set[str]:
    lists = re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression)
    return {label.strip() for one in lists for label in one.split(",")}


def board() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in board()["panels"] for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def test_names_are_found_in_an_expression() -> None:
    expression = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket{b="c(d)"}[5m]))) / e > 1e3'

    assert names_in(expression) == {"a_bucket", "e"}
    assert names_in("sum(x) + y unless z") == {"x", "y", "z"}
    assert list(selected(expression)) == [("a_bucket", "b", "=", "c(d)")]
    assert grouped(expression) == {"le"}


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_metrics_that_are_exported(expression: str) -> None:
    names = names_in(expression)
    assert names
    assert names <= set(exported()) | OF_PROMETHEUS


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_uses_labels_and_words_that_its_metrics_have(expression: str) -> None:
    names = names_in(expression) - OF_PROMETHEUS
    labels = {label for name in names for label in exported()[name].labels}
    assert grouped(expression) <= labels | OF_EVERY_TARGET | {"le"}
    for name, label, sign, word in selected(expression):
        if label in OF_EVERY_TARGET:
            continue
        words = exported()[name].labels[label]
        assert not isinstance(words, str)
        assert sign in ("=", "!=")
        assert word in words


def test_legends_name_labels_that_are_there() -> None:
    for panel in board()["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by = grouped(target["expr"])
            whole = {
                label
                for name in names_in(target["expr"])
                for label in (*exported()[name].labels, *OF_EVERY_TARGET)
            }
            kept = by or (set() if re.match(r"(sum|min|max)\b", target["expr"]) else whole)
            assert named <= kept, panel["title"]


def test_the_dashboard_shows_what_an_operator_asks_first() -> None:
    shown = {name for text in expressions() for name in names_in(text)}
    families = {exported()[name].name for name in shown - OF_PROMETHEUS}
    for name in (
        "cliper_requests_total", "cliper_request_seconds", "cliper_queue_depth",
        "cliper_batch_size", "cliper_stage_seconds", "cliper_cache_lookups_total",
        "cliper_image_failures_total", "cliper_model_info", "cliper_model_state",
        "cliper_learning_events_received_total", "cliper_learning_events_pending",
        "cliper_jobs_open", "process_resident_memory_bytes", "cliper_storage_up",
    ):  # fmt: skip
        assert name in families


def test_panels_lie_beside_each_other_and_not_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_ask_the_data_source_that_is_provided() -> None:
    folder = DOCKER / "grafana" / "provisioning" / "datasources"
    (source,) = yaml.safe_load((folder / "prometheus.yml").read_text())["datasources"]
    for panel in board()["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}


def rule(name: str) -> dict[str, Any]:
    (found,) = [one for one in rules() if one["alert"] == name]
    return found


def test_a_service_without_any_container_is_gone_too() -> None:
    """A container that is gone has no address, so no target either."""
    assert 'absent(up{job="cliper"})' in rule("CliperGone")["expr"]


def test_memory_that_grows_is_told_before_the_limit_is_reached_and_not_after_loading() -> None:
    grows = rule("CliperMemoryGrows")
    window = re.search(r"\[(\d+)h\]", grows["expr"])
    since = re.search(r"cliper_uptime_seconds > (\d+)$", grows["expr"])
    assert window
    assert since
    assert int(window[1]) * 3600 < int(since[1]), "loading lies within the window"
    assert grows["for"] == "1h"


def test_a_service_that_begins_again_and_again_is_told() -> None:
    restarts = rule("CliperRestarts")
    assert names_in(restarts["expr"]) == {"cliper_uptime_seconds"}
    assert "for" not in restarts


def test_prometheus_asks_the_service_of_the_compose_file(services: dict[str, Any]) -> None:
    content = yaml.safe_load(PROMETHEUS.read_text())
    (job,) = content["scrape_configs"]
    assert job["job_name"] == "cliper"
    assert "static_configs" not in job, "one name is one target, however many answer to it"
    (where,) = job["dns_sd_configs"]
    (host,) = where["names"]
    assert where["type"] == "A"
    assert services[host]["environment"]["PORT"] == str(where["port"])
    mounted = mounts(services["prometheus"])
    assert mounted["/etc/prometheus/prometheus.yml"] == PROMETHEUS
    assert [mounted[path] for path in content["rule_files"]] == [ALERTS]


def test_grafana_finds_the_dashboard_where_it_is_told_to_look(services: dict[str, Any]) -> None:
    mounted = mounts(services["grafana"])
    (provider,) = yaml.safe_load(
        (DOCKER / "grafana" / "provisioning" / "dashboards" / "cliper.yml").read_text()
    )["providers"]
    folder = mounted[provider["options"]["path"]]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert folder == DASHBOARD.parent
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"
    assert mounted["/etc/grafana/provisioning"] == DOCKER / "grafana" / "provisioning"


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """Place inside -> file or folder of this checkout; all of them are read only."""
    found = {}
    for text in service["volumes"]:
        if text.startswith("./"):
            here, inside, mode = text.split(":")
            assert mode == "ro", text
            assert (ROOT / here).exists(), text
            found[inside] = ROOT / here
    return found


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_graphs_are_optional_and_for_this_machine_only(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["profiles"] == ["monitoring"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])


def test_no_two_services_want_the_same_port_of_the_host(services: dict[str, Any]) -> None:
    ports = [
        re.sub(r"\$\{\w+:-(\d+)\}", r"\1", port).split(":")[-2]
        for one in services.values()
        for port in one.get("ports", ())
    ]
    assert len(ports) == len(set(ports))


def test_nothing_secret_is_in_these_files() -> None:
    for path in (*DOCKER.glob("grafana/**/*.*"), PROMETHEUS, ALERTS):
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            told = [line for line in lines if not line.lstrip().startswith("#")]
            assert not re.search(r"(?i)password:|token:|secret", "\n".join(told)), path
