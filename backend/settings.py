"""The environment, read once, as one frozen value. Nobody else reads it.

Names follow the ecosystem (protocol notes §3); a blank value counts as unset.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .errors import BadSetting, StorageError
from .labelstudio.options import WIDE
from .labelstudio.tasks import MOST_TASKS
from .storage.address import redacted, scheme_of, sqlite_path

Value = TypeVar("Value")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")
DTYPES = ("float32", "float16", "bfloat16", "int8")
VAES = ("taesd",)
SECRET = re.compile(r"[A-Za-z0-9_-]{16,200}")
DEVICE = re.compile(r"(cpu|cuda)(:\d+)?|mps")
MOST_DEVICES = 16  # of one host
OWN_VARIABLES = ("model_method", "model_profile")  # METHOD and PROFILE, for the whole service
SPARE_THREADS = 2  # stay free of predictions, so that /health and /setup always answer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an administrator can choose. Raises BadSetting at birth.

    `profile`, `device` and `dtype` None mean: choose by the hardware found. `device` may name
    several, separated by commas.
    """

    host: str = "0.0.0.0"
    port: int = 9090  # 0: any free port
    threads: int = 8
    log_level: str = "INFO"
    log_format: str = "text"
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)  # user, password
    api_token: str | None = field(default=None, repr=False)  # for our own endpoints, as bearer
    webhook_secret: str | None = field(default=None, repr=False)  # part of the address of events
    metrics_open: bool = False  # /metrics asks for no password
    ui: bool = True  # pages under /ui

    label_studio_url: str | None = None
    # legacy token or personal access token
    label_studio_api_key: str | None = field(default=None, repr=False)
    verify_ssl: bool = True
    local_files_document_root: Path | None = None
    private_hosts: tuple[tuple[str, int | None], ...] = ()  # host, port or any

    profile: str | None = None
    method: str | None = None  # such as "proxyclip"; None: the profile's own, CLIPer
    features: str | None = None  # feature source, NAME or NAME:FILE
    student: Path | None = None  # checkpoint of a trained student, for "maskclip+"
    vae: str | None = None  # encoder in place of Stable Diffusion's own
    device: str | None = None
    dtype: str | None = None
    cuda_graphs: bool = True  # what a card is asked again is started at once
    winograd: bool = True  # convolutions with half of the multiplications, where that is faster
    model_dir: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # `model_*` for all label configs
    batch: int | None = None  # pictures looked at together; None: by the device
    max_models: int = 1  # others in memory beside the service's own, for configs that name one

    predict_budget: float = 80.0  # seconds; Label Studio hangs up at 100
    fetch_timeout: float = 20.0  # seconds per picture
    max_request_mb: float = 512.0  # megabytes of a request: tasks come with all annotations
    max_tasks: int = 10_000  # of one request; the budget is spent before at any speed
    max_image_mb: float = 100.0  # megabytes per picture, as fetched
    max_image_megapixels: float = 120.0
    tile_above_megapixels: float = 16.0  # larger pictures are seen in tiles; 0: none are
    max_brush_megapixels: float = 25.0  # the editor builds 4 bytes per pixel and brush region
    result_cache_mb: float = 64.0  # megabytes of finished results kept in memory
    state_cache_mb: float = 256.0  # megabytes of looks at pictures kept, for clicks and new words

    learning_most_tasks: int = 500  # whose evidence is kept whole: 64 KiB each, 43 MB as stored
    auto_prelabel: bool = False  # a job finishes what a request had no time for
    # address of the store; the environment's default is a file
    storage: str = field(default="memory:", repr=False)
    spool_dir: Path | None = None  # events on their way to the store; None: in memory only
    storage_blobs_mb: float = 512.0  # megabytes of what the store may forget and make again

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the known variables. Raises BadSetting naming the variable."""
        read = _Reader(environ)
        return cls(
            host=read.text("HOST") or cls.host,
            port=read.number("PORT", cls.port, lowest=0, highest=65535, kind=int),
            threads=read.number("THREADS", cls.threads, lowest=3, highest=256, kind=int),
            log_level=read.choice("LOG_LEVEL", LOG_LEVELS) or cls.log_level,
            log_format=read.choice("LOG_FORMAT", LOG_FORMATS) or cls.log_format,
            basic_auth=read.basic_auth(),
            api_token=read.secret("API_TOKEN"),
            webhook_secret=read.secret("WEBHOOK_SECRET"),
            metrics_open=read.switch("METRICS_OPEN", cls.metrics_open),
            ui=read.switch("UI", cls.ui),
            label_studio_url=read.url("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"),
            label_studio_api_key=read.text("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"),
            verify_ssl=read.switch("VERIFY_SSL", cls.verify_ssl),
            local_files_document_root=read.folder("LOCAL_FILES_DOCUMENT_ROOT"),
            private_hosts=read.hosts("PRIVATE_HOSTS"),
            profile=read.text("PROFILE"),
            method=read.text("METHOD"),
            features=read.text("FEATURES"),
            student=read.path("STUDENT"),
            vae=read.choice("VAE", VAES),
            device=read.devices("DEVICE"),
            dtype=read.choice("DTYPE", DTYPES),
            cuda_graphs=read.switch("CUDA_GRAPHS", cls.cuda_graphs),
            winograd=read.switch("WINOGRAD", cls.winograd),
            model_dir=read.path("MODEL_DIR"),
            options=read.options(),
            batch=read.number("BATCH", cls.batch, lowest=1, highest=64, kind=int),
            max_models=read.number("MAX_MODELS", cls.max_models, lowest=0, highest=16, kind=int),
            predict_budget=read.number(
                "PREDICT_BUDGET", cls.predict_budget, lowest=1, highest=3600
            ),
            fetch_timeout=read.number("FETCH_TIMEOUT", cls.fetch_timeout, lowest=1, highest=600),
            max_request_mb=read.number(
                "MAX_REQUEST_MB", cls.max_request_mb, lowest=0.01, highest=4000
            ),
            max_tasks=read.number(
                "MAX_TASKS", cls.max_tasks, lowest=1, highest=MOST_TASKS, kind=int
            ),
            max_image_mb=read.number("MAX_IMAGE_MB", cls.max_image_mb, lowest=0.001, highest=2000),
            max_image_megapixels=read.number(
                "MAX_IMAGE_MEGAPIXELS", cls.max_image_megapixels, lowest=0.001, highest=170
            ),
            tile_above_megapixels=read.number(
                "TILE_ABOVE_MEGAPIXELS", cls.tile_above_megapixels, lowest=0, highest=170
            ),
            max_brush_megapixels=read.number(
                "MAX_BRUSH_MEGAPIXELS", cls.max_brush_megapixels, lowest=0.001, highest=170
            ),
            result_cache_mb=read.number(
                "RESULT_CACHE_MB", cls.result_cache_mb, lowest=0, highest=100_000
            ),
            state_cache_mb=read.number(
                "STATE_CACHE_MB", cls.state_cache_mb, lowest=0, highest=100_000
            ),
            learning_most_tasks=read.number(
                "LEARNING_MOST_TASKS", cls.learning_most_tasks, lowest=5, highest=100_000, kind=int
            ),
            auto_prelabel=read.auto_prelabel("AUTO_PRELABEL", cls.auto_prelabel),
            storage=read.storage("STORAGE"),
            spool_dir=read.spool("SPOOL_DIR"),
            storage_blobs_mb=read.number(
                "STORAGE_BLOBS_MB", cls.storage_blobs_mb, lowest=0, highest=1_000_000
            ),
        )

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that are named; empty where the hardware says."""
        return tuple(self.device.split(",")) if self.device else ()

    @property
    def first_device(self) -> str | None:
        """For what runs on one device alone."""
        return next(iter(self.devices), None)

    @property
    def waiting_predictions(self) -> int:
        """How many `/predict` requests may wait at the same time."""
        return self.threads - SPARE_THREADS


def _numbered(device: str) -> str:
    """`cuda` is the first card."""
    return device if ":" in device else f"{device}:0"


class _Reader:
    """Typed access to the environment; the first name set wins, older names come later."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _first(self, *names: str) -> tuple[str, str | None]:
        for name in names:
            value = self._environ.get(name, "").strip()
            if value:
                return name, value
        return names[0], None

    def text(self, *names: str) -> str | None:
        return self._first(*names)[1]

    def _parsed(self, parse: Callable[[str], Value], problem: str, *names: str) -> Value | None:
        name, value = self._first(*names)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError:
            raise BadSetting(name, f"{problem}, got {value!r}") from None

    def number(
        self,
        name: str,
        default: Value,
        *,
        lowest: float,
        highest: float,
        kind: Callable[[str], float] = float,
    ) -> Value:
        word = "a whole number" if kind is int else "a number"

        def parse(text: str) -> float:
            value = kind(text)
            if not lowest <= value <= highest:
                raise ValueError
            return value

        value = self._parsed(parse, f"must be {word} from {lowest:g} to {highest:g}", name)
        return default if value is None else value  # type: ignore[return-value]

    def options(self) -> Mapping[str, Any]:
        """The `model_*` options of label configs, by their names in upper case."""
        values: dict[str, Any] = {}
        for option in WIDE:
            if option.name in OWN_VARIABLES:
                continue
            parse, problem = option.read, f"must be {option.must}"
            value = self._parsed(parse, problem, *(name.upper() for name in option.names))
            if value is not None:
                values[option.name] = value
        return values

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        def parse(text: str) -> str:
            return next(word for word in allowed if word.lower() == text.lower())

        try:
            return self._parsed(parse, "", name)
        except StopIteration:
            given = self.text(name)
            raise BadSetting(name, f"must be one of {', '.join(allowed)}, got {given!r}") from None

    def devices(self, name: str) -> str | None:
        """One device or several, of one kind: others compute in other number formats, so that the
        same version would be other masks."""
        value = self.text(name)
        if value is None or value.lower() == "auto":
            return None
        found = [word.strip().lower() for word in value.split(",")]
        if not all(DEVICE.fullmatch(one) for one in found):
            raise BadSetting(
                name,
                "must be auto, cpu, cuda, cuda:<number> or mps, or several with commas, "
                f"got {value!r}",
            )
        if len(found) > MOST_DEVICES:
            raise BadSetting(name, f"must name {MOST_DEVICES} devices at most, got {len(found)}")
        if len({_numbered(one) for one in found}) < len(found):
            raise BadSetting(name, f"must name each device once, got {value!r}")
        if len({one.partition(":")[0] for one in found}) > 1:
            raise BadSetting(
                name,
                "must name devices of one kind, since others give other masks for the same "
                f"version, got {value!r}",
            )
        return ",".join(found)

    def switch(self, name: str, default: bool) -> bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        name, value = self._first(name)
        if value is None:
            return default
        if value.lower() not in words:
            raise BadSetting(name, f"must be true or false, got {value!r}")
        return words[value.lower()]

    def url(self, *names: str) -> str | None:
        name, value = self._first(*names)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username or parts.query:
            raise BadSetting(
                name,
                "must look like http://label-studio.example:8080, "
                f"got {redacted(value.partition('?')[0])!r}",
            )
        return value.rstrip("/")

    def hosts(self, name: str) -> tuple[tuple[str, int | None], ...]:
        words = [word.strip() for word in (self.text(name) or "").split(",")]
        return tuple(self._host(name, word) for word in words if word)

    def _host(self, name: str, word: str) -> tuple[str, int | None]:
        """`minio`, `minio:9000`, `[fd00::7]:9000` -> host in one spelling, port or any."""
        try:
            parts = urlsplit(f"//{word}")
            host = (parts.hostname or "").rstrip(".").encode("idna").decode()
            host = str(IPv6Address(host)) if ":" in host else host
            usable = parts.netloc == word and parts.username is None and parts.port != 0
            port = parts.port
        except ValueError:  # UnicodeError is one
            host, port, usable = "", None, False
        if not usable or word.endswith(":") or not re.fullmatch(r"[^\s*]+", host):
            raise BadSetting(
                name, f"must list hosts such as minio.lan:9000, got {redacted(word)!r}"
            )
        return host, port

    def auto_prelabel(self, name: str, default: bool) -> bool:
        wanted = self.switch(name, default)
        known = self.text("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST") and self.text(
            "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"
        )
        if wanted and not known:
            raise BadSetting(name, "needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY")
        return wanted

    def storage(self, name: str) -> str:
        """The address of a store; without one, a file in the user's folder for data."""
        address = self.text(name)
        if address is None:
            try:
                data = self.path("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
            except RuntimeError:  # nobody's home is known: a user without a name
                raise BadSetting(name, "must be set, as sqlite:PATH: there is no HOME") from None
            return f"sqlite:{data / 'cliper' / 'cliper.sqlite'}"
        try:
            scheme_of(address)
        except StorageError as error:
            raise BadSetting(name, f"is no address: {error}") from None
        return address

    def spool(self, name: str) -> Path | None:
        """Where events wait for the store: beside a file of SQLite, else in the user's folder for
        data. With a store that ends with the process, they may as well."""
        given, storage = self.path(name), self.storage("STORAGE")
        scheme = scheme_of(storage)
        if given is not None or scheme == "memory":
            return given
        if scheme == "sqlite":
            file = Path(sqlite_path(storage)).expanduser()
            return file.with_name(f"{file.name}.events")
        try:
            data = self.path("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
        except RuntimeError:
            raise BadSetting(name, "must be set, as a folder: there is no HOME") from None
        return data / "cliper" / "events"

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else Path(value).expanduser()

    def folder(self, name: str) -> Path | None:
        path = self.path(name)
        if path is not None and not path.is_dir():
            raise BadSetting(name, f"must be an existing folder, got {str(path)!r}")
        return path

    def secret(self, name: str) -> str | None:
        """Long enough that nobody guesses it, and of letters that pass any address or header."""
        value = self.text(name)
        if value is not None and not SECRET.fullmatch(value):
            raise BadSetting(
                name, "must be 16 to 200 letters, digits, - or _, as 'openssl rand -hex 24' gives"
            )
        return value

    def basic_auth(self) -> tuple[str, str] | None:
        user_name, user = self._first("BASIC_AUTH_USER", "ML_SERVER_BASIC_AUTH_USER")
        pass_name, password = self._first("BASIC_AUTH_PASS", "ML_SERVER_BASIC_AUTH_PASS")
        if user is None and password is None:
            return None
        if user is None:
            raise BadSetting(user_name, f"must be set too, since {pass_name} is")
        if password is None:
            raise BadSetting(pass_name, f"must be set too, since {user_name} is")
        if ":" in user:
            raise BadSetting(user_name, "must not hold a colon")
        return user, password
