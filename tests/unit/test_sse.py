"""harden.sse against the WHATWG standard, whatever the chunks."""

from __future__ import annotations

import unittest
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harden.sse import (
    EventTooLargeError,
    SseEvent,
    SseParser,
    event_data,
    format_comment,
    format_event,
    split_events,
)

STREAM_PIECES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: \xc3\xa9",
        b": note",
        b":",
        b"event: error",
        b"id: 7",
        b"id: 8\0",
        b"retry: 5",
        b"retry: x",
        b"unknown: y",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
    ]
)
STREAMS = st.lists(STREAM_PIECES, max_size=40).map(b"".join)


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


class TestParser(unittest.TestCase):
    def test_line_ends(self):
        """LF, CR and CRLF end a line alike, also mixed."""
        for end in (b"\n", b"\r", b"\r\n"):
            stream = b"data: a" + end + b"data: b" + end + end
            self.assertEqual([e.data for e in parse(stream)], ["a\nb"], end)
        self.assertEqual([e.data for e in parse(b"data: a\r\n\ndata: b\n\r\n")], ["a", "b"])

    def test_crlf_cut_in_two_is_one_line_end(self):
        """A chunk that ends in CR dispatches at once, and the LF after it is no blank line."""
        parser = SseParser()
        self.assertEqual(parser.feed(b"data: a\r"), [])
        self.assertEqual(parser.feed(b"\n"), [])
        self.assertEqual([e.data for e in parser.feed(b"\r")], ["a"])
        self.assertEqual(parser.feed(b"\ndata: b"), [])
        self.assertEqual([e.data for e in parser.feed(b"\n\n")], ["b"])

    def test_an_empty_chunk_changes_nothing(self):
        """An empty read between CR and LF does not turn them into two line ends."""
        self.assertEqual([e.data for e in parse(b"data: a\r", b"", b"\ndata: b\n\n")], ["a\nb"])

    def test_fields(self):
        """Type, id and retry are read; unknown fields and lines without a colon are skipped."""
        stream = b"event: error\nid: 7\nretry: 30\nfoo: x\nbar\ndata:  two spaces\n\n"
        expected = SseEvent(" two spaces", "error", "7", 30)
        self.assertEqual(parse(stream), [expected])

    def test_fields_end_with_their_event_but_the_id_stays(self):
        """The type and retry are of one event; the last id is of the stream."""
        events = parse(b"event: error\nid: 7\nretry: 3\ndata: a\n\ndata: b\n\n")
        self.assertEqual(events[1], SseEvent("b", "message", "7", None))

    def test_refused_values(self):
        """An id with NUL and a retry that is not ASCII digits are ignored."""
        stream = "id: a\0\nretry: ٣\ndata: x\n\n".encode()
        self.assertEqual(parse(stream), [SseEvent("x")])

    def test_empty_data_is_dispatched_and_no_data_is_not(self):
        """A data line without a value is an event with empty data; a type alone is none."""
        self.assertEqual(parse(b"data\n\n"), [SseEvent("")])
        self.assertEqual(parse(b"event: ping\n\n"), [])

    def test_comments_come_at_once_and_are_no_data(self):
        """A keep-alive is reported when its line ends, before any blank line."""
        parser = SseParser()
        self.assertEqual(parser.feed(b": keepalive 3/11\n"), [SseEvent(comment="keepalive 3/11")])
        self.assertEqual(parser.feed(b"\n"), [])

    def test_byte_order_mark(self):
        """The mark is dropped at the start of the stream, and nowhere else."""
        self.assertEqual([e.data for e in parse(b"\xef\xbb\xbfdata: a\n\n")], ["a"])
        self.assertEqual(parse(b"\n\xef\xbb\xbfdata: a\n\n"), [])

    def test_other_separators_are_text(self):
        """Vertical tab, NEL and U+2028 are no line ends."""
        text = "a\x0bb\x85c\u2028d"
        self.assertEqual([e.data for e in parse(f"data: {text}\n\n".encode())], [text])

    def test_unfinished_event_is_dropped(self):
        """What the end of the stream cuts off is not an event."""
        self.assertEqual(parse(b"data: a\n\ndata: b\n"), [SseEvent("a")])

    def test_size_is_bounded_at_the_byte(self):
        """An event of the limit passes; a byte more is an error, in one line or in many."""
        parser = SseParser(max_event_bytes=20)
        self.assertEqual(len(parser.feed(b"data: 01234567890123\n\n")), 1)
        self.assertEqual(parser.feed(b"data: 01234567890123"), [])
        with self.assertRaises(EventTooLargeError):
            parser.feed(b"4")
        with self.assertRaises(EventTooLargeError):
            SseParser(max_event_bytes=20).feed(b"data: 1234\n" * 3)

    def test_a_long_stream_of_small_events_is_not_too_large(self):
        """The bound is of one event: comments and dispatched events are forgotten."""
        parser = SseParser(max_event_bytes=20)
        self.assertEqual(len(parser.feed(b": note\n" * 50 + b"data: 1\n\n" * 50)), 100)

    @given(STREAMS, st.lists(st.integers(0, 300), max_size=20))
    def test_any_chunking_gives_the_same_events(self, stream: bytes, places: list[int]):
        """Events depend on the bytes, not on how the network cut them."""
        self.assertEqual(parse(*cut(stream, places)), parse(stream))
        self.assertEqual(parse(*(stream[i : i + 1] for i in range(len(stream)))), parse(stream))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_parsed(self, stream: bytes):
        """No bytes make the parser raise."""
        parse(stream)


class TestSplit(unittest.TestCase):
    def test_every_blank_line_ends_an_event(self):
        """The nine pairs of line ends cut; CRLF alone does not."""
        for first in (b"\n", b"\r\n", b"\r"):
            for second in (b"\n", b"\r\n", b"\r"):
                if first + second == b"\r\n":
                    continue
                raw = b"data: a" + first + second
                self.assertEqual(split_events(raw + b"data"), ([raw], b"data"))
        self.assertEqual(split_events(b"data: a\r\n"), ([], b"data: a\r\n"))

    def test_size_is_bounded(self):
        """A whole event or a rest beyond the limit is an error."""
        self.assertEqual(split_events(b"data: 1\n\n", 9), ([b"data: 1\n\n"], b""))
        for buffer in (b"data: 12\n\n", b"data: 1234"):
            with self.assertRaises(EventTooLargeError):
                split_events(buffer, 9)

    @given(STREAMS, st.lists(st.integers(0, 300), max_size=20))
    def test_nothing_is_changed_or_lost(self, stream: bytes, places: list[int]):
        """The pieces joined are the stream, and a client parses the same events from them."""
        pieces: list[bytes] = []
        rest = b""
        for chunk in cut(stream, places):
            events, rest = split_events(rest + chunk)
            pieces.extend(events)
        self.assertEqual(b"".join(pieces) + rest, stream)
        self.assertEqual(parse(*pieces, rest), parse(stream))

    @given(STREAMS)
    def test_data_is_the_parsers(self, stream: bytes):
        """A raw event's data is what the parser makes of it."""
        for raw in split_events(stream)[0]:
            parsed = [event.data for event in parse(raw) if event.comment is None]
            data = event_data(raw)
            found = [] if data is None else [data.decode(errors="replace")]
            self.assertEqual(found, parsed)


class TestFormat(unittest.TestCase):
    def test_bytes(self):
        """The plain form of an OpenAI stream: one data line and a blank line."""
        self.assertEqual(format_event("[DONE]"), b"data: [DONE]\n\n")
        self.assertEqual(format_event("{}", "error"), b"event: error\ndata: {}\n\n")
        self.assertEqual(format_comment("alive"), b": alive\n\n")

    def test_a_type_cannot_forge_fields(self):
        """A line end in the type is refused."""
        with self.assertRaisesRegex(ValueError, "line end"):
            format_event("x", "a\ndata: forged")

    @given(st.text())
    def test_round_trip(self, text: str):
        """Any text comes back, its line ends as LF; as a comment it is never data."""
        normal = text.replace("\r\n", "\n").replace("\r", "\n")
        self.assertEqual([e.data for e in parse(format_event(text))], [normal])
        comments = parse(format_comment(text))
        self.assertEqual("\n".join(e.comment or "" for e in comments), normal)
        self.assertIsNone(event_data(format_comment(text)))


if __name__ == "__main__":
    unittest.main()
