"""The weights of the profile, and where they would run."""

from collections.abc import Iterator
from typing import Any

from cliper_model import profiles
from cliper_model.errors import CliperError, UnneededVae, WeightsMissing
from cliper_model.profiles import Profile

from ..settings import Settings
from .case import Case, known
from .findings import Finding, fail, ok, warn


def profile_of(case: Case, *, named: str | None = None) -> Profile:
    """The profile set here, else the running service's, else the hardware's; or the one `named` by
    a label config, for which VAE says nothing unless it runs Stable Diffusion.

    Raises UnneededVae.
    """
    chosen = known(case.settings)
    told = (case.health or {}).get("profile")
    name = named or chosen.profile or (told if told in profiles.names() else None)
    if name is None:
        from cliper_model.loading import best_profile

        name = best_profile(chosen.first_device)
    profile = profiles.get(name, method=chosen.method, features=chosen.features)
    if chosen.vae is None or (named and not profiles.runs_stable_diffusion(profile)):
        return profile
    return profiles.with_vae(profile, chosen.vae)


def weights(case: Case) -> Iterator[Finding]:
    """Every file is there and has about the size on record; checksums are for `verify`."""
    from cliper_model.backbones import weights as files

    chosen = known(case.settings)
    try:
        profile = profile_of(case)
    except UnneededVae as error:
        yield fail(str(error), "unset VAE, or set PROFILE")
        return
    missing = f"run 'cliper weights fetch {profile.choice}' ({profile.download_mib} MiB)"
    try:
        places = files.locate(profile, chosen.model_dir)
    except WeightsMissing as error:
        if _service_has_them(case, profile):
            yield ok(
                f"not on this machine, but {case.backend} has loaded profile {profile.name}",
                profile=profile.name,
            )
            return
        folder = chosen.model_dir or files.default_folder()
        yield fail(
            f"the weights of profile {profile.choice} are not in {folder}",
            missing,
            profile=profile.name,
            said=str(error),
        )
        return
    short = [
        verdict.file
        for verdict in files.glance(profile, chosen.model_dir)
        if verdict.state == "short"
    ]
    if short:
        yield fail(
            f"{', '.join(short)} of profile {profile.choice}: shorter than on record",
            f"delete and {missing}",
            profile=profile.name,
            short=short,
        )
        return
    yield _where(profile, chosen, tuple(dict.fromkeys(map(str, places.values()))))


def _where(profile: Profile, chosen: Settings, places: tuple[str, ...]) -> Finding:
    from cliper_model import loading
    from cliper_model.devices import best_device

    try:
        named = [loading.known_device(one) for one in chosen.devices]
        device = named[0] if named else best_device()
    except CliperError as error:
        return fail(str(error), "set DEVICE to a device of this machine, or to auto")
    try:
        loading.check_precision(chosen.dtype, device, profile)
    except CliperError as error:
        return fail(str(error), "unset DTYPE, or set it to another number format")
    own = loading.best_precision(device, profile)
    dtype = chosen.dtype or str(own.dtype).removeprefix("torch.")
    facts: dict[str, Any] = {
        "profile": profile.name,
        "device": device,
        "dtype": dtype,
        "places": list(places),
    }
    everywhere = ", ".join(chosen.devices) or device
    what = f"profile {profile.choice} is here; it would run on {everywhere} in {dtype}"
    if device == "cpu" and dtype == "float16":
        return warn(what, "half precision on a CPU is slow: unset DTYPE", **facts)
    return ok(what, **facts)


def _service_has_them(case: Case, profile: Profile) -> bool:
    told = case.health or {}
    ready = (told.get("model") or {}).get("state") == "ready"
    return ready and told.get("profile") == profile.name
