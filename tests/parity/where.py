"""Which golden directory serves a method: the one given with `--golden`, else the shipped subset.

`--golden DIR` may be one method's directory, or a folder that holds one directory per method.
"""

import json
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parent / "golden"


def directory(config: pytest.Config, method: str) -> Path:
    """Raises UsageError where DIR holds no golden set at all."""
    given = config.getoption("--golden")
    if given is None:
        return SHIPPED / method
    folder = Path(given).resolve()
    found = [
        path.parent
        for path in (folder / "index.json", *sorted(folder.glob("*/index.json")))
        if path.is_file()
    ]
    if not found:
        raise pytest.UsageError(f"{folder} has no index.json: give a golden directory")
    own = [path for path in found if method_of(path) == method]
    return own[0] if own else SHIPPED / method


def method_of(folder: Path) -> str:
    """The method a directory's index names; the oldest set, CLIPer's, names none."""
    return str(json.loads((folder / "index.json").read_text()).get("method", "cliper"))
