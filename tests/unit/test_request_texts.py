"""Which texts of a request must not be quoted."""

from harden.mlx.refusal import Refusal
from harden.redaction import redact
from harden.request_texts import request_texts


def test_texts_are_found_at_any_depth():
    """Strings, lists, and objects in lists, as chat requests have them."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "my secret plan"}]}]
    assert set(request_texts("a prompt", messages)) == {
        "a prompt",
        "user",
        "text",
        "my secret plan",
    }


def test_what_has_no_text_has_none():
    """Numbers, token lists and short words are nobody's secret."""
    assert not list(request_texts(None, 5, [1, 2, 3], {"a": True}, "abc"))


def test_deep_nesting_is_no_error():
    """A body may be nested as deep as JSON allows."""
    part = "innermost text"
    for _ in range(10_000):
        part = [part]
    assert list(request_texts(part)) == ["innermost text"]


def test_an_error_quotes_nothing_of_its_request():
    """Upstream's words stay, the client's go."""
    error = ValueError("cannot encode 'the quick brown fox jumps': no such token")
    answer = Refusal.of_error(error, private=request_texts("the quick brown fox jumps")).answer
    assert "fox" not in answer.message
    assert "no such token" in answer.message
    assert redact("plain", private=request_texts([])) == "plain"
