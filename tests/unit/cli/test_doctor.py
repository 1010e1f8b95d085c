"""`cliper doctor`: what is printed, and with which status it ends."""

import json
from collections.abc import Iterator

import pytest

from backend.__main__ import main
from backend.demo.processes import free_port
from backend.doctor.findings import Finding, fail

from ...doubles.json_server import JsonServer, json_server, service_routes, studio_routes
from ...doubles.label_studio import LEGACY_TOKEN


@pytest.fixture
def studio() -> Iterator[JsonServer]:
    with json_server(studio_routes()) as server:
        yield server


@pytest.fixture
def arguments(studio: JsonServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv("PROFILE", "demo")
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    with json_server(service_routes()) as service:
        yield ["doctor", "--url", studio.url, "--token", LEGACY_TOKEN, "--backend", service.url]


def test_all_well_ends_with_0_and_a_line_per_check(arguments: list[str], capsys):
    assert main(arguments) == 0

    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert [line.split(":")[0] for line in lines] == [
        "ok    settings",
        "ok    label-studio",
        "ok    token",
        "ok    address",
        "ok    service",
        "ok    weights",
        "ok    server-settings",
        "ok    projects",
    ]


def test_a_failure_ends_with_1(arguments: list[str], capsys):
    assert main([*arguments[:-1], f"http://localhost:{free_port()}"]) == 1

    assert "fail  service: " in capsys.readouterr().out


def test_json_is_a_list_of_findings(arguments: list[str], capsys):
    assert main([*arguments, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert {"check", "state", "finding", "mend"} <= set.intersection(*map(set, found))
    assert found[2]["user"] == "admin@example.com"


def test_the_token_is_never_printed(arguments: list[str], capsys):
    main(arguments)
    main([*arguments, "--json", "--project", "3"])

    assert LEGACY_TOKEN not in capsys.readouterr().out


def test_json_stays_json_where_secrets_are_hidden_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def examine(question: object) -> Iterator[Finding]:
        yield fail('said "geheimnisß" and kennwort\\', "", heard=["geheimnisß", {"a": 1}])
        yield fail('said token=abc\\"', "", quoted='https://here/?token=abc"def')

    monkeypatch.setenv("API_TOKEN", "geheimnisß")
    monkeypatch.setenv("BASIC_AUTH_PASS", "kennwort\\")
    monkeypatch.setattr("backend.doctor.examine.examine", examine)

    assert main(["doctor", "--json"]) == 1

    first, second = json.loads(capsys.readouterr().out)
    assert first["finding"] == 'said "***" and ***'
    assert first["heard"] == ["***", {"a": 1}]
    assert second["quoted"] == 'https://here/?token=***"def'


@pytest.mark.parametrize("wrong", [["--fix"], ["--task", "3"]])
def test_what_needs_a_project_is_wrong_usage_without_one(wrong: list[str], capsys):
    assert main(["doctor", *wrong]) == 2

    assert "need --project" in capsys.readouterr().err


def test_a_project_is_a_number(capsys):
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--project", "Cats"])

    assert end.value.code == 2
