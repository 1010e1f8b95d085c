"""Addresses of stores as people write them: `sqlite:/data/cliper.sqlite`, `redis://host:6379/0`."""

import re

from ..errors import StorageError

FORMS = "sqlite:PATH, redis://HOST:PORT/NUMBER, rediss://…, unix:///SOCKET or memory:"
SCHEMES = frozenset({"sqlite", "redis", "rediss", "unix", "memory"})


def scheme_of(address: str) -> str:
    """Which kind of store an address names. Raises StorageError."""
    scheme, colon, rest = address.partition(":")
    scheme = scheme.lower()
    fits = {
        "sqlite": bool(rest) and not re.match(r"//[^/]", rest),
        "memory": not rest,
    }.get(scheme, rest.startswith("//") and len(rest) > 2)
    if not colon or scheme not in SCHEMES or not fits:
        raise StorageError(f"a store is named as {FORMS}; got {redacted(address)!r}")
    return scheme


def sqlite_path(address: str) -> str:
    """`sqlite:PATH`, `sqlite:///ABSOLUTE/PATH` and, as others write it, with four slashes."""
    path = address.partition(":")[2]
    return f"/{path.lstrip('/')}" if path.startswith("//") else path


def redacted(address: str) -> str:
    """The address without a password, for logs and sentences."""
    scheme, slashes, rest = address.partition("://")
    if scheme.lower() in ("sqlite", "memory") or address.lower().startswith("sqlite:"):
        return address
    before, at, place = (rest or scheme).rpartition("@")  # the last: a password may hold one
    if at and not slashes:  # mistyped: nobody knows where in there the password is
        address = f"***@{place}"
    elif at:
        user, secret, _ = before.partition(":")
        address = f"{scheme}://{user}{':***' if secret else ''}@{place}"
    return re.sub(r"(?i)([?&](?:ssl_)?password=)[^&#]*", r"\1***", address)
