"""Write docs/scale.md from measured results and the assumptions of `benchmarks/scale.py`.

    python scripts/write_scale_docs.py

A test compares the page with both, so it cannot fall behind.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import scale  # noqa: E402  # from the checkout, wherever this is called

PAGE = ROOT / "docs" / "scale.md"
PROFILES = ("fast", "standard", "best")
AMOUNTS = (1_000_000, 100_000_000)
SHOWN = (1, 8, 64, 512)

INTRODUCTION = """\
# Scale

How long a million pictures take, what they cost, and from where on more machines no longer help. What was measured is said to be; the rest is arithmetic on assumptions, which are listed, and which you replace by your own:

```shell
python -m benchmarks.scale --core-hour 0.03 --gpu-hour 1.9 --profile fast
```

Made by `python scripts/write_scale_docs.py`. How to run it: [data sets](how-to/data-sets.md).

## Measured

"""  # noqa: E501 - a page

ESTIMATED = """
## Pictures an hour

On processors a core's time is the measured one, with Ray's overhead. **No graphics card was at hand, so nothing here was measured on one:** a card's rate is the model's counted operations at a share of its peak that is assumed. `python -m benchmarks.speed --device cuda` measures yours.

"""  # noqa: E501 - a page

COST = """
## What it costs

Hours and price of the whole, starting up and failing machines included, where machines are as many as below. A price has no currency here: it is that of the hours assumed.

"""  # noqa: E501 - a page

BOTTLENECK = """
## Where the bottleneck moves

The model bounds a run until something that all machines share does: the bucket pictures come from, or the one driver that leads the run. What a driver alone can lead was not measured: taken is what it led while its workers had the same two cores, so it is more. At the rate of the last row of each table above that is under way:

"""  # noqa: E501 - a page

AFTER = """
What to do when it is

* **the driver**: start several runs over parts of the list, with an output each; `cliper upload` takes one after the other.
* **the bucket**: pictures in Parquet files are read in large pieces instead of one by one; put them near the machines.
* **the network of the machines**: fetch smaller pictures. The model looks at a short side of a few hundred pixels whatever it gets; masks have the size of what was fetched.
* **unpacking**: graphics cards want more cores beside them; 12 megapixels take as long as sixty pictures of 500 x 375.

Pictures cross the object store unpacked, once, on the machine that fetched them or on the way to another. That is the largest stream of all, and the reason why unpacking is done where the actor is whenever Ray can arrange it.

## Into Label Studio

A row there is a prediction in its database. Writing RATE of them a second took on the machine of [proof-prelabel-throughput.json](../benchmarks/results/proof-prelabel-throughput.json), and people open a few thousand tasks a day. Filter rows by `score` and `regions` first; nobody corrects a hundred million.
"""  # noqa: E501 - a page


def page() -> str:
    assumed = scale.Assumed()
    parts = [INTRODUCTION, measured_table(), ESTIMATED, hours_table(assumed), COST]
    after = AFTER.replace("RATE", f"{uploads():.0f}")
    parts += [cost_table(assumed), BOTTLENECK, flight_table(assumed), after, assumptions(assumed)]
    return "".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def measured_table() -> str:
    told = scale.Measured.of("standard")
    more = read("proof-data-sets-memory")["more_mib"]
    overhead, memory, sizes = (
        (f"proof-data-sets-{one}",) for one in ("overhead", "memory", "sizes")
    )
    found = [
        (
            "two actors against the plain engine on two cores",
            f"{100 * told.engine_share:.0f} %",
            overhead,
        ),
        (
            "tasks a second without a model, driver and workers on the same two cores",
            f"{told.driver_rate:.0f}",
            memory,
        ),
        (
            "more memory of the driver over 100,000 pictures than over 2,000",
            f"{more:.0f} MiB",
            memory,
        ),
        (
            "unpacking a JPEG of 500 x 375, on one core",
            f"{1000 * told.unpack_seconds:.1f} ms",
            sizes,
        ),
        (
            "the same unpacked, through the object store",
            f"{told.unpacked_bytes / 1000:.0f} kB",
            sizes,
        ),
        (
            "a row with the masks of a drawn scene, in Parquet",
            f"{told.row_bytes / 1000:.1f} kB",
            sizes,
        ),
    ]
    for name in PROFILES:
        one = scale.Measured.of(name)
        found.append(
            (f"`{name}`: a picture on one core", f"{one.core_seconds:.2f} s", ("proof-speed",))
        )
        found.append(
            (
                f"`{name}`: operations of a picture on a card",
                f"{one.tflop:.2f} TFLOP",
                one.operations_from,
            )
        )
    return table(("what", "figure", "from"), [(a, b, linked(*c)) for a, b, c in found])


def hours_table(assumed: scale.Assumed) -> str:
    rows = []
    for name in PROFILES:
        told = scale.Measured.of(name)
        core = scale.rates(told, assumed, 1, gpu=False)["model"] / assumed.cores
        card = scale.rates(told, assumed, 1, gpu=True)["model"]
        rows.append((f"`{name}`", f"{3600 * core:,.0f}", f"{3600 * card:,.0f}"))
    return table(
        ("profile", "of a core, measured", "of a card, estimated"),
        rows,
    )


def cost_table(assumed: scale.Assumed) -> str:
    parts = []
    for gpu in (False, True):
        kind = "cards" if gpu else f"machines of {assumed.cores} cores"
        rows = []
        for name in PROFILES:
            told = scale.Measured.of(name)
            for machines in SHOWN:
                found = scale.estimate(told, assumed, machines, gpu=gpu)
                cells: list[object] = [f"`{name}`", machines, f"{found.rate:,.1f}", found.bound]
                for pictures in AMOUNTS:
                    hours = found.hours(pictures, assumed)
                    cost = scale.price(hours, machines, assumed, gpu=gpu)
                    cells += [spent(hours), f"{cost:,.0f}"]
                rows.append(cells)
        head = ["profile", kind, "a second", "bound by"]
        for pictures in AMOUNTS:
            head += [f"{pictures // 1_000_000} M take", "cost"]
        parts.append(table(head, rows))
    return "\n".join(parts)


def spent(hours: float) -> str:
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def flight_table(assumed: scale.Assumed) -> str:
    rows = []
    for name in PROFILES:
        told = scale.Measured.of(name)
        for gpu in (False, True):
            most = scale.largest_useful(told, assumed, gpu=gpu)
            found = scale.estimate(told, assumed, SHOWN[-1], gpu=gpu)
            under_way = scale.in_flight(told, assumed, found.rate)
            rows.append(
                (
                    f"`{name}`",
                    "cards" if gpu else "processors",
                    f"{most:,}",
                    *(f"{value:,.1f}" for value in under_way.values()),
                )
            )
    names = list(scale.in_flight(scale.Measured.of("fast"), assumed, 1.0))
    return table(("profile", "on", "machines until the model no longer bounds", *names), rows)


def assumptions(assumed: scale.Assumed) -> str:
    words = {
        "core_hour": "price of a core's hour",
        "gpu_hour": "price of an hour of a card with its machine",
        "cores": "cores of a machine, with a card and without",
        "gigabits": "network of a machine, Gbit/s each way",
        "store_gigabytes": "what the bucket gives in all, GB/s",
        "picture_bytes": "bytes of a picture as fetched",
        "fetch_seconds": "seconds from asking for a picture until it is there",
        "gpu_share": "share of a card's peak that the model reaches",
        "gpu_tflops": "peak of a card in bfloat16, TFLOP/s",
        "hours_to_failure": "hours until a machine fails, on average",
        "start_seconds": "seconds until a machine has its model",
        "redo_seconds": "seconds of work a failing machine loses",
    }
    rows = [(words[name], f"{value:,g}") for name, value in vars(assumed).items()]
    return "\n## Assumed\n\n" + table(("what", "assumed"), rows)


def uploads() -> float:
    """Predictions a second, while Label Studio writes them."""
    told = read("proof-prelabel-throughput")
    rates = sorted(told["tasks"] / one["spent"]["upload"] for one in told["runs"])
    return float(rates[len(rates) // 2])


def read(name: str) -> dict[str, Any]:
    return scale._read(name)


def linked(*names: str) -> str:
    return "; ".join(map(_linked, names))


def _linked(name: str) -> str:
    told = json.loads((scale.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    machine = told["machine"]
    where = f"{machine['cores']} cores of {machine['processor']}, {told['date']}"
    return f"[{name}](../benchmarks/results/{name}.json): {where}"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
