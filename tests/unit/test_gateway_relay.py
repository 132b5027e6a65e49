"""The gateway's reading of upstream's events."""

import json

import pytest

from harden.gateway.relay import StreamRelay, Usage, read_usage


def _event(**fields):
    return f"data: {json.dumps(fields)}\n\n".encode()


def _delta(content=None, finish_reason=None, **delta):
    if content is not None:
        delta["content"] = content
    return _event(choices=[{"index": 0, "finish_reason": finish_reason, "delta": delta}])


USAGE = _event(
    choices=[],
    usage={
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
    },
)
DONE = b"data: [DONE]\n\n"


def test_events_pass_unchanged_and_end_with_done():
    """Every byte of an answer reaches the client as upstream sent it."""
    relay = StreamRelay(wants_usage=True)
    events = [_delta(role="assistant"), _delta("a"), _delta("b"), _delta(finish_reason="length")]
    assert [relay.take(e) for e in [*events, USAGE, DONE]] == [*events, USAGE, DONE]
    assert relay.done
    assert relay.finish_reason == "length"
    assert relay.usage == Usage(3, 2, 1)


def test_usage_is_kept_from_clients_that_did_not_ask():
    """The usage event that the gateway asked for itself stays with it."""
    relay = StreamRelay(wants_usage=False)
    assert relay.take(USAGE) == b""
    assert relay.usage.generation_tokens == 2


def test_comments_and_role_only_chunks_are_no_tokens():
    """The first token is the first event with content in it."""
    relay = StreamRelay(wants_usage=False)
    relay.take(b": keepalive 1/2\n\n")
    assert not relay.has_events
    relay.take(_delta(role="assistant", content=""))
    assert relay.has_events
    assert not relay.has_content
    relay.take(_delta("x"))
    assert relay.has_content


@pytest.mark.parametrize("key", ["reasoning", "tool_calls"])
def test_reasoning_and_tool_calls_are_content(key):
    """A model that thinks or calls tools first is generating all the same."""
    relay = StreamRelay(wants_usage=False)
    relay.take(_delta(**{key: ["x"]}))
    assert relay.has_content


def test_text_that_mentions_usage_is_passed_on():
    """A token whose text is the word "usage" is no usage event."""
    relay = StreamRelay(wants_usage=False)
    relay.take(_delta("first"))
    event = _delta("usage")
    assert relay.take(event) == event
    assert relay.usage == Usage()


def test_an_error_event_is_kept_back():
    """Upstream's error is told in the gateway's words, so its own is not handed on."""
    relay = StreamRelay(wants_usage=False)
    assert relay.take(_event(error={"code": "generation_lost"})) == b""
    assert relay.error == {"code": "generation_lost"}


@pytest.mark.parametrize(
    "event", [b"data: {\n\n", b"data: 5\n\n", b'data: {"choices": [null]}\n\n', b"\n\n"]
)
def test_what_cannot_be_read_is_passed_on(event):
    """The gateway does not judge what a foreign backend sends."""
    assert StreamRelay(wants_usage=False).take(event) == event


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": True, "completion_tokens": "5"}])
def test_odd_usage_counts_nothing(usage):
    """Only whole numbers are token counts."""
    assert read_usage(usage) == Usage()
