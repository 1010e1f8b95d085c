"""Every package the service needs and every weight file has a licence somebody knows, and a row."""

import re

import pytest

from .commands import audit, licence_docs
from .pages import ROOT

DOCS = licence_docs()
LISTED = DOCS.PAGE.read_text(encoding="utf-8").splitlines()


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {DOCS.normal(line.partition("==")[0]) for line in lines if "==" in line}


def test_every_package_that_is_needed_has_its_row() -> None:
    rows = DOCS.package_rows()

    assert len(rows) > 50
    assert not set(rows) - set(LISTED)


def test_every_row_is_of_a_package_that_is_pinned() -> None:
    packages = LISTED[LISTED.index("## Packages") :]
    names = {found.group(1) for line in packages if (found := re.match(r"\| `([^`]+)`", line))}

    assert set(DOCS.needed()) <= names
    assert not names - pinned()


def test_no_licence_is_unknown_and_none_is_described_at_length() -> None:
    for row in LISTED:
        if row.startswith("| `"):
            licence = row.split("|")[2].strip()
            assert licence != DOCS.UNKNOWN
            for word in re.split(r" (?:AND|OR|WITH) ", licence):
                assert re.fullmatch(r"[A-Za-z0-9.+-]+", word), row


def test_weights_are_listed_and_those_of_stable_diffusion_are_restricted() -> None:
    page = "\n".join(LISTED)

    assert set(DOCS.weight_rows()) <= set(LISTED)
    for row in (
        "| OpenAI CLIP ViT-B/16 | `ViT-B-16-quickgelu` | MIT |",
        "| TAESD (small VAE of Stable Diffusion's latent space) | `taesd` | MIT |",
        "| the demo weights, trained by us on drawn scenes | `demo` | Apache-2.0 |",
    ):
        assert row in LISTED
    assert "CreativeML Open RAIL++-M" in page
    assert "**Stable Diffusion 2.1 may not be used for everything.**" in page


def test_a_package_that_says_nothing_is_unknown() -> None:
    class Silent:
        metadata = {"Name": "silent"}  # noqa: RUF012 - read only
        requires = None

    class Headers(dict[str, str]):
        def get_all(self, name: str) -> None:
            return None

    silent = Silent()
    silent.metadata = Headers(License="Copyright (c) somebody;\nall kinds of words")

    assert DOCS.licence_of("silent", silent) == DOCS.UNKNOWN


CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
SKIPPED = {"name": "flask", "skip_reason": "not found"}
BAD = {
    "name": "old",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("report", "pinned_packages", "status", "sentence"),
    [
        ({"dependencies": [CLEAN, CLEAN]}, 2, 0, "2 pinned packages, nothing known against them"),
        ({"dependencies": [CLEAN, SKIPPED]}, 2, 2, "not audited: 1 of 2 pinned packages"),
        ({"dependencies": [SKIPPED, SKIPPED]}, 2, 2, "not audited: 0 of 2 pinned packages"),
        ({"dependencies": [CLEAN]}, 2, 2, "not audited: 1 of 2 pinned packages"),
        ({"dependencies": []}, 2, 2, "not audited"),
        ({}, 2, 2, "not audited"),
        (None, 2, 2, "not audited"),
        ({"dependencies": [CLEAN, BAD]}, 2, 1, "2 known vulnerabilities:"),
        ({"dependencies": [SKIPPED, BAD]}, 2, 1, "2 known vulnerabilities:"),
    ],
)
def test_what_was_not_looked_up_is_no_pass(
    report: dict[str, object] | None, pinned_packages: int, status: int, sentence: str
) -> None:
    verdict = audit().judged(report, pinned_packages)

    assert verdict.status == status
    assert verdict.lines[0].startswith(sentence)


def test_a_vulnerability_is_told_with_the_version_that_mends_it() -> None:
    verdict = audit().judged({"dependencies": [BAD]}, 1)

    assert verdict.lines[1:] == ("old 1.0: PYSEC-1, mended in 1.1", "old 1.0: PYSEC-2")
