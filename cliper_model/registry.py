"""Method name -> the module that builds it; read top to bottom, add a line for a new method."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from .errors import UnknownMethod

if TYPE_CHECKING:
    from .segmenter import Segmenter

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "cliper": "cliper",
        "clip": "clip",
        "maskclip": "maskclip",
        "maskclip+": "maskclip_plus",
        "proxyclip": "proxyclip",
        "proxyclip-adjust": "proxyclip_adjust",
        "clip-surgery": "clip_surgery",
        "cliptrase": "cliptrase",
    }
)


def module_of(method: str) -> ModuleType:
    """The method's file: REVISION, config_of(profile) and build(parts). Raises UnknownMethod."""
    if method not in METHODS:
        raise UnknownMethod(method, tuple(METHODS))
    return import_module(f"{__package__}.methods.{METHODS[method]}")


def builder(method: str) -> "Callable[[Any], Segmenter]":
    """From parts to a Segmenter. Raises UnknownMethod."""
    build: Callable[[Any], Segmenter] = module_of(method).build
    return build
