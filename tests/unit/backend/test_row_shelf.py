"""Rows in memory and in a store that outlives them; and `/setup`, which has them made early."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import advice, wiring
from backend.keeping import Keeping
from backend.labelstudio.tasks import PredictRequest, SetupRequest, Task
from backend.row_shelf import KeptRows
from backend.services import Services
from backend.settings import Settings
from backend.storage.base import Storage
from backend.storage.open import open_storage
from cliper_model.backbones.clip import ClipBackbone
from cliper_model.backbones.row_shelf import RowKey
from cliper_model.backbones.tiny import tiny_clip

from ...doubles.away_storage import AwayStorage
from ...doubles.counted_text import counted_sentences
from ...doubles.pictures import brush_config, encoded, stripes
from ...doubles.waiting import until

TEMPLATES = ("a photo of a {}.", "{}")
WORDS = ["sky", "tree", "a very small dog"]

Open = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """The same store again and again, as after restarts and in other processes."""
    address = f"sqlite:{tmp_path}/store.sqlite"
    if request.param == "redis":
        address = request.getfixturevalue("redis_server").url
    opened: list[Storage] = []

    def open_it() -> Storage:
        if not opened or request.param != "memory":
            opened.append(
                open_storage("memory:" if request.param == "memory" else address,
                             max_blob_bytes=10**6)
            )  # fmt: skip
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def a_clip(shelf: KeptRows) -> ClipBackbone:
    bare: Any = tiny_clip()
    return ClipBackbone(bare._model, bare._tokenizer, shelf=shelf, weights={"clip": "00ff"})


def read(store: Storage, *, words: list[str] = WORDS, **options: Any) -> tuple[torch.Tensor, Any]:
    """Rows as a process makes them that begins and ends here, and where they came from."""
    keeping = Keeping(store)
    shelf = KeptRows(keeping, **options)
    rows = a_clip(shelf).encode_words(words, TEMPLATES)
    keeping.close()
    return rows, shelf.facts()


def test_rows_of_an_earlier_process_are_found_and_have_the_same_bits(open_store: Open) -> None:
    made, first = read(open_store())
    with counted_sentences() as calls:
        found, second = read(open_store())

    assert not calls
    assert torch.equal(found, made)
    assert first == {"memory": 0, "store": 0, "computed": 3}
    assert second == {"memory": 0, "store": 3, "computed": 0}


def test_only_new_words_are_encoded_after_a_restart(open_store: Open) -> None:
    read(open_store())
    with counted_sentences() as calls:
        _, facts = read(open_store(), words=["house", "tree", "sky"])

    assert calls == [len(TEMPLATES)]
    assert facts == {"memory": 0, "store": 2, "computed": 1}


def test_while_the_store_is_away_rows_are_computed_and_kept_in_memory() -> None:
    store = AwayStorage(open_storage("memory:", max_blob_bytes=10**6))
    store.away = True
    keeping = Keeping(store)
    shelf = KeptRows(keeping)
    clip = a_clip(shelf)

    first = clip.encode_words(WORDS, TEMPLATES)
    again = clip.encode_words(WORDS, TEMPLATES)
    keeping.close()

    assert torch.equal(first, again)
    assert shelf.facts() == {"memory": 3, "store": 0, "computed": 3}


def test_memory_is_bounded_and_the_row_used_longest_ago_goes(open_store: Open) -> None:
    store = open_store()
    keeping = Keeping(store)
    shelf = KeptRows(keeping, memory_bytes=2 * (500 + 32 * 4))
    clip = a_clip(shelf)
    clip.encode_words(["sky", "tree", "house"], TEMPLATES)
    clip.encode_words(["tree"], TEMPLATES)
    keeping.close()  # everything is written

    clip.encode_words(["sky"], TEMPLATES)  # house goes
    clip.encode_words(["tree", "house"], TEMPLATES)

    assert shelf.facts() == {"memory": 2, "store": 2, "computed": 3}


@pytest.mark.parametrize("spoil", ["cut", "foreign", "turned", "empty", "of another word"])
def test_a_blob_that_is_not_the_row_is_told_of_and_made_anew(
    spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_storage("memory:", max_blob_bytes=10**6)
    made, _ = read(store)
    places = list(store.blobs())
    blobs = {place: store.get_blob(place) or b"" for place in places}
    for number, place in enumerate(places):
        data = blobs[place]
        other = blobs[places[number - 1]]
        spoilt = {
            "cut": data[:-4],
            "foreign": b"\x00\xff" * 40,
            "turned": data[:-1] + bytes([data[-1] ^ 1]),
            "empty": b"",
            "of another word": other,
        }[spoil]
        store.put_blob(place, spoilt)

    again, facts = read(store)
    after, healed = read(store)

    assert facts == {"memory": 0, "store": 0, "computed": 3}
    assert healed == {"memory": 0, "store": 3, "computed": 0}
    assert torch.equal(again, made)
    assert torch.equal(after, made)
    assert caplog.text.count("cannot be read and is made anew") == 3
    assert "the stored row of 'tree'" in caplog.text


def test_rows_belong_to_no_project_and_no_label_studio() -> None:
    store = open_storage("memory:", max_blob_bytes=10**6)
    first = Keeping(store, label_studio_url="http://one:8080")
    a_clip(KeptRows(first)).encode_words(WORDS, TEMPLATES)
    first.close()

    second = KeptRows(Keeping(store, label_studio_url="http://two:8080"))
    a_clip(second).encode_words(WORDS, TEMPLATES)

    assert second.facts()["store"] == 3


def test_another_model_s_rows_are_not_taken() -> None:
    store = open_storage("memory:", max_blob_bytes=10**6)
    read(store)

    keeping = Keeping(store)

    assert keeping.row(RowKey("another", TEMPLATES, "sky")) is None
    keeping.close()


# -- the whole service, on the shipped weights ----------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(profile="demo", device="cpu", storage=f"sqlite:{tmp_path}/service.sqlite")


@pytest.fixture
def started() -> Iterator[list[Services]]:
    services: list[Services] = []
    yield services
    for one in services:
        one.close()


def start(settings: Settings, started: list[Services]) -> Services:
    services = wiring.build(settings)
    started.append(services)
    services.start()
    return services


def setup(services: Services, *words: str) -> str:
    asked = SetupRequest(label_config=brush_config(list(words)), project="1.0")
    return services.predictor.setup(asked)


def computed(services: Services) -> int:
    assert services.rows is not None
    return services.rows.facts()["computed"]


def answer(services: Services, *words: str, colour: str = "red") -> str:
    data = encoded(stripes(colour))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(services.predictor._fetching, "fetch", lambda *_: data)
        (outcome,) = services.predictor.predict(
            PredictRequest(
                tasks=(Task(1, {"image": "a"}),),
                label_config=brush_config(list(words)),
                project="1.0",
            )
        )
    return outcome.to_json()


def device_is_idle(services: Services) -> bool:
    return not services.predictor.crew.workers[0].queue._flights


def test_after_setup_the_first_picture_encodes_no_text(
    settings: Settings, started: list[Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words come first: what will not work well may take its time to be found."""
    go_on = threading.Event()

    def slowly(one: object) -> tuple[str, ...]:
        assert go_on.wait(60)
        return ()

    monkeypatch.setattr(advice, "of_spelling", slowly)
    services = start(settings, started)
    services.model.join()
    setup(services, "tree", "house")
    until(lambda: computed(services) > 0)
    until(lambda: device_is_idle(services))

    with counted_sentences() as calls:
        answer(services, "tree", "house")
    go_on.set()

    assert not calls


def test_words_of_a_setup_during_loading_are_read_when_the_model_is_there(
    settings: Settings, started: list[Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    real_model = wiring.real_model

    def waiting_model(*args: Any, **options: Any) -> Any:
        source = real_model(*args, **options)

        def load(name: str, progress: Any) -> Any:
            assert go_on.wait(60)
            return source.load(name, progress)

        return replace(source, load=load)

    monkeypatch.setattr(wiring, "real_model", waiting_model)
    services = start(settings, started)

    version = setup(services, "tree", "house")
    assert services.model.status.state == "loading"
    assert computed(services) == 0
    go_on.set()
    until(lambda: computed(services) > 0)
    until(lambda: device_is_idle(services))

    with counted_sentences() as calls:
        assert version in answer(services, "tree", "house")
    assert not calls


def test_after_a_restart_no_text_is_encoded_at_all(
    settings: Settings, started: list[Services]
) -> None:
    first = start(settings, started)
    first.model.join()
    answer(first, "tree", "house")
    first.close()
    started.clear()

    with counted_sentences() as calls:
        second = start(settings, started)
        second.model.join()
        setup(second, "tree", "house")
        answer(second, "tree", "house", colour="blue")
        until(lambda: second.facts()["rows"]["store"] > 0)
        until(lambda: device_is_idle(second))

    assert not calls
    assert second.facts()["rows"]["computed"] == 0
