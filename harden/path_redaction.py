"""Finds file paths in running text and puts a label of their kind in their place.

POSIX, Windows, UNC, file-URL, home (``~``, ``$HOME``) and relative paths are known; paths in
quotes may hold blanks, and a bare path is followed over blanks where what comes after looks like
the rest of it. The text is read once, word by word, so the time is linear in its length.
"""

from __future__ import annotations

import re

__all__ = ["redact_paths"]

_MOST_WORDS_IN_A_NAME = 5
_TWO_FOLDERS = 2

_ROUTES = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/completions",
        "/chat/completions",
        "/models",
        "/v1",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/metrics",
        "/v1/models",
        "/v1/responses",
    }
)

_FILE_ENDING = (
    r"\.(?:bin|c|cfg|conf|cpp|css|csv|db|dylib|gguf|gz|h|html|ini|ipynb|jinja|js|json|jsonl|key|"
    r"lock|log|md|metal|mlx|mm|model|npy|npz|onnx|parquet|pem|plist|png|pt|pth|py|pyc|safetensors|"
    r"sh|so|sock|sqlite|tar|tmp|toml|ts|txt|whl|yaml|yml|zip)"
)
_ENDS_LIKE_A_FILE = re.compile(rf"{_FILE_ENDING}(?::\d{{1,9}}){{0,3}}$", re.IGNORECASE)

# Only ASCII blanks part words: macOS puts others (U+202F) into the names of its screenshots.
_WORD = re.compile(r"""(?:[^ \t\r\n\f\v"'`]|(?<=\w)'(?=\w))+""")
_NEXT_WORD = re.compile(r""" ((?:[^ \t\r\n\f\v"'`]|(?<=\w)'(?=\w)){1,255})""")
_SEPARATOR = re.compile(r"[/\\]+")
_HEX_ESCAPE = re.compile(r"(?<!\\)\\++(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", re.IGNORECASE)
_LINE_NUMBERS = re.compile(r"(?::\d{1,9}){1,3}:?$")
_PUNCTUATION = ".,;:!?)]}>*|"
_LONGEST_ENDING = 40

_BEGINS_A_PATH = r"""
    (?i:\bfile:(?=[/\\.~%\w]))              # file:///x, file:/x
  | [A-Za-z]:\\                             # C:\x, wherever it stands
  | (?<![A-Za-z0-9])[A-Za-z]:/(?!/)         # C:/x
  | (?<!\\)\\\\++(?=[\w.$?])                # \\server\share
  | (?<![\w.~%$)}\]/\\-])                   # not in the middle of a word:
    (?: ~[\w.-]{0,64} | \.{1,2} | \$\{?\w{1,64}\}? | %\w{1,64}% )?
    [/\\](?=[^\s/\\]|[/\\][^\s/\\]|\.)      # /x, ./x, ../x, ~/x, $HOME/x, %TEMP%\x
"""
_START = re.compile(_BEGINS_A_PATH, re.VERBOSE)
_QUOTED = re.compile(
    rf"""(?<!\w)(?P<quote>["'`])(?P<path>(?:{_BEGINS_A_PATH})(?:(?!(?P=quote))[^\r\n])*)(?P=quote)""",
    re.VERBOSE,
)
_WEB_ADDRESS = re.compile(r"(?:https?|wss?)://[^/?#\\]+[^?#]*", re.IGNORECASE)
_OTHER_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://")
_CLOSING_TAG = re.compile(r"/\w*>")

_ORDINARY = re.compile(
    r"""
    and/or | either/or | n/a | i/o | w/o? | s?he/s?he | yes/no | true/false | on/off | in/out
  | read/write | input/output | client/server | request/response | start/stop | up/down | tcp/ip
  | [\w.%-]+/(?:s|sec|second|min|minute|h|hour|ms|us|day|token|tokens|request|requests)
  | [\d.,]+(?:/[\d.,]+)+                              # fractions, dates
  | (?:application|audio|font|image|multipart|text|video)/[\w.+*-]+
  | \*/\*
  | [\w.-]+/v?\d[\w.+-]*                              # name/version
""",
    re.VERBOSE | re.IGNORECASE,
)
_PER_UNIT = re.compile(
    r"/(?:s|sec|second|min|minute|h|hour|ms|us|day|token|request)", re.IGNORECASE
)

_NAMES_A_CACHE = re.compile(r"cache", re.IGNORECASE)
_NAMES_A_MODEL = re.compile(
    r"model|weights|checkpoint|tokenizer|snapshots|\.safetensors|\.gguf", re.IGNORECASE
)


def redact_paths(text: str) -> str:
    """Replace each file path by ``<cache path>``, ``<model path>`` or ``<path>``.

    Args:
        text: anything; API routes such as ``/v1/models``, web addresses, fractions, units and
            MIME types stay.
    """
    if not _SEPARATOR.search(text):
        return text
    text = _QUOTED.sub(_redact_quoted, text)
    pieces: list[str] = []
    position = 0
    while word := _WORD.search(text, position):
        pieces.append(text[position : word.start()])
        replacement, position = _redact_word(text, word)
        pieces.append(replacement)
    return "".join([*pieces, text[position:]])


def _redact_quoted(quoted: re.Match[str]) -> str:
    quote, path = quoted["quote"], quoted["path"]
    if _is_route(path.split(" ")[0]) or _CLOSING_TAG.match(path):
        return quoted[0]
    return f"{quote}{_label(path)}{quote}"


def _redact_word(text: str, word: re.Match[str]) -> tuple[str, int]:
    """Return what takes the word's place and where reading goes on."""
    start = _path_start(word[0])
    if start is None:
        return word[0], word.end()
    end = word.start() + len(_without_tail(word[0]))
    if end == word.end():
        end = _follow_over_blanks(text, word.start() + start, end)
    path = text[word.start() + start : end]
    kept_tail = text[end : max(end, word.end())]
    return f"{word[0][:start]}{_label(path)}{kept_tail}", max(end, word.end())


def _without_tail(word: str) -> str:
    """Cut what follows a path without a blank: punctuation and line numbers."""
    bare = word.rstrip(_PUNCTUATION)
    numbers = _LINE_NUMBERS.search(word, max(0, len(bare) - _LONGEST_ENDING), len(bare))
    return bare[: numbers.start()] if numbers else bare


def _ends_like_a_file(path: str) -> bool:
    return bool(_ENDS_LIKE_A_FILE.search(path[-_LONGEST_ENDING:]))


def _path_start(word: str) -> int | None:
    """Where in a word a path begins; None if it holds none."""
    if ("/" not in word and "\\" not in word) or _is_ordinary(word.rstrip(",;.:!?")):
        return None
    begin = 0
    address = _WEB_ADDRESS.search(word)
    if address:
        if (before := _path_start(word[: address.start()])) is not None:
            return before
        begin = address.end()
    elif other := _OTHER_ADDRESS.search(word):
        return other.start()
    found = _START.search(word, begin)
    if found and _is_harmless(word, found.start()):
        # A route, a unit or a tag; what follows it may still hold a path.
        found = _START.search(word, found.end())
        return found.start() if found else None
    if found:
        return found.start()
    return None if address else _relative_start(word)


def _is_harmless(word: str, start: int) -> bool:
    rest = word[start:]
    if word[:start].endswith("<") and _CLOSING_TAG.match(rest):
        return True
    bare = rest.split("?", 1)[0].rstrip(_PUNCTUATION)
    return _is_route(bare) or bool(_PER_UNIT.fullmatch(bare))


def _relative_start(word: str) -> int | None:
    """Where a path without an anchor begins: several folders deep, or ending like a file."""
    bare = word.rstrip(_PUNCTUATION)
    start = max(bare.rfind(mark, 0, _first_separator(bare)) for mark in "=:([{,;|<>&") + 1
    path = bare[start:]
    if _is_ordinary(path):
        return None
    depth = len(_SEPARATOR.findall(_HEX_ESCAPE.sub("", path).strip("/\\")))
    if depth >= _TWO_FOLDERS or (depth and _ends_like_a_file(path)):
        return start
    return None


def _first_separator(word: str) -> int:
    found = _SEPARATOR.search(word)
    return found.start() if found else len(word)


def _follow_over_blanks(text: str, start: int, end: int) -> int:
    """Return where a path that may hold blanks ends."""
    while not _ends_like_a_file(text[max(start, end - _LONGEST_ENDING) : end]):
        further = _next_part(text, end)
        if further == end:
            return end
        end = further
    return end


def _next_part(text: str, end: int) -> int:
    """Return the end of the words after a path that belong to it, or the path's own end."""
    position = end
    capitals = True
    for count in range(_MOST_WORDS_IN_A_NAME):
        following = _NEXT_WORD.match(text, position)
        if following is None:
            return end
        word = following[1].rstrip(_PUNCTUATION)
        capitals = capitals and (count == 0 or not word[:1].islower())
        if _SEPARATOR.search(word):
            return following.start() + 1 + len(word) if _continues(word, near=count == 0) else end
        if _ends_like_a_file(word) and capitals:
            return following.start() + 1 + len(word)
        if not word or word != following[1]:
            return end
        capitals = capitals and not word[0].islower()
        position = following.end()
    return end


def _continues(word: str, *, near: bool) -> bool:
    if _START.search(word) or _OTHER_ADDRESS.search(word) or _is_ordinary(word):
        return False
    return near or _relative_start(word) is not None


def _is_ordinary(word: str) -> bool:
    return bool(_ORDINARY.fullmatch(word)) and not _ends_like_a_file(word)


def _is_route(text: str) -> bool:
    return text.split("?", 1)[0].rstrip("/.,;:") in _ROUTES


def _label(path: str) -> str:
    if _NAMES_A_CACHE.search(path):
        return "<cache path>"
    return "<model path>" if _NAMES_A_MODEL.search(path) else "<path>"
