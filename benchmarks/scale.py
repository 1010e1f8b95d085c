"""What clusters of several sizes do, from measured figures and stated assumptions.

    python -m benchmarks.scale [--core-hour 0.04] [--gpu-hour 2.5] [--machine-hours-to-failure 500]

A run is a line of stages: fetch, unpack, the model, rows into files, and one driver that leads all
of it. Each stage has a rate for every machine; the slowest one says how fast the whole is. What
machines lose when they fail is drawn from a seed. Nothing here runs a model: rates are read from
`results/`, what nobody has measured is an assumption of `Assumed`; the page says which is which.
`python scripts/write_scale_docs.py` writes docs/scale.md from this.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SEED = 20261129
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ENCODER = "VAE encoder"  # the stage, as `benchmarks.speed` calls it
AN_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is not measured, and differs from site to site.

    core_hour, gpu_hour  price of one processor core, of one graphics card with its machine
    cores            of a machine with a card, and of one without
    gigabits         of a machine's network, each way
    store_gigabytes  a second that the bucket gives and takes in all
    picture_bytes    as fetched
    fetch_seconds    from asking for a picture until it is there
    gpu_share        of the card's peak that the model reaches
    gpu_tflops       of the card's peak in bfloat16
    hours_to_failure of one machine, on average; preemption counts
    start_seconds    until a machine has its model
    redo_seconds     of work that a failing machine loses
    """

    core_hour: float = 0.04
    gpu_hour: float = 2.5
    cores: int = 16
    gigabits: float = 10.0
    store_gigabytes: float = 5.0
    picture_bytes: float = 150_000.0
    fetch_seconds: float = 0.05
    gpu_share: float = 0.35
    gpu_tflops: float = 300.0
    hours_to_failure: float = 500.0
    start_seconds: float = 120.0
    redo_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured: seconds, bytes and operations of one picture.

    core_seconds     of the model on one core
    tflop            operations of the model on a card, which does all of a convolution's
    operations_from  names of the results that counted them
    unpack_seconds   on one core
    unpacked_bytes   through the object store
    row_bytes        as written
    engine_share     of the plain engine's rate that two actors reach
    driver_rate      tasks a second that one driver led at least: its workers shared its two cores
    """

    core_seconds: float
    tflop: float
    operations_from: tuple[str, ...]
    unpack_seconds: float
    unpacked_bytes: float
    row_bytes: float
    engine_share: float
    driver_rate: float

    @classmethod
    def of(cls, profile: str) -> "Measured":
        speed = _read("proof-speed")
        cores = int(speed["machine"]["cores"])
        row = speed["rows"][profile]
        operations = {name: sum(one["gflops"].values()) for name, one in row["stages"].items()}
        told: tuple[str, ...] = ("proof-speed",)
        if ENCODER in operations:  # half of its multiplications are left out on a processor
            told = ("proof-speed", "proof-encoders")
            operations[ENCODER] = _read("proof-encoders")["encoders"]["bfloat16"]["own"]["gflops"]
        sizes = _read("proof-data-sets-sizes")
        memory = _read("proof-data-sets-memory")
        overhead = _read("proof-data-sets-overhead")
        seconds = {int(tasks): taken for tasks, taken in memory["seconds"].items()}
        few, many = min(seconds), max(seconds)  # the difference of both: starting up does not count
        shares = sorted(overhead["share of the plain engine"])
        return cls(
            core_seconds=cores * row["ours"]["seconds"],
            tflop=sum(operations.values()) / 1000,
            operations_from=told,
            unpack_seconds=sizes["unpack_seconds"],
            unpacked_bytes=sizes["unpacked_bytes"],
            row_bytes=sizes["row_bytes"],
            engine_share=min(shares[len(shares) // 2], 1.0),
            driver_rate=(many - few) / (seconds[many] - seconds[few]),
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A cluster's rate, what bounds it, and the hours and price of a number of pictures."""

    machines: int
    rate: float
    bound: str
    shares: Mapping[str, float]

    def hours(self, pictures: int, assumed: Assumed, *, seed: int = SEED) -> float:
        """With what failing machines lose; one seed, one answer."""
        chance = random.Random(seed)
        left, seconds = pictures / self.rate, assumed.start_seconds
        mean = assumed.hours_to_failure * AN_HOUR / self.machines
        while left > 0:
            until = chance.expovariate(1 / mean)
            if until >= left:
                return (seconds + left) / AN_HOUR
            # one of the machines is gone until another one has its model
            lost = (assumed.redo_seconds + assumed.start_seconds) / self.machines
            seconds += until
            left += lost - until
        return seconds / AN_HOUR


def rates(measured: Measured, assumed: Assumed, machines: int, *, gpu: bool) -> dict[str, float]:
    """Pictures a second of every stage."""
    network = assumed.gigabits * 1e9 / 8
    through = assumed.picture_bytes + measured.row_bytes
    if gpu:
        model = assumed.gpu_share * assumed.gpu_tflops / measured.tflop
        unpack = (assumed.cores - 1) / measured.unpack_seconds
    else:
        a_core = measured.core_seconds + measured.unpack_seconds
        model = measured.engine_share * assumed.cores / a_core
        unpack = assumed.cores / measured.unpack_seconds
    return {
        "model": machines * model,
        "unpacking": machines * unpack,
        "network of the machines": machines * network / through,
        "bucket": assumed.store_gigabytes * 1e9 / through,
        "driver": measured.driver_rate,
    }


def estimate(measured: Measured, assumed: Assumed, machines: int, *, gpu: bool) -> Estimate:
    found = rates(measured, assumed, machines, gpu=gpu)
    bound = min(found, key=lambda name: found[name])
    rate = found[bound]
    return Estimate(
        machines=machines,
        rate=rate,
        bound=bound,
        shares={name: rate / each for name, each in found.items()},
    )


def price(hours: float, machines: int, assumed: Assumed, *, gpu: bool) -> float:
    a_machine = assumed.gpu_hour if gpu else assumed.cores * assumed.core_hour
    return hours * machines * a_machine


def largest_useful(measured: Measured, assumed: Assumed, *, gpu: bool) -> int:
    """Machines from which on the model is no longer what bounds."""
    found = rates(measured, assumed, 1, gpu=gpu)
    common = min(found["bucket"], found["driver"])
    return max(int(common / found["model"]), 1)


def in_flight(measured: Measured, assumed: Assumed, rate: float) -> Mapping[str, float]:
    """What is under way at a rate: pictures being fetched, megabytes a second through the object
    store, gigabits a second in, megabits out."""
    return {
        "fetched at once": rate * assumed.fetch_seconds,
        "object store, MB/s": rate * measured.unpacked_bytes / 1e6,
        "in, Gbit/s": rate * assumed.picture_bytes * 8 / 1e9,
        "out, Mbit/s": rate * measured.row_bytes * 8 / 1e6,
    }


def _read(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return told


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    standard = Assumed()
    parser.add_argument("--profile", default="standard")
    for name, value in vars(standard).items():
        option = "--machine-hours-to-failure" if name == "hours_to_failure" else f"--{name}"
        parser.add_argument(
            option.replace("_", "-"), dest=name, type=type(value), default=value, metavar="N"
        )
    args = vars(parser.parse_args(argv))
    profile = args.pop("profile")
    measured, assumed = Measured.of(profile), replace(standard, **args)
    for gpu in (False, True):
        kind = "graphics cards" if gpu else f"machines of {assumed.cores} cores"
        print(f"{profile} on {kind}: from {largest_useful(measured, assumed, gpu=gpu)} on no gain")
        for machines in SIZES:
            found = estimate(measured, assumed, machines, gpu=gpu)
            hours = found.hours(1_000_000, assumed)
            print(
                f"{machines:5d}  {found.rate:9.1f} a second, bound by the {found.bound}; a million "
                f"in {hours:8.1f} h for {price(hours, machines, assumed, gpu=gpu):9.0f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
