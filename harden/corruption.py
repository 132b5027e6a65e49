"""Tells whole cache entries from damaged ones by their bytes: JSON documents and safetensors.

Every check is linear in the data and takes any bytes. What it cannot see is a flipped bit inside
a value; for that the cache store keeps checksums.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["CorruptionReport", "check_entry", "check_json", "check_safetensors"]

_LENGTH_BYTES = 8
_LARGEST_HEADER_BYTES = 100_000_000
_BITS_PER_BYTE = 8
_ESCAPE_LENGTH = 6
_PARTIAL_VALUE = re.compile(r"(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\.|[eE][+-]?)$")

# https://github.com/huggingface/safetensors: safetensors/src/tensor.rs, Dtype
_BITS_PER_ELEMENT = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class CorruptionReport:
    """What a check found.

    Attributes:
        reason: what is wrong; empty for a whole entry.
    """

    reason: str = ""

    @property
    def corrupted(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.reason)


class _FlawError(ValueError):
    """The bytes are not what the format says; the message says how."""


def check_entry(data: bytes) -> CorruptionReport:
    """Check an entry of either kind, told by how it begins."""
    if not data.strip():
        return CorruptionReport("empty")
    return check_safetensors(data) if _begins_like_safetensors(data) else check_json(data)


def check_json(data: bytes) -> CorruptionReport:
    """Check that the bytes are one JSON document in UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        cut_off = error.end == len(data) and "unexpected end" in error.reason
        kind = "truncated JSON: ends inside a character" if cut_off else "binary data, not JSON"
        return CorruptionReport(kind)
    if "\0" in text:
        return CorruptionReport("binary data, not JSON")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return CorruptionReport(_describe(error, text))
    except RecursionError:
        return CorruptionReport("invalid JSON: nested too deeply")
    except ValueError:
        return CorruptionReport("invalid JSON: a number has too many digits")
    return CorruptionReport()


def check_safetensors(data: bytes) -> CorruptionReport:
    """Check the bytes of a safetensors file as its own reader does.

    Header length, header JSON, names, types, shapes against offsets, holes, overlaps, bytes that
    are missing and bytes too many are checked; the tensors' values are not.
    """
    try:
        _require_whole(data)
    except _FlawError as flaw:
        return CorruptionReport(str(flaw))
    return CorruptionReport()


def _require_whole(data: bytes) -> None:
    if len(data) < _LENGTH_BYTES:
        raise _FlawError("truncated safetensors: shorter than its length field")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > _LARGEST_HEADER_BYTES:
        raise _FlawError(f"safetensors header length {length:,} is impossible")
    if _LENGTH_BYTES + length > len(data):
        raise _FlawError("truncated safetensors: ends inside its header")
    body_bytes = len(data) - _LENGTH_BYTES - length
    end = _end_of_tensors(_parse_header(data[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    if end > body_bytes:
        raise _FlawError(f"truncated safetensors: {body_bytes:,} of {end:,} bytes of tensors")
    if end < body_bytes:
        raise _FlawError(f"safetensors with {body_bytes - end:,} trailing bytes")


def _begins_like_safetensors(data: bytes) -> bool:
    # JSON text, read as a length, would be astronomically long: its high bytes are not zero.
    return data[5:_LENGTH_BYTES] == b"\0\0\0"


def _describe(error: json.JSONDecodeError, text: str) -> str:
    rest = text[error.pos :].strip()
    cut_off = (
        not rest
        or "Unterminated string" in error.msg
        or bool(_PARTIAL_VALUE.match(rest))
        or ("escape" in error.msg and len(rest) < _ESCAPE_LENGTH)
    )
    # Not error.msg's document, which is the entry's content.
    return f"{'truncated' if cut_off else 'invalid'} JSON: {error.msg} at character {error.pos}"


def _parse_header(header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _FlawError("safetensors header does not begin with {")
    try:
        parsed = json.loads(
            header.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise _FlawError("safetensors header is not UTF-8") from None
    except _FlawError:
        raise
    except (ValueError, RecursionError):
        raise _FlawError("safetensors header is not JSON") from None
    _check_metadata(parsed.pop("__metadata__", {}))
    return dict(parsed)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _FlawError("safetensors header holds a name twice")
    return members


def _refuse_constant(constant: str) -> None:
    raise _FlawError(f"safetensors header holds {constant}, which is not JSON")


def _check_metadata(metadata: Any) -> None:
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise _FlawError("safetensors header: __metadata__ does not map text to text")


def _end_of_tensors(header: dict[str, Any]) -> int:
    """Return where the last tensor ends, counted from the end of the header."""
    spans = sorted(_span(entry) for entry in header.values())
    if spans and spans[0][0] != 0:
        raise _FlawError("safetensors header: the first tensor does not begin at 0")
    for (_, end), (begin, _) in pairwise(spans):
        if begin != end:
            kind = "tensors overlap" if begin < end else "a hole between tensors"
            raise _FlawError(f"safetensors header: {kind}")
    return spans[-1][1] if spans else 0


def _span(entry: Any) -> tuple[int, int]:
    """Return where a tensor begins and ends, after holding its shape against it."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _FlawError(
            "safetensors header: a tensor is not described by dtype, shape and data_offsets"
        )
    bits = _BITS_PER_ELEMENT.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if bits is None:
        raise _FlawError("safetensors header: a tensor has an unknown dtype")
    offsets, shape = entry["data_offsets"], entry["shape"]
    if not (_are_sizes(offsets) and _are_sizes(shape) and len(offsets) == 2):  # noqa: PLR2004
        raise _FlawError("safetensors header: a shape or an offset is not a list of sizes")
    begin, end = offsets
    if begin > end or not _fills(shape, bits, end - begin):
        raise _FlawError("safetensors header: a tensor's shape does not fit its offsets")
    return begin, end


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers)


def _fills(shape: list[int], bits: int, size_bytes: int) -> bool:
    wanted_bits = size_bytes * _BITS_PER_BYTE
    if 0 in shape:
        return wanted_bits == 0
    for dimension in shape:
        bits *= dimension
        if bits > wanted_bits:  # and grows no further: a header may hold absurd numbers
            return False
    return bits == wanted_bits
