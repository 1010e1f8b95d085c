"""The projects page over HTTP: who may ask, what is told, what is done, and that no key is told."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.learning.records import Active, LeftOut, Records, Version
from backend.lessons import Learned, Lesson
from backend.projects.overview import MOST_JOBS, MOST_PROJECTS, MOST_TASKS
from backend.services import Services
from backend.storage.base import Scope

from ..doubles.classroom import evidence
from ..doubles.colours import ColourSegmenter
from ..doubles.corrections import address, annotated, columns, painted
from ..doubles.label_studio import PERSONAL_TOKEN
from ..doubles.pictures import brush_config, striped_png
from ..doubles.studio_server import LEGACY_TOKEN, StudioServer, studio_server
from ..doubles.waiting import until
from .conftest import Service, StartService

OURS = "demo-cliper-12345678"
SECRET = "Secret_of-the-webhook-9"
FROM_AFAR = {"base_url": "http://cliper:9090", "environ_base": {"REMOTE_ADDR": "192.168.1.7"}}
LOGIN = ("studio", "geheim")
READ = (
    "projects",
    "api/projects",
    "api/projects/1",
    "api/projects/1/tasks",
    "api/projects/1/jobs",
    "api/projects/1/models",
    "projects/1/report",
)
CHANGE = (
    ("POST", "api/projects/1/jobs"),
    ("POST", "api/projects/1/rollback"),
    ("POST", "api/jobs/x/resume"),
    ("DELETE", "api/jobs/x"),
)


@dataclass
class Page:
    """Our page in a browser on this machine. `answers` are all there were, headers and bodies."""

    service: Service
    answers: list[str] = field(default_factory=list)
    token: str = ""

    @property
    def client(self) -> FlaskClient:
        return self.service.client

    @property
    def services(self) -> Services:
        return self.service.services

    def open(self) -> TestResponse:
        answer = self.client.get("/ui/projects")
        found = re.search(r"cliper_csrf=([^;]+)", answer.headers.get("Set-Cookie", ""))
        if found is not None:
            self.token = found.group(1)
        return answer

    def ask(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"X-CSRF-Token": self.token, **options.pop("headers", {})}
        answer = self.client.open(f"/ui/{path}", method=method, headers=headers, **options)
        self.answers.append(f"{answer.status} {answer.headers}\n{answer.get_data(as_text=True)}")
        return answer

    def get(self, path: str, **options: Any) -> Any:
        answer = self.ask("GET", path, **options)
        assert answer.status_code == 200, answer.get_json()
        return answer.get_json()

    def post(self, path: str, body: Any = None) -> Any:
        return self.ask("POST", path, json={} if body is None else body)

    def until_ended(self, project: int, job: str) -> dict[str, Any]:
        def now() -> dict[str, Any]:
            listed = self.get(f"api/projects/{project}/jobs")["jobs"]
            return next(one for one in listed if one["id"] == job)

        until(lambda: now()["state"] in ("done", "failed", "cancelled"), f"job {job} has ended")
        return now()

    def records(self, studio: StudioServer, project: int) -> Records:
        assert self.services.storage is not None
        return Records(self.services.storage, Scope.of(studio.url, str(project)))


OpenPage = Callable[..., Page]


@pytest.fixture
def studio() -> Iterator[StudioServer]:
    with studio_server() as running:
        yield running


@pytest.fixture
def open_page(start_service: StartService, studio: StudioServer) -> OpenPage:
    def opened(**settings: Any) -> Page:
        chosen = {"label_studio_url": studio.url, "label_studio_api_key": LEGACY_TOKEN, **settings}
        page = Page(start_service(**chosen))
        page.open()
        return page

    return opened


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


# -- the page, and who may open it -----------------------------------------------------------


def test_the_page_runs_our_own_scripts_only(page: Page):
    answer = page.client.get("/ui/projects")
    policy = answer.headers["Content-Security-Policy"]
    text = answer.get_data(as_text=True)

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src=\"static/)|\bon\w+=", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:|/)", text)


def test_every_file_that_the_page_names_is_there(page: Page):
    text = page.client.get("/ui/projects").get_data(as_text=True)
    named = set(re.findall(r'"(static/projects[^"]*)"', text))
    script = page.client.get("/ui/static/projects.js").get_data(as_text=True)
    named |= {f"static/{name}" for name in re.findall(r'from "\./([^"]+)"', script)}

    assert len(named) == 5
    for name in named:
        assert page.client.get(f"/ui/{name}").status_code == 200, name


@pytest.mark.parametrize("path", READ)
def test_without_a_password_nobody_elsewhere_may_look(page: Page, path: str):
    answer = page.client.get(f"/ui/{path}", **FROM_AFAR)

    assert answer.status_code == 403
    assert "BASIC_AUTH_USER" in answer.get_json()["error"]


@pytest.mark.parametrize(("method", "path"), CHANGE)
def test_without_a_password_nobody_elsewhere_may_change_anything(
    page: Page, method: str, path: str
):
    answer = page.ask(method, path, json={"kind": "learn"}, **FROM_AFAR)

    assert answer.status_code == 403
    assert page.get("api/projects/1/jobs") == {"jobs": []}


@pytest.mark.parametrize("path", READ)
def test_with_a_password_whoever_knows_it_may_look_from_anywhere(
    open_page: OpenPage, studio: StudioServer, path: str
):
    assert studio.project() == 1
    page = open_page(basic_auth=LOGIN)

    right = page.client.get(f"/ui/{path}", auth=LOGIN, **FROM_AFAR)

    assert page.client.get(f"/ui/{path}").status_code == 401
    assert page.client.get(f"/ui/{path}", auth=("studio", "x"), **FROM_AFAR).status_code == 401
    assert right.status_code == (404 if path.endswith("report") else 200)


def test_a_token_of_our_own_endpoints_is_asked_for_where_it_is_all_there_is(open_page: OpenPage):
    page = open_page(api_token="t0ken-of-our-own-endpoints")

    for path in READ:
        assert page.client.get(f"/ui/{path}", **FROM_AFAR).status_code == 401


@pytest.mark.parametrize(("method", "path"), CHANGE)
@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_what_our_own_page_did_not_send_is_refused(page: Page, method: str, path: str, token: str):
    headers = {"X-CSRF-Token": token}
    answer = page.ask(method, path, json={"kind": "learn"}, headers=headers)

    assert answer.status_code == 403
    assert page.get("api/projects/1/jobs") == {"jobs": []}


def test_a_header_without_the_cookie_is_not_enough(page: Page):
    stranger = page.client.application.test_client()

    answer = stranger.post(
        "/ui/api/projects/1/jobs", json={"kind": "learn"}, headers={"X-CSRF-Token": page.token}
    )

    assert answer.status_code == 403


# -- the connection and the list -------------------------------------------------------------


def test_the_list_says_who_answers_and_what_there_is(page: Page, studio: StudioServer):
    first = studio.project(tasks=3, title="<script>alert(1)</script>")
    second = studio.project()
    studio.annotate(studio.ids(first)[0])
    studio.annotate(studio.ids(first)[1], skip=True)

    found = page.get("api/projects")

    assert found == {
        "connection": {
            "url": studio.url,
            "release": "1.23.2",
            "user": "admin@example.com",
            "missing": [],
            "trouble": None,
            "remedy": None,
            "answers": True,
        },
        "projects": [
            {"id": second, "title": f"project {second}", "tasks": 0, "annotated": 0},
            {"id": first, "title": "<script>alert(1)</script>", "tasks": 3, "annotated": 1},
        ],
        "total": 2,
        "page": 1,
        "next": None,
    }


def test_the_list_comes_a_page_at_a_time(page: Page, studio: StudioServer):
    numbers = [studio.project() for _ in range(MOST_PROJECTS + 1)]

    first, second = page.get("api/projects"), page.get("api/projects?page=2")

    assert [one["id"] for one in first["projects"]] == numbers[:0:-1]
    assert (first["next"], first["total"]) == (2, MOST_PROJECTS + 1)
    assert [one["id"] for one in second["projects"]] == numbers[:1]
    assert (second["next"], second["page"]) == (None, 2)
    assert page.get("api/projects?page=9")["projects"] == []
    del studio.projects[numbers[0]]
    assert page.get("api/projects")["next"] is None


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "", "1" * 10, "٣"])
@pytest.mark.parametrize("path", ["api/projects", "api/projects/1/tasks"])
def test_a_page_is_a_whole_number(page: Page, path: str, number: str):
    answer = page.ask("GET", path, query_string={"page": number})

    assert answer.status_code == 400
    assert answer.get_json() == {"error": "page must be a whole number from 1 on"}


@pytest.mark.parametrize(
    ("settings", "missing", "words"),
    [
        (
            {"label_studio_url": None, "label_studio_api_key": None},
            ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"],
            "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY are not set",
        ),
        ({"label_studio_api_key": None}, ["LABEL_STUDIO_API_KEY"], "LABEL_STUDIO_API_KEY is not"),
    ],
)
def test_settings_that_are_missing_are_named(
    open_page: OpenPage, settings: dict[str, Any], missing: list[str], words: str
):
    page = open_page(**settings)

    found = page.get("api/projects")
    others = [page.ask("GET", path) for path in READ if path.startswith("api/projects/1")]

    assert found["connection"]["missing"] == missing
    assert words in found["connection"]["trouble"]
    assert found["connection"]["answers"] is False
    assert found["projects"] == []
    for answer in others:
        assert answer.status_code == 404
        assert " and ".join(missing) in answer.get_json()["error"]


def test_a_label_studio_that_is_away_is_said_and_what_to_do(page: Page, studio: StudioServer):
    studio.down()

    told = page.get("api/projects")["connection"]

    assert (told["answers"], told["release"], told["user"]) == (False, None, None)
    assert told["trouble"].startswith(f"Label Studio at {studio.url} does not answer")
    assert "is Label Studio running" in told["remedy"]


@pytest.mark.parametrize("token", ["f" * 40, "eyJa.eyJi.c2ln"])
def test_a_token_that_is_refused_is_said_and_what_to_do(open_page: OpenPage, token: str):
    page = open_page(label_studio_api_key=token)

    told = page.get("api/projects")["connection"]

    assert told["answers"] is False
    assert "LABEL_STUDIO_API_KEY" in told["remedy"]
    assert token not in "".join(page.answers)


# -- one project -----------------------------------------------------------------------------


def test_a_project_is_told_as_a_whole(page: Page, studio: StudioServer):
    project = studio.project(tasks=3, title="Cats")
    first, second, _ = studio.ids(project)
    studio.annotate(first)
    studio.predict(first, OURS)
    studio.predict(second, OURS)
    studio.predict(second, "somebody-1")

    found = page.get(f"api/projects/{project}")

    assert found.pop("learning") == {
        "version": None,
        "learnt_from": 0,
        "pinned": None,
        "unsettled": False,
        "corrected": 0,
        "fewest": 5,
        "left_out": {"count": 0, "shown": []},
    }
    assert found == {
        "id": project,
        "address": f"{studio.url}/projects/{project}/data",
        "title": "Cats",
        "label_config": studio.projects[project].label_config,
        "counts": {
            "tasks": 3,
            "annotated": 1,
            "predictions": [
                {"version": OURS, "count": 2, "ours": True},
                {"version": "somebody-1", "count": 1, "ours": False},
            ],
        },
        "trouble": None,
        "jobs": [],
        "versions": [],
        "report": None,
    }


@pytest.mark.parametrize("what", ["", "/tasks", "/models"])
def test_a_project_that_is_not_there_is_not_found(page: Page, what: str):
    answer = page.ask("GET", f"api/projects/99{what}")

    assert answer.status_code == 404
    assert answer.get_json()["error"].startswith("there is no project 99,")


def test_while_label_studio_is_away_what_the_store_knows_is_told(page: Page, studio: StudioServer):
    project = studio.project()
    records = page.records(studio, project)
    records.settle(LeftOut(task=4, reason="the picture is gone"), records.look(4))
    studio.down()

    found = page.get(f"api/projects/{project}")
    away = page.ask("GET", f"api/projects/{project}/tasks")

    assert (found["counts"], found["title"], found["label_config"]) == (None, "", "")
    assert "does not answer" in found["trouble"]["trouble"]
    assert found["learning"]["left_out"] == {
        "count": 1,
        "shown": [{"task": 4, "reason": "the picture is gone"}],
    }
    assert away.status_code == 502
    assert "does not answer" in away.get_json()["error"]


def test_tasks_are_listed_by_name_a_page_at_a_time(page: Page, studio: StudioServer):
    project = studio.project()
    numbers = studio.add(
        project,
        {"caption": "A cat", "image": "/data/upload/1/0a1b2c3d-cat%20one.png"},
        *({"image": f"http://x/{n}.png"} for n in range(MOST_TASKS)),
    )

    first = page.get(f"api/projects/{project}/tasks")
    second = page.get(f"api/projects/{project}/tasks?page=2")

    assert first["tasks"][0] == {"id": numbers[0], "name": "cat one.png"}
    assert [one["id"] for one in first["tasks"]] == numbers[:MOST_TASKS]
    assert first["next"] == 2
    last = {"id": numbers[-1], "name": f"{MOST_TASKS - 1}.png"}
    assert second == {"tasks": [last], "next": None}
    assert page.get(f"api/projects/{project}/tasks?page=3") == {"tasks": [], "next": None}


def connection(url: str, state: str = "CO", **more: Any) -> dict[str, Any]:
    words = {"CO": "Connected", "DI": "Disconnected"}[state]
    return {"id": 1, "title": "CLIPer", "url": url, "state": state, "readable_state": words, **more}


@pytest.mark.parametrize(
    ("model", "connected", "ours", "trouble"),
    [
        (connection("http://127.0.0.1:80"), True, True, None),  # the test client is localhost:80
        (connection("http://127.0.0.1:81"), False, False, "not connected"),
        (connection("http://elsewhere:80"), False, False, "not connected"),
        (connection("http://elsewhere:80", model_version=OURS), True, True, None),
        (connection("http://localhost", "DI"), False, True, "Disconnected"),
        (
            connection("http://localhost", "DI", error_message="404 Not Found"),
            False,
            True,
            "says of this service: 404 Not Found",
        ),
        (connection("nowhere at all"), False, False, "not connected"),
    ],
)
def test_whether_this_service_is_a_projects_model_is_told(
    page: Page,
    studio: StudioServer,
    model: dict[str, Any],
    connected: bool,
    ours: bool,
    trouble: str | None,
):
    project = studio.project(connections=[model])

    found = page.get(f"api/projects/{project}/models")

    assert found["connected"] is connected
    assert [one["ours"] for one in found["models"]] == [ours]
    assert (found["trouble"] is None) == (found["remedy"] is None) == (trouble is None)
    assert trouble is None or trouble in found["trouble"]


def test_a_version_that_this_service_gave_out_shows_that_it_is_connected(
    page: Page, studio: StudioServer
):
    given = page.service.setup(brush_config()).get_json()["model_version"]
    found = connection("http://cliper:9090", model_version=given)
    project = studio.project(connections=[found])

    assert page.get(f"api/projects/{project}/models")["connected"] is True


def test_the_secret_in_a_models_address_is_not_told(page: Page, studio: StudioServer):
    url = f"http://me:geheim@localhost/webhook/{SECRET}?token=geheim"
    said = f"cannot reach {url}/health"
    project = studio.project(connections=[connection(url, "DI", error_message=said)])

    (found,) = page.get(f"api/projects/{project}/models")["models"]

    assert found["address"] == "http://localhost:80"
    assert SECRET not in "".join(page.answers)
    assert "geheim" not in "".join(page.answers)


# -- jobs ------------------------------------------------------------------------------------


@pytest.fixture
def pictures(studio: StudioServer) -> int:
    """A project of three tasks with a red and a green stripe."""
    studio.files["/data/upload/1/a.png"] = striped_png("red", "green")
    project = studio.project()
    studio.add(project, *({"image": "/data/upload/1/a.png"} for _ in range(3)))
    return project


def test_pre_labelling_is_started_and_its_end_is_told(
    page: Page, studio: StudioServer, pictures: int
):
    answer = page.post(f"api/projects/{pictures}/jobs", {"kind": "prelabel", "limit": 2})
    job = answer.get_json()
    done = page.until_ended(pictures, job["id"])

    assert answer.status_code == 202
    assert (job["kind"], job["params"]["project"], job["params"]["limit"]) == (
        "prelabel",
        pictures,
        2,
    )
    assert (done["state"], done["result"]["written"]) == ("done", 2)
    (told,) = page.get(f"api/projects/{pictures}")["counts"]["predictions"]
    assert (told["version"], told["count"]) == (done["result"]["model_version"], 2)


def test_a_job_is_about_the_project_of_its_address(page: Page, studio: StudioServer, pictures: int):
    body = {"kind": "prelabel", "project": 999, "dry_run": True}

    job = page.post(f"api/projects/{pictures}/jobs", body).get_json()

    assert job["params"]["project"] == pictures


def test_jobs_are_stopped_and_go_on(page: Page, segmenter: ColourSegmenter, pictures: int):
    path = f"api/projects/{pictures}/jobs"
    segmenter.gate.clear()
    running = page.post(path, {"kind": "prelabel"}).get_json()
    again = page.post(path, {"kind": "prelabel"})
    segmenter.began.acquire()
    behind = page.post(path, {"kind": "report"}).get_json()
    stopping = page.ask("DELETE", f"api/jobs/{running['id']}").get_json()
    stopped = page.ask("DELETE", f"api/jobs/{behind['id']}").get_json()
    resumed = page.post(f"api/jobs/{behind['id']}/resume").get_json()
    segmenter.gate.set()

    assert (again.status_code, again.get_json()["id"]) == (200, running["id"])
    assert (stopping["state"], stopping["cancelling"]) == ("running", True)
    assert stopped["state"] == "cancelled"
    assert (resumed["id"], resumed["state"]) == (behind["id"], "queued")
    assert page.until_ended(pictures, behind["id"])["state"] == "done"


def test_an_undo_says_first_how_much_it_would_remove(page: Page, studio: StudioServer):
    project = studio.project(tasks=3)
    made = [studio.predict(task, OURS) for task in studio.ids(project)]
    studio.annotate(studio.ids(project)[0], made[0])
    path, body = f"api/projects/{project}/jobs", {"kind": "undo", "version": OURS}

    counted = page.post(path, {**body, "dry_run": True}).get_json()
    counted = page.until_ended(project, counted["id"])
    untouched = len(studio.predictions)
    removed = page.until_ended(project, page.post(path, body).get_json()["id"])

    assert untouched == 3
    for told in (counted, removed):
        assert (told["result"]["removed"], told["result"]["kept"]) == (2, 1)
    assert list(studio.predictions) == made[:1]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "a job is asked for with a JSON object"),
        ({}, "kind must be one of: learn, prelabel, report, undo"),
        ({"kind": "paint"}, "kind must be one of: learn, prelabel, report, undo"),
        ({"kind": "undo", "version": "theirs-1"}, "version must be one of this service's"),
        ({"kind": "prelabel", "limit": 0}, "limit must be a whole number from 1 on, got 0"),
        ({"kind": "report", "version": ""}, "version must be text of at most 200 characters"),
        ({"kind": "report", "pages": 1}, "unknown field 'pages'; known are project, version"),
    ],
)
def test_a_wrong_wish_is_answered_with_a_sentence(page: Page, body: Any, sentence: str):
    answer = page.post("api/projects/1/jobs", body)

    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith(sentence)


def test_what_is_no_json_is_refused(page: Page):
    answer = page.ask("POST", "api/projects/1/jobs", data="kind=learn")

    assert answer.status_code == 400


@pytest.mark.parametrize(("method", "path"), [CHANGE[2], CHANGE[3]])
def test_an_unknown_job_is_not_found(page: Page, method: str, path: str):
    answer = page.ask(method, path, json={})

    assert answer.status_code == 404
    assert answer.get_json()["error"].startswith("there is no job 'x'")


def test_the_newest_jobs_are_shown_and_without_their_lists(page: Page, studio: StudioServer):
    project = studio.project(tasks=1)
    (task,) = studio.ids(project)
    path = f"api/projects/{project}/jobs"
    for limit in range(1, MOST_JOBS + 2):
        body = {"kind": "prelabel", "tasks": [task], "limit": limit, "dry_run": True}
        job = page.post(path, body).get_json()
        page.until_ended(project, job["id"])

    listed = page.get(path)["jobs"]

    assert [one["params"]["limit"] for one in listed] == list(range(MOST_JOBS + 1, 1, -1))
    assert all("tasks" not in one["params"] for one in [job, *listed])


# -- learning --------------------------------------------------------------------------------


def learned(number: int) -> Learned:
    lesson = Lesson(
        model="m",
        labels=("cat",),
        thresholds={"cat": number / 10},
        others={"emu": -1.0},
        words={"cat": {"kitten": 0.5}},
    )
    return Learned(lessons={"seg": lesson})


FIRST, SECOND = learned(1).digest, learned(2).digest
VERDICT = {
    "seg": {
        "better": True,
        "reason": "switched on: it is better",
        "tasks": 5,
        "before": 40.0,
        "after": 45.5,
        "noise": 1.0,
        "per_label": {"cat": [40.0, 45.5], "dog": [50.0, 49.0]},
    }
}


@pytest.fixture
def taught(page: Page, studio: StudioServer) -> int:
    """A project with two versions, the second in use, and a task with evidence."""
    project = studio.project(tasks=1)
    records = page.records(studio, project)
    records.settle(evidence(3, 11, 5), records.look(3))
    for number in (1, 2):
        records.keep(learned(number))
        made = Version(
            digest=learned(number).digest,
            used=True,
            made_from=f"{number}",
            chosen=(1, 2, 3),
            when=1000.0 * number,
            verdicts=VERDICT,
        )
        records.remember(made)
        active = Active(digest=made.digest, tasks=3, made_from=made.made_from)
        assert records.activate(active, expected=records.active()[1])
        records.name_states()
    return project


def test_what_was_learnt_is_told_label_by_label_and_why(page: Page, taught: int):
    found = page.get(f"api/projects/{taught}")
    newest, before = found["versions"]

    assert (found["learning"]["version"], found["learning"]["corrected"]) == (SECOND, 1)
    assert (newest["digest"], newest["state"], newest["tasks"], newest["when"]) == (
        SECOND,
        "active",
        3,
        2000.0,
    )
    (control,) = newest["controls"]
    labels = control.pop("labels")
    assert control == {
        "control": "seg",
        "better": True,
        "reason": "switched on: it is better",
        "tasks": 5,
        "before": 40.0,
        "after": 45.5,
    }
    nothing = {"learnt": False, "unpainted": False, "threshold": None, "words": []}
    assert labels == [
        {"label": "dog", "before": 50.0, "after": 49.0, **nothing},
        {
            "label": "cat",
            "before": 40.0,
            "after": 45.5,
            "learnt": True,
            "unpainted": False,
            "threshold": 0.2,
            "words": ["kitten"],
        },
        {"label": "emu", "before": None, "after": None, **nothing, "unpainted": True},
    ]
    assert (before["state"], before["controls"][0]["labels"]) == ("retired", None)


def test_another_version_is_used_and_that_is_taken_back(
    page: Page, studio: StudioServer, taught: int
):
    path = f"api/projects/{taught}/rollback"
    in_use = []
    for version in (FIRST, "", SECOND[:6]):
        answer = page.post(path, {"version": version})
        told = page.get(f"api/projects/{taught}")["learning"]
        in_use.append((answer.get_json(), told["version"], told["pinned"]))
    back = page.post(path, {"version": None}).get_json()["job"]
    ended = page.until_ended(taught, back["id"])

    nothing = {"job": None}
    assert in_use == [(nothing, FIRST, FIRST), (nothing, None, ""), (nothing, SECOND, SECOND)]
    assert (back["kind"], ended["state"]) == ("learn", "done")
    assert page.get(f"api/projects/{taught}")["learning"]["pinned"] is None


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, 'a version is chosen with {"version": …}'),
        ([], 'a version is chosen with {"version": …}'),
        ({"version": FIRST, "more": 1}, 'a version is chosen with {"version": …}'),
        ({"version": 5}, "version must be the digest of one, empty for none"),
        ({"version": "feed"}, "version 'feed' is none of this project's, which are:"),
    ],
)
def test_a_version_that_cannot_be_meant_changes_nothing(
    page: Page, taught: int, body: Any, sentence: str
):
    answer = page.post(f"api/projects/{taught}/rollback", body)

    assert answer.status_code == 400
    assert answer.get_json()["error"].startswith(sentence)
    assert page.get(f"api/projects/{taught}")["learning"]["pinned"] is None


# -- the report ------------------------------------------------------------------------------


@pytest.fixture
def corrected(studio: StudioServer) -> int:
    """A project with a corrected task."""
    project = studio.project(title="Harbour <& sea>")
    (task,) = studio.add(project, {"image": address()})
    made = studio.predict(task, OURS, result=painted("red", columns(0, 8)))
    done = studio.annotate(task, made)
    studio.annotations[done].update(
        annotated(painted("red", columns(0, 10)), parent=made, id=done, task=task)
    )
    return project


def test_a_report_is_made_by_a_job_and_shown_as_a_page_that_can_do_nothing(
    page: Page, corrected: int
):
    before = page.ask("GET", f"projects/{corrected}/report")
    job = page.post(f"api/projects/{corrected}/jobs", {"kind": "report"}).get_json()
    done = page.until_ended(corrected, job["id"])
    answer = page.ask("GET", f"projects/{corrected}/report")
    told = page.get(f"api/projects/{corrected}")["report"]

    assert before.status_code == 404
    assert before.get_json()["error"].startswith(f"no report of project {corrected} is kept")
    assert (done["state"], done["result"]["compared"]) == ("done", 1), done["reason"]
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "Harbour &lt;&amp; sea&gt;" in answer.get_data(as_text=True)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert {"sandbox", "default-src 'none'", "img-src data:"} <= set(policy)
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert told == {"made": done["result"]["made"], "bytes": len(answer.get_data())}


def test_a_report_of_one_version_is_about_that_version(page: Page, corrected: int):
    body = {"kind": "report", "version": "demo-cliper-00000000"}
    job = page.post(f"api/projects/{corrected}/jobs", body).get_json()

    assert page.until_ended(corrected, job["id"])["result"]["compared"] == 0


# -- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [LEGACY_TOKEN, PERSONAL_TOKEN])
def test_no_answer_tells_a_key(
    open_page: OpenPage, studio: StudioServer, token: str, corrected: int
):
    page = open_page(label_studio_api_key=token, webhook_secret=SECRET)
    job = page.post(f"api/projects/{corrected}/jobs", {"kind": "report"}).get_json()
    page.until_ended(corrected, job["id"])
    for path in READ:
        page.ask("GET", path.replace("/1", f"/{corrected}"))
    studio.fail(times=9, status=500)
    for path in READ:
        page.ask("GET", path.replace("/1", f"/{corrected}"))
    studio.down()
    for path in READ:
        page.ask("GET", path.replace("/1", f"/{corrected}"))

    told = "".join(page.answers)
    assert {answer[:3] for answer in page.answers} == {"200", "202", "502"}
    for secret in (token, SECRET, "access-1"):
        assert secret not in told


def test_nobody_waits_long_for_a_label_studio_that_hangs(page: Page, studio: StudioServer):
    """One question, and no second one after it failed."""
    project = studio.project()
    studio.fail(times=100, status=503)

    answer = page.ask("GET", f"api/projects/{project}/tasks")

    assert answer.status_code == 502
    assert len(studio.asked("GET /api/tasks")) == 1


def test_two_people_may_look_at_once(page: Page, studio: StudioServer):
    project = studio.project(tasks=2)
    client = page.client.application.test_client
    found: list[int] = []
    looking = [
        threading.Thread(
            target=lambda: found.append(client().get(f"/ui/api/projects/{project}").status_code)
        )
        for _ in range(2)
    ]
    for one in looking:
        one.start()
    for one in looking:
        one.join()

    assert found == [200, 200]
