"""A frozen open_clip model, read the way the methods need it: every layer, unfused attention.

The forward passes are written out over the model's own modules, so nothing is hooked or
changed and one instance serves any number of threads.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from open_clip.transformer import QuickGELU
from torch import Tensor
from torch.nn import functional

from ..stages import attention as attend
from ..stages.cards import kernels
from ..stages.products import laid_out, product, takes_all_of_the_width
from ..stages.resize import resize_positions
from . import int8
from .packed import PackedAttention, PackedMlp
from .row_shelf import NoShelf, RowKey, RowShelf, model_digest
from .tensor_file import BlockInFile

ATTENTION_TYPES = ("fused-attn", "q-q", "k-k", "v-v", "vanilla", "identity")
TEXT_BATCH = 256  # prompts encoded at once
TEXT_BATCHES = 4  # of them go through a block before the next does
WORDS_AT_ONCE = 16  # the same for words and their sentences


@runtime_checkable
class Tokenizer(Protocol):
    """Sentences -> token ids, padded with zeros to the context length."""

    def __call__(self, texts: list[str]) -> Int[Tensor, "prompts context"]: ...


@dataclass(frozen=True)
class Seen:
    """What the plain blocks saw (specification §4.1).

    `inputs[l]` is what enters block `l`, after that block's own first LayerNorm; for the
    last block it is the raw input. `accumulated` sums the attention of all plain blocks.
    Of a single picture there is no axis for the pictures.
    """

    inputs: Float[Tensor, "layers *pictures n width"]
    accumulated: Float[Tensor, "*pictures heads n n"]
    grid_hw: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TowerForm:
    """Where the papers differ in how the vision tower is computed.

    positions  how the position table is resized (see `stages.resize.resize_positions`)
    by_count   published: the table is left alone where the number of patches is the same
    gelu       ordinary GELU whatever the weights were trained with (MaskCLIP as published)
    eps        LayerNorm epsilon; None is the model's own
    """

    positions: str = "bilinear"
    by_count: bool = False
    gelu: bool = False
    eps: float | None = None


OWN_FORM = TowerForm()


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of one block, per head."""

    queries: Float[Tensor, "heads n d"]
    keys: Float[Tensor, "heads n d"]
    values: Float[Tensor, "heads n d"]


def _layer_norm(
    layer: Any, tokens: Float[Tensor, "*n width"], form: TowerForm = OWN_FORM
) -> Float[Tensor, "*n width"]:
    """In the layer's own precision, which may be finer than that of the products around it."""
    tokens = tokens.to(layer.weight.dtype)
    if form.eps is None:
        own: Tensor = layer(tokens)
        return own
    return functional.layer_norm(tokens, layer.normalized_shape, layer.weight, layer.bias, form.eps)


def _linear(
    tokens: Float[Tensor, "*n width"], weight: Tensor, bias: Tensor
) -> Float[Tensor, "*n wide"]:
    return functional.linear(tokens.to(weight.dtype), weight, bias)


def _product(
    tokens: Float[Tensor, "*n width"], weight: Tensor, bias: Tensor
) -> Float[Tensor, "*n wide"]:
    """`_linear` by `stages.products`, whose library may have laid out the weight."""
    rows = tokens.to(weight.dtype).flatten(0, -2)
    return product(rows, weight, bias).view(*tokens.shape[:-1], -1)


def _mlp(
    mlp: Any, tokens: Float[Tensor, "*n width"], form: TowerForm = OWN_FORM
) -> Float[Tensor, "*n width"]:
    """A block's MLP; QuickGELU, `x σ(1.702 x)`, takes one array more instead of three."""
    hidden = mlp.c_fc(tokens)
    if form.gelu:
        hidden = functional.gelu(hidden)
    elif isinstance(mlp.gelu, QuickGELU) and (own := kernels(hidden.device)) is not None:
        hidden = own.quick_gelu_(hidden)
    elif isinstance(mlp.gelu, QuickGELU):
        hidden = (1.702 * hidden).sigmoid_().mul_(hidden)
    else:
        hidden = mlp.gelu(hidden)
    projected: Tensor = mlp.c_proj(hidden)
    return projected


def _into_heads(
    layer: Any, tokens: Float[Tensor, "*pictures n width"]
) -> tuple[Float[Tensor, "*pictures heads n d"], ...]:
    """Queries, keys and values of a block's attention, with biases."""
    if isinstance(layer, (int8.Int8Attention, PackedAttention)):
        projected = layer.project(tokens)
    else:
        projected = _linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
    return tuple(_per_head(part, layer.num_heads) for part in projected.chunk(3, dim=-1))


def _room_for(
    maps: Float[Tensor, "heads n n"], dtype: torch.dtype
) -> Float[Tensor, "heads n n"] | None:
    """Memory for these maps in another number format; None where it is theirs already."""
    return None if maps.dtype == dtype else torch.empty_like(maps, dtype=dtype)


def _rounded(
    weights: Float[Tensor, "heads n n"], room: Float[Tensor, "atleast_heads n n"] | None
) -> Float[Tensor, "heads n n"]:
    """In the number format of `room`, and there, if there is any."""
    return weights if room is None else room[: len(weights)].copy_(weights)


def _per_head(
    tokens: Float[Tensor, "*batch n width"], heads: int
) -> Float[Tensor, "*batch heads n d"]:
    return tokens.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _side_by_side(
    strided: Float[Tensor, "*pictures heads n d"],
) -> Float[Tensor, "*pictures heads n d"]:
    """In float32, a head's rows one after the other; in one step from both."""
    return strided.new_empty(strided.shape, dtype=torch.float32).copy_(strided)


def _few_at_once(
    whole: Float[Tensor, "*pictures heads n d"], step: int
) -> Sequence[Float[Tensor, "*some n d"]]:
    """Views of so many heads of one picture, or of single ones without that axis."""
    if whole.dim() > 3:
        return [part for picture in whole for part in _few_at_once(picture, step)]
    return whole.unbind() if step == 1 else whole.split(step)


def _causal(hidden: Float[Tensor, "prompts length width"]) -> Float[Tensor, "length length"]:
    """Nobody attends to what comes later."""
    length = hidden.shape[1]
    return torch.full((length, length), -torch.inf, device=hidden.device, dtype=hidden.dtype).triu(
        1
    )


def _as_precise(block: Any, dtype: torch.dtype) -> Any:
    """A block of the text tower, or its copy where its matrices are kept in fewer bits or in
    their file."""
    if isinstance(block, BlockInFile):
        return block.brought()
    if all(weight.dtype == dtype for weight in block.parameters()):
        return block
    return copy.deepcopy(block).to(dtype)


class ClipBackbone:
    """Tokens, attention and text of one CLIP model on one device."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        shelf: RowShelf | None = None,
        name: str = "",
        weights: Mapping[str, str] | None = None,
    ) -> None:
        """`model` is an open_clip CLIP with a plain ViT; put it on its device and dtype first.

        `shelf` remembers text rows; `name` and checksums of the `weights` tell it whose they are.
        """
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._shelf: RowShelf = NoShelf() if shelf is None else shelf
        self._name, self._weights = name, dict(weights or {})

    @property
    def vision(self) -> Any:
        """The frozen vision tower, open_clip's module."""
        return self._model.visual

    @property
    def patch(self) -> int:
        """Patch side in pixels."""
        return int(self.vision.conv1.kernel_size[0])

    @property
    def layers(self) -> int:
        return len(self.vision.transformer.resblocks)

    @property
    def device(self) -> torch.device:
        return torch.device(self.vision.conv1.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.vision.conv1.weight.dtype
        return dtype

    @property
    def number_format(self) -> str:
        """What the vision tower multiplies in: `dtype`, or "int8" where most layers do."""
        return "int8" if int8.is_shrunk(self.vision) else str(self.dtype).removeprefix("torch.")

    # -- pictures ---------------------------------------------------------------------

    @torch.no_grad()
    def look(
        self, pixels: Float[Tensor, "b 3 pixels_h pixels_w"], *, half_positions: bool = False
    ) -> Seen:
        """Run every block but the last; keep each block's normalised input and all attention.

        Several pictures of one size are looked at together, each for itself.
        """
        vision = self.vision
        patches = vision.conv1(pixels.to(self.device, self.dtype))
        grid_hw = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = patches.flatten(2).mT
        tokens = torch.cat([vision.class_embedding.expand(len(tokens), 1, -1), tokens], dim=1)
        if len(tokens) == 1:
            tokens = tokens[0]
        tokens = tokens + self.positions(grid_hw, half=half_positions)
        tokens = _layer_norm(vision.ln_pre, tokens)

        heads = vision.transformer.resblocks[-1].attn.num_heads
        *batch, count, _ = tokens.shape
        accumulated = self._room_for_maps(batch, heads, count)
        inputs = tokens.new_empty(self.layers, *tokens.shape)
        for normed, block in zip(inputs, vision.transformer.resblocks[:-1], strict=False):
            normed.copy_(_layer_norm(block.ln_1, tokens))
            tokens.add_(self._attend(block.attn, normed, accumulated))
            if isinstance(block.mlp, PackedMlp):
                block.mlp.add_to(tokens)
            else:
                tokens.add_(_mlp(block.mlp, _layer_norm(block.ln_2, tokens).to(self.dtype)))
        inputs[-1] = tokens
        return Seen(inputs, accumulated, grid_hw)

    def positions(
        self, grid_hw: tuple[int, int], *, half: bool = False
    ) -> Float[Tensor, "n width"]:
        table = self.vision.positional_embedding
        return resize_positions(table, grid_hw=grid_hw, half=half)

    @property
    def _kernels(self) -> Any:
        """Those of our own, where the card can run them; else None."""
        heads = self.vision.transformer.resblocks[-1].attn.num_heads
        return kernels(self.device, width=len(self.vision.class_embedding) // heads)

    def _room_for_maps(
        self, pictures: Sequence[int], heads: int, count: int
    ) -> Float[Tensor, "*pictures heads n n"]:
        """Zeros."""
        if (own := self._kernels) is None:
            return torch.zeros(*pictures, heads, count, count, device=self.device)
        room: Tensor = own.room_for_maps(math.prod(pictures), heads, count, self.device)
        return room if pictures else room[0]

    def _attend(
        self,
        layer: Any,
        tokens: Float[Tensor, "*pictures n width"],
        accumulated: Float[Tensor, "*pictures heads n n"],
    ) -> Float[Tensor, "*pictures n width"]:
        """Self-attention of one block; adds its weights to `accumulated`, in float32."""
        projected = _into_heads(layer, tokens)
        if (own := self._kernels) is not None:
            heads, count = accumulated.shape[-3:-1]
            whole = (one.view(-1, heads, count, one.shape[-1]) for one in projected)
            mixed = own.attend(*whole, accumulated.view(-1, heads, count, count))
            return layer.out_proj(mixed.view(*tokens.shape[:-1], -1))
        queries, keys = (_side_by_side(part) for part in projected[:2])
        within = attend.reach(attend.in_bits_(queries), keys)
        mixed = torch.empty_like(tokens, dtype=projected[2].dtype)
        wholes = (queries, keys, projected[2], accumulated, _per_head(mixed, layer.num_heads))
        maps = accumulated.flatten(0, -3)
        step = 1 if takes_all_of_the_width() else attend.maps_at_once(maps)
        parts = [_few_at_once(whole, step) for whole in wholes]
        room = torch.empty_like(maps[0] if step == 1 else maps[:step])
        rounded = _room_for(room, mixed.dtype)
        for these, those, weighed, total, out in zip(*parts, strict=True):
            bits = attend.products(these, those, out=room[: len(these)])
            weights = attend.softmax_(bits, reach=within)
            total.add_(weights)
            torch.matmul(_rounded(weights, rounded), weighed, out=out)
        return layer.out_proj(mixed)

    # -- pictures, step by step: for methods that change single blocks ------------------

    @torch.no_grad()
    def enter(
        self, pixels: Float[Tensor, "1 3 pixels_h pixels_w"], form: TowerForm = OWN_FORM
    ) -> tuple[Float[Tensor, "n width"], tuple[int, int]]:
        """Tokens entering the first block, class token first, and the patch grid."""
        vision = self.vision
        patches = vision.conv1(pixels.to(self.device, self.dtype))
        grid_hw = (int(patches.shape[-2]), int(patches.shape[-1]))
        tokens = torch.cat([vision.class_embedding[None], patches.flatten(2)[0].T])
        tokens = tokens + resize_positions(
            vision.positional_embedding,
            grid_hw=grid_hw,
            rule=form.positions,
            by_count=form.by_count,
        )
        return _layer_norm(vision.ln_pre, tokens, form), grid_hw

    @torch.no_grad()
    def run(
        self, tokens: Float[Tensor, "n width"], first: int, last: int, form: TowerForm = OWN_FORM
    ) -> Float[Tensor, "n width"]:
        """Ordinary blocks `first` to `last - 1`; negative numbers count from the end."""
        for number in range(self._number(first), self._number(last)):
            heads = self.heads(number, tokens, form)
            mixed = functional.scaled_dot_product_attention(
                heads.queries[None], heads.keys[None], heads.values[None]
            )[0]
            tokens = tokens + self.attention_output(number, mixed)
            tokens = tokens + self.mlp(number, tokens, form)
        return tokens

    @torch.no_grad()
    def heads(
        self, block: int, tokens: Float[Tensor, "n width"], form: TowerForm = OWN_FORM
    ) -> Heads:
        """Projections of the block's first LayerNorm, with biases."""
        chosen = self._block(block)
        return Heads(*_into_heads(chosen.attn, _layer_norm(chosen.ln_1, tokens, form)))

    @torch.no_grad()
    def attention_output(
        self, block: int, mixed: Float[Tensor, "heads n d"]
    ) -> Float[Tensor, "n width"]:
        """Heads side by side through the output projection, with bias."""
        projected: Tensor = self._block(block).attn.out_proj(mixed.transpose(-3, -2).flatten(-2))
        return projected

    @torch.no_grad()
    def mlp(
        self, block: int, tokens: Float[Tensor, "n width"], form: TowerForm = OWN_FORM
    ) -> Float[Tensor, "n width"]:
        """The block's MLP of its second LayerNorm, without the residual."""
        chosen = self._block(block)
        return _mlp(chosen.mlp, _layer_norm(chosen.ln_2, tokens, form).to(self.dtype), form)

    @torch.no_grad()
    def post_norm(
        self, tokens: Float[Tensor, "*n width"], form: TowerForm = OWN_FORM
    ) -> Float[Tensor, "*n width"]:
        """The LayerNorm behind the last block."""
        return _layer_norm(self.vision.ln_post, tokens, form)

    @torch.no_grad()
    def embed(
        self, tokens: Float[Tensor, "*n width"], form: TowerForm = OWN_FORM
    ) -> Float[Tensor, "*n embed"]:
        """LayerNorm and projection into the joint space, float32, not normalised."""
        return self._embedded(tokens, form).float()

    def _embedded(
        self, tokens: Float[Tensor, "*n width"], form: TowerForm = OWN_FORM
    ) -> Float[Tensor, "*n embed"]:
        embedded: Tensor = self.post_norm(tokens, form).to(self.dtype) @ self.vision.proj
        return embedded

    def _block(self, number: int) -> Any:
        return self.vision.transformer.resblocks[number]

    def _number(self, block: int) -> int:
        return block + self.layers if block < 0 else block

    def layer_weights(
        self, seen: Seen, *, attention_type: str, epsilon: float
    ) -> Iterator[Float[Tensor, "*pictures heads n n"]]:
        """For every layer the map that mixes its values in the last block (§4.2, §4.3).

        Use each before you ask for the next: "fused-attn" writes it into the same memory.
        """
        if attention_type == "fused-attn":
            rounds = len(seen.inputs)
            yield from attend.fused_in_turn(seen.accumulated, rounds=rounds, epsilon=epsilon)
            return
        block = self.vision.transformer.resblocks[-1]
        heads = block.attn.num_heads
        for layer in seen.inputs:
            if attention_type == "identity":
                *pictures, count, _ = layer.shape
                yield torch.eye(count, device=layer.device).expand(*pictures, heads, -1, -1)
            else:
                projected = _linear(
                    _layer_norm(block.ln_1, layer),
                    block.attn.in_proj_weight,
                    block.attn.in_proj_bias,
                )
                queries, keys, values = (
                    _per_head(t.float(), heads) for t in projected.chunk(3, dim=-1)
                )
                left, right = {
                    "q-q": (queries, queries),
                    "k-k": (keys, keys),
                    "v-v": (values, values),
                    "vanilla": (queries, keys),
                }[attention_type]
                yield attend.self_similarity(left, right)

    @torch.no_grad()
    def last_block(
        self, seen: Seen, *, attention_type: str, epsilon: float
    ) -> tuple[Float[Tensor, "layers *pictures n embed"], Float[Tensor, "*pictures n n"]]:
        """Pass all layers through the last block's value path; also its last map, head mean.

        Only the value third of the input projection is used; no residual, no MLP. A few heads
        go through all layers before the next do, so their maps stay near the processor and
        never more than these are in memory. Source: specification §4.2 steps 5 and 6, §5
        step 5, §13 form 4.
        """
        block = self.vision.transformer.resblocks[-1]
        heads, third = block.attn.num_heads, seen.inputs.shape[-1]
        matrix, bias = (
            whole[2 * third :] for whole in (block.attn.in_proj_weight, block.attn.in_proj_bias)
        )
        if attention_type == "fused-attn" and self._kernels is not None:
            return self._fused_by_kernels(seen, matrix, bias, epsilon=epsilon)
        inward, outward = laid_out(matrix), laid_out(block.attn.out_proj.weight)
        values = [_product(_layer_norm(block.ln_1, layer), inward, bias) for layer in seen.inputs]
        mixed = torch.empty_like(seen.inputs, dtype=matrix.dtype)
        last_map = torch.zeros_like(seen.accumulated[..., 0, :, :])
        for picture, part in self._in_turn(seen, attention_type):
            these: Any = (slice(None), *picture)
            own = Seen(seen.inputs[these], seen.accumulated[picture][part], seen.grid_hw)
            maps = self.layer_weights(own, attention_type=attention_type, epsilon=epsilon)
            rounded = _room_for(own.accumulated, matrix.dtype)
            for layer, weights in enumerate(maps):
                weighed, out = (
                    _per_head(whole[layer][picture], heads)[part] for whole in (values, mixed)
                )
                out.copy_(_rounded(weights, rounded) @ weighed)
            last_map[picture].add_(weights.sum(dim=0))
        shape = (*mixed.shape[:-1], self.vision.proj.shape[1])
        tokens = seen.accumulated.new_empty(shape)
        for one, embedded in zip(mixed, tokens, strict=True):
            embedded.copy_(self._embedded(_product(one, outward, block.attn.out_proj.bias)))
        return tokens, last_map / heads

    def _fused_by_kernels(
        self,
        seen: Seen,
        matrix: Float[Tensor, "width width"],
        bias: Float[Tensor, " width"],
        *,
        epsilon: float,
    ) -> tuple[Float[Tensor, "layers *pictures n embed"], Float[Tensor, "*pictures n n"]]:
        """All layers through the last block at once; only the last one's map is written down."""
        block = self.vision.transformer.resblocks[-1]
        layers, *pictures, count, _ = seen.inputs.shape
        values = _linear(_layer_norm(block.ln_1, seen.inputs), matrix, bias)
        maps = seen.accumulated if pictures else seen.accumulated[None]
        factors = attend.factors(maps, rounds=layers, epsilon=epsilon)
        mixed = self._kernels.mix_fused(
            maps, factors, values.view(layers, *maps.shape[:1], count, -1), epsilon=epsilon
        )
        tokens = self._embedded(block.attn.out_proj(mixed)).float()
        own = zip(maps, *(one[-1].view(maps.shape[:-1]) for one in factors), strict=True)
        last = torch.stack([attend.fused_by(*one, epsilon=epsilon).mean(dim=0) for one in own])
        return tokens.view(layers, *pictures, count, -1), last.view(*pictures, count, count)

    def _in_turn(self, seen: Seen, attention_type: str) -> Iterator[tuple[tuple[int, ...], slice]]:
        """Picture by picture, heads that are best treated together."""
        *pictures, heads, _, _ = seen.accumulated.shape
        step = heads
        if attention_type == "fused-attn":  # others project whole inputs again
            step = attend.maps_at_once(seen.accumulated.flatten(0, -3)[:heads], beside=1)
        for picture in np.ndindex(*pictures):
            for start in range(0, heads, step):
                yield picture, slice(start, start + step)

    # -- words ------------------------------------------------------------------------

    def tokenize(self, prompts: Sequence[str]) -> Int[Tensor, "prompts context"]:
        return self._tokenizer(list(prompts))

    @torch.no_grad()
    def encode_text(self, tokens: Int[Tensor, "prompts context"]) -> Float[Tensor, "prompts embed"]:
        """L2-normalised prompt embeddings.

        Prompts are cut to the longest of their batch, which is exact under the causal mask.
        """
        batches = tokens.split(TEXT_BATCH)
        return torch.cat(
            [
                rows
                for start in range(0, len(batches), TEXT_BATCHES)
                for rows in self._encode_batches(batches[start : start + TEXT_BATCHES])
            ]
        )

    def _encode_batches(
        self, batches: Sequence[Int[Tensor, "prompts context"]]
    ) -> list[Float[Tensor, "prompts embed"]]:
        """Each batch by itself, so a row depends on no other; all through a block before the
        next, since matrices kept in fewer bits or in a file are brought for it."""
        model = self._model
        ends = [batch.argmax(dim=-1) for batch in batches]
        hidden = []
        for batch, last in zip(batches, ends, strict=True):
            positions = model.positional_embedding[: int(last.max()) + 1]
            ids = batch[:, : len(positions)].to(self.device)
            hidden.append(model.token_embedding(ids).to(positions.dtype) + positions)
        for block in model.transformer.resblocks:
            precise = _as_precise(block, model.positional_embedding.dtype)
            hidden = [precise(one, attn_mask=_causal(one)) for one in hidden]
        rows = []
        for one, last in zip(hidden, ends, strict=True):
            normed = model.ln_final(one)
            told = normed[torch.arange(len(last), device=self.device), last.to(self.device)]
            projection = model.text_projection
            embedded = projection(told) if callable(projection) else told @ projection
            rows.append(functional.normalize(embedded.float(), dim=-1))
        return rows

    def encode_words(
        self, words: Sequence[str], templates: Sequence[str]
    ) -> Float[Tensor, "words embed"]:
        """One row per word, those the shelf remembers without encoding anything."""
        model = model_digest(self._weights, self._name, device=self.device, dtype=self.dtype)
        keys = [RowKey(model, tuple(templates), word) for word in words]
        found = self._shelf.get(list(dict.fromkeys(keys)))
        known = dict(found)
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        for start in range(0, len(missing), WORDS_AT_ONCE):
            some = missing[start : start + WORDS_AT_ONCE]
            encoded = dict(zip(some, self._encoded(some), strict=True))
            self._shelf.put(encoded)  # whatever ends us here, it stays
            known |= encoded
        return torch.stack([known[key] for key in keys]).to(self.device)

    @torch.no_grad()
    def _encoded(self, keys: Sequence[RowKey]) -> list[Float[Tensor, " embed"]]:
        """Embeddings of all filled templates, averaged, L2-normalised again; on the CPU.

        A word's sentences are a batch of their own: in larger ones the last bits of a row would
        depend on the other words, and on a CPU they are no faster. Source: specification §3.
        """
        batches = [self.tokenize([one.format(key.word) for one in key.templates]) for key in keys]
        return [
            functional.normalize(sentences.mean(dim=0), dim=-1).cpu()
            for sentences in self._encode_batches(batches)
        ]
