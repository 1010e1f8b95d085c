"""Whatever is sent, the service answers as it should and goes on.

What must hold of every case is in `rig.py`. One case alone: `python -m benchmarks.fuzz --only N`.
"""

import json
from pathlib import Path

import pytest

from backend.labelstudio.tasks import PredictRequest

from .cases import KINDS, Case, case
from .rig import Broken, rig
from .running import MOST_HELD_MIB, MOST_PEAK_MIB, run

SEED = 9
CASES = 5_000

pytestmark = pytest.mark.filterwarnings("ignore")  # as in production: decoders warn of damage


def test_five_thousand_hostile_cases_change_nothing(tmp_path: Path):
    figures = run(SEED, CASES, tmp_path)

    assert figures.outcomes.total() == CASES
    assert set(figures.by_kind) == set(KINDS)
    for kind in ("config", "code", "region", "picture"):  # some get all the way in
        assert figures.by_kind[kind]["read"] >= 30, kind
        assert len(figures.by_kind[kind]) >= 2, kind
    for kind in ("predict", "setup", "webhook"):
        assert figures.by_kind[kind]["200"] >= 100, kind
        assert figures.by_kind[kind]["415"] >= 10, kind
    assert figures.by_kind["jobs"]["202"] >= 10
    assert figures.by_kind["ui"]["200"] >= 30
    assert figures.by_kind["ui"]["422"] >= 10
    if figures.peak_growth_mib is not None and figures.held_growth_mib is not None:
        assert figures.peak_growth_mib < MOST_PEAK_MIB
        assert figures.held_growth_mib < MOST_HELD_MIB


def test_a_case_is_the_same_whenever_it_is_made():
    assert [case(3, n) for n in range(40)] == [case(3, n) for n in range(40)]
    assert case(3, 7) != case(4, 7)


def hold(text: bytes) -> Case:
    return Case(number=0, kind="predict", path="/predict", body=text, tasks=1)


def test_the_rig_sees_a_wrong_number_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    body = {"tasks": [{"id": 1, "data": {}}], "label_config": "<View/>"}
    with rig(tmp_path) as service:
        assert service.run(hold(json.dumps(body).encode())) == "422"
        monkeypatch.setattr(service.services.predictor, "predict", lambda request: [])
        with pytest.raises(Broken, match="1 tasks, 0 results"):
            service.run(hold(json.dumps(body).encode()))


def test_the_rig_sees_an_error_nobody_foresaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stumble(request: PredictRequest) -> None:
        raise RuntimeError("deep inside")

    body = {"tasks": [{"id": 1, "data": {}}], "label_config": "<View/>"}
    with rig(tmp_path) as service:
        monkeypatch.setattr(service.services.predictor, "predict", stumble)
        with pytest.raises(Broken, match="500 internal error") as seen:
            service.run(hold(json.dumps(body).encode()))
    assert "deep inside" in str(seen.value)
