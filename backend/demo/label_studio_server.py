"""A real Label Studio of our own: installed apart, SQLite, loopback only, silent to the internet.

The first start migrates a database (40 to 70 s); the migrated folder is kept as a template, so
every later start copies it and takes a few seconds.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import LabelStudioMissing
from .processes import LOOPBACK, Server, free_port, plain_environment

STRICT_PREDICTIONS = "fflag_feat_utc_210_prediction_validation_15082025"


@dataclass(frozen=True, kw_only=True)
class Account:
    """The administrator of a Label Studio that only this machine can reach."""

    email: str = "demo@example.com"
    password: str = "storybook-demo"
    token: str = "5704b00c5704b00c5704b00c5704b00c5704b00c"  # legacy token, 40 hex digits


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where a Label Studio program lies, and its version."""

    program: Path
    version: str

    @classmethod
    def find(cls, given: Path | None = None) -> Self:
        """The program given, else in `.venv-label-studio` here, beside us, or on the PATH.

        Raises LabelStudioMissing.
        """
        on_path = shutil.which("label-studio")
        places = (
            [given]
            if given
            else [
                Path(".venv-label-studio/bin/label-studio"),
                Path(sys.executable).parent / "label-studio",
                *([Path(on_path)] if on_path else []),
            ]
        )
        for place in places:
            if place.is_file():
                program = place.absolute()
                return cls(program=program, version=_version(program))
        raise LabelStudioMissing([*places, "the PATH"] if given is None else places)


class LabelStudioServer(Server):
    """A running Label Studio with its own data folder, on a free port of the loopback interface.

    `strict` turns on Label Studio's own validation of predictions; `local_files` is a folder
    it may serve pictures from; `templates` is where migrated data folders are kept; `also` are
    more of its settings by their environment names, in place of ours where they meet.
    """

    def __init__(
        self,
        installation: Installation,
        data: Path,
        *,
        templates: Path,
        account: Account | None = None,
        port: int | None = None,
        strict: bool = False,
        local_files: Path | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        self.installation, self.data, self.templates = installation, data.absolute(), templates
        self.account = account or Account()
        self.port = port or free_port()
        self.url = f"http://localhost:{self.port}"
        self.local_files = local_files.absolute() if local_files else None
        self.template_built = False
        settings = _settings(self.data, self.account)
        if strict:
            settings[STRICT_PREDICTIONS] = "true"
        if self.local_files:
            settings["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] = "true"
            settings["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(self.local_files)
        settings |= also or {}
        super().__init__(
            "Label Studio",
            _command(installation, self.port),
            environment=settings,
            health=f"http://{LOOPBACK}:{self.port}/health",
            log=self.data.parent / f"{self.data.name}.log",
            folder=self.data.parent,
        )

    def start(self) -> Self:
        """Start from a copy of the migrated template, made first where there is none."""
        if not self.data.exists():
            template = self._template()
            self.data.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(template, self.data)
        return super().start()

    def _template(self) -> Path:
        account = repr((self.account.email, self.account.password, self.account.token))
        key = hashlib.sha256(account.encode()).hexdigest()[:8]
        ready = self.templates.absolute() / f"label-studio-{self.installation.version}-{key}"
        if ready.exists():
            return ready
        self.templates.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.templates, prefix="making-") as scratch:
            fresh = Path(scratch).absolute() / "data"
            fresh.mkdir()
            port = free_port()
            with Server(
                "Label Studio (first start)",
                _command(self.installation, port),
                environment=_settings(fresh, self.account),
                health=f"http://{LOOPBACK}:{port}/health",
                log=fresh.parent / "first-start.log",
                folder=fresh.parent,
                patience=600.0,
            ):
                pass
            try:
                fresh.rename(ready)
            except OSError:  # somebody else made the same template meanwhile
                if not ready.exists():
                    raise
        self.template_built = True
        return ready


def _command(installation: Installation, port: int) -> list[str | Path]:
    return [
        installation.program, "start", "--no-browser", "--internal-host", LOOPBACK,
        "--port", str(port),
    ]  # fmt: skip


def _settings(data: Path, account: Account) -> dict[str, str]:
    """The environment of a Label Studio that may call a backend on this machine, nobody else."""
    settings: Mapping[str, str] = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": account.email,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Since 1.23 both are needed before a backend on a private address may be connected.
        "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
        # A busy machine must not look like a broken backend: the defaults are 1 to 3 s.
        "ML_CONNECTION_TIMEOUT": "10",
        "ML_TIMEOUT_HEALTH": "10",
        "ML_TIMEOUT_SETUP": "10",
        # No telemetry, no update check, no error reports, no remote feature flags.
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "FEATURE_FLAGS_OFFLINE": "true",
    }
    return {**plain_environment(), **settings}


def _version(program: Path) -> str:
    """Read from the installed metadata: asking the program itself takes seconds."""
    for library in program.resolve().parent.parent.glob("lib/python*/site-packages"):
        for metadata in library.glob("label_studio-*.dist-info"):
            return metadata.name.removesuffix(".dist-info").removeprefix("label_studio-")
    return "unknown"
