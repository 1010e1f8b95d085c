"""HTTP only: parse, delegate, print. One blueprint per file."""

from typing import cast

from flask import current_app

from ..services import Services


def services() -> Services:
    """The object graph behind the app that handles this request."""
    return cast(Services, current_app.extensions["services"])
