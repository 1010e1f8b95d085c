"""Answers held against the OpenAPI document of the service."""

import re
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from werkzeug.test import TestResponse

from backend.api import openapi
from backend.api.secret_address import PREFIX

Json = Any

DOCUMENT: Json = openapi.read("test")
METHODS = ("get", "post", "put", "delete", "patch")
ALSO = ("HEAD", "OPTIONS")  # of every path, without being in the document


def resolved(node: Json) -> Json:
    """What a reference stands for."""
    while "$ref" in node:
        found = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, Json]]:
    """Path, method and what the document says of both."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def operation_at(path: str, method: str) -> Json | None:
    """None where there is no such path; an empty one where it has no such method."""
    for pattern, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
            return item.get(method.lower(), {})
    return None


def problems(value: Json, schema: Json) -> list[str]:
    """What is wrong with a value; empty where it is as the schema says."""
    whole = {**schema, "components": DOCUMENT["components"]}
    found = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
    return [f"{one.json_path}: {one.message[:300]}" for one in found]


def expected(path: str, method: str, status: int) -> Json:
    """What the document says of an answer. Raises AssertionError where it says nothing."""
    operation = operation_at(path, method)
    answers = DOCUMENT["components"]["responses"]
    if operation is None:
        named = {"401": "Unauthorized", "404": "NotFound", "415": "UnsupportedMediaType"}
        assert str(status) in named, f"{status} for {path}, which is nowhere"
        return answers[named[str(status)]]
    if not operation:
        named = {
            "401": "Unauthorized",
            "405": "MethodNotAllowed",
            "415": "UnsupportedMediaType",
        }
        assert str(status) in named, f"{status} for a method that {path} does not have"
        return answers[named[str(status)]]
    known = operation["responses"]
    assert str(status) in known, f"{method} {path}: {status} is not in the document"
    return resolved(known[str(status)])


def check(answer: TestResponse, path: str, method: str) -> None:
    """Raises AssertionError where an answer is not as the document says."""
    told = expected(path, method, answer.status_code)
    what = f"{method} {path}: {answer.status}"
    for name, header in told["headers"].items():
        schema = resolved(header)["schema"]
        assert name in answer.headers, f"{what} without {name}"
        assert not problems(answer.headers[name], schema), f"{what}: {name}"
    ((media, content),) = told["content"].items()
    assert answer.mimetype == media, what
    value = answer.get_data(as_text=True) if media == "text/plain" else answer.get_json()
    wrong = problems(value, content["schema"])
    assert not wrong, f"{what}: {wrong[:3]}"


class DocumentedClient(FlaskClient):
    """Flask's test client; every answer must be as the document says."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        method, path = answer.request.method, answer.request.path
        place = below_the_secret(path, self.application)
        if method not in ALSO and not is_of_pages(place):
            check(answer, place, method)
        return answer


def is_of_pages(path: str) -> bool:
    """The pages' own data is no interface for others, and so not in the document."""
    return path == "/ui" or path.startswith("/ui/")


def below_the_secret(path: str, app: Any) -> str:
    """A path as the document has it: every one is found below the secret address, too."""
    secret = app.extensions["services"].webhook_secret
    if secret is not None and path.startswith(f"{PREFIX}{secret}/"):
        return path.removeprefix(f"{PREFIX}{secret}").rstrip("/") or f"{PREFIX}{secret}"
    return path
