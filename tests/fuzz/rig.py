"""The whole service with a model that sees colours, and what must hold whatever is sent to it."""

import gc
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from backend.api.ui_guard import COOKIE
from backend.app import create_app
from backend.errors import BadMask, ConfigError, ImageError, Unreachable
from backend.images.decode import decode
from backend.images.fetch import ImageFetcher, Reach
from backend.images.label_studio import LabelStudioFiles
from backend.jobs.base import Job
from backend.jobs.book import JobBook
from backend.jobs.desk import JobDesk
from backend.keeping import Keeping
from backend.labelstudio import label_config, rle
from backend.labelstudio.regions import FORMATS
from backend.learning.intake import Intake
from backend.learning.teaching import StoredTeaching
from backend.learning.works import kinds as learning_kinds
from backend.model_host import ModelHost
from backend.model_pool import ModelChoice, ModelPool
from backend.plan import vocabularies
from backend.playground.playground import Playground
from backend.predictor import Predictor
from backend.prelabel.works import LabelStudio, kinds
from backend.services import Services
from backend.settings import Settings
from backend.storage.memory import MemoryStorage
from backend.wiring import check_choice, limits

from ..doubles.colours import ColourSegmenter, colour_source
from ..doubles.pictures import brush_config, striped_png
from .cases import KEPT, UI_TOKEN, Case, kept_id

MOST_PIXELS = 4_000_000  # of a picture
LOCAL = "http://127.0.0.1:9090"
STUDIO = "http://studio.invalid:8080"
LONGEST_SENTENCE = 1000  # characters of an error
MOST_THREADS = 40  # of the process, whatever is asked


class Broken(AssertionError):
    """Something that must hold whatever comes did not."""

    def __init__(self, case: Case | None, problem: str) -> None:
        whose = f"case {case.number} ({case.kind})" if case else "after all cases"
        super().__init__(f"{whose}: {problem}")


class Nowhere:
    """The way out of a machine without a network."""

    def get(self, url: str, **more: Any) -> Any:
        raise Unreachable("nobody answers")

    post_json = get


class EndsAtOnce:
    """A runner that cancels what it gets, so that open jobs never become too many."""

    def __init__(self, book: JobBook) -> None:
        self._book = book

    def start(self) -> None: ...

    def wake(self, job: Job) -> None:
        self._book.cancel(job.id)

    def close(self, *, seconds: float = 5.0) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        return {}


class Stumbles(logging.Handler):
    """Keeps what the service says of errors that it did not foresee, of any thread."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            text = logging.Formatter().formatException(record.exc_info)
            self.found.append(f"{record.getMessage()[:300]}\n{text[-1500:]}")


@contextmanager
def rig(folder: Path) -> Iterator["Rig"]:
    """A running rig; `folder` takes a picture."""
    made = Rig(folder)
    logger, before = logging.getLogger("backend"), threading.excepthook
    level = logger.level
    logger.addHandler(made.stumbles)
    logger.setLevel(logging.ERROR)
    threading.excepthook = made.thread_ended
    made.services.start()
    made.services.model.join()
    try:
        yield made
    finally:
        made.services.close()
        threading.excepthook = before
        logger.setLevel(level)
        logger.removeHandler(made.stumbles)


class Rig:
    """Runs cases: `run` says in a word what came of one, or raises Broken."""

    def __init__(self, folder: Path) -> None:
        (folder / "a.png").write_bytes(striped_png("red", "blue"))
        settings = Settings(result_cache_mb=1, state_cache_mb=4)
        storage = MemoryStorage(max_blob_bytes=1_000_000)
        self._model = ColourSegmenter()
        source = colour_source(self._model)

        def other(choice: ModelChoice) -> ModelHost:
            check_choice(Settings(method=choice.method, profile=choice.profile))
            host = ModelHost(source)
            host.start()
            host.join()
            return host

        http: Any = Nowhere()
        pictures = ImageFetcher(
            reach=Reach(
                http=http,
                label_studio=LabelStudioFiles(STUDIO, "t", http),
                document_root=folder,
                max_bytes=4_000_000,
            ),
            max_pixels=MOST_PIXELS,
        )
        models = ModelPool(ModelHost(source), other)
        teaching = StoredTeaching(storage)
        book, studio = JobBook(storage), LabelStudio(url=STUDIO, token="t")
        runner = EndsAtOnce(book)
        predictor = Predictor(
            models,
            pictures,
            limits(settings),
            keeping=Keeping(storage, label_studio_url=STUDIO),
            teaching=teaching,
        )
        self.services = Services(
            predictor=predictor,
            playground=Playground(predictor, most_bytes=4_000_000),
            storage=storage,
            jobs=JobDesk(
                jobs=book, runner=runner, kinds={**kinds(studio), **learning_kinds(studio)}
            ),
            intake=Intake(storage, book, studio, wake=runner.wake, look=0.02),
            teaching=teaching,
        )
        self.client = create_app(self.services).test_client()
        self.client.set_cookie(COOKIE, UI_TOKEN, domain="127.0.0.1")
        self.stumbles = Stumbles()
        self._ended: list[str] = []
        self._good: bytes | None = None

    def thread_ended(self, args: threading.ExceptHookArgs) -> None:
        """A thread ended with an error."""
        self._ended.append(f"{args.thread and args.thread.name}: {args.exc_value!r}")

    def run(self, case: Case) -> str:
        """What came of a case: a status, `read`, or the name of the error. Raises Broken."""
        how = {
            "config": self._config,
            "code": self._code,
            "region": self._region,
            "picture": self._picture,
        }.get(case.kind, self._request)
        said = how(case)
        self._check(case)
        return said

    def still_well(self) -> None:
        """A plain request is answered as ever, and no thread has ended. Raises Broken."""
        playground = self.services.playground
        if playground is None or playground.keep_file(KEPT, "a.png").id != kept_id():
            raise Broken(None, "the page does not keep its picture")
        body = {
            "tasks": [{"id": 1, "data": {"image": "/data/local-files/?d=a.png"}}],
            "label_config": brush_config(["red", "green"]),
        }
        answer = self.client.post("/predict", json=body)
        self._good = self._good or answer.data
        if (
            answer.status_code != 200
            or answer.data != self._good
            or b"brushlabels" not in self._good
        ):
            raise Broken(None, f"a plain request got {answer.status}: {answer.data[:300]!r}")
        if threading.active_count() > MOST_THREADS:
            raise Broken(None, f"{threading.active_count()} threads")
        facts = self.services.facts()["learning"]
        if facts["trouble"]:
            raise Broken(None, f"events: {facts['trouble']}")
        self._check(None)
        gc.collect()

    def _check(self, case: Case | None) -> None:
        self._model.looks.clear()  # the double remembers all it saw
        self._model.readings.clear()
        if self._ended:
            raise Broken(case, f"a thread ended: {self._ended[0]}")
        if self.stumbles.found:
            raise Broken(case, f"an error nobody foresaw: {self.stumbles.found[0]}")

    # -- over HTTP --------------------------------------------------------------------

    def _request(self, case: Case) -> str:
        more: dict[str, Any] = {}
        if case.chunked:
            more["environ_overrides"] = {
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
            }
        answer = self.client.open(
            case.path,
            method=case.method,
            query_string=case.query,
            headers=case.headers,
            data=case.body,
            base_url=LOCAL,
            **more,
        )
        status, text = answer.status_code, answer.get_data().decode(errors="replace")
        if status >= 500:
            raise Broken(case, f"{answer.status}: {text[:500]}\n{self.stumbles.found[:1]}")
        if status >= 400 and case.method != "HEAD":
            self._sentence(case, answer.mimetype or "", text)
        if case.kind == "predict" and status == 200:
            self._results(case, text)
        if (
            case.kind == "setup"
            and status == 200
            and not isinstance(json.loads(text)["model_version"], str)
        ):
            raise Broken(case, f"no version: {text[:200]}")
        return str(status)

    def _sentence(self, case: Case, kind: str, text: str) -> None:
        if kind != "application/json":
            raise Broken(case, f"an error is {kind}: {text[:200]}")
        sentence = json.loads(text)["error"]
        one_line = isinstance(sentence, str) and sentence.strip() and "\n" not in sentence
        if not one_line or len(sentence) > LONGEST_SENTENCE or "Traceback" in sentence:
            raise Broken(case, f"no sentence: {sentence!r:.300}")

    def _results(self, case: Case, text: str) -> None:
        def no_number(word: str) -> Any:
            raise Broken(case, f"{word} in an answer")

        results = json.loads(text, parse_constant=no_number)["results"]
        if case.tasks is not None and len(results) != case.tasks:
            raise Broken(case, f"{case.tasks} tasks, {len(results)} results")
        for one in results:
            if "result" in one:
                fits = isinstance(one["result"], list) and one["model_version"]
            else:
                fits = isinstance(one["error"], str) and len(one["error"]) <= LONGEST_SENTENCE
            if not fits:
                raise Broken(case, f"an entry is {one!r:.200}")

    # -- decoders ---------------------------------------------------------------------

    def _config(self, case: Case) -> str:
        try:
            vocabularies(label_config.parse(case.given[0]), ())
        except ConfigError as error:
            if "\n" in str(error):
                raise Broken(case, f"two lines: {error}") from None
            return "refused"
        except Exception as error:
            raise Broken(case, f"{error!r:.300}") from error
        return "read"

    def _code(self, case: Case) -> str:
        code, size_hw = case.given
        try:
            found = rle.decode(code, size_hw=size_hw)
        except BadMask:
            return "refused"
        except Exception as error:
            raise Broken(case, f"{error!r:.300}") from error
        if found.shape != size_hw:
            raise Broken(case, f"{found.shape} instead of {size_hw}")
        return "read"

    def _region(self, case: Case) -> str:
        kind, region, size_hw = case.given
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise"):
                found = FORMATS[kind].decode(region, size_hw)
        except BadMask:
            return "refused"
        except Exception as error:
            raise Broken(case, f"{kind}: {error!r:.300}") from error
        if found.shape != size_hw or found.dtype != bool:
            raise Broken(case, f"{kind}: {found.dtype} {found.shape} instead of {size_hw}")
        return "read"

    def _picture(self, case: Case) -> str:
        data, page = case.given
        try:
            found = decode(data, max_pixels=MOST_PIXELS, page=page)
        except ImageError as error:
            return type(error).__name__
        except Exception as error:
            raise Broken(case, f"{error!r:.300}") from error
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
            raise Broken(case, f"{found.dtype} {found.shape}")
        if not 0 < found.shape[0] * found.shape[1] <= MOST_PIXELS:
            raise Broken(case, f"{found.shape} is more than allowed")
        return "read"
