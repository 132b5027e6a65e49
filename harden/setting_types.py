"""What a setting is, and how the text of a flag or an environment variable becomes its value.

Each ``parse_…`` function takes text and returns the value, or raises ValueError whose message
names the text and says what was expected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

__all__ = [
    "Parse",
    "Setting",
    "between",
    "number",
    "parse_boolean",
    "parse_duration",
    "parse_json_object",
    "parse_key",
    "parse_names",
    "parse_size",
    "parse_text",
]

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Z]*)", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?", re.ASCII | re.IGNORECASE)

_BYTES_PER = {
    "": 1,
    "B": 1,
    **{prefix: 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
_SECONDS_PER = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_LONGEST_NUMBER = 40

Parse = Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One thing that an operator can choose.

    Attributes:
        flag: the option of the command line; None where the environment alone may hold it (keys).
        help: what it does, one sentence without a full stop.
        group: heading under which ``--help`` lists it.
        parse: text to value; ValueError with a message where the text cannot be one.
        default: the value when nothing is set; a string is parsed, as argparse does.
        unit: what a number counts, for help and messages.
        environment: name of the variable read when the flag is absent.
        choices: the only texts allowed; empty for any.
        switch: a flag without a value.
        upstream: a flag of mlx_lm.server, with its name and default.
    """

    flag: str | None
    help: str
    group: str
    parse: Parse
    default: Any = None
    unit: str = ""
    environment: str | None = None
    choices: tuple[str, ...] = ()
    switch: bool = False
    upstream: bool = False

    @property
    def name(self) -> str:
        """Its attribute in argparse's namespace, or the environment's name."""
        return self.flag.removeprefix("--").replace("-", "_") if self.flag else self.label

    @property
    def label(self) -> str:
        """What an operator calls it: the flag where there is one."""
        return self.flag or self.environment or ""

    @property
    def default_value(self) -> Any:
        """The default after parsing."""
        return self.parse(self.default) if isinstance(self.default, str) else self.default

    def read(self, text: str) -> Any:
        """Parse a value and hold it against the choices.

        Raises:
            ValueError: the message says what was expected.
        """
        value = self.parse(text)
        if self.choices and value not in self.choices:
            raise ValueError(f"{text!r} is none of {', '.join(self.choices)}")
        return value


def parse_text(text: str) -> str:
    """Take any text as it is."""
    return text


def parse_names(text: str) -> list[str]:
    """Split a list at its commas."""
    return text.split(",")


def parse_boolean(text: str) -> bool:
    """Read 1, true, yes or 0, false, no, in any case."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text!r} is not one of 1, true, yes, 0, false, no")
    return value


def between(lowest: int | None, highest: int | None = None) -> Parse:
    """Build a parser of whole numbers in a range, both ends included; None is an open end."""
    wanted = f"a whole number{_range(lowest, highest)}"

    def parse(text: str) -> int:
        refused = ValueError(f"{_shortened(text)!r} is not {wanted}")
        if len(text) > _LONGEST_NUMBER or not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
            raise refused
        value = int(text)
        if (lowest is not None and value < lowest) or (highest is not None and value > highest):
            raise refused
        return value

    return parse


def _range(lowest: int | None, highest: int | None) -> str:
    if lowest is not None and highest is not None:
        return f" from {lowest} to {highest}"
    if lowest is not None:
        return f" of at least {lowest}"
    return "" if highest is None else f" of at most {highest}"


def number(lowest: float, highest: float = math.inf) -> Parse:
    """Build a parser of finite decimal numbers in a range, both ends included."""
    wanted = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"of at least {lowest:g}"

    def parse(text: str) -> float:
        refused = ValueError(f"{_shortened(text)!r} is not a number {wanted}")
        try:
            value = float(text)
        except ValueError:
            raise refused from None
        if not (math.isfinite(value) and lowest <= value <= highest):
            raise refused
        return value

    return parse


def parse_size(text: str) -> int:
    """Read a size in bytes: ``4GB``, ``512MB``, ``1.5GiB`` or plain bytes.

    K, M, G and T count in thousands, as mlx_lm.server reads them; KiB, MiB, … in 1,024s.
    """
    match = _SIZE.fullmatch(text.strip()) if len(text) <= _LONGEST_NUMBER else None
    factor = _BYTES_PER.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{_shortened(text)!r} is not a size such as 4GB, 512MB or 1000000")
    return int(Decimal(match[1]) * factor)


def parse_duration(text: str) -> float:
    """Read a time in seconds: ``90``, ``1.5h``, ``10m``, ``30s`` or ``250ms``; more than none."""
    match = _DURATION.fullmatch(text.strip()) if len(text) <= _LONGEST_NUMBER else None
    seconds = float(match[1]) * _SECONDS_PER[(match[2] or "").lower()] if match else 0.0
    if seconds <= 0:
        raise ValueError(f"{_shortened(text)!r} is not a time such as 90, 30s, 10m or 2h")
    return seconds


def parse_json_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    refused = ValueError(f"{_shortened(text)!r} is not a JSON object such as '{{\"key\": true}}'")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise refused from None
    if not isinstance(value, dict):
        raise refused
    return value


def parse_key(text: str) -> str:
    """Take a secret that can travel in an HTTP header; the message never repeats it."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("the key holds a blank or a character outside ASCII")
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NUMBER else f"{text[:_LONGEST_NUMBER]}…"
