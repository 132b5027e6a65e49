"""What a tiny model is made of: every number that decides its bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from harden.models.tiny.corpus import TEXT
from harden.models.tiny.tokenizer import CHAT_TEMPLATE

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The parameters of one variant; equal recipes give equal bytes on one machine.

    Attributes:
        variant: the name by which users ask for it.
        layer_types: one of "full_attention" and "sliding_attention" for each layer.
        sliding_window: tokens that a sliding layer sees; None without such layers.
        version: raised whenever the code that builds changes what it builds.
        seed: seed of the weights.
        vocabulary_size: tokens, special ones included.
        hidden_size: width of the residual stream.
        intermediate_size: width of the feed-forward layers.
        attention_heads: query heads per layer; the more, the likelier is a damaged key noticed.
        kv_heads: key and value heads per layer.
        head_dim: width of a head; 64 is the least that every KV quantisation group size divides.
        context_length: tokens of prompt and answer together.
        weight_gain: standard deviation of a weight, times the root of its fan-in.
        attention_gain: the same for the query and key projections.
        embedding_deviation: standard deviation of an embedding's elements.
    """

    variant: str
    layer_types: tuple[str, ...]
    sliding_window: int | None = None
    version: int = 1
    seed: int = 4
    vocabulary_size: int = 1152
    hidden_size: int = 64
    intermediate_size: int = 192
    attention_heads: int = 4
    kv_heads: int = 1
    head_dim: int = 64
    context_length: int = 32768
    weight_gain: float = 2.0
    attention_gain: float = 4.0
    embedding_deviation: float = 1.0

    @property
    def digest(self) -> str:
        """SHA-256 of every parameter, the text and the chat template, in hexadecimal."""
        facts = json.dumps([asdict(self), TEXT, CHAT_TEMPLATE], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the folder that holds the built model."""
        return f"tiny-{self.variant}-{self.digest[:12]}"

    def config(self, eos_token_id: int) -> dict[str, Any]:
        """The content of config.json, as transformers and mlx_lm read it."""
        config: dict[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": len(self.layer_types),
            "num_attention_heads": self.attention_heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context_length,
            "vocab_size": self.vocabulary_size,
            "layer_types": list(self.layer_types),
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "bos_token_id": None,
            "eos_token_id": eos_token_id,
        }
        if self.sliding_window is not None:
            config["sliding_window"] = self.sliding_window
        return config


RECIPES = {
    recipe.variant: recipe
    for recipe in (
        Recipe("plain", ("full_attention", "full_attention")),
        Recipe("sliding", ("sliding_attention", "full_attention"), sliding_window=64),
    )
}
