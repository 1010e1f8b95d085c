"""The editor's own run-length code, run by node: the package `@thi.ng/rle-pack` from npm.

One process reads a batch of arrays and streams from a file and writes what it makes of them.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "@thi.ng/rle-pack@3.2.12"
BOUND: Final = 600  # seconds for npm, and for a batch

PROGRAM: Final = """
import { readFileSync, writeFileSync } from "node:fs";
import { decode, encode } from "@thi.ng/rle-pack";
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (bytes) => Buffer.from(bytes).toString("base64");
const [, , from, to] = process.argv;
const answers = JSON.parse(readFileSync(from, "utf8")).map(({ values, packed }) => {
  const array = bytes(values);
  return { packed: text(encode(array, array.length)), unpacked: text(decode(bytes(packed))) };
});
writeFileSync(to, JSON.stringify(answers));
"""


class NoPeer(RuntimeError):
    """node or npm is missing, or says no."""


@dataclass(frozen=True)
class Answer:
    """What the peer packs of the values, and what it unpacks of our stream."""

    packed: bytes
    unpacked: bytes


class Peer:
    """The package, installed into `folder` and nowhere else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        (folder / "peer.mjs").write_text(PROGRAM)
        self._run("npm", "install", "--no-package-lock", "--no-save", "--no-audit", PACKAGE)

    def answers(self, cases: Sequence[tuple[bytes, bytes]]) -> list[Answer]:
        """One answer per pair of values and our stream, in order."""
        asked, answered = self.folder / "asked.json", self.folder / "answered.json"
        asked.write_text(
            json.dumps([{"values": _text(one), "packed": _text(other)} for one, other in cases])
        )
        self._run("node", "peer.mjs", asked.name, answered.name)
        return [
            Answer(
                packed=base64.b64decode(one["packed"]), unpacked=base64.b64decode(one["unpacked"])
            )
            for one in json.loads(answered.read_text())
        ]

    def _run(self, program: str, *arguments: str) -> None:
        path = shutil.which(program)
        if path is None:
            raise NoPeer(f"{program} is not installed; the peer of the run-length code needs it")
        done = subprocess.run(
            [path, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=BOUND
        )
        if done.returncode:
            raise NoPeer(f"{program} {arguments[0]} failed: {done.stderr.strip()[-500:]}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
