"""Write docs/licences.md from the metadata of installed packages and the records of weights.

    python scripts/write_licence_docs.py

Packages are those the service needs, its extras included, and whatever these need in turn. A test
compares the page with them and allows no licence that nobody knows.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
UNKNOWN = "unknown"

KNOWN = {  # packages whose metadata does not say; what does
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # only names NVIDIA's packages below
    "label-studio-sdk": "Apache-2.0",  # the LICENSE file of its repository
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",  # its LICENSE file; metadata: "Dual License"
}
SPDX = {  # other words for the same
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}
NOTES = {
    "LGPL-3.0-or-later": "used as it is, a library that can be replaced; for the extra `redis`",
    "MPL-2.0": "used as it is; whoever changes its files passes the changes on",
    "LicenseRef-NVIDIA-Proprietary": "for builds of torch for NVIDIA cards, under NVIDIA's terms",
}

INTRODUCTION = """\
# Licences

The program and the demo weights are under Apache-2.0 ([LICENSE](../LICENSE),
[NOTICE](../NOTICE)). This page lists what it stands on: packages are not shipped with it, but
installed beside it (and in the container images); weights are downloaded. It is a list, not
advice.

Made by `python scripts/write_licence_docs.py` from what packages say of themselves and from
`cliper_model/data/weights`; versions are in `constraints.txt`. `make audit` compares those with
known vulnerabilities and writes a bill of materials.

## Weights

| weights | name | licence |
| --- | --- | --- |
"""
RESTRICTED = """
**Stable Diffusion 2.1 may not be used for everything.** CreativeML Open RAIL++-M grants use,
commercial use and redistribution, and forbids the uses in its attachment A, among them: breaking
the law; harming minors; false information made to harm others; harassment; discrimination by
social behaviour or by protected attributes; automated decisions that harm a person's legal
rights; medical advice; law enforcement or immigration decisions about persons. Whoever passes the
weights on, in a bundle or an image too, passes these restrictions and the licence's text on. They
bind users of the profiles `standard` and `best`, of the `diffusion` feature sources, and not
those of `demo` and `fast`.

What was looked at may have a licence of its own: that of your pictures is for you to know.
"""
PACKAGES = """
## Packages

| package | licence | note |
| --- | --- | --- |
"""


def normal(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed() -> dict[str, importlib.metadata.Distribution]:
    """All packages the service needs, by name. Raises PackageNotFoundError for one not here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pending = [Requirement(text) for text in project["dependencies"]]
    pending += [
        Requirement(text) for extra in ("heic", "parquet", "ray", "redis") for text in extras[extra]
    ]
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        wanted = pending.pop()
        key = (normal(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found[key[0]] = importlib.metadata.distribution(wanted.name)
        pending += _requirements(found[key[0]], wanted.extras or {""})
    return dict(sorted(found.items()))


def _requirements(
    package: importlib.metadata.Distribution, extras: set[str]
) -> Iterator[Requirement]:
    for text in package.requires or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            yield one


def licence_of(name: str, package: importlib.metadata.Distribution) -> str:
    """An SPDX expression: what we know, the package's expression, its classifiers, its words."""
    if name in KNOWN:
        return KNOWN[name]
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classes = [
        text.split("::")[-1].strip()
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::") and not text.endswith("OSI Approved")
    ]
    words = str(metadata.get("License") or "").strip()
    said = words if re.fullmatch(r"[\w.+ -]{2,60}", words) else ""
    if classes:
        return " AND ".join(SPDX.get(text, text) for text in classes)
    return SPDX.get(said, said) or UNKNOWN


def weight_rows() -> list[str]:
    """Components of weights, by name."""
    from cliper_model import profiles

    folder = ROOT / "cliper_model" / "data" / "weights"
    parts = [profiles.component(path.stem) for path in sorted(folder.glob("*.json"))]
    rows = [f"| {part.title} | `{part.name}` | {part.licence} |" for part in parts]
    return ["| the demo weights, trained by us on drawn scenes | `demo` | Apache-2.0 |", *rows]


def package_rows() -> list[str]:
    """Packages that are needed here; builds of torch for processors alone need fewer."""
    rows = []
    for name, package in needed().items():
        licence = licence_of(name, package)
        note = NOTES.get(licence)
        rows.append(f"| `{name}` | {licence} |{f' {note} ' if note else ' '}|")
    return rows


def page() -> str:
    """The whole page as Markdown."""
    weights, packages = "\n".join(weight_rows()), "\n".join(package_rows())
    return f"{INTRODUCTION}{weights}\n{RESTRICTED}{PACKAGES}{packages}\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
