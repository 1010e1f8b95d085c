"""What a code host reads: how to cite, and what an issue is asked."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from .pages import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
FORMS = [path for path in TEMPLATES if path.name != "config.yml"]

# Of the Citation File Format 1.2.0.
REQUIRED = {"cff-version", "message", "title", "authors"}
KNOWN = REQUIRED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license",
    "license-url", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "type", "url", "version",
}  # fmt: skip
REFERENCE = {
    "authors", "title", "type", "year", "collection-title", "conference", "identifiers", "url",
    "start", "end", "doi", "journal", "volume", "issue", "month", "notes", "license", "version",
}  # fmt: skip
PERSON = {"family-names", "given-names", "orcid", "affiliation", "email", "alias", "website"}
IDENTIFIER_TYPES = {"doi", "url", "swh", "other"}

# Of issue forms.
FORM = {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def test_the_citation_has_the_keys_of_its_format():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert set(CITATION) >= REQUIRED
    assert set(CITATION) <= KNOWN
    for person in CITATION["authors"]:
        assert set(person) <= PERSON or set(person) <= {"name", "website", "email"}


def test_the_citation_is_of_this_version_and_licence():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]

    assert str(CITATION["version"]) == project["version"]
    assert CITATION["license"] == project["license"]


def test_the_citation_names_the_paper():
    (paper,) = CITATION["references"]

    assert set(paper) >= {"type", "title", "authors"}
    assert set(paper) <= REFERENCE
    assert paper["title"].startswith("CLIPer: ")
    assert {"type": "other", "value": "arXiv:2411.13836"} in paper["identifiers"]
    assert {one["type"] for one in paper["identifiers"]} <= IDENTIFIER_TYPES
    assert set(paper["conference"]) >= {"name"}
    assert isinstance(paper["year"], int)
    for person in paper["authors"]:
        assert set(person) <= PERSON
    names = ", ".join(person["family-names"] for person in paper["authors"])
    source = (ROOT / "cliper_model" / "methods" / "cliper.py").read_text(encoding="utf-8")
    assert f"{names}; ICCV {paper['year']}" in source


def test_there_is_a_form_for_faults_for_masks_and_for_wishes():
    assert [path.stem for path in FORMS] == ["bug", "masks", "wish"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_the_keys_of_its_format(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))

    assert set(form) >= {"name", "description", "body"}
    assert set(form) <= FORM
    ids = [field["id"] for field in form["body"] if "id" in field]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in FIELDS
        assert set(field) <= {"type", "id", "attributes", "validations"}
        attributes = field["attributes"]
        assert attributes["value" if field["type"] == "markdown" else "label"]
        assert (field["type"] in ("dropdown", "checkboxes")) == ("options" in attributes)


def test_files_that_forms_name_are_there():
    named = set()
    for path in [*TEMPLATES, ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md"]:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"\b(?:docs/[\w./-]+|[A-Z]+)\.md\b", text))

    assert len(named) >= 4
    assert not {name for name in named if not (ROOT / name).is_file()}


def test_the_notice_names_whatever_is_not_ours():
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")

    for word in ("CLIPer", "2411.13836", "OpenAI CLIP (MIT)", "CreativeML Open RAIL++-M", "TAESD"):
        assert word in notice
