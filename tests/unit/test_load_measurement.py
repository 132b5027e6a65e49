"""harden.load.measurement: what counts as a token, and when."""

from __future__ import annotations

import json
import unittest

from hypothesis import given
from hypothesis import strategies as st

from harden.load.measurement import StreamMeasurement, Usage, error_of, finish_reason_of, usage_of
from harden.sse import format_comment, format_event


def chunk(delta: dict | None = None, **fields) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    return format_event(json.dumps({"choices": choices, **fields}))


def measure(*pieces: tuple[float, bytes]) -> StreamMeasurement:
    measurement = StreamMeasurement()
    for time_s, piece in pieces:
        measurement.feed(piece, time_s)
    return measurement


USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}


class TestTimes(unittest.TestCase):
    def test_comments_roles_and_empty_texts_are_no_tokens(self):
        """TTFT is the first event with content, not the first sign of life."""
        found = measure(
            (1.0, format_comment("keepalive 1/9")),
            (2.0, chunk({"role": "assistant"})),
            (3.0, chunk({"role": "assistant", "content": ""})),
            (4.0, chunk({"content": None})),
            (5.0, chunk({"content": "a"})),
        )
        self.assertEqual(found.first_token_s, 5.0)

    def test_every_kind_of_content_counts(self):
        """Text, reasoning under either name, a tool call, and a text completion's text."""
        for delta in (
            {"content": "a"},
            {"reasoning": "a"},
            {"reasoning_content": "a"},
            {"tool_calls": [{"index": 0}]},
        ):
            self.assertEqual(measure((1.0, chunk(delta))).first_token_s, 1.0, delta)
        text = format_event(json.dumps({"choices": [{"text": "a"}]}))
        self.assertEqual(measure((1.0, text)).first_token_s, 1.0)

    def test_inter_token_latency_is_by_usage_not_by_chunk(self):
        """Three tokens in two chunks are two intervals."""
        found = measure(
            (1.0, chunk({"content": "a"})),
            (2.0, chunk({"content": "b c"})),
            (9.0, chunk(**USAGE)),
        )
        self.assertEqual(found.inter_token_s(), 0.5)

    def test_inter_token_latency_needs_two_tokens_and_usage(self):
        """Otherwise there is no figure, rather than a zero."""
        self.assertIsNone(measure((1.0, chunk({"content": "a"}))).inter_token_s())
        one = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        self.assertIsNone(measure((1.0, chunk({"content": "a"}, **one))).inter_token_s())
        self.assertIsNone(measure((1.0, chunk(**USAGE))).inter_token_s())

    @given(st.lists(st.integers(0, 400), max_size=10))
    def test_cuts_move_times_but_not_facts(self, places: list[int]):
        """However the network cuts a stream, usage, end and finish reason are the same."""
        stream = (
            format_comment("x")
            + chunk({"role": "assistant"})
            + chunk({"content": "é"})
            + format_event('{"choices": [{"delta": {}, "finish_reason": "stop"}]}')
            + chunk(**USAGE)
            + format_event("[DONE]")
        )
        edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
        found = measure(
            *((float(n), stream[a:b]) for n, (a, b) in enumerate(zip(edges, edges[1:])))  # noqa: B905, RUF007 - pairs
        )
        self.assertEqual(found.usage, Usage(7, 3))
        self.assertEqual(found.finish_reason, "stop")
        self.assertTrue(found.done)
        self.assertIsNone(found.error)
        self.assertIsNotNone(found.first_token_s)


class TestEnds(unittest.TestCase):
    def test_done_is_seen(self):
        """Only the marker says that a stream is whole."""
        self.assertFalse(measure((1.0, chunk({"content": "a"}))).done)
        self.assertTrue(measure((1.0, format_event("[DONE]"))).done)

    def test_terminal_error(self):
        """An event of type error, or with an error object, is the stream's error."""
        typed = format_event('{"message": "gone"}', "error")
        self.assertEqual(measure((1.0, typed)).error, "gone")
        body = format_event('{"error": {"message": "worker died", "code": 500}}')
        self.assertEqual(measure((1.0, body), (2.0, typed)).error, "worker died")

    def test_garbage_is_an_error(self):
        """An event that is not a JSON object is no token."""
        for data in ("hello", "[1]", "5", '{"choices"'):
            found = measure((1.0, format_event(data)))
            self.assertIn("not a JSON object", found.error or "", data)
            self.assertIsNone(found.first_token_s)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["choices", "delta", "usage", "content", "error", "text"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    def test_any_json_is_survived(self, value):
        """No server's answer makes the measurement raise."""
        measure((1.0, format_event(json.dumps(value))))


class TestReading(unittest.TestCase):
    def test_usage(self):
        """Both counts, or nothing."""
        self.assertEqual(usage_of(USAGE), Usage(7, 3))
        for broken in ({}, {"usage": None}, {"usage": {"prompt_tokens": 1}}, {"usage": 5}):
            self.assertIsNone(usage_of(broken))

    def test_finish_reason(self):
        """None while the generation goes on."""
        self.assertEqual(finish_reason_of({"choices": [{"finish_reason": "length"}]}), "length")
        self.assertIsNone(finish_reason_of({"choices": [{"finish_reason": None}]}))
        self.assertIsNone(finish_reason_of({"choices": 5}))

    def test_error_text(self):
        """OpenAI's object, a bare string, or anything; never without end."""
        self.assertEqual(error_of({"error": {"message": "no"}}), "no")
        self.assertEqual(error_of({"error": "no"}), "no")
        self.assertEqual(error_of("no JSON"), "no JSON")
        self.assertEqual(len(error_of({"error": {"message": "x" * 9999}})), 200)


if __name__ == "__main__":
    unittest.main()
