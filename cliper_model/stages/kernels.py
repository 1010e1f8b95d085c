"""Kernels for CUDA cards, in Triton: attention without a map in memory, and GroupNorm.

Every function here has a form in torch elsewhere, which says what it computes; a test holds both
together. Maps of a picture are made of queries and keys a tile at a time, in registers, and used
there: what is written to memory grows with the positions and not with their square.

Numbers that differ from picture to picture are never compiled into a kernel, so there are few of
them, and all are compiled before the first picture. Import this where Triton is; `cards` knows.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BITS = 1.4426950408889634  # of an exponent
NOWHERE = tl.constexpr(-1e30)  # bits; of a logit that is not there
TILE = 64  # positions of a tile; queries of one program
FEW = 32  # where a tile would take too much of what a multiprocessor shares
MOST_CLASSES = 64  # of one program
PROGRAMS = 512  # of one kernel, about: four for every multiprocessor of a large card
POSITIONS = 1024  # of a map, whose sums one program makes
ELEMENTS = 1024  # of an array, for one program
SCALED = 256  # positions of a map that one program scales


def levels(
    queries: Float[Tensor, "maps n width"], keys: Float[Tensor, "maps n width"]
) -> tuple[Float[Tensor, "maps n"], Float[Tensor, "maps n"]]:
    """`refine.Levels` of many maps: two passes over the tiles of each."""
    queries, keys = queries.contiguous(), keys.contiguous()
    maps, count, width = queries.shape
    rows, strongest = (queries.new_empty(maps, count, dtype=torch.float32) for _ in range(2))
    told = (count, width, BITS * width**-0.5)
    grid = (triton.cdiv(count, TILE), maps)
    step = TILE if queries.element_size() == 2 else FEW
    how: Any = {"WIDTH": _wide(width), "QUERIES": TILE, "KEYS": step}
    _run(_rows_kernel, grid, queries, keys, rows, *told, **how)
    how = {"WIDTH": _wide(width), "QUERIES": step, "KEYS": TILE}
    _run(_strongest_kernel, grid, queries, keys, rows, strongest, *told, **how)
    return rows / BITS, strongest


def chain(
    maps: Float[Tensor, "n classes"],
    queries: Float[Tensor, "heads n width"],
    keys: Float[Tensor, "heads n width"],
    *,
    rows: Float[Tensor, "heads n"],
    strongest: Float[Tensor, "heads n"],
    weakest: float,
    epsilon: float,
) -> Float[Tensor, "n classes"]:
    """`refine.chain`; `weakest` is the logarithm of its floor to the base of two.

    A card has more room than one head's queries fill, so programs share its keys; what they found
    is added up in the same order every time.
    """
    queries, keys, maps = queries.contiguous(), keys.contiguous(), maps.float().contiguous()
    heads, count, width = queries.shape
    classes = maps.shape[1]
    wide = min(MOST_CLASSES, _wide(classes))
    tiles, blocks = triton.cdiv(count, TILE), triton.cdiv(classes, wide)
    share = triton.cdiv(tiles, max(1, min(tiles, PROGRAMS // (tiles * blocks)))) * TILE
    shares = triton.cdiv(count, share)
    over, above = rows * BITS, (strongest + epsilon).log2()
    parts = maps.new_empty(shares, count, classes)
    sums = maps.new_empty(shares, count)
    out = torch.empty_like(maps)
    told = (count, width, classes, share, BITS * width**-0.5, weakest)
    how: Any = {"QUERIES": TILE, "CLASSES": wide}
    roomy = queries.element_size() == 2 and wide < MOST_CLASSES  # for what a program keeps near
    step = TILE if roomy else FEW
    for head in reversed(range(heads)):
        _run(
            _spread_kernel, (tiles, shares, blocks),
            queries, keys, over, above, maps, parts, sums, head, *told,
            WIDTH=_wide(width), KEYS=step, **how,
        )  # fmt: skip
        gathered = (parts, sums, out, count, classes, shares, epsilon)
        _run(_gather_kernel, (tiles, blocks), *gathered, **how)
        maps = out
    return maps


def room_for_maps(
    pictures: int, heads: int, count: int, device: torch.device
) -> Float[Tensor, "b heads n n"]:
    """Zeros; rows begin where a card reads several numbers at once."""
    padded = triton.cdiv(count, 16) * 16
    return torch.zeros(pictures, heads, count, padded, device=device)[..., :count]


def attend(
    queries: Float[Tensor, "b heads n d"],
    keys: Float[Tensor, "b heads n d"],
    values: Float[Tensor, "b heads n d"],
    total: Float[Tensor, "b heads n n"],
) -> Float[Tensor, "b n width"]:
    """Scaled dot product attention, heads side by side again; adds its weights to `total`, which
    `room_for_maps` gave."""
    pictures, heads, count, d = queries.shape
    mixed = values.new_empty(pictures, count, heads, d)
    half = queries.element_size() == 2
    grid = (triton.cdiv(count, TILE), pictures * heads)
    how: Any = {"WIDTH": _wide(d), "QUERIES": TILE, "KEYS": TILE if half else FEW}
    strides = [one for part in (queries, keys, values) for one in part.stride()[:3]]
    _run(
        _attend_kernel, grid,
        queries, keys, values, total, mixed, *strides, total.stride(1), total.stride(2),
        heads, count, d, BITS * d**-0.5, **how,
    )  # fmt: skip
    return mixed.flatten(2)


def mix_fused(
    maps: Float[Tensor, "b heads n n"],
    factors: Sequence[Float[Tensor, "layers maps n"]],
    values: Float[Tensor, "layers b n width"],
    *,
    epsilon: float,
) -> Float[Tensor, "layers b n width"]:
    """Every layer's values mixed by its map of `attention.fused_in_turn`, heads side by side.

    factors  what `attention.factors` gives: of rows, of columns, and the mean of every column
    """
    layers, pictures, count, width = values.shape
    heads = maps.shape[1]
    d = width // heads
    values = values.contiguous()
    rows, columns, mean = factors
    mixed = torch.empty_like(values)
    grid = (triton.cdiv(count, TILE), layers, pictures * heads)
    half = values.element_size() == 2
    how: Any = {"WIDTH": _wide(d), "QUERIES": TILE, "KEYS": TILE if half else FEW}
    _run(
        _mix_kernel, grid,
        maps, rows, columns, mean, values, mixed, maps.stride(1), maps.stride(2),
        heads, pictures, count, d, epsilon, **how,
    )  # fmt: skip
    return mixed


def group_norm(
    given: Float[Tensor, "b c h w"],
    norm: torch.nn.GroupNorm,
    *,
    activated: bool,
    shift: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """GroupNorm of a map with channels last, `shift` added before; and SiLU of it."""
    given = given.contiguous(memory_format=torch.channels_last)  # whatever a convolution gave
    pictures, channels, height, width = given.shape
    count, each = height * width, channels // norm.num_groups
    chunks = triton.cdiv(count, POSITIONS)
    tile: Any = {"CHANNELS": min(64, _wide(channels)), "STEP": 64}
    parts = triton.cdiv(channels, tile["CHANNELS"])
    told = given.new_empty(2, pictures, chunks, channels, dtype=torch.float32)
    _run(
        _sums_kernel,
        (chunks, parts, pictures),
        given,
        told[0],
        told[1],
        count,
        channels,
        chunks,
        POSITIONS=POSITIONS,
        **tile,
    )
    scale, offset = given.new_empty(2, pictures, channels, dtype=torch.float32)
    before = norm.bias if shift is None else shift.contiguous()
    _run(
        _groups_kernel, (norm.num_groups, pictures),
        told[0], told[1], norm.weight, norm.bias, before, scale, offset,
        count, channels, chunks, each, norm.eps,
        SHIFTED=shift is not None, POSITIONS=POSITIONS,
        EACH=triton.next_power_of_2(each), STEP=32,
    )  # fmt: skip
    found = torch.empty_like(given)
    _run(
        _scale_kernel, (triton.cdiv(count, SCALED), parts, pictures),
        given, scale, offset, found, count, channels,
        ACTIVATED=activated, POSITIONS=SCALED, **tile,
    )  # fmt: skip
    return found


def convolved(
    layer: torch.nn.Conv2d,
    given: Float[Tensor, "b c h w"],
    *,
    onto: Float[Tensor, "b d y x"] | None = None,
    more: Float[Tensor, " d"] | None = None,
    with_bias: bool = True,
) -> Float[Tensor, "b d y x"]:
    """A convolution with channels last; its bias, `more` and the map `onto` are added in one pass.

    Torch adds a bias by a kernel that reads one number at a time: an eighth of the networks' time.
    """
    bare = layer._conv_forward(given, layer.weight, None)
    bias = layer.bias if with_bias else None
    if bias is not None and more is not None:
        bias = bias + more
    elif bias is None:
        bias = more
    if bias is None:
        return bare if onto is None else bare.add_(onto)
    if not bare.is_contiguous(memory_format=torch.channels_last):
        bare.add_(bias[:, None, None])
        return bare if onto is None else bare.add_(onto)
    if onto is not None:
        onto = onto.contiguous(memory_format=torch.channels_last)
    pictures, channels, height, width = bare.shape
    count = pictures * height * width
    tile: Any = {"CHANNELS": min(64, _wide(channels)), "STEP": 64, "POSITIONS": SCALED}
    _run(
        _add_kernel,
        (triton.cdiv(count, SCALED), triton.cdiv(channels, tile["CHANNELS"])),
        bare,
        bare if onto is None else onto,
        bias,
        count,
        channels,
        ONTO=onto is not None,
        **tile,
    )
    return bare


def geglu(projected: Float[Tensor, "*n two_wide"]) -> Float[Tensor, "*n wide"]:
    """The first half of every row times GELU, by the error function, of the second."""
    wide = projected.shape[-1] // 2
    found = projected.new_empty(*projected.shape[:-1], wide)
    elements = found.numel()
    given = (projected.contiguous(), found, elements, wide)
    _run(_geglu_kernel, (triton.cdiv(elements, ELEMENTS),), *given, ELEMENTS=ELEMENTS)
    return found


def quick_gelu_(hidden: Float[Tensor, "*n wide"]) -> Float[Tensor, "*n wide"]:
    """`x σ(1.702 x)`, in place."""
    elements = hidden.numel()
    grid = (triton.cdiv(elements, ELEMENTS),)
    _run(_quick_gelu_kernel, grid, hidden, elements, ELEMENTS=ELEMENTS)
    return hidden


def _run(kernel: Any, grid: tuple[int, ...], *given: Any, **compiled: Any) -> None:
    """On the card of the first tensor, which need not be the current one. Sums may be rounded once
    with the product before them, as the card does it."""
    with torch.cuda.device_of(given[0]):
        kernel[grid](*given, enable_fp_fusion=True, **compiled)


def _wide(values: int) -> int:
    """A length that tiles can have: a power of two, at least 16."""
    return max(16, triton.next_power_of_2(values))


@triton.jit
def _tile(
    at: tl.tensor, places: tl.tensor, count: tl.tensor, width: tl.tensor, WIDTH: tl.constexpr
) -> tl.tensor:
    """Rows of a matrix whose rows lie one after the other; zeros outside."""
    along = tl.arange(0, WIDTH)
    inside = (places[:, None] < count) & (along[None, :] < width)
    return tl.load(at + places[:, None] * width + along[None, :], mask=inside, other=0.0)


@triton.jit
def _rows_kernel(
    queries: tl.tensor, keys: tl.tensor, rows: tl.tensor,
    count: tl.tensor, width: tl.tensor, scale: tl.tensor,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """Every query's logarithm of the sum of its powers of two."""
    one = tl.program_id(1).to(tl.int64)
    own = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    mine = _tile(queries + one * count * width, own, count, width, WIDTH)
    most = tl.full([QUERIES], NOWHERE, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    for start in range(0, count, KEYS):
        others = start + tl.arange(0, KEYS)
        theirs = _tile(keys + one * count * width, others, count, width, WIDTH)
        bits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
        bits = tl.where(others[None, :] < count, bits, NOWHERE)
        higher = tl.maximum(most, tl.max(bits, 1))
        total = total * tl.exp2(most - higher) + tl.sum(tl.exp2(bits - higher[:, None]), 1)
        most = higher
    tl.store(rows + one * count + own, most + tl.log2(total), mask=own < count)


@triton.jit
def _strongest_kernel(
    queries: tl.tensor, keys: tl.tensor, rows: tl.tensor, strongest: tl.tensor,
    count: tl.tensor, width: tl.tensor, scale: tl.tensor,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """Every key's largest share of a query's attention."""
    one = tl.program_id(1).to(tl.int64)
    own = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    mine = _tile(keys + one * count * width, own, count, width, WIDTH)
    most = tl.full([KEYS], NOWHERE, tl.float32)
    for start in range(0, count, QUERIES):
        others = start + tl.arange(0, QUERIES)
        theirs = _tile(queries + one * count * width, others, count, width, WIDTH)
        sums = tl.load(rows + one * count + others, mask=others < count, other=-NOWHERE)
        bits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
        most = tl.maximum(most, tl.max(bits - sums[None, :], 1))
    tl.store(strongest + one * count + own, tl.exp2(most), mask=own < count)


@triton.jit(do_not_specialize=["head", "classes", "share"])
def _spread_kernel(
    queries: tl.tensor, keys: tl.tensor, over: tl.tensor, above: tl.tensor, maps: tl.tensor,
    parts: tl.tensor, sums: tl.tensor, head: tl.tensor,
    count: tl.tensor, width: tl.tensor, classes: tl.tensor, share: tl.tensor,
    scale: tl.tensor, weakest: tl.tensor,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CLASSES: tl.constexpr,
) -> None:  # fmt: skip
    """Strong links of some queries to a share of the keys: their sum, and times the keys' values.

    over   of every query's row: what its logits are taken down by
    above  of every key's column
    """
    own = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    first = tl.program_id(1) * share
    channels = tl.program_id(2) * CLASSES + tl.arange(0, CLASSES)
    at = head.to(tl.int64) * count
    mine = _tile(queries + at * width, own, count, width, WIDTH)
    less = tl.load(over + at + own, mask=own < count, other=0.0)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, CLASSES], tl.float32)
    for start in range(0, share, KEYS):
        others = first + start + tl.arange(0, KEYS)
        theirs = _tile(keys + at * width, others, count, width, WIDTH)
        level = tl.load(above + at + others, mask=others < count, other=-NOWHERE)
        bits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
        bits = bits - less[:, None] - level[None, :]
        links = tl.where(bits >= weakest, tl.exp2(bits), 0.0)
        inside = (others[:, None] < count) & (channels[None, :] < classes)
        values = tl.load(
            maps + others[:, None] * classes + channels[None, :], mask=inside, other=0.0
        )
        total += tl.sum(links, 1)
        mixed = tl.dot(links, values, mixed, input_precision="tf32x3")
    part = tl.program_id(1) * count + own
    inside = (own[:, None] < count) & (channels[None, :] < classes)
    tl.store(parts + part[:, None] * classes + channels[None, :], mixed, mask=inside)
    tl.store(sums + part, total, mask=own < count)  # the same from every block of classes


@triton.jit(do_not_specialize=["classes", "shares"])
def _gather_kernel(
    parts: tl.tensor, sums: tl.tensor, out: tl.tensor,
    count: tl.tensor, classes: tl.tensor, shares: tl.tensor, epsilon: tl.tensor,
    QUERIES: tl.constexpr, CLASSES: tl.constexpr,
) -> None:  # fmt: skip
    """All shares of the keys together, over the sum of their links."""
    own = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channels = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    inside = (own[:, None] < count) & (channels[None, :] < classes)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, CLASSES], tl.float32)
    for share in range(0, shares):
        part = share * count + own
        total += tl.load(sums + part, mask=own < count, other=0.0)
        cells = parts + part[:, None] * classes + channels[None, :]
        mixed += tl.load(cells, mask=inside, other=0.0)
    mixed = mixed / (total + epsilon)[:, None]
    tl.store(out + own[:, None] * classes + channels[None, :], mixed, mask=inside)


@triton.jit(do_not_specialize=["count"])
def _attend_kernel(
    queries: tl.tensor, keys: tl.tensor, values: tl.tensor, total: tl.tensor, mixed: tl.tensor,
    query_b: tl.tensor, query_h: tl.tensor, query_n: tl.tensor,
    key_b: tl.tensor, key_h: tl.tensor, key_n: tl.tensor,
    value_b: tl.tensor, value_h: tl.tensor, value_n: tl.tensor,
    map_size: tl.tensor, map_row: tl.tensor,
    heads: tl.tensor, count: tl.tensor, width: tl.tensor, scale: tl.tensor,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """Sums of some queries first, then their weights: added to `total`, and times values."""
    one = tl.program_id(1).to(tl.int64)
    picture, head = one // heads, one % heads
    own = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    along = tl.arange(0, WIDTH)
    inside = (own[:, None] < count) & (along[None, :] < width)
    queries += picture * query_b + head * query_h
    mine = tl.load(queries + own[:, None] * query_n + along[None, :], mask=inside, other=0.0)
    keys += picture * key_b + head * key_h
    values += picture * value_b + head * value_h
    most = tl.full([QUERIES], NOWHERE, tl.float32)
    sums = tl.zeros([QUERIES], tl.float32)
    for start in range(0, count, KEYS):
        others = start + tl.arange(0, KEYS)
        there = (others[:, None] < count) & (along[None, :] < width)
        theirs = tl.load(keys + others[:, None] * key_n + along[None, :], mask=there, other=0.0)
        bits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
        bits = tl.where(others[None, :] < count, bits, NOWHERE)
        higher = tl.maximum(most, tl.max(bits, 1))
        sums = sums * tl.exp2(most - higher) + tl.sum(tl.exp2(bits - higher[:, None]), 1)
        most = higher
    most += tl.log2(sums)
    answer = tl.zeros([QUERIES, WIDTH], tl.float32)
    total += one * map_size
    for start in range(0, count, KEYS):
        others = start + tl.arange(0, KEYS)
        there = (others[:, None] < count) & (along[None, :] < width)
        theirs = tl.load(keys + others[:, None] * key_n + along[None, :], mask=there, other=0.0)
        weighed = tl.load(
            values + others[:, None] * value_n + along[None, :], mask=there, other=0.0
        )
        bits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
        weights = tl.exp2(bits - most[:, None])
        weights = tl.where(others[None, :] < count, weights, 0.0)
        cells = total + own[:, None] * map_row + others[None, :]
        whole = (own[:, None] < count) & (others[None, :] < map_row)  # zeros behind a row's end
        tl.store(cells, tl.load(cells, mask=whole, other=0.0) + weights, mask=whole)
        answer = tl.dot(weights.to(weighed.dtype), weighed, answer, input_precision="ieee")
    places = mixed + ((picture * count + own[:, None]) * heads + head) * width + along[None, :]
    tl.store(places, answer.to(mixed.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["pictures", "count"])
def _mix_kernel(
    maps: tl.tensor, rows: tl.tensor, columns: tl.tensor, mean: tl.tensor,
    values: tl.tensor, mixed: tl.tensor, map_size: tl.tensor, map_row: tl.tensor,
    heads: tl.tensor, pictures: tl.tensor, count: tl.tensor, width: tl.tensor, epsilon: tl.tensor,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """What of a layer's symmetric map exceeds its columns' mean, times values, over its sum."""
    layer, one = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    picture, head = one // heads, one % heads
    own = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    along = tl.arange(0, WIDTH)
    here = (layer * pictures * heads + one) * count
    row = tl.load(rows + here + own, mask=own < count, other=0.0)
    column = tl.load(columns + here + own, mask=own < count, other=0.0)
    maps += one * map_size
    token = (layer * pictures + picture) * count
    total = tl.zeros([QUERIES], tl.float32)
    answer = tl.zeros([QUERIES, WIDTH], tl.float32)
    for start in range(0, count, KEYS):
        others = start + tl.arange(0, KEYS)
        inside = others < count
        whole = (own[:, None] < count) & (others[None, :] < map_row)
        across = tl.load(maps + own[:, None] * map_row + others[None, :], mask=whole, other=0.0)
        turned = inside[:, None] & (own[None, :] < map_row)
        down = tl.load(maps + others[:, None] * map_row + own[None, :], mask=turned, other=0.0)
        their_row = tl.load(rows + here + others, mask=inside, other=0.0)
        their_column = tl.load(columns + here + others, mask=inside, other=0.0)
        least = tl.load(mean + here + others, mask=inside, other=0.0)
        both = across * (row[:, None] * their_column[None, :])
        both += tl.trans(down) * (column[:, None] * their_row[None, :])
        above = tl.where(inside[None, :], tl.maximum(both * 0.5 - least[None, :], 0.0), 0.0)
        cells = ((token + others[:, None]) * heads + head) * width + along[None, :]
        there = inside[:, None] & (along[None, :] < width)
        weighed = tl.load(values + cells, mask=there, other=0.0)
        total += tl.sum(above, 1)
        # Times their number, as shares of a row are about one over it: float16 has no room below.
        weights = (above * count).to(weighed.dtype)
        answer = tl.dot(weights, weighed, answer, input_precision="ieee")
    answer = answer / (count * (total + epsilon))[:, None]
    cells = ((token + own[:, None]) * heads + head) * width + along[None, :]
    inside = (own[:, None] < count) & (along[None, :] < width)
    tl.store(mixed + cells, answer.to(mixed.dtype.element_ty), mask=inside)


@triton.jit
def _sums_kernel(
    given: tl.tensor, means: tl.tensor, squares: tl.tensor,
    count: tl.tensor, channels: tl.tensor, chunks: tl.tensor,
    POSITIONS: tl.constexpr, CHANNELS: tl.constexpr, STEP: tl.constexpr,
) -> None:  # fmt: skip
    """Mean of a chunk of positions, and the sum of squares around it, channel by channel."""
    picture = tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * POSITIONS
    own = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = own < channels
    given += picture * count * channels
    near = tl.load(given + first * channels + own, mask=there, other=0.0).to(tl.float32)
    total = tl.zeros([STEP, CHANNELS], tl.float32)
    around = tl.zeros([STEP, CHANNELS], tl.float32)
    for start in range(0, POSITIONS, STEP):
        places = first + start + tl.arange(0, STEP)
        inside = (places[:, None] < count) & there[None, :]
        cells = given + places[:, None] * channels + own[None, :]
        off = tl.load(cells, mask=inside, other=0.0).to(tl.float32) - near[None, :]
        off = tl.where(inside, off, 0.0)
        total += off
        around += off * off
    number = tl.minimum(count - first, POSITIONS)
    mean = tl.sum(total, 0) / number
    at = (picture * chunks + tl.program_id(0)) * channels + own
    tl.store(means + at, near + mean, mask=there)
    tl.store(squares + at, tl.sum(around, 0) - number * mean * mean, mask=there)


@triton.jit
def _groups_kernel(
    means: tl.tensor, squares: tl.tensor, weight: tl.tensor, bias: tl.tensor, before: tl.tensor,
    scale: tl.tensor, offset: tl.tensor,
    count: tl.tensor, channels: tl.tensor, chunks: tl.tensor, each: tl.tensor, eps: tl.tensor,
    SHIFTED: tl.constexpr, POSITIONS: tl.constexpr, EACH: tl.constexpr, STEP: tl.constexpr,
) -> None:  # fmt: skip
    """Chunks and channels of one group together: what every channel is multiplied by, and what is
    added then."""
    picture = tl.program_id(1).to(tl.int64)
    along = tl.arange(0, EACH)
    own = tl.program_id(0) * each + along
    there = along < each
    shift = tl.zeros([EACH], tl.float32)
    if SHIFTED:
        shift = tl.load(before + own, mask=there, other=0.0).to(tl.float32)
    total = tl.zeros([STEP, EACH], tl.float32)
    for start in range(0, chunks, STEP):
        part = start + tl.arange(0, STEP)
        inside = (part[:, None] < chunks) & there[None, :]
        number = tl.minimum(count - part * POSITIONS, POSITIONS).to(tl.float32)
        at = (picture * chunks + part[:, None]) * channels + own[None, :]
        here = tl.load(means + at, mask=inside, other=0.0) + shift[None, :]
        total += tl.where(inside, here * number[:, None], 0.0)
    everything = tl.cast(count, tl.float32) * each
    mean = tl.sum(tl.sum(total, 0), 0) / everything
    around = tl.zeros([STEP, EACH], tl.float32)
    for start in range(0, chunks, STEP):
        part = start + tl.arange(0, STEP)
        inside = (part[:, None] < chunks) & there[None, :]
        number = tl.minimum(count - part * POSITIONS, POSITIONS).to(tl.float32)
        at = (picture * chunks + part[:, None]) * channels + own[None, :]
        off = tl.load(means + at, mask=inside, other=0.0) + shift[None, :] - mean
        within = tl.load(squares + at, mask=inside, other=0.0)
        around += tl.where(inside, within + number[:, None] * off * off, 0.0)
    variance = tl.sum(tl.sum(around, 0), 0) / everything
    steep = tl.load(weight + own, mask=there, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
    level = tl.load(bias + own, mask=there, other=0.0).to(tl.float32)
    tl.store(scale + picture * channels + own, steep, mask=there)
    tl.store(offset + picture * channels + own, level + (shift - mean) * steep, mask=there)


@triton.jit
def _scale_kernel(
    given: tl.tensor, scale: tl.tensor, offset: tl.tensor, found: tl.tensor,
    count: tl.tensor, channels: tl.tensor,
    ACTIVATED: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr, STEP: tl.constexpr,
) -> None:  # fmt: skip
    """A map times its channels' scale, plus their offset; and SiLU."""
    picture = tl.program_id(2).to(tl.int64)
    own = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = own < channels
    steep = tl.load(scale + picture * channels + own, mask=there, other=0.0)
    level = tl.load(offset + picture * channels + own, mask=there, other=0.0)
    at = picture * count * channels
    for start in range(0, POSITIONS, STEP):
        places = tl.program_id(0) * POSITIONS + start + tl.arange(0, STEP)
        inside = (places[:, None] < count) & there[None, :]
        cells = at + places[:, None] * channels + own[None, :]
        value = tl.load(given + cells, mask=inside, other=0.0).to(tl.float32)
        value = value * steep[None, :] + level[None, :]
        if ACTIVATED:
            value = value * tl.sigmoid(value)
        tl.store(found + cells, value.to(found.dtype.element_ty), mask=inside)


@triton.jit
def _add_kernel(
    own: tl.tensor, onto: tl.tensor, bias: tl.tensor, count: tl.tensor, channels: tl.tensor,
    ONTO: tl.constexpr, POSITIONS: tl.constexpr, CHANNELS: tl.constexpr, STEP: tl.constexpr,
) -> None:  # fmt: skip
    """A bias per channel, and another map, added in place; `count` is of all pictures."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = channel < channels
    more = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    first = tl.program_id(0).to(tl.int64) * POSITIONS
    for start in range(0, POSITIONS, STEP):
        places = first + start + tl.arange(0, STEP)
        inside = (places[:, None] < count) & there[None, :]
        cells = places[:, None] * channels + channel[None, :]
        value = tl.load(own + cells, mask=inside, other=0.0).to(tl.float32) + more[None, :]
        if ONTO:
            value += tl.load(onto + cells, mask=inside, other=0.0).to(tl.float32)
        tl.store(own + cells, value.to(own.dtype.element_ty), mask=inside)


@triton.jit
def _geglu_kernel(
    given: tl.tensor, found: tl.tensor, elements: tl.tensor, wide: tl.tensor,
    ELEMENTS: tl.constexpr,
) -> None:  # fmt: skip
    """One half of a row times GELU of the other."""
    own = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    at = own // wide * wide * 2 + own % wide
    plain = tl.load(given + at, mask=own < elements, other=0.0).to(tl.float32)
    gate = tl.load(given + at + wide, mask=own < elements, other=0.0).to(tl.float32)
    opened = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(found + own, (plain * opened).to(found.dtype.element_ty), mask=own < elements)


@triton.jit
def _quick_gelu_kernel(hidden: tl.tensor, elements: tl.tensor, ELEMENTS: tl.constexpr) -> None:
    """In place."""
    own = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    value = tl.load(hidden + own, mask=own < elements, other=0.0).to(tl.float32)
    value = value * tl.sigmoid(1.702 * value)
    tl.store(hidden + own, value.to(hidden.dtype.element_ty), mask=own < elements)
