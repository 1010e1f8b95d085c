"""What else happens to a service that is left alone: a full disk, a Label Studio that is away or
refuses, a stop in the middle of work."""

import os
import random
import resource
import threading
from pathlib import Path
from typing import Any

import requests

from backend.jobs.base import DONE, FAILED, QUEUED, RUNNING
from backend.storage.base import Json

from ..doubles.lives import CONFIG, Life, Site, picture
from ..doubles.pictures import encoded
from ..doubles.studio_server import Call, Fault
from ..doubles.waiting import until
from .conftest import MakeSite
from .test_replicas import predicted, ready, version_of

NO_LIMIT = resource.RLIM_INFINITY


def processes(life: Life) -> list[int]:
    """All of a service's. Source: proc_pid_stat(5), field 5 is the process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue
            if text.rpartition(")")[2].split()[2] == str(life.pid):
                found.append(int(entry.name))
    return found


def let_files_grow(life: Life, most_bytes: int) -> None:
    """From now on no file the service writes may be longer, as on a disk that is full."""
    for pid in processes(life):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, NO_LIMIT))


def job_of(site: Site, kind: str) -> Any:
    return next(job for job in site.book.all() if job.kind == kind)


def test_on_a_full_disk_predictions_go_on_and_health_says_so(make_site: MakeSite):
    site, chance = make_site(), random.Random(5)
    life = site.life()
    ready(life)
    version = version_of(life, site.work)

    let_files_grow(life, 0)
    for _ in range(6):
        site.correct(chance, life)
    assert predicted(life, site.work)[0] == version  # type: ignore[index]
    assert version_of(life, site.work) == version
    until(lambda: life.get("/health")["learning"]["trouble"] is not None)
    until(lambda: life.get("/health")["storage"]["trouble"] is not None)
    facts = life.get("/health")
    refused = life.post("/jobs", {"kind": "prelabel", "project": site.work})

    assert "store.sqlite" in facts["storage"]["trouble"]
    assert "disk" in facts["learning"]["trouble"]
    assert refused.status_code == 503
    assert len(site.acknowledged) == 6
    let_files_grow(life, NO_LIMIT)
    until(lambda: life.get("/health")["learning"]["pending"] == 0)  # they were in memory only
    site.ask(life)
    site.settle(life)
    assert site.what_is_wrong() == []
    until(lambda: life.get("/health")["learning"]["trouble"] is None)
    until(lambda: life.get("/health")["storage"]["trouble"] is None)


def test_a_label_studio_that_is_away_is_waited_for_in_the_middle_of_a_job(make_site: MakeSite):
    site = make_site()
    life = site.life()
    reached = threading.Event()

    def third_request(call: Call) -> Fault | None:
        if len(site.server.calls) > 3:
            reached.set()
        return Fault(drop=True) if reached.is_set() else None

    site.server.before = third_request
    job = site.ask(life)
    assert reached.wait(60)
    site.server.down()

    def waits_for() -> Json:
        return site.book.get(job).progress.get("waits_for")

    until(lambda: waits_for() is not None, "the job says what it waits for")
    assert "Label Studio" in str(waits_for())
    site.server.before = lambda call: None
    site.server.up()
    site.settle(life)

    assert site.book.get(job).state == DONE
    assert site.what_is_wrong() == []


def test_a_label_studio_that_refuses_ends_the_job_with_a_sentence_and_it_can_be_resumed(
    make_site: MakeSite,
):
    site = make_site()
    life = site.life()
    site.server.before = lambda call: Fault(status=403, body=b'{"detail": "not yours"}')
    job = site.ask(life)
    until(lambda: site.book.get(job).ended)
    failed = site.book.get(job)
    assert (failed.state, failed.attempts) == (FAILED, 1)
    assert str(failed.reason).startswith("Label Studio refused GET /api/projects/")

    site.server.before = lambda call: None
    life.post(f"/jobs/{job}/resume", {}).raise_for_status()
    site.settle(life)

    assert site.book.get(job).state == DONE
    assert site.what_is_wrong() == []


def test_sigterm_answers_what_runs_hands_back_the_job_and_loses_no_event(make_site: MakeSite):
    site, chance = make_site(), random.Random(6)
    opened, answers = threading.Event(), list[requests.Response]()
    life = site.life()
    ready(life)
    held = threading.Event()

    def before(call: Call) -> Fault | None:
        if call.path.startswith("/data/"):
            held.set()
            return Fault(gate=opened, status=200, body=encoded(picture(3)))
        if call.path.endswith("/import/predictions"):
            return Fault(status=503)
        return None

    site.server.before = before
    job = site.ask(life)
    body = {"tasks": [{"id": 1, "data": {"image": "/data/upload/1.png"}}], "label_config": CONFIG}
    asking = threading.Thread(target=lambda: answers.append(life.post("/predict", body)))
    asking.start()
    assert held.wait(60)
    until(lambda: site.book.get(job).state == RUNNING)
    for _ in range(5):
        site.correct(chance, life)

    os.kill(life.pid, 15)

    until(lambda: site.book.get(job).state == QUEUED, "the job is handed back")
    assert answers == []
    opened.set()
    asking.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["results"]) == 1
    until(lambda: not life.is_alive())
    assert len(site.acknowledged) == 5
    site.server.before = lambda call: None
    later = site.life()
    site.settle(later)
    assert site.what_is_wrong() == []
    assert site.book.get(job).attempts == 1


def test_a_store_in_memory_keeps_events_in_memory_too(make_site: MakeSite):
    """`memory:` keeps nothing, and so has no spool either."""
    site = make_site()
    life = site.life(STORAGE="memory:", SPOOL_DIR="")
    event = {"action": "START_TRAINING", "project": {"id": 999_999}}
    assert life.post("/webhook", event).status_code == 200
    until(lambda: life.get("/health")["learning"]["pending"] == 0)
    assert not (site.folder / "events").exists()
