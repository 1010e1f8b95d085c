"""Self-attention of diffusers' modules, a block of queries at a time.

Torch's fused attention multiplies bfloat16 at a fifth of an AMD EPYC's pace. Logits of a block in
float32, which numbers of bfloat16 fill exactly, and then the product with the values, take half
of the time there, and round less.
"""

from typing import Any, Final

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from jaxtyping import Float
from torch import Tensor, nn

from ..stages.products import takes_all_of_the_width
from ..stages.refine import attend_in_blocks

MANY: Final = 1024  # positions; of fewer the fused form is as fast
FEW_THREADS: Final = 8  # each takes a share of every block; more wait for each other


def pays_in_blocks() -> bool:
    """Whether blocks are the faster form on this machine."""
    return takes_all_of_the_width() and torch.get_num_threads() <= FEW_THREADS


class BlockwiseAttention:
    """A processor of diffusers' `Attention`; short and crossed attention stays with diffusers'
    own."""

    def __init__(self) -> None:
        self._own = AttnProcessor2_0()

    @classmethod
    def take_over(cls, network: nn.Module) -> None:
        """Every attention of the network that normalises neither queries nor keys."""
        part: Any
        for part in network.modules():
            plain = isinstance(part, Attention) and not any(
                getattr(part, name, None) for name in ("spatial_norm", "norm_q", "norm_k")
            )
            if plain:
                part.set_processor(cls())

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b ..."],
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "b ..."]:
        """`hidden_states` are tokens, or a map in rows and columns; the answer is as they are."""
        mapped = hidden_states.ndim == 4
        positions = hidden_states.shape[2:].numel() if mapped else hidden_states.shape[1]
        if encoder_hidden_states is not None or attention_mask is not None or positions < MANY:
            answer: Tensor = self._own(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return answer
        tokens = hidden_states.flatten(2).mT if mapped else hidden_states
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.mT).mT
        queries, keys, values = (
            project(tokens).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        mixed = attend_in_blocks(queries, keys, values).transpose(1, 2).flatten(2)
        project, drop = attn.to_out
        given = drop(project(mixed))
        if mapped:
            given = given.mT.unflatten(2, hidden_states.shape[2:])
        if attn.residual_connection:
            given = given + hidden_states
        return given if attn.rescale_output_factor == 1 else given / attn.rescale_output_factor
