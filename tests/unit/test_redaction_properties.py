"""Any generated secret, anywhere in any message, is not in what redact returns."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harden.redaction import redact

WORDS = (
    "the", "request", "and/or", "its", "answer", "failed", "after", "1/2", "of", "10", "tokens/s",
    "with", "status", "503", "because", "application/json", "was", "expected;", "POST",
    "/v1/chat/completions", "HTTP/1.1", "took", "12.5", "ms,", "see",
    "http://127.0.0.1:8080/v1/metrics", "org/Llama-3.2-1B-Instruct-4bit",
)  # fmt: skip

words = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
# What can stand directly before and after a secret in a message.
before = st.sampled_from(["", "in ", "in '", 'in "', "at (", "path=", "path: ", "[", "->", "a,"])
after = st.sampled_from(["", ".", ", ", ": ", "' ", '" ', ") ", "] ", "; ", " is gone", "\n"])

letters = string.ascii_letters + string.digits + "_-äß漢"
folder = st.text(letters, min_size=3, max_size=12).map(lambda name: f"q{name}z")
folders = st.lists(folder, min_size=1, max_size=5)
deep = st.lists(folder, min_size=2, max_size=5)


@st.composite
def paths(draw):
    """Return a path of any kind, and the parts of it that must not be read."""
    kind = draw(
        st.sampled_from(["posix", "home", "url", "windows", "escaped", "unc", "dots", "relative"])
    )
    parts = draw(deep if kind in {"relative", "unc"} else folders)
    if kind == "relative":
        parts = [*parts, draw(folder)]
    slashed = "/".join(parts)
    return {
        "posix": f"/{slashed}",
        "home": f"~/{slashed}",
        "url": f"file:///{slashed}",
        "windows": "D:\\" + "\\".join(parts),
        "escaped": "D:\\\\" + "\\\\".join(parts),
        "unc": "\\\\" + "\\".join(parts),
        "dots": f"../../{slashed}",
        "relative": slashed,
    }[kind], parts


secret_body = st.text(string.ascii_letters + string.digits, min_size=24, max_size=60)
random_keys = secret_body.filter(
    lambda s: any(map(str.isdigit, s)) and any(map(str.islower, s)) and any(map(str.isupper, s))
)


@given(words, before, paths(), after, words)
def test_no_part_of_a_path_is_left(start, opening, path, closing, end):
    """Whatever stands around it, a path of any kind goes with all its parts."""
    text, parts = path
    clean = redact(f"{start} {opening}{text}{closing}{end}")
    assert not [part for part in parts if part in clean]


@given(words, folders, words)
def test_a_quoted_path_may_hold_blanks(start, parts, end):
    """Between quotes a path ends where they do."""
    path = "/" + "/".join(f"{part} of mine" for part in parts)
    for quote in "'\"`":
        clean = redact(f"{start} {quote}{path}{quote} {end}")
        assert not [part for part in parts if part in clean]


@given(words, before, random_keys, after, words)
def test_no_key_is_left(start, opening, key, closing, end):
    """Keys are told by their prefix, their header or the name that they are assigned to."""
    for form in (
        "Bearer {}",
        "api_key={}",
        "Authorization: Bearer {}",
        "sk-{}",
        "hf_{}",
        "https://u:{}@h/",
    ):
        clean = redact(f"{start} {opening}{form.format(key)}{closing}{end}")
        assert key not in clean


@given(words, before, st.text(string.ascii_lowercase + string.digits + "._-+", min_size=3), after)
def test_no_e_mail_address_is_left(start, opening, name, closing):
    """The local part and the domain go together."""
    assume(name.strip("._-+"))
    clean = redact(f"{start} {opening}q{name}z@example.com{closing}")
    assert f"{name}z" not in clean
    assert "example.com" not in clean


@given(st.text(), st.text(min_size=8).filter(lambda s: s not in "<key> <path> <email>"), st.text())
def test_a_configured_secret_is_never_left(start, secret, end):
    """A known secret of any characters is hidden, wherever it stands and however it is spelt."""
    for spelling in (secret, repr(secret)[1:-1]):
        assert secret not in redact(f"{start}{spelling}{end}", secrets=[secret])


@given(st.text(), st.text(min_size=15), st.data(), st.text())
def test_no_quotation_of_private_text_is_left(start, private, data, end):
    """Of a prompt no fifteen characters in a row can be read."""
    begin = data.draw(st.integers(0, len(private) - 15))
    quotation = private[begin : data.draw(st.integers(begin + 15, len(private)))]
    assert quotation not in redact(f"{start}{quotation}{end}", private=[private])


@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_ordinary_words_stay(chosen):
    """Routes, units, fractions, MIME types, model names and web addresses are no secrets."""
    text = " ".join(chosen)
    assert redact(text) == text


@given(st.text(alphabet=st.sampled_from("/\\~.:'\"`@=?&<>()[]{}|,; \n\taZ0-_#%$é")))
def test_any_text_is_taken(text):
    """No text makes it raise, and a text without a separator in it stays as it is."""
    redacted = redact(text)
    if not set(text) & set("/\\~@=:"):
        assert redacted == text


@pytest.mark.timing
@pytest.mark.parametrize(
    "unit",
    [
        "/",
        "/a ",
        "\\",
        "'/",
        "a@",
        "a.",
        "eyJ",
        ":1",
        ".",
        "://",
        "api_key=",
        "?=/v1/models",
        "A-",
        "//a://",
        "-----BEGIN ",
    ],
)
def test_time_is_linear_in_the_text(unit):
    """Ten times the text takes about ten times as long, not a hundred times."""

    def seconds(length):
        text = "/a" + unit * (length // len(unit)) + "/b/c"
        started = time.perf_counter()
        redact(text)
        return time.perf_counter() - started

    short = max(min(seconds(20_000) for _ in range(3)), 1e-4)
    assert seconds(200_000) / short < 40
