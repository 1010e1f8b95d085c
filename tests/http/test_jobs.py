"""`/jobs`: who may ask, what is answered, and that nobody waits for a store that is away."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.errors import BadRequest
from backend.jobs.base import Handle, Hopeless, Job
from backend.jobs.book import BookRules, JobBook
from backend.jobs.desk import JobDesk, JobKind
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.storage.base import Json, Scope
from backend.storage.memory import MemoryStorage

from ..doubles.away_storage import AwayStorage
from ..doubles.waiting import PATIENCE, Clock, until
from .conftest import StartService

LOCAL = {"base_url": "http://127.0.0.1:9090"}


def read_count(sent: Mapping[str, Json]) -> Mapping[str, Json]:
    if not isinstance(sent.get("project"), int):
        raise BadRequest("project must be a number")
    return {"project": sent["project"], "to": sent.get("to", 3)}


COUNT = JobKind(
    read=read_count,
    scope=lambda params: Scope("http://here:8080", str(params["project"])),
    key=lambda params: str(params["project"]),
)


@dataclass
class Counting:
    """The service with jobs that count; `client` speaks from this machine."""

    client: FlaskClient
    store: AwayStorage
    book: JobBook
    inside: threading.Event
    leave: threading.Event

    def post(self, body: Any, **more: Any) -> Any:
        return self.client.post("/jobs", json=body, **{**LOCAL, **more})

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **{**LOCAL, **more})

    def until(self, job_id: str, state: str) -> dict[str, Any]:
        until(lambda: self.get(f"/jobs/{job_id}").get_json()["state"] == state, state)
        found: dict[str, Any] = self.get(f"/jobs/{job_id}").get_json()
        return found


StartCounting = Callable[..., Counting]


@pytest.fixture
def start_counting(start_service: StartService) -> Iterator[StartCounting]:
    runners = []

    def start(**settings: Any) -> Counting:
        inside, leave = threading.Event(), threading.Event()

        def work(handle: Handle) -> Json:
            inside.set()
            if handle.job.params["to"] == 0:
                raise Hopeless("there is nothing to count")
            handle.tell({"done": 1})
            while not leave.is_set():
                handle.wait(0.001)
            return {"counted": handle.job.params["to"]}

        store = AwayStorage(MemoryStorage(max_blob_bytes=0))
        book = JobBook(store, clock=Clock(1_800_000_000.0), rules=BookRules(most_open=3))
        runner = EmbeddedRunner(book, {"count": work}, pace=Pace(look=0.01, beat=0.01, write=0.001))
        runners.append(runner)
        plain = start_service(**settings).services
        services = replace(plain, jobs=JobDesk(jobs=book, runner=runner, kinds={"count": COUNT}))
        services.start()
        return Counting(create_app(services).test_client(), store, book, inside, leave)

    yield start
    for runner in runners:
        runner.close()


@pytest.fixture
def counting(start_counting: StartCounting) -> Counting:
    return start_counting()


def test_a_job_is_asked_for_watched_and_read(counting: Counting):
    answer = counting.post({"kind": "count", "project": 12})

    assert answer.status_code == 202
    job = answer.get_json()
    assert counting.inside.wait(PATIENCE)
    until(lambda: counting.get(f"/jobs/{job['id']}").get_json()["progress"] == {"done": 1})
    running = counting.get(f"/jobs/{job['id']}").get_json()
    counting.leave.set()
    done = counting.until(job["id"], "done")

    assert running == {
        "id": job["id"],
        "kind": "count",
        "state": "running",
        "progress": {"done": 1},
        "result": None,
        "reason": None,
        "attempts": 1,
        "created": "2027-01-15T08:00:00+00:00",
        "changed": "2027-01-15T08:00:00+00:00",
        "cancelling": False,
        "params": {"project": 12, "to": 3},
    }
    assert done["result"] == {"counted": 3}


def test_asking_again_gives_the_job_that_is_under_way(counting: Counting):
    first = counting.post({"kind": "count", "project": 12})
    again = counting.post({"kind": "count", "project": 12, "to": 9})

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.get_json()["id"] == first.get_json()["id"]


def test_jobs_are_listed_newest_first_and_by_project(counting: Counting):
    assert counting.get("/jobs").get_json() == {"jobs": []}
    ids = [counting.post({"kind": "count", "project": n}).get_json()["id"] for n in (1, 12)]

    listed = counting.get("/jobs").get_json()["jobs"]
    of_one = counting.get("/jobs?project=1").get_json()["jobs"]

    assert [job["id"] for job in listed] == ids[::-1]
    assert [job["id"] for job in of_one] == ids[:1]
    assert counting.get("/jobs?project=2").get_json() == {"jobs": []}


def test_a_running_job_is_cancelled_and_resumed(counting: Counting):
    job_id = counting.post({"kind": "count", "project": 12}).get_json()["id"]
    assert counting.inside.wait(PATIENCE)

    asked = counting.client.delete(f"/jobs/{job_id}", **LOCAL)
    counting.until(job_id, "cancelled")
    counting.leave.set()
    resumed = counting.client.post(f"/jobs/{job_id}/resume", json={}, **LOCAL)

    assert asked.status_code == resumed.status_code == 200
    assert asked.get_json()["cancelling"] or asked.get_json()["state"] == "cancelled"
    assert resumed.get_json()["id"] == job_id
    assert counting.until(job_id, "done")["result"] == {"counted": 3}


def test_a_dead_letter_stays_listed_with_its_reason(counting: Counting):
    job_id = counting.post({"kind": "count", "project": 12, "to": 0}).get_json()["id"]
    counting.until(job_id, "failed")

    (job,) = counting.get("/jobs").get_json()["jobs"]
    assert (job["state"], job["reason"]) == ("failed", "there is nothing to count")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "a job is asked for with a JSON object"),
        ({}, "kind must be one of: count"),
        ({"kind": ["count"]}, "kind must be one of: count"),
        ({"kind": "paint"}, "kind must be one of: count"),
        ({"kind": "count"}, "project must be a number"),
        (
            {"kind": "count", "project": float("inf")},
            "the request body holds Infinity, which is no number in JSON",
        ),
        (
            {"kind": "count", "project": 1, "words": "x" * 100_000},
            "a job is asked for with at most 100000 characters",
        ),
    ],
)
def test_a_wrong_wish_is_answered_with_a_sentence(counting: Counting, body: Any, sentence: str):
    answer = counting.post(body)
    assert (answer.status_code, answer.get_json()) == (400, {"error": sentence})


def test_a_number_beyond_all_floats_is_no_wish(counting: Counting):
    sent = b'{"kind": "count", "project": 1e999}'

    answer = counting.client.post("/jobs", data=sent, content_type="application/json", **LOCAL)

    assert answer.get_json() == {"error": "a job is asked for without NaN and infinities"}


def test_a_body_that_is_not_json_is_refused(counting: Counting):
    answer = counting.client.post(
        "/jobs", data="{", headers={"Content-Type": "application/json"}, **LOCAL
    )
    assert (answer.status_code, answer.get_json()) == (
        400,
        {"error": "the request body is not JSON"},
    )


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
def test_what_a_page_of_another_site_could_send_is_refused(counting: Counting, kind: str | None):
    for path in ("/jobs", "/jobs/x/resume"):
        answer = counting.client.post(
            path, data='{"kind": "count", "project": 12}', content_type=kind, **LOCAL
        )
        assert answer.status_code == 415
        assert answer.get_json() == {
            "error": "send this with the header Content-Type: application/json"
        }
    assert counting.book.all() == []


def test_unknown_jobs_are_not_found(counting: Counting):
    for answer in (
        counting.get("/jobs/x"),
        counting.client.delete("/jobs/x", **LOCAL),
        counting.client.post("/jobs/x/resume", json={}, **LOCAL),
    ):
        assert answer.status_code == 404
        assert answer.get_json() == {
            "error": "there is no job 'x'; ended jobs are forgotten after a while"
        }


def test_too_many_jobs_are_refused_for_now(counting: Counting):
    for number in range(3):
        assert counting.post({"kind": "count", "project": number}).status_code == 202
    answer = counting.post({"kind": "count", "project": 3})
    assert answer.status == "503 3 jobs have not ended yet; cancel some, or try again later"


def test_a_store_that_is_away_is_said_at_once(counting: Counting):
    counting.store.away = True
    for answer in (
        counting.post({"kind": "count", "project": 12}),
        counting.get("/jobs"),
        counting.get("/jobs/x"),
    ):
        assert answer.status_code == 503
        assert answer.get_json() == {"error": "the store cannot be reached"}
    counting.store.away = False
    assert counting.post({"kind": "count", "project": 12}).status_code == 202


def test_health_says_what_jobs_do_also_while_the_store_is_away(counting: Counting):
    job_id = counting.post({"kind": "count", "project": 12}).get_json()["id"]
    assert counting.inside.wait(PATIENCE)
    until(lambda: counting.get("/health").get_json()["jobs"]["at_work"] == job_id)

    counting.store.away = True
    until(lambda: counting.get("/health").get_json()["jobs"]["waiting_for"] is not None)
    jobs = counting.get("/health").get_json()["jobs"]
    counting.store.away = False

    assert jobs == {
        "runner": "embedded",
        "store": "memory",
        "open": {"queued": 0, "running": 1, "waiting": 0},
        "at_work": job_id,
        "waiting_for": "the store cannot be reached",
    }


def test_a_service_without_jobs_says_so(start_service: StartService):
    services = replace(start_service().services, jobs=None)
    client = create_app(services).test_client()

    for answer in (client.get("/jobs"), client.post("/jobs", json={}), client.delete("/jobs/x")):
        assert (answer.status_code, answer.get_json()) == (
            404,
            {
                "error": "this service runs no jobs: it needs LABEL_STUDIO_URL and "
                "LABEL_STUDIO_API_KEY"
            },
        )
    assert "jobs" not in client.get("/health").get_json()


@pytest.mark.parametrize(
    ("base_url", "address", "headers"),
    [
        ("http://cliper:9090", "127.0.0.1", {}),  # a proxy, or a name made to lead here
        ("http://127.0.0.1.example.com", "127.0.0.1", {}),
        ("http://127.0.0.1:9090", "192.168.1.7", {}),
        ("http://127.0.0.1:9090", "127.0.0.1", {"X-Forwarded-For": "192.168.1.7"}),
        ("http://127.0.0.1:9090", "::ffff:192.168.1.7", {}),
        ("http://127.0.0.1:9090", "127.0.0.1", {"Forwarded": "for=192.168.1.7"}),
        ("http://127.0.0.1:9090", "127.0.0.1", {"Via": "1.1 gate"}),
        ("http://127.0.0.1:9090", "127.0.0.1", {"X-Forwarded-Proto": "https"}),
    ],
)
def test_without_a_password_jobs_are_for_this_machine_only(
    counting: Counting, base_url: str, address: str, headers: dict[str, str]
):
    where = {
        "base_url": base_url,
        "environ_base": {"REMOTE_ADDR": address},
        "headers": headers,
    }
    for answer in (
        counting.client.post("/jobs", json={"kind": "count", "project": 12}, **where),
        counting.client.get("/jobs", **where),
        counting.client.delete("/jobs/x", **where),
    ):
        assert answer.status_code == 403
        assert answer.get_json()["error"] == (
            "jobs change things in Label Studio: without a password they are for this machine "
            "only; set BASIC_AUTH_USER and BASIC_AUTH_PASS, or API_TOKEN"
        )
    assert counting.book.all() == []


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost:9090", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.1"),
        ("[::1]:9090", "::1"),
        ("localhost", "::ffff:127.0.0.1"),  # by IPv4 to a socket of IPv6
    ],
)
def test_this_machine_is_known_by_all_its_names(counting: Counting, host: str, address: str):
    answer = counting.client.get(
        "/jobs", base_url=f"http://{host}", environ_base={"REMOTE_ADDR": address}
    )
    assert answer.status_code == 200


def test_with_a_password_everybody_who_knows_it_may_ask(start_counting: StartCounting):
    counting = start_counting(basic_auth=("ls", "geheim"))
    there = {
        "base_url": "http://cliper:9090",
        "environ_base": {"REMOTE_ADDR": "192.168.1.7"},
    }
    body = {"kind": "count", "project": 12}

    assert counting.client.post("/jobs", json=body, **there).status_code == 401
    assert counting.get("/jobs").status_code == 401
    assert counting.client.get("/jobs", auth=("ls", "wrong"), **there).status_code == 401
    given = counting.client.post("/jobs", json=body, auth=("ls", "geheim"), **there)
    form = counting.client.post("/jobs", data="kind=count", auth=("ls", "geheim"), **there)

    assert (given.status_code, form.status_code) == (202, 415)


def test_a_job_says_the_same_wherever_it_is_printed(counting: Counting):
    job_id = counting.post({"kind": "count", "project": 12}).get_json()["id"]
    counting.leave.set()
    done = counting.until(job_id, "done")
    listed = counting.get("/jobs").get_json()["jobs"][0]
    again = counting.client.delete(f"/jobs/{job_id}", **LOCAL).get_json()

    assert listed == done == again
    assert isinstance(counting.book.get(job_id), Job)
