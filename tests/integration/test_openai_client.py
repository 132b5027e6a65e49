"""The official openai client on `harden serve`."""

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Tell me a story"}]


@pytest.fixture
def client(mlx_server):
    with openai.OpenAI(
        base_url=f"{mlx_server.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def test_chat(client):
    """A chat completion with usage."""
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 12


def test_streamed_chat_with_usage(client):
    """A streamed chat whose last chunk is the usage that was asked for."""
    stream = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [12]


def test_text_completion(client):
    """A text completion."""
    answer = client.completions.create(model="tiny", prompt="Once", max_tokens=5)
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"


def test_models(client):
    """The model list, and one model of it."""
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_an_error_that_it_parses(client):
    """An unknown model is the client's NotFoundError, with code and param."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=MESSAGES)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
