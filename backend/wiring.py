"""Settings -> Services: the one place that picks concrete classes."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cliper_model import profiles
from cliper_model.devices import best_device, cards
from cliper_model.segmenter import Identity, Label, Segmenter

from .dataset.fetching import Bounds, DatasetFetching
from .dataset.painter import Asked, Painter, views_plan
from .dataset.places import Place
from .images.fetch import ImageFetcher, Reach
from .images.guarded import GuardedHttp
from .images.label_studio import LabelStudioFiles
from .jobs.base import Handle, Runner, Stopped, Work, Works
from .jobs.book import JobBook
from .jobs.desk import JobDesk, JobKind
from .jobs.embedded import EmbeddedRunner
from .jobs.running import sentence
from .jobs.several import SeveralRunners
from .keeping import Keeping
from .learning.apart import FitApart
from .learning.examiner import PredictorExaminer
from .learning.intake import Intake
from .learning.making import AnnotationReading
from .learning.spool import Spool
from .learning.teaching import StoredTeaching
from .learning.works import LEARN, LearningWorks, Watch, opening
from .learning.works import kinds as learning_kinds
from .looking import answers
from .metrics.meters import Meters
from .model_host import ModelHost, ModelSource, Progress
from .model_pool import ModelChoice, ModelPool
from .plan import choice_of, taught, version_of
from .playground.playground import Playground
from .predictor import Limits, Predictor
from .prelabel.unfinished import Unfinished
from .prelabel.works import LabelStudio, ProjectWorks, kinds
from .projects.overview import Projects, in_a_hurry
from .projects.reports import ReportWorks
from .projects.reports import kinds as report_kinds
from .row_shelf import KeptRows
from .services import Services
from .settings import MOST_DEVICES, Settings
from .storage.address import scheme_of
from .storage.base import Json, Scope, Storage
from .storage.memory import MemoryStorage
from .storage.open import open_storage

if TYPE_CHECKING:
    from cliper_model.tiled import TilePlan

__all__ = [
    "Services",
    "build",
    "check_choice",
    "chosen_by",
    "counted",
    "dataset_fetching",
    "devices",
    "job_kinds",
    "label_studio",
    "learning",
    "limits",
    "missing",
    "model_pool",
    "painter",
    "pictures",
    "playground",
    "real_model",
    "runner",
    "spool",
    "store",
    "tile_plan",
    "version",
    "version_ahead",
]

MEGA = 1_000_000
REDIS_SCHEMES = ("redis", "rediss", "unix")
DEFAULT_METHOD = "cliper"  # of every profile
DISTRIBUTION = "cliper-label-studio"


def build(
    settings: Settings,
    *,
    source: ModelSource | Callable[[str], ModelSource] | None = None,
    taught_by: Storage | None = None,
    answers: Callable[[str | None], bool] = answers,
) -> Services:
    """The object graph of one process; nothing runs until `start()`.

    `source` replaces all real models, of every device or by its name. `taught_by`: the store that
    knows what was learnt, where it is not the settings' own; whoever gives it closes it.
    `answers`: whether a device still computes. Raises UnknownProfile for a profile not shipped, and
    StorageError for a store that cannot be used.
    """
    check_choice(settings)
    meters = Meters()
    storage = store(settings)
    keeping = Keeping(storage, label_studio_url=settings.label_studio_url)
    rows = KeptRows(keeping, meters=meters)
    models = _pools(settings, source, rows)
    studio = label_studio(settings)
    # other services on the store may serve other Label Studios
    book = JobBook(storage, origin=Scope.of(settings.label_studio_url).origin)
    unfinished = Unfinished(book, studio) if studio and settings.auto_prelabel else None
    teaching = StoredTeaching(taught_by or storage) if studio else None
    fetcher = pictures(settings)
    predictor = Predictor(
        models,
        fetcher,
        limits(settings),
        defaults=settings.options,
        keeping=keeping,
        unfinished=unfinished,
        teaching=teaching,
        meters=meters,
        answers=answers,
    )
    jobs = intake = projects = None
    if studio is not None:
        reports = ReportWorks(studio, fetcher, storage, timeout=settings.fetch_timeout)
        main = counted(
            {**ProjectWorks(studio, predictor, storage).works(), **reports.works()}, meters
        )
        lessons = learning(settings, studio, predictor, storage, meters=meters)
        learn = counted(lessons.works(), meters)
        runners = SeveralRunners(
            runner(settings, book, main), {LEARN: runner(settings, book, learn, name=LEARN)}
        )
        jobs = JobDesk(
            jobs=book,
            runner=runners,
            kinds=job_kinds(studio),
        )
        projects = Projects(studio, jobs, storage)
        intake = Intake(storage, book, studio, wake=runners.wake, spool=spool(settings, storage))
    return Services(
        predictor=predictor,
        basic_auth=settings.basic_auth,
        api_token=settings.api_token,
        webhook_secret=settings.webhook_secret,
        storage=storage,
        jobs=jobs,
        projects=projects,
        unfinished=unfinished,
        intake=intake,
        teaching=teaching,
        missing=missing(settings),
        playground=playground(settings, predictor, studio),
        rows=rows,
        meters=meters,
        open_metrics=settings.metrics_open,
        version=version(),
        most_request_bytes=int(settings.max_request_mb * MEGA),
    )


def _pools(
    settings: Settings,
    source: ModelSource | Callable[[str], ModelSource] | None,
    rows: KeptRows,
) -> list[ModelPool]:
    """The models of every device: the service's own, and those that label configs name."""
    turns: dict[ModelChoice, threading.Lock] = {}  # of models that several devices load

    def host(chosen: Settings, choice: ModelChoice) -> ModelHost:
        if source is None:
            made = real_model(chosen, own=choice == ModelChoice(), shelf=rows)
        else:
            made = source if isinstance(source, ModelSource) else source(str(chosen.device))
        return ModelHost(made, turn=turns.setdefault(choice, threading.Lock()))

    def other(here: Settings, choice: ModelChoice) -> ModelHost:
        return host(chosen_by(choice, here), choice)

    def name(own: ModelHost) -> ModelChoice:
        profile = settings.profile or own.status.profile
        return ModelChoice(method=settings.method or DEFAULT_METHOD, profile=profile)

    def pool(device: str | None) -> ModelPool:
        here = replace(settings, device=device)
        own = host(here, ModelChoice())
        return ModelPool(
            own,
            lambda choice: other(here, choice),
            most=settings.max_models,
            name=lambda: name(own),
            device=device,
        )

    found = devices(settings) if source is None else settings.devices
    return [pool(device) for device in found or (None,)]


def devices(settings: Settings) -> tuple[str, ...]:
    """Those that are named, else every graphics card, else the best there is."""
    return settings.devices or cards()[:MOST_DEVICES] or (best_device(),)


def model_pool(
    settings: Settings, *, source: ModelSource | None = None, shelf: KeptRows
) -> ModelPool:
    """The models of a process that works on one device: the first of the settings'."""
    first = settings.first_device or (devices(settings)[0] if source is None else None)
    return _pools(replace(settings, device=first), source, shelf)[0]


def chosen_by(choice: ModelChoice, settings: Settings) -> Settings:
    """The settings of a model that a label config names. Raises as `check_choice`."""
    chosen = replace(
        settings,
        method=choice.method or settings.method,
        profile=choice.profile or settings.profile,
        features=settings.features if choice.method is None else None,
        student=settings.student if choice.method is None else None,
    )
    check_choice(replace(chosen, vae=None))  # it is for those alone that have a use for it
    return chosen


def painter(settings: Settings, asked: Asked, *, source: ModelSource | None = None) -> Painter:
    """The models of a data set's run in memory. Raises ConfigError, ModelFailed."""
    shelf = KeptRows(Keeping(MemoryStorage(max_blob_bytes=0)))
    return Painter(
        model_pool(settings, source=source, shelf=shelf),
        asked,
        defaults=settings.options,
        brush_megapixels=settings.max_brush_megapixels,
        batch=settings.batch,
    )


def dataset_fetching(settings: Settings, place: Place | None = None) -> DatasetFetching:
    """Where the pictures of a data set at `place` come from."""
    return DatasetFetching(
        pictures(settings),
        Bounds(
            timeout=settings.fetch_timeout,
            max_bytes=int(settings.max_image_mb * MEGA),
            brush_megapixels=settings.max_brush_megapixels,
        ),
        place,
    )


def version_ahead(settings: Settings, asked: Asked) -> str:
    """The version of a data set's predictions, without loading a model; fetches weights that are
    missing. Raises ConfigError, WeightsError."""
    settings = replace(settings, device=settings.first_device)
    own = real_model(settings)
    profile = own.profile()
    own.fetch(profile, lambda share: None)
    plan = views_plan(asked, settings.options)
    identities = {}
    for choice in map(choice_of, plan.wanted):
        is_own = choice.method in (None, settings.method or DEFAULT_METHOD) and (
            choice.profile in (None, profile)
        )
        if is_own:
            identities[choice] = own.identify(profile)
        else:
            other = real_model(chosen_by(choice, settings), own=False)
            identities[choice] = other.identify(other.profile())
    return version_of(identities, taught(plan.wanted, identities, asked.learned))


def version() -> str:
    """Of this program, as it is installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # it runs from a folder
        return "unknown"


def counted(works: Works, meters: Meters) -> Works:
    """The same works, whose ends are counted."""

    def of(kind: str, work: Work) -> Work:
        def done(handle: Handle) -> Json:
            end = "failed"
            try:
                result = work(handle)
                end = "done"
            except Stopped:
                end = "stopped"
                raise
            finally:
                meters.job_ended(kind, end)
            return result

        return done

    return {kind: of(kind, work) for kind, work in works.items()}


def job_kinds(studio: LabelStudio) -> Mapping[str, JobKind]:
    """All that may be asked for over HTTP."""
    return {**kinds(studio), **learning_kinds(studio), **report_kinds(studio)}


def playground(
    settings: Settings, predictor: Predictor, studio: LabelStudio | None
) -> Playground | None:
    """What the pages show; None where there are none."""
    if not settings.ui:
        return None
    return Playground(
        predictor,
        most_bytes=int(settings.max_image_mb * MEGA),
        opening=None if studio is None else lambda: in_a_hurry(studio).open(time.sleep),
        is_here=lambda name: _is_here(name, settings),
    )


def _is_here(name: str, settings: Settings) -> bool:
    """Whether the weights of a profile are on this machine; looks at names of files only."""
    from cliper_model.backbones import weights
    from cliper_model.errors import WeightsError

    try:
        weights.locate(name, settings.model_dir)
    except WeightsError:
        return False
    return True


def missing(settings: Settings) -> tuple[str, ...]:
    """Settings without which nothing is done for whole projects, and nothing is learnt."""
    given = {
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key,
    }
    return tuple(name for name, value in given.items() if value is None)


def learning(
    settings: Settings,
    studio: LabelStudio,
    predictor: Predictor,
    storage: Storage,
    *,
    watch: Watch | None = None,
    meters: Meters | None = None,
) -> LearningWorks:
    """Who learns from corrections; `watch` hears of every step."""
    return LearningWorks(
        opening(studio),
        PredictorExaminer(predictor, AnnotationReading()),
        storage,
        learn=FitApart(),
        most_whole=settings.learning_most_tasks,
        watch=watch,
        meters=meters,
    )


def store(settings: Settings) -> Storage:
    """What outlives the process. Raises StorageError."""
    return open_storage(settings.storage, max_blob_bytes=int(settings.storage_blobs_mb * MEGA))


def spool(settings: Settings, storage: Storage) -> Spool | None:
    """Where events wait for the store; services of another Label Studio, or with another store,
    may share the folder."""
    if settings.spool_dir is None:
        return None
    whose = json.dumps([Scope.of(settings.label_studio_url).origin, storage.name])
    return Spool(settings.spool_dir / hashlib.sha256(whose.encode()).hexdigest()[:16])


def label_studio(settings: Settings) -> LabelStudio | None:
    """Whose projects are pre-labelled whole; None where address or token is not known."""
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        return None
    return LabelStudio(
        url=settings.label_studio_url,
        token=settings.label_studio_api_key,
        verify=settings.verify_ssl,
    )


def runner(settings: Settings, book: JobBook, works: Works, *, name: str | None = None) -> Runner:
    """With Redis a queue that several processes share, else a thread of this process. `name`: of
    the queue, where there are several."""
    if scheme_of(settings.storage) in REDIS_SCHEMES:
        from .jobs.dramatiq_runner import NAMESPACE, DramatiqRunner

        whose = hashlib.sha256((book.origin or "").encode()).hexdigest()[:16]
        return DramatiqRunner(
            book,
            works,
            url=settings.storage,
            namespace=f"{NAMESPACE}:{whose}" + (f":{name}" if name else ""),
            explain=_explained,
        )
    return EmbeddedRunner(book, works, explain=_explained)


def _explained(error: BaseException) -> str:
    """Why a job failed; the model's own sentences are for people too."""
    from cliper_model.errors import CliperError

    return str(error) if isinstance(error, CliperError) else sentence(error)


def limits(settings: Settings) -> Limits:
    """What the predictor may use up."""
    return Limits(
        budget=settings.predict_budget,
        fetch_timeout=settings.fetch_timeout,
        waiting=settings.waiting_predictions,
        tasks=settings.max_tasks,
        result_bytes=int(settings.result_cache_mb * MEGA),
        state_bytes=int(settings.state_cache_mb * MEGA),
        brush_megapixels=settings.max_brush_megapixels,
        batch=settings.batch,
    )


def check_choice(settings: Settings) -> None:
    """Raises UnknownProfile, UnknownMethod, UnknownSource, UnneededSource, UnneededStudent or
    UnneededVae at the start; whether a profile that the hardware suggests has a use for the VAE is
    known when it is loaded."""
    chosen = profiles.get(
        settings.profile or "fast", method=settings.method, features=settings.features
    )
    profiles.check_student(chosen.method, settings.student)
    if settings.vae is not None and settings.profile is not None:
        profiles.with_vae(chosen, settings.vae)


def pictures(settings: Settings) -> ImageFetcher:
    """Where pictures come from."""
    max_bytes = int(settings.max_image_mb * MEGA)
    url = settings.label_studio_url
    http = GuardedHttp(
        trusted=url,
        max_bytes=max_bytes,
        verify_tls=settings.verify_ssl,
        private=settings.private_hosts,
    )
    studio = LabelStudioFiles(url, settings.label_studio_api_key, http) if url else None
    reach = Reach(
        http=http,
        label_studio=studio,
        document_root=settings.local_files_document_root,
        max_bytes=max_bytes,
    )
    return ImageFetcher(reach=reach, max_pixels=int(settings.max_image_megapixels * MEGA))


def real_model(
    settings: Settings, *, own: bool = True, shelf: KeptRows | None = None
) -> ModelSource:
    """The method on the profile the settings name, or the one the hardware suggests.

    `own`: the service's own, and not one that a label config names. Of those, weights that are not
    here are an error, as a label config must not make the service fetch gigabytes; and the VAE is
    for those that run Stable Diffusion. `shelf` remembers text rows.
    """
    looks = {"method": settings.method, "features": settings.features}

    def choice(name: str) -> dict[str, Any]:
        has_use = own or profiles.runs_stable_diffusion(profiles.get(name, **looks))
        return {**looks, "vae": settings.vae if has_use else None}

    tiles = settings.tile_above_megapixels

    def profile() -> str:
        if settings.profile is not None:
            return settings.profile
        from cliper_model.loading import best_profile

        return best_profile(settings.first_device)

    def fetch(name: str, progress: Progress) -> None:
        if not own:
            return
        from cliper_model.backbones import weights

        weights.fetch(
            profiles.get(name, **choice(name)),
            settings.model_dir,
            lambda told: progress(told.share),
        )

    def identify(name: str) -> Identity:
        import cliper_model

        return _tiled_identity(
            cliper_model.identity(
                name, settings.model_dir, student=settings.student, **choice(name)
            ),
            above=tiles,
        )

    def foresee(name: str) -> Identity | None:
        from cliper_model import loading

        known = loading.identity_after_fetch(
            name, settings.model_dir, student=settings.student, **choice(name)
        )
        return None if known is None else _tiled_identity(known, above=tiles)

    def load(name: str, progress: Progress) -> Segmenter:
        import cliper_model

        method = cliper_model.load(
            name,
            device=settings.first_device,
            dtype=settings.dtype,
            weights_dir=settings.model_dir,
            progress=progress,
            shelf=shelf,
            student=settings.student,
            cuda_graphs=settings.cuda_graphs,
            winograd=settings.winograd,
            **choice(name),
        )
        return _tiled(method, above=tiles)

    return ModelSource(
        profile=profile,
        fetch=fetch,
        identify=identify,
        foresee=foresee,
        load=load,
        describe=lambda segmenter: _describe(segmenter, settings),
        check_words=_any_word if settings.student is not None else profiles.check_words,
    )


def tile_plan(above: float) -> "TilePlan":
    """How large pictures are cut up: those of more than `above` megapixels."""
    from cliper_model.tiled import TilePlan

    standard = TilePlan()
    return replace(
        standard,
        above_megapixels=above,
        most_pixels=max(standard.most_pixels, int(above * MEGA)),
    )


def _tiled(method: Segmenter, *, above: float) -> Segmenter:
    from cliper_model.tiled import Tiled

    return Tiled(method, tile_plan(above)) if above else method


def _tiled_identity(identity: Identity, *, above: float) -> Identity:
    return tile_plan(above).identity_of(identity) if above else identity


def _any_word(profile: str, labels: Sequence[Label]) -> None:
    """A student says itself which words it learned, when they are read."""


def _describe(segmenter: Segmenter, settings: Settings) -> Mapping[str, Any]:
    """Where and how the model runs, as far as it tells."""
    import torch

    backbone = getattr(segmenter, "clip", None)
    diffusion = getattr(segmenter, "diffusion", None)
    source = getattr(segmenter, "features", None)
    return {
        "method": segmenter.identity.method,
        "features": source.name if source is not None else None,
        "vae": _vae_of(segmenter, settings),
        "device": str(backbone.device) if backbone else None,
        "large_pictures": _large_pictures(segmenter),
        "dtype": backbone.number_format if backbone else None,
        "dtype_because": _why_this_precision(backbone, segmenter, settings) if backbone else None,
        "threads": torch.get_num_threads(),
        "convolutions": getattr(diffusion, "convolutions", None),
        "cuda_graphs": _uses_cuda_graphs(segmenter),
        "fallbacks": [
            *(str(note) for note in getattr(diffusion, "differences", ())),
            *_slower_on_a_card(segmenter, backbone),
        ],
    }


def _uses_cuda_graphs(segmenter: Segmenter) -> bool | None:
    """Whether a card starts scores that are asked again at once; None where there are none that it
    could: on a processor, and without refinement by a diffusion model."""
    from cliper_model.stages import cards

    diffusion = getattr(segmenter, "diffusion", None)
    recordings = getattr(segmenter, "recordings", None)
    if diffusion is None or recordings is None or diffusion.device.type != "cuda":
        return None
    able = cards.found(diffusion.device).missing is None
    return bool(able and recordings.wanted and recordings.missing is None)


def _slower_on_a_card(segmenter: Segmenter, backbone: Any) -> tuple[str, ...]:
    """Why a card computes without kernels of our own, or starts each by itself, where it does."""
    from cliper_model.stages import cards

    if backbone is None:
        return ()
    recordings = getattr(segmenter, "recordings", None)
    found = (cards.found(backbone.device).missing, getattr(recordings, "missing", None))
    return tuple(missing for missing in found if missing)


def _why_this_precision(backbone: Any, segmenter: Segmenter, settings: Settings) -> str:
    from cliper_model.loading import best_precision

    if settings.dtype is not None:
        return "DTYPE says so"
    chosen = _profile_of(segmenter, settings)
    return best_precision(str(backbone.device), chosen).because


def _vae_of(segmenter: Segmenter, settings: Settings) -> str | None:
    """Which encoder is in front of a diffusion model; None where none runs."""
    if _profile_of(segmenter, settings).diffusion is None:
        return None
    return str(segmenter.identity.settings.get("vae", "own"))


def _profile_of(segmenter: Segmenter, settings: Settings) -> profiles.Profile:
    known = segmenter.identity
    return profiles.get(known.profile, method=known.method, features=settings.features)


def _large_pictures(segmenter: Segmenter) -> str:
    """Whether large pictures are seen in tiles, and why not."""
    plan = getattr(segmenter, "plan", None)
    if plan is None:
        return "at once"
    because = getattr(segmenter, "whole_because", None)
    return f"at once: {because}" if because else f"in tiles above {plan.above_megapixels:g} MP"
