"""harden.redaction: nothing private leaves in a message, and the message keeps its sense."""

from __future__ import annotations

import io
import logging
import sys
import unittest

from harden.redaction import RedactionFilter, redact

PROMPT = "Summarise the merger talks between the two companies"


class Case(unittest.TestCase):
    def assert_redacted(self, cases):
        for text, expected in cases:
            with self.subTest(text):
                self.assertEqual(redact(text), expected)
                self.assertEqual(redact(expected), expected, "once more changes nothing")


class TestPaths(Case):
    def test_every_kind_of_path_becomes_a_label(self):
        """POSIX, Windows, UNC, file URL, home, variable and relative paths are known."""
        for path in (
            "/Users/jane/x",
            "/secret",
            "//nas/share/x",
            r"C:\Users\jane\x",
            "C:/Users/jane/x",
            r"C:\\Users\\jane\\x",
            r"\\nas\share\x",
            r"\\\\nas\\share\\x",
            "file:///Users/jane/x",
            "file:/Users/jane",
            "file://localhost/x",
            "FILE:C:/x",
            "../../etc/passwd",
            "./jane",
            r"..\jane\x",
            "~/jane",
            "~jane/x",
            "$HOME/jane",
            "${HOME}/jane",
            r"%APPDATA%\jane",
            "runs/jane/x",
            "jane/x.safetensors.txt",
            "sqlite:///jane.db",
            "http:///Users/jane/x",
        ):
            with self.subTest(path):
                clean = redact(f"cannot open {path}: denied")
                self.assertIn(
                    clean, {"cannot open <path>: denied", "cannot open <model path>: denied"}
                )

    def test_labels_keep_the_sense(self):
        """A reader still sees whether a cache or a model is concerned."""
        self.assert_redacted(
            [
                ("no /a/cache/b", "no <cache path>"),
                ("no ~/.cache/huggingface/hub", "no <cache path>"),
                ("no /a/models/b", "no <model path>"),
                ("no /a/b.safetensors", "no <model path>"),
                ("no /a/b.gguf here", "no <model path> here"),
                ("no /a/b", "no <path>"),
            ]
        )

    def test_the_whole_path_goes_and_nothing_else(self):
        """Punctuation, quotes and line numbers around a path stay."""
        self.assert_redacted(
            [
                ("(/a/b), [/a/b]; {/a/b}.", "(<path>), [<path>]; {<path>}."),
                ("x=/a/b", "x=<path>"),
                ("/a/b.py:12: Warning", "<path>:12: Warning"),
                ('  File "/a/b.py", line 3, in f', '  File "<path>", line 3, in f'),
                ('{"error": "/a/b", "n": 1}', '{"error": "<path>", "n": 1}'),
                ("/a/b and /c/d", "<path> and <path>"),
                ("/models/x has no config.json", "<model path> has no config.json"),
            ]
        )

    def test_paths_with_blanks(self):
        """Quoted paths end at their quote; bare ones go on where the rest looks like a path."""
        self.assert_redacted(
            [
                ("'/Users/jane doe/My Notes' gone", "'<path>' gone"),
                ('"/Users/o\'brien/x y" gone', '"<path>" gone'),
                ("/Users/o'brien/x gone", "<path> gone"),
                (r"C:\Program Files\Jane Doe\x.txt gone", "<path> gone"),
                ("/a/Application Support/x gone", "<path> gone"),
                ("/a/My Very Secret Diary/jane.txt gone", "<path> gone"),
                ("/a/My Secret.txt gone", "<path> gone"),
                ("/a/Shot 1.00\u202fPM.png gone", "<path> gone"),
            ]
        )

    def test_ordinary_words_stay(self):
        """Slashes are not only for paths."""
        for text in (
            "and/or, either/or, n/a, w/o, read/write: 12 tokens/s at 1.5 GB/s and 5 /s",
            "1/2 of 10 on 2026/11/23",
            "application/json; charset=utf-8 or text/event-stream, */*",
            "POST /v1/chat/completions HTTP/1.1 -> 200",
            "'/v1/models' and /health, /ready; GET /v1/metrics?category=cache,latency",
            "see http://127.0.0.1:8080/v1/metrics or https://huggingface.co/org/model",
            "mlx-community/Llama-3.2-1B-Instruct-4bit by mlx-lm/0.32.2",
            "</think> <br/> </s>",
            r"caf\u00e9 and a\nb",
            "a / b",
        ):
            with self.subTest(text):
                self.assertEqual(redact(text), text)

    def test_a_route_does_not_shield_a_path(self):
        """What follows a route is looked at too."""
        self.assert_redacted(
            [
                ("GET /v1/metrics?x=/etc/passwd", "GET /v1/metrics?x=<path>"),
                ("'/v1/models /etc/passwd'", "'/v1/models <path>'"),
                ("https://host/x?file=/etc/passwd", "https://host/x?file=<path>"),
                ("GET /v1/secret", "GET <path>"),
            ]
        )


class TestKeysAndAddresses(Case):
    def test_keys_by_their_place(self):
        """Headers, assignments, options and addresses hold keys, whatever these look like."""
        self.assert_redacted(
            [
                ("Authorization: Bearer abc.def", "Authorization: Bearer <key>"),
                ("{'authorization': 'Basic amFuZQ=='}", "{'authorization': \"Basic <key>'}"),
                ('{"X-Api-Key": "abc", "n": 1}', '{"X-Api-Key": "<key>", "n": 1}'),
                ("Cookie: session=1; x=2", "Cookie: <key>"),
                ("sent bearer hunter2 twice", "sent bearer <key> twice"),
                ("HARDEN_API_KEY=hunter2 set", "HARDEN_API_KEY=<key> set"),
                ("?api_key=hunter2&x=1", "?api_key=<key>&x=1"),
                ('"password": "two words"', '"password": "<key>"'),
                ("HF_TOKEN: hunter2", "HF_TOKEN: <key>"),
                ("--api-key hunter2 --port 1", "--api-key <key> --port 1"),
                ("https://jane:hunter2@host/x", "https://<key>@host/x"),
            ]
        )

    def test_keys_by_their_looks(self):
        """Known prefixes, web tokens, key files and long mixed runs are keys anywhere."""
        self.assert_redacted(
            [
                ("got sk-abc123def456", "got <key>"),
                ("got hf_aBcDeFgHiJ", "got <key>"),
                ("got xsk-abcdefghij0123456789", "got x<key>"),
                ("got AKIAABCDEFGHIJKLMNOP.", "got <key>."),
                ("got eyJhbGciOi.eyJzdWIiOi.c2ln!", "got <key>!"),
                ("got aB3" + "x" * 29, "got <key>"),
                (
                    "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY----- ok",
                    "<key> ok",
                ),
                ("-----BEGIN PRIVATE KEY-----\nno end", "<key>"),
            ]
        )

    def test_what_only_looks_like_a_key_stays(self):
        """Identifiers, digests and sentences about keys are needed to find a fault."""
        for text in (
            "HARDEN_API_KEY is not set; HARDEN_API_KEY: not set; password: required",
            "missing bearer token, bearer is required",
            "eos_token=2, stop token: x, max_tokens=5, cache_key=abc",
            "hf_hub_download, sk-learn, risk-free, task-force",
            "request 123e4567-e89b-12d3-a456-426614174000",
            "sha256 " + "9f86d081" * 8,
        ):
            with self.subTest(text):
                self.assertEqual(redact(text), text)

    def test_e_mail_addresses(self):
        """An address is a person."""
        self.assert_redacted(
            [
                ("mail jane.doe+x@mail.example.co.uk now", "mail <email> now"),
                ("<jane@example.com>", "<<email>>"),
                ("jürgen@müller.de", "<email>"),
                ("mlx@0.32 and @pytest.fixture", "mlx@0.32 and @pytest.fixture"),
            ]
        )


class TestKnownTexts(unittest.TestCase):
    def test_secrets_go_in_every_spelling(self):
        """A configured key is hidden also where it was escaped for JSON, Python or a URL."""
        secret = 'pä"ss/wö\nrd'
        text = " ".join(
            [secret, repr(secret), r"p\u00e4\"ss/w\u00f6\nrd", "p%C3%A4%22ss%2Fw%C3%B6%0Ard"]
        )
        clean = redact(text, secrets=[secret, ""])
        self.assertEqual(clean, "<key> '<key>' <key> <key>")

    def test_quotations_of_a_prompt_go(self):
        """A part is enough to tell what somebody asked; what any two texts share stays."""
        text = f"cannot parse {PROMPT[5:40]!r}: the two of them"
        clean = redact(text, private=[PROMPT])
        self.assertEqual(clean, "cannot parse '<text>': the two of them")
        self.assertEqual(redact("the two talks", private=[PROMPT]), "the two talks")
        self.assertEqual(redact(PROMPT, private=[PROMPT, "x"]), "<text>")

    def test_a_short_prompt_goes_as_a_whole_word(self):
        """`hi` is hidden, `this` stays; a blank hides nothing."""
        self.assertEqual(
            redact("hi in this: 'hi'", private=["hi", " "]), "<text> in this: '<text>'"
        )


def fail(message):
    raise OSError(message)


class TestRedactionFilter(unittest.TestCase):
    def setUp(self):
        self.stream = io.StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.addFilter(RedactionFilter(secrets=["hunter2"]))
        self.logger = logging.Logger("test")  # noqa: LOG001 - private to this test
        self.logger.addHandler(handler)

    def test_message_and_arguments(self):
        """Arguments are part of the message; a record is never dropped."""
        self.logger.error("cannot open %s with %s", "/etc/passwd", "hunter2")
        self.assertEqual(self.stream.getvalue(), "cannot open <path> with <key>\n")

    def test_traceback_and_stack(self):
        """Paths of source files and the exception's own text are redacted."""
        try:
            fail("no /etc/passwd")
        except OSError:
            self.logger.exception("failed", stack_info=True)
        written = self.stream.getvalue()
        self.assertIn('File "<path>", line', written)
        self.assertIn("OSError: no <path>", written)
        self.assertIn("Stack (most recent call last)", written)
        self.assertNotIn("test_redaction.py", written)

    def test_a_formatter_that_reads_exc_info_finds_none(self):
        """JSON formatters print the exception by themselves: nothing raw may be left to them."""
        try:
            fail("/etc/passwd")
        except OSError:
            record = logging.LogRecord("n", logging.ERROR, "f", 1, "m", None, sys.exc_info())
        self.assertTrue(RedactionFilter().filter(record))
        self.assertIsNone(record.exc_info)
        self.assertIn("<path>", record.exc_text)
        self.assertTrue(RedactionFilter().filter(record))

    def test_arguments_that_do_not_fit_are_no_crash(self):
        """Logging must not end a request."""
        self.logger.error("%d of /etc/passwd", "x")
        self.assertEqual(self.stream.getvalue(), "%d of <path> (arguments do not fit)\n")


if __name__ == "__main__":
    unittest.main()
