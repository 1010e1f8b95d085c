"""Learning in a process of its own, on one thread: `FitApart` asks, `main` answers.

It steps back for everything else on the machine, so neither predictions nor annotators wait for it.
Sums of floating-point numbers depend on how threads share them out; on one thread the same
evidence gives the same bytes in whatever process and with whatever settings it is learnt from.

    python -m backend.learning.apart < question > answer

Question: the length of a JSON object as eight bytes, the object, and what it lists in `sizes`:
text rows and gains as float32, the mean row where there is one, and evidence. Answer: a JSON
object. The input stays open until the answer is read; where it ends before, nobody waits any more.
"""

import contextlib
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any, Final

import numpy as np
import torch
from torch import Tensor

from cliper_model import Vocabulary

from ..errors import FitFailed
from ..lessons import Lesson
from ..studying import Course
from .evidence import Evidence
from .fit import Taught, Verdict, learn

logger = logging.getLogger(__name__)

LENGTH: Final = struct.Struct("<q")
NUMBER: Final = 4  # bytes
STEPPED_BACK: Final = 10  # niceness
LEFT_ALONE: Final = 3  # exit status, where nobody waits any more
MOST_TOLD: Final = 2000  # bytes of what a process says of its end
ONE_THREAD: Final = {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
}


class FitApart:
    """`fit.learn` in another process; as many at once as there are calls. Raises FitFailed."""

    def __call__(self, evidence: Sequence[Evidence], course: Course) -> Taught:
        code = os.pathsep.join(path for path in sys.path if path)
        with subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],  # nothing is imported from where we are
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": code},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # it ends with us, and not by signals that are meant for us
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            try:
                told = _Listener(process.stderr)
                _ask(process.stdin, evidence, course)
                answer = process.stdout.read()
            except BrokenPipeError:
                answer = b""
            finally:
                _hang_up(process)
            said = told.heard()
        if process.returncode or not answer:
            logger.error("the process that learns ended with %d: %s", process.returncode, said)
            raise FitFailed(process.returncode)
        return _taught(json.loads(answer))


class _Listener:
    """Reads what a process complains of, so that it never waits for a reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._last = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        while part := stream.read1(MOST_TOLD):  # type: ignore[attr-defined]
            self._last = (self._last + part)[-MOST_TOLD:]

    def heard(self) -> str:
        self._thread.join()
        return self._last.decode(errors="replace")


def _hang_up(process: "subprocess.Popen[bytes]") -> None:
    """Close its input: it ends now, if it has not ended yet."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()


def _ask(stream: IO[bytes], evidence: Sequence[Evidence], course: Course) -> None:
    vocabulary = course.vocabulary
    arrays = [_bytes(vocabulary.rows), _bytes(course.gains)]
    if vocabulary.mean_row is not None:
        arrays.append(_bytes(vocabulary.mean_row))
    parts = [*arrays, *(one.to_bytes() for one in evidence)]
    head = {
        "control": course.control,
        "model": course.model,
        "names": course.names,
        "words": course.words,
        "presence": course.presence,
        "labels": vocabulary.labels,
        "preset": vocabulary.preset,
        "row_class": vocabulary.row_class,
        "background": vocabulary.background,
        "mean_row": vocabulary.mean_row is not None,
        "embed": vocabulary.rows.shape[1],
        "sizes": [len(part) for part in parts],
    }
    text = json.dumps(head).encode()
    stream.write(LENGTH.pack(len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().contiguous().numpy().astype("<f4").tobytes()


def _taught(told: Any) -> Taught:
    verdict = told["verdict"]
    pairs = {name: (before, after) for name, (before, after) in verdict["per_label"].items()}
    return Taught(
        lesson=Lesson.from_json(told["lesson"]),
        candidate=Lesson.from_json(told["candidate"]),
        verdict=Verdict(**{**verdict, "per_label": pairs}),
    )


# -- in the other process -------------------------------------------------------------------


def _question(stream: IO[bytes]) -> tuple[list[Evidence], Course]:
    (length,) = LENGTH.unpack(stream.read(LENGTH.size))
    head = json.loads(stream.read(length))
    parts = [stream.read(size) for size in head["sizes"]]
    embed = head["embed"]
    rows, gains = parts.pop(0), parts.pop(0)
    vocabulary = Vocabulary(
        labels=tuple(head["labels"]),
        preset=head["preset"],
        rows=_tensor(rows, embed),
        row_class=tuple(head["row_class"]),
        mean_row=_tensor(parts.pop(0), embed)[0] if head["mean_row"] else None,
        background=tuple(head["background"]),
    )
    course = Course(
        control=head["control"],
        model=head["model"],
        names=tuple(head["names"]),
        words=tuple(map(tuple, head["words"])),
        vocabulary=vocabulary,
        gains=_tensor(gains, len(gains) // (NUMBER * embed)),
        presence=tuple(head["presence"]),
    )
    return [Evidence.from_bytes(part) for part in parts], course


def _tensor(data: bytes, width: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, width))


def _end_with(descriptor: int) -> None:
    """Whoever asked closes it, or is gone. Not by `sys.stdin`, whose lock would outlive us."""
    os.read(descriptor, 1)
    os._exit(LEFT_ALONE)


def main() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service that stops closes our input
    os.nice(STEPPED_BACK)
    torch.set_num_threads(1)
    evidence, course = _question(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    taught = learn(evidence, course)
    answer = {
        "lesson": taught.lesson.to_json(),
        "candidate": taught.candidate.to_json(),
        "verdict": asdict(taught.verdict),
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
