"""Runs jobs as Redis hands them out, so that several processes share the work (extra `redis`).

Only ids go through the queue; the book stays the truth. A message about a job that is in other
hands or over is dropped; one that was lost is sent again by whoever has nothing to do.

Why dramatiq: its workers are threads that we start in our own process, so a model's CUDA context is
never forked; messages are JSON; delays, acknowledgement and handing back at the end are built in;
and it is kept well. RQ forks per job and pickles by default; Celery forks as well unless talked out
of it, and is ten times the size. None of its middleware is used: retries and dead letters are the
book's, and its time limit would end a job after ten minutes by an exception from nowhere.
"""

import logging
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping

import redis
from dramatiq import Actor, Worker
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import StorageAway
from ..storage.address import redacted
from ..storage.base import Json
from ..storage.patience import BOUND, Wait, patiently
from .base import QUEUED, WAITING, Job, Works
from .book import JobBook
from .owner import this_process
from .running import Pace, Running, sentence

logger = logging.getLogger(__name__)

NAMESPACE, QUEUE, ACTOR = "cliper-queue", "jobs", "work_on"  # the store's keys: cliper:
ANSWER_S = 5.0  # seconds Redis may take
LONGEST_DELAY = 3600.0  # seconds; who waits longer is looked for in the book
SENT_AGAIN = 100  # messages sent in one look into the book, or kept until they can be sent


class DramatiqRunner:
    """Implements Runner; started once. Redis is first spoken to by `start`."""

    def __init__(
        self,
        book: JobBook,
        works: Works,
        *,
        url: str,
        namespace: str = NAMESPACE,
        pace: Pace | None = None,
        patience: float = BOUND,
        explain: Callable[[BaseException], str] = sentence,
    ) -> None:
        """`url`: `redis://host:port/number`, or `rediss:`, `unix:`. Whoever shares it and
        `namespace` shares the jobs.

        `patience`, `explain`: as EmbeddedRunner has them.
        """
        self._works, self._pace, self._explain = works, pace or Pace(), explain
        self._wait = Wait()
        self._closing, self._woken = threading.Event(), threading.Event()
        store = patiently(
            book.storage,
            tell=self._wait,
            for_seconds=patience,
            sleep=self._closing.wait,
            stop=self._closing.is_set,
        )
        self._book, self._patient = book, book.over(store)
        self._token = secrets.token_hex(8)
        self._running: Running | None = None
        self._begun = 0  # messages taken up; who took up none for a while has read all there are
        self._unsent: deque[Job] = deque(maxlen=SENT_AGAIN)
        self._counts: Mapping[str, int] = {}
        self._away: str | None = None
        self._place = f"Redis at {redacted(url)}"
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1),
        )
        self._broker = RedisBroker(client=self._client, middleware=[], namespace=namespace)
        self._actor: Actor[[str], None] = Actor(
            self._work_on, broker=self._broker, actor_name=ACTOR, queue_name=QUEUE, priority=0,
            options={},
        )  # fmt: skip
        # ms between two questions for messages: short, so that each look finds the queue read
        timeout = max(1, min(1000, round(1000 * self._pace.look / 2)))
        self._worker = Worker(self._broker, worker_timeout=timeout, worker_threads=1)
        self._worker.queue_prefetch = 1  # a message never waits in the hands of who is busy
        self._thread = threading.Thread(target=self._look, name="jobs", daemon=True)

    def start(self) -> None:
        """See Runner."""
        self._worker.start()
        self._thread.start()

    def wake(self, job: Job) -> None:
        """See Runner. Never waits for Redis; while it is away, the book knows the job."""
        running = self._running
        if running is not None and running.job.id == job.id:
            running.look()
        elif job.state in (QUEUED, WAITING):
            self._unsent.append(job)
            self._woken.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """See Runner. A work that does not pause in time goes on until the process ends."""
        self._closing.set()
        self._woken.set()
        running = self._running
        if running is not None:
            running.stop()
        if self._thread.is_alive():
            self._thread.join(seconds)
        try:
            self._worker.stop(timeout=round(1000 * seconds))
        except redis.RedisError as error:
            logger.warning("messages are not handed back, the book knows their jobs: %s", error)
        if self._running is not None:
            logger.warning("a job does not stop in time; the next process takes it over")
        self._client.close()

    def facts(self) -> Mapping[str, Json]:
        """See Runner."""
        running = self._running
        return {
            "runner": "dramatiq",
            "store": self._book.storage.name,
            "queue": self._place,
            "open": dict(self._counts),
            "at_work": None if running is None else running.job.id,
            "waiting_for": self._wait.sentence or self._away,
        }

    def _work_on(self, job_id: str) -> None:
        """What a message does; never raises, since what becomes of a job is the book's matter."""
        self._begun += 1
        try:
            if not self._closing.is_set():
                self._do(job_id)
            else:
                self._send(self._book.get(job_id))
        except StorageAway as away:
            self._note(str(away))
        except Exception:
            logger.exception("job %s could not be taken up; it is looked for again", job_id)

    def _do(self, job_id: str) -> None:
        lease = self._patient.claim(
            this_process(), token=self._token, kinds=self._works, only=job_id
        )
        if lease is None:
            return
        running = Running(self._book, lease, pace=self._pace, wait=self._wait)
        self._running = running
        if self._closing.is_set():  # came between the claim and here
            running.stop()
        try:
            ended = running.run(self._works, explain=self._explain, settle=self._patient)
        finally:
            self._running = None
        if ended is not None and ended.state in (QUEUED, WAITING):
            self._send(ended)

    def _send(self, job: Job) -> None:
        """Put a message about a job into the queue, or leave it to a later look."""
        seconds = min(max(0.0, job.not_before - self._book.clock()), LONGEST_DELAY)
        waits = job.state == WAITING and seconds > 0
        delay = math.ceil(1000 * seconds) + 1 if waits else None  # ms; never too early
        try:
            self._broker.enqueue(self._actor.message(job.id), delay=delay)
        except redis.RedisError as error:
            self._note(f"the queue at {self._place} is away: {error}")

    def _look(self) -> None:
        """Send again what was lost with a process or with Redis, whenever there is nothing to do.

        Who took up no message since the last look has read all there are: a job that is to be had
        nevertheless has none. So messages do not pile up, however long a job takes.
        """
        mended, begun = False, self._begun
        while not self._closing.is_set():
            self._woken.clear()
            try:
                while self._unsent:
                    self._send(self._unsent.popleft())
                if not mended:
                    self._patient.mend()
                    mended = True
                self._counts = self._patient.counts()
                self._client.ping()
                self._note(None)
                if self._running is None and self._begun == begun:
                    for job in self._patient.due(kinds=self._works, limit=SENT_AGAIN):
                        self._send(job)
                begun = self._begun
            except redis.RedisError as error:
                self._note(f"the queue at {self._place} is away: {error}")
            except StorageAway as away:
                self._note(str(away))
            except Exception as error:
                logger.exception("jobs cannot be looked for")
                self._note(sentence(error))
            self._woken.wait(self._pace.look)

    def _note(self, sentence: str | None) -> None:
        """What keeps jobs from being handed out; logged when it begins and when it ends."""
        if sentence is not None and self._away is None and not self._closing.is_set():
            logger.warning("jobs wait: %s", sentence)
        elif sentence is None and self._away is not None:
            logger.info("jobs are handed out again")
        self._away = sentence
