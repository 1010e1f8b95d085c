"""Write docs/reference/http.md from the OpenAPI document of the service.

    python scripts/write_http_docs.py

A test compares the page with the document, so it cannot fall behind.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "http.md"
KEYS = {"basic": "password", "bearer": "token"}
KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "array": "list",
    "null": "null",
}
LONGEST_PATTERN = 60  # characters; a longer one is for programs

INTRODUCTION = """\
# HTTP interface

Made from `backend/api/openapi.json` by `python scripts/write_http_docs.py`. A running service answers that document at `/openapi.json`, for tools that read OpenAPI 3.1. Tests send every example below, and
many requests that nobody thought of, and hold every answer against it.

"""  # noqa: E501 - a page

Json = Any


def page() -> str:
    """The whole page as Markdown."""
    from backend.api.openapi import read

    document = read("unknown")
    operations = list(operations_of(document))
    lines = [INTRODUCTION + document["info"]["description"], ""]
    header = document["components"]["parameters"]["RequestId"]
    lines += [f"Every request may have the header `{header['name']}`. {header['description']}", ""]
    lines += [*routes(operations), "", *errors(document, operations), ""]
    shown: dict[str, str] = {}
    for method, path, operation in operations:
        lines += section(document, method, path, operation, shown)
    lines += ["## Bodies", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", *described(schema), ""]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def operations_of(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path, and the operation with the parameters of its path."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                parameters = [*item["parameters"], *operation.get("parameters", ())]
                yield method.upper(), path, {**operation, "parameters": parameters}


def resolved(document: Json, node: Json) -> Json:
    """What a reference stands for."""
    while "$ref" in node:
        found = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def routes(operations: list[tuple[str, str, Json]]) -> list[str]:
    rows = ["## Routes", "", "| request | what | opened by |", "| --- | --- | --- |"]
    for method, path, operation in operations:
        keys = [KEYS[name] for one in operation["security"] for name in one]
        title = f"{method} {path}"
        rows.append(
            f"| [`{title}`](#{anchor(title)}) | {cell(operation['summary'])} | "
            f"{' or '.join(keys) or 'everybody'} |"
        )
    return [*rows, "", "Password and token: where they are set."]


def errors(document: Json, operations: list[tuple[str, str, Json]]) -> list[str]:
    """Every status with the body of an error, where it comes, and when."""
    everywhere = [f"`{method} {path}`" for method, path, _ in operations]
    found: dict[tuple[str, str, str], list[str]] = {}
    for method, path, operation in operations:
        for status, given in operation["responses"].items():
            answer = resolved(document, given)
            if is_error(answer):
                place = (status, answer["description"], first_sentence(answer))
                found.setdefault(place, []).append(f"`{method} {path}`")
    only = document["components"]["responses"]["MethodNotAllowed"]
    found["405", only["description"], first_sentence(only)] = everywhere
    rows = ["## Errors", "", "| status | of | when | such as |", "| --- | --- | --- | --- |"]
    for (status, when, said), where in sorted(found.items(), key=lambda pair: pair[0][0]):
        others = [one for one in everywhere if one not in where]
        of = ", ".join(where)
        if len(others) < 4:
            of = f"everything but {', '.join(others)}" if others else "everything"
        rows.append(f"| {status} | {of} | {cell(when)} | {cell(said)} |")
    return rows


def is_error(answer: Json) -> bool:
    return str(_schema(answer).get("$ref", "")).endswith("/Error")


def first_sentence(answer: Json) -> str:
    """Of its examples."""
    return next((str(one["value"]["error"]) for one in _examples(answer).values()), "")


def section(
    document: Json, method: str, path: str, operation: Json, shown: dict[str, str]
) -> list[str]:
    """One operation: what it takes, what it answers, examples of both.

    `shown`: answers of several operations whose examples stand on the page already, and where.
    """
    told = f"{operation['summary']}. {operation.get('description', '')}".rstrip()
    lines = [f"## {method} {path}", "", told]
    parameters = [resolved(document, given) for given in operation["parameters"]]
    own = [one for one in parameters if one["in"] != "header"]  # that one stands above
    if own:
        lines += ["", "| parameter | in | type | meaning |", "| --- | --- | --- | --- |"]
    for one in own:
        what, meaning = kind(one["schema"]), cell(one["description"])
        lines.append(f"| `{one['name']}` | {one['in']} | {what} | {meaning} |")
    body = resolved(document, operation.get("requestBody", {}))
    if body:
        schema = _schema(body)
        lines += ["", f"Body: {schema.get('description') or f'{kind(schema)}.'}"]
    lines += ["", "| status | meaning | body |", "| --- | --- | --- |"]
    answers = {
        status: resolved(document, given) for status, given in operation["responses"].items()
    }
    for status, answer in answers.items():
        if not is_error(answer):
            lines.append(f"| {status} | {cell(answer['description'])} | {kind(_schema(answer))} |")
    refused = [status for status, answer in answers.items() if is_error(answer)]
    lines.append(f"| {', '.join(refused)} | [errors](#errors) | {kind({'$ref': 'Error'})} |")
    sent = _examples(body)
    for name, example in sent.items():
        status, answer = next(
            (status, _examples(one)[name])
            for status, one in answers.items()
            if name in _examples(one)
        )
        lines += ["", f"{example['summary']}:", "", *block(example["value"])]
        lines += ["", f"Answered with {status}:", "", *block(answer["value"])]
    for status, answer in answers.items():
        examples = {name: one for name, one in _examples(answer).items() if name not in sent}
        if is_error(answer) or not examples:
            continue
        name = operation["responses"][status].get("$ref", "")
        if name in shown:
            lines += ["", f"The answer looks like that of [{shown[name]}](#{anchor(shown[name])})."]
            continue
        if name:
            shown[name] = f"{method} {path}"
        for example in examples.values():
            title = example.get("summary", f"{status}, for example")
            lines += ["", f"{title}:", "", *block(example["value"])]
    return [*lines, ""]


def block(value: Json) -> list[str]:
    if isinstance(value, str):
        return ["```text", *value.rstrip("\n").split("\n"), "```"]
    return ["```json", *compact(value).split("\n"), "```"]


def compact(value: Json, indent: str = "") -> str:
    """JSON in as few lines as are easy to read: what fits into one line is one."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= 110 or not isinstance(value, dict | list):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {compact(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{inner}{compact(one, inner)}" for one in value) + f"\n{indent}]"


def described(schema: Json) -> list[str]:
    """A schema of its own: what it is, and its fields."""
    said = [schema["description"]] if "description" in schema else []
    fields = list(rows_of(schema))
    if not fields:
        plain = {name: value for name, value in schema.items() if name != "description"}
        return [" ".join([*said, f"{kind(plain)}." if plain else ""]).strip()]
    return [*said, "", "| field | type | meaning |", "| --- | --- | --- |", *fields]


def rows_of(schema: Json, before: str = "") -> Iterator[str]:
    """A row per field, those of fields that are objects themselves too."""
    needed = set(schema.get("required", ()))
    for name, one in schema.get("properties", {}).items():
        must = "" if name in needed else " (may be missing)"
        yield f"| `{before}{name}`{must} | {kind(one)} | {cell(one.get('description', ''))} |"
        yield from rows_of(one, f"{before}{name}.")
        yield from rows_of(one.get("items", {}), f"{before}{name}[].")
        for other in one.get("oneOf", ()):
            yield from rows_of(other, f"{before}{name}.")
        inside = one.get("additionalProperties", False)
        if isinstance(inside, Mapping):
            yield from rows_of(inside, f"{before}{name}.*.")


def kind(schema: Json) -> str:
    """What a value may be, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(kind, schema["oneOf"])))
    types = schema.get("type", [])
    named = [KINDS[one] for one in ([types] if isinstance(types, str) else types)]
    if "items" in schema:
        named = [f"list of {kind(schema['items'])}" if one == "list" else one for one in named]
    return " or ".join(named or ["anything"]) + "".join(f", {one}" for one in bounds(schema))


def bounds(schema: Json) -> Iterator[str]:
    """How large, how long, how many."""
    for low, high, what in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " of them"),
    ):
        least, most = schema.get(low), schema.get(high)
        if least is not None and most is not None:
            yield f"{least} to {most:,}{what}" if least != most else f"{least}{what}"
        elif most is not None:
            yield f"at most {most:,}{what}"
        elif least is not None and (least != 1 or what != " characters"):
            yield f"at least {least}{what}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']}"
    pattern = schema.get("pattern", "")
    if 0 < len(pattern) <= LONGEST_PATTERN:
        yield f"like `{cell(pattern)}`"


def anchor(title: str) -> str:
    """As the usual renderers spell a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in "_- ")
    return kept.replace(" ", "-")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _media(body: Json) -> Json:
    return next(iter(body.get("content", {"": {}}).values()))


def _schema(body: Json) -> Json:
    return _media(body).get("schema", {})


def _examples(body: Json) -> Json:
    return _media(body).get("examples", {})


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
