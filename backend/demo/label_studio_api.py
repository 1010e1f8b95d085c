"""The few requests to Label Studio's API that the demonstration, `doctor` and the tests make."""

from collections.abc import Mapping, Sequence
from typing import Any

import requests

from .errors import Refused

Json = dict[str, Any]


class LabelStudioApi:
    """A client with one token; every method raises Refused with what Label Studio said.

    `token` is a legacy token (40 hex digits) or a personal access token, told apart by their
    form. `timeout` in seconds; retrieving predictions may take long. `verify`: whether the
    certificate of https:// must be trusted.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 180.0, verify: bool = True
    ) -> None:
        self.url, self._timeout = url.rstrip("/"), timeout
        self._session = requests.Session()
        self._session.verify = verify
        self._session.trust_env = False  # a proxy has no business between two local servers
        if token.count(".") == 2:
            try:
                access = self.call("POST", "/api/token/refresh", json={"refresh": token})["access"]
            except BaseException:
                self.close()
                raise
            self._session.headers["Authorization"] = f"Bearer {access}"
        else:
            self._session.headers["Authorization"] = f"Token {token}"

    def close(self) -> None:
        """Close the connections kept open."""
        self._session.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request; returns the decoded JSON, or the bytes where the answer is not JSON."""
        answer = self._session.request(
            method, f"{self.url}{path}", timeout=self._timeout, **options
        )
        if answer.status_code >= 400:
            raise Refused(f"{method} {path}", answer.status_code, _message(answer))
        if "json" in answer.headers.get("Content-Type", ""):
            return answer.json()
        return answer.content

    def create_project(self, title: str, label_config: str) -> int:
        """A new project; returns its id."""
        body = {"title": title, "label_config": label_config}
        made = self.call("POST", "/api/projects", json=body)
        return int(made["id"])

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, int]:
        """Upload pictures, one task each; returns file name -> task id."""
        parts = [(name, (name, content, "image/png")) for name, content in files.items()]
        self.call("POST", f"/api/projects/{project}/import", files=parts)
        return {
            name: task["id"]
            for task in self.tasks(project)
            for name in files
            if str(next(iter(task["data"].values()))).endswith(f"-{name}")
        }

    def import_tasks(self, project: int, tasks: Sequence[Json]) -> None:
        """Add tasks whose data is given, for example {"image": "http://…"}."""
        self.call("POST", f"/api/projects/{project}/import", json=list(tasks))

    def tasks(self, project: int) -> list[Json]:
        """All tasks of a project, with their data and predictions, by id."""
        page = self.call(
            "GET", "/api/tasks", params={"project": project, "page_size": 1000, "fields": "all"}
        )
        return sorted(page["tasks"], key=lambda task: int(task["id"]))

    def connect(self, project: int, url: str, title: str = "CLIPer", **fields: Any) -> Json:
        """Connect a backend; `fields` as Label Studio names them (auth_method …)."""
        body = {"project": project, "url": url, "title": title, **fields}
        made: Json = self.call("POST", "/api/ml", json=body)
        return made

    def connections(self, project: int) -> list[Json]:
        """The backends connected to a project, with their state and last error."""
        found: list[Json] = self.call("GET", "/api/ml", params={"project": project})
        return found

    def retrieve_predictions(self, project: int) -> Json:
        """The Data Manager's batch action on all tasks: one request to the backend."""
        answer: Json = self.call(
            "POST",
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": True, "excluded": []}},
        )
        return answer

    def predictions(self, project: int) -> list[Json]:
        """All stored predictions of a project, by id."""
        found = self.call("GET", "/api/predictions", params={"project": project})
        listed = found["results"] if isinstance(found, dict) else found
        return sorted(listed, key=lambda prediction: int(prediction["id"]))

    def personal_token(self) -> str:
        """A new personal access token (a refresh token in JWT form) of this user."""
        return str(self.call("POST", "/api/token/")["token"])

    def allow_legacy_tokens(self, allowed: bool) -> None:
        """Switch the organisation's old-style tokens on or off."""
        self.call(
            "POST",
            "/api/jwt/settings",
            json={"legacy_api_tokens_enabled": allowed, "api_tokens_enabled": True},
        )


def _message(answer: requests.Response) -> str:
    """What Label Studio wants to say, without the trace it may append."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.text[:500]
    if not isinstance(body, dict):
        return str(body)
    said = body.get("validation_errors") or body.get("detail") or body
    if isinstance(said, dict):
        said = "; ".join(_flat(said))
    return str(said)


def _flat(errors: Mapping[str, Any]) -> list[str]:
    """Field errors as sentences: {"field": ["a", "b"]} -> ["field: a", "field: b"]."""
    sentences = []
    for field, values in errors.items():
        for value in values if isinstance(values, list) else [values]:
            sentences.append(str(value) if field == "non_field_errors" else f"{field}: {value}")
    return sentences
