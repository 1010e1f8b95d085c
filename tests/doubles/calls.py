"""How often modules of a network ran, on whatever thread."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def counting_calls(**networks: nn.Module) -> Iterator[Counter[str]]:
    """Calls of every module inside of the block, as `network.path.of.the.module`."""
    calls: Counter[str] = Counter()

    def noted(name: str) -> Any:
        return lambda *_: calls.update([name])

    hooks = [
        module.register_forward_hook(noted(f"{prefix}.{name}".rstrip(".")))
        for prefix, network in networks.items()
        for name, module in network.named_modules()
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def of(calls: Counter[str], *prefixes: str) -> dict[str, int]:
    """The calls whose names begin with any of `prefixes`."""
    return {name: times for name, times in sorted(calls.items()) if name.startswith(prefixes)}
