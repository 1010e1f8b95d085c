"""The model's life: downloading, loading, ready or failed, and another try."""

import threading
from dataclasses import replace

import pytest

from backend.errors import ModelFailed, ModelLoading
from backend.model_host import ModelHost
from cliper_model.errors import WeightsMissing

from ...doubles.colours import IDENTITY, ColourSegmenter, colour_source


def test_nothing_happens_before_start():
    host = ModelHost(colour_source(), patience=0.0)

    with pytest.raises(ModelLoading):
        host.segmenter()
    with pytest.raises(ModelLoading):
        host.identity()


def test_the_identity_is_known_before_the_weights_are_in_memory():
    go_on = threading.Event()
    host = ModelHost(colour_source(before_load=lambda _: go_on.wait(30)), patience=30)
    host.start()

    early = host.identity()
    with pytest.raises(ModelLoading, match=r"^Model is loading \(0 %\), try again in a minute$"):
        host.segmenter()
    go_on.set()
    host.join()

    assert early == host.segmenter().identity == IDENTITY
    assert host.status.state == "ready"


def test_whoever_fetches_and_loads_has_the_turn():
    turn, held = threading.Lock(), []
    source = colour_source(
        fetch=lambda name, progress: held.append(turn.locked()),
        before_load=lambda progress: held.append(turn.locked()),
    )
    host = ModelHost(source, turn=turn)
    host.start()
    host.join()

    assert held == [True, True]
    assert not turn.locked()


def test_a_model_that_cannot_be_loaded_gives_its_turn_back():
    def missing(progress) -> None:
        raise WeightsMissing("the weights", [], "fetch them")

    turn = threading.Lock()
    host = ModelHost(colour_source(before_load=missing), turn=turn)
    host.start()
    host.join()

    assert host.status.state == "failed"
    assert not turn.locked()


def test_a_foreseen_identity_is_known_while_weights_still_download():
    go_on = threading.Event()
    source = colour_source(fetch=lambda name, progress: go_on.wait(30) and None)
    host = ModelHost(replace(source, foresee=lambda name: IDENTITY), patience=30)
    host.start()

    early = host.identity()
    with pytest.raises(ModelLoading):
        host.segmenter()
    go_on.set()
    host.join()

    assert early == host.identity() == host.segmenter().identity


def test_a_foreseen_identity_is_forgotten_when_the_download_fails():
    def fetch(name, progress) -> None:
        raise WeightsMissing("the weights", [], "fetch them")

    source = replace(colour_source(fetch=fetch), foresee=lambda name: IDENTITY)
    host = ModelHost(source, patience=0.0)
    host.start()
    host.join()

    with pytest.raises(ModelFailed, match="fetch them"):
        host.identity()


def test_a_failure_is_remembered_with_its_reason_and_tried_again_later():
    now, attempts, go_on = [0.0], [], threading.Event()

    def fetch(name, progress) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            raise WeightsMissing("the weights", [], "fetch them")
        assert go_on.wait(60)

    host = ModelHost(colour_source(fetch=fetch), retry_after=60, clock=lambda: now[0])
    host.start()
    host.join()

    with pytest.raises(ModelFailed, match="could not be loaded: fetch them: the weights not found"):
        host.segmenter()
    now[0] = 59.0
    with pytest.raises(ModelFailed):
        host.identity()
    now[0] = 60.0
    with pytest.raises(ModelLoading):
        host.segmenter()
    go_on.set()
    host.join()

    assert host.segmenter()
    assert len(attempts) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "not enough memory; choose a smaller profile"),
        (RuntimeError("inner secret"), "RuntimeError, see the log of the service"),
    ],
)
def test_unexpected_failures_are_told_without_their_insides(error: Exception, reason: str):
    def fail(progress) -> None:
        raise error

    host = ModelHost(colour_source(before_load=fail))
    host.start()
    host.join()

    assert host.status.state == "failed"
    assert host.status.reason == reason


def test_weights_that_change_while_loading_are_not_served_under_the_old_name():
    source = colour_source(ColourSegmenter())
    host = ModelHost(replace(source, identify=lambda name: replace(IDENTITY, revision=99)))
    host.start()
    host.join()

    with pytest.raises(ModelFailed, match="changed while they were loaded"):
        host.segmenter()


def test_starting_twice_loads_once():
    loads = []
    host = ModelHost(colour_source(before_load=lambda _: loads.append(1)))
    host.start()
    host.start()
    host.join()
    host.start()
    host.join()

    assert loads == [1]


def test_a_fallback_that_came_after_loading_is_told():
    told = {"device": "cuda:0", "cuda_graphs": True, "fallbacks": []}
    host = ModelHost(colour_source(details=told), patience=30)
    host.start()
    host.join()
    assert host.status.details == told

    told |= {"cuda_graphs": False, "fallbacks": ["slower"]}

    assert host.status.details == told
