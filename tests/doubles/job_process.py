"""A process that runs jobs of the kind "count" until it is killed or its input ends.

Usage: python -m tests.doubles.job_process RUNNER STORE QUEUE. RUNNER is embedded or dramatiq, STORE
an address of a store, QUEUE the address of a Redis (for dramatiq). Says "ready", and "PID count N"
whenever a job gets to N. With "place KEY" for RUNNER it asks for a job and says its id, no more.
"""

import os
import sys

from backend.jobs.base import Handle, Runner
from backend.jobs.book import BookRules, JobBook
from backend.jobs.embedded import EmbeddedRunner
from backend.jobs.running import Pace
from backend.storage.base import Json, Scope
from backend.storage.open import open_storage

RULES = BookRules(lease=3600.0)  # whoever takes over does not wait for its end
PACE = Pace(look=0.05, beat=0.05, write=0.01)
SCOPE = Scope("http://here:8080", "12.5")


def count(handle: Handle) -> Json:
    """Count on from where it was; a process may hold it up at a number by its params."""
    done = handle.job.progress.get("done", 0)
    for number in range(done + 1, handle.job.params["to"] + 1):
        handle.tell({"done": number})
        print(f"{os.getpid()} count {number}", flush=True)
        held = handle.job.params.get("hold")
        while held is not None and number == held and done < held:
            handle.wait(0.01)  # whoever began before that number stays here
    return {"counted": handle.job.params["to"], "from": done}


def main(runner_name: str, store: str, queue: str) -> None:
    book = JobBook(open_storage(store, max_blob_bytes=1000), rules=RULES)
    if runner_name.startswith("place "):
        key = runner_name.removeprefix("place ")
        print(book.enqueue("count", {"to": 1}, scope=SCOPE, key=key).id, flush=True)
        return
    runner: Runner
    if runner_name == "embedded":
        runner = EmbeddedRunner(book, {"count": count}, pace=PACE)
    else:
        from backend.jobs.dramatiq_runner import DramatiqRunner

        runner = DramatiqRunner(book, {"count": count}, url=queue, pace=PACE)
    runner.start()
    print("ready", flush=True)
    sys.stdin.read()
    runner.close()
    print("closed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
