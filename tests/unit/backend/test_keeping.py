"""What outlives the process: connections, versions, results and looks; and a store that is away."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from backend.errors import StorageAway
from backend.keeping import Keeping
from backend.labelstudio.tasks import PredictRequest, SetupRequest, Task
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import ImageResult
from backend.predictor import Limits, Predictor
from backend.storage.base import Key, Scope, Storage
from backend.storage.memory import MemoryStorage

from ...doubles.colours import ColourSegmenter, colour_source
from ...doubles.pictures import brush_config, stripes
from ...doubles.waiting import Clock, until

HERE = "http://label-studio:8080"
PROJECT = "1.1795190531"
RESULT = ImageResult(regions=b'[{"id":"a"}]', area=0.5, weighted_score=0.4, presence=0.9, count=1)


class Lost(MemoryStorage):
    """A store that can be taken away."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise StorageAway("the store does not answer")

    def get(self, *args: Any, **options: Any) -> Any:
        self._check()
        return super().get(*args, **options)

    def swap(self, *args: Any, **options: Any) -> Any:
        self._check()
        return super().swap(*args, **options)

    def get_blob(self, *args: Any) -> Any:
        self._check()
        return super().get_blob(*args)

    def put_blob(self, *args: Any) -> Any:
        self._check()
        return super().put_blob(*args)


class Album:
    """One picture under every address."""

    def fetch(self, address: str, *, timeout: float, task_id: int | None = None) -> bytes:
        return b"picture"

    def server(self, address: str) -> str | None:
        return None

    def decode(self, data: bytes, *, page: int = 1) -> np.ndarray:
        return stripes("red", "green")


@pytest.fixture
def store() -> Lost:
    return Lost(max_blob_bytes=10**6)


def a_service(store: Storage, segmenter: ColourSegmenter, *, state_bytes: int = 10**6) -> Predictor:
    model = ModelHost(colour_source(segmenter))
    model.start()
    model.join()
    limits = Limits(
        budget=60, fetch_timeout=5, waiting=2, result_bytes=10**6, state_bytes=state_bytes
    )
    return Predictor(
        ModelPool(model), Album(), limits, keeping=Keeping(store, label_studio_url=HERE)
    )


@pytest.fixture
def keeping(store: Lost) -> Iterator[Keeping]:
    one = Keeping(store, label_studio_url=HERE)
    yield one
    one.close()


def request(config: str = "", project: str | None = PROJECT) -> PredictRequest:
    return PredictRequest(
        tasks=(Task(1, {"image": "a"}),),
        label_config=config or brush_config(["red"]),
        project=project,
    )


def test_a_result_is_found_again_by_another_process_but_in_no_other_project(store: Lost) -> None:
    first = Keeping(store, label_studio_url=HERE)
    first.keep_result(first.scope(PROJECT), ("digest", "version"), RESULT)
    first.close()

    second = Keeping(store, label_studio_url="http://LABEL-STUDIO:8080/")
    other_server = Keeping(store, label_studio_url="http://other:8080")

    assert second.result(second.scope(PROJECT), ("digest", "version")) == RESULT
    assert second.result(second.scope("2.1795190531"), ("digest", "version")) is None
    assert other_server.result(other_server.scope(PROJECT), ("digest", "version")) is None


def test_devices_of_one_kind_share_what_they_saw(store: Lost) -> None:
    @dataclass
    class On:
        """Stands for a backbone."""

        device: str
        number_format: str = "float32"

    def on(device: str) -> ColourSegmenter:
        segmenter = ColourSegmenter()
        segmenter.clip = On(device)  # type: ignore[attr-defined]
        return segmenter

    first, second = on("cpu:0"), on("cpu:1")
    one, scope = Keeping(store, label_studio_url=HERE), Scope.of(HERE, PROJECT)
    seen = first.observe(stripes("red"))
    one.keep_look(scope, ("digest", 1), first, seen, seen.size_hw, nbytes=100)
    one.close()

    again = Keeping(store, label_studio_url=HERE)
    assert again.look(scope, ("digest", 1), second) is not None
    assert again.look(scope, ("digest", 1), on("cuda:0")) is None
    again.close()


def test_a_service_started_anew_looks_at_no_picture_twice(store: Lost) -> None:
    first = a_service(store, ColourSegmenter())
    before = first.predict(request())
    first.close()

    again, other_words = ColourSegmenter(), ColourSegmenter()
    second = a_service(store, again)
    after = second.predict(request())
    second.close()
    third = a_service(store, other_words)
    new_words = third.predict(request(brush_config(["green"])))
    third.close()

    assert [one.to_json() for one in after] == [one.to_json() for one in before]
    assert not again.looks
    assert not other_words.looks
    assert '"green"' in new_words[0].to_json()


def test_another_project_has_to_look_itself(store: Lost) -> None:
    first = a_service(store, ColourSegmenter())
    first.predict(request())
    first.close()

    segmenter = ColourSegmenter()
    second = a_service(store, segmenter)
    second.predict(request(project="1.1795190532"))
    second.close()

    assert len(segmenter.looks) == 1


def test_extra_params_of_a_setup_hold_after_a_restart(store: Lost) -> None:
    config = brush_config(["red"])
    first = a_service(store, ColourSegmenter())
    setup = SetupRequest(label_config=config, project=PROJECT, extra_params={"model_min_area": 0.9})
    version = first.setup(setup)
    first.close()

    second = a_service(store, ColourSegmenter())
    (kept,) = second.predict(request(config))
    (elsewhere,) = second.predict(request(config, project="1.1795190532"))
    second.close()

    assert version in kept.to_json()
    assert version not in elsewhere.to_json()


def test_refused_extra_params_do_not_leave_earlier_ones_in_force(store: Lost) -> None:
    config = brush_config(["red"])
    service = a_service(store, ColourSegmenter())
    plain = service.setup(SetupRequest(label_config=config, project=PROJECT))
    service.setup(
        SetupRequest(label_config=config, project=PROJECT, extra_params={"model_min_area": 0.9})
    )
    with pytest.raises(Exception, match="model_min_area"):
        service.setup(
            SetupRequest(label_config=config, project=PROJECT, extra_params={"model_min_area": "x"})
        )

    (outcome,) = service.predict(request(config))
    service.close()

    assert plain in outcome.to_json()


def test_versions_are_the_newest_first_and_of_all_processes(store: Lost) -> None:
    one, two = a_service(store, ColourSegmenter()), a_service(store, ColourSegmenter())
    first = one.setup(SetupRequest(label_config=brush_config(["red"])))
    second = two.setup(SetupRequest(label_config=brush_config(["green"])))

    assert one.versions() == [second, first]

    one.close()
    two.close()


def test_a_store_that_is_away_costs_memory_only(
    store: Lost, caplog: pytest.LogCaptureFixture
) -> None:
    service = a_service(store, ColourSegmenter())
    store.away = True

    setup = service.setup(SetupRequest(label_config=brush_config(["red"]), project=PROJECT))
    (outcome,) = service.predict(request())

    assert setup in outcome.to_json()
    assert service.versions() == [setup]
    assert service.storage_facts()["trouble"] == "the store does not answer"
    assert caplog.text.count("going on without it") == 1

    store.away = False
    service.setup(SetupRequest(label_config=brush_config(["red"]), project=PROJECT))
    assert service.storage_facts()["trouble"] is None
    service.close()


def test_a_store_that_answers_nobody_keeps_one_request_waiting_and_not_each_picture() -> None:
    clock = Clock()
    asked = []

    class Silent(MemoryStorage):
        def get_blob(self, key: Key) -> bytes | None:
            asked.append(clock())
            clock.move(10)
            raise StorageAway("the store does not answer")

    silent = Keeping(Silent(max_blob_bytes=10), label_studio_url=HERE, clock=clock)
    scope, begun = silent.scope(PROJECT), clock()
    for number in range(20):
        assert silent.result(scope, (str(number),)) is None
    assert clock() - begun == 10
    assert silent.facts()["trouble"] == "the store does not answer"

    clock.move(15)
    assert silent.result(scope, ("a",)) is None
    silent.close()

    assert len(asked) == 2


def test_health_hears_of_a_store_that_is_away_and_back_without_any_request(store: Lost) -> None:
    store.away = True
    keeping = Keeping(store, label_studio_url=HERE)

    keeping.look_at_store()
    until(lambda: keeping.facts()["trouble"] == "the store does not answer")
    store.away = False

    until(lambda: keeping.facts()["trouble"] is None)
    keeping.close()


def test_what_another_program_stored_is_made_anew(store: Lost, keeping: Keeping) -> None:
    scope = keeping.scope(PROJECT)
    segmenter = ColourSegmenter()
    keeping.keep_result(scope, ("a",), RESULT)
    keeping.keep_look(
        scope, ("digest", 1), segmenter, segmenter.observe(stripes("red")), (3, 5), nbytes=100
    )
    keeping.close()
    for name in list(store._blobs):
        store._blobs[name] = b"[3, 5]\nnot what it was"

    after = Keeping(store, label_studio_url=HERE)
    assert after.result(scope, ("a",)) is None
    assert after.look(scope, ("digest", 1), segmenter) is None
    after.close()


def test_a_look_comes_back_as_it_was(store: Lost, keeping: Keeping) -> None:
    segmenter = ColourSegmenter()
    scope, state = Scope.of(HERE, PROJECT), segmenter.observe(stripes("red", "green"))
    keeping.keep_look(scope, ("digest", 2), segmenter, state, (120, 90), nbytes=100)
    keeping.close()

    after = Keeping(store, label_studio_url=HERE)
    found = after.look(scope, ("digest", 2), segmenter)
    after.close()

    assert found is not None
    assert found[1] == (120, 90)
    assert found[0].to_bytes() == state.to_bytes()
    assert after.look(scope, ("digest", 1), segmenter) is None


def test_what_would_fill_the_memory_while_it_waits_is_not_written(
    store: Lost, keeping: Keeping
) -> None:
    segmenter = ColourSegmenter()
    scope, state = keeping.scope(PROJECT), segmenter.observe(stripes("red"))
    gate, put = threading.Event(), store.put_blob
    store.put_blob = lambda *args: gate.wait(30) and put(*args)  # type: ignore[method-assign]
    for page in range(1, 6):
        keeping.keep_look(scope, ("waits", page), segmenter, state, (3, 5), nbytes=60_000_000)
    keeping.keep_look(scope, ("large", 1), segmenter, state, (3, 5), nbytes=65_000_000)
    gate.set()
    keeping.close()

    kept = [name for name in store._blobs if "waits" in name or "large" in name]
    assert len(kept) == 2
    assert not any("large" in name for name in kept)
