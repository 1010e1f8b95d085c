"""Models beside the service's own: label configs may name a method or a profile per tag."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cliper_model.errors import CliperError

from .errors import ConfigError, DeviceLost, ModelLoading
from .model_host import DOWNLOADING, LOADING, ModelHost


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What a config names; None is the service's own."""

    method: str | None = None
    profile: str | None = None


Build = Callable[[ModelChoice], ModelHost]


class ModelPool:
    """The service's own model, and a few others for those who ask; safe to use from threads.

    Another model is loaded in the background when a config first names it. Of more than `most`
    the one used longest ago is let go, unless it is just being loaded; who works with it keeps
    it until done.
    """

    def __init__(
        self,
        own: ModelHost,
        build: Build | None = None,
        *,
        most: int = 1,
        name: Callable[[], ModelChoice] = ModelChoice,
        device: str | None = None,
    ) -> None:
        """`build` None: there are no others. It raises CliperError for names nobody knows.

        `name` says what the service's own is called, as far as that is known. `device`: where all
        of them are; None: nobody asks.
        """
        self.own, self.device = own, device
        self._build, self._most, self._name = build, most, name
        self._lock = threading.Lock()
        self._others: OrderedDict[ModelChoice, ModelHost] = OrderedDict()

    def hosts(self, choices: Iterable[ModelChoice]) -> Mapping[ModelChoice, ModelHost]:
        """Every model that one label config names. Raises ConfigError, ModelLoading."""
        wanted = dict.fromkeys(choices)
        others = [choice for choice in wanted if not self._is_own(choice)]
        if len(others) > max(self._most, 0):
            raise ConfigError(
                f"the config names {len(others)} models beside the service's own "
                f"(model_method, model_profile); MAX_MODELS allows {self._most}"
            )
        return {choice: self.host(choice) for choice in wanted}

    def host(self, choice: ModelChoice) -> ModelHost:
        """The model's host, begun to load if it is new. Raises ConfigError, ModelLoading."""
        if self._is_own(choice):
            return self.own
        with self._lock:
            host = self._others.get(choice)
            if host is None:
                self._make_room()
                host = self._other(choice)
                self._others[choice] = host
            self._others.move_to_end(choice)
        host.start()
        return host

    def lose(self, lost: DeviceLost) -> None:
        """All models of the pool are on the same device."""
        for host in (self.own, *(host for _, host in self.others)):
            host.lose(lost)

    @property
    def others(self) -> tuple[tuple[ModelChoice, ModelHost], ...]:
        """For `/health`; the one used longest ago first."""
        with self._lock:
            return tuple(self._others.items())

    def _is_own(self, choice: ModelChoice) -> bool:
        own = self._name()
        return choice.method in (None, own.method) and choice.profile in (None, own.profile)

    def _make_room(self) -> None:
        """Let go of the one used longest ago that is not just being loaded."""
        while len(self._others) >= self._most > 0:
            idle = [
                choice
                for choice, host in self._others.items()
                if host.status.state not in (LOADING, DOWNLOADING)
            ]
            if not idle:
                busy = next(iter(self._others.values())).status
                raise ModelLoading(busy.percent)
            del self._others[idle[0]]

    def _other(self, choice: ModelChoice) -> ModelHost:
        if self._build is None or self._most < 1:
            raise ConfigError(
                "model_method and model_profile need a second model in memory; set MAX_MODELS"
            )
        try:
            return self._build(choice)
        except CliperError as error:
            raise ConfigError(str(error)) from error
