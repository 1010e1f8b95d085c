"""Who computes where, and how a model becomes ready in front of a user."""

from types import SimpleNamespace

import pytest
import torch

from backend.cli.running import ModelBar, is_here, shares_processor
from backend.model_host import DOWNLOADING, LOADING, READY, ModelStatus
from backend.settings import Settings


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost"])
def test_loopback_addresses_are_here(url: str):
    assert is_here(url)


@pytest.mark.parametrize("url", ["http://203.0.113.5:8080", "https://10.0.0.3", "", "http://"])
def test_other_addresses_are_not(url: str):
    assert not is_here(url)


def services_on(device: str) -> SimpleNamespace:
    status = ModelStatus(state=READY, details={"device": device})
    return SimpleNamespace(model=SimpleNamespace(status=status))


@pytest.mark.parametrize(
    ("device", "url", "threads", "shared"),
    [
        ("cpu", "http://127.0.0.1:8080", 64, True),
        ("cpu", "http://127.0.0.1:8080", 1, False),
        ("cpu", "http://203.0.113.5:8080", 64, False),
        ("cuda", "http://127.0.0.1:8080", 64, False),
    ],
)
def test_label_studio_is_in_the_way_where_all_cores_are_the_model_s(
    device: str, url: str, threads: int, shared: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("backend.cli.running.cores", lambda: 2)

    assert shares_processor(Settings(label_studio_url=url), services_on(device)) is shared


def test_where_nobody_watches_each_step_is_a_line(capsys):
    with ModelBar() as note:
        for state, percent in ((DOWNLOADING, 3), (DOWNLOADING, 50), (LOADING, 0), (READY, 100)):
            note(ModelStatus(state=state, percent=percent))

    assert capsys.readouterr().err.splitlines() == [
        "cliper: weights are downloading",
        "cliper: model is loading",
    ]
