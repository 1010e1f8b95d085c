"""One run on a Ray of this machine, with the model of colours: a program that tests kill.

python -m tests.ray.colour_run INPUT OUTPUT ACTORS
"""

import os
import sys
import time
from typing import Any

from backend.dataset import ray_engine
from backend.dataset.fetching import DatasetFetching
from backend.dataset.listing import listing_of
from backend.dataset.output import Output, Run, Told
from backend.dataset.painter import Painter
from backend.dataset.places import place_of
from backend.plan import Plan

from ..doubles.colour_runs import CONFIG
from ..doubles.colour_runs import fetching_of as quick_fetching
from ..doubles.colour_runs import painter_of as quick

A_LOOK = float(os.environ.get("A_LOOK", "0.02"))  # seconds: something is left to kill
A_FETCH = float(os.environ.get("A_FETCH", "0"))  # likewise


def fetching_of(spec: str) -> tuple[DatasetFetching, Plan]:
    fetching, plan = quick_fetching(spec)
    fetched = fetching.fetched

    def slowly(*asked: Any) -> Any:
        time.sleep(A_FETCH)
        return fetched(*asked)

    fetching.fetched = slowly  # type: ignore[method-assign]
    return fetching, plan


def painter_of(spec: str, threads: int | None) -> Painter:
    painter = quick(spec, threads)
    result = painter._result

    def slowly(one: object) -> object:
        time.sleep(A_LOOK)
        return result(one)  # type: ignore[arg-type]

    painter._result = slowly  # type: ignore[assignment,method-assign]
    return painter


def main() -> None:
    given, out, actors = sys.argv[1:]
    output, told = Output(place_of(out)), Told()
    run = Run(engine="ray", format="parquet", input=given, config="c", version="v")
    ray_engine.run(
        listing_of(given, key="image").tasks(),
        ray_engine.Work(painter_of=painter_of, fetching_of=fetching_of, spec=CONFIG),
        output,
        ray_engine.Cluster(actors=int(actors)),
        token=output.begin(run),
        format="parquet",
        rows_per_file=16,
        unique=True,
        told=told,
    )
    print(told.to_json())


if __name__ == "__main__":
    main()
