"""The tiny model's tokenizer: byte-level BPE, trained on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harden.models.tiny.corpus import TEXT, words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "CHAT_TEMPLATE",
    "end_of_turn_id",
    "spoken_token_ids",
    "tokenizer_config",
    "train_tokenizer",
]

END_OF_TEXT = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"

# The ChatML form: https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{START_OF_TURN}{{{{ message['role'] }}}}\n{{{{ message['content'] or '' }}}}{END_OF_TURN}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{START_OF_TURN}assistant\n{{% endif %}}"
)


def train_tokenizer(vocabulary_size: int) -> Tokenizer:
    """Train the tokenizer; the same text and size always give the same vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - an extra, needed only when building

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=1,
        special_tokens=[
            AddedToken(token, special=True) for token in (END_OF_TEXT, START_OF_TURN, END_OF_TURN)
        ],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def tokenizer_config(context_length: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def end_of_turn_id(tokenizer: Tokenizer) -> int:
    """Id of the token that ends an answer."""
    return tokenizer.get_vocab()[END_OF_TURN]


def spoken_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the tokens that are one whole word of the text with the space before it."""
    vocabulary = tokenizer.get_vocab()
    space = "\u0120"  # how the byte-level alphabet writes a space
    return sorted(
        vocabulary[token] for token in (space + word for word in words()) if token in vocabulary
    )
