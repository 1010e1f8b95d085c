"""Models beside the service's own: label configs may name a method or a profile per tag."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cliper_model.errors import CliperError

from .errors import ConfigError
from .model_host import ModelHost


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What a config names; None is the service's own."""

    method: str | None = None
    profile: str | None = None

    @property
    def is_own(self) -> bool:
        return self == ModelChoice()


Build = Callable[[ModelChoice], ModelHost]


class ModelPool:
    """The service's own model, and a few others for those who ask; safe to use from threads.

    Another model is loaded in the background when a config first names it. Of more than `most`
    the one used longest ago is let go; who works with it keeps it until done.
    """

    def __init__(self, own: ModelHost, build: Build | None = None, *, most: int = 1) -> None:
        """`build` None: there are no others. It raises CliperError for names nobody knows."""
        self.own = own
        self._build, self._most = build, most
        self._lock = threading.Lock()
        self._others: OrderedDict[ModelChoice, ModelHost] = OrderedDict()

    def host(self, choice: ModelChoice) -> ModelHost:
        """The model's host, begun to load if it is new. Raises ConfigError."""
        if choice.is_own:
            return self.own
        with self._lock:
            host = self._others.get(choice)
            if host is None:
                host = self._other(choice)
                self._others[choice] = host
            self._others.move_to_end(choice)
            while len(self._others) > self._most:
                self._others.popitem(last=False)
        host.start()
        return host

    @property
    def others(self) -> tuple[tuple[ModelChoice, ModelHost], ...]:
        """For `/health`; the one used longest ago first."""
        with self._lock:
            return tuple(self._others.items())

    def _other(self, choice: ModelChoice) -> ModelHost:
        if self._build is None or self._most < 1:
            raise ConfigError(
                "model_method and model_profile need a second model in memory; set MAX_MODELS"
            )
        try:
            return self._build(choice)
        except CliperError as error:
            raise ConfigError(str(error)) from error
