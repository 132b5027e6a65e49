"""The gateway's reading of request bodies."""

import json

import pytest

from harden.gateway.call import parse_call
from harden.gateway.refusal import Refusal

PATH = "/v1/chat/completions"


def _call(**fields):
    return parse_call(PATH, json.dumps(fields).encode(), "tiny")


def test_unstreamed_bodies_pass_unchanged():
    """What the gateway need not change reaches the worker byte for byte."""
    raw = b'{"model": "tiny",  "messages": []}'
    assert parse_call(PATH, raw, "tiny").body == raw


def test_streams_always_ask_for_usage():
    """The gateway counts tokens by usage, so it asks for it whether the client did or not."""
    call = _call(stream=True, stream_options={"other": 1})
    assert json.loads(call.body)["stream_options"] == {"other": 1, "include_usage": True}
    assert not call.wants_usage


def test_a_client_that_asks_for_usage_is_remembered():
    """Only a client that asked gets the usage event."""
    assert _call(stream=True, stream_options={"include_usage": True}).wants_usage


def test_null_stream_is_no_stream():
    """OpenAI allows null for an optional field; upstream does not."""
    call = _call(stream=None, stream_options=None)
    assert not call.stream
    assert json.loads(call.body)["stream"] is False


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"\xff\xfe", None),
        (b"{", None),
        (b"[" * 100_000, None),
        (b"5" * 5_000, None),
        (b"[]", None),
        (b'{"stream": "yes"}', "stream"),
        (b'{"stream": true, "stream_options": []}', "stream_options"),
        (b'{"model": 5}', "model"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused_with_the_field(raw, param):
    """A body that is no JSON object, or has a field of the wrong type, is a 400."""
    with pytest.raises(Refusal) as caught:
        parse_call(PATH, raw, "tiny")
    assert (caught.value.answer.status, caught.value.answer.param) == (400, param)


def test_another_model_is_not_found():
    """An unknown model is a 404 that does not repeat what was asked for."""
    with pytest.raises(Refusal) as caught:
        _call(model="/etc/passwd")
    assert caught.value.answer.status == 404
    assert "/etc" not in caught.value.answer.message


def test_a_foreign_backend_decides_about_models_itself():
    """Without a known name every model passes."""
    assert parse_call(PATH, b'{"model": "any"}', None).body == b'{"model": "any"}'
