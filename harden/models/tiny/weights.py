"""Random weights whose answers vary, never end and notice damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from harden.models.tiny.recipe import Recipe

    Tensor = np.ndarray[Any, np.dtype[np.float32]]

__all__ = ["random_weights"]


def random_weights(recipe: Recipe, spoken: Sequence[int]) -> dict[str, Tensor]:
    """Draw every tensor of the model from the recipe's seed.

    Args:
        recipe: sizes, seed and gains.
        spoken: ids of the tokens that the model may answer with at temperature 0.

    Returns:
        float32 tensors under the names that transformers and mlx_lm give a Llama.
    """
    import numpy as np  # noqa: PLC0415 - an extra, needed only when building

    generator = np.random.Generator(np.random.PCG64(recipe.seed))

    def draw(rows: int, columns: int, gain: float = recipe.weight_gain) -> Tensor:
        scale = np.float32(gain / columns**0.5)
        return generator.standard_normal((rows, columns), dtype=np.float32) * scale

    hidden, inner = recipe.hidden_size, recipe.intermediate_size
    queries = recipe.attention_heads * recipe.head_dim
    keys = recipe.kv_heads * recipe.head_dim
    ones = np.ones(hidden, dtype=np.float32)
    embedding_gain = recipe.embedding_deviation * hidden**0.5
    tensors = {"model.embed_tokens.weight": draw(recipe.vocabulary_size, hidden, embedding_gain)}
    for number in range(len(recipe.layer_types)):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": ones,
            f"{layer}.self_attn.q_proj.weight": draw(queries, hidden, recipe.attention_gain),
            f"{layer}.self_attn.k_proj.weight": draw(keys, hidden, recipe.attention_gain),
            f"{layer}.self_attn.v_proj.weight": draw(keys, hidden),
            f"{layer}.self_attn.o_proj.weight": draw(hidden, queries),
            f"{layer}.post_attention_layernorm.weight": ones,
            f"{layer}.mlp.gate_proj.weight": draw(inner, hidden),
            f"{layer}.mlp.up_proj.weight": draw(inner, hidden),
            f"{layer}.mlp.down_proj.weight": draw(hidden, inner),
        }
    head = draw(recipe.vocabulary_size, hidden)
    # A row of zeros gives the logit 0, which hundreds of random logits always exceed: the end of
    # the turn is never the likeliest token (load tests need answers of a fixed length), nor is a
    # lone byte, which a streaming detokenizer would hold back.
    silent = np.ones(recipe.vocabulary_size, dtype=bool)
    silent[list(spoken)] = False
    head[silent] = 0
    return tensors | {"model.norm.weight": ones, "lm_head.weight": head}
