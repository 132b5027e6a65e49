"""Server-sent events: parse them, write them, and cut a stream into its raw events.

The parser follows the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream":
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
Unlike a browser it also reports comments, because servers send them as keep-alives during a
long prefill and whoever measures must see that they are not tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harden.exceptions import HardenError

__all__ = [
    "MAX_EVENT_BYTES",
    "EventTooLargeError",
    "SseEvent",
    "SseParser",
    "event_data",
    "format_comment",
    "format_event",
    "split_events",
]

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Largest event held in memory unless the caller says otherwise, in bytes."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile(r"\r\n|\r|\n")
# Atomic groups: CR LF is one line end, never a CR and then an empty line.
_BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")


class EventTooLargeError(HardenError):
    """An event grew past the limit, so the rest of its stream cannot be read.

    Attributes:
        limit_bytes: the limit that was passed.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"a server-sent event is larger than {limit_bytes} bytes; "
            "the stream is not what it should be, or the limit has to be raised"
        )
        self.limit_bytes = limit_bytes


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One dispatched event, or one comment line.

    Attributes:
        data: the data lines joined by LF; empty for a comment.
        event: the event's type.
        last_event_id: the last ``id`` seen in the stream so far.
        retry_ms: reconnection time that this event asked for, if it did.
        comment: the comment's text after the colon; None for a dispatched event.
    """

    data: str = ""
    event: str = "message"
    last_event_id: str = ""
    retry_ms: int | None = None
    comment: str | None = None


class SseParser:
    """Turns the bytes of one stream into events, however the bytes are cut into chunks."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Start at the beginning of a stream.

        Args:
            max_event_bytes: most bytes that one unfinished event may take.
        """
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[str] = []
        self._held_bytes = 0
        self._event = ""
        self._last_event_id = ""
        self._retry_ms: int | None = None
        self._first_line = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events and comments that they complete.

        An event that the stream's end cuts off is never returned, as the standard says.

        Args:
            chunk: any number of bytes, cut anywhere.

        Returns:
            The events in the order in which they came; often none.

        Raises:
            EventTooLargeError: an unfinished event takes more than the limit.
        """
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        events: list[SseEvent] = []
        for piece in chunk.splitlines(keepends=True):
            content = piece.rstrip(b"\r\n")
            self._line += content
            if self._held_bytes + len(self._line) > self._max_event_bytes:
                raise EventTooLargeError(self._max_event_bytes)
            if len(content) < len(piece):
                events.extend(self._end_line())
        if chunk:
            self._after_cr = chunk.endswith(b"\r")
        return events

    def _end_line(self) -> list[SseEvent]:
        raw = bytes(self._line)
        self._line.clear()
        if self._first_line:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
            self._first_line = False
        if not raw:
            return self._dispatch()
        line = raw.decode("utf-8", errors="replace")
        if line.startswith(":"):
            comment = line[1:].removeprefix(" ")
            return [SseEvent(last_event_id=self._last_event_id, comment=comment)]
        name, _, value = line.partition(":")
        self._take_field(name, value.removeprefix(" "), len(raw))
        return []

    def _take_field(self, name: str, value: str, size_bytes: int) -> None:
        if name == "data":
            self._data.append(value)
            self._held_bytes += size_bytes
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._last_event_id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self._retry_ms = int(value[:18])

    def _dispatch(self) -> list[SseEvent]:
        events = []
        if self._data:
            event = SseEvent(
                data="\n".join(self._data),
                event=self._event or "message",
                last_event_id=self._last_event_id,
                retry_ms=self._retry_ms,
            )
            events.append(event)
        self._data = []
        self._held_bytes = 0
        self._event = ""
        self._retry_ms = None
        return events


def split_events(
    buffer: bytes | bytearray, max_event_bytes: int = MAX_EVENT_BYTES
) -> tuple[list[bytes], bytes]:
    """Cut complete raw events off the front of a buffer, unchanged.

    For a proxy: nothing is decoded, and the pieces joined are the buffer again. A block that
    holds only comments or blank lines is a piece too (see ``event_data``).

    Args:
        buffer: what is left of the last call and the bytes that came since.
        max_event_bytes: most bytes that one event may take.

    Returns:
        The events, each with the blank line that ends it, and the unfinished rest.

    Raises:
        EventTooLargeError: an event, or the rest, is larger than the limit.
    """
    events: list[bytes] = []
    start = 0
    for match in _BLANK_LINE.finditer(buffer):
        events.append(bytes(buffer[start : match.end()]))
        start = match.end()
    rest = bytes(buffer[start:])
    if len(rest) > max_event_bytes or any(len(event) > max_event_bytes for event in events):
        raise EventTooLargeError(max_event_bytes)
    return events, rest


def event_data(raw_event: bytes) -> bytes | None:
    """Return the data of one raw event from ``split_events``.

    Args:
        raw_event: one event's bytes.

    Returns:
        Its data lines joined by LF, or None where it has none (comments, blank lines).
    """
    lines = [
        line[5:].removeprefix(b" ")
        for line in raw_event.removeprefix(_BYTE_ORDER_MARK).splitlines()
        if line == b"data" or line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None


def format_event(data: str, event: str | None = None) -> bytes:
    """Write one event.

    Args:
        data: any text; each of its lines becomes a data line, so CR and CRLF arrive as LF.
        event: the event's type; None writes none, which readers take for "message".

    Returns:
        The event's bytes with the blank line that dispatches it.

    Raises:
        ValueError: the type holds a line end, which would forge further fields.
    """
    lines = [f"data: {line}" for line in _LINE_END.split(data)]
    if event is not None:
        if _LINE_END.search(event):
            raise ValueError(f"event type {event!r} holds a line end; use one line")
        lines.insert(0, f"event: {event}")
    return ("\n".join(lines) + "\n\n").encode()


def format_comment(text: str) -> bytes:
    """Write a comment, which readers skip; it keeps an idle connection open.

    Args:
        text: any text; each of its lines becomes a comment line.

    Returns:
        The comment's bytes, ended by a blank line.
    """
    lines = [f": {line}" for line in _LINE_END.split(text)]
    return ("\n".join(lines) + "\n\n").encode()
