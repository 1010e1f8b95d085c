"""Write `benchmarks/README.md` and its plots from the files in `benchmarks/results` alone.

    python -m benchmarks.readme

A test compares the page with the files, so it cannot fall behind.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import plots, record
from .plots import Plot, number
from .prove import PROOFS

FOLDER = Path(__file__).parent
PAGE = FOLDER / "README.md"
COMMIT = 9  # of its characters
BENCH = ("bench", "scaling", "readme")  # what `make bench` runs
COMPARE = ("student", "compare")  # and `make compare`

INTRODUCTION = """\
# Benchmarks

Every figure and every plot of this page comes from a file in `results`, which says by which command it was made, when, on which machine, and at which commit (`+`: with changes that were not
committed). None is promised for another machine: run the command on yours. What the figures mean for people who use the service is in [what a prediction costs](../docs/reference/speed.md). Made by
`python -m benchmarks.readme`.

```shell
make bench                           # the demo profile on this machine, minutes: all plots but those of larger profiles
make prove                           # every full-size proof, hours: builds what it needs, random weights of the true size too
python -m benchmarks.prove speed     # some of them, by name
python -m benchmarks.bench --profile standard --device cuda --weights-dir weights
python -m benchmarks.readme          # this page and its plots, from what is in results
```

`python -m benchmarks.bench` writes `results/bench-<profile>.json`, on a graphics card `results/bench-<profile>-cuda.json`; this page shows all there are. Scenes, clicks, orders and random weights are
drawn from seeds; at least one round goes before those that count. Measure on a machine that does nothing else.
"""  # noqa: E501 - a page

STAGES = """\
## Every stage

The fastest of five runs of every stage, against its floor: the larger of its operations at the measured peak of their number format and the bytes they move, unfused, at the measured bandwidth (`benchmarks/floors.py`).
A floor is measured too: on a busy machine a stage may seem to be below it. Memory is the most that a stage makes at one time, results included, without weights; a dash: nobody counted.
"""  # noqa: E501 - a page

MEMORY = """\
## Peak memory

Of a process that predicts one picture after the other, with everything it has loaded. "Published" is CLIPer as its authors' program computes it, in float32 (`benchmarks/published.py`).
"""  # noqa: E501 - a page

THROUGHPUT = """\
## Pictures per second

From pixels to brush code, several pictures looked at together; words are read before. Medians.
"""

LATENCY = """\
## One prediction

Inside the service, without HTTP, one after the other, pictures inside their tasks. *Cold*: a picture never seen, from its PNG to its regions. *Cached*: the same again. *Click*: a key point of a smart
tool anywhere on it. *Changed words*: the same picture with other words, whose rows are known. Only a cold prediction looks at the picture.
"""  # noqa: E501 - a page

LABELS = """\
## More labels

Every label is there, and every pixel gets one: the worst case. *Read* is what new words cost once, 15 sentences each. As a table: [what a prediction costs](../docs/reference/speed.md#more-labels-larger-pictures).
"""  # noqa: E501 - a page

PIXELS = """\
## Larger pictures

Six labels, from the JPEG file to the regions. Above 16 megapixels pictures are seen in tiles ([large pictures](../docs/how-to/large-pictures.md)); above 25 they get polygons. As a table: [what a prediction
costs](../docs/reference/speed.md#more-labels-larger-pictures).
"""  # noqa: E501 - a page

LANES = """\
## People beside large batches

Over HTTP, pictures nobody asked for before, one after the other; then the same beside large batches ([many at once](../docs/reference/many-at-once.md)).
"""  # noqa: E501 - a page

PROGRAMS = """\
## Programs

Each is run as `python -m benchmarks.<name>`; `--help` says more.
"""

FILES = """\
## Results

Tables and contact sheets beside these files are written by the same programs.
"""


def page() -> str:
    """The whole page."""
    scaling = read("scaling")
    drawn = {plot.name: plot for plot in all_plots()}
    parts = [
        INTRODUCTION,
        STAGES,
        show(drawn["stages"]),
        table(
            ("profile", "stage", "ms", "floor, ms", "GFLOP", "moved, GB", "memory, MiB"),
            [
                (f"`{name}`", *stage(*one))
                for name, told in stages().items()
                for one in told.items()
            ],
        ),
        sources(*benches(), "proof-speed"),
        MEMORY,
        show(drawn["memory"]),
        sources(*benches(), "proof-speed"),
        THROUGHPUT,
        show(drawn["throughput"]),
        table(
            ("", "", "together", "per second", "from - to, s"),
            [
                row
                for name in benches()
                for how, rows in read(name)["throughput"].items()
                for row in paces(name, how, rows)
            ],
        ),
        sources(*benches()),
        LATENCY,
        show(drawn["latency"]),
        table(
            ("", "", "p50", "p95", "p99", "of", "looks"),
            [
                (where(name), kind, *percentiles(one), one["count"], one["looks"])
                for name in benches()
                for kind, one in read(name)["latency"].items()
            ],
        ),
        sources(*benches()),
        LABELS,
        show(drawn["labels"]),
        slopes(scaling),
        sources("scaling"),
        PIXELS,
        show(drawn["pixels"]),
        sources("scaling"),
        LANES,
        lanes(read("proof-lanes")),
        sources("proof-lanes"),
        "## New words",
        words(read("proof-words")),
        sources("proof-words"),
        "## Fewer bits\n\nDemo weights, drawn scenes, all labels asked; against float32.",
        bits(read("proof-precision")),
        sources("proof-precision"),
        PROGRAMS,
        table(("name", "what it measures", "run by"), list(programs())),
        FILES,
        table(("file", "command", "date", "machine", "commit"), list(results())),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def all_plots() -> list[Plot]:
    """Every plot of the page."""
    scaling, rows = read("scaling"), read("proof-speed")["rows"]
    peaks = {
        name: {who: row[who]["peak_mb"] / 1000 for who in ("ours", "published")}
        for name, row in rows.items()
    }
    on_processor = {
        read(name)["profile"]: {"ours": read(name)["peak_mib"] * 2**20 / 1e9}
        for name in benches()
        if read(name)["device"] == "cpu"
    }
    return [
        Plot(
            name="stages",
            alt="Time, operations and bytes of every stage, by profile, with the floor of the time",
            figures=stages(),
            draw=plots.stages,
        ),
        Plot(
            name="memory",
            alt="Peak memory by profile, ours and the published program's",
            figures={**on_processor, **peaks},
            draw=plots.memory,
        ),
        Plot(
            name="throughput",
            alt="Pictures per second over the number of pictures looked at together",
            figures={where(name): read(name)["throughput"] for name in benches()},
            draw=plots.throughput,
        ),
        Plot(
            name="latency",
            alt="Median, 95th and 99th percentile of one prediction: cold, cached, click, words",
            figures={where(name): read(name)["latency"] for name in benches()},
            draw=plots.latency,
        ),
        Plot(
            name="labels",
            alt="Time of every step and peak memory, from 1 to 1000 labels",
            figures={"over": "labels", "label": "labels", "rows": scaling["labels"]},
            draw=plots.scaling,
        ),
        Plot(
            name="pixels",
            alt="Time of every step and peak memory, from 0.2 to 100 megapixels",
            figures={"over": "megapixels", "label": "megapixels", "rows": scaling["pixels"]},
            draw=plots.scaling,
        ),
    ]


def benches() -> list[str]:
    """Results of `benchmarks/bench.py`; processors before graphics cards."""
    names = (path.stem for path in record.RESULTS.glob("bench-*.json"))
    return sorted(names, key=lambda name: (name.endswith("-cuda"), name))


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((record.RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def stages() -> dict[str, Mapping[str, Any]]:
    """Profile, and its machine where there would be two of a name -> its stages."""
    rows = read("proof-speed")["rows"]
    own = {}
    for name in benches():
        told = read(name)
        alone = told["device"] == "cpu" and told["profile"] not in rows
        own[told["profile"] if alone else where(name)] = told["stages"]
    return {**own, **{profile: row["stages"] for profile, row in rows.items()}}


def where(name: str) -> str:
    """A profile and its machine."""
    told = read(name)
    return f"{told['profile']}, {machine(told)}"


def machine(told: Mapping[str, Any]) -> str:
    at = told["machine"]
    if at["gpu"] and told.get("device", "cuda") != "cpu":
        return str(at["gpu"])
    return f"{at['cores']} cores of {at['processor']}"


def commit(told: Mapping[str, Any]) -> str:
    """Short, with its mark."""
    return f"`{told['commit'][:COMMIT]}{'+' if told['commit'].endswith('+') else ''}`"


def sources(*names: str) -> str:
    """Command, date, machine and commit of results, with a link to each."""
    return "\n\n".join(map(source, names))


def source(name: str) -> str:
    told = read(name)
    threads = told.get("threads")
    with_threads = f", {count(threads, 'thread')}" if isinstance(threads, int) else ""
    of = ""
    if "image" in told:
        of = f"; {told['image']} px, {count(told.get('words') or told['classes'], 'word')}"
    return (
        f"[{name}.json](results/{name}.json): `{told['command']}`, {told['date']}, "
        f"{machine(told)}{with_threads}, commit {commit(told)}{of}."
    )


def show(plot: Plot) -> str:
    return f"![{plot.alt}](results/{plot.file})"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def stage(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    def cell(key: str, times: float = 1.0, digits: int = 1) -> str:
        return number(times * told[key], digits) if told.get(key) is not None else "–"

    flops = ", ".join(f"{number(amount)} {kind}" for kind, amount in told.get("gflops", {}).items())
    return (
        name,
        cell("seconds", 1000),
        cell("floor_seconds", 1000),
        flops or "–",
        cell("gigabytes", digits=2),
        cell("peak_mib"),
    )


def paces(name: str, how: str, rows: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (
            where(name),
            how,
            row["batch"],
            number(row["images_per_second"], 2),
            f"{row['seconds']['min']:.3f} - {row['seconds']['max']:.3f}",
        )
        for row in rows
    ]


def percentiles(told: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"{number(told[f'{which}_ms'])} ms" for which in ("median", "p95", "p99"))


def slopes(told: Mapping[str, Any]) -> str:
    each = ", ".join(
        f"{step} {1000 * line['per_label']:.2f} ms" for step, line in told["lines"].items()
    )
    return f"One more label costs: {each}."


def lanes(told: Mapping[str, Any]) -> str:
    kinds = {
        "an opened task, idle": "opened_idle",
        "an opened task, beside batches": "opened_beside_batches",
        "`/health`, beside batches": "health_beside_batches",
    }
    rows = [(name, *percentiles(told[key]), told[key]["count"]) for name, key in kinds.items()]
    equal = told["equal"]
    looks = count(equal["looks"], "look")
    return (
        f"{table(('', 'p50', 'p95', 'p99', 'of'), rows)}\n\n"
        f"{equal['count']} equal requests at once cost {looks}."
    )


def words(told: Mapping[str, Any]) -> str:
    sides = {"new": "new", "from memory": "from_memory", "from the store": "from_store"}
    rows = [(name, f"{number(1000 * told[key]['seconds'])} ms") for name, key in sides.items()]
    return (
        f"{told['words']} words, {told['sentences']} sentences, ViT-B/16 in {told['dtype']}.\n\n"
        f"{table(('', 'all of them'), rows)}"
    )


def bits(told: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            f"{100 * one['equal_pixels']:.2f} %",
            f"{100 * one['equal_pixels_of_the_worst_scene']:.2f} %",
            f"{one['miou']:.2f}",
            f"{one['miou_float32']:.2f}",
        )
        for name, one in told["figures"].items()
    ]
    return table(("", "equal pixels", "of the worst scene", "mIoU", "in float32"), rows)


def programs() -> Iterable[tuple[str, str, str]]:
    """Every module that can be run: name, the first sentence of its docstring, and who runs it."""
    proofs = [name for name, _ in PROOFS]
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' not in text:
            continue
        said = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
        runs = {"bench": path.stem in BENCH, "prove": path.stem in proofs}
        by = [name for name, does in {**runs, "compare": path.stem in COMPARE}.items() if does]
        yield path.stem, re.sub(r"\s+", " ", said), ", ".join(f"`make {name}`" for name in by)


def results() -> Iterable[tuple[str, ...]]:
    """Every file of figures, and where it comes from."""
    for path in sorted(record.RESULTS.glob("*.json")):
        told = read(path.stem)
        yield (
            f"[{path.stem}](results/{path.name})",
            f"`{told['command']}`",
            told["date"],
            machine(told),
            commit(told),
        )


def count(amount: int, what: str) -> str:
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    for path in [PAGE, *(plot.save(record.RESULTS) for plot in all_plots())]:
        print(path.relative_to(FOLDER.parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
