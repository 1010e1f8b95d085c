"""What can go wrong in the service, each with one sentence; status codes live in `api/errors.py`.

ServiceError
├── BadSetting             an environment variable or option with an impossible value
├── CannotListen           the address or port is not to be had
├── BadRequest             a request that does not speak Label Studio's dialect
├── ConfigError            a label config without anything we can pre-label
├── ModelNotReady
│   ├── ModelLoading       the weights are still on their way to the disk or into memory
│   └── ModelFailed        the model cannot be loaded
│       └── DeviceLost     the device does nothing more for this process
├── Busy                   too many predictions wait already
├── BadMask                a region whose mask cannot be read
├── StorageError
│   ├── StorageAway        the store cannot be reached, now
│   └── StorageUnfit       the store is of another program or a newer version of this one
├── UnknownJob             no job has this id
├── TooManyJobs            as many jobs as allowed have not ended yet
├── NoJobs                 this service runs no jobs
├── NoPlayground           this service has no pages
├── PictureGone            a page asks about a picture that is not kept any more
├── NoLabelStudio          no Label Studio is connected
├── UnknownProject         Label Studio has no such project, or does not show it
├── NoReport               no report of the project is kept
├── NotAllowed             a change asked for by somebody who may not
├── NotJson                a change asked for by a form, as a browser sends from anywhere
├── Compressed             a request body that would have to be unpacked
├── StudioError
│   ├── StudioRefused      Label Studio answers, but does not do it
│   ├── StudioAway         Label Studio stayed away for longer than we wait
│   └── StudioUncertain    the connection broke: it may have happened or not
├── FitFailed              the process that learns ended without an answer
├── ProjectChanged         the project is no longer what a run began with
└── CouldNotPredict        one task got no answer this time; it may be asked again
    ├── BudgetSpent        the request's time was over before the task's turn
    ├── TooManyTasks       the request has more tasks than are taken on at a time
    ├── OutOfMemory        the picture is too much for the device
    ├── DevicesLost        several devices were lost over the picture, one after the other
    ├── TaskDataMissing    the task carries no picture under the config's key
    ├── LabelsMissing      the config takes labels from the task, and the task has none
    ├── MaskTooLarge       the editor could not open a brush mask of this picture
    └── ImageError
        ├── AddressRefused     an address we do not go to
        ├── ImageMissing       nothing there
        ├── Unreachable        nobody answers, or not in time
        │   └── WrongStatus    somebody answers, but not with success
        ├── TokenRefused       Label Studio does not accept our token
        ├── ImageTooLarge      more bytes or pixels than allowed
        └── ImageBroken        empty, truncated, or not a picture at all
"""

LONGEST_SENTENCE = 1000  # characters told of an error, which may quote what somebody sent


def shortened(sentence: str) -> str:
    """A sentence as it is told to others: one line, of at most `LONGEST_SENTENCE` characters."""
    line = " ".join(sentence[: 2 * LONGEST_SENTENCE].split())
    return line if len(line) <= LONGEST_SENTENCE else f"{line[: LONGEST_SENTENCE - 3]}..."


class ServiceError(Exception):
    """Root of everything the service raises on purpose."""


class BadSetting(ServiceError):
    """An environment variable or option has an impossible value."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")
        self.variable = variable


class CannotListen(ServiceError):
    """The address or port is not to be had."""


class BadRequest(ServiceError):
    """The request does not speak Label Studio's dialect."""


class ConfigError(ServiceError):
    """The label config has nothing we can pre-label, or says something we cannot follow."""


class ModelNotReady(ServiceError):
    """There is no model to ask, now."""


class ModelLoading(ModelNotReady):
    """The weights are still on their way to the disk or into memory."""

    def __init__(self, percent: int, *, downloading: bool = False) -> None:
        what = "Model weights are downloading" if downloading else "Model is loading"
        super().__init__(f"{what} ({percent} %), try again in a minute")
        self.percent, self.downloading = percent, downloading


class ModelFailed(ModelNotReady):
    """The model cannot be loaded; the reason says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Model could not be loaded: {reason}")
        self.reason = reason


class DeviceLost(ModelFailed):
    """The device does nothing more for this process, whatever it is asked; `kind` of error says
    how that came out."""

    def __init__(self, kind: str) -> None:
        sentence = f"the device is lost ({kind}); start the service again"
        ServiceError.__init__(self, sentence)
        self.reason, self.kind = sentence, kind


class Busy(ServiceError):
    """So many predictions wait already that one more would silence `/health`."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"Busy with {waiting} prediction requests, try again in a minute")
        self.waiting = waiting


class BadMask(ServiceError):
    """A region whose mask cannot be read."""


class StorageError(ServiceError):
    """The store cannot do what it should."""


class StorageAway(StorageError):
    """The store cannot be reached, now; what was asked may or may not have happened."""


class StorageUnfit(StorageError):
    """The store is of another program, or of a newer version of this one."""


class UnknownJob(ServiceError):
    """No job has this id, or it ended too long ago."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; ended jobs are forgotten after a while")
        self.job_id = job_id


class TooManyJobs(ServiceError):
    """As many jobs as allowed have not ended yet."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} jobs have not ended yet; cancel some, or try again later")
        self.count = count


class NoJobs(ServiceError):
    """This service runs no jobs."""

    def __init__(self) -> None:
        super().__init__(
            "this service runs no jobs: it needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
        )


class NoPlayground(ServiceError):
    """This service has no pages."""

    def __init__(self) -> None:
        super().__init__("this service shows no pages; set UI=true")


class PictureGone(ServiceError):
    """A page asks about a picture that is not kept any more."""

    def __init__(self) -> None:
        super().__init__("the picture is no longer kept here; choose it again")


class NoLabelStudio(ServiceError):
    """No Label Studio is connected; `missing` are settings."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"no Label Studio is connected: set {' and '.join(missing)}, and start the service "
            "again"
        )
        self.missing = missing


class UnknownProject(ServiceError):
    """Label Studio has no such project, or does not show it to our token."""

    def __init__(self, project: int) -> None:
        super().__init__(
            f"there is no project {project}, or the service's token may not see it; the number is "
            "in its address"
        )
        self.project = project


class NoReport(ServiceError):
    """No report of the project is kept."""

    def __init__(self, project: int) -> None:
        super().__init__(
            f"no report of project {project} is kept: none was made, or it had to make room; make "
            "one"
        )
        self.project = project


class NotAllowed(ServiceError):
    """A change asked for by somebody who may not."""


class NotJson(ServiceError):
    """A change asked for with something that is not JSON."""

    def __init__(self) -> None:
        super().__init__("send this with the header Content-Type: application/json")


class Compressed(ServiceError):
    """A request body that would have to be unpacked, which may make very much of very little."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"request bodies are read as they come, not packed as {encoding[:40]!r}; send this "
            "without Content-Encoding"
        )


class StudioError(ServiceError):
    """Label Studio's API does not do what we ask."""


class StudioRefused(StudioError):
    """Label Studio answers with an HTTP error; `status` and `message` are what it said."""

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"Label Studio refused {request} with {status}: {message}")
        self.status, self.message = status, message


class StudioAway(StudioError):
    """Label Studio stayed away for longer than we wait."""


class StudioUncertain(StudioError):
    """The connection broke in the middle: what was asked may have happened or not."""


class ProjectChanged(ServiceError):
    """The project is no longer what a run began with; starting again goes on from there."""


class FitFailed(ServiceError):
    """The process that learns ended without an answer; `status` as in `subprocess`."""

    def __init__(self, status: int) -> None:
        how = f"with status {status}; see the log"
        if status == -9:
            how = "since it was killed, as happens where memory runs out"
        super().__init__(f"the process that learns ended without an answer, {how}")


class CouldNotPredict(ServiceError):
    """One task got no answer this time; nothing is stored, and it may be asked again."""


class BudgetSpent(CouldNotPredict):
    """The request's time was over before the task was done."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the request's {seconds:g} s were over before this task was done; "
            "retrieve predictions again to go on"
        )


class TooManyTasks(CouldNotPredict):
    """The request has more tasks than are taken on at a time."""

    def __init__(self, asked: int, most: int) -> None:
        super().__init__(
            f"the request has {asked} tasks, more than {most} (MAX_TASKS); retrieve predictions "
            "again to go on"
        )


class OutOfMemory(CouldNotPredict):
    """The picture is too much for the device."""

    def __init__(self) -> None:
        super().__init__(
            "not enough memory for this picture; use a smaller profile or picture, or DEVICE=cpu"
        )


class DevicesLost(CouldNotPredict):
    """Several devices were lost over the picture, one after the other; the rest is spared it."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} devices were lost over this picture, so no other one tries it; leave the "
            "picture out, or use a smaller one"
        )
        self.count = count


class TaskDataMissing(CouldNotPredict):
    """The task carries no picture under the config's key."""

    def __init__(self, key: str, present: tuple[str, ...]) -> None:
        found = ", ".join(repr(name) for name in present) or "nothing"
        super().__init__(f"the task has no picture address under {key!r}; its data holds {found}")
        self.key, self.present = key, present


class LabelsMissing(CouldNotPredict):
    """The task's data cannot be followed: labels it should list, or far too many pictures."""


class MaskTooLarge(CouldNotPredict):
    """The editor builds four bytes per pixel and brush region; this picture is too much for it."""

    def __init__(self, size_hw: tuple[int, int], budget: float) -> None:
        super().__init__(
            f"a brush mask of {size_hw[1]} x {size_hw[0]} pixels is too much for the editor "
            f"(over {budget:g} megapixels, MAX_BRUSH_MEGAPIXELS); use BitmaskLabels or "
            "PolygonLabels"
        )
        self.size_hw = size_hw


class ImageError(CouldNotPredict):
    """The picture of a task cannot be had."""


class AddressRefused(ImageError):
    """An address we do not go to."""


class ImageMissing(ImageError):
    """There is nothing at the address."""


class Unreachable(ImageError):
    """Nobody answers, not in time, or not with success."""


class WrongStatus(Unreachable):
    """Somebody answers, but not with success; `status` is the HTTP status."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class TokenRefused(ImageError):
    """Label Studio does not accept our token."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than the settings allow."""


class ImageBroken(ImageError):
    """Empty, truncated, or not a picture at all."""


def is_passing(error: CouldNotPredict) -> bool:
    """Whether the same may succeed a little later, with nothing changed by anybody."""
    if isinstance(error, WrongStatus):
        return error.status is not None and (error.status in (408, 429) or error.status >= 500)
    return isinstance(error, Unreachable | BudgetSpent)
