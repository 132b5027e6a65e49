"""The tiny model in the real mlx_lm: answers that vary, never end and notice damage."""

from __future__ import annotations

import http.client
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import load
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from harden.models.tiny import tiny_model_path
from harden.models.tiny.corpus import words
from harden.models.tiny.recipe import RECIPES
from harden.server_process import ServerProcess

PROMPTS = [
    "Hello, how are you today?",
    "Count from one to ten.",
    "Write one sentence about winter.",
    "The harbour",
    "x",
    "zzz 123 \u00e9\u6f22 \U0001f98a",
    "Explain in simple words how a compass works, and list five animals. " * 8,
]
ANSWER_TOKENS = 48


@pytest.fixture(scope="module", params=sorted(RECIPES))
def tiny(request):
    """Model and tokenizer of each variant, as mlx_lm loads them."""
    return load(str(tiny_model_path(request.param)))


def chat(tokenizer, *contents: str) -> list[int]:
    """Token ids of a conversation whose turns alternate, with the answer's beginning."""
    roles = ["user", "assistant"] * len(contents)
    messages = [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=False)
    ]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True)


def greedy(model, prompt, length=ANSWER_TOKENS, cache=None) -> list[int]:
    """The answer at temperature 0, whatever its tokens mean."""
    steps = generate_step(mx.array(prompt), model, max_tokens=length, prompt_cache=cache)
    return [int(token) for token, _ in islice(steps, length)]


def filled_cache(model, prompt):
    cache = make_prompt_cache(model)
    model(mx.array(prompt)[None], cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


@pytest.mark.parametrize("prompt", PROMPTS)
def test_answers_vary(tiny, prompt):
    """At least 40 of 48 tokens are distinct, so that a wrong answer looks wrong."""
    model, tokenizer = tiny
    assert len(set(greedy(model, chat(tokenizer, prompt)))) >= 40


def test_prompts_get_different_answers(tiny):
    """No two prompts share an answer: a mixed-up conversation shows."""
    model, tokenizer = tiny
    answers = {tuple(greedy(model, chat(tokenizer, prompt), 8)) for prompt in PROMPTS}
    assert len(answers) == len(PROMPTS)


def test_a_flipped_bit_in_the_kv_cache_changes_the_answer(tiny):
    """At least half of the flips of one exponent bit of one cached key or value show."""
    model, tokenizer = tiny
    dice = random.Random(7)
    prompts = [chat(tokenizer, prompt) for prompt in PROMPTS]
    expected = [greedy(model, ids[-1:], cache=filled_cache(model, ids[:-1])) for ids in prompts]
    flips, changed = 126, 0
    for number in range(flips):
        ids = prompts[number % len(prompts)]
        cache = filled_cache(model, ids[:-1])
        flip_exponent_bit(cache, dice)
        changed += greedy(model, ids[-1:], cache=cache) != expected[number % len(prompts)]
    assert changed >= flips / 2


def flip_exponent_bit(cache, dice: random.Random) -> None:
    layer, name = dice.choice(cache), dice.choice(["keys", "values"])
    values = np.array(getattr(layer, name))
    _, heads, capacity, width = values.shape
    position = dice.randrange(min(layer.offset, capacity))
    place = (0, dice.randrange(heads), position, dice.randrange(width))
    values.view(np.uint32)[place] ^= np.uint32(1 << dice.randrange(23, 31))
    setattr(layer, name, mx.array(values))


def test_an_untouched_cache_gives_the_same_answer(tiny):
    """What the flips are compared with does not vary by itself."""
    model, tokenizer = tiny
    prompt = chat(tokenizer, PROMPTS[0])
    caches = [filled_cache(model, prompt[:-1]) for _ in range(3)]
    assert len({tuple(greedy(model, prompt[-1:], cache=cache)) for cache in caches}) == 1


def test_caches_of_the_variants():
    """The sliding variant has a rotating cache before a plain one, the other plain ones only."""
    kinds = {
        variant: [
            type(cache) for cache in make_prompt_cache(load(str(tiny_model_path(variant)))[0])
        ]
        for variant in RECIPES
    }
    assert kinds == {"plain": [KVCache, KVCache], "sliding": [RotatingKVCache, KVCache]}


def test_the_window_slides():
    """A prompt past the window leaves only the window's tokens in the rotating cache."""
    model, tokenizer = load(str(tiny_model_path("sliding")))
    cache = make_prompt_cache(model)
    greedy(model, chat(tokenizer, "word " * 100), 8, cache)
    assert cache[0].keys.shape[2] <= RECIPES["sliding"].sliding_window < cache[1].offset


def test_kv_bytes_per_token(tiny):
    """As the formula says, and small, so that thousands of tokens fit: 512 bytes a layer."""
    model, _ = tiny
    layer = filled_cache(model, list(range(10)))[-1]
    elements = layer.keys[0, :, :1].size + layer.values[0, :, :1].size
    recipe = RECIPES["plain"]
    assert elements == 2 * recipe.kv_heads * recipe.head_dim
    assert elements * layer.keys.itemsize == 512


def test_no_answer_ends_by_itself(tiny):
    """After any prompt all that can be said, at any temperature that is used, is a whole word."""
    model, tokenizer = tiny
    spoken = {f" {word}" for word in words()}
    silent = [t for t in range(len(tokenizer)) if tokenizer.decode([t]) not in spoken]
    assert tokenizer.eos_token_id in silent
    for prompt in PROMPTS:
        (logits,) = model(mx.array(chat(tokenizer, prompt))[None])
        chances = mx.softmax(logits / 2.0, axis=-1)  # temperature 2
        assert float(chances[:, mx.array(silent)].sum(axis=-1).max()) < 1e-3
    answer = greedy(model, chat(tokenizer, PROMPTS[0]), 600)
    assert set(answer).isdisjoint(silent)


def test_every_token_streams_at_once(tiny):
    """The detokenizer holds nothing back: a chunk for every token, all of them readable."""
    model, tokenizer = tiny
    detokenizer = tokenizer.detokenizer
    chunks = []
    for token in greedy(model, chat(tokenizer, PROMPTS[0])):
        detokenizer.add_token(token)
        chunks.append(detokenizer.last_segment)
    assert all(chunk.strip().isalpha() for chunk in chunks)


def test_an_answer_read_back_as_a_prompt_is_the_same_tokens(tiny):
    """A client that sends the answer back hits the cached prefix."""
    model, tokenizer = tiny
    answer = greedy(model, chat(tokenizer, PROMPTS[0]))
    assert tokenizer.encode(tokenizer.decode(answer)) == answer


def test_the_chat_template(tiny):
    """All roles, several turns; one conversation is the beginning of its continuation."""
    _, tokenizer = tiny
    text = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": None},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    )
    first, second = chat(tokenizer, "Hello"), chat(tokenizer, "Hello", "harbour", "More")
    assert second[: len(first)] == first


@pytest.fixture(scope="module")
def server():
    """An ordinary mlx_lm.server on the plain variant."""
    model = str(tiny_model_path())
    command = [sys.executable, "-m", "mlx_lm.server", "--model", model, "--port", "{port}"]
    with ServerProcess(command, ready_path="/health") as process:
        yield process


def post(server, **fields) -> bytes:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32} | fields
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection.getresponse().read()


def test_ten_equal_requests_at_once_get_equal_answers(server):
    """Batching changes no answer at temperature 0, and every answer has its full length."""
    with ThreadPoolExecutor(10) as pool:
        answers = [json.loads(body) for body in pool.map(lambda _: post(server), range(10))]
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert {answer["choices"][0]["finish_reason"] for answer in answers} == {"length"}
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {32}


def test_a_streamed_answer_is_the_unstreamed_one_in_a_chunk_per_token(server):
    """Inter-token latency can be read from the chunks."""
    whole = json.loads(post(server))["choices"][0]["message"]["content"]
    lines = post(server, stream=True).split(b"\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    chunks = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(chunks) == whole
    assert len([chunk for chunk in chunks if chunk]) == 32


def test_a_logit_bias_can_still_end_an_answer(server):
    """The end of the turn is unlikely, not impossible: tests of the finish reason need it."""
    _, tokenizer = load(str(tiny_model_path()))
    answer = json.loads(post(server, logit_bias={tokenizer.eos_token_id: 100}))
    assert answer["choices"][0]["finish_reason"] == "stop"
