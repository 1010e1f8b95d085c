"""`cliper serve` with a job at work; `/held` is answered when a byte comes through a pipe.

Usage: python -m tests.doubles.serve_job STORE GATE_FD. Prints its port, "at work" when the job has
begun and "held" when somebody waits for an answer.
"""

import os
import sys
from types import SimpleNamespace

from flask import Flask

from backend.cli.serve import listen, serve
from backend.jobs.base import Handle, Json
from backend.jobs.book import JobBook
from backend.jobs.desk import JobDesk
from backend.jobs.embedded import EmbeddedRunner
from backend.settings import Settings
from backend.storage.base import Scope
from backend.storage.open import open_storage


def work(handle: Handle) -> Json:
    print("at work", flush=True)
    while True:
        handle.wait(1000)


def main(store: str, gate: int) -> None:
    def app(settings: Settings) -> Flask:
        book = JobBook(open_storage(store, max_blob_bytes=0))
        runner = EmbeddedRunner(book, {"wait": work})
        jobs = JobDesk(jobs=book, runner=runner, kinds={})
        book.enqueue("wait", {}, scope=Scope())
        runner.start()
        app = Flask("held")
        app.extensions["services"] = SimpleNamespace(jobs=jobs, close=runner.close)

        @app.get("/held")
        def held() -> str:
            print("held", flush=True)
            return os.read(gate, 1).decode()

        return app

    with listen("127.0.0.1", 0) as listener:
        print(listener.getsockname()[1], flush=True)
        serve(Settings(), listener, build=app)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
