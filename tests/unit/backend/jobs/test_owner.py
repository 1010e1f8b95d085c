"""Who is gone, and who only seems to be."""

import os
import subprocess
import sys
from pathlib import Path

from backend.jobs.owner import is_gone, this_process


def begun() -> tuple[subprocess.Popen[str], str]:
    """A process that lives until its input ends, and the owner it says it is."""
    script = "import sys; from backend.jobs.owner import this_process as p; print(p(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{script}; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_this_process_is_here():
    assert str(os.getpid()) == this_process().split(":")[1]
    assert not is_gone(this_process())


def test_a_process_is_gone_once_it_was_killed_even_before_anybody_waited_for_it():
    process, owner = begun()
    try:
        assert not is_gone(owner)

        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not buried

        assert is_gone(owner)
    finally:
        process.communicate()
    assert is_gone(owner)


def test_a_process_with_the_number_of_an_earlier_one_is_not_taken_for_it():
    host, pid, start = this_process().split(":")
    assert is_gone(f"{host}:{pid}:{int(start) - 1}")


def test_nothing_is_certain_about_another_host_or_an_owner_without_a_beginning():
    host, _, start = this_process().split(":")
    assert not is_gone(f"other-{host}:4194304:{start}")
    assert not is_gone(f"{host}:4194304:")
    assert not is_gone("")
    assert not is_gone("words")


def test_where_there_is_no_proc_nobody_is_certainly_gone(tmp_path: Path):
    host = this_process().split(":")[0]
    assert not is_gone(f"{host}:4194304:17", proc=tmp_path)
