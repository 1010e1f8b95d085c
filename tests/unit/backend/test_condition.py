"""Out of what the parts say of themselves: one sentence per thing that is not as it should be."""

from typing import Any

import pytest

from backend.condition import degraded, fallbacks
from backend.model_host import FAILED, LOADING, READY, ModelStatus
from backend.model_pool import ModelChoice

WELL = ModelStatus(state=READY, details={"fallbacks": []})


def facts(**others: Any) -> dict[str, Any]:
    """Of a service that is well, but for what a test names."""
    return {
        "storage": {"store": "memory", "trouble": None},
        "batch": {"size": 8, "why": "a graphics card (cuda)", "halved": {}},
        "learning": {"on": True, "pending": 0, "unsettled": [], "trouble": None},
        **others,
    }


def jobs(waiting: str | None, beside: str | None) -> dict[str, Any]:
    return {
        "open": {},
        "at_work": None,
        "waiting_for": waiting,
        "beside": {"learn": {"at_work": None, "waiting_for": beside}},
    }


def test_who_is_well_says_nothing() -> None:
    assert degraded(WELL, [], facts(), device=True) == []
    assert degraded(WELL, [], facts(learning={"on": False, "missing": ["X"]}), device=True) == []
    assert (
        degraded(WELL, [], facts(jobs=jobs(None, None), prelabel={"auto": False}), device=True)
        == []
    )


def test_a_model_on_its_way_is_no_reason() -> None:
    other = (ModelChoice(method="clip"), ModelStatus(state=LOADING))

    assert degraded(ModelStatus(state=LOADING), [other], facts(), device=True) == []


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (ModelChoice(method="proxyclip"), "proxyclip"),
        (ModelChoice(profile="best"), "best"),
        (ModelChoice(method="proxyclip", profile="best"), "proxyclip best"),
    ],
)
def test_a_model_that_a_config_names_and_that_failed_is_a_reason(
    choice: ModelChoice, name: str
) -> None:
    failed = ModelStatus(state=FAILED, reason="no weights")

    assert degraded(WELL, [(choice, failed)], facts(), device=True) == [
        f"the model {name} of a label config could not be loaded: no weights"
    ]


def test_every_reason_has_its_sentence_in_an_order_that_stays() -> None:
    own = ModelStatus(state=FAILED, reason="no weights", details={"fallbacks": ["other scheduler"]})
    told = facts(
        storage={"store": "redis", "trouble": "away"},
        batch={"size": 8, "why": "", "halved": {"(336, 448)": 4}},
        learning={"on": True, "pending": 3, "unsettled": [1], "trouble": "away"},
        jobs=jobs("away", "the queue is away"),
        prelabel={"auto": True, "jobs": [], "trouble": "2 tasks of project 1 are left: away"},
    )

    assert degraded(own, [], told, device=False) == [
        "the model could not be loaded: no weights",
        "the device takes no more work",
        "predictions go on without the store: away",
        "3 learning events wait: away",
        "jobs wait: away",
        "jobs wait: the queue is away",
        "pre-labelling: 2 tasks of project 1 are left: away",
        "fallback: other scheduler",
        "fallback: pictures are looked at 4 at a time since memory ran out ((336, 448))",
    ]


def device(name: str, state: str, reason: str | None = None) -> dict[str, Any]:
    return {"name": name, "state": state, "reason": reason}


@pytest.mark.parametrize("state", ["failed", "lost", "stopped"])
def test_a_device_that_is_out_while_others_are_not_is_a_reason(state: str) -> None:
    devices = [device("cuda:0", "ready"), device("cuda:1", state, "gone"), device("c", "loading")]

    assert degraded(WELL, [], facts(devices=devices), device=True) == [
        "the device cuda:1 is out, and the others do its work: gone"
    ]


def test_where_all_devices_are_out_the_model_s_own_state_says_it_once() -> None:
    own = ModelStatus(state=FAILED, reason="gone")
    devices = [device("cuda:0", "lost", "gone"), device("cuda:1", "failed", "no weights")]

    assert degraded(own, [], facts(devices=devices), device=True) == [
        "the model could not be loaded: gone"
    ]
    assert degraded(own, [], facts(devices=devices[:1]), device=True) == [
        "the model could not be loaded: gone"
    ]


def test_learning_in_trouble_with_no_event_waiting_is_a_reason() -> None:
    told = facts(
        learning={"on": True, "pending": 0, "unsettled": [], "trouble": "version a is gone"}
    )

    assert degraded(WELL, [], told, device=True) == ["learning: version a is gone"]


def test_events_on_their_way_to_the_store_are_no_reason() -> None:
    told = facts(learning={"on": True, "pending": 3, "unsettled": [1], "trouble": None})

    assert degraded(WELL, [], told, device=True) == []


def test_the_same_sentence_is_said_once() -> None:
    assert degraded(WELL, [], facts(jobs=jobs("away", "away")), device=True) == ["jobs wait: away"]


def test_fallbacks_are_counted_one_by_one() -> None:
    own = ModelStatus(state=READY, details={"fallbacks": ["a", "b"]})
    halved = {"size": 8, "why": "", "halved": {"(336, 448)": 4, "(224, 224)": 1}}

    assert len(fallbacks(own, facts(batch=halved))) == 4
    assert fallbacks(ModelStatus(state=LOADING), facts()) == []
