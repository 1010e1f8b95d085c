"""The double of Label Studio's API answers as Label Studio does: both are told one story."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from backend.demo.label_studio_server import LabelStudioServer
from backend.errors import BadRequest, StudioRefused
from backend.prelabel.wanted import COLUMNS, SIGNS, read_filter
from backend.studio import account
from backend.studio.client import Studio
from backend.studio.project import (
    StudioProject,
    among,
    has_draft,
    has_predictions,
    has_version,
    lacks_version,
    unannotated,
)

from ..doubles.studio_server import CONFIG, LEGACY_TOKEN, studio_server

OURS, ALIKE, OTHER = "demo-cliper-12345678", "demo-cliper-12345678-checked", "other-1"
DATA = [
    {"image": f"{n}.png", "n": n, "digits": str(n), "word": "harbour" if n % 2 else "Sea"}
    for n in range(6)
]

Story = dict[str, Any]


class Teller:
    """A project of six tasks; its numbers are told as places in the project, from 0 on."""

    def __init__(self, url: str, token: str) -> None:
        self.studio = Studio(url, token, pause=lambda seconds: None)
        made = self.studio.post("/api/projects", json={"title": "story", "label_config": CONFIG})
        self.project = StudioProject(self.studio, int(made["id"]))
        self.studio.post(f"/api/projects/{self.project.id}/import", json=DATA)
        self.numbers = list(self.project.ids())

    def places(self, numbers: Iterable[int]) -> list[int]:
        return [self.numbers.index(number) for number in numbers]

    def predict(self, version: str, *places: int, name: str = "seg", **more: Any) -> Any:
        region = {
            "id": "a",
            "type": "brushlabels",
            "from_name": name,
            "to_name": "image",
            "original_width": 1,
            "original_height": 1,
            "value": {"format": "rle", "rle": [0, 0, 0, 1], "brushlabels": ["red"]},
        }
        told = [
            {
                "task": self.numbers[place] if place >= 0 else 10**8,
                "result": [region],
                "score": 0.5,
                "model_version": version,
                **more,
            }
            for place in places
        ]
        return status_of(lambda: self.project.write(json.dumps(told).encode()))

    def dates(self) -> list[str]:
        told = self.studio.get("/api/tasks", params={"project": self.project.id})
        return [one["updated_at"] for one in told["tasks"]]

    def touched(self, step: Callable[[], object]) -> list[int]:
        """Which tasks' dates a step changes."""
        before = self.dates()
        step()
        return [n for n, (a, b) in enumerate(zip(before, self.dates(), strict=True)) if a != b]


def status_of(step: Callable[[], Any]) -> Any:
    """What it returns, or the status it is refused with."""
    try:
        return step()
    except StudioRefused as error:
        return error.status


def tell(url: str, token: str) -> Story:
    one = Teller(url, token)
    project, studio, numbers = one.project, one.studio, one.numbers
    story: Story = {"written": one.predict(OURS, 0, 1, 2)}
    one.predict(OURS, 0, 1)
    story |= {"alike": one.predict(ALIKE, 4), "other": one.predict(OTHER, 0)}
    story["a stranger's task"] = one.predict(OURS, 3, -1)
    story["no such control"] = one.predict(OTHER, 3, 5, name="nobody")
    story["versions"] = project.versions()
    for name, filters in {
        "has": [has_version(OURS)],
        "lacks": [lacks_version(OURS)],
        "several": [has_version(OURS), has_predictions(1)],
        "both": [has_version(OURS), has_version(OTHER)],
        "among": [among([*numbers[1:3], 10**8])],
        "among nobody": [among([])],
    }.items():
        story[name] = one.places(project.ids(filters)), project.count(filters)
    page = project.page([lacks_version(OTHER)], after=numbers[1], size=2)
    story["page"] = one.places(each.id for each in page.tasks), page.total
    story["listed"] = [
        (dict(each.task.data), each.annotations, each.predictions) for each in project.page().tasks
    ]
    story["models"] = [each["model_version"] for each in project.predictions(numbers[0])]
    story["nothing told"] = project.predictions(numbers[3]), project.annotations(numbers[3])

    # people
    first = project.predictions(numbers[1])[0]["id"]
    studio.post(f"/api/tasks/{numbers[1]}/annotations/", json=given(parent_prediction=first))
    studio.post(f"/api/tasks/{numbers[2]}/annotations/", json=given(was_cancelled=True))
    studio.post(f"/api/tasks/{numbers[3]}/drafts", json={"result": []})
    story["built on"] = [
        each["parent_prediction"] == first for each in project.annotations(numbers[1])
    ]
    skipped = project.predictions(numbers[2])[0]["id"]
    studio.post(
        f"/api/tasks/{numbers[2]}/annotations/",
        json=given(was_cancelled=True, parent_prediction=skipped),
    )
    story["skipped"] = [
        (each["was_cancelled"], each["parent_prediction"] == skipped)
        for each in project.annotations(numbers[2])
    ]
    story["listed without skipped"] = [
        len(studio.get(f"/api/tasks/{number}/annotations/")) for number in numbers
    ]
    story["drafted"] = one.places(sorted(project.drafted()))
    story["free"] = one.places(project.ids(unannotated()))
    story["undrafted"] = project.count([has_draft(), has_version(OURS)])
    story["counts"] = [(each.annotations, each.predictions) for each in project.page().tasks]
    listed = account.projects(studio, page=1, size=50)
    mine = next(each for each in listed.projects if each.id == project.id)
    story["in the list"] = mine.title, mine.tasks, mine.annotated
    story["beyond the list"] = account.projects(studio, page=1000, size=50)
    leaves = [project.leaf(number, size=4) for number in (1, 2, 3)]
    story["leafed through"] = [one.places(each.id for each in leaf.tasks) for leaf in leaves]
    story["in all"] = [leaf.total for leaf in leaves]
    story["release"] = account.release(studio)
    story["somebody"] = "@" in account.user(studio)
    story["missing parent"] = status_of(
        lambda: studio.post(
            f"/api/tasks/{numbers[4]}/annotations/", json=given(parent_prediction=10**8)
        )
    )

    # a tab
    made = studio.post(
        "/api/dm/views",
        json={
            "project": project.id,
            "data": {
                "title": "tab",
                "filters": {"conjunction": "and", "items": [lacks_version(OTHER)]},
                "ordering": ["-tasks:id"],
            },
        },
    )
    story["tab"] = one.places(project.ids_of_view(int(made["id"])))
    story["no tab"] = status_of(lambda: project.ids_of_view(10**8))
    elsewhere = Teller(url, token).project
    story["another's tab"] = status_of(lambda: elsewhere.ids_of_view(int(made["id"])))
    story["past the end"] = status_of(
        lambda: studio.get("/api/tasks", params={"project": project.id, "page": 9})
    )

    # tabs of ours
    def is_ours(title: str) -> bool:
        return title.startswith("Next")

    scored = [OURS, 3, 0.2], [OURS, 4, 0.9], [ALIKE, 5, 0.1]
    for version, place, score in scored:
        one.predict(str(version), int(place), score=score)
    path = f"/api/projects/{project.id}/"
    studio.patch(path, json={"model_version": OURS})
    filled = project.save_tab("Next 4", [numbers[n] for n in (4, 0, 3, 5)], is_ours=is_ours)
    story["worst score first, unknown last"] = one.places(project.ids_of_view(filled))
    again = project.save_tab("Next 2", [numbers[4], numbers[3]], is_ours=is_ours)
    story["filled anew"] = again == filled, one.places(project.ids_of_view(again))
    by_the_browser = {"title": "Next 2", "type": "list", "ordering": ["-tasks:id", "tasks:data.n"]}
    studio.patch(f"/api/dm/views/{filled}/", json={"project": project.id, "data": by_the_browser})
    tabs = studio.get("/api/dm/views/", params={"project": project.id})
    story["tabs"] = [(tab["id"] == filled, sorted(tab["data"])) for tab in tabs]
    story["no tab to change"] = status_of(
        lambda: studio.patch(f"/api/dm/views/{10**8}/", json={"project": project.id, "data": {}})
    )
    studio.delete(f"/api/dm/views/{filled}/")
    story["tabs left"] = len(studio.get("/api/dm/views/", params={"project": project.id}))
    studio.patch(path, json={"model_version": ""})
    for _, place, _ in scored:
        project.delete_prediction(project.predictions(numbers[int(place)])[-1]["id"])

    # taking back
    some = project.predictions(numbers[0])[0]["id"]
    story["dated by one"] = one.touched(lambda: project.delete_prediction(some))
    story["again"] = project.delete_prediction(some)
    story["dated by all of"] = one.touched(lambda: project.delete_all_of([numbers[4]]))
    project.delete_all_of([])
    project.delete_all_of([10**8])
    story["left"] = project.versions()
    story["dated by version"] = one.touched(lambda: project.delete_version(OURS))
    story["in the end"] = project.versions()
    project.delete_version("nobody")

    # gone
    studio.delete(f"/api/tasks/{numbers[5]}/")
    story["gone"] = project.predictions(numbers[5]), project.annotations(numbers[5])
    story["nobody's"] = [
        status_of(StudioProject(studio, 10**8).facts),
        status_of(StudioProject(studio, 10**8).versions),
        status_of(lambda: studio.get("/api/nowhere")),
    ]
    facts = project.facts()
    story["facts"] = facts.label_config, facts.tasks, facts.annotated, facts.listing_predicts
    story["connections"] = project.connections()
    studio.close()
    return story


def given(**fields: Any) -> Mapping[str, Any]:
    """The body of an annotation."""
    return {"result": [], **fields}


def told_by_the_double(**options: Any) -> Story:
    with studio_server(**options) as server:
        return tell(server.url, LEGACY_TOKEN)


def test_a_strict_label_studio_and_the_double_answer_alike(label_studio: LabelStudioServer):
    assert tell(label_studio.url, label_studio.account.token) == told_by_the_double(strict=True)


def test_a_lenient_label_studio_and_the_double_answer_alike(
    lenient_label_studio: LabelStudioServer,
):
    real = tell(lenient_label_studio.url, lenient_label_studio.account.token)

    assert real == told_by_the_double(strict=False)
    assert real["no such control"] == 0, "left out without a word"


def one_by_one(teller: Teller, text: str) -> list[int]:
    return teller.places(teller.project.ids([read_filter(text)]))


VALUES = {
    "id": "THIRD",
    "inner_id": "3",
    "created_at": "2020-01-31T18:00:00+02:00",
    "updated_at": "2120-01-31",
    "total_annotations": "0",
    "total_predictions": "1",
    "file_upload": "nobody",
    "data.n": "2",
    "data.digits": "2",
    "data.word": "harbour",
}


def readable(text: str) -> bool:
    try:
        read_filter(text)
    except BadRequest:
        return False
    return True


EVERY_FILTER = [f"{column}{sign}{value}" for column, value in VALUES.items() for sign in SIGNS] + [
    'data.digits="2"',
    "data.digits~2",
    "data.nobody=3",
    "data.word~ARB",
]


def test_every_column_has_a_value_here():
    assert set(COLUMNS) <= set(VALUES)


@pytest.fixture(scope="module")
def real_and_double(label_studio: LabelStudioServer):
    with studio_server() as server:
        tellers = (
            Teller(label_studio.url, label_studio.account.token),
            Teller(server.url, LEGACY_TOKEN),
        )
        for one in tellers:
            one.predict(OURS, 0, 1)
        yield tellers
        for one in tellers:
            one.studio.close()


@pytest.mark.parametrize(
    "text", [one for one in EVERY_FILTER if readable(one.replace("THIRD", "3"))]
)
def test_every_filter_means_the_same_to_both(real_and_double: Sequence[Teller], text: str):
    real, double = (
        one_by_one(teller, text.replace("THIRD", str(teller.numbers[2])))
        for teller in real_and_double
    )

    assert real == double
