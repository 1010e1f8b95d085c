"""Write a result with everything needed to judge it: commit, date, machine, command."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores and versions of what computes."""
    import torch

    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit() -> str:
    """The commit measured; `+` marks a tree with changes. COMMIT names it where git is not."""
    if os.environ.get("COMMIT"):
        return os.environ["COMMIT"]
    root = RESULTS.parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    return (git("rev-parse", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


def write(name: str, figures: Mapping[str, Any], *, results: Path = RESULTS) -> Path:
    """`results/<name>.json` with the figures and where they come from."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    content = {
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python", *map(_without_folders, sys.orig_argv[1:])]),
        "machine": machine(),
        **figures,
    }
    path.write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")
    return path


def _without_folders(argument: str) -> str:
    """Paths within the repository from its root, others by their last part."""
    inside = argument.replace(f"{RESULTS.parents[1]}/", "")
    return Path(inside).name if inside.startswith("/") else inside
