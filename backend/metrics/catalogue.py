"""Every metric there is: its name, what it means, and which values its labels take.

The reference page is made from this list. What a label may be never comes from a request: every
label takes one of a few words, or says what the service runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..errors import (
    AddressRefused,
    BudgetSpent,
    CouldNotPredict,
    ImageBroken,
    ImageError,
    ImageMissing,
    ImageTooLarge,
    LabelsMissing,
    MaskTooLarge,
    OutOfMemory,
    TaskDataMissing,
    TokenRefused,
    TooManyTasks,
    Unreachable,
    WrongStatus,
)

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
OTHER: Final = "other"

ENDPOINTS: Final = (
    "health", "ready", "metrics", "setup", "predict", "webhook", "versions", "jobs", "openapi",
    "ui", "ui_projects", OTHER,
)  # fmt: skip
METHODS: Final = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", OTHER)
STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
LANES: Final = ("people", "bulk", "whenever")
A_DEVICE: Final = "such as cuda:0"
STAGES: Final = ("fetch", "decode", "read", "look", "score", "decide", "write")
CACHES: Final = ("results", "looks", "rows")
PLACES: Final = ("memory", "store", "nowhere")
MODEL_STATES: Final = ("downloading", "loading", "ready", "failed")
JOB_STATES: Final = ("queued", "running", "waiting")
JOB_KINDS: Final = ("prelabel", "undo", "learn", "report", OTHER)
JOB_ENDS: Final = ("done", "failed", "stopped")

IMAGE_FAILURES: Final[Mapping[type[ImageError], str]] = {  # the first that fits
    AddressRefused: "refused",
    ImageMissing: "missing",
    WrongStatus: "status",
    Unreachable: "unreachable",
    TokenRefused: "token",
    ImageTooLarge: "too_large",
    ImageBroken: "not_an_image",
}
PREDICTED: Final = "predicted"
TASK_FAILURES: Final[Mapping[type[CouldNotPredict], str]] = {  # likewise
    BudgetSpent: "late",
    TooManyTasks: "late",
    OutOfMemory: "memory",
    TaskDataMissing: "data",
    LabelsMissing: "data",
    MaskTooLarge: "mask_too_large",
    ImageError: "image",
}
IMAGE_REASONS: Final = (*IMAGE_FAILURES.values(), OTHER)
TASK_OUTCOMES: Final = (PREDICTED, *dict.fromkeys(TASK_FAILURES.values()), OTHER)

SECONDS_OF_A_REQUEST: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 100.0,
)  # fmt: skip
SECONDS_OF_A_STAGE: Final = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip
PICTURES_AT_ONCE: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One family of samples.

    labels   name -> the words it may be, or a sentence where they follow from what runs
    buckets  upper bounds of a histogram
    linux    it is read from /proc, and is missing elsewhere
    """

    name: str
    kind: str
    meaning: str
    labels: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    linux: bool = False


REQUESTS: Final = Metric(
    name="cliper_requests_total",
    kind=COUNTER,
    meaning="requests that were answered",
    labels={"endpoint": ENDPOINTS, "method": METHODS, "status": STATUSES},
)
LATENCY: Final = Metric(
    name="cliper_request_seconds",
    kind=HISTOGRAM,
    meaning="seconds from a request's arrival to its answer; the lane is that of /predict, and "
    "empty for all other endpoints",
    labels={"endpoint": ENDPOINTS, "lane": ("", "people", "bulk")},
    buckets=SECONDS_OF_A_REQUEST,
)
TASKS: Final = Metric(
    name="cliper_tasks_total",
    kind=COUNTER,
    meaning="tasks that requests and jobs asked for, by what became of them; clicks count too",
    labels={"outcome": TASK_OUTCOMES},
)
IMAGES_FAILED: Final = Metric(
    name="cliper_image_failures_total",
    kind=COUNTER,
    meaning="times a picture could not be had, by reason",
    labels={"reason": IMAGE_REASONS},
)
STAGE: Final = Metric(
    name="cliper_stage_seconds",
    kind=HISTOGRAM,
    meaning="seconds of one step: fetch and decode per picture, read per new list of words, look "
    "per picture and model, score per control that was not scored before, decide and write per "
    "control or picture; what is remembered takes no step",
    labels={"stage": STAGES},
    buckets=SECONDS_OF_A_STAGE,
)
BATCH: Final = Metric(
    name="cliper_batch_size",
    kind=HISTOGRAM,
    meaning="pictures that a model looked at together, by device; its sum is the number of looks",
    labels={"device": A_DEVICE},
    buckets=PICTURES_AT_ONCE,
)
CACHE: Final = Metric(
    name="cliper_cache_lookups_total",
    kind=COUNTER,
    meaning="questions for finished results, looks at pictures and rows of words, by where the "
    "answer was found",
    labels={"cache": CACHES, "found": PLACES},
)
EVENTS: Final = Metric(
    name="cliper_learning_events_received_total",
    kind=COUNTER,
    meaning="events that came to /webhook",
)
SETTLED: Final = Metric(
    name="cliper_learning_tasks_settled_total",
    kind=COUNTER,
    meaning="tasks whose corrections were read, or found gone",
)
ACTIVATED: Final = Metric(
    name="cliper_learning_versions_activated_total",
    kind=COUNTER,
    meaning="times that what was learnt changed what is in use, in a job of this process",
)
JOBS_ENDED: Final = Metric(
    name="cliper_job_attempts_total",
    kind=COUNTER,
    meaning="attempts at jobs that ended in this process; stopped: cancelled or handed back",
    labels={"kind": JOB_KINDS, "end": JOB_ENDS},
)

QUEUE: Final = Metric(
    name="cliper_queue_depth",
    kind=GAUGE,
    meaning="jobs that wait for a device, by device and lane",
    labels={"device": A_DEVICE, "lane": LANES},
)
DEVICE: Final = Metric(
    name="cliper_device_ready",
    kind=GAUGE,
    meaning="1 while a device does what it is asked, 0 while its model loads, and once it is lost "
    "or its model could not be loaded",
    labels={"device": A_DEVICE},
)
READY: Final = Metric(name="cliper_ready", kind=GAUGE, meaning="1 while /ready says 200, else 0")
DEGRADED: Final = Metric(
    name="cliper_degraded_reasons",
    kind=GAUGE,
    meaning="how many sentences stand under `degraded` in /health",
)
MODEL_STATE: Final = Metric(
    name="cliper_model_state",
    kind=GAUGE,
    meaning="1 for the state the service's own model is in, 0 for the others",
    labels={"state": MODEL_STATES},
)
MODEL: Final = Metric(
    name="cliper_model_info",
    kind=GAUGE,
    meaning="1, with what the service's own model is; missing until it is ready",
    labels={
        "profile": "of the service",
        "method": "of the service",
        "revision": "of the method",
        "device": A_DEVICE,
        "dtype": "such as float16",
    },
)
BUILD: Final = Metric(
    name="cliper_build_info",
    kind=GAUGE,
    meaning="1, with the version of the program",
    labels={"version": "of the package, `unknown` where it is not installed as one"},
)
OTHER_MODELS: Final = Metric(
    name="cliper_other_models",
    kind=GAUGE,
    meaning="models that label configs named, beside the service's own",
)
FALLBACKS: Final = Metric(
    name="cliper_fallbacks",
    kind=GAUGE,
    meaning="fallbacks in effect: weights unlike those the method was made for, and batches that "
    "are smaller since memory ran out",
)
STORAGE: Final = Metric(
    name="cliper_storage_up",
    kind=GAUGE,
    meaning="1 where the store did what it was asked last, else 0",
)
LEARNING: Final = Metric(
    name="cliper_learning_on",
    kind=GAUGE,
    meaning="1 where the service learns from corrections, else 0",
)
PENDING: Final = Metric(
    name="cliper_learning_events_pending",
    kind=GAUGE,
    meaning="events that came and are not in the store yet",
)
SPOOLED: Final = Metric(
    name="cliper_learning_events_spooled",
    kind=GAUGE,
    meaning="files of events that wait on this machine's disk for the store",
)
UNSETTLED: Final = Metric(
    name="cliper_learning_projects_unsettled",
    kind=GAUGE,
    meaning="projects with corrections nobody has read yet, at most 20",
)
TROUBLE: Final = Metric(
    name="cliper_learning_trouble",
    kind=GAUGE,
    meaning="1 while events or what was learnt cannot be stored or read, else 0",
)
JOBS: Final = Metric(
    name="cliper_jobs_open",
    kind=GAUGE,
    meaning="jobs that have not ended, as the runner saw them last, by state",
    labels={"state": JOB_STATES},
)
THREADS: Final = Metric(name="cliper_threads", kind=GAUGE, meaning="Python threads of the process")
UPTIME: Final = Metric(
    name="cliper_uptime_seconds", kind=GAUGE, meaning="seconds since the service was built"
)

MEMORY: Final = Metric(
    name="process_resident_memory_bytes",
    kind=GAUGE,
    meaning="memory of the process that is in use, in bytes",
    linux=True,
)
OF_THE_PROCESS: Final = (  # the official client's own, under their usual names
    MEMORY,
    Metric(
        name="process_virtual_memory_bytes",
        kind=GAUGE,
        meaning="address space of the process, in bytes",
        linux=True,
    ),
    Metric(
        name="process_start_time_seconds",
        kind=GAUGE,
        meaning="when the process began, in seconds since 1970",
        linux=True,
    ),
    Metric(
        name="process_cpu_seconds_total",
        kind=COUNTER,
        meaning="processor time of the process, in seconds",
        linux=True,
    ),
    Metric(name="process_open_fds", kind=GAUGE, meaning="open files and sockets", linux=True),
    Metric(name="process_max_fds", kind=GAUGE, meaning="how many of them there may be", linux=True),
)

CATALOGUE: Final = (
    REQUESTS, LATENCY, TASKS, IMAGES_FAILED, STAGE, BATCH, CACHE, QUEUE, DEVICE,
    READY, DEGRADED, MODEL_STATE, MODEL, BUILD, OTHER_MODELS, FALLBACKS, STORAGE,
    LEARNING, EVENTS, PENDING, SPOOLED, UNSETTLED, SETTLED, ACTIVATED, TROUBLE,
    JOBS, JOBS_ENDED, THREADS, UPTIME, *OF_THE_PROCESS,
)  # fmt: skip
