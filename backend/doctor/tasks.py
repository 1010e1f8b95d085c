"""A look at the project's tasks that stays small however many there are."""

import json
from collections.abc import Sequence
from typing import Any

from ..demo.label_studio_api import Json, LabelStudioApi

Rule = tuple[str, str, str, Any]  # column, operator, type, value


def look(api: LabelStudioApi, project: int, *rules: Rule) -> tuple[int, Json | None]:
    """How many tasks fit all rules, and the first of them with its data as imported."""
    page = api.call(
        "GET",
        "/api/tasks",
        params={
            "project": project,
            "page": 1,
            "page_size": 1,
            "fields": "task_only",
            "resolve_uri": "false",
            "query": json.dumps(_query(rules)),
        },
    )
    found = page["tasks"]
    return int(page["total"]), found[0] if found else None


def numbered(number: int) -> Rule:
    return ("id", "equal", "Number", number)


def with_version(version: str) -> Rule:
    """Having a prediction of exactly this kind, among others."""
    return ("predictions_model_versions", "contains", "List", [version])


WITH_ANY: Rule = ("total_predictions", "greater", "Number", 0)


def _query(rules: Sequence[Rule]) -> Json:
    items = [
        {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
        for column, operator, kind, value in rules
    ]
    return {"filters": {"conjunction": "and", "items": items}}
