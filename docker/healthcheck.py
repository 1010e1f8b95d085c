#!/usr/bin/env python3
"""Exit 0 when the service of this container answers `/health`, else 1 with the reason."""

import base64
import os
import sys
import urllib.request

ANSWER_WITHIN = 4.0  # seconds; the container's own limit is one second longer


def request() -> urllib.request.Request:
    port = os.environ.get("PORT", "").strip() or "9090"
    question = urllib.request.Request(f"http://127.0.0.1:{port}/health")
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    if user and password:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        question.add_header("Authorization", f"Basic {secret}")
    return question


def main() -> int:
    # A proxy from the environment must not be asked for our own loopback address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request(), timeout=ANSWER_WITHIN) as answer:
            print(answer.read(2000).decode(errors="replace"))
    except OSError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
