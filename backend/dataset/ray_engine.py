"""The engine for many machines: the same steps as a stream of Ray Data.

    list of tasks ──> fetch, unpack ──> model ──> rows in files
      (Parquet)       (tasks, no GPU)   (actors)   (tasks; ids of what is done in checkpoint/)

The list is written down first, so that a run that goes on has the one it began with. Ray Data's own
checkpoint says what is done; a worker that dies is replaced, and what it had is done again.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, DeviceLost, shortened
from .fetching import DatasetFetching, ahead
from .listing import Ids
from .output import NO_TASK, Output, Told, refuse_stranger
from .painter import Painter
from .rows import Given, fetched_of, fetched_table, given_of, given_table, row_table

if TYPE_CHECKING:
    import pyarrow as pa

    from ..plan import Plan

logger = logging.getLogger(__name__)

EXTRA = "pip install 'cliper-label-studio[ray]'"
COMPLETE = "complete.json"  # beside the list, once it is whole
SMALLEST, LARGEST, GROWS = 32, 4096, 64  # tasks of a file of the list; files before it doubles
MOST_BLOCK_BYTES = 32_000_000  # of unpacked pictures that go to an actor at once
MOST_READS = 20_000  # parts the list is read in
MOST_TRIES = 10  # of what an actor died over, before the run ends
LIGHT = 0.25  # of a processor, for what waits for networks and disks
SPARE = 2  # processors that Ray is told of beyond those that a single machine has
CORES_PER_ACTOR = 4  # where there is no graphics card and nobody says

PainterOf = Callable[[str, int | None], Painter]
FetchingOf = Callable[[str], "tuple[DatasetFetching, Plan]"]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to run.

    address        of a cluster; None: one on this machine, for this run alone
    actors         with the model; None: as many as there are graphics cards for, else one for every
                   four processor cores
    gpus_per_actor a share of one is allowed
    """

    address: str | None = None
    actors: int | None = None
    gpus_per_actor: float | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise BadRequest(f"--concurrency must be at least 1, got {self.actors}")
        gpus = self.gpus_per_actor
        if gpus is not None and not (0 < gpus <= 1 or gpus == int(gpus) > 0):
            raise BadRequest(
                f"--gpus-per-actor must be a share of one card, or a whole number, got {gpus:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the processes of a run need: how to come by their parts, and from what."""

    painter_of: PainterOf
    fetching_of: FetchingOf
    spec: str


def run(
    tasks: Iterable[Given],
    work: Work,
    output: Output,
    cluster: Cluster,
    *,
    token: str,
    format: str,
    rows_per_file: int,
    unique: bool,
    told: Told,
) -> None:
    """Every task that has no row yet. `unique`: nobody could have named one twice.

    Raises BadRequest, and whatever a worker raises that is not one task's trouble.
    """
    try:
        import ray
    except ImportError:
        raise BadRequest(f"--engine ray needs Ray; run {EXTRA}") from None
    listed = write_list(tasks, output, unique=unique)
    told.again = listed["again"]
    alone = _connect(cluster)
    try:
        told.already = output.count_committed()
        if told.already < listed["tasks"]:
            actors = _actors(cluster, alone=alone)
            told.join(_stream(work, output, actors, token, format, rows_per_file))
    except ray.exceptions.RayError as error:
        raise BadRequest(_why(error)) from error
    finally:
        ray.shutdown()
    refuse_stranger(output, token)
    output.mend()
    output.clear_up()
    done = output.count_committed()
    if done > listed["tasks"]:  # a worker that came back, or work that was cut in another way
        done = output.without_doubles()
    told.left = listed["tasks"] - done


def _why(error: BaseException) -> str:
    """The sentence of whoever failed, far away, without its trace."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if not isinstance(inner, BaseException) or inner is cause:
            break
        cause = inner
    said = str(cause).strip().splitlines() or [type(error).__name__]
    return shortened(f"a worker failed: {said[-1]}")


def write_list(tasks: Iterable[Given], output: Output, *, unique: bool) -> dict[str, int]:
    """The list of tasks beside the rows, unless it is there; how many there are, and how many ids
    came again."""
    complete = output.tasks / COMPLETE
    if complete.exists():
        told: dict[str, int] = json.loads(complete.read())
        return told
    import pyarrow.parquet as pq

    for path, _ in output.tasks.files():  # of a run that was killed over it
        output.place.system.delete_file(path)
    output.tasks.make_folder()
    count, number = 0, 0
    with Ids() as ids:
        given = iter(tasks if unique else ids.first(tasks))
        while chunk := _some(given, size_of_list(number)):
            place = output.tasks / list_file(number)
            with place.system.open_output_stream(place.path) as file:
                pq.write_table(given_table(chunk), file)
            count, number = count + len(chunk), number + 1
        told = {"tasks": count, "files": number, "again": ids.again}
    if not count:
        raise BadRequest(NO_TASK)
    complete.write(json.dumps(told).encode())
    return told


def list_file(number: int) -> str:
    """Its name."""
    return f"{number:08}.parquet"


def size_of_list(number: int) -> int:
    """Tasks of the list's file: few in the first ones, so that a small run is spread, and more in
    later ones, so that a large one has no million of files."""
    return min(SMALLEST << min(number // GROWS, 20), LARGEST)


def _some(tasks: Iterator[Given], most: int) -> list[Given]:
    found = []
    for one in tasks:
        found.append(one)
        if len(found) >= most:
            break
    return found


def _connect(cluster: Cluster) -> bool:
    """Whether the cluster is this machine's, for this run alone. Raises BadRequest."""
    import ray

    if cluster.address is not None:
        try:
            ray.init(address=cluster.address, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadRequest(
                f"the Ray cluster at {cluster.address} cannot be reached ({error})"
            ) from None
        return False
    ray.init(
        address="local",
        num_cpus=(os.cpu_count() or 1) + SPARE,
        include_dashboard=False,
        logging_level=logging.WARNING,
    )
    return True


def _stream(
    work: Work, output: Output, actors: "_Actors", token: str, format: str, rows_per_file: int
) -> Told:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
    from ray.data.checkpoint import CheckpointConfig

    from .ray_files import RowsSink, TaskList

    listed = json.loads((output.tasks / COMPLETE).read())
    source = TaskList(
        [output.tasks / list_file(number) for number in range(listed["files"])],
        most_reads=MOST_READS,
        tasks=listed["tasks"],
    )
    context = DataContext.get_current().copy()
    context.target_max_block_size = MOST_BLOCK_BYTES
    context.enable_progress_bars = os.isatty(2)
    context.checkpoint_config = CheckpointConfig(
        "id",
        f"{output.checkpoint.prefix}{output.checkpoint.path}",
        override_filesystem=output.checkpoint.system,
        delete_checkpoint_on_success=False,
    )
    sink = RowsSink(output, token, format, rows_per_file=rows_per_file)
    fetchers = TaskPoolStrategy(actors.fetchers)
    with DataContext.current(context):
        given = ray.data.read_datasource(source, override_num_blocks=len(source), num_cpus=LIGHT)
        fetched = given.map_batches(
            _Fetch(work.fetching_of, work.spec),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=LIGHT,
            compute=fetchers,
        )
        painted = fetched.map_batches(
            _Paint,
            fn_constructor_args=(work.painter_of, work.spec, actors.threads),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=actors.count),
            num_cpus=actors.num_cpus,
            num_gpus=actors.num_gpus,
            max_task_retries=MOST_TRIES,
        )
        painted.write_datasink(
            sink, ray_remote_args={"num_cpus": LIGHT}, concurrency=actors.fetchers
        )
    return sink.told


@dataclass(frozen=True, kw_only=True)
class _Actors:
    """How many, what each needs, and its threads; None: as many as torch takes.

    fetchers  processes that fetch for them: each loads libraries of some 300 MB first
    """

    count: int
    fetchers: int
    num_cpus: float | None = None
    num_gpus: float | None = None
    threads: int | None = None


def _actors(cluster: Cluster, *, alone: bool) -> _Actors:
    """One without a graphics card leaves room for the light tasks beside it. Raises BadRequest."""
    import ray

    there = ray.cluster_resources()
    cards, cores = there.get("GPU", 0.0), int(there.get("CPU", 1)) - (SPARE if alone else 0)
    gpus = cluster.gpus_per_actor or (1.0 if cards else 0.0)
    if gpus > cards and (alone or cluster.gpus_per_actor is None):  # a cluster may grow
        raise BadRequest(
            f"the cluster has {cards:g} graphics cards, and an actor needs {gpus:g}; leave "
            "--gpus-per-actor out to compute on processors"
        )
    if gpus:
        count = cluster.actors or max(int(cards / gpus), 1)
        return _Actors(count=count, fetchers=max(cores, 1), num_gpus=gpus)
    count = cluster.actors or max(cores // CORES_PER_ACTOR, 1)
    largest = max(int(one["Resources"].get("CPU", 1)) for one in ray.nodes() if one["Alive"])
    threads = max(min(cores // count, largest - (SPARE if alone else 0)), 1)
    fetchers = max(cores // 2, 1)
    return _Actors(
        count=count, fetchers=fetchers, num_cpus=max(threads - LIGHT, LIGHT), threads=threads
    )


class _Fetch:
    """Tasks -> the same with unpacked pictures, a few at a time."""

    def __init__(self, fetching_of: FetchingOf, spec: str) -> None:
        self._of, self._spec = fetching_of, spec
        self._made: tuple[DatasetFetching, Plan] | None = None

    def __call__(self, table: "pa.Table") -> "Iterator[pa.Table]":
        if self._made is None:
            self._made = self._of(self._spec)
        fetching, plan = self._made
        for one in ahead(given_of(table), lambda given: fetching.fetched(given, plan)):
            yield fetched_table([one])

    def __reduce__(self) -> Any:
        return _Fetch, (self._of, self._spec)


class _Paint:
    """An actor: the model, and what it makes of a block of tasks."""

    def __init__(self, painter_of: PainterOf, spec: str, threads: int | None) -> None:
        self._painter = painter_of(spec, threads)

    def __call__(self, table: "pa.Table") -> "pa.Table":
        try:
            return row_table(self._painter.paint(fetched_of(table)))
        except DeviceLost:
            logger.critical("the graphics card of this actor is lost; another one goes on")
            os._exit(1)  # Ray puts another actor in its place, and gives it what this one had
