"""Method name -> builder; read top to bottom, add a line for a new method."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .errors import UnknownMethod
from .segmenter import Segmenter


def _cliper(**parts: Any) -> Segmenter:
    from .loading import build_cliper

    return build_cliper(**parts)


BUILDERS: Mapping[str, Callable[..., Segmenter]] = MappingProxyType(
    {
        "cliper": _cliper,
    }
)


def builder(method: str) -> Callable[..., Segmenter]:
    """Raises UnknownMethod."""
    if method not in BUILDERS:
        raise UnknownMethod(method, tuple(BUILDERS))
    return BUILDERS[method]
