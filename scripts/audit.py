"""What is known against the packages we pin, what is in an installation, and under which licences.

    python scripts/audit.py TOOLS    # TOOLS: a virtual environment with pip-audit and cyclonedx-bom

Writes build/audit.json (known vulnerabilities) and build/sbom.cdx.json (CycloneDX). Exit status 0:
every pinned package was looked up and nothing is known against it, and every licence is known. 1:
something is. 2: it could not be found out, which is no pass.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
SERVICES = ("pypi", "osv")  # of known vulnerabilities, in pip-audit's words; the first that answers
PASSED, FOUND, NOT_KNOWN = 0, 1, 2


@dataclass(frozen=True)
class Verdict:
    """An exit status and its sentences."""

    status: int
    lines: tuple[str, ...]


def judged(report: dict[str, Any] | None, pinned: int) -> Verdict:
    """What a report of pip-audit says of `pinned` packages; None where there is no report.

    pip-audit passes over a package that its service does not know, and calls the rest clean: a
    service that cannot be reached may look like that.
    """
    rows = (report or {}).get("dependencies", [])
    looked_up = [row for row in rows if "skip_reason" not in row]
    found = [
        f"{row['name']} {row['version']}: {one['id']}"
        + (f", mended in {', '.join(one['fix_versions'])}" if one.get("fix_versions") else "")
        for row in looked_up
        for one in row.get("vulns", ())
    ]
    if found:
        return Verdict(FOUND, (f"{len(found)} known vulnerabilities:", *found))
    if len(looked_up) < pinned:
        return Verdict(
            NOT_KNOWN,
            (
                f"not audited: {len(looked_up)} of {pinned} pinned packages could be looked up; "
                "run this where a service of known vulnerabilities can be reached",
            ),
        )
    return Verdict(PASSED, (f"{pinned} pinned packages, nothing known against them",))


def vulnerabilities(tools: Path, constraints: Path, report: Path) -> Verdict:
    """Ask each service until one has looked up all pinned packages."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pinned = sum(1 for line in lines if "==" in line and not line.lstrip().startswith("#"))
    verdict = judged(None, pinned)
    for service in SERVICES:
        report.unlink(missing_ok=True)
        command = [
            str(tools / "bin" / "pip-audit"), "--requirement", str(constraints), "--no-deps",
            "--disable-pip", "--vulnerability-service", service, "--format", "json",
            "--output", str(report), "--progress-spinner", "off", "--timeout", "20",
        ]  # fmt: skip
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        verdict = judged(json.loads(report.read_text()) if report.is_file() else None, pinned)
        if verdict.status != NOT_KNOWN:
            return verdict
    return verdict


def bill_of_materials(tools: Path, file: Path) -> Verdict:
    """What is installed beside this very Python."""
    command = [
        str(tools / "bin" / "cyclonedx-py"), "environment", sys.executable, "--pyproject",
        str(ROOT / "pyproject.toml"), "--output-format", "JSON", "--output-file", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Verdict(NOT_KNOWN, (f"no bill of materials: {last}",))
    count = len(json.loads(file.read_text())["components"])
    return Verdict(PASSED, (f"{count} components in {file.relative_to(ROOT)}",))


def licences() -> Verdict:
    """Whether the page of licences lists all packages and weights, and knows all of them."""
    import write_licence_docs as docs

    unknown = [
        name for name, one in docs.needed().items() if docs.licence_of(name, one) == docs.UNKNOWN
    ]
    if unknown:
        return Verdict(FOUND, (f"licences nobody knows: {', '.join(unknown)}",))
    listed = docs.PAGE.read_text(encoding="utf-8").splitlines()
    if not set(docs.package_rows() + docs.weight_rows()) <= set(listed):
        return Verdict(FOUND, ("docs/licences.md is old: python scripts/write_licence_docs.py",))
    return Verdict(PASSED, (f"licences of {len(docs.needed())} packages in docs/licences.md",))


def main(tools: Path) -> int:
    """Say all three verdicts; the worst is the exit status: found before not known."""
    BUILD.mkdir(exist_ok=True)
    verdicts = [
        licences(),
        bill_of_materials(tools, BUILD / "sbom.cdx.json"),
        vulnerabilities(tools, ROOT / "constraints.txt", BUILD / "audit.json"),
    ]
    for verdict in verdicts:
        print("\n".join(verdict.lines))
    statuses = {verdict.status for verdict in verdicts}
    return next(status for status in (FOUND, NOT_KNOWN, PASSED) if status in statuses)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    if len(sys.argv) != 2:
        print("usage: python scripts/audit.py TOOLS", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
