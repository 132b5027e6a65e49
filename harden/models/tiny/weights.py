"""Random weights whose answers vary, never end by themselves and notice damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from harden.models.tiny.recipe import Recipe

    Tensor = np.ndarray[Any, np.dtype[np.float32]]

__all__ = ["random_weights"]

# The last channel of the residual stream is a constant: embeddings set it, no layer reads or
# writes it. The output layer uses it as the bias that a Llama's lacks.
CONSTANT = 8.0
SILENCE = -24.0


def random_weights(recipe: Recipe, spoken: Sequence[int]) -> dict[str, Tensor]:
    """Draw every tensor of the model from the recipe's seed.

    Args:
        recipe: sizes, seed and gains.
        spoken: ids of the tokens that the model may answer with.

    Returns:
        float32 tensors under the names that transformers and mlx_lm give a Llama.
    """
    import numpy as np  # noqa: PLC0415 - an extra, needed only when building

    generator = np.random.Generator(np.random.PCG64(recipe.seed))

    def draw(rows: int, columns: int, gain: float = recipe.weight_gain) -> Tensor:
        scale = np.float32(gain / columns**0.5)
        return generator.standard_normal((rows, columns), dtype=np.float32) * scale

    def draw_into_stream(columns: int) -> Tensor:
        projection = draw(hidden, columns)
        projection[-1] = 0
        return projection

    hidden, inner = recipe.hidden_size, recipe.intermediate_size
    queries = recipe.attention_heads * recipe.head_dim
    keys = recipe.kv_heads * recipe.head_dim
    all_channels = np.ones(hidden, dtype=np.float32)
    but_the_constant = all_channels.copy()
    but_the_constant[-1] = 0
    embeddings = draw(recipe.vocabulary_size, hidden, recipe.embedding_deviation * hidden**0.5)
    embeddings[:, -1] = CONSTANT
    tensors = {"model.embed_tokens.weight": embeddings}
    for number in range(len(recipe.layer_types)):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.input_layernorm.weight": but_the_constant,
            f"{layer}.self_attn.q_proj.weight": draw(queries, hidden, recipe.attention_gain),
            f"{layer}.self_attn.k_proj.weight": draw(keys, hidden, recipe.attention_gain),
            f"{layer}.self_attn.v_proj.weight": draw(keys, hidden),
            f"{layer}.self_attn.o_proj.weight": draw_into_stream(queries),
            f"{layer}.post_attention_layernorm.weight": but_the_constant,
            f"{layer}.mlp.gate_proj.weight": draw(inner, hidden),
            f"{layer}.mlp.up_proj.weight": draw(inner, hidden),
            f"{layer}.mlp.down_proj.weight": draw_into_stream(inner),
        }
    head = _output_layer(draw(recipe.vocabulary_size, hidden), spoken, recipe.weight_gain)
    return tensors | {"model.norm.weight": all_channels, "lm_head.weight": head}


def _output_layer(directions: Tensor, spoken: Sequence[int], gain: float) -> Tensor:
    """One row per token: its direction if it may be spoken, else only the constant's veto.

    Vetoed are the end of the turn, because load tests need answers of a fixed length, and lone
    bytes and parts of words, which a streaming detokenizer would hold back. Rows of one length
    make no word likelier than another, so that answers vary.
    """
    import numpy as np  # noqa: PLC0415 - an extra, needed only when building

    rows = list(spoken)
    head = np.zeros_like(directions)
    head[:, -1] = SILENCE
    directions[:, -1] = 0
    lengths = np.sqrt((directions[rows] ** 2).sum(axis=1, keepdims=True))
    head[rows] = directions[rows] / lengths * np.float32(gain)
    return head
