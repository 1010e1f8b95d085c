import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cliper_model import allocator

CHECKOUT = Path(__file__).parents[3]
GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
FAULTS = """
import resource, sys
import os
from cliper_model.allocator import keep_freed_memory
kept = keep_freed_memory(os.environ) if sys.argv[1] == "keep" else False
size = 16 * 2**20
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(size), bytearray(size + 1)
before = faults()
for _ in range(20):
    one, other = bytearray(size), bytearray(size + 1)
    del one, other
print(kept, faults() - before)
"""

HELD = """
import os, threading
from cliper_model.allocator import keep_freed_memory
keep_freed_memory(os.environ)
size = 16 * 2**20
def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024
def use(done, over):
    one = bytearray(size)
    one[::4096] = b"x" * (size // 4096)
    del one
    done.set()
    over.wait()
before, over, threads = held(), threading.Event(), []
for _ in range(8):  # one after the other, and all of them stay
    done = threading.Event()
    threads.append(threading.Thread(target=use, args=(done, over)))
    threads[-1].start()
    done.wait()
print((held() - before) / size)
over.set()
"""


def run(how: str, **more: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and pages asked for anew by 40 arrays of 4096 pages."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    plain.pop("GLIBC_TUNABLES", None)
    told = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        cwd=CHECKOUT,
        env={**plain, **more},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return told[0] == "True", int(told[1])


def test_freed_memory_is_kept_for_the_next_picture_where_the_c_library_can() -> None:
    kept, faults = run("keep")
    assert kept == GLIBC
    if kept:
        assert faults < 5000 < run("leave", MALLOC_MMAP_THRESHOLD_="131072")[1]


@pytest.mark.parametrize(
    "name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"]
)
def test_whoever_says_otherwise_in_the_environment_is_heard(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert not run("keep", **{name: value})[0]


GIVEN_BACK = """
from pathlib import Path
from cliper_model.allocator import give_back_freed_memory, keep_freed_memory
def resident(): return int(Path("/proc/self/statm").read_text().split()[1])
kept = keep_freed_memory({})
many = [bytearray(2**20) for _ in range(128)]
pin = bytearray(2**20)
del many
before = resident()
print(give_back_freed_memory(), before - resident())
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_what_is_kept_can_be_given_back_when_it_is_not_needed() -> None:
    told = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert told[0] == "True"
    assert int(told[1]) > 100 * 256  # pages of 4 KiB: of 128 MB, more than 100


GATHERED = """
import sys
from pathlib import Path
from cliper_model import allocator
def resident(): return int(Path("/proc/self/statm").read_text().split()[1])
allocator.keep_freed_memory({})
gathered = allocator.Gathered(int(sys.argv[1]) * 2**20)
for _ in range(2):
    many = [bytearray(2**20) for _ in range(128)]
    pin = bytearray(2**20)
    del many
    before = resident()
    print(gathered.give_back(), before - resident())
    print(gathered.give_back())
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
@pytest.mark.parametrize(("bound", "given_back"), [(64, True), (512, False)])
def test_what_gathers_is_given_back_from_a_bound_on(bound: int, given_back: bool) -> None:
    told = subprocess.run(
        [sys.executable, "-c", GATHERED, str(bound)],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert told[0] == told[3] == str(given_back)
    assert told[2] == told[5] == "False"  # nothing has gathered since
    for pages in (told[1], told[4]):  # of 4 KiB
        assert (int(pages) > 100 * 256) == given_back


def test_where_the_system_does_not_tell_nothing_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allocator, "_resident", lambda: None)
    monkeypatch.setattr(allocator, "give_back_freed_memory", None)

    assert not allocator.Gathered(0).give_back()


def held(**more: str) -> float:
    """What eight threads leave behind that each used 16 MiB for a moment: in 16 MiB."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    plain.pop("GLIBC_TUNABLES", None)
    told = subprocess.run(
        [sys.executable, "-c", HELD],
        cwd=CHECKOUT,
        env={**plain, **more},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return float(told)


@pytest.mark.skipif(not GLIBC, reason="only glibc gives threads heaps of their own")
def test_what_one_thread_gave_back_the_next_one_uses() -> None:
    assert held() < 2
    assert held(MALLOC_ARENA_MAX="8") > 4
