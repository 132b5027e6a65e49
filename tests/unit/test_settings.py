"""harden.settings: one table, read the same way by argparse, the environment and the worker."""

from __future__ import annotations

import argparse
import contextlib
import io
import unittest
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harden.setting_types import between, number, parse_json_object, parse_key
from harden.settings import (
    SETTINGS,
    add_arguments,
    parse_boolean,
    parse_duration,
    parse_size,
    readable_environment,
    worker_arguments,
)

WITH_OTHER_VALUES = [
    "--adapter-path=adapters",
    "--allowed-origins=http://a,http://b",
    "--draft-model=org/small",
    "--num-draft-tokens=5",
    "--trust-remote-code",
    "--log-level=DEBUG",
    "--chat-template=-{{ messages }}",
    "--use-default-chat-template",
    "--temp=0.7",
    "--top-p=0.9",
    "--top-k=40",
    "--min-p=0.05",
    "--max-tokens=99",
    '--chat-template-args={"enable_thinking": false}',
    "--decode-concurrency=4",
    "--prompt-concurrency=2",
    "--prefill-step-size=128",
    "--prompt-cache-size=3",
    "--prompt-cache-bytes=1000000",
    "--kv-bits=4",
    "--kv-group-size=32",
    "--quantized-kv-start=0",
    "--pipeline",
]


def parser_with(environment=None):
    parser = argparse.ArgumentParser(prog="harden serve")
    add_arguments(parser, environment or {})
    return parser


def parse(*flags, environment=None):
    return parser_with(environment).parse_args(list(flags))


def refusal(*flags, environment=None):
    """Return what a usage error says, after checking its exit code."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as exit_:
        parse(*flags, environment=environment)
    assert exit_.value.code == 2
    return said.getvalue().splitlines()[-1]


class Captured(Exception):  # noqa: N818 - it is no error
    """Carries upstream's parser out of its main function."""


def upstream_parser():
    from mlx_lm import server

    def capture(parser, *_args, **_kwargs):
        raise Captured(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", capture):
        try:
            server.main()
        except Captured as captured:
            return captured.args[0]
    raise AssertionError("mlx_lm.server.main() parsed no arguments")


class TestUpstreamFlags(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream = upstream_parser()

    def test_every_flag_of_upstream_is_in_the_table_and_no_other_is_marked_so(self):
        """A flag that a new mlx_lm adds or drops must fail here, not at a user's."""
        theirs = {flag for action in self.upstream._actions for flag in action.option_strings}
        ours = {setting.flag for setting in SETTINGS if setting.upstream}
        self.assertEqual(ours, theirs - {"-h", "--help"})

    def test_defaults_equal_those_of_upstream(self):
        """Without flags a server behaves as mlx_lm's does; only the model has a default here."""
        theirs = vars(self.upstream.parse_args([]))
        ours = vars(parse())
        self.assertIsNone(theirs.pop("model"))
        self.assertEqual({name: ours[name] for name in theirs}, theirs)

    def test_a_worker_gets_what_was_set_and_nothing_else(self):
        """What upstream makes of the worker's arguments equals what the operator asked for."""
        wanted = parse(*WITH_OTHER_VALUES)
        arguments = worker_arguments(wanted)
        self.assertEqual(len(arguments), len(WITH_OTHER_VALUES))
        theirs = vars(self.upstream.parse_args(arguments))
        for name in set(theirs) - {"model", "host", "port"}:
            self.assertEqual(theirs[name], getattr(wanted, name), name)

    def test_defaults_and_the_callers_own_flags_are_not_passed_on(self):
        """Host, port and model are the caller's to set; defaults need no words."""
        self.assertEqual(worker_arguments(parse("--host=0.0.0.0", "--port=1", "--model=x")), [])

    def test_sizes_mean_what_upstream_means_by_them(self):
        """4GB for us is 4GB for mlx_lm."""
        from mlx_lm.utils import _parse_size

        for text in ("4GB", "512MB", "1.5G", "7M", "1000000", "2 GB", "3gb"):
            self.assertEqual(parse_size(text), _parse_size(text), text)


class TestOwnSettings(unittest.TestCase):
    def test_documented_defaults(self):
        """The defaults of harden's own flags are part of its interface."""
        settings = vars(parse())
        expected = {
            "model": "tiny",
            "max_running": 32,
            "max_waiting": 256,
            "request_timeout": 600.0,
            "memory_limit": None,
            "cache_dir": None,
            "cache_bytes": None,
            "served_model_name": None,
            "backend": None,
            "drain_timeout": 30.0,
            "stall_timeout": 60.0,
            "start_timeout": 600.0,
            "insecure": False,
            "max_connections": 1024,
            "max_body_bytes": 16_000_000,
            "kv_cache_warmup": False,
        }
        self.assertEqual({name: settings[name] for name in expected}, expected)

    def test_names_are_unique(self):
        """Two settings of one name would overwrite each other."""
        for names in ([s.name for s in SETTINGS], [s.flag for s in SETTINGS if s.flag]):
            self.assertEqual(len(names), len(set(names)))

    def test_help_names_unit_default_and_variable(self):
        """An operator reads in --help what a number counts and what happens without it."""
        text = " ".join(parser_with().format_help().split())
        for setting in SETTINGS:
            self.assertIn(setting.label, text)
        self.assertIn("port to listen on; 0: a free one (default: 8080; environment:", text)
        self.assertIn("(seconds; default: 600.0)", text)
        self.assertIn("HARDEN_API_KEY", text)

    def test_keys_have_no_flag(self):
        """A key on a command line can be read by every user of the machine."""
        keys = [s for s in SETTINGS if "KEY" in (s.environment or "")]
        self.assertEqual(len(keys), 2)
        self.assertTrue(all(setting.flag is None for setting in keys))


class TestEnvironment(unittest.TestCase):
    def test_a_flag_wins_over_the_environment_and_that_over_the_default(self):
        """The nearest word counts."""
        environment = {"MLX_PORT": "9001", "MLX_MODEL": "org/model", "KV_CACHE_WARMUP": "yes"}
        self.assertEqual(parse(environment=environment).port, 9001)
        self.assertEqual(parse(environment=environment).model, "org/model")
        self.assertTrue(parse(environment=environment).kv_cache_warmup)
        self.assertEqual(parse("--port=9002", environment=environment).port, 9002)
        self.assertFalse(parse("--no-kv-cache-warmup", environment=environment).kv_cache_warmup)

    def test_a_blank_variable_is_none(self):
        """`MLX_PORT= harden serve` means the default."""
        self.assertEqual(parse(environment={"MLX_PORT": " "}).port, 8080)

    def test_a_bad_variable_is_a_usage_error_that_names_it(self):
        """The operator must learn which variable to change; a flag makes it irrelevant."""
        said = refusal(environment={"MLX_PORT": "http"})
        self.assertIn("MLX_PORT: 'http' is not a whole number from 0 to 65535", said)
        self.assertEqual(parse("--port=1", environment={"MLX_PORT": "http"}).port, 1)
        self.assertIn("'maybe'", refusal(environment={"KV_CACHE_WARMUP": "maybe"}))

    def test_readable_environment_leaves_out_only_what_does_not_parse(self):
        """`harden check` reports bad variables beside all other problems."""
        environment = {"MLX_PORT": "http", "KV_CACHE_WARMUP": "1", "PATH": "/bin"}
        self.assertEqual(
            readable_environment(environment), {"KV_CACHE_WARMUP": "1", "PATH": "/bin"}
        )


class TestBadFlags(unittest.TestCase):
    def test_values_out_of_range_are_usage_errors(self):
        """Exit code 2, and one line that says what was expected."""
        for flag, part in (
            ("--port=70000", "0 to 65535"),
            ("--max-running=0", "at least 1"),
            ("--max-waiting=-1", "at least 0"),
            ("--top-p=1.5", "from 0 to 1"),
            ("--temp=nan", "at least 0"),
            ("--temp=warm", "is not a number"),
            ("--memory-limit=4XB", "4GB"),
            ("--request-timeout=0", "2h"),
            ("--chat-template-args=[1]", "JSON object"),
            ("--log-level=LOUD", "DEBUG, INFO"),
            (f"--port={'9' * 5000}", "99999…"),
        ):
            with self.subTest(flag[:40]):
                said = refusal(flag)
                self.assertIn(part, said)
                self.assertLess(len(said), 300)

    def test_an_unknown_flag_is_a_usage_error(self):
        """A misspelt flag must not be ignored."""
        self.assertIn("--max-runing", refusal("--max-runing=3"))


class TestValues(unittest.TestCase):
    def test_sizes(self):
        """Decimal prefixes count in thousands, binary ones in 1,024s."""
        self.assertEqual(parse_size("1.5GiB"), 1_610_612_736)
        self.assertEqual(parse_size("10 kB"), 10_000)
        for text in ("", "GB", "-1", "1e9", "4 parsecs", "1" * 50, "٤GB"):
            self.assertRaises(ValueError, parse_size, text)

    def test_durations(self):
        """Times are in seconds unless they say otherwise."""
        for text, seconds in (("90", 90), ("250ms", 0.25), ("10m", 600), ("1.5h", 5400)):
            self.assertEqual(parse_duration(text), seconds)
        for text in ("", "0", "-5", "soon", "1d"):
            self.assertRaises(ValueError, parse_duration, text)

    def test_booleans_in_any_case(self):
        """Six words and no others."""
        self.assertTrue(all(map(parse_boolean, ("1", "true", "YES", " Yes "))))
        self.assertFalse(any(map(parse_boolean, ("0", "False", "no"))))
        self.assertRaises(ValueError, parse_boolean, "on")

    def test_ranges_may_be_open(self):
        """A range says in its message what it is."""
        self.assertEqual(between(None)("-5"), -5)
        with self.assertRaisesRegex(ValueError, "of at most 3"):
            between(None, 3)("4")
        with self.assertRaisesRegex(ValueError, "of at least 2"):
            number(2)("1")

    def test_a_refused_key_is_not_repeated(self):
        """A key that cannot travel in a header is a problem; its text is not for the log."""
        self.assertEqual(parse_key("s3cret"), "s3cret")
        with self.assertRaises(ValueError) as refused:
            parse_key("my secret")
        self.assertNotIn("secret", str(refused.exception))

    def test_a_deeply_nested_object_is_refused(self):
        """Upstream's json.loads would end in a traceback."""
        self.assertRaises(ValueError, parse_json_object, "[" * 100_000)

    @given(st.text())
    def test_no_text_makes_a_parser_raise_anything_but_valueerror(self, text):
        """ValueError becomes a usage error; anything else would be a traceback."""
        for setting in SETTINGS:
            with contextlib.suppress(ValueError):
                setting.read(text)


if __name__ == "__main__":
    unittest.main()
