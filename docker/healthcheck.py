#!/usr/bin/env python3
"""Exit 0 when the service of this container answers `/health`, else 1 with the reason.

A service that asks for a password is alive, whether or not we know the right one.
"""

import base64
import os
import sys
import urllib.error
import urllib.request

ANSWER_WITHIN = 4.0  # seconds; the container's own limit is one second longer
ANYWHERE = ("", "0.0.0.0", "::", "[::]")  # listening on every address means on loopback too


def setting(*names: str) -> str:
    """The first of these variables that is set; a blank one counts as unset."""
    values = (os.environ.get(name, "").strip() for name in names)
    return next((value for value in values if value), "")


def request() -> urllib.request.Request:
    host = setting("HOST")
    if host in ANYWHERE:
        host = "127.0.0.1"
    elif ":" in host and not host.startswith("["):
        host = f"[{host}]"
    question = urllib.request.Request(f"http://{host}:{setting('PORT') or '9090'}/health")
    user = setting("BASIC_AUTH_USER", "ML_SERVER_BASIC_AUTH_USER")
    password = setting("BASIC_AUTH_PASS", "ML_SERVER_BASIC_AUTH_PASS")
    if user and password:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        question.add_header("Authorization", f"Basic {secret}")
    return question


def main() -> int:
    # A proxy from the environment must not be asked for our own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request(), timeout=ANSWER_WITHIN) as answer:
            print(answer.read(2000).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            print(error)
        return 0 if error.code == 401 else 1
    except OSError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
