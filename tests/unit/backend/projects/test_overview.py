"""Names of tasks, and that the long lists of jobs stay behind."""

from typing import Any

import pytest

from backend.jobs.base import Job
from backend.labelstudio.tasks import Task
from backend.prelabel.works import LabelStudio
from backend.projects.overview import LONGEST_NAME, SECONDS, brief, in_a_hurry, name_of
from backend.storage.base import Scope
from backend.studio.project import Listed


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/data/upload/3/0a1b2c3d-cat.png"}, "cat.png"),
        ({"image": "/data/local-files/?d=set%20a/cat%20one.png"}, "cat one.png"),
        ({"image": "s3://bucket/folder/cat.png"}, "cat.png"),
        ({"image": "https://x.example/cat.png?sig=geheim#top"}, "cat.png"),
        ({"image": "https://x.example/"}, "https://x.example/"),
        ({"image": "cat.png"}, "cat.png"),
        ({"caption": "A cat / a dog", "image": "/a/b.png"}, "b.png"),
        ({"n": 5, "caption": "Two\n  cats"}, "Two cats"),
        ({"image": "data:image/png;base64,AAAA"}, "task 12"),
        ({"image": ["/a.png"], "blank": "  "}, "task 12"),
        ({}, "task 12"),
        ({"image": "http://[broken"}, "http://[broken"),
        ({"caption": "x" * 100_000}, "x" * LONGEST_NAME),
    ],
)
def test_a_task_is_known_by_its_file_or_its_words(data: dict[str, Any], name: str):
    listed = Listed(task=Task(12, data), annotations=0, predictions=0)

    assert name_of(listed) == name


def test_a_jobs_long_lists_are_not_shown():
    params = {"project": 1, "tasks": list(range(100_000)), "filters": ["id>1"], "limit": None}
    job = Job(id="1", kind="prelabel", scope=Scope(), params=params, key="")

    assert brief(job).params == {"project": 1, "limit": None}
    assert job.params is params


def test_whoever_waits_asks_once():
    studio = LabelStudio(url="http://ls.example", token="t")

    hurried = in_a_hurry(studio)

    assert (hurried.patience.total, hurried.timeout) == (0.0, SECONDS)
    assert (hurried.url, hurried.token) == (studio.url, studio.token)
