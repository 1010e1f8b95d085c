"""The balancer's configuration: haproxy takes it as it is, and its times and paths are ours."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from backend.settings import Settings
from tests.doubles.balancer import CONFIGURATION, program

LABEL_STUDIO_WAITS = 100.0  # seconds for a prediction
EVENT_WAITS = 1.0  # seconds for the connection to a webhook, and for its answer
TEXT = CONFIGURATION.read_text(encoding="utf-8")


def seconds(name: str) -> float:
    """Of a `timeout`."""
    (found,) = re.findall(rf"^ +timeout {name} (\d+)(ms|s)$", TEXT, re.MULTILINE)
    return float(found[0]) / (1000 if found[1] == "ms" else 1)


@pytest.mark.parametrize("replicas", ["cliper:9090", "cliper.example.com:9090"])
def test_haproxy_finds_nothing_wrong_with_it(tmp_path: Path, replicas: str) -> None:
    done = subprocess.run(
        [program(), "-c", "-f", CONFIGURATION],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "BALANCER_REPLICAS": replicas},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_a_prediction_has_as_long_as_label_studio_waits_for_it() -> None:
    assert Settings().predict_budget < seconds("server") == LABEL_STUDIO_WAITS
    assert seconds("client") == LABEL_STUDIO_WAITS


def test_a_replica_that_cannot_be_reached_leaves_time_for_another_one() -> None:
    assert 2 * seconds("connect") <= EVENT_WAITS


@pytest.mark.parametrize(
    ("path", "is_event"),
    [
        ("/webhook", True),
        ("/webhook/a-secret-of-16-characters", True),
        ("/webhook/a-secret-of-16-characters/webhook", True),
        ("/webhook/a-secret-of-16-characters/predict", False),
        ("/webhook/a-secret-of-16-characters/setup", False),
        ("/predict", False),
        ("/webhooks", False),
    ],
)
def test_only_events_have_to_be_answered_soon(path: str, is_event: bool) -> None:
    """Everything is found below a secret address, predictions, too: see api/secret_address.py."""
    (pattern,) = re.findall(r"set-timeout server 2s if \{ path_reg '([^']+)' \}", TEXT)

    assert bool(re.search(pattern, path)) == is_event


def test_nothing_is_asked_again_of_what_was_answered() -> None:
    """A refusal, an error of ours and an answer are answers; only a busy replica is none."""
    (reasons,) = re.findall(r"^ +retry-on (.+)$", TEXT, re.MULTILINE)

    assert set(reasons.split()) == {
        "conn-failure", "empty-response", "junk-response", "response-timeout", "503",
    }  # fmt: skip
