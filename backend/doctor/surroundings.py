"""The settings this machine gives the service."""

from collections.abc import Iterator

from cliper_model.errors import CliperError

from ..errors import BadSetting
from ..settings import Settings
from .case import Case
from .findings import Finding, fail, ok

PAGE = "docs/reference/settings.md lists every variable"


def settings(case: Case) -> Iterator[Finding]:
    """Read as `cliper serve` reads them."""
    try:
        read = Settings.from_environ(case.question.environ)
    except BadSetting as error:
        yield fail(str(error), f"correct {error.variable}; {PAGE}", variable=error.variable)
        return
    from ..wiring import check_choice

    try:
        check_choice(read)
    except CliperError as error:
        yield fail(str(error), f"correct PROFILE, METHOD, FEATURES, STUDENT or VAE; {PAGE}")
        return
    case.settings = read
    chosen = {
        "PROFILE": read.profile,
        "METHOD": read.method,
        "FEATURES": read.features,
        "VAE": read.vae,
        "DEVICE": read.device,
        "MODEL_DIR": str(read.model_dir) if read.model_dir else None,
        **{name.upper(): value for name, value in read.options.items()},
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    said = ", ".join(f"{name} {value}" for name, value in given.items())
    yield ok(f"readable; {said or 'the model is chosen by the hardware'}", **given)
