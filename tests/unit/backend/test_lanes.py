"""The device queue's lanes: who goes first, who goes by, and who begins together."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.device import MOST_IN_A_ROW, DeviceQueue, Lane, Shared, Ticket, gently
from backend.labelstudio.tasks import Task
from backend.predictor import Predictor

from ...doubles.pictures import brush_config, stripes
from ...doubles.waiting import PATIENCE, until
from .test_predictor import Album, predictor_of, request_of
from .test_prompting import point

PEOPLE, BULK, WHENEVER = Lane
CONFIG = brush_config(["red"])
SMART = CONFIG.replace(
    "</View>",
    '<KeyPointLabels name="tips" toName="image" smart="true"><Label value="red"/>'
    "</KeyPointLabels></View>",
)


@dataclass
class Held:
    """A queue whose device is busy until `go`; `ran` is what ran afterwards, in order."""

    queue: DeviceQueue = field(default_factory=DeviceQueue)
    ran: list[str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    tickets: list[Ticket[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        begun = threading.Event()

        def hold() -> None:
            begun.set()
            assert self.go.wait(PATIENCE)

        self.tickets.append(self.queue.submit("hold", hold, WHENEVER))
        assert begun.wait(PATIENCE)

    def add(self, name: str, lane: Lane, *, shared: Shared | None = None) -> Ticket[None]:
        ticket = self.queue.submit(name, lambda: self.ran.append(name), lane, shared=shared)
        self.tickets.append(ticket)
        return ticket

    def all_ran(self) -> list[str]:
        self.go.set()
        for ticket in self.tickets:
            if not ticket.future.cancelled():
                ticket.wait(PATIENCE)
        return self.ran


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.go.set()
    made.queue.close()


@pytest.fixture
def queue() -> Iterator[DeviceQueue]:
    made = DeviceQueue()
    yield made
    made.close()


# -- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        ("", ""),
        ("w b p", "p b w"),
        ("b1 b2 p1 b3 p2", "p1 p2 b1 b2 b3"),
        ("w1 w2 b1 w3 b2", "b1 b2 w1 w2 w3"),
        ("p1 p2 p3", "p1 p2 p3"),
    ],
)
def test_the_faster_lane_goes_first_and_within_a_lane_who_came_first(
    held: Held, came: str, goes: str
):
    lanes = {"p": PEOPLE, "b": BULK, "w": WHENEVER}
    for name in came.split():
        held.add(name, lanes[name[0]])

    assert held.all_ran() == goes.split()


@settings(deadline=None)
@given(st.lists(st.sampled_from(list(Lane)), max_size=40))
def test_nobody_is_forgotten_lanes_keep_their_order_and_no_lane_starves(came: list[Lane]):
    held = Held()
    for number, lane in enumerate(came):
        held.add(f"{lane.value} {number}", lane)

    ran = [(Lane(int(name.split()[0])), int(name.split()[1])) for name in held.all_ran()]
    held.queue.close()

    assert sorted(ran, key=lambda one: one[1]) == [(lane, n) for n, lane in enumerate(came)]
    for lane in Lane:
        numbers = [number for one, number in ran if one is lane]
        assert numbers == sorted(numbers)
    for lane in Lane:  # all of them waited from the start
        passed = 0
        for one, _ in ran:
            if one is lane:
                assert passed <= MOST_IN_A_ROW + 1  # the lane between may be as patient
                passed = 0
            passed += one < lane


def test_after_a_number_of_faster_jobs_it_is_a_slower_one_s_turn(held: Held):
    held.add("slow", WHENEVER)
    held.add("bulk", BULK)
    for number in range(2 * MOST_IN_A_ROW):
        held.add(f"p{number}", PEOPLE)

    ran = held.all_ran()

    assert ran.index("bulk") == MOST_IN_A_ROW
    assert ran.index("slow") == MOST_IN_A_ROW + 1


def test_a_lane_that_was_empty_meanwhile_counts_anew(held: Held):
    left = held.add("left", BULK)
    for number in range(MOST_IN_A_ROW - 1):
        held.add(f"p{number}", PEOPLE)

    def change() -> None:
        left.leave()

    held.tickets.append(held.queue.submit("change", change, PEOPLE))

    def come() -> None:
        held.add("bulk", BULK)
        for number in range(3):
            held.add(f"q{number}", PEOPLE)

    held.queue.submit("one", lambda: None, PEOPLE)
    coming = held.queue.submit("come", come, PEOPLE)
    held.go.set()
    coming.wait(PATIENCE)

    assert held.all_ran()[-4:] == ["q0", "q1", "q2", "bulk"]


# -- joining ----------------------------------------------------------------------------------


def test_a_job_that_somebody_faster_joins_moves_up(held: Held):
    for name in ("w1", "w2"):
        held.add(name, WHENEVER)
    for name in ("b1", "b2"):
        held.add(name, BULK)

    held.add("w2", PEOPLE)
    held.add("b2", PEOPLE)

    assert held.all_ran() == ["w2", "b2", "b1", "w1"]


def test_nobody_slower_pulls_a_job_down(held: Held):
    held.add("mine", PEOPLE)
    held.add("b", BULK)
    held.add("mine", WHENEVER)

    assert held.queue.waiting() == {"people": 1, "bulk": 1, "whenever": 0}
    assert held.all_ran() == ["mine", "b"]


@pytest.mark.parametrize("lane", Lane)
def test_what_nobody_waits_for_is_dropped_from_every_lane(held: Held, lane: Lane):
    alone, shared = held.add("alone", lane), held.add("shared", lane)
    held.add("shared", PEOPLE)
    alone.leave()
    shared.leave()

    assert sum(held.queue.waiting().values()) == 1
    assert held.all_ran() == ["shared"]


# -- letting by -------------------------------------------------------------------------------


class Steps:
    """A slow job in two steps; between them it waits for `go`, and then lets people by."""

    def __init__(self, queue: DeviceQueue, ran: list[str]) -> None:
        self.queue, self.ran = queue, ran
        self.begun, self.go = threading.Event(), threading.Event()
        self.took: float | None = None

    def __call__(self) -> str:
        self.ran.append("first step")
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.took = self.queue.let_by()
        self.ran.append("second step")
        return "slow"


@pytest.mark.parametrize("lane", [BULK, WHENEVER])
def test_between_two_steps_people_go_by_and_nobody_else(queue: DeviceQueue, lane: Lane):
    ran: list[str] = []
    slow = Steps(queue, ran)
    tickets: list[Ticket] = [queue.submit("slow", slow, lane)]
    assert slow.begun.wait(PATIENCE)
    for name, of in [("w", WHENEVER), ("b", BULK), ("p1", PEOPLE), ("p2", PEOPLE)]:
        tickets.append(queue.submit(name, lambda name=name: ran.append(name), of))
    slow.go.set()
    for ticket in tickets:
        ticket.wait(PATIENCE)

    assert ran == ["first step", "p1", "p2", "second step", "b", "w"]
    assert slow.took is not None
    assert slow.took > 0


def test_people_go_by_at_every_step(queue: DeviceQueue):
    ran: list[str] = []
    first, second = Steps(queue, ran), Steps(queue, ran)
    slow = queue.submit("slow", lambda: (first(), second()), BULK)
    for number, step in enumerate([first, second]):
        assert step.begun.wait(PATIENCE)
        queue.submit(number, lambda number=number: ran.append(f"p{number}"), PEOPLE)
        step.go.set()
    slow.wait(PATIENCE)

    assert ran == ["first step", "p0", "second step", "first step", "p1", "second step"]


def test_only_so_many_go_by_at_once(queue: DeviceQueue):
    ran: list[str] = []
    slow = Steps(queue, ran)
    tickets: list[Ticket] = [queue.submit("slow", slow, BULK)]
    assert slow.begun.wait(PATIENCE)
    for number in range(MOST_IN_A_ROW + 3):
        tickets.append(queue.submit(number, lambda: ran.append("p"), PEOPLE))
    slow.go.set()
    for ticket in tickets:
        ticket.wait(PATIENCE)

    assert ran.index("second step") == MOST_IN_A_ROW + 1
    assert ran.count("p") == MOST_IN_A_ROW + 3


@pytest.mark.parametrize("how", ["came as one", "joined by one"])
def test_a_job_that_people_wait_for_lets_nobody_by(queue: DeviceQueue, how: str):
    ran: list[str] = []
    slow = Steps(queue, ran)
    tickets: list[Ticket] = [queue.submit("slow", slow, PEOPLE if how == "came as one" else BULK)]
    assert slow.begun.wait(PATIENCE)
    tickets.append(queue.submit("slow", slow, PEOPLE))
    tickets.append(queue.submit("p", lambda: ran.append("p"), PEOPLE))
    slow.go.set()
    for ticket in tickets:
        ticket.wait(PATIENCE)

    assert ran == ["first step", "second step", "p"]


def test_who_goes_by_is_not_passed_itself(queue: DeviceQueue):
    """Otherwise a burst of people would stack up, the first one lowest."""
    ran: list[str] = []
    slow, inner = Steps(queue, ran), Steps(queue, ran)
    tickets: list[Ticket] = [queue.submit("slow", slow, BULK)]
    assert slow.begun.wait(PATIENCE)
    tickets.append(queue.submit("inner", inner, PEOPLE))
    slow.go.set()
    assert inner.begun.wait(PATIENCE)
    tickets.append(queue.submit("p", lambda: ran.append("p"), PEOPLE))
    inner.go.set()
    for ticket in tickets:
        ticket.wait(PATIENCE)

    assert ran == ["first step", "first step", "second step", "p", "second step"]


def test_an_error_of_who_goes_by_is_only_theirs(queue: DeviceQueue):
    def fail() -> None:
        raise MemoryError("mine")

    ran: list[str] = []
    slow = Steps(queue, ran)
    held = queue.submit("slow", slow, BULK)
    assert slow.begun.wait(PATIENCE)
    bad = queue.submit("bad", fail, PEOPLE)
    good = queue.submit("good", lambda: "good", PEOPLE)
    slow.go.set()

    with pytest.raises(MemoryError, match="mine"):
        bad.wait(PATIENCE)
    assert good.wait(PATIENCE) == "good"
    assert held.wait(PATIENCE) == "slow"
    assert queue.submit("bad", lambda: "again", BULK).wait(PATIENCE) == "again"


@pytest.mark.parametrize("error", [None, ValueError("mine")])
def test_who_goes_by_has_as_many_threads_as_usual(
    queue: DeviceQueue, error: Exception | None
) -> None:
    counts: list[tuple[str, int]] = []
    begun, go = threading.Event(), threading.Event()

    def note(who: str) -> None:
        counts.append((who, torch.get_num_threads()))

    def slow() -> None:
        torch.set_num_threads(6)
        queue.submit("gentle", gentle, WHENEVER)

    def gentle() -> None:
        with gently():
            note("gentle")
            begun.set()
            assert go.wait(PATIENCE)
            queue.let_by()
            note("gentle again")
        note("after")

    def person() -> None:
        note("person")
        if error is not None:
            raise error

    before = queue.submit("before", torch.get_num_threads).wait(PATIENCE)
    try:
        queue.submit("slow", slow).wait(PATIENCE)
        assert begun.wait(PATIENCE)
        coming = queue.submit("person", person, PEOPLE)
        go.set()
        wait([coming.future], PATIENCE)
        queue.submit("last", lambda: note("last")).wait(PATIENCE)
    finally:
        queue.submit("back", lambda: torch.set_num_threads(before)).wait(PATIENCE)

    assert counts == [
        ("gentle", 3),
        ("person", 6),
        ("gentle again", 3),
        ("after", 6),
        ("last", 6),
    ]


def test_letting_by_where_nobody_is_at_work_is_nothing(queue: DeviceQueue):
    assert queue.let_by() == 0.0


# -- beginning together -----------------------------------------------------------------------


@dataclass
class Batch:
    """What began together, by subjects; `fail` and `during` happen there."""

    most: int = 4
    begun: list[list[str]] = field(default_factory=list)
    fail: Exception | None = None
    during: Callable[[], None] = lambda: None

    def share(self, name: str, bucket: str = "one", *, follows: bool = False) -> Shared:
        return Shared(
            bucket=bucket,
            subject=name,
            most=lambda: self.most,
            begin=self._begin,
            follows=follows,
        )

    def _begin(self, subjects: Sequence[str]) -> None:
        self.begun.append(list(subjects))
        self.during()
        if self.fail is not None:
            raise self.fail


def test_jobs_of_a_bucket_begin_together_in_their_order(held: Held):
    batch = Batch()
    for name in ("a1", "b1", "a2", "a3", "b2", "a4", "a5"):
        held.add(name, BULK, shared=batch.share(name, name[0]))
    held.add("alone", BULK)

    assert held.all_ran() == ["a1", "a2", "a3", "a4", "b1", "b2", "a5", "alone"]
    assert batch.begun == [["a1", "a2", "a3", "a4"], ["b1", "b2"]]  # one alone begins by itself


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(1, 5))
def test_batches_hold_one_bucket_and_are_not_too_large(buckets: list[str], most: int):
    held, batch = Held(), Batch(most=most)
    for number, bucket in enumerate(buckets):
        name = f"{bucket}{number}"
        held.add(name, BULK, shared=batch.share(name, bucket))

    ran = held.all_ran()
    held.queue.close()

    assert sorted(ran) == sorted(f"{bucket}{n}" for n, bucket in enumerate(buckets))
    for begun in batch.begun:
        assert len({name[0] for name in begun}) == 1
        assert 2 <= len(begun) <= most


def test_people_and_those_who_have_time_begin_alone(held: Held):
    batch = Batch()
    for number, lane in enumerate([PEOPLE, PEOPLE, WHENEVER, WHENEVER]):
        held.add(f"j{number}", lane, shared=batch.share(f"j{number}"))

    assert held.all_ran() == ["j0", "j1", "j2", "j3"]
    assert batch.begun == []


def test_what_fails_together_is_done_alone(held: Held):
    batch = Batch(fail=ValueError("one of us"))
    for name in ("a", "b", "c"):
        held.add(name, BULK, shared=batch.share(name))

    assert held.all_ran() == ["a", "b", "c"]
    assert batch.begun == [["a", "b", "c"]]


def test_who_left_before_the_batch_begins_is_not_in_it(held: Held):
    batch = Batch()
    tickets = [held.add(n, BULK, shared=batch.share(n)) for n in ("a", "b", "c")]
    tickets[1].leave()

    assert held.all_ran() == ["a", "c"]
    assert batch.begun == [["a", "c"]]


def test_who_leaves_while_the_batch_begins_costs_no_more(held: Held):
    batch = Batch()
    tickets = [held.add(n, BULK, shared=batch.share(n)) for n in ("a", "b", "c")]
    batch.during = tickets[1].leave

    assert held.all_ran() == ["a", "c"]
    assert batch.begun == [["a", "b", "c"]]


def test_whom_a_person_joins_while_the_batch_begins_is_first_of_it(held: Held):
    batch = Batch()
    for name in ("a", "b", "c"):
        held.add(name, BULK, shared=batch.share(name))
    batch.during = lambda: held.add("c", PEOPLE) and None

    assert held.all_ran() == ["c", "a", "b"]


def test_people_go_by_between_the_jobs_of_a_batch(held: Held):
    batch = Batch()

    def come() -> None:
        held.add("p", PEOPLE)

    first = held.queue.submit("come", come, BULK, shared=batch.share("come"))
    for name in ("a", "b"):
        held.add(name, BULK, shared=batch.share(name))
    held.go.set()
    first.wait(PATIENCE)

    assert held.all_ran() == ["p", "a", "b"]
    assert batch.begun == [["come", "a", "b"]]


# -- waiting for more -------------------------------------------------------------------------


@pytest.fixture
def patient() -> Iterator[Held]:
    """Its device would wait for ever for others on their way."""
    made = Held(DeviceQueue(linger=10 * PATIENCE))
    yield made
    made.go.set()
    made.queue.close()


def test_a_batch_begins_when_it_is_full(patient: Held):
    batch = Batch(most=3)
    patient.add("a", BULK, shared=batch.share("a", follows=True))
    patient.go.set()
    for name in ("b", "c"):
        patient.add(name, BULK, shared=batch.share(name, follows=True))

    assert patient.all_ran() == ["a", "b", "c"]
    assert batch.begun == [["a", "b", "c"]]


def test_a_batch_begins_with_the_last_of_its_kind(patient: Held):
    batch = Batch(most=9)
    patient.add("a", BULK, shared=batch.share("a", follows=True))
    patient.go.set()
    patient.add("b", BULK, shared=batch.share("b", follows=False))

    assert patient.all_ran() == ["a", "b"]
    assert batch.begun == [["a", "b"]]


def test_nothing_is_waited_for_where_nothing_is_known_to_come(patient: Held):
    batch = Batch(most=9)
    patient.add("a", BULK, shared=batch.share("a"))

    assert patient.all_ran() == ["a"]


def test_a_person_ends_the_waiting_and_goes_first(patient: Held):
    batch = Batch(most=2)
    patient.add("a", BULK, shared=batch.share("a", follows=True))
    patient.go.set()
    patient.tickets[0].wait(PATIENCE)

    person = patient.add("p", PEOPLE)
    person.wait(PATIENCE)

    assert patient.ran == ["p"]
    patient.add("b", BULK, shared=batch.share("b"))
    assert patient.all_ran() == ["p", "a", "b"]
    assert batch.begun == [["a", "b"]]


def test_a_slower_lane_in_turn_does_not_let_people_wait_for_others(patient: Held):
    batch = Batch(most=9)
    patient.add("a", BULK, shared=batch.share("a", follows=True))
    for number in range(MOST_IN_A_ROW + 1):
        patient.add(f"p{number}", PEOPLE)

    assert patient.all_ran().index("a") == MOST_IN_A_ROW


def test_what_does_not_come_is_not_waited_for_long():
    held, batch = Held(DeviceQueue(linger=0.0)), Batch(most=9)
    held.add("a", BULK, shared=batch.share("a", follows=True))

    assert held.all_ran() == ["a"]
    held.queue.close()


def test_a_job_waiting_for_others_is_dropped_when_nobody_waits_for_it(patient: Held):
    batch = Batch(most=9)
    ticket = patient.add("a", BULK, shared=batch.share("a", follows=True))
    patient.go.set()
    patient.tickets[0].wait(PATIENCE)
    ticket.leave()
    patient.add("b", BULK)

    assert patient.all_ran() == ["b"]


# -- closing ----------------------------------------------------------------------------------


def test_a_closed_queue_drops_all_lanes_and_lets_the_job_at_work_end(held: Held):
    waiting = [held.add(f"j{lane}", lane) for lane in Lane]

    held.queue.close()
    held.go.set()

    held.tickets[0].wait(PATIENCE)
    assert wait([one.future for one in waiting], PATIENCE).not_done == set()
    for ticket in waiting:
        with pytest.raises(CancelledError):
            ticket.wait(PATIENCE)
    assert held.ran == []
    assert held.queue.waiting() == {"people": 0, "bulk": 0, "whenever": 0}
    with pytest.raises(RuntimeError):
        held.queue.submit("late", lambda: None)


def test_a_queue_closed_while_a_batch_begins_does_none_of_it(
    held: Held, caplog: pytest.LogCaptureFixture
):
    batch = Batch(during=held.queue.close)
    tickets = [held.add(n, BULK, shared=batch.share(n)) for n in ("a", "b")]
    held.go.set()

    for ticket in tickets:
        with pytest.raises(CancelledError):
            ticket.wait(PATIENCE)
    held.queue._worker.shutdown(wait=True)
    assert held.ran == []
    assert caplog.records == []  # such as a future in a state nobody expects


def test_a_queue_closed_while_it_waits_for_others_ends(patient: Held):
    batch = Batch(most=9)
    ticket = patient.add("a", BULK, shared=batch.share("a", follows=True))
    patient.go.set()
    patient.tickets[0].wait(PATIENCE)

    patient.queue.close()

    with pytest.raises(CancelledError):
        ticket.wait(PATIENCE)
    patient.queue._worker.shutdown(wait=True)


# -- who goes in which ------------------------------------------------------------------------


ASKING: dict[str, tuple[Lane, Callable[[Predictor], object]]] = {
    "one task": (PEOPLE, lambda one: one.predict(request_of("a"))),
    "a click": (
        PEOPLE,
        lambda one: one.predict(
            replace(
                request_of("a", config=SMART),
                context={"result": [point(1, 1, to_name="image")]},
            )
        ),
    ),
    "several tasks": (BULK, lambda one: one.predict(request_of("a", "b"))),
    "a stream": (BULK, lambda one: list(one.stream(request_of("a").tasks, one.desk(CONFIG)))),
    "study": (WHENEVER, lambda one: one.study(Task(1, {"image": "a"}), one.desk(CONFIG))),
    "doubts": (WHENEVER, lambda one: one.doubts(Task(1, {"image": "a"}), one.desk(CONFIG))),
    "courses": (WHENEVER, lambda one: one.courses(one.desk(CONFIG))),
}


@pytest.mark.parametrize("who", ASKING)
def test_everybody_goes_in_their_lane(who: str, monkeypatch: pytest.MonkeyPatch):
    lane, ask = ASKING[who]
    predictor = predictor_of(Album(a=stripes("red"), b=stripes("red", "blue")))
    lanes: dict[Any, Lane] = {}
    submit = predictor.crew.workers[0].queue.submit

    def noting(key: Any, job: Any, lane: Lane = BULK, **more: Any) -> Any:
        lanes[key] = lane
        return submit(key, job, lane, **more)

    monkeypatch.setattr(predictor.crew.workers[0].queue, "submit", noting)
    ask(predictor)
    until(lambda: any(key[0] == "advice" for key in lanes), "advice on the log")
    predictor.close()

    unasked = {"words", "advice"}
    assert {of for key, of in lanes.items() if key[0] in unasked} == {WHENEVER}
    assert {of for key, of in lanes.items() if key[0] not in unasked} == {lane}
