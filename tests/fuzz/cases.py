"""Hostile input for everything the service reads: one case per number, always the same.

`case(seed, number)` begins with what a real Label Studio sends (protocol notes §1) and breaks it.
"""

import base64
import functools
import hashlib
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ..doubles.pictures import striped_png
from .configs import CONFIGS, hostile_config
from .masks import REGIONS, hostile_code, hostile_region
from .mutate import bytes_mutated, mutated, written
from .pictures import files, hostile_picture

Json = Any

KINDS = {  # and how many of a hundred cases are of each
    "predict": 23,
    "setup": 11,
    "webhook": 8,
    "jobs": 9,
    "anywhere": 7,
    "config": 8,
    "code": 8,
    "region": 8,
    "picture": 12,
    "ui": 6,
}
KEPT = striped_png("red", "blue")
UI_TOKEN = "the-token-of-the-page"
UI_PLACES = (
    "panes", "panes", "panes", "exports/overlay", "exports/labels", "exports/coco",
    "exports/nothing", "pictures", "pictures",
)  # fmt: skip
UI_READ = (
    "", "/", "/static/style.css", "/static/%2e%2e/app.py", "/static/" + "a" * 3000, "/api/meta",
    "/api/status", "/api/scenes/3.png", "/api/scenes/99.png", "/api/scenes/-1.png",
    "/api/pictures/x", "/api/pictures/%00", "/api/pictures/" + "9" * 3000, "/projects",
    "/api/projects",
)  # fmt: skip
TYPES = (
    "application/json", "application/json; charset=utf-16", "text/plain", "", "text/html\r\nx: y",
    "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "a" * 5000,
)  # fmt: skip
ENCODINGS = ("gzip", "deflate", "br", "identity", "gzip, gzip", "x" * 300)
NAMES = ("Accept", "Authorization", "Host", "Range", "X-Forwarded-For", "Cookie")
GIVEN = ("", "x", "Basic !!!", "Basic " + "A" * 999, "\xff", "bytes=9-1", "[::1", "a" * 9000)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")
PATHS = (
    "/", "/health", "/setup", "/predict", "/webhook", "/versions", "/jobs", "/jobs/x",
    "/jobs/x/resume", "/nowhere", "/metrics", "/predict/", "//predict", "/%00", "/%ed%a0%80",
    "/\u202e",
    "/jobs/%2e%2e%2f", "/jobs/" + "9" * 3000, "/static/../app.py", "/.git/config", "/jobs/\r\n",
)  # fmt: skip
QUERIES = (
    "", "", "project=1", "project=", "project=1&project=2", "project=%ff", "project=%00",
    "a=" * 2000,
    "project=" + "9" * 4500, "project=%ed%a0%80", "limit=-1", "&&&=", "project=1.1795190531",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to try.

    kind     a key of KINDS
    request  method, path, headers and body, for cases that speak HTTP; `tasks` counts the entries
             the answer must have if it is one; None: nobody can say
    given    what a decoder gets, for the others
    """

    number: int
    kind: str
    method: str = "POST"
    path: str = "/"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False
    tasks: int | None = None
    given: tuple[Any, ...] = ()


def case(seed: int, number: int) -> Case:
    """The case with this number; needs none of the others."""
    random = Random(f"{seed}/{number}")
    kind = random.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "config":
        return Case(number=number, kind=kind, given=(hostile_config(random),))
    if kind == "code":
        return Case(number=number, kind=kind, given=hostile_code(random))
    if kind == "region":
        return Case(number=number, kind=kind, given=hostile_region(random))
    if kind == "picture":
        return Case(number=number, kind=kind, given=hostile_picture(random))
    if kind == "anywhere":
        return _anywhere(number, random)
    if kind == "ui":
        return _ui(number, random)
    return _asked(number, kind, random)


def _asked(number: int, kind: str, random: Random) -> Case:
    path, body = f"/{kind}", BODIES[kind](random)
    pick = random.random()
    if kind in ("predict", "setup") and pick < 0.3:
        body["label_config" if kind == "predict" else "schema"] = hostile_config(random)
    elif kind == "predict" and pick < 0.45:
        data, page = hostile_picture(random)
        _first(body)["data"] = {"image": _data_url(data), "pages": [_data_url(data)], "page": page}
    else:
        body = mutated(body, random)
    sent = written(body)
    if random.random() < 0.12:
        sent = bytes_mutated(sent, random)
    if random.random() < 0.03:  # a key twice
        sent = sent.replace(b'"project"', b'"tasks":[],"project"', 1)
    tasks = _tasks_of(sent) if kind == "predict" else None
    headers, chunked = _headers(random)
    return Case(
        number=number,
        kind=kind,
        path=path,
        body=sent,
        headers=headers,
        chunked=chunked,
        tasks=tasks,
    )


def _ui(number: int, random: Random) -> Case:
    """What our own pages ask, broken; nearly always with their token."""
    headers, chunked = _headers(random)
    if random.random() < 0.95:
        headers["X-CSRF-Token"] = UI_TOKEN  # the cookie is the client's business
    if random.random() < 0.15:
        path, query = f"/ui{random.choice(UI_READ)}", random.choice((*QUERIES, "about"))
        return Case(number=number, kind="ui", method="GET", path=path, query=query, headers=headers)
    place = random.choice(UI_PLACES)
    query = random.choice(("", "name=a.png", "name=%22%0d%0ax:%20y", "name=" + "a" * 3000))
    if place == "pictures" and random.random() < 0.6:
        body, headers["Content-Type"] = hostile_picture(random)[0], "image/png"
    else:
        told: Json = {"picture": kept_id(), "config": random.choice(CONFIGS), "control": None}
        if place == "pictures":
            told = random.choice(({"scene": 3}, {"project": 1, "task": "x"}, {"scene": 10**30}))
        elif random.random() < 0.4:
            told["config"] = hostile_config(random)
        body = written(mutated(told, random) if random.random() < 0.5 else told)
    return Case(
        number=number,
        kind="ui",
        path=f"/ui/api/{place}",
        query=query if place == "pictures" else "",
        headers=headers,
        body=body,
        chunked=chunked,
    )


@functools.cache
def kept_id() -> str:
    """Of the picture that the rig's page has."""
    digest = hashlib.sha256(KEPT).hexdigest()
    return hashlib.sha256(f"{digest} ".encode()).hexdigest()[:20]


def _anywhere(number: int, random: Random) -> Case:
    kind = random.choice(list(BODIES))
    body = written(mutated(BODIES[kind](random), random)) if random.random() < 0.5 else b""
    if random.random() < 0.2:
        body = random.randbytes(random.choice((0, 1, 100, 50_000)))
    headers, chunked = _headers(random)
    return Case(
        number=number,
        kind="anywhere",
        method=random.choice(METHODS),
        path=random.choice(PATHS),
        query=random.choice(QUERIES),
        headers=headers,
        body=body,
        chunked=chunked,
    )


def _headers(random: Random) -> tuple[dict[str, str], bool]:
    headers = {"Content-Type": "application/json"}
    if random.random() < 0.1:
        headers["Content-Type"] = random.choice(TYPES).replace("\r\n", "")
    if random.random() < 0.06:
        headers["Content-Encoding"] = random.choice(ENCODINGS)
    if random.random() < 0.06:
        headers[random.choice(NAMES)] = random.choice(GIVEN)
    return headers, random.random() < 0.1


def _tasks_of(sent: bytes) -> int | None:
    """How many tasks a reader of JSON sees; None where it sees no list of them."""
    try:
        tasks = json.loads(sent)["tasks"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return len(tasks) if isinstance(tasks, list) else None


def _data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _first(body: Json) -> Json:
    return body["tasks"][0]


@functools.cache
def _addresses() -> tuple[str, ...]:
    small = (
        files()[name] for name in ("png", "jpeg", "gif", "webp", "bmp", "tiff-deflate", "heic")
    )
    return (
        *map(_data_url, small),
        "/data/local-files/?d=a.png",
        "/data/upload/1/a.png",
        "s3://b/a.png",
    )


def _task(number: int, random: Random) -> Json:
    address = random.choice(_addresses())
    return {
        "id": number,
        "data": {
            "image": address,
            "pages": [address, random.choice(_addresses())],
            "page": 1,
            "labels": ["red", {"value": "blue", "alias": "b", "children": []}],
        },
        "meta": {},
        "is_labeled": False,
        "inner_id": number,
        "project": 1,
        "file_upload": 1,
        "created_at": "2026-02-01T00:00:00Z",
        "annotations": [_annotation(random)],
        "predictions": [],
    }


def _annotation(random: Random) -> Json:
    return {
        "id": 7,
        "task": 3,
        "completed_by": 1,
        "result": [random.choice(REGIONS)],
        "was_cancelled": False,
        "ground_truth": False,
        "parent_prediction": None,
        "lead_time": 4.2,
        "updated_at": "2026-02-01T00:00:00Z",
    }


def _predict(random: Random) -> Json:
    context = None
    if random.random() < 0.3:
        context = {"result": [_click(random) for _ in range(random.choice((1, 1, 2, 5)))]}
    many = 1 if context or random.random() < 0.6 else random.choice((0, 2, 3, 3))
    return {
        "tasks": [_task(number, random) for number in range(1, many + 1)] or [_task(1, random)],
        "project": "1.1795190531",
        "label_config": random.choice(CONFIGS),
        "params": {"login": None, "password": None, "context": context},
    }


def _click(random: Random) -> Json:
    common = {"id": "i4nzJ8Frvp", "to_name": "image", "origin": "manual", "original_width": 16,
              "original_height": 12, "image_rotation": 0}  # fmt: skip
    if random.random() < 0.5:
        value = {"x": 29.9, "y": 34.9, "width": 0.3, "labels": ["red"], "keypointlabels": ["red"]}
        kind = {"from_name": "kp", "type": "keypointlabels", "is_positive": random.random() < 0.7}
    else:
        value = {
            "x": 5,
            "y": 5,
            "width": 35.0,
            "height": 39.9,
            "rotation": 30,
            "rectanglelabels": ["red"],
        }
        kind = {"from_name": "rc", "type": "rectanglelabels"}
    return {**common, **kind, "value": value}


def _setup(random: Random) -> Json:
    return {
        "project": "1.1795190531",
        "schema": random.choice(CONFIGS),
        "hostname": "http://localhost:8080",
        "access_token": "0123456789abcdef0123456789abcdef01234567",
        "extra_params": random.choice(
            (None, "", '{"model_score_threshold": 0.4}', "{", "[" * 2000, '{"a":' * 2000,
             {"model_min_area": 0.01, "model_overlap": True},
             {"model_background": ["red", "blue"], "model_prompt": "a {}"})
        ),
    }  # fmt: skip


def _webhook(random: Random) -> Json:
    project = {"id": 12, "label_config": CONFIGS[0], "parsed_label_config": {}}
    task, one = _task(3, random), _annotation(random)
    return random.choice(
        (
            {"action": "ANNOTATION_CREATED", "project": project, "annotation": one, "task": task},
            {"action": "ANNOTATIONS_CREATED", "project": project, "annotation": [one],
             "task": [task]},
            {"action": "ANNOTATIONS_DELETED", "project": project, "annotations": [{"id": 7}]},
            {"action": "TASKS_DELETED", "project": project, "tasks": [{"id": 3}]},
            {"action": "PROJECT_UPDATED", "project": project},
            {"action": "START_TRAINING", "project": project},
        )
    )  # fmt: skip


def _jobs(random: Random) -> Json:
    conditions = (
        "data.split=train", "id>=100", "data.name~harbour", "created_at>2026-01-31",
        "created_at>0001-01-01T00:00:00+23:00", "created_at<9999-12-31T23:59:59-23:00",
        '{"filter": 1}',
        '{"filter":"filter:tasks:id","operator":"equal","type":"Number","value":1}', "[" * 2000,
        '{"a":' * 2000, "a" + " " * 4000 + "b", " " * 4000 + "!",
    )  # fmt: skip
    return random.choice(
        (
            {"kind": "prelabel", "project": 12, "filters": [random.choice(conditions)],
             "limit": 5, "redo": False},
            {"kind": "prelabel", "project": 12, "tasks": [1, 2, 3], "key": "12.1795190531"},
            {"kind": "undo", "project": 12, "version": "paintbox-colours-1a2b3c4d",
             "dry_run": True},
            {"kind": "learn", "project": 12, "reread": True, "now": False},
        )
    )  # fmt: skip


BODIES = {"predict": _predict, "setup": _setup, "webhook": _webhook, "jobs": _jobs}
