"""Several devices: who does what, one that is lost, and nothing that is lost with it."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from backend.condition import degraded
from backend.device import Lane
from backend.errors import DeviceLost, ModelFailed, ModelLoading
from backend.labelstudio.tasks import PredictRequest, SetupRequest
from backend.model_host import ModelHost
from backend.model_pool import ModelPool
from backend.outcomes import NotPredicted, Outcome, Predicted
from backend.predictor import Limits, Predictor
from cliper_model.errors import WeightsMissing

from ...doubles.cards import Rack
from ...doubles.colours import IDENTITY, ManyColours
from ...doubles.pictures import brush_config, stripes
from ...doubles.waiting import PATIENCE, until
from .test_predictor import Album, predictor_of, request_of
from .test_prompting import point

CONFIG = brush_config(["red"])
SMART = CONFIG.replace(
    "</View>",
    '<KeyPointLabels name="tips" toName="image" smart="true"><Label value="red"/>'
    "</KeyPointLabels></View>",
)
NAMES = "abcdefgh"
ALBUM = Album(**{name: stripes("red", width=4 + n) for n, name in enumerate(NAMES)})
DEADLY = 4 + len(NAMES)  # pixels that no other picture is wide
DEADLY_ALBUM = Album(**ALBUM.pictures, poison=stripes("red", width=DEADLY))

Make = Callable[..., Predictor]


@pytest.fixture
def crew_of() -> Iterator[Make]:
    made: list[tuple[Predictor, Rack]] = []

    def make(rack: Rack, album: Album = ALBUM, *, ready: bool = True, **options: Any) -> Predictor:
        pools = [ModelPool(ModelHost(card.source()), device=card.name) for card in rack.cards]
        predictor = over(pools, rack, album, **options)
        made.append((predictor, rack))
        if ready:
            begin(predictor)
        return predictor

    yield make
    for predictor, rack in made:
        rack.let_go()
        predictor.close()


def over(pools: Sequence[ModelPool], rack: Rack, album: Album, **options: Any) -> Predictor:
    chosen: dict[str, Any] = {
        "budget": PATIENCE, "fetch_timeout": 5, "waiting": 20, "result_bytes": 10**6,
        "state_bytes": 10**6,
    }  # fmt: skip
    return Predictor(pools, album, Limits(**{**chosen, **options}), answers=rack.answers)


def begin(predictor: Predictor, config: str = CONFIG) -> None:
    """All models are there, and all have read the words."""
    predictor.crew.start()
    for worker in predictor.crew.workers:
        worker.models.own.join()
    predictor.desk(config)
    until(lambda: nothing_unasked(predictor), "words read and advice on the log")


def nothing_unasked(predictor: Predictor) -> bool:
    ahead = any(thread.name == "words" for thread in threading.enumerate())
    return not ahead and not flights(predictor)


def flights(predictor: Predictor) -> dict[Any, Any]:
    return predictor.crew.workers[0].queue._flights


def waiting(predictor: Predictor, lane: str = "people") -> list[int]:
    """How many jobs wait for each device."""
    return [worker.queue.waiting()[lane] for worker in predictor.crew.workers]


def states(predictor: Predictor) -> list[str]:
    return [one["state"] for one in predictor.device_facts()["devices"]]


class Asked:
    """Requests under way, each of one task unless it says otherwise."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._threads = ThreadPoolExecutor(20)
        self._found: list[Any] = []

    def __call__(self, *names: str, config: str = CONFIG, times: int = 1) -> None:
        for _ in range(times):
            request = request_of(*names, config=config)
            self._found.append(self._threads.submit(self.predictor.predict, request))

    def told(self) -> list[Outcome]:
        """Raises what a request raised."""
        try:
            return [one for found in self._found for one in found.result(PATIENCE)]
        finally:
            self._threads.shutdown()


def both_hold(predictor: Predictor, rack: Rack, names: str = "ab") -> Asked:
    """Every device looks at a picture of its own, and does not come to an end."""
    asked = Asked(predictor)
    rack.hold()
    for name, card in zip(names, rack.cards, strict=True):
        asked(name)
        assert card.segmenter.began.acquire(timeout=PATIENCE)
    return asked


def clicked(predictor: Predictor, name: str) -> Outcome:
    context = {"result": [point(1, 1, to_name="image")]}
    (outcome,) = predictor.predict(replace(request_of(name, config=SMART), context=context))
    return outcome


# -- who does it ------------------------------------------------------------------------------


def test_what_comes_while_one_device_works_goes_to_the_other(crew_of: Make):
    rack = Rack(3)
    predictor = crew_of(rack)

    asked = both_hold(predictor, rack, "abc")
    rack.let_go()

    assert [type(one) for one in asked.told()] == [Predicted] * 3
    assert [card.widths for card in rack.cards] == [[4], [5], [6]]


def test_who_waits_is_spread_evenly(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)

    for count, name in enumerate("cdef", start=1):
        asked(name)
        until(lambda: sum(waiting(predictor)) == count, "it waits")  # noqa: B023

    assert waiting(predictor) == [2, 2]
    rack.let_go()
    assert [type(one) for one in asked.told()] == [Predicted] * 6
    assert sum(rack.looks) == 6


def test_of_devices_with_nothing_to_do_the_first_is_taken(crew_of: Make):
    rack = Rack(3)
    predictor = crew_of(rack)

    for name in "abc":
        predictor.predict(request_of(name))

    assert rack.looks == [3, 0, 0]


def test_equal_requests_cost_one_look_though_other_devices_are_idle(crew_of: Make):
    rack = Rack(3)
    predictor = crew_of(rack)
    rack.hold()
    asked = Asked(predictor)

    asked("a", times=10)
    until(lambda: sum(one.waiting for one in list(flights(predictor).values())) == 10)
    rack.let_go()
    answers = {one.to_json() for one in asked.told()}

    assert len(answers) == 1
    assert sum(rack.looks) == 1


def test_who_joins_what_waits_elsewhere_moves_it_up(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)
    asked("c", "d", "e")
    until(lambda: sum(waiting(predictor, "bulk")) == 3, "a request for several waits")

    asked("d")
    until(lambda: sum(waiting(predictor)) == 1, "it waits among people")
    rack.let_go()

    assert [type(one) for one in asked.told()] == [Predicted] * 6
    assert sum(rack.looks) == 5


def test_a_click_goes_where_its_picture_was_looked_at(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    begin(predictor, SMART)
    asked = both_hold(predictor, rack)
    rack.let_go()
    asked.told()

    assert isinstance(clicked(predictor, "b"), Predicted)
    assert isinstance(clicked(predictor, "a"), Predicted)

    assert rack.looks == [1, 1]


def test_other_words_go_where_their_picture_was_looked_at(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)
    rack.let_go()
    asked.told()

    predictor.predict(request_of("b", config=brush_config(["red", "blue"])))

    assert rack.looks == [1, 1]


@pytest.mark.parametrize("how", ["predict", "stream"])
def test_many_pictures_keep_all_devices_busy(crew_of: Make, how: str):
    rack = Rack(3)
    predictor = crew_of(rack)
    tasks = request_of(*NAMES).tasks
    rack.hold()
    found: list[Outcome] = []

    def work() -> None:
        if how == "predict":
            request = PredictRequest(tasks=tasks, label_config=CONFIG)
            found.extend(predictor.predict(request))
        else:
            found.extend(one for _, one in predictor.stream(tasks, predictor.desk(CONFIG)))

    thread = threading.Thread(target=work)
    thread.start()
    for card in rack.cards:
        assert card.segmenter.began.acquire(timeout=PATIENCE), "a device has nothing to do"
    rack.let_go()
    thread.join(PATIENCE)

    assert [type(one) for one in found] == [Predicted] * len(NAMES)
    assert sum(rack.looks) == len(NAMES)


def test_words_are_read_ahead_on_every_device(crew_of: Make):
    rack = Rack(2)

    crew_of(rack)

    assert [card.segmenter.readings for card in rack.cards] == [[("red",)]] * 2


def test_masks_and_version_are_those_of_a_single_device(crew_of: Make):
    single = predictor_of(ALBUM)
    rack = Rack(2)
    predictor = crew_of(rack)
    setup = SetupRequest(label_config=CONFIG, project="1.0")
    expected = {name: single.predict(request_of(name))[0].to_json() for name in "ab"}

    asked = both_hold(predictor, rack)
    rack.let_go()

    assert [one.to_json() for one in asked.told()] == [expected["a"], expected["b"]]
    assert predictor.setup(setup) == single.setup(setup)
    single.close()


def test_looks_at_pictures_take_no_more_memory_than_with_a_single_device(crew_of: Make):
    predictor = crew_of(Rack(4), state_bytes=1000)

    rooms = [worker.looking._seen._max_bytes for worker in predictor.crew.workers]

    assert rooms == [250] * 4


# -- models on their way ----------------------------------------------------------------------


def pools_of(rack: Rack, **second: Any) -> list[ModelPool]:
    """The second card's source is another one."""
    sources = [rack[0].source(), rack[1].source(**second)]
    return [
        ModelPool(ModelHost(source), device=card.name)
        for card, source in zip(rack.cards, sources, strict=True)
    ]


def test_a_device_whose_model_is_not_ready_gets_no_job_while_another_is():
    go_on, rack = threading.Event(), Rack(2)
    predictor = over(pools_of(rack, before_load=lambda _: go_on.wait(PATIENCE)), rack, ALBUM)
    predictor.crew.start()
    predictor.crew.workers[0].models.own.join()
    rack.hold()
    asked = Asked(predictor)

    asked("a")
    assert rack[0].segmenter.began.acquire(timeout=PATIENCE)
    asked("b")
    until(lambda: waiting(predictor) == [1, 0], "it waits for the one that is ready")
    assert states(predictor) == ["ready", "loading"]
    go_on.set()
    predictor.crew.workers[1].models.own.join()
    asked("c")
    assert rack[1].segmenter.began.acquire(timeout=PATIENCE)
    rack.let_go()
    asked.told()
    predictor.close()

    assert (rack[0].widths, rack[1].widths) == ([4, 5], [6])


def test_a_stream_takes_a_device_in_that_comes_later():
    go_on, go, rack = threading.Event(), threading.Event(), Rack(2)
    predictor = over(pools_of(rack, before_load=lambda _: go_on.wait(PATIENCE)), rack, ALBUM)
    predictor.crew.start()
    predictor.crew.workers[0].models.own.join()
    rack.hold()
    rack[0].segmenter.on_observe = lambda pixels: rack[0].looks < 2 or go.wait(PATIENCE)
    tasks = request_of(*NAMES).tasks
    found: list[Outcome] = []
    desk = predictor.desk(CONFIG)
    thread = threading.Thread(
        target=lambda: found.extend(one for _, one in predictor.stream(tasks, desk))
    )
    thread.start()
    assert rack[0].segmenter.began.acquire(timeout=PATIENCE)

    go_on.set()
    predictor.crew.workers[1].models.own.join()
    rack[0].segmenter.gate.set()

    assert rack[1].segmenter.began.acquire(timeout=PATIENCE), "the second never looked"
    go.set()
    rack.let_go()
    thread.join(PATIENCE)
    predictor.close()
    assert len(found) == len(NAMES)


def test_a_model_that_cannot_be_loaded_on_one_device_leaves_the_others_at_work():
    def missing(progress: Any) -> None:
        raise WeightsMissing("CLIP", ["/models"], "fetch them")

    rack = Rack(2)
    predictor = over(pools_of(rack, before_load=missing), rack, ALBUM)
    begin(predictor)

    outcomes = predictor.predict(request_of(*NAMES))
    facts = predictor.device_facts()
    predictor.close()

    assert [type(one) for one in outcomes] == [Predicted] * len(NAMES)
    assert rack.looks == [len(NAMES), 0]
    assert [one["state"] for one in facts["devices"]] == ["ready", "failed"]
    assert facts["devices"][1]["reason"] == "fetch them: CLIP not found (looked in /models)"
    assert facts["device_lost"] is None


def test_where_no_model_could_be_loaded_the_reason_is_the_first_one_s():
    def missing(progress: Any) -> None:
        raise WeightsMissing("CLIP", ["/models"], "fetch them")

    rack = Rack(2)
    pools = [
        ModelPool(ModelHost(card.source(before_load=missing)), device=card.name)
        for card in rack.cards
    ]
    predictor = over(pools, rack, ALBUM)
    predictor.crew.start()
    for worker in predictor.crew.workers:
        worker.models.own.join()

    with pytest.raises(ModelFailed, match="fetch them"):
        predictor.predict(request_of("a"))
    predictor.close()


def test_while_all_models_load_requests_are_told_so():
    go_on, rack = threading.Event(), Rack(2)
    pools = [
        ModelPool(
            ModelHost(card.source(before_load=lambda _: go_on.wait(PATIENCE))), device=card.name
        )
        for card in rack.cards
    ]
    predictor = over(pools, rack, ALBUM)
    predictor.crew.start()

    with pytest.raises(ModelLoading):
        predictor.predict(request_of("a"))
    go_on.set()
    predictor.close()


def test_a_device_with_other_weights_does_nothing_and_says_so(crew_of: Make):
    rack = Rack(2)
    rack[1].segmenter.identity = replace(IDENTITY, weights={"paint": "ff00"})
    predictor = crew_of(rack)

    predictor.predict(request_of(*NAMES))

    assert rack.looks == [len(NAMES), 0]
    (_, second) = predictor.device_facts()["devices"]
    assert second["state"] == "failed"
    assert second["reason"].startswith("its weights are not those of the others")


# -- one that is lost -------------------------------------------------------------------------


def test_what_a_lost_device_was_at_and_what_waited_for_it_is_done_by_the_other(
    crew_of: Make, caplog: pytest.LogCaptureFixture
):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)
    for count, name in enumerate("cdef", start=1):
        asked(name)
        until(lambda: sum(waiting(predictor)) == count, "it waits")  # noqa: B023

    rack[0].is_lost = True
    rack.let_go()

    assert [type(one) for one in asked.told()] == [Predicted] * 6
    assert rack.looks == [1, 6]
    facts = predictor.device_facts()
    assert facts["device_lost"] is None
    assert [one["state"] for one in facts["devices"]] == ["lost", "ready"]
    said = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert [one.getMessage() for one in said] == ["the device cuda:0 is lost; 1 of 2 are left"]


def test_a_lost_device_gets_no_more_jobs(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    rack[0].is_lost = True

    outcomes = [predictor.predict(request_of(name))[0] for name in "abc"]

    assert [type(one) for one in outcomes] == [Predicted] * 3
    assert rack.looks == [1, 3]


def test_a_click_on_a_picture_whose_device_was_lost_is_answered(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    begin(predictor, SMART)
    predictor.predict(request_of("a"))
    rack[0].is_lost = True
    predictor.predict(request_of("b"))  # comes out

    answer = clicked(predictor, "a")

    assert isinstance(answer, Predicted)
    assert answer.regions
    assert rack.looks == [2, 2]


def test_a_click_that_waits_for_a_device_that_is_lost_is_answered(crew_of: Make):
    """Its look is lost, too, so the picture is fetched again."""
    rack = Rack(2)
    predictor = crew_of(rack)
    begin(predictor, SMART)
    predictor.predict(request_of("a"))
    assert rack[0].segmenter.began.acquire(timeout=PATIENCE)
    asked = both_hold(predictor, rack, "bc")
    answers: list[Outcome] = []
    click = threading.Thread(target=lambda: answers.append(clicked(predictor, "a")))
    click.start()
    until(lambda: waiting(predictor) == [1, 0], "the click waits where its picture is known")

    rack[0].is_lost = True
    rack.let_go()
    asked.told()
    click.join(PATIENCE)

    (answer,) = answers
    assert isinstance(answer, Predicted)
    assert answer.regions
    assert ALBUM.pictures["a"].shape[1] in rack[1].widths


def test_where_every_device_is_lost_it_is_as_with_a_single_one(crew_of: Make):
    rack = Rack(3)
    predictor = crew_of(rack)
    for card in rack.cards:
        card.is_lost = True

    sentence = r"^the device is lost \(RuntimeError\); start the service again$"
    assert isinstance(predictor.predict(request_of("a"))[0], NotPredicted)  # over it two are lost
    for name in "ab":
        with pytest.raises(DeviceLost, match=sentence):
            predictor.predict(request_of(name))

    facts = predictor.device_facts()
    assert facts["device_lost"] == "the device is lost (RuntimeError); start the service again"
    assert states(predictor) == ["lost"] * 3
    assert predictor.crew.leading.models.own.status.state == "failed"
    with pytest.raises(DeviceLost):
        predictor.setup(SetupRequest(label_config=CONFIG, project="1.0"))


def test_a_picture_that_every_device_is_lost_over_fails_when_nobody_is_left(crew_of: Make):
    rack = Rack(2, deadly=DEADLY)
    predictor = crew_of(rack, DEADLY_ALBUM)

    with pytest.raises(DeviceLost):
        predictor.predict(request_of("poison"))

    assert rack.looks == [1, 1]
    assert not flights(predictor)


def test_a_picture_that_two_devices_are_lost_over_is_not_tried_on_a_third(crew_of: Make):
    rack = Rack(3, deadly=DEADLY)
    predictor = crew_of(rack, DEADLY_ALBUM)

    poison, well = predictor.predict(request_of("poison", "a"))

    assert isinstance(poison, NotPredicted)
    assert poison.reason.startswith("2 devices were lost over this picture")
    assert isinstance(well, Predicted)
    assert sorted(states(predictor)) == ["lost", "lost", "ready"]
    assert sorted(DEADLY in card.widths for card in rack.cards) == [False, True, True]


def test_who_was_looked_at_together_with_a_deadly_picture_is_done_alone_by_another(
    crew_of: Make,
):
    """So that it is not taken for the cause when another device is lost."""
    album = Album(**{name: stripes("red", "blue") for name in ("a", "b")})
    for number, pixels in enumerate(album.pictures.values()):
        pixels[0, 0] = (0, number, 0)
    album.pictures["poison"] = stripes("red", height=6, width=8)
    rack = Rack(3, segmenter=ManyColours)
    predictor = crew_of(rack, album, batch=2)
    for card in rack.cards:  # a picture that is all red in its first row
        card.segmenter.on_observe = lambda pixels, card=card: fell(card, pixels)
    goes = [threading.Event() for _ in rack.cards]
    for worker, go, before in zip(predictor.crew.workers, goes, (0, 8, 30), strict=True):
        worker.queue.submit(("hold", worker.name), lambda go=go: go.wait(PATIENCE), Lane.PEOPLE)
        for number in range(before):
            worker.queue.submit(("more", worker.name, number), lambda: None, Lane.PEOPLE)
    asked = Asked(predictor)
    asked("poison", "a", "b")
    until(lambda: waiting(predictor, "bulk") == [3, 0, 0], "all of them wait for the first")
    goes[0].set()
    until(lambda: waiting(predictor, "bulk") == [0, 3, 0], "and then for the second")
    goes[1].set()
    until(lambda: states(predictor) == ["lost", "lost", "ready"], "the second is lost, too")
    goes[2].set()

    poison, *others = asked.told()

    assert isinstance(poison, NotPredicted)
    assert [type(one) for one in others] == [Predicted] * 2
    assert [card.segmenter.together for card in rack.cards[1:]] == [[], []]  # type: ignore[attr-defined]


def fell(card: Any, pixels: Any) -> None:
    card.is_lost = card.is_lost or bool((pixels[:, -1] == (255, 0, 0)).all())
    if card.is_lost:
        raise RuntimeError("CUDA error: unspecified launch failure")


def test_whoever_gave_up_on_what_a_lost_device_was_at_has_nothing_done_again(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack, budget=0.05)
    rack.hold()

    assert [type(one) for one in predictor.predict(request_of("a"))] == [NotPredicted]
    rack[0].is_lost = True
    rack.let_go()
    until(lambda: not flights(predictor), "nothing is under way")

    assert rack.looks == [1, 0]


# -- one whose thread has ended, and the end --------------------------------------------------


def test_jobs_of_a_device_whose_thread_has_ended_are_done_by_the_other(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    go, (first, second) = threading.Event(), predictor.crew.workers
    first.queue.submit("hold", lambda: go.wait(PATIENCE), Lane.PEOPLE)
    for number in range(3):
        second.queue.submit(("more", number), lambda: go.wait(PATIENCE), Lane.PEOPLE)
    asked = Asked(predictor)
    asked("a")
    until(lambda: waiting(predictor) == [1, 2], "it waits for the first")

    first.queue._worker.shutdown(wait=False, cancel_futures=True)
    go.set()
    until(lambda: not first.queue.takes_work, "the thread has ended")
    assert states(predictor) == ["stopped", "ready"]

    assert [type(one) for one in asked.told()] == [Predicted]
    assert rack.looks == [0, 1]
    assert isinstance(predictor.predict(request_of("b"))[0], Predicted)
    assert predictor.crew.takes_work


def test_once_it_is_closed_no_device_takes_work(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)
    asked("c")
    until(lambda: sum(waiting(predictor)) == 1, "it waits")

    predictor.close()

    assert not predictor.crew.takes_work
    assert waiting(predictor) == [0, 0]
    rack.let_go()
    assert isinstance(predictor.predict(request_of("d"))[0], NotPredicted)
    assert sum(rack.looks) == 2


# -- what is told -----------------------------------------------------------------------------


def test_a_device_that_is_out_degrades_the_service_in_one_sentence(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    rack[0].is_lost = True
    predictor.predict(request_of("a"))

    told = {
        "storage": {"trouble": None},
        "learning": {"pending": 0},
        **predictor.device_facts(),
    }
    own = predictor.crew.leading.models.own.status

    assert degraded(own, [], told, device=predictor.crew.takes_work) == [
        "the device cuda:0 is out, and the others do its work: the device is lost (RuntimeError); "
        "start the service again"
    ]


def test_every_device_is_told_with_what_waits_for_it_and_its_looks(crew_of: Make):
    rack = Rack(2)
    predictor = crew_of(rack)
    asked = both_hold(predictor, rack)
    asked("c")
    until(lambda: sum(waiting(predictor)) == 1, "it waits")

    facts = predictor.device_facts()
    rack.let_go()
    asked.told()
    after = predictor.device_facts()

    assert [one["name"] for one in facts["devices"]] == ["cuda:0", "cuda:1"]
    assert [one["waiting"]["people"] for one in facts["devices"]] == [1, 0]
    assert facts["queue"]["waiting"] == {"people": 1, "bulk": 0, "whenever": 0}
    assert {one["dtype"] for one in facts["devices"]} == {"float16"}
    assert [one["looks"] for one in after["devices"]] == rack.looks
    assert after["queue"]["looks"] == 3
