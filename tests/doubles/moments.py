"""Time that passes only when somebody waits."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Moments:
    """A clock to call, and a `pause` that moves it; `on_pause` hears the seconds and may raise."""

    now: float = 1000.0
    paused: list[float] = field(default_factory=list)
    on_pause: Callable[[float], None] = lambda seconds: None

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds
        self.on_pause(seconds)
