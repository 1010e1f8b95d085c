"""What the predictor keeps in the store: connections, versions, results, looks at pictures, and
rows of words.

All of it can be made again, so a store that is away is no reason to fail: it is on the log once,
in `/health` as long as it lasts, and what would have been read counts as unknown. Nothing that
may change is remembered here in front of the store, which several processes may share.
"""

import hashlib
import json
import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float

from cliper_model import ImageState, Segmenter
from cliper_model.backbones.row_shelf import RowKey
from cliper_model.errors import IncompatibleState
from cliper_model.segmenter import read_state

from .errors import StorageError
from .outcomes import ImageResult
from .storage.base import Json, Key, Scope, Storage, change
from .trail import carried

logger = logging.getLogger(__name__)

MOST_VERSIONS = 20  # remembered per Label Studio
MOST_STATE_BYTES = 64 * 1_000_000  # larger looks are not written: reading them saves little
MOST_WAITING_BYTES = 128 * 1_000_000  # of what waits to be written; what comes on top is not
QUESTION = 1_000_000  # bytes a question counts as, so that not too many wait
SLOW = 1.0  # seconds; who failed after more than that, made a request wait
LEFT_ALONE = 15.0  # seconds for which a store that fails slowly is not asked again

Found = TypeVar("Found")


class Keeping:
    """For many threads and several processes; blobs are written by a thread of its own.

    A store that does not answer, as behind a cut line, is left alone for a while: a request would
    otherwise wait for it once for every picture.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        label_studio_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`label_studio_url`: whose projects these are. `clock`: seconds from anywhen."""
        self._storage, self._url, self._clock = storage, label_studio_url, clock
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="keeping")
        self._lock, self._waiting_bytes = threading.Lock(), 0
        self._trouble: str | None = None
        self._full: str | None = None  # it can be read and not written, as on a full disk
        self._alone_until = -math.inf

    def scope(self, project: str | None) -> Scope:
        """`project`: number and birth, as Label Studio writes them."""
        return Scope.of(self._url, project)

    def facts(self) -> Mapping[str, Any]:
        """For `/health`: which store, and what was wrong with it when it was asked last. Waits for
        nobody; whether what was wrong still is, is known the next time."""
        if self._trouble is not None:
            self.look_at_store()
        if self._full is not None:
            self._later(lambda: self._storage.put_blob(Key(Scope(), ("tried",)), b"."), QUESTION)
        return {"store": self._storage.name, "trouble": self._trouble or self._full}

    def look_at_store(self) -> None:
        """Find out, some time soon, whether there is anything wrong with it."""
        self._later(lambda: self._storage.get(self._versions_key), QUESTION, writes=False)

    def close(self) -> None:
        """Finish what is being written; the store itself stays open."""
        self._writer.shutdown(wait=True)

    # -- records ----------------------------------------------------------------------

    def connection(self, scope: Scope) -> Json | None:
        """What the last `/setup` of a project said, None if nobody remembers."""
        found = self._quietly(lambda: self._storage.get(Key(scope, ("connection",))))
        return None if found is None else found.value

    def keep_connection(self, scope: Scope, said: Json) -> None:
        """Written only where it says something new."""
        if self.connection(scope) != said:
            key = Key(scope, ("connection",))
            self._quietly(lambda: change(self._storage, key, lambda _: said), writes=True)

    def versions(self) -> list[str] | None:
        """Versions given out lately, the newest first; None where the store does not say."""
        found = self._quietly(lambda: self._storage.get(self._versions_key))
        return None if found is None else list(found.value)

    def keep_version(self, version: str) -> None:
        def with_it(known: Json) -> Json:
            return [version, *(one for one in known or () if one != version)][:MOST_VERSIONS]

        self._quietly(lambda: change(self._storage, self._versions_key, with_it), writes=True)

    @property
    def _versions_key(self) -> Key:
        return Key(self.scope(None), ("versions",))

    # -- blobs ------------------------------------------------------------------------

    def result(self, scope: Scope, name: tuple[str, ...]) -> ImageResult | None:
        data = self._quietly(lambda: self._storage.get_blob(_result_key(scope, name)))
        try:
            return None if data is None else ImageResult.from_bytes(data)
        except (ValueError, TypeError, KeyError):  # of another version of this program
            return None

    def keep_result(self, scope: Scope, name: tuple[str, ...], result: ImageResult) -> None:
        key = _result_key(scope, name)
        self._later(lambda: self._storage.put_blob(key, result.to_bytes()), result.nbytes)

    def look(
        self, scope: Scope, picture: tuple[str, int], segmenter: Segmenter
    ) -> tuple[ImageState, tuple[int, int]] | None:
        """What a model saw of a picture (digest and page), and the picture's size as displayed."""
        key = _look_key(scope, picture, segmenter)
        data = self._quietly(lambda: self._storage.get_blob(key))
        if data is None:
            return None
        header, _, body = data.partition(b"\n")
        try:
            height, width = json.loads(header)
            state = read_state(body)
        except (ValueError, TypeError, IncompatibleState) as error:
            logger.warning("a stored look at a picture cannot be read and is made anew: %s", error)
            self._later(lambda: self._storage.drop_blob(key), 0)
            return None
        return _on_device(state, _device_of(segmenter)), (height, width)

    def keep_look(
        self,
        scope: Scope,
        picture: tuple[str, int],
        segmenter: Segmenter,
        state: ImageState,
        size_hw: tuple[int, int],
        *,
        nbytes: int,
    ) -> None:
        """Write it some time soon, or not at all where it is too large or too much waits already.

        `nbytes`: of the state.
        """
        if nbytes > MOST_STATE_BYTES:
            return
        key = _look_key(scope, picture, segmenter)

        def write() -> None:
            data = b"%b\n%b" % (json.dumps(size_hw).encode(), state.to_bytes())
            self._storage.put_blob(key, data)

        self._later(write, nbytes)

    def row(self, key: RowKey) -> Float[torch.Tensor, " embed"] | None:
        """A word's text row, whichever project asked for it first."""
        place = _row_place(key)
        data = self._quietly(lambda: self._storage.get_blob(place))
        if data is None:
            return None
        header, _, body = data.partition(b"\n")
        if header != _row_header(key, body) or not body or len(body) % 4:
            logger.warning("the stored row of %r cannot be read and is made anew", key.word)
            return None
        return torch.from_numpy(np.frombuffer(body, "<f4").astype(np.float32))

    def keep_row(self, key: RowKey, row: Float[torch.Tensor, " embed"]) -> None:
        """Write it some time soon, in place of what cannot be read."""
        body = row.numpy().astype("<f4").tobytes()
        data = b"%b\n%b" % (_row_header(key, body), body)
        self._later(lambda: self._storage.put_blob(_row_place(key), data), len(data))

    def _later(self, write: Callable[[], object], nbytes: int, *, writes: bool = True) -> None:
        """`nbytes`: what is kept in memory until it is written. `writes`: see `_quietly`."""
        with self._lock:
            if self._waiting_bytes + nbytes > MOST_WAITING_BYTES:
                return
            self._waiting_bytes += nbytes

        def done() -> None:
            try:
                self._quietly(write, writes=writes)
            except Exception:  # nobody waits for it, so nobody else would tell
                logger.exception("a result could not be written to the store")
            finally:
                with self._lock:
                    self._waiting_bytes -= nbytes

        try:
            self._writer.submit(carried(done))
        except RuntimeError:  # we are going down
            with self._lock:
                self._waiting_bytes -= nbytes

    def _quietly(self, ask: Callable[[], Found], *, writes: bool = False) -> Found | None:
        """What the store says, None where it cannot be reached. `writes`: that it can be read does
        not show that it can do this, too."""
        begun = self._clock()
        if begun < self._alone_until:
            return None
        try:
            found = ask()
        except StorageError as error:
            now = self._clock()
            if now - begun > SLOW:
                self._alone_until = now + LEFT_ALONE
            if self._trouble is None and self._full is None:
                logger.warning("%s; going on without it", error)
            if writes:
                self._full = str(error)
            else:
                self._trouble = str(error)
            return None
        before = self._trouble or self._full
        self._trouble = None
        if writes:
            self._full = None
        if before is not None and self._full is None:
            logger.warning("%s works again", self._storage.name)
        return found


def _result_key(scope: Scope, name: tuple[str, ...]) -> Key:
    digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()
    return Key(scope, ("results", digest))


def _row_place(key: RowKey) -> Key:
    """Rows belong to a model: the same for every Label Studio and every project."""
    return Key(Scope(), ("rows", key.model[:16], key.digest))


def _row_header(key: RowKey, body: bytes) -> bytes:
    """Whose row it is, and a checksum: any other numbers would be masks of something else."""
    return f"row 1 {key.digest} {zlib.crc32(body):08x}".encode()


def _look_key(scope: Scope, picture: tuple[str, int], segmenter: Segmenter) -> Key:
    """States of other weights, settings, kinds of device and number formats are other states;
    devices of one kind share theirs."""
    identity = segmenter.identity
    model = json.dumps(
        [
            identity.method,
            identity.revision,
            identity.profile,
            dict(identity.weights),
            dict(identity.settings),
            _device_of(segmenter).type,
            _number_format_of(segmenter),
        ],
        sort_keys=True,
    )
    digest = hashlib.sha256(model.encode()).hexdigest()[:16]
    return Key(scope, ("looks", digest, picture[0], str(picture[1])))


def _number_format_of(segmenter: Segmenter) -> str | None:
    clip = getattr(segmenter, "clip", None)
    return getattr(clip, "number_format", None)


def _device_of(segmenter: Segmenter) -> torch.device:
    return torch.device(getattr(getattr(segmenter, "clip", None), "device", "cpu"))


def _on_device(state: ImageState, device: torch.device) -> ImageState:
    """Where the model computed it; states come from the store in main memory."""
    if device.type == "cpu":
        return state
    return replace(
        state,
        **{one.name: _moved(getattr(state, one.name), device) for one in fields(state)},
    )


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, ImageState):
        return _on_device(value, device)
    if isinstance(value, tuple) and any(isinstance(one, ImageState) for one in value):
        return tuple(_moved(one, device) for one in value)
    return value
