"""A label config comes with every request, and is read once."""

import pytest

from backend.errors import ConfigError
from backend.plan import LONGEST_REMEMBERED, REMEMBERED_CONFIGS, ConfigReader

from ...doubles.pictures import brush_config

CONFIG = brush_config(("red", "green"))


def test_a_config_is_read_once_and_again_with_other_parameters() -> None:
    reader = ConfigReader({})

    first, again = reader.read(CONFIG, {}), reader.read(CONFIG, {})
    other = reader.read(CONFIG, {"model_presence_threshold": 0.7})

    assert again is first
    assert other is not first
    assert [label.name for label in first.config.controls[0].labels] == ["red", "green"]


def test_configs_of_long_ago_are_forgotten() -> None:
    reader = ConfigReader({})
    first = reader.read(CONFIG, {})

    for number in range(REMEMBERED_CONFIGS):
        reader.read(brush_config((f"label {number}",)), {})

    assert reader.read(CONFIG, {}) is not first


def test_a_very_long_config_is_not_remembered() -> None:
    reader = ConfigReader({})
    long = CONFIG.replace("<View>", f"<View><!-- {'x' * LONGEST_REMEMBERED} -->")

    assert reader.read(long, {}) is not reader.read(long, {})


def test_a_config_that_is_refused_is_refused_every_time() -> None:
    reader = ConfigReader({})

    for _ in range(2):
        with pytest.raises(ConfigError):
            reader.read("<View><View", {})
