"""Jobs across real processes, real stores, and a Redis that is stopped in the middle."""

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.jobs.base import Handle, Runner
from backend.jobs.book import JobBook
from backend.jobs.dramatiq_runner import DramatiqRunner
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.storage.base import Json
from backend.storage.open import open_storage

from ..doubles.job_process import RULES, SCOPE
from ..doubles.redis_server import RedisServer
from ..doubles.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
QUICK = Pace(look=0.05, beat=0.02, write=0.01)
PLACES = [("embedded", "sqlite"), ("dramatiq", "sqlite"), ("dramatiq", "redis")]


class Process:
    """A process that runs jobs, and what it says."""

    def __init__(self, runner: str, store: str, queue_url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.job_process", runner, store, queue_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._said: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def hear(self, end: str) -> str:
        """The next line that ends so."""
        while not (line := self._said.get(timeout=PATIENCE)).endswith(end):
            pass
        return line

    def kill(self) -> None:
        """SIGKILL; not waited for, so it stays as a dead process for a while."""
        self._process.kill()

    def close(self) -> None:
        """Let it end in order, if it still lives."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.rstrip("\n"))


class Site:
    """Where the jobs lie, and the processes there."""

    def __init__(self, runner: str, store: str, queue_url: str) -> None:
        self.runner, self.store, self.queue_url = runner, store, queue_url
        self.storage = open_storage(store, max_blob_bytes=1000)
        self.book = JobBook(self.storage, rules=RULES)
        self.processes: list[Process] = []

    def process(self, runner: str | None = None) -> Process:
        self.processes.append(Process(runner or self.runner, self.store, self.queue_url))
        return self.processes[-1]


@pytest.fixture(autouse=True)
def no_runner_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that fails leaves no threads behind that disturb others."""
    started: list[DramatiqRunner] = []
    plain = DramatiqRunner.start

    def start(runner: DramatiqRunner) -> None:
        started.append(runner)
        plain(runner)

    monkeypatch.setattr(DramatiqRunner, "start", start)
    yield
    for runner in started:
        runner.close()


@pytest.fixture(params=PLACES, ids=" over ".join)
def site(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Iterator[Site]:
    runner, store = request.param
    address = redis_server.url if store == "redis" else f"sqlite:///{tmp_path}/jobs.sqlite"
    made = Site(runner, address, redis_server.url)
    yield made
    for process in made.processes:
        process.close()
    made.storage.close()


def test_a_process_killed_in_the_middle_of_a_job_is_followed_by_one_that_goes_on(site: Site):
    job = site.book.enqueue("count", {"to": 8, "hold": 4}, scope=SCOPE)
    first = site.process()
    first.hear("count 4")
    until(lambda: site.book.get(job.id).progress == {"done": 4})
    second = site.process()
    second.hear("ready")
    assert site.book.get(job.id).owner.split(":")[1] == str(first.pid)

    first.kill()

    assert second.hear("count 5") == f"{second.pid} count 5"
    until(lambda: site.book.get(job.id).ended)
    done = site.book.get(job.id)
    assert (done.state, done.attempts, done.result) == ("done", 1, {"counted": 8, "from": 4})


def test_a_process_that_ends_in_order_hands_its_job_to_the_next_one(site: Site):
    job = site.book.enqueue("count", {"to": 8, "hold": 4}, scope=SCOPE)
    first = site.process()
    first.hear("count 4")

    first.close()

    back = site.book.get(job.id)
    assert (back.state, back.progress, back.owner) == ("queued", {"done": 4}, None)
    site.process()
    until(lambda: site.book.get(job.id).ended)
    done = site.book.get(job.id)
    assert (done.attempts, done.result) == (1, {"counted": 8, "from": 4})


def test_processes_that_ask_for_the_same_at_once_get_the_same_job(site: Site):
    asking = [site.process("place k") for _ in range(3)]

    ids = {process.hear("") for process in asking}

    assert ids == {job.id for job in site.book.all()}
    assert len(ids) == 1


@pytest.fixture
def kept_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, to be stopped and started."""
    server = RedisServer(tmp_path / "redis", "--appendfsync", "always")
    with server:
        yield server


@pytest.mark.parametrize("name", ["embedded", "dramatiq"])
def test_a_redis_that_is_stopped_and_started_again_is_waited_for(
    name: str, kept_redis: RedisServer
):
    inside, leave = threading.Event(), threading.Event()

    def work(handle: Handle) -> Json:
        handle.tell({"done": 1})
        inside.set()
        while not leave.is_set():
            handle.wait(0.001)
        handle.tell({"done": 2})
        return "whole"

    storage = open_storage(kept_redis.url, max_blob_bytes=1000)
    book = JobBook(storage)
    runner: Runner
    if name == "embedded":
        runner = EmbeddedRunner(book, {"work": work}, pace=QUICK)
    else:
        runner = DramatiqRunner(book, {"work": work}, url=kept_redis.url, pace=QUICK)
    runner.start()
    job = book.enqueue("work", {}, scope=SCOPE)
    runner.wake(job)
    assert inside.wait(PATIENCE)
    until(lambda: book.get(job.id).progress == {"done": 1})

    kept_redis.stop()
    until(lambda: runner.facts()["waiting_for"] is not None)
    said = str(runner.facts()["waiting_for"])
    leave.set()
    kept_redis.start()

    until(lambda: book.get(job.id).ended)
    done = book.get(job.id)
    assert (done.state, done.result, done.attempts) == ("done", "whole", 1)
    assert done.progress == {"done": 2}
    assert str(kept_redis.port) in said
    until(lambda: runner.facts()["waiting_for"] is None)
    later = book.enqueue("work", {"another": True}, scope=SCOPE)
    runner.wake(later)
    until(lambda: book.get(later.id).state == "done")
    runner.close()
    storage.close()


def test_a_job_asked_for_while_the_queue_is_away_is_done_when_it_is_back(
    tmp_path: Path, kept_redis: RedisServer
):
    storage = open_storage(f"sqlite:///{tmp_path}/jobs.sqlite", max_blob_bytes=1000)
    book = JobBook(storage)
    runner = DramatiqRunner(book, {"work": lambda handle: 1}, url=kept_redis.url, pace=QUICK)
    runner.start()
    kept_redis.stop()

    job = book.enqueue("work", {}, scope=SCOPE)
    runner.wake(job)
    until(lambda: runner.facts()["waiting_for"] is not None)
    waiting = str(runner.facts()["waiting_for"])
    kept_redis.start()

    until(lambda: book.get(job.id).state == "done")
    assert waiting.startswith(f"the queue at Redis at {kept_redis.url} is away")
    runner.close()
    storage.close()


def test_messages_that_were_taken_and_lost_are_sent_again_from_the_book(
    tmp_path: Path, kept_redis: RedisServer
):
    storage = open_storage(f"sqlite:///{tmp_path}/jobs.sqlite", max_blob_bytes=1000)
    book = JobBook(storage)
    jobs = [book.enqueue("work", {"number": number}, scope=SCOPE) for number in range(3)]
    old = DramatiqRunner(book, {}, url=kept_redis.url, pace=QUICK)  # does not know such work
    old.start()
    for job in jobs:
        old.wake(job)
    until(lambda: old._begun == len(jobs))
    old.close()
    assert [book.get(job.id).state for job in jobs] == ["queued"] * 3

    runner = DramatiqRunner(book, {"work": lambda handle: 1}, url=kept_redis.url, pace=QUICK)
    runner.start()

    for job in jobs:
        until(lambda job=job: book.get(job.id).state == "done")
    runner.close()
    storage.close()


def test_messages_do_not_pile_up_while_a_long_job_keeps_the_runner_busy(
    tmp_path: Path, kept_redis: RedisServer
):
    inside, leave = threading.Event(), threading.Event()

    def work(handle: Handle) -> Json:
        inside.set()
        while not leave.is_set():
            handle.wait(0.001)
        return None

    storage = open_storage(f"sqlite:///{tmp_path}/jobs.sqlite", max_blob_bytes=1000)
    book = JobBook(storage)
    runner = DramatiqRunner(book, {"work": work}, url=kept_redis.url, pace=QUICK)
    runner.start()
    jobs = [book.enqueue("work", {"number": number}, scope=SCOPE) for number in range(5)]
    for job in jobs:
        runner.wake(job)
    assert inside.wait(PATIENCE)
    looks, client = Looks(runner), kept_redis.client
    until(lambda: looks.count > 2)  # a look that began before the job did is over
    before = client.llen("cliper-queue:jobs")
    until(lambda: looks.count > 20)
    after = client.llen("cliper-queue:jobs")
    client.close()
    leave.set()

    assert after == before
    for job in jobs:
        until(lambda job=job: book.get(job.id).state == "done")
    runner.close()
    storage.close()


def test_a_busy_runner_keeps_no_messages_from_one_that_is_free(
    tmp_path: Path, kept_redis: RedisServer
):
    held = [threading.Event(), threading.Event()]

    def work(handle: Handle) -> Json:
        number = handle.job.params["number"]
        while number < len(held) and not held[number].is_set():
            handle.wait(0.001)
        return None

    storage = open_storage(f"sqlite:///{tmp_path}/jobs.sqlite", max_blob_bytes=1000)
    book = JobBook(storage)
    hourly = Pace(look=3600.0, beat=0.02, write=0.01)  # nobody finds anything in the book
    runners = [DramatiqRunner(book, {"work": work}, url=kept_redis.url, pace=hourly) for _ in held]
    for runner in runners:
        runner.start()
        until(lambda runner=runner: runner.facts()["open"] != {})
    jobs = [book.enqueue("work", {"number": number}, scope=SCOPE) for number in range(12)]
    for job in jobs:
        runners[0].wake(job)
    for job in jobs[:2]:
        until(lambda job=job: book.get(job.id).state == "running")

    held[0].set()

    for job in (jobs[0], *jobs[2:]):
        until(lambda job=job: book.get(job.id).state == "done")
    assert book.get(jobs[1].id).state == "running"
    held[1].set()
    until(lambda: book.get(jobs[1].id).state == "done")
    for runner in runners:
        runner.close()
    storage.close()


class Looks:
    """How often a runner has looked into its book since then."""

    def __init__(self, runner: DramatiqRunner) -> None:
        self.count = 0
        plain = runner._patient.counts

        def counts() -> dict[str, int]:
            self.count += 1
            return plain()

        runner._patient.counts = counts  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:secret@somewhere:7/2", "Redis at redis://:***@somewhere:7/2"),
        ("unix:///run/redis.sock", "Redis at unix:///run/redis.sock"),
    ],
)
def test_where_the_queue_is_can_be_read_without_its_password(url: str, place: str):
    book = JobBook(open_storage("memory:", max_blob_bytes=0))
    assert DramatiqRunner(book, {}, url=url).facts()["queue"] == place
