"""The reference pages say what the code says."""

import dataclasses
import json
import re
from pathlib import Path

from backend.settings import Settings
from benchmarks import readme, record
from cliper_model import profiles

from ..docs.commands import (
    cli_docs,
    http_docs,
    hub_variables,
    label_config_docs,
    method_docs,
    metrics_docs,
    preset_docs,
    scale_docs,
    settings_variables,
    speed_docs,
)
from .source import ROOT

REFERENCE = ROOT / "docs" / "reference"


def rows(page: Path) -> dict[str, list[str]]:
    """Every variable that starts a table row of the page -> the other cells."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `"):
            for name in re.findall(r"`([A-Z_]+)`", cells[0]):
                found[name] = cells[1:]
    return found


def test_the_command_line_page_is_what_the_commands_say() -> None:
    """Made anew with `python scripts/write_cli_docs.py`."""
    assert (REFERENCE / "cli.md").read_text(encoding="utf-8") == cli_docs().page()


def test_the_presets_page_is_what_the_presets_say() -> None:
    """Made anew with `python scripts/write_preset_docs.py`."""
    assert (REFERENCE / "presets.md").read_text(encoding="utf-8") == preset_docs().page()


def test_the_methods_page_is_what_cards_and_measurements_say() -> None:
    """Made anew with `python scripts/write_method_docs.py`."""
    assert (REFERENCE / "methods.md").read_text(encoding="utf-8") == method_docs().page()


def test_the_metrics_page_is_what_the_list_and_the_alert_rules_say() -> None:
    """Made anew with `python scripts/write_metrics_docs.py`."""
    assert (REFERENCE / "metrics.md").read_text(encoding="utf-8") == metrics_docs().page()


def test_the_http_page_is_what_the_document_of_the_service_says() -> None:
    """Made anew with `python scripts/write_http_docs.py`."""
    assert (REFERENCE / "http.md").read_text(encoding="utf-8") == http_docs().page()


def test_the_speed_page_is_what_was_measured() -> None:
    """Made anew with `python scripts/write_speed_docs.py`."""
    assert (REFERENCE / "speed.md").read_text(encoding="utf-8") == speed_docs().page()


def test_the_scale_page_is_what_was_measured_and_assumed() -> None:
    """Made anew with `python scripts/write_scale_docs.py`."""
    assert scale_docs().PAGE.read_text(encoding="utf-8") == scale_docs().page()


def test_the_benchmarks_page_and_its_plots_are_what_was_measured() -> None:
    """Made anew with `python -m benchmarks.readme`."""
    assert readme.PAGE.read_text(encoding="utf-8") == readme.page()
    for plot in readme.all_plots():
        drawn = (record.RESULTS / plot.file).read_text(encoding="utf-8")
        assert plot.digest in drawn, plot.name


def test_the_operations_on_the_cards_are_the_measured_ones() -> None:
    measured = json.loads(
        (ROOT / "benchmarks" / "results" / "proof-true-methods.json").read_text(encoding="utf-8")
    )["rows"]
    for name in profiles.methods():
        card = profiles.method_card(name)
        assert card.gflops in [
            row["gflop_336"] for label, row in measured.items() if label.startswith(name)
        ], name


def test_every_environment_variable_is_on_the_settings_page() -> None:
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    variables = settings_variables()
    assert set(variables) == {field.name for field in dataclasses.fields(Settings)}
    for field, names in variables.items():
        assert names, f"{field} is read from no variable"
        for name in names:
            assert f"`{name}`" in text, name
    for name in hub_variables():
        assert f"`{name}`" in text, name


def test_the_settings_page_names_no_variable_that_is_not_read() -> None:
    known = {name for names in settings_variables().values() for name in names} | hub_variables()
    assert set(rows(REFERENCE / "settings.md")) <= known


def test_the_settings_page_gives_the_defaults_of_the_code() -> None:
    listed = rows(REFERENCE / "settings.md")
    for field in dataclasses.fields(Settings):
        name = settings_variables()[field.name][0]
        shown = listed[name][0].strip("`")
        if name == "STORAGE":  # the service's own default is a file, that of tests is memory
            shown = shown.replace("~", str(Path.home()), 1)
            assert shown == Settings.from_environ({}).storage
        elif field.default in (None, dataclasses.MISSING, ()):
            assert not re.fullmatch(r"[\d.]+", shown), name
        elif isinstance(field.default, bool):
            assert shown == str(field.default).lower(), name
        elif isinstance(field.default, float):
            assert float(shown) == field.default, name
        else:
            assert shown == str(field.default), name


def test_every_option_of_a_label_config_is_on_its_page_with_what_it_takes() -> None:
    """Made anew with `python scripts/write_label_config_docs.py`."""
    page = REFERENCE / "label-config.md"
    assert page.read_text(encoding="utf-8") == label_config_docs().page(
        page.read_text(encoding="utf-8")
    )


def test_every_attribute_the_config_reader_asks_for_is_on_its_page() -> None:
    text = (REFERENCE / "label-config.md").read_text(encoding="utf-8")
    source = (ROOT / "backend" / "labelstudio" / "label_config.py").read_text(encoding="utf-8")
    read = set(
        re.findall(r"\"((?:model_|score_|predicted_)\w+|smart|alias|hint|valueList)\"", source)
    )
    assert {"model_skip", "predicted_values", "smart", "valueList", "hint"} <= read
    for attribute in read:
        assert f"`{attribute}" in text, attribute
