"""harden.error_handler: what goes wrong costs a request its cache, never the server its life."""

from __future__ import annotations

import json
import logging
import sys
import threading
import unittest
import urllib.error
from unittest import mock

from harden.error_handler import CacheError, ErrorHandler, NetworkError, OOMError
from harden.exceptions import ValidationError
from harden.memory_probes import MemoryProbeError
from harden.metrics_collector import MetricsCollector

MB = 1024 * 1024
PATH = "/Users/jane/.cache/harden/entry-7.safetensors"


def quiet(**parts):
    """Build a handler that logs no events, so that a test sees its own lines only."""
    return ErrorHandler(**{"hooks": (), "retry_backoff_ms": 0, **parts})


def recorded_sleeps():
    """Take note of each sleep instead of sleeping."""
    sleeps = []
    return sleeps, mock.patch("time.sleep", side_effect=sleeps.append)


def memory_full(percent):
    return mock.patch("psutil.virtual_memory", return_value=mock.Mock(percent=percent))


CONTAINER_OF_100 = mock.patch("harden.memory_relief.cgroup_limit_bytes", return_value=100)


def failing(times, error):
    """Build a function that raises so many times, then returns "answer"."""
    return mock.Mock(side_effect=[*[error] * times, "answer"])


class TestErrorHandlerBasics(unittest.TestCase):
    def test_handle_cache_error_lets_the_request_go_on_uncached(self):
        """A cache error switches the cache off for this request and says so."""
        result = quiet().handle_cache_error(CacheError("checksum differs"))
        self.assertEqual(result["status"], "degraded")
        self.assertFalse(result["cache_enabled"])
        self.assertEqual(result["fallback"], "bypass")
        self.assertEqual(result["error_message"], "checksum differs")
        in_request = quiet().handle_cache_error(CacheError("late"), in_request=True)
        self.assertEqual(in_request["fallback"], "recompute")

    def test_handle_oom_error_reports_the_measured_difference(self):
        """Freed memory is what the probe saw go, and the bound cache is empty."""
        cache = {"a": 1, "b": 2}
        probe = mock.Mock(side_effect=[700 * MB, 450 * MB])
        result = quiet(cache=cache, memory_probe=probe).handle_oom_error(OOMError("no memory"))
        self.assertEqual(
            result, {"status": "recovered", "cache_cleared": True, "memory_freed_mb": 250.0}
        )
        self.assertEqual(cache, {})

    def test_handle_network_error_backs_off_before_it_calls_again(self):
        """At least one wait lies between the failure and the next call."""
        order = []
        with mock.patch("time.sleep", side_effect=lambda _: order.append("sleep")):
            result = quiet().handle_network_error(
                ConnectionResetError(), lambda: order.append("call") or "answer"
            )
        self.assertEqual((result, order), ("answer", ["sleep", "call"]))

    def test_sanitize_error_message_removes_file_paths(self):
        """VUL-003: no path reaches a client, not even its last part; the sense stays."""
        sanitize = quiet().sanitize_error_message
        for path in (
            PATH,
            r"C:\Users\jane\cache\entry-7.bin",
            r"\\nas\models\entry-7",
            "~/entry-7",
        ):
            clean = sanitize(f"cannot read {path}: checksum differs")
            for part in ("jane", "entry-7", "nas", "harden/"):
                self.assertNotIn(part, clean)
            self.assertTrue(clean.startswith("cannot read <"), clean)
            self.assertTrue(clean.endswith(">: checksum differs"), clean)
        self.assertEqual(sanitize(f"lost {PATH}"), "lost <cache path>")

    def test_cache_errors_are_logged_at_the_wanted_level(self):
        """An operator chooses how loud a cache error is; a level that is none is refused."""
        handler = quiet()
        with self.assertLogs("harden.error_handler", "ERROR") as logged:
            handler.handle_cache_error(CacheError(f"bad {PATH}"), log_level="error")
        self.assertEqual(logged.records[0].levelno, logging.ERROR)
        self.assertIn("bad <cache path>", logged.output[0])
        with self.assertRaisesRegex(ValidationError, "'loud' is no level"):
            handler.handle_cache_error(CacheError("bad"), log_level="loud")


class TestErrorHandlerCacheRecovery(unittest.TestCase):
    def test_detect_cache_corruption_says_what_is_wrong(self):
        """Truncated, invalid, binary and empty entries are told apart; whole ones pass."""
        detect = quiet().detect_cache_corruption
        for data, word in (
            (b'{"tokens": [1, 2', "truncated"),
            (b'{"tokens": tru', "truncated"),
            ('"é'.encode()[:-1], "truncated"),
            (b"{tokens}", "JSON"),
            (b"[" * 100_000, "nested"),
            (b"9" * 5000, "digits"),
            (b"\x00\xff\xfe\x01", "binary"),
            (b'"a\x00"', "binary"),
            (b"", "empty"),
        ):
            with self.subTest(data[:16]):
                result = detect(data)
                self.assertTrue(result["corrupted"])
                self.assertIn(word, result["reason"])
        header = b'{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}'
        tensors = len(header).to_bytes(8, "little") + header + b"\0" * 6
        for data in (b"{}", json.dumps({"tokens": [1.5, None]}).encode(), tensors):
            self.assertEqual(detect(data), {"corrupted": False, "reason": ""})
        self.assertIn("truncated", detect(tensors[:-1])["reason"])

    def test_recover_from_cache_corruption_removes_that_entry_only(self):
        """Neighbours stay, the recovery is counted wherever asked, a second try finds nothing."""
        cache, collector, counts = {"bad": b"?", "good": b"{}"}, MetricsCollector(), {}
        handler = quiet(cache=cache, metrics=collector)
        result = handler.recover_from_cache_corruption("bad", metrics=counts)
        self.assertEqual((result["status"], result["cache_key"]), ("cleared", "bad"))
        self.assertRegex(result["timestamp"], r"^\d{4}-\d\d-\d\dT.*\+00:00$")
        self.assertEqual(cache, {"good": b"{}"})
        self.assertEqual(collector.get_cache_stats()["corruption_recoveries"], 1)
        self.assertEqual(counts, {"corruption_recoveries": 1})
        again = handler.recover_from_cache_corruption("bad", metrics=collector)
        self.assertEqual(again["status"], "not_found")
        self.assertEqual(collector.get_cache_stats()["corruption_recoveries"], 1)
        other = {"bad": b"?"}
        handler.recover_from_cache_corruption("bad", cache_state=other, metrics=collector)
        self.assertEqual(other, {})
        self.assertEqual(collector.get_cache_stats()["corruption_recoveries"], 2)

    def test_rebuild_and_total_recovery(self):
        """Only whole data is stored again, and everything can be cleared and counted."""
        cache = {"old": b"{}"}
        handler = quiet(cache=cache)
        self.assertEqual(handler.rebuild_cache_entry("new", b"[1]")["status"], "rebuilt")
        for data, reason in ((b"[1", "truncated JSON"), (b"", "empty"), ("text", "type")):
            with self.assertRaises(CacheError) as refused:
                handler.rebuild_cache_entry("bad", data)
            self.assertEqual(refused.exception.key, "bad")
            self.assertIn(reason, refused.exception.reason)
        self.assertEqual(cache, {"old": b"{}", "new": b"[1]"})
        self.assertEqual(
            handler.recover_from_total_corruption(),
            {"status": "cleared_all", "entries_cleared": 2},
        )
        self.assertEqual(cache, {})


class TestErrorHandlerOOMDetection(unittest.TestCase):
    def test_detect_oom_condition_compares_with_the_threshold(self):
        """The risk begins at the threshold, and the figure is the machine's own."""
        with memory_full(90.0):
            self.assertEqual(
                quiet().detect_oom_condition(), {"oom_risk": True, "memory_percent": 90.0}
            )
            self.assertFalse(quiet().detect_oom_condition(threshold_percent=90.1)["oom_risk"])
        with memory_full(20.0), CONTAINER_OF_100:
            nearly = quiet(memory_probe=lambda: 95).detect_oom_condition()
        self.assertEqual(nearly, {"oom_risk": True, "memory_percent": 95.0})

    def test_prevent_oom_clears_at_risk_only(self):
        """Below the threshold nothing is lost; above it the figures are measured."""
        cache = {"a": 1}
        probe = mock.Mock(side_effect=lambda: 300 * MB if cache else 100 * MB)
        handler = quiet(cache=cache, memory_probe=probe)
        with memory_full(50.0):
            self.assertEqual(handler.prevent_oom()["action"], "none")
        self.assertEqual(cache, {"a": 1})
        with memory_full(95.0):
            result = handler.prevent_oom()
        self.assertEqual(
            result,
            {"action": "cache_cleared", "memory_before_mb": 300.0, "memory_after_mb": 100.0},
        )

    def test_without_psutil_there_is_a_warning_and_no_alarm(self):
        """What cannot be measured is said, not guessed, and clears nothing."""
        cache = {"a": 1}
        probe = mock.Mock(side_effect=MemoryProbeError("unavailable"))
        handler = quiet(cache=cache, memory_probe=probe)
        with mock.patch.dict(sys.modules, {"psutil": None}):
            result = handler.detect_oom_condition()
            prevented = handler.prevent_oom()
        self.assertFalse(result["oom_risk"])
        self.assertIn("unavailable", result["warning"])
        self.assertEqual(
            prevented, {"action": "none", "memory_before_mb": None, "memory_after_mb": None}
        )
        self.assertEqual(cache, {"a": 1})
        self.assertEqual(handler.handle_oom_error(OOMError())["memory_freed_mb"], 0.0)


class TestErrorHandlerNetworkRetry(unittest.TestCase):
    def test_a_first_success_sleeps_not_at_all(self):
        """A call that works costs nothing."""
        sleeps, patched = recorded_sleeps()
        with patched:
            self.assertEqual(quiet().retry_with_backoff(lambda: "answer"), "answer")
        self.assertEqual(sleeps, [])

    def test_delays_double_and_grow_strictly(self):
        """Delay n is 100 ms times 2^n, at most a tenth longer; 0 ms sleeps 0.0."""
        sleeps, patched = recorded_sleeps()
        with patched:
            quiet(retry_backoff_ms=100).retry_with_backoff(failing(3, ConnectionError()))
        for number, delay_s in enumerate(sleeps):
            self.assertGreaterEqual(delay_s, 0.1 * 2**number)
            self.assertLessEqual(delay_s, 0.11 * 2**number)
        self.assertEqual(len(sleeps), 3)
        after_failure, patched = recorded_sleeps()
        with patched:
            quiet(retry_backoff_ms=100).handle_network_error(OSError(), failing(3, TimeoutError()))
            self.assertEqual(after_failure, sorted(set(after_failure)))
            self.assertEqual(len(after_failure), 4)
            quiet().retry_with_backoff(failing(2, TimeoutError()))
        self.assertEqual(after_failure[4:], [0.0, 0.0])

    def test_gives_up_after_max_retries(self):
        """The last cause is kept, the message holds no path, and each retry was an event."""
        events = []
        cause = ConnectionRefusedError(f"no socket at {PATH}")
        function = failing(9, cause)
        handler = quiet(max_retries=2, hooks=[events.append])
        with mock.patch("time.sleep"), self.assertRaises(NetworkError) as gave_up:
            handler.retry_with_backoff(function)
        self.assertEqual(function.call_count, 3)
        self.assertEqual(gave_up.exception.attempts, 3)
        self.assertIs(gave_up.exception.__cause__, cause)
        self.assertNotIn("jane", str(gave_up.exception))
        self.assertEqual([(e.kind, e.attempt) for e in events], [("retry", 1), ("retry", 2)])
        self.assertEqual(events[0].detail, "no socket at <cache path>")
        with self.assertRaisesRegex(NetworkError, "after 1 attempt,"):
            quiet(max_retries=0).retry_with_backoff(failing(1, TimeoutError()))

    def test_only_transport_errors_are_retried(self):
        """An answer, even a bad one, is not asked for again; a client library's failure is."""
        foreign = type("ClientConnectionError", (Exception,), {})
        foreign.__module__ = "aiohttp.client_exceptions"
        retried = (NetworkError(), BrokenPipeError(), urllib.error.URLError("x"), foreign())
        answers = (ValueError(), urllib.error.HTTPError("u", 500, "m", None, None), OSError())
        with mock.patch("time.sleep"):
            for error in retried:
                self.assertEqual(quiet().retry_with_backoff(failing(1, error)), "answer")
            for error in answers:
                function = failing(1, error)
                with self.assertRaises(type(error)):
                    quiet().retry_with_backoff(function)
                self.assertEqual(function.call_count, 1)
        answers[1].close()


class TestErrorHandlerGracefulDegradation(unittest.TestCase):
    def test_five_errors_in_a_row_degrade(self):
        """Four are an accident, a success between them starts the count anew, five are a fault."""
        handler = quiet()
        for _ in range(4):
            handler.record_cache_error(CacheError("bad"))
        handler.record_cache_success()
        for _ in range(4):
            handler.handle_cache_error(CacheError("bad"))
        self.assertEqual(handler.check_degradation_status()["mode"], "normal")
        handler.record_cache_error(CacheError("bad"))
        status = handler.check_degradation_status()
        self.assertEqual((status["mode"], status["cache_enabled"]), ("degraded", False))

    def test_ten_successes_in_a_row_recover(self):
        """An error between them starts the count anew; each change is one event."""
        events = []
        handler = quiet(hooks=[events.append])
        for _ in range(5):
            handler.record_cache_error(CacheError("bad"))
        for _ in range(9):
            handler.record_cache_success()
        handler.record_cache_error(CacheError("bad"))
        for _ in range(9):
            handler.record_cache_success()
        self.assertEqual(handler.check_degradation_status()["mode"], "degraded")
        handler.record_cache_success()
        status = handler.check_degradation_status()
        self.assertEqual((status["mode"], status["cache_enabled"]), ("normal", True))
        changes = [event.kind for event in events if event.kind != "cache_error"]
        self.assertEqual(changes, ["degraded", "recovered"])

    def test_degraded_requests_are_served_without_the_cache(self):
        """The bound generate function answers; without one, the message says what to pass."""
        generate = mock.Mock(return_value="Paris")
        result = quiet(generate=generate).handle_request_in_degraded_mode({"prompt": "hi"})
        self.assertEqual(result, {"success": True, "cache_used": False, "response": "Paris"})
        generate.assert_called_once_with({"prompt": "hi"})
        with self.assertRaisesRegex(ValidationError, "generate="):
            quiet().handle_request_in_degraded_mode({})
        disabled = quiet(enable_graceful_degradation=False)
        for _ in range(20):
            disabled.record_cache_error(CacheError("bad"))
        self.assertEqual(disabled.check_degradation_status()["mode"], "normal")


class TestErrorHandlerEdgeCases(unittest.TestCase):
    def test_none_and_blank_errors(self):
        """None is a mistake of the caller; an error without words is described by its kind."""
        with self.assertRaises(ValueError):
            quiet().handle_cache_error(None)
        message = quiet().handle_cache_error(CacheError())["error_message"]
        self.assertEqual(message, "CacheError")

    def test_error_message_holds_nothing_of_the_entry(self):
        """A reader of the log learns that an entry is bad, not what is in it."""
        secret = "the patient's diagnosis is confidential"
        for cache_data in (
            secret,
            secret.encode(),
            {"messages": [{"content": secret}]},
            ("x", [{secret}]),
        ):
            result = quiet().handle_cache_error(
                CacheError(f"cannot parse {secret!r} in {PATH}"), cache_data=cache_data
            )
            self.assertEqual(result["error_message"].count("diagnosis"), 0)
            self.assertTrue(result["error_message"].startswith("cannot parse "))

    def test_hooks_may_call_the_handler_again_and_may_fail(self):
        """Hooks run outside of locks; one that raises costs neither the others nor the caller."""
        modes = []
        handler = quiet(
            hooks=[mock.Mock(side_effect=RuntimeError), lambda _: modes.append(status()["mode"])]
        )
        status = handler.check_degradation_status
        with self.assertLogs("harden.error_handler", "WARNING") as logged:
            threads = [
                threading.Thread(target=handler.record_cache_error, args=(OSError(),), daemon=True)
                for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        self.assertFalse(any(thread.is_alive() for thread in threads))
        self.assertEqual(modes.count("degraded") + modes.count("normal"), 6)
        self.assertIn("a hook raised RuntimeError", logged.output[0])

    def test_impossible_parts_are_refused_or_survived(self):
        """Numbers out of range name themselves; a cache that cannot be cleared is no crash."""
        for wrong in (
            {"max_retries": -1},
            {"max_retries": 99},
            {"retry_backoff_ms": -1},
            {"retry_backoff_ms": float("nan")},
            {"errors_to_degrade": 0},
            {"successes_to_recover": 0},
        ):
            with self.assertRaisesRegex(ValidationError, next(iter(wrong))):
                ErrorHandler(**wrong)
        cache = mock.MagicMock()
        cache.__iter__.side_effect = MemoryError
        mlx = mock.Mock()
        with (
            mock.patch.dict(sys.modules, {"mlx.core": mlx}),
            self.assertLogs("harden", "WARNING"),
        ):
            result = ErrorHandler(cache=cache, memory_probe=lambda: 1).handle_oom_error()
        self.assertFalse(result["cache_cleared"])
        mlx.clear_cache.assert_called_once_with()


if __name__ == "__main__":
    unittest.main()
