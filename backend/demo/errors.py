"""What can go wrong around a Label Studio of our own.

DemoError
├── LabelStudioMissing   no Label Studio is installed where we look
├── ServerDidNotStart    a server ended or never answered
├── Refused              Label Studio answered a request with an error
├── ModelNotThere        the service cannot load its model
└── Incomplete           some pictures never got a prediction
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ServiceError


class DemoError(ServiceError):
    """Root of everything the demonstration raises on purpose."""


class LabelStudioMissing(DemoError):
    """No Label Studio program at any of the places we look."""

    def __init__(self, places: Sequence[str | Path]) -> None:
        looked = ", ".join(str(place) for place in places)
        super().__init__(
            f"Label Studio is not installed (looked for {looked}); run 'make label-studio' in a "
            "checkout, or name the program with --label-studio PATH"
        )
        self.places = tuple(map(str, places))


class ServerDidNotStart(DemoError):
    """A server ended early or never answered; carries the end of what it printed."""

    def __init__(self, name: str, what: str, output: str) -> None:
        super().__init__(f"{name} {what}; the end of its output:\n{output}")
        self.name, self.output = name, output


class Refused(DemoError):
    """Label Studio answered with an HTTP error; `status` and `message` are what it said."""

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"Label Studio refused {request} with {status}: {message}")
        self.status, self.message = status, message


class ModelNotThere(DemoError):
    """The service runs, but its model cannot be loaded; `reason` is what it says."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the service has no model: {reason}")
        self.reason = reason


class Incomplete(DemoError):
    """Some pictures never got a prediction."""

    def __init__(self, names: Sequence[str], hint: str) -> None:
        super().__init__(f"no prediction for {', '.join(names)}; {hint}")
        self.names = tuple(names)
