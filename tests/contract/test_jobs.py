"""What every runner of jobs keeps to; time is moved by hand."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backend.jobs.base import Handle, Hopeless, Job, Runner, Stopped
from backend.jobs.book import BookRules, JobBook
from backend.jobs.dramatiq_runner import DramatiqRunner
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.jobs.several import SeveralRunners
from backend.storage.base import Json, Key, Scope
from backend.storage.memory import MemoryStorage

from ..doubles.away_storage import AwayStorage
from ..doubles.redis_server import RedisServer
from ..doubles.waiting import PATIENCE, Clock, until

RUNNERS = ["embedded", "dramatiq", "several"]
HERE = Scope("http://here:8080", "12.5")
QUICK = Pace(look=0.02, beat=0.01, write=0.001)


class Bench:
    """One store, one clock, and any number of runners over them."""

    def __init__(self, name: str, redis: RedisServer) -> None:
        self.name, self._redis = name, redis
        self.memory = MemoryStorage(max_blob_bytes=0)
        self.clock = Clock()
        self.rules = BookRules(most_attempts=3)
        self.book = self.book_over(self.memory)
        self._runners: list[Runner] = []

    def book_over(self, storage: Any) -> JobBook:
        return JobBook(storage, clock=self.clock, steady=self.clock, rules=self.rules)

    def runner(
        self, work: Callable[[Handle], Json], *, book: JobBook | None = None, pace: Pace = QUICK
    ) -> Runner:
        """A runner at work on jobs of the kind "work"."""
        book, works = book or self.book, {"work": work}
        runner: Runner
        if self.name == "embedded":
            runner = EmbeddedRunner(book, works, pace=pace)
        elif self.name == "several":
            other = EmbeddedRunner(book, {"other": work}, pace=pace)
            runner = SeveralRunners(EmbeddedRunner(book, works, pace=pace), {"other": other})
        else:
            runner = DramatiqRunner(book, works, url=self._redis.url, pace=pace)
        self._runners.append(runner)
        runner.start()
        return runner

    def ask(self, number: int = 0, *, of: Runner | None = None, key: str | None = None) -> Job:
        job = self.book.enqueue("work", {"number": number}, scope=HERE, key=key)
        if of is not None:
            of.wake(job)
        return job

    def until(self, job: Job, *states: str) -> Job:
        until(lambda: self.book.get(job.id).state in states, f"{self.book.get(job.id)}")
        return self.book.get(job.id)

    def close(self) -> None:
        for runner in self._runners:
            runner.close()


@pytest.fixture(params=RUNNERS)
def bench(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Bench]:
    made = Bench(request.param, redis_server)
    yield made
    made.close()


class Gate:
    """A work that goes on when told: says when it is inside, pauses until it may leave."""

    def __init__(self) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.stopped: list[str] = []
        self.handles: list[Handle] = []

    def __call__(self, handle: Handle) -> Json:
        self.handles.append(handle)
        self.inside.set()
        try:
            while not self.leave.is_set():
                handle.wait(0.001)
        except Stopped as stopped:
            self.stopped.append(str(stopped))
            raise
        return {"number": handle.job.params["number"]}

    def wait_inside(self) -> None:
        assert self.inside.wait(PATIENCE)
        self.inside.clear()


def test_a_job_is_run_once_and_its_result_can_be_read(bench: Bench):
    ran = []

    def work(handle: Handle) -> Json:
        ran.append(handle.job.id)
        return {"number": handle.job.params["number"]}

    runner = bench.runner(work)
    job = bench.ask(7, of=runner)

    done = bench.until(job, "done")
    assert (done.result, done.attempts, done.owner) == ({"number": 7}, 1, None)
    other = bench.ask(8, of=runner)
    bench.until(other, "done")
    assert ran == [job.id, other.id]


def test_a_runner_with_nothing_to_do_says_so_and_can_be_closed(bench: Bench):
    runner = bench.runner(lambda handle: None)
    nothing = {"queued": 0, "running": 0, "waiting": 0}
    until(lambda: runner.facts()["open"] == nothing)
    facts = runner.facts()
    assert facts["runner"] == {"several": "embedded"}.get(bench.name, bench.name)
    assert (facts["at_work"], facts["waiting_for"], facts["store"]) == (None, None, "memory")


def test_a_runner_that_looks_once_an_hour_wakes_at_once(bench: Bench):
    runner = bench.runner(lambda handle: None, pace=Pace(look=3600.0, beat=0.01))
    until(lambda: runner.facts()["open"] != {})
    bench.until(bench.ask(of=runner), "done")


def test_a_job_nobody_spoke_of_is_found_in_the_book(bench: Bench):
    bench.runner(lambda handle: None)
    bench.until(bench.ask(), "done")


def test_jobs_from_before_the_start_are_done_in_their_order(bench: Bench):
    ran: list[int] = []
    jobs = [bench.ask(number) for number in range(20)]

    bench.runner(lambda handle: ran.append(handle.job.params["number"]))

    bench.until(jobs[-1], "done")
    assert ran == list(range(20))


def test_many_jobs_are_done_in_the_order_they_were_asked_for(bench: Bench):
    ran: list[int] = []
    runner = bench.runner(lambda handle: ran.append(handle.job.params["number"]))

    jobs = [bench.ask(number, of=runner) for number in range(30)]

    bench.until(jobs[-1], "done")
    assert ran == list(range(30))


def test_the_same_key_gives_the_running_job_and_a_new_one_after_its_end(bench: Bench):
    gate = Gate()
    runner = bench.runner(gate)
    first = bench.ask(1, of=runner, key="k")
    gate.wait_inside()

    assert bench.ask(2, key="k").id == first.id
    gate.leave.set()
    bench.until(first, "done")
    second = bench.ask(2, of=runner, key="k")

    assert second.id != first.id
    assert bench.until(second, "done").result == {"number": 2}


def test_progress_is_read_while_a_job_runs(bench: Bench):
    told, go_on = threading.Event(), threading.Event()

    def work(handle: Handle) -> Json:
        handle.tell({"done": 1})
        handle.tell({"done": 2})
        assert handle.job.progress == {"done": 2}
        told.set()
        assert go_on.wait(PATIENCE)
        handle.tell({"done": 3})
        return None

    job = bench.ask(of=bench.runner(work))
    assert told.wait(PATIENCE)
    until(lambda: bench.book.get(job.id).progress == {"done": 2})
    assert bench.book.get(job.id).state == "running"
    go_on.set()

    assert bench.until(job, "done").progress == {"done": 3}  # the last word is never lost


def test_progress_that_is_not_json_is_the_works_own_mistake(bench: Bench):
    job = bench.ask(of=bench.runner(lambda handle: handle.tell({"a": object()})))
    assert bench.until(job, "waiting").reason == "TypeError, see the log of the service"


def test_a_result_that_is_not_json_fails_the_job(bench: Bench):
    job = bench.ask(of=bench.runner(lambda handle: object()))
    assert bench.until(job, "waiting").reason == "TypeError, see the log of the service"


def test_a_queued_job_that_is_cancelled_never_begins(bench: Bench):
    gate = Gate()
    runner = bench.runner(gate)
    first = bench.ask(1, of=runner)
    gate.wait_inside()
    second, third = bench.ask(2, of=runner), bench.ask(3, of=runner)

    assert bench.book.cancel(second.id).state == "cancelled"
    gate.leave.set()

    bench.until(first, "done")
    bench.until(third, "done")
    assert bench.book.get(second.id).attempts == 0


def test_a_running_job_that_is_cancelled_stops_at_its_next_pause(bench: Bench):
    gate = Gate()
    runner = bench.runner(gate)
    job = bench.ask(of=runner)
    gate.wait_inside()

    runner.wake(bench.book.cancel(job.id))

    assert bench.until(job, "cancelled").attempts == 1
    assert gate.stopped == ["cancelled"]


def test_a_failure_is_tried_again_until_it_is_a_dead_letter_with_a_reason_and_can_be_resumed(
    bench: Bench,
):
    ill = True

    def work(handle: Handle) -> Json:
        if ill:
            raise OSError("secret")
        return "well"

    job = bench.ask(of=bench.runner(work))
    for attempt in (1, 2):
        waiting = bench.until(job, "waiting")
        assert waiting.attempts == attempt
        assert waiting.reason == "OSError, see the log of the service"
        bench.clock.move(waiting.not_before - bench.clock())
        until(lambda attempt=attempt: bench.book.get(job.id).attempts > attempt)
    failed = bench.until(job, "failed")
    assert (failed.attempts, failed.reason) == (3, "OSError, see the log of the service")

    ill = False
    bench.book.resume(job.id)

    done = bench.until(job, "done")
    assert (done.result, done.attempts, done.reason) == ("well", 1, None)


def test_a_work_that_knows_it_is_hopeless_is_not_tried_again(bench: Bench):
    def work(handle: Handle) -> Json:
        raise Hopeless("there is no project 12")

    failed = bench.until(bench.ask(of=bench.runner(work)), "failed", "waiting")
    assert (failed.state, failed.attempts, failed.reason) == ("failed", 1, "there is no project 12")


def test_even_an_exit_in_a_work_ends_only_the_work(bench: Bench):
    def work(handle: Handle) -> Json:
        if handle.job.params["number"] == 1:
            raise SystemExit(3)
        return None

    runner = bench.runner(work)
    first = bench.ask(1, of=runner)
    assert bench.until(first, "waiting").reason == "SystemExit, see the log of the service"
    bench.until(bench.ask(2, of=runner), "done")


def test_closing_hands_the_job_back_and_another_runner_goes_on_in_the_same_attempt(bench: Bench):
    gate = Gate()
    first = bench.runner(gate)
    job = bench.ask(5, of=first)
    gate.wait_inside()

    first.close()

    back = bench.book.get(job.id)
    assert (back.state, back.owner, back.attempts) == ("queued", None, 1)
    assert gate.stopped == ["handed back"]
    gate.leave.set()
    bench.runner(gate)
    done = bench.until(job, "done")
    assert (done.attempts, done.result) == (1, {"number": 5})


def test_a_runner_that_was_closed_takes_no_more(bench: Bench):
    runner = bench.runner(lambda handle: None)
    bench.until(bench.ask(1, of=runner), "done")
    runner.close()
    job = bench.ask(2)

    bench.until(job, "queued")
    bench.runner(lambda handle: "the other")
    assert bench.until(job, "done").result == "the other"


def test_two_runners_share_the_jobs_and_never_run_one_twice(bench: Bench):
    ran: Counter[str] = Counter()
    at_once: Counter[str] = Counter()
    both = threading.Barrier(2)
    lock = threading.Lock()

    def work(handle: Handle) -> Json:
        with lock:
            ran[handle.job.id] += 1
            at_once[handle.job.id] += 1
            assert at_once[handle.job.id] == 1
        if handle.job.params["number"] < 2:
            both.wait(PATIENCE)  # only two at the same time get past here
        handle.pause()
        with lock:
            at_once[handle.job.id] -= 1
        return None

    runners = [bench.runner(work), bench.runner(work)]
    jobs = [bench.ask(number, of=runners[number % 2]) for number in range(40)]

    for job in jobs:
        assert bench.until(job, "done").attempts == 1
    assert ran == Counter(job.id for job in jobs)


def test_who_lost_its_lease_stands_still_and_is_stopped(bench: Bench):
    mine = AwayStorage(bench.memory)
    gate = Gate()
    runner = bench.runner(gate, book=bench.book_over(mine))
    job = bench.ask(of=runner)
    gate.wait_inside()

    mine.away = True
    until(lambda: runner.facts()["waiting_for"] == "the store cannot be reached")
    assert bench.book.due(kinds={"work"}, limit=1) == []  # another host sees the lease
    bench.clock.move(bench.rules.lease + 1)
    taken = bench.book.claim("another host", token="theirs", kinds={"work"})
    assert taken is not None
    gate.leave.set()  # would be done at once, but for the lease
    assert bench.book.get(job.id).owner == "another host"
    mine.away = False

    until(lambda: runner.facts()["at_work"] is None)
    assert bench.book.get(job.id).owner == "another host"
    assert bench.book.finish(taken, "theirs").result == "theirs"
    assert bench.book.get(job.id).attempts == 1


def test_a_pause_without_a_lease_waits_until_it_is_known_whose_the_job_is(bench: Bench):
    mine = AwayStorage(bench.memory)
    inside, past, go_on = threading.Event(), threading.Event(), threading.Event()

    def work(handle: Handle) -> Json:
        inside.set()
        assert go_on.wait(PATIENCE)
        handle.pause()
        past.set()
        return None

    runner = bench.runner(work, book=bench.book_over(mine))
    job = bench.ask(of=runner)
    assert inside.wait(PATIENCE)
    mine.away = True
    bench.clock.move(bench.rules.lease + 1)
    go_on.set()
    calls = mine.calls
    until(lambda: mine.calls > calls + 2)  # it asks again and again
    assert not past.is_set()

    mine.away = False

    bench.until(job, "done")
    assert past.is_set()


def test_a_store_that_goes_away_is_waited_for_and_that_is_a_fact(bench: Bench):
    mine = AwayStorage(bench.memory)
    gate = Gate()
    runner = bench.runner(gate, book=bench.book_over(mine))
    job = bench.ask(3, of=runner)
    gate.wait_inside()
    assert runner.facts()["at_work"] == job.id

    mine.away = True
    gate.leave.set()
    until(lambda: runner.facts()["waiting_for"] == "the store cannot be reached")
    assert bench.book.get(job.id).state == "running"
    mine.away = False

    done = bench.until(job, "done")
    assert (done.result, done.attempts) == ({"number": 3}, 1)
    until(lambda: runner.facts()["waiting_for"] is None)


def test_the_last_word_of_a_work_is_written_although_the_store_was_away_when_it_was_said(
    bench: Bench,
):
    mine = AwayStorage(bench.memory)
    inside = threading.Event()

    def work(handle: Handle) -> Json:
        inside.set()
        until(lambda: mine.away)
        handle.tell({"done": 2})
        calls = mine.calls
        until(lambda: mine.calls > calls)  # its keeper has tried to write it
        return None

    job = bench.ask(of=bench.runner(work, book=bench.book_over(mine)))
    assert inside.wait(PATIENCE)
    mine.away = True
    calls = mine.calls
    until(lambda: mine.calls > calls + 2)
    mine.away = False

    assert bench.until(job, "done").progress == {"done": 2}


def test_a_write_that_happened_before_the_store_went_away_is_not_done_twice(bench: Bench):
    mine = AwayStorage(bench.memory)
    ran = []
    job = bench.ask()
    mine.fail_swaps = 3  # the claim and what follows

    def work(handle: Handle) -> Json:
        ran.append(handle.job.id)
        mine.fail_swaps = 1  # and the end
        return 1

    bench.runner(work, book=bench.book_over(mine))

    assert bench.until(job, "done").attempts == 1
    assert ran == [job.id]


def test_a_work_whose_own_store_is_away_loses_no_attempt(bench: Bench):
    theirs = AwayStorage(bench.memory)
    theirs.away = True

    def work(handle: Handle) -> Json:
        theirs.get(Key(HERE, ("word",)))
        return "read"

    job = bench.ask(of=bench.runner(work))
    waiting = bench.until(job, "waiting")
    assert (waiting.attempts, waiting.reason) == (1, "the store cannot be reached")

    theirs.away = False
    bench.clock.move(waiting.not_before - bench.clock())

    assert bench.until(job, "done").attempts == 1


def test_a_runner_survives_errors_of_its_store(bench: Bench):
    mine = AwayStorage(bench.memory)
    broken = True
    plain = mine.scan

    def scan(*args: Any, **named: Any) -> Any:
        if broken:
            raise ValueError("somebody wrote nonsense")
        return plain(*args, **named)

    mine.scan = scan  # type: ignore[method-assign]
    runner = bench.runner(lambda handle: None, book=bench.book_over(mine))
    until(lambda: runner.facts()["waiting_for"] == "ValueError, see the log of the service")

    broken = False

    bench.until(bench.ask(of=runner), "done")
    until(lambda: runner.facts()["waiting_for"] is None)
