"""How large the two images are once unpacked, from the sizes of what is installed in them.

    python scripts/image_size.py --cpu-torch FOLDER

Nothing is built. Every distribution the images install is looked up in this environment, whose
versions constraints.txt pins, and the files its wheel brought (its RECORD) are added up. Torch is
another one in the CPU image, and brings no CUDA packages: FOLDER is a `site-packages` with a CPU
build in it. To that come the base image, tini (in the CUDA image a C compiler, too), what pip
compiles, and our own two packages with the demo weights. Writes
`benchmarks/results/image-size.json`, with one line for each package, and the figures of
docs/how-to/run-in-containers.md; a test holds both against the limits.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
RESULT: Final = ROOT / "benchmarks" / "results" / "image-size.json"
PAGE: Final = ROOT / "docs" / "how-to" / "run-in-containers.md"
OURS: Final = "cliper-label-studio"
EXTRA: Final = "all"  # what the Dockerfiles install
PACKAGES: Final = ("cliper_model", "backend")
LIMITS: Final = {"cpu": 2.5e9, "cuda": 9e9}  # bytes
MB: Final = 1e6

BASE_BYTES: Final = 150e6
BASE_FROM: Final = (
    "python:3.11-slim-trixie as `docker image ls` shows it is some 125 MB on amd64, of which "
    "Debian is 80; rounded up"
)
SYSTEM: Final[Mapping[str, Mapping[str, float]]] = {  # bytes of Debian's packages, rounded up
    "cpu": {"tini": 1e6},
    "cuda": {"tini": 1e6, "C compiler": 200e6},
}
COMPILED: Final = 1.25  # bytes of compiled modules for every byte of Python, measured: 1.23

Known = Mapping[str, Distribution]


def installed(folder: str | Path) -> dict[str, Distribution]:
    """Distributions of a `site-packages` by their names."""
    found = distributions(path=[str(folder)])
    return {canonicalize_name(one.metadata["Name"]): one for one in found}


def needed(name: str, extras: Iterable[str], known: Known) -> dict[str, Distribution]:
    """A distribution with everything it asks for here, and what that asks for. Raises LookupError
    naming what is not installed."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    open_ = [(canonicalize_name(name), extra) for extra in ("", *extras)]
    while open_:
        which = open_.pop()
        if which in done:
            continue
        done.add(which)
        name, extra = which
        if name not in known:
            raise LookupError(f"{name} is needed and not installed: make setup")
        found[name] = known[name]
        for wanted in _requirements(known[name], extra):
            at = canonicalize_name(wanted.name)
            open_ += [(at, one) for one in ("", *wanted.extras)]
    return found


def _requirements(one: Distribution, extra: str) -> Iterator[Requirement]:
    """What it asks for on this platform with that extra; without one: always."""
    for line in one.requires or ():
        wanted = Requirement(line)
        if wanted.marker is None:
            if not extra:
                yield wanted
        elif wanted.marker.evaluate({"extra": extra}) and (
            not extra or not wanted.marker.evaluate({"extra": ""})
        ):
            yield wanted


def unpacked(one: Distribution) -> tuple[int, int]:
    """Bytes of all files of a wheel but compiled ones, and bytes of Python among them."""
    whole = python = 0
    for file in one.files or ():
        path = Path(str(one.locate_file(file)))
        if file.suffix == ".pyc" or not path.is_file():
            continue
        size = path.stat().st_size
        whole += size
        python += size if file.suffix == ".py" else 0
    return whole, python


def folder_sizes(folders: Iterable[Path]) -> tuple[int, int]:
    """As `unpacked`, of folders of our own."""
    files = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    python = sum(path.stat().st_size for path in files if path.suffix == ".py")
    return sum(path.stat().st_size for path in files), python


def image(
    found: Known, own: tuple[int, int], limit: float, system: Mapping[str, float]
) -> dict[str, Any]:
    """The figures of one image. Bytes; `packages` the largest first, without our own."""
    sizes = {name: unpacked(one) for name, one in found.items() if name != OURS}
    largest = sorted(sizes, key=lambda name: -sizes[name][0])
    python = sum(size for _, size in sizes.values()) + own[1]
    parts = {
        "base image": round(BASE_BYTES),
        **{name: round(size) for name, size in system.items()},
        "packages": sum(whole for whole, _ in sizes.values()),
        "our own, with the demo weights": own[0],
        "compiled by pip": round(COMPILED * python),
    }
    total = sum(parts.values())
    return {
        "total": total,
        "limit": round(limit),
        "within": total <= limit,
        "parts": parts,
        "packages": {
            name: {"version": found[name].version, "bytes": sizes[name][0]} for name in largest
        },
    }


def sentence(images: Mapping[str, Any]) -> str:
    """The figures for the page."""

    def gigabytes(name: str) -> str:
        return f"{images[name]['total'] / 1e9:.1f} GB of at most {images[name]['limit'] / 1e9:g}"

    return (
        f"Unpacked, the CPU image takes {gigabytes('cpu')}, the GPU image {gigabytes('cuda')} "
        "(added up from the files of the wheels, `python scripts/image_size.py`)."
    )


def written(page: str, images: Mapping[str, Any]) -> str:
    """The page with today's sentence in place of the one before."""
    pattern = r"Unpacked, the CPU image takes .*image_size\.py`\)\."
    assert len(re.findall(pattern, page)) == 1, "the page has no place for the figures"
    return re.sub(pattern, lambda _: sentence(images), page)


def main() -> int:
    parser = argparse.ArgumentParser(description="How large the images are.")
    parser.add_argument(
        "--cpu-torch", required=True, help="site-packages with a CPU build of torch"
    )
    args = parser.parse_args()

    here = installed(next(path for path in sys.path if path.endswith("site-packages")))
    torch = installed(args.cpu_torch)["torch"]
    if "triton" in {canonicalize_name(Requirement(one).name) for one in torch.requires or ()}:
        parser.error(f"the torch of {args.cpu_torch} is a CUDA build")
    own = folder_sizes(ROOT / name for name in PACKAGES)
    found = {
        "cpu": needed(OURS, [EXTRA], {**here, "torch": torch}),
        "cuda": needed(OURS, [EXTRA], here),
    }
    images = {name: image(one, own, LIMITS[name], SYSTEM[name]) for name, one in found.items()}
    sys.path.insert(0, str(ROOT))  # benchmarks are not installed
    from benchmarks import record

    record.write(RESULT.stem, {"unit": "bytes", "base image": BASE_FROM, **images})
    PAGE.write_text(written(PAGE.read_text("utf-8"), images), encoding="utf-8")
    for name, one in images.items():
        print(f"{name}: {one['total'] / MB:.0f} MB of at most {one['limit'] / MB:.0f}")
        for part, size in one["parts"].items():
            print(f"  {part}: {size / MB:.0f} MB")
    return 0 if all(one["within"] for one in images.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
