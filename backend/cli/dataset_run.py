"""`cliper prelabel --input`: a data set that is in no project, or not only. No command itself."""

import argparse
import hashlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import Settings
from . import running

if TYPE_CHECKING:
    from ..dataset.fetching import DatasetFetching
    from ..dataset.output import Output, Told
    from ..dataset.painter import Asked, Painter
    from ..plan import Plan

PLAIN, RAY = ENGINES = "plain", "ray"  # as in `dataset.output`, which needs more to import
ROWS_PER_FILE = 500
MOST_ROWS_PER_FILE = 100_000  # of results of some ten kilobytes each, in memory at once
MOST_CONFIG_BYTES = 4_000_000
EVERY = 30.0  # seconds between two lines of progress
OF_PROJECTS = ("view", "filter", "limit", "redo", "include_annotated", "replace", "dry_run", "undo")


def configure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a data set", "Rows in files in place of predictions in Label Studio."
    )
    group.add_argument(
        "--input",
        metavar="ADDRESS",
        help="folder or bucket (s3://…) of pictures, Parquet, export (.json), tasks (.jsonl)",
    )
    group.add_argument("--output", metavar="ADDRESS", help="folder of the rows, new or its own")
    group.add_argument(
        "--format", choices=("parquet", "jsonl"), default="parquet", help="of the rows"
    )
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="label config (XML), without --project"
    )
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=PLAIN,
        help="plain: this process; ray: as many machines as there are",
    )
    group.add_argument("--concurrency", type=int, metavar="N", help="of ray: actors with the model")
    group.add_argument(
        "--gpus-per-actor", type=float, metavar="F", help="of ray: a share of a card is allowed"
    )
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a cluster; like RAY_ADDRESS")
    group.add_argument(
        "--rows-per-file",
        type=int,
        default=ROWS_PER_FILE,
        metavar="N",
        help="that an end by force may cost (default: %(default)s)",
    )
    group.add_argument(
        "--as-seen",
        metavar="PREFIX",
        help="how Label Studio will know a picture: PREFIX and its path, such as "
        "'/data/local-files/?d=photos/'",
    )
    group.add_argument(
        "--picture-column", metavar="NAME", help="of Parquet: addresses or bytes of pictures"
    )
    group.add_argument(
        "--id-column", default="id", metavar="NAME", help="of Parquet (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Raises BadRequest, BadSetting, ConfigError, ModelFailed."""
    from ..dataset.listing import listing_of
    from ..dataset.output import Output, Run, Told
    from ..dataset.painter import picture_key
    from ..dataset.places import place_of
    from ..errors import BadRequest
    from ..wiring import check_choice, version_ahead

    _refuse(args)
    settings = running.given_settings(args)
    check_choice(settings)
    if args.engine == RAY and settings.profile is None:
        raise BadRequest(
            "name the profile with --profile: machines of a cluster may be unlike this one"
        )
    asked = _asked(args, settings)
    listing = listing_of(
        args.input,
        key=picture_key(asked, settings.options),
        as_seen=args.as_seen,
        column=args.picture_column,
        id_column=args.id_column,
    )
    version = version_ahead(settings, asked)
    output = Output(place_of(args.output))
    if f"{output.place.address}/".startswith(f"{listing.place.address.rstrip('/')}/"):
        raise BadRequest("--output lies inside of --input; name a folder beside it")
    token = output.begin(
        Run(
            engine=args.engine,
            format=args.format,
            input=listing.place.address,
            config=_digest(asked, args),
            version=version,
        )
    )
    told, begun = Told(), time.perf_counter()
    settled = {"environ": environ_of(args), "version": version, "input": args.input}
    spec = json.dumps({**settled, **_plain(asked)})
    with _terminated_by_hand(), _storage_errors_as_ours():
        if args.engine == PLAIN:
            _plain_engine(listing.tasks(), spec, output, args, token, told)
        else:
            _ray_engine(listing.tasks(), spec, output, args, token, told, listing.ids_are_ours)
    seconds = time.perf_counter() - begun
    if args.json:
        print(json.dumps({"version": version, **told.to_json(), "seconds": round(seconds, 1)}))
    else:
        print("\n".join(_table(told, version, seconds)))
    return 1 if told.failed or told.left else 0


def _refuse(args: argparse.Namespace) -> None:
    """Raises BadRequest."""
    from ..errors import BadRequest

    if args.output is None:
        raise BadRequest("--input needs --output, a folder for the rows")
    for name in OF_PROJECTS:
        given = getattr(args, name)
        if given is not None and given is not False and given != []:
            raise BadRequest(
                f"--{name.replace('_', '-')} is for tasks of a project; it does not go with --input"
            )
    if (args.config is None) == (args.project is None):
        raise BadRequest(
            "give either --config FILE with a label config, or --project ID, whose config and "
            "corrections then count"
        )
    if not 1 <= args.rows_per_file <= MOST_ROWS_PER_FILE:
        raise BadRequest(
            f"--rows-per-file must be from 1 to {MOST_ROWS_PER_FILE}, got {args.rows_per_file}"
        )
    for name in ("concurrency", "gpus_per_actor", "ray_address"):
        if args.engine != RAY and getattr(args, name) is not None:
            raise BadRequest(f"--{name.replace('_', '-')} is for --engine ray")


def _asked(args: argparse.Namespace, settings: Settings) -> "Asked":
    """From a file, or as the project has it, with what corrections taught."""
    from ..dataset.painter import Asked
    from ..errors import BadRequest
    from ..labelstudio import options

    if args.config is not None:
        try:
            with args.config.open(encoding="utf-8") as file:
                return Asked(config=file.read(MOST_CONFIG_BYTES), extra={})
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequest(f"--config {args.config} cannot be read as text ({error})") from None
    from contextlib import closing

    from ..learning.teaching import StoredTeaching
    from ..prelabel.run import our_own
    from ..studio.project import StudioProject
    from ..wiring import label_studio, store

    studio = label_studio(running.settings_of(args))
    assert studio is not None  # `settings_of` saw to it
    with closing(studio.open(time.sleep)) as client, closing(store(settings)) as storage:
        project = StudioProject(client, args.project)
        extra = options.read_extra(our_own(project.connections()).get("extra_params"))
        learned = StoredTeaching(storage).of(studio.scope(args.project))
        return Asked(config=project.facts().label_config, extra=extra, learned=learned)


def _digest(asked: "Asked", args: argparse.Namespace) -> str:
    """Of what decides which tasks there are, and what is looked for in them."""
    options = [args.as_seen, args.picture_column, args.id_column]
    facts = json.dumps([asked.config, dict(asked.extra), options], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _plain(asked: "Asked") -> dict[str, Any]:
    return {
        "config": asked.config,
        "extra": dict(asked.extra),
        "learned": None if asked.learned is None else asked.learned.to_json(),
    }


def environ_of(args: argparse.Namespace) -> dict[str, str]:
    """The settings of this process as variables, for others on other machines."""

    class Asked(dict[str, str]):
        """Notes what is asked for."""

        def __init__(self, given: Mapping[str, str]) -> None:
            super().__init__(given)
            self.noted: dict[str, str] = {}

        def get(self, name: str, default: Any = None) -> Any:
            if name in self:
                self.noted[name] = self[name]
            return super().get(name, default)

    noting = Asked(running.environ_with(args))
    Settings.from_environ(noting)
    return {**noting.noted, "STORAGE": "memory:"}


# -- what every process of a run calls -----------------------------------------------------


def _of_spec(spec: str) -> "tuple[Settings, Asked, str]":
    from ..dataset.painter import Asked
    from ..lessons import Learned

    told = json.loads(spec)
    asked = Asked(
        config=told["config"],
        extra=told["extra"],
        learned=None if told["learned"] is None else Learned.from_json(told["learned"]),
    )
    return Settings.from_environ(told["environ"]), asked, told["version"]


def painter_of(spec: str, threads: int | None) -> "Painter":
    """The model, in this process. `threads`: of a processor; None: as many as torch takes.

    Raises ConfigError, ModelFailed.
    """
    from cliper_model.allocator import keep_freed_memory

    from ..errors import ModelFailed
    from ..wiring import painter

    keep_freed_memory(os.environ)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    settings, asked, version = _of_spec(spec)
    made = painter(settings, asked)
    if made.plan.version != version:
        raise ModelFailed(
            f"this process would write {made.plan.version}, and the run is {version}: weights or "
            "program differ between machines"
        )
    return made


def fetching_of(spec: str) -> "tuple[DatasetFetching, Plan]":
    """Where pictures come from, and which of a task are wanted."""
    from ..dataset.painter import views_plan
    from ..dataset.places import place_of
    from ..wiring import dataset_fetching

    settings, asked, _ = _of_spec(spec)
    place = place_of(json.loads(spec)["input"])
    return dataset_fetching(settings, place), views_plan(asked, settings.options)


# -- the two engines ----------------------------------------------------------------------


def _plain_engine(
    tasks: Iterator[Any],
    spec: str,
    output: "Output",
    args: argparse.Namespace,
    token: str,
    told: "Told",
) -> None:
    from ..dataset import plain

    fetching, _ = fetching_of(spec)
    plain.run(
        tasks,
        painter_of(spec, None),
        fetching,
        output,
        token=token,
        format=args.format,
        rows_per_file=args.rows_per_file,
        told=told,
        tell=_Lines(),
    )


def _ray_engine(
    tasks: Iterator[Any],
    spec: str,
    output: "Output",
    args: argparse.Namespace,
    token: str,
    told: "Told",
    unique: bool,
) -> None:
    from ..dataset import ray_engine

    ray_engine.run(
        tasks,
        ray_engine.Work(painter_of=painter_of, fetching_of=fetching_of, spec=spec),
        output,
        ray_engine.Cluster(
            address=args.ray_address or os.environ.get("RAY_ADDRESS") or None,
            actors=args.concurrency,
            gpus_per_actor=args.gpus_per_actor,
        ),
        token=token,
        format=args.format,
        rows_per_file=args.rows_per_file,
        unique=unique,
        told=told,
    )


class _Lines:
    """A line every now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._next = clock()

    def __call__(self, told: "Told") -> None:
        now = self._clock()
        if now < self._next + EVERY:
            return
        self._next = now
        rate = told.rows / (now - self._begun)
        print(
            f"cliper: {told.rows} tasks done, {told.failed} failed, {rate:.2f} per second",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _storage_errors_as_ours() -> Iterator[None]:
    """What a disk or a bucket says is for people; what is done is written.

    Raises BadRequest.
    """
    from ..errors import BadRequest

    try:
        yield
    except (OSError, sqlite3.Error) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadRequest(
            f"files cannot be read or written ({said}); mend that, and give the same command again"
        ) from error


@contextmanager
def _terminated_by_hand() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: what is done is written."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _table(told: "Told", version: str, seconds: float) -> Iterator[str]:
    yield f"version {version}"
    yield f"{told.rows:8d}  rows written"
    for count, words in (
        (told.empty, "of them without any region: nothing was found"),
        (told.already, "tasks had rows before"),
        (told.again, "tasks named again, and left out"),
        (told.left, "tasks left: servers did not answer; the same command goes on"),
    ):
        if count:
            yield f"{count:8d}  {words}"
    if told.failed:
        yield f"{told.failed:8d}  tasks failed:"
        for kind, count in told.failures.most_common():
            id, reason = told.examples[kind]
            yield f"{count:8d}    {kind}: {reason} ({id})"
    if told.rows and seconds:
        yield f"{seconds:8.0f}  seconds, {told.rows / seconds:.2f} tasks a second"
