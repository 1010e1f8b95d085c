"""The book of jobs: one live job per key, one owner per job, nothing lost in the middle."""

import itertools
import threading
from collections.abc import Callable
from functools import partial

import pytest

from backend.errors import StorageAway, TooManyJobs, UnknownJob
from backend.jobs.base import Lease, LeaseLost, notes_of
from backend.jobs.book import BookRules, JobBook
from backend.storage.base import ABSENT, Json, Key, Scope
from backend.storage.memory import MemoryStorage
from backend.storage.patience import patiently

from ....doubles.away_storage import AwayStorage, Killed
from ....doubles.waiting import Clock

HERE = Scope("http://here:8080", "12.1795190531")
THERE = Scope("http://there:8080", "12.1795190531")
KINDS = {"count"}


class Bench:
    """A book over memory that can go away, a clock by hand, and owners that can die."""

    def __init__(self, **rules: float) -> None:
        self.memory = MemoryStorage(max_blob_bytes=0)
        self.store = AwayStorage(self.memory)
        self.clock, self.steady = Clock(), Clock(5.0)
        self.dead: set[str] = set()
        self.book = JobBook(
            self.store,
            clock=self.clock,
            steady=self.steady,
            rules=BookRules(**rules),  # type: ignore[arg-type]
            gone=self.dead.__contains__,
        )

    def ask(self, number: int = 1, *, scope: Scope = HERE, key: str | None = None):
        return self.book.place("count", {"to": number}, scope=scope, key=key)

    def take(self, owner: str = "a", only: str | None = None) -> Lease | None:
        return self.book.claim(owner, token=f"token of {owner}", kinds=KINDS, only=only)

    def taken(self, owner: str = "a") -> Lease:
        lease = self.take(owner)
        assert lease is not None
        return lease

    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.steady.move(seconds)

    def pointers(self, word: str) -> int:
        return len(list(self.memory.scan(Key(Scope(), (word,)))))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_empty_book_has_nothing_to_do_and_nothing_to_show(bench: Bench):
    assert bench.take() is None
    assert bench.book.all() == bench.book.all(scope=HERE) == []
    assert bench.book.due(kinds=KINDS, limit=5) == []
    assert bench.book.counts() == {"queued": 0, "running": 0, "waiting": 0}
    with pytest.raises(UnknownJob, match="there is no job 'x/y'"):
        bench.book.get("x/y")


def test_a_book_of_one_label_studio_leaves_the_jobs_of_others_alone(bench: Bench):
    theirs, _ = bench.ask(scope=THERE)
    book = JobBook(bench.store, clock=bench.clock, origin=HERE.origin).over(bench.store)

    assert book.all() == book.all(project="12") == book.due(kinds=KINDS, limit=5) == []
    assert book.counts() == {"queued": 0, "running": 0, "waiting": 0}
    assert book.claim("a", token="a", kinds=KINDS) is None
    assert book.claim("a", token="a", kinds=KINDS, only=theirs.id) is None

    ours, _ = book.place("count", {"to": 1}, scope=HERE)
    assert book.all() == [ours]
    lease = book.claim("a", token="a", kinds=KINDS)
    assert lease is not None
    assert lease.job.id == ours.id


def test_a_job_is_placed_with_all_that_was_asked(bench: Bench):
    job, new = bench.ask(3)

    assert new
    assert (job.state, job.kind, job.params, job.scope) == ("queued", "count", {"to": 3}, HERE)
    assert job.created == job.changed == bench.clock()
    assert bench.book.get(job.id) == job


def test_the_same_key_gives_the_same_job_while_it_lives_and_a_new_one_afterwards(bench: Bench):
    first, _ = bench.ask(1, key="k")
    again, new = bench.ask(2, key="k")
    assert (again.id, new) == (first.id, False)

    bench.book.finish(bench.taken(), {"n": 1})
    later, new = bench.ask(2, key="k")

    assert new
    assert later.id != first.id
    assert later.params == {"to": 2}


def test_without_a_key_the_same_params_are_the_same_job(bench: Bench):
    first, _ = bench.ask(1)
    assert bench.ask(1)[0].id == first.id
    assert bench.ask(2)[0].id != first.id


def test_two_label_studios_with_the_same_project_share_no_job(bench: Bench):
    first, _ = bench.ask(1, scope=HERE)
    second, new = bench.ask(1, scope=THERE)

    assert new
    assert [job.id for job in bench.book.all(scope=THERE)] == [second.id]
    assert [job.id for job in bench.book.all()] == [second.id, first.id]


def test_jobs_are_listed_by_project_number_or_full_name_newest_first_up_to_a_limit(bench: Bench):
    ids = [bench.ask(n)[0].id for n in range(3)]
    bench.ask(9, scope=Scope("http://here:8080", "1.5"))

    for project in ("12", "12.1795190531"):
        assert [job.id for job in bench.book.all(project=project)] == ids[::-1]
    assert [job.id for job in bench.book.all(project="12", limit=2)] == ids[:0:-1]
    assert bench.book.all(project="2") == []


def test_jobs_are_taken_in_the_order_they_were_asked_for(bench: Bench):
    asked = [bench.ask(n)[0].id for n in range(7)]

    taken = []
    while (lease := bench.take()) is not None:
        taken.append(lease.job.id)
        bench.book.finish(lease, None)

    assert taken == asked


def test_who_asks_for_one_job_gets_that_or_nothing(bench: Bench):
    bench.ask(1)
    second, _ = bench.ask(2)

    lease = bench.take(only=second.id)
    assert lease is not None
    assert lease.job.id == second.id
    assert bench.take("b", only=second.id) is None
    assert bench.take("b", only="unknown") is None


def test_a_job_of_a_kind_this_program_does_not_know_is_left_for_one_that_does(bench: Bench):
    bench.book.enqueue("paint", {}, scope=HERE)

    assert bench.take() is None
    assert bench.book.due(kinds=KINDS, limit=5) == []
    assert bench.book.claim("b", token="b", kinds={"paint"}) is not None


def test_a_taken_job_is_not_given_to_anybody_else(bench: Bench):
    bench.ask()
    lease = bench.taken("a")

    assert (lease.job.state, lease.job.attempts, lease.job.owner) == ("running", 1, "a")
    assert bench.take("b") is None


def test_a_failure_waits_longer_each_time_and_ends_as_a_dead_letter_with_its_reason():
    bench = Bench(most_attempts=4, first_pause=10, longest_pause=25)
    job, _ = bench.ask()

    pauses = []
    for attempt in (1, 2, 3):
        failed = bench.book.fail(bench.taken(), f"no luck {attempt}")
        assert (failed.state, failed.reason) == ("waiting", f"no luck {attempt}")
        pauses.append(failed.not_before - bench.clock())
        bench.clock.move(pauses[-1] - 0.5)
        assert bench.take() is None
        bench.clock.move(0.5)
    last = bench.book.fail(bench.taken(), "no luck at all")

    assert pauses == [10, 20, 25]
    assert (last.state, last.attempts, last.reason) == ("failed", 4, "no luck at all")
    bench.clock.move(1e6)
    assert bench.take() is None
    assert bench.book.all() == [bench.book.get(job.id)] == [last]


def test_a_hopeless_job_is_tried_once(bench: Bench):
    bench.ask()
    assert bench.book.fail(bench.taken(), "never", hopeless=True).state == "failed"


def test_a_reason_has_a_bound(bench: Bench):
    bench.ask()
    failed = bench.book.fail(bench.taken(), "x" * 10_000)
    assert failed.reason == "x" * 500


def test_a_dead_letter_is_resumed_with_all_its_attempts_and_what_it_had_reached():
    bench = Bench(most_attempts=1)
    job, _ = bench.ask(key="k")
    lease = bench.book.renew(bench.taken(), {"done": 5})
    bench.book.fail(lease, "no luck")

    resumed = bench.book.resume(job.id)

    assert (resumed.state, resumed.attempts, resumed.reason) == ("queued", 0, None)
    assert resumed.progress == {"done": 5}
    assert bench.ask(key="k")[0].id == job.id
    assert bench.taken().job.attempts == 1


def test_resuming_what_has_not_failed_changes_nothing(bench: Bench):
    job, _ = bench.ask()
    assert bench.book.resume(job.id) == job
    done = bench.book.finish(bench.taken(), 7)
    assert bench.book.resume(job.id) == done


def test_resuming_gives_the_newer_job_of_the_same_key_if_there_is_one(bench: Bench):
    old, _ = bench.ask(1, key="k")
    bench.book.cancel(old.id)
    new, _ = bench.ask(2, key="k")

    assert bench.book.resume(old.id).id == new.id
    assert bench.book.get(old.id).state == "cancelled"


def test_a_queued_or_waiting_job_is_cancelled_at_once(bench: Bench):
    queued, _ = bench.ask(1)
    assert bench.book.cancel(queued.id).state == "cancelled"
    assert bench.take() is None

    waiting, _ = bench.ask(2)
    bench.book.fail(bench.taken(), "later")
    assert bench.book.cancel(waiting.id).state == "cancelled"
    assert bench.pointers("jobs-open") == 0


def test_a_running_job_hears_of_being_cancelled_and_gives_up(bench: Bench):
    job, _ = bench.ask()
    lease = bench.taken()

    asked = bench.book.cancel(job.id)
    heard = bench.book.renew(lease)

    assert (asked.state, asked.cancelling) == ("running", True)
    assert heard.job.cancelling
    gone = bench.book.give_up(lease)
    assert (gone.state, gone.cancelling, gone.owner) == ("cancelled", False, None)
    assert bench.book.cancel(job.id) == gone


@pytest.mark.parametrize("end", ["fail", "hand back", "postpone", "its owner dies"])
def test_a_job_that_should_be_cancelled_is_so_however_it_stops(bench: Bench, end: str):
    job, _ = bench.ask()
    lease = bench.taken()
    bench.book.cancel(job.id)

    if end == "fail":
        bench.book.fail(lease, "no luck")
    elif end == "hand back":
        bench.book.hand_back(lease)
    elif end == "postpone":
        bench.book.postpone(lease, "away")
    else:
        bench.dead.add("a")
        assert bench.take("b") is None

    assert bench.book.get(job.id).state == "cancelled"
    assert bench.pointers("jobs-open") == 0


def test_a_job_that_was_done_before_it_heard_of_being_cancelled_is_done(bench: Bench):
    job, _ = bench.ask()
    lease = bench.taken()
    bench.book.cancel(job.id)
    assert bench.book.finish(lease, 1).state == "done"


def test_a_job_handed_back_goes_on_in_the_same_attempt(bench: Bench):
    bench.ask()
    lease = bench.book.renew(bench.taken("a"), {"done": 3})
    assert bench.book.hand_back(lease).state == "queued"

    lease = bench.taken("b")
    assert (lease.job.attempts, lease.job.progress) == (1, {"done": 3})


def test_a_job_that_cannot_go_on_waits_without_losing_an_attempt(bench: Bench):
    bench.ask()
    waiting = bench.book.postpone(bench.taken(), "the store is away")

    assert (waiting.state, waiting.reason) == ("waiting", "the store is away")
    bench.clock.move(waiting.not_before - bench.clock())
    assert bench.taken().job.attempts == 1


def test_a_job_given_again_is_held_anew_by_the_book_too():
    bench = Bench(lease=60)
    bench.ask()
    first = bench.taken("a")
    assert bench.take("b") is None
    bench.wait(50)

    again = bench.taken("a")

    assert again.until == first.until + 50
    assert again.job.owned_until == bench.book.get(again.job.id).owned_until == bench.clock() + 60
    assert again.job.attempts == 1
    assert bench.take("b") is None
    bench.wait(50)
    assert not bench.book.ran_out(again)
    assert bench.take("b") is None
    bench.wait(10)
    assert bench.taken("b").job.attempts == 1


def test_a_lease_that_is_renewed_is_kept_and_one_that_ran_out_is_taken_over():
    bench = Bench(lease=60)
    bench.ask()
    lease = bench.taken("a")
    for _ in range(5):
        bench.wait(50)
        lease = bench.book.renew(lease)
        assert bench.take("b") is None

    bench.wait(60)
    other = bench.taken("b")

    assert other.job.attempts == 1
    for too_late in (
        lambda: bench.book.renew(lease),
        lambda: bench.book.finish(lease, 1),
        lambda: bench.book.fail(lease, "no"),
        lambda: bench.book.hand_back(lease),
        lambda: bench.book.give_up(lease),
    ):
        with pytest.raises(LeaseLost):
            too_late()
    assert bench.book.finish(other, 2).result == 2


def test_renewing_writes_only_when_there_is_something_to_say_or_half_the_time_is_over():
    bench = Bench(lease=60)
    job, _ = bench.ask()
    lease = bench.taken()
    place = Key(HERE, ("jobs", job.id))

    def revision() -> int:
        record = bench.memory.get(place)
        assert record is not None
        return record.revision

    before = revision()
    bench.wait(29)
    lease = bench.book.renew(lease, {})
    assert revision() == before
    bench.wait(2)
    lease = bench.book.renew(lease)
    assert revision() > before
    before = revision()
    bench.book.renew(lease, {"done": 1})
    assert revision() > before


HOURS = (3 * 3600.0, -7 * 3600.0, 365 * 24 * 3600.0, -2 * 365 * 24 * 3600.0)


@pytest.mark.parametrize("jump", HOURS)
def test_a_clock_that_jumps_holds_up_no_job_that_waits(bench: Bench, jump: float):
    bench.ask()
    bench.book.fail(bench.taken("a"), "no")

    bench.clock.move(jump)

    assert bench.taken("a").job.attempts == 2


@pytest.mark.parametrize("jump", HOURS)
def test_a_clock_that_jumps_takes_no_job_from_a_living_owner(jump: float):
    bench = Bench(lease=60)
    bench.ask()
    lease = bench.taken("a")

    for _ in range(5):
        bench.clock.move(jump)
        assert bench.take("b") is None
        assert not bench.book.ran_out(lease)
        bench.wait(50)
        assert bench.take("b") is None
        lease = bench.book.renew(lease)
    assert bench.book.finish(lease, 1).state == "done"


@pytest.mark.parametrize("jump", HOURS)
def test_a_clock_that_jumps_leaves_no_job_with_an_owner_nobody_hears_of(jump: float):
    bench = Bench(lease=60)
    bench.ask()
    lease = bench.taken("a")
    bench.clock.move(jump)
    assert bench.take("b") is None

    bench.wait(59)
    assert bench.take("b") is None
    bench.wait(1)

    assert bench.book.ran_out(lease)
    assert bench.taken("b").job.attempts == 1
    with pytest.raises(LeaseLost):
        bench.book.renew(lease)


def test_who_comes_new_looks_on_for_a_whole_lease(bench: Bench):
    bench.ask()
    bench.taken("a")
    bench.wait(3600)
    new = bench.book.over(bench.store)

    assert new.claim("b", token="b", kinds=KINDS) is None
    bench.wait(bench.book.rules.lease)

    assert new.claim("b", token="b", kinds=KINDS) is not None


def test_who_has_a_lease_stops_before_anybody_else_may_take_the_job(bench: Bench):
    """Even where the store took its time to write it."""
    bench.ask()
    bench.store.held_at = bench.store.calls + 3
    bench.store.meanwhile = lambda: bench.wait(30)
    lease = bench.taken("a")
    assert bench.take("b") is None

    bench.wait(bench.book.rules.lease - 30)

    assert bench.book.ran_out(lease)
    assert bench.take("b") is None


def test_a_lease_on_a_job_that_is_in_the_book_no_more_is_lost(bench: Bench):
    bench.ask()
    lease = bench.taken("a")
    for key, record in bench.memory.scan(None):
        bench.memory.swap(key, None, expected=record.revision)

    with pytest.raises(LeaseLost):
        bench.book.renew(lease, {"done": 1})


def test_the_job_of_a_dead_owner_is_taken_over_at_once(bench: Bench):
    bench.ask()
    bench.taken("a")
    bench.dead.add("a")
    assert [job.owner for job in bench.book.due(kinds=KINDS, limit=5)] == ["a"]
    assert bench.taken("b").job.attempts == 1


def test_a_job_that_kills_its_process_at_the_same_place_again_and_again_is_a_dead_letter():
    bench = Bench(most_deaths=3)
    job, _ = bench.ask()
    for number in range(3):
        lease = bench.taken(str(number))
        bench.book.renew(lease, {"done": 5})
        bench.dead.add(str(number))

    assert bench.take("last") is None
    failed = bench.book.get(job.id)
    assert failed.state == "failed"
    assert (failed.reason or "").startswith("the process that ran it died 3 times at the same")


def test_a_job_that_gets_further_each_time_may_lose_its_process_as_often_as_it_likes():
    bench = Bench(most_deaths=3)
    bench.ask()
    for number in range(10):
        bench.book.renew(bench.taken(str(number)), {"done": number})
        bench.dead.add(str(number))
    assert bench.taken("last").job.attempts == 1


def test_what_a_work_noted_stays_while_the_job_may_go_on_and_no_longer():
    bench = Bench(keep=2)
    jobs = [bench.ask(number)[0] for number in range(4)]
    ends = (
        lambda lease: bench.book.finish(lease, 1),
        lambda lease: bench.book.fail(lease, "no", hopeless=True),
        lambda lease: bench.book.hand_back(lease),
    )
    for end in ends:
        lease = bench.taken()
        bench.memory.append(notes_of(lease.job), [1, 2])
        end(lease)

    assert [log for log, _ in bench.memory.logs()] == [notes_of(job) for job in jobs[1:3]]

    for _ in range(2):
        bench.clock.move(1)
        bench.book.finish(bench.taken(), 1)
    assert list(bench.memory.logs()) == []  # the second job is forgotten itself


def test_only_so_many_ended_jobs_are_kept_per_scope_and_the_oldest_go():
    bench = Bench(keep=3)
    bench.ask(100, scope=THERE)
    bench.book.finish(bench.taken(), None)
    waiting, _ = bench.ask(99, key="waits")
    bench.book.fail(bench.taken(), "later")
    ended = []
    for number in range(5):
        bench.clock.move(1)
        job, _ = bench.ask(number)
        bench.book.cancel(job.id)
        ended.append(job.id)

    kept = [job.id for job in bench.book.all(scope=HERE)]

    assert kept == [*ended[:1:-1], waiting.id]
    assert len(bench.book.all(scope=THERE)) == 1
    with pytest.raises(UnknownJob):
        bench.book.get(ended[0])
    assert bench.pointers("jobs-where") == 5
    assert len(list(bench.memory.scan(Key(HERE, ("jobs-by-key", "count"))))) == 4


def test_a_job_that_took_long_is_not_forgotten_at_its_end():
    bench = Bench(keep=2)
    long, _ = bench.ask(0)
    lease = bench.taken()
    for number in range(1, 5):
        bench.clock.move(1)
        bench.book.cancel(bench.ask(number)[0].id)
    bench.clock.move(1)

    bench.book.finish(lease, "at last")

    assert bench.book.get(long.id).result == "at last"
    assert len(bench.book.all(scope=HERE)) == 2


def test_open_jobs_have_a_bound_and_one_sentence():
    bench = Bench(most_open=2)
    bench.ask(1)
    bench.ask(2)

    with pytest.raises(TooManyJobs, match="2 jobs have not ended yet; cancel some"):
        bench.ask(3)
    assert not bench.ask(2)[1]  # the one that is there may be asked for
    bench.book.finish(bench.taken(), None)
    assert bench.ask(3)[1]


@pytest.mark.parametrize("name", ["lease", "most_attempts", "keep", "most_open"])
def test_rules_that_make_no_sense_are_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        BookRules(**{name: 0})


def test_a_result_that_is_not_json_is_refused_before_anything_is_written(bench: Bench):
    job, _ = bench.ask()
    with pytest.raises(TypeError):
        bench.book.finish(bench.taken(), object())
    assert bench.book.get(job.id).state == "running"


def together(*calls) -> list[Json]:
    """What calls return that begin at the same moment, in threads."""
    barrier, found = threading.Barrier(len(calls)), [None] * len(calls)

    def one(index: int) -> None:
        barrier.wait()
        found[index] = calls[index]()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_many_who_ask_for_the_same_at_once_one_makes_the_job():
    for _ in range(20):
        bench = Bench()
        others = [JobBook(bench.store, clock=bench.clock) for _ in range(4)]
        placed = together(*(partial(book.place, "count", {}, scope=HERE) for book in others))
        assert len({job.id for job, _ in placed}) == 1
        assert sum(new for _, new in placed) == 1
        assert len(bench.book.all()) == bench.pointers("jobs-open") == 1


def test_of_many_who_want_a_job_at_once_one_gets_it():
    for _ in range(20):
        bench = Bench()
        bench.ask()
        leases = together(*(partial(bench.take, owner) for owner in "abcd"))
        assert sum(lease is not None for lease in leases) == 1


def test_resuming_and_asking_anew_at_once_leave_one_live_job():
    for _ in range(20):
        bench = Bench()
        old, _ = bench.ask(key="k")
        bench.book.cancel(old.id)
        together(
            partial(bench.book.resume, old.id),
            partial(bench.ask, key="k"),
            partial(bench.book.resume, old.id),
        )
        assert sum(not job.ended for job in bench.book.all()) == 1
        assert bench.take() is not None
        assert bench.take("b") is None


def prepared(bench: Bench, action: str) -> Callable[[], object]:
    """All but the last step of something, which is returned."""
    if action == "place":
        return lambda: bench.ask(key="k")
    if action == "forget":
        bench.book.cancel(bench.ask(0)[0].id)
    job, _ = bench.ask(key="k")
    if action == "take":
        return bench.take
    if action == "cancel":
        return lambda: bench.book.cancel(job.id)
    lease = bench.taken()
    if action == "hand back":
        return lambda: bench.book.hand_back(lease)
    if action == "resume":
        bench.book.fail(lease, "no", hopeless=True)
        return lambda: bench.book.resume(job.id)
    return lambda: bench.book.finish(lease, 1)


ACTIONS = ["place", "resume", "take", "finish", "hand back", "cancel", "forget"]


@pytest.mark.parametrize("action", ACTIONS)
def test_wherever_a_process_is_killed_asking_again_gives_one_job_that_is_done(action: str):
    """Killed before its first call of the store, before its second, and so on to its last."""
    for number in itertools.count(1):
        bench = Bench(keep=1)
        act = prepared(bench, action)
        bench.store.killed_at = bench.store.calls + number
        try:
            act()
        except Killed:
            survived = False
        else:
            survived = True
        bench.dead.add("a")
        bench.store.killed_at = None

        bench.book.mend()
        bench.clock.move(0.001)
        job, _ = bench.ask(key="k")
        lease = bench.taken("b")
        assert lease.job.id == job.id
        bench.book.finish(lease, "done")

        assert bench.book.get(job.id).result == "done"
        assert bench.take("c") is None
        assert [one for one in bench.book.all() if not one.ended] == []
        if survived:
            assert number > 1
            return


@pytest.mark.parametrize("other", ["ask", "resume", "take", "cancel", "mend"])
@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_another_process_does_between_two_steps_there_is_at_most_one_live_job(
    action: str, other: str
):
    """Held before its first call of the store, before its second, and so on to its last."""
    for number in itertools.count(1):
        bench = Bench(keep=1)
        act = prepared(bench, action)
        theirs = JobBook(bench.memory, clock=bench.clock, rules=bench.book.rules)
        listed = [job for job in theirs.all() if job.key == "k"]
        taken: list[Lease | None] = []
        bench.store.held_at = bench.store.calls + number
        bench.store.meanwhile = {
            "ask": lambda theirs=theirs: theirs.enqueue("count", {}, scope=HERE, key="k"),
            "resume": lambda theirs=theirs, listed=listed: [theirs.resume(j.id) for j in listed],
            "take": lambda theirs=theirs, taken=taken: taken.append(
                theirs.claim("b", token="token of b", kinds=KINDS)
            ),
            "cancel": lambda theirs=theirs, listed=listed: [theirs.cancel(j.id) for j in listed],
            "mend": theirs.mend,
        }[other]

        mine = act()

        survived = bench.store.calls < bench.store.held_at
        bench.store.held_at = None
        live = [job for job in theirs.all() if not job.ended and job.key == "k"]
        assert len(live) <= 1, number
        if action == "place" or (action, other) == ("resume", "ask"):
            assert len(live) == 1, number
        if isinstance(mine, Lease):
            assert taken in ([], [None])
        asked, _ = bench.ask(key="k")
        assert [job.id for job in live] in ([], [asked.id])
        if not any(taken) and not isinstance(mine, Lease) and asked.state == "queued":
            assert bench.taken("c").job.id == asked.id  # and it can be found
        if survived:
            return


@pytest.mark.parametrize("action", ACTIONS)
def test_a_store_that_goes_away_in_the_middle_of_a_write_is_waited_for_and_nothing_is_done_twice(
    action: str,
):
    for number in itertools.count(1):
        bench = Bench(keep=1)
        act = prepared(bench, action)
        swaps = 0
        plain = bench.store.swap

        def swap(key: Key, value: Json, *, expected: int, number=number, plain=plain) -> int | None:
            nonlocal swaps
            done = plain(key, value, expected=expected)
            swaps += 1
            if swaps == number:
                raise StorageAway("in the middle")
            return done

        bench.store.swap = swap  # type: ignore[method-assign]
        bench.book.storage = patiently(bench.store, tell=lambda _: None, sleep=lambda _: None)
        happened = act()

        live = [job for job in bench.book.all() if not job.ended]
        if action == "take":
            assert isinstance(happened, Lease)
            assert happened.job.attempts == 1
        assert len(live) == (0 if action in ("finish", "cancel", "forget") else 1)
        assert len(bench.book.all()) <= 2
        if swaps < number:
            return


def test_a_pointer_to_a_job_that_was_never_written_is_cleared_when_it_is_old(bench: Bench):
    bench.store.killed_at = bench.store.calls + 9  # after the pointers, before the job
    with pytest.raises(Killed):
        bench.ask()
    assert bench.pointers("jobs-open") == 1
    assert bench.book.all() == []

    assert bench.take() is None
    assert bench.pointers("jobs-open") == 1  # it may be on its way
    bench.clock.move(3601)
    assert bench.take() is None
    bench.book.mend()

    assert (bench.pointers("jobs-open"), bench.pointers("jobs-where")) == (0, 0)


def test_a_job_without_its_pointer_is_found_again_by_mending(bench: Bench):
    job, _ = bench.ask()
    record = bench.memory.get(Key(Scope(), ("jobs-open", job.id)))
    assert record is not None
    bench.memory.swap(Key(Scope(), ("jobs-open", job.id)), None, expected=record.revision)
    assert bench.take() is None

    bench.book.mend()

    assert bench.taken().job.id == job.id


def test_requests_do_not_wait_for_a_store_that_is_away(bench: Bench):
    bench.store.away = True
    with pytest.raises(StorageAway, match="cannot be reached"):
        bench.ask()
    bench.store.away = False
    assert bench.memory.swap(Key(HERE, ("x",)), 1, expected=ABSENT) is not None
