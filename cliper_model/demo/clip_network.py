"""The demo CLIP: an open_clip model of 1.9 million parameters, run the way CLIPer runs it.

Models and blocks are `Any`: open_clip types their parts as bare modules.

Shapes: B images, n tokens (class token first), H heads, d head width, D width, E embedding,
T text rows. Everything here is differentiable; names of the layers are open_clip's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from .captions import trained_sentences

CONTEXT: Final = 32
VOCABULARY: Final = 49408
CLIP_CONFIG: Final[dict[str, Any]] = {
    "embed_dim": 128,
    "quick_gelu": False,
    "vision_cfg": {
        "image_size": 96,
        "layers": 6,
        "width": 128,
        "head_width": 32,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 128,
        "heads": 4,
        "layers": 3,
    },
}
"""Arguments of `open_clip.model.CLIP`."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_EPS = 1e-6


@dataclass(frozen=True)
class Look:
    """What the vision tower keeps of a batch of images."""

    image: Tensor  # [B, E], unit length
    tokens: list[Tensor]  # per layer the input of its block, [B, n, D]
    accumulated: Tensor  # attention of all but the last layer, summed, [B, H, n, n]
    grid_hw: tuple[int, int]


def build_clip(vocabulary: int = VOCABULARY) -> CLIP:
    """A randomly initialised demo CLIP; a short token table is quicker to train."""
    text = {**CLIP_CONFIG["text_cfg"], "vocab_size": vocabulary}
    return CLIP(**{**CLIP_CONFIG, "text_cfg": text})


def normalise_pixels(images: Tensor) -> Tensor:
    """uint8 `[B, H, W, 3]` to the input of the vision tower, float32 `[B, 3, H, W]`."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    mean, std = pixels.new_tensor(_MEAN), pixels.new_tensor(_STD)
    return (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


# text


@lru_cache(maxsize=1)
def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


@lru_cache(maxsize=65536)
def tokens_of(text: str) -> Tensor:
    """Token ids of one text, padded to the context, int64 `[CONTEXT]`."""
    row: Tensor = _tokenizer()([text])[0]
    return row


def used_token_ids() -> Tensor:
    """Ids of every token the training text can contain, ascending, int64."""
    ids = {int(i) for text in trained_sentences() for i in tokens_of(text)}
    return torch.tensor(sorted(ids), dtype=torch.int64)


def short_ids(texts: Sequence[str], used: Tensor) -> Tensor:
    """Token rows in a table of 1 + len(used) rows; row 0 stands for every other token."""
    rows = torch.stack([tokens_of(text) for text in texts])
    place = torch.searchsorted(used, rows).clamp_max(len(used) - 1)
    return torch.where(used[place] == rows, place + 1, 0)


def encode_text(model: Any, ids: Tensor, ends: Tensor) -> Tensor:
    """Unit text embeddings `[T, E]`; `ends` is the position of each end-of-text token.

    The padding after the longest text is cut: the mask is causal, so nothing changes.
    """
    length = int(ends.max()) + 1
    x = model.token_embedding(ids[:, :length]) + model.positional_embedding[:length]
    mask = model.attn_mask[:length, :length]
    for block in model.transformer.resblocks:
        x, _ = _block(block, x, mask=mask)
    x = model.ln_final(x)[torch.arange(len(ids)), ends] @ model.text_projection
    return F.normalize(x.float(), dim=-1)


def text_ends(texts: Sequence[str]) -> Tensor:
    """Position of the end-of-text token, which has the largest id, `[T]`."""
    return torch.stack([tokens_of(text) for text in texts]).argmax(-1)


# vision


def look(model: Any, pixels: Tensor) -> Look:
    """Run the vision tower; the last block only for the class token."""
    visual = model.visual
    x, grid_hw = _embed(visual, pixels)
    blocks = list(visual.transformer.resblocks)
    tokens, accumulated = [], None
    for block in blocks[:-1]:
        tokens.append(x)
        x, attention = _block(block, x)
        accumulated = attention if accumulated is None else accumulated + attention
    tokens.append(x)
    image = _last_block_class_token(blocks[-1], x)
    assert accumulated is not None
    return Look(
        F.normalize(_project(visual, image).float(), dim=-1), tokens, accumulated.float(), grid_hw
    )


def fused_map(accumulated: Tensor, rounds: int) -> Tensor:
    """CLIPer's fused attention after `rounds` column-then-row normalisations, `[B, H, n, n]`.

    One round divides columns, then rows, by their sums; so every round is a scaling
    `diag(r) M diag(c)`, and two vectors carry all rounds. The vectors are constants in the
    backward pass: they keep the map's sums, not its content.
    """
    with torch.no_grad():
        rows = torch.ones_like(accumulated[..., :1])  # [B, H, n, 1]
        columns = torch.ones_like(rows)
        for _ in range(rounds):
            sums = columns * (accumulated.transpose(-1, -2) @ rows)
            columns = columns / (sums + _EPS)
            rows = rows / (rows * (accumulated @ columns) + _EPS)
    return _sharpen(rows * accumulated * columns.transpose(-1, -2))


def _sharpen(fused: Tensor) -> Tensor:
    """Symmetric, centred, clipped at zero, rows sum to one."""
    symmetric = (fused + fused.transpose(-1, -2)) / 2
    above = (symmetric - symmetric.mean(-2, keepdim=True)).clamp_min(0)
    return above / (above.sum(-1, keepdim=True) + _EPS)


def project_layer(model: Any, seen: Look, layer: int, fused: Tensor | None) -> Tensor:
    """Patch embeddings of one layer through the last block's value path, unit, `[B, n - 1, E]`.

    Layers before the last pass their own first LayerNorm and then the last block's.
    `fused` None stands for the identity.
    """
    visual = model.visual
    blocks = visual.transformer.resblocks
    last, x = blocks[-1], seen.tokens[layer]
    if layer < len(blocks) - 1:
        x = blocks[layer].ln_1(x)
    x = last.ln_1(x)
    batch, count, width = x.shape
    values = F.linear(x, last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :])
    if fused is not None:
        heads = last.attn.num_heads
        split = values.view(batch, count, heads, width // heads).transpose(1, 2)
        values = (fused.to(split.dtype) @ split).transpose(1, 2).reshape(batch, count, width)
    return F.normalize(_project(visual, last.attn.out_proj(values[:, 1:])).float(), dim=-1)


def _project(visual: Any, x: Tensor) -> Tensor:
    return visual.ln_post(x) @ visual.proj


def _embed(visual: Any, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    x = visual.conv1(pixels)
    grid_hw = (x.shape[-2], x.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([class_token, x], 1) + _positions(visual, grid_hw).to(x.dtype)
    return visual.ln_pre(x), grid_hw


def _positions(visual: Any, grid_hw: tuple[int, int]) -> Tensor:
    """Position embedding, its grid resized bilinearly, `[1 + h w, D]`."""
    table: Tensor = visual.positional_embedding
    if tuple(visual.grid_size) == grid_hw:
        return table
    grid = table[1:].T.reshape(1, -1, *visual.grid_size)
    grid = F.interpolate(grid.float(), size=grid_hw, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])


def _block(block: Any, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One transformer block and its attention `[B, H, n, n]`."""
    batch, count, width = x.shape
    heads = block.attn.num_heads
    projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = projected.view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    logits = (q * (width // heads) ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        logits = logits + mask.to(logits.dtype)
    attention = logits.softmax(-1)
    mixed = (attention @ v).transpose(1, 2).reshape(batch, count, width)
    x = x + block.attn.out_proj(mixed)
    return x + block.mlp(block.ln_2(x)), attention


def _last_block_class_token(block: Any, x: Tensor) -> Tensor:
    """The last block's output for the class token alone, `[B, D]`."""
    batch, count, width = x.shape
    heads, weight, bias = block.attn.num_heads, block.attn.in_proj_weight, block.attn.in_proj_bias
    y = block.ln_1(x)
    q = F.linear(y[:, :1], weight[:width], bias[:width])
    kv = F.linear(y, weight[width:], bias[width:])
    q = q.view(batch, 1, heads, -1).transpose(1, 2)
    k, v = kv.view(batch, count, 2, heads, -1).permute(2, 0, 3, 1, 4)
    attention = ((q @ k.transpose(-1, -2)) / math.sqrt(width // heads)).softmax(-1)
    x = x[:, :1] + block.attn.out_proj((attention @ v).transpose(1, 2).reshape(batch, 1, width))
    return (x + block.mlp(block.ln_2(x)))[:, 0]
