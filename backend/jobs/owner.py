"""Who runs a job: a process that cannot be mistaken for a later one with the same number.

`host:pid:start`: the host with the boot and the process namespace it counts in (two containers may
share a name, and both have a process 1), and when the process began, in ticks since the boot.
Where the system has no `/proc`, nothing is certain, and only time takes a lease.
"""

import hashlib
import os
import socket
from pathlib import Path

PROC = Path("/proc")
DEAD = frozenset("ZXx")  # a process nobody has waited for yet is as dead as one that is gone


def this_process() -> str:
    """The owner this process is; another one after a fork."""
    return f"{_host(PROC)}:{os.getpid()}:{_start(PROC, os.getpid()) or ''}"


def is_gone(owner: str, *, proc: Path = PROC) -> bool:
    """Whether the process has certainly ended; False where that cannot be known from here."""
    host, _, rest = owner.partition(":")
    pid, _, start = rest.partition(":")
    if not start or not pid.isdigit() or host != _host(proc) or _start(proc, os.getpid()) is None:
        return False
    return _start(proc, int(pid)) != start


def _host(proc: Path) -> str:
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        space = os.readlink(proc / "self/ns/pid")
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}-{hashlib.sha256(f'{boot}{space}'.encode()).hexdigest()[:8]}"


def _start(proc: Path, pid: int) -> str | None:
    """When a process began, None if there is none. Source: proc_pid_stat(5), fields 3 and 22."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return None if fields[0] in DEAD else fields[19]
