"""Takes file paths, keys, addresses and private text out of messages and logs.

:func:`redact` is for a text at hand; :class:`RedactionFilter` is for anybody's logging handler.
What is taken out leaves a label of its kind, so that the message keeps its sense. All patterns
work in time linear in the text: none can backtrack over a run that another one may share.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import TYPE_CHECKING

from harden.path_redaction import redact_paths
from harden.private_text import hide_private_text, spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RedactionFilter", "redact"]

_KEY = "<key>"
_SHORTEST_UNKNOWN_KEY = 32
_SHORTEST_KNOWN_KEY = 8

_PRIVATE_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")
_PRIVATE_KEY_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----")
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^\s/?#@\"'<>]++@")

# After these words a value may be a word of the sentence: "the API key: not set".
_WORDS = (
    r"(?:(?:a|an|auth|authentication|authorization|bytes|credentials|false|for|header|headers|in|is|"
    r"invalid|key|missing|must|none|not|null|of|or|required|scheme|str|string|the|to|token|tokens|"
    r"true|unset|was|with|wrong)(?![^\s.,;:!?\"')\]}]))"
)
_VALUE = r"""(?:"[^"\r\n]*+"|'[^'\r\n]*+'|[^\s"'&,;)\]}]++)"""
_BEARER = re.compile(rf"(?i)\b(bearer[ \t]++)(?!{_WORDS})({_VALUE})")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)(\\?[\"']?[ \t]*+[:=][ \t]*+)"
    rf"(?!{_WORDS})(?:\\?[\"'])?(?:(bearer|basic|token|digest|negotiate)[ \t]++)?+"
    r"[^\r\n\"',}\])]*+"
)
_ASSIGNED = re.compile(
    r"""(?ix)
    ( (?<!/)
      (?: api[_-]?key | (?:access|secret|private|signing|encryption|auth)[_-]?key
        | (?:access|auth|api|bearer|refresh|hf|hub|session|id|secret)[_-]?token
        | password | passwd | passphrase | secret | credentials? )
      \\?["']? [ \t]{0,8} [:=] [ \t]{0,8} )
    """
    rf"(?!{_WORDS})(\\?{_VALUE})"
)
_OPTION = re.compile(
    r"(?i)(?<![\w-])(--(?:[a-z]{1,30}-){0,4}(?:api-key|token|password|secret)[ \t]++)"
    rf"(?!{_WORDS})({_VALUE})"
)
_KNOWN_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|rk|pk|gsk|xai|hf|r8|npm|pypi|glpat|gh[oprsu]|github_pat|xox[abeprs])"
    r"[-_](?=[A-Za-z0-9])[\w-]++"
)
_KNOWN_WHEREVER = re.compile(
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}+|ya29\.[\w-]++"
    r"|(?:sk|gh[oprsu]|hf)[-_][A-Za-z0-9]{20,}+"
)
_WEB_TOKEN = re.compile(r"(?<![\w-])((?:(?!eyJ)[\w-])*+)eyJ[\w-]{5,}+\.[\w-]{5,}+(?:\.[\w-]*+)?")
_LONG_RUN = re.compile(rf"[A-Za-z0-9]{{{_SHORTEST_UNKNOWN_KEY},}}+")

_LOCAL_PART = r"\w.!#$%&'*+/=?^`{|}~-"
_E_MAIL = re.compile(
    rf"(?<![{_LOCAL_PART}])[{_LOCAL_PART}]++@(?:[\w-]++\.(?=\w))++[^\W\d_][\w-]++", re.UNICODE
)


def redact(text: str, *, secrets: Iterable[str] = (), private: Iterable[str] = ()) -> str:
    """Replace what must not leave the process by labels of its kind.

    Args:
        text: a message of any length and content.
        secrets: texts that must not appear, as they are or escaped for JSON, Python or a URL:
            configured keys, for instance.
        private: longer texts that must not be quoted, not even in part: prompts, a cache's content.

    Returns:
        The text with ``<key>``, ``<text>``, ``<email>``, ``<path>``, ``<cache path>`` and
        ``<model path>`` in place of keys and tokens, private text, e-mail addresses and file
        paths. API routes, web addresses, units and ordinary words stay.
    """
    text = _redact_known(text, secrets)
    text = hide_private_text(text, private)
    text = _redact_keys(text)
    text = _E_MAIL.sub("<email>", text) if "@" in text else text
    return redact_paths(text)


class RedactionFilter(logging.Filter):
    """A logging filter that redacts messages, arguments, tracebacks and stacks.

    Install it on a handler, which sees the records of every logger:
    ``handler.addFilter(RedactionFilter())``. It never drops a record.
    """

    def __init__(self, *, secrets: Iterable[str] = ()) -> None:
        """Remember the texts that must not appear, as :func:`redact` takes them."""
        super().__init__()
        self._secrets = tuple(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; later handlers see it redacted too."""
        record.msg = redact(_message(record), secrets=self._secrets)
        record.args = None
        if record.exc_info and record.exc_info[1] and not record.exc_text:
            record.exc_text = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        # Formatters print exc_text; one that reads exc_info itself would print the original.
        record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text, secrets=self._secrets)
        if record.stack_info:
            record.stack_info = redact(record.stack_info, secrets=self._secrets)
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong format string must not end the caller
        return f"{record.msg} (arguments do not fit)"


def _redact_known(text: str, secrets: Iterable[str]) -> str:
    wanted = {spelling for secret in secrets if secret for spelling in spellings(secret)}
    for spelling in sorted(wanted, key=len, reverse=True):
        text = text.replace(spelling, _KEY)
    return text


def _redact_keys(text: str) -> str:
    text = _redact_private_key_blocks(text)
    text = _USER_IN_ADDRESS.sub(f"{_KEY}@", text)
    text = _HEADER.sub(_redact_header, text)
    for pattern in (_BEARER, _ASSIGNED, _OPTION):
        text = pattern.sub(_redact_value, text)
    text = _KNOWN_KEY.sub(_unless(_is_a_word), text)
    text = _KNOWN_WHEREVER.sub(_KEY, text)
    text = _WEB_TOKEN.sub(rf"\g<1>{_KEY}", text)
    return _LONG_RUN.sub(_unless(_is_plain_run), text)


def _redact_private_key_blocks(text: str) -> str:
    pieces = []
    position = 0
    while begin := _PRIVATE_KEY_BLOCK.search(text, position):
        end = _PRIVATE_KEY_END.search(text, begin.end())
        pieces += [text[position : begin.start()], _KEY]
        position = end.end() if end else len(text)
    return "".join([*pieces, text[position:]])


def _redact_header(header: re.Match[str]) -> str:
    scheme = f"{header[3]} " if header[3] else ""
    quote_mark = '"' if header[2].rstrip(" \t:=").endswith(('"', "'")) else ""
    return f"{header[1]}{header[2]}{quote_mark}{scheme}{_KEY}"


def _redact_value(found: re.Match[str]) -> str:
    value = found[2].removeprefix("\\")
    quote_mark = value[0] if value[0] in "\"'" and value[-1] == value[0] else ""
    return f"{found[1]}{quote_mark}{_KEY}{quote_mark}"


def _unless(harmless: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
    return lambda found: found[0] if harmless(found[0]) else _KEY


def _is_a_word(candidate: str) -> bool:
    """Tell ``hf_hub_download`` and ``sk-learn`` from keys: those have digits or capitals."""
    body = candidate[3:]
    plain = not any(c.isdigit() or c.isupper() for c in body)
    return len(candidate) < _SHORTEST_KNOWN_KEY or plain


def _is_plain_run(run: str) -> bool:
    """Keys mix digits with small and capital letters; digests and numbers do not."""
    return (
        not any(c.isdigit() for c in run)
        or not any(c.islower() for c in run)
        or not any(c.isupper() for c in run)
    )
