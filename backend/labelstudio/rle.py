"""Brush run-length encoding, byte for byte as Label Studio's own SDK writes it.

All fields most significant bit first, without alignment:

    count of values 32 | word size - 1: 5 | four length widths - 1: 4 x 4
    packets: run flag 1 | width index 2 | length - 1: 3, 4, 8 or 16 | value 8, once or `length` x

The values are the mask as RGBA, row by row, the mask's value in all four channels.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8, UInt32

from ..errors import BadMask

CHANNELS = 4
WORD = 8
LENGTH_WIDTHS = (3, 4, 8, 16)
LONGEST_RUN = 1 << LENGTH_WIDTHS[-1]
HEADER_BITS = 32 + 5 + 4 * 4
HEADER_WIDTHS = (27, 26)  # written as two packets
WORD_BITS = 32  # of the machine words the stream is put together from
MOST_PIXELS = 1 << 28  # 268 megapixels: more is no picture but a bomb
BLOCK_PACKETS = 1 << 18  # packets put into place at once: some 20 MB
SHORT = 8  # values of a literal that are taken one by one
MOST_BYTES_PER_PIXEL = 8  # of a stream: the worst noise takes 5, see the table above


def encode(values: UInt8[np.ndarray, "height width"]) -> bytes:
    """Pack one value per pixel (0 or 255 for masks); equal to the SDK's `mask2rle`.

    The SDK adds a whole zero byte where the stream already ends on a byte; so do we.
    Raises BadMask for an empty or far too large array.
    """
    flat = np.ascontiguousarray(values).ravel()
    if not 0 < flat.size <= MOST_PIXELS:
        raise BadMask(f"a mask must have 1 to {MOST_PIXELS} pixels, got {flat.size}")
    packets, widths = _packets(flat)
    total = int(widths.sum())
    words = np.zeros(total // WORD_BITS + 2, np.uint32)
    filled = 0
    for start in range(0, len(packets), BLOCK_PACKETS):
        part = slice(start, start + BLOCK_PACKETS)
        filled = _place(packets[part], widths[part], words, filled)
    return words.astype(">u4").tobytes()[: total // WORD + 1]


def decode(
    rle: Sequence[int] | bytes, *, size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "height width"]:
    """The alpha channel (opacity) of a packed mask, also where the editor wrote it.

    Raises BadMask for anything that is not a whole stream of exactly this size.
    """
    height, width = size_hw
    if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
        raise BadMask(f"a mask cannot be {width} x {height} pixels")
    total = height * width * CHANNELS
    stream = _stream(rle, most=MOST_BYTES_PER_PIXEL * height * width + HEADER_BITS)
    word, widths = _read_header(stream, total)

    alpha = _Alpha(height * width)
    filled, at, end = 0, HEADER_BITS, len(stream) * 8
    while filled < total:
        # 1 + 2 + at most 16 + 8 bits, behind at most 7 bits of the byte before
        window = int.from_bytes(stream[at >> 3 : (at >> 3) + 5].ljust(5, b"\0"), "big")
        window = (window << (at & 7)) & 0xFF_FFFF_FFFF
        length_width = widths[(window >> 37) & 3]
        length = ((window >> (37 - length_width)) & ((1 << length_width) - 1)) + 1
        is_run = window >> 39
        at += 3 + length_width
        filled += length
        bits = word if is_run else length * word
        if at + bits > end:
            raise BadMask("the mask's run-length code ends too early")
        if filled > total:
            raise BadMask("the mask's run-length code holds more values than it says")
        if is_run:
            alpha.run((window >> (37 - length_width - word)) & ((1 << word) - 1), length)
        elif length <= SHORT:
            for value in _few(stream, at, length, word):
                alpha.run(value, 1)
        else:
            alpha.literals(_literals(stream, at, length, word))
        at += bits
    return alpha.whole().reshape(height, width)


class _Alpha:
    """One channel of four, put together from runs and literals of all of them.

    Its memory is taken as it is filled, so a code that claims much and ends early takes little.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = np.empty(pixels, np.uint8)
        self._filled = 0  # values of all channels
        self._values, self._lengths = bytearray(), list[int]()  # runs not written yet

    def run(self, value: int, length: int) -> None:
        self._values.append(value)
        self._lengths.append(length)
        if len(self._lengths) >= BLOCK_PACKETS:
            self._write()

    def literals(self, values: UInt8[np.ndarray, " values"]) -> None:
        self._write()
        first = -(self._filled + 1) % CHANNELS  # the first of them that is opacity
        alphas = values[first::CHANNELS]
        start = (self._filled + first) // CHANNELS
        self._pixels[start : start + len(alphas)] = alphas
        self._filled += len(values)

    def whole(self) -> UInt8[np.ndarray, " pixels"]:
        self._write()
        return self._pixels

    def _write(self) -> None:
        if not self._lengths:
            return
        ends = self._filled + np.cumsum(self._lengths)
        pixels = np.diff(ends // CHANNELS, prepend=self._filled // CHANNELS)
        start, stop = self._filled // CHANNELS, int(ends[-1]) // CHANNELS
        values = np.frombuffer(bytes(self._values), np.uint8)
        self._pixels[start:stop] = np.repeat(values, pixels)
        self._filled = int(ends[-1])
        self._values, self._lengths = bytearray(), list[int]()


def _packets(
    flat: UInt8[np.ndarray, " pixels"],
) -> tuple[Int[np.ndarray, " packets"], Int[np.ndarray, " packets"]]:
    """One integer and its width in bits per packet; the first two are the header."""
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    values = flat[starts]

    index = (lengths > 8).astype(np.int64) + (lengths > 16) + (lengths > 256)
    parts = (lengths - 1) // LONGEST_RUN + 1  # a long run is several packets of one kind
    last = np.cumsum(parts) - 1
    rests = lengths - (parts - 1) * LONGEST_RUN
    lengths = np.full(int(last[-1]) + 1, LONGEST_RUN)
    lengths[last] = rests
    index, values = np.repeat(index, parts), np.repeat(values, parts)

    length_widths = np.take(LENGTH_WIDTHS, index)
    runs = ((0b100 | index) << length_widths) | (lengths - 1)  # run flag, width index, length
    packets = np.concatenate((_header(flat.size * CHANNELS), runs << WORD | values))
    return packets, np.concatenate((HEADER_WIDTHS, 3 + length_widths + WORD))


def _header(count: int) -> list[int]:
    """The 53 bits of the header as two fields of HEADER_WIDTHS."""
    header = count
    for width, value in ((5, WORD), *((4, width) for width in LENGTH_WIDTHS)):
        header = header << width | (value - 1)
    return [header >> HEADER_WIDTHS[1], header & (1 << HEADER_WIDTHS[1]) - 1]


def _place(
    packets: Int[np.ndarray, " packets"],
    widths: Int[np.ndarray, " packets"],
    words: UInt32[np.ndarray, " words"],
    filled: int,
) -> int:
    """Write packets behind the bits filled so far; how many are filled then.

    A packet is shifted to its place within 64 bits that begin at a whole word. As no packet is
    wider than a word, every word holds the beginning of one: packets that begin in the same word
    are joined, and the halves of what comes out belong to that word and to the next.
    """
    ends = filled + np.cumsum(widths)
    begins = ends - widths
    shifts = 2 * WORD_BITS - widths - (begins & (WORD_BITS - 1))
    placed = packets.astype(np.uint64) << shifts.astype(np.uint64)
    word = begins // WORD_BITS
    firsts = np.flatnonzero(np.diff(word, prepend=-1))
    joined = np.bitwise_or.reduceat(placed, firsts)
    at = int(word[0])
    words[at : at + len(joined)] |= (joined >> np.uint64(WORD_BITS)).astype(np.uint32)
    words[at + 1 : at + 1 + len(joined)] |= joined.astype(np.uint32)
    return int(ends[-1])


def _stream(rle: Sequence[int] | bytes, *, most: int) -> bytes:
    if not isinstance(rle, (list, tuple, bytes)):  # of a number Python would make so many bytes
        raise BadMask("the mask's run-length code is not a list of bytes")
    if len(rle) > most:
        raise BadMask(
            f"the mask's run-length code has {len(rle)} bytes, the picture needs no more "
            f"than {most}"
        )
    try:
        return bytes(rle)
    except (TypeError, ValueError):
        raise BadMask("the mask's run-length code is not a list of bytes") from None


def _read_header(stream: bytes, total: int) -> tuple[int, list[int]]:
    if len(stream) * 8 < HEADER_BITS:
        raise BadMask("the mask's run-length code is empty or too short")
    header = int.from_bytes(stream[:7], "big") >> (56 - HEADER_BITS)
    count = header >> 21
    word = (header >> 16 & 31) + 1
    widths = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if count != total:
        raise BadMask(f"the mask's run-length code holds {count} values, the picture needs {total}")
    if word > WORD:
        raise BadMask(f"the mask's run-length code has values of {word} bits, at most 8 are known")
    return word, widths


def _few(stream: bytes, at: int, length: int, word: int) -> list[int]:
    """Literal values, read as one number."""
    end = at + length * word
    window = int.from_bytes(stream[at >> 3 : (end + 7) >> 3], "big") >> (-end & 7)
    mask = (1 << word) - 1
    return [window >> (word * (length - 1 - place)) & mask for place in range(length)]


def _literals(stream: bytes, at: int, length: int, word: int) -> UInt8[np.ndarray, " values"]:
    chunk = np.frombuffer(stream[at >> 3 : (at + length * word + 7) >> 3], np.uint8)
    bits = np.unpackbits(chunk)[at & 7 :][: length * word]
    padded = np.pad(bits.reshape(length, word), ((0, 0), (8 - word, 0)))
    return np.packbits(padded, axis=1)[:, 0]
