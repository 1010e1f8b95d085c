"""What commands on a whole project have in common: their options, and the services they use."""

import argparse
import os
from collections.abc import Mapping

from ..errors import BadSetting
from ..settings import Settings

MODEL = {  # option -> environment variable
    "profile": "PROFILE",
    "method": "METHOD",
    "features": "FEATURES",
    "student": "STUDENT",
    "device": "DEVICE",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Where Label Studio is, and which model does the work."""
    parser.add_argument("--url", metavar="URL", help="like LABEL_STUDIO_URL")
    parser.add_argument("--token", metavar="TOKEN", help="like LABEL_STUDIO_API_KEY")
    for option, variable in MODEL.items():
        parser.add_argument(f"--{option}", metavar=variable, help=f"like {variable}")


def settings_of(args: argparse.Namespace) -> Settings:
    """The environment with the options put over it. Raises BadSetting."""
    chosen = vars(args)
    given: Mapping[str, str | None] = {
        "LABEL_STUDIO_URL": args.url,
        "LABEL_STUDIO_API_KEY": args.token,
        **{variable: chosen[option] for option, variable in MODEL.items()},
    }
    settings = Settings.from_environ(
        {**os.environ, **{name: value for name, value in given.items() if value}}
    )
    if settings.label_studio_url is None:
        raise BadSetting("LABEL_STUDIO_URL", "is not set; set it, or give --url")
    if settings.label_studio_api_key is None:
        raise BadSetting(
            "LABEL_STUDIO_API_KEY",
            "is not set; copy a token from Account & Settings of Label Studio, or give --token",
        )
    return settings
