"""harden.error_handler against models: degradation, corruption of any bytes, retries, threads."""

from __future__ import annotations

import json
import math
import threading
import unittest
from unittest import mock

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from harden.corruption import check_entry, check_json, check_safetensors
from harden.error_handler import CacheError, ErrorHandler, NetworkError
from harden.metrics_collector import MetricsCollector
from harden.retrying import RetryPolicy

ERRORS, SUCCESSES = 5, 10

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
dtypes = st.sampled_from([np.float16, np.float32, np.int64, np.uint8, np.bool_])
tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5).filter(lambda name: name != "__metadata__"),
    st.builds(np.zeros, st.lists(st.integers(0, 4), max_size=3).map(tuple), dtypes),
    max_size=4,
)
files = tensors.map(safetensors.numpy.save)


def officially_whole(data):
    """Ask the format's own reader."""
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return False
    return True


def with_header(header, body=b""):
    """Build a file from a header, well-formed or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(begin=0, end=4, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


class DegradationMachine(RuleBasedStateMachine):
    """The handler beside the plainest model of it: two lists of what happened last."""

    def __init__(self):
        super().__init__()
        self.events = []
        self.handler = ErrorHandler(hooks=[self.events.append])
        self.mode = "normal"
        self.row = []
        self.changes = []

    def note(self, what):
        self.row = [*self.row, what] if self.row[-1:] == [what] else [what]
        if self.mode == "normal" and self.row == ["error"] * ERRORS:
            self.change("degraded", "degraded")
        elif self.mode == "degraded" and self.row == ["success"] * SUCCESSES:
            self.change("normal", "recovered")

    def change(self, mode, event):
        self.mode = mode
        self.changes.append(event)

    @rule(times=st.integers(1, 6))
    def errors(self, times):
        for _ in range(times):
            self.handler.record_cache_error(CacheError("bad"))
            self.note("error")

    @rule()
    def handled_error(self):
        self.handler.handle_cache_error(CacheError("bad"), log_level="debug")
        self.note("error")

    @rule(times=st.integers(1, 11))
    def successes(self, times):
        for _ in range(times):
            self.handler.record_cache_success()
            self.note("success")

    @invariant()
    def same_mode(self):
        status = self.handler.check_degradation_status()
        assert status["mode"] == self.mode
        assert status["cache_enabled"] == (self.mode == "normal")

    @invariant()
    def one_event_for_each_change(self):
        kinds = [event.kind for event in self.events if event.kind != "cache_error"]
        assert kinds == self.changes


TestDegradationMachine = DegradationMachine.TestCase


class TestJsonCorruption(unittest.TestCase):
    @given(json_values)
    def test_every_json_document_is_whole(self, value):
        """What json writes is no corruption."""
        for ascii_only in (True, False):
            data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            assert not check_json(data).corrupted

    @given(st.lists(json_values, min_size=1), st.data())
    def test_every_cut_document_is_corrupted(self, value, data):
        """A write that stopped anywhere is seen; inside brackets it is called truncated."""
        whole = json.dumps(value).encode()
        cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
        assert "truncated" in check_entry(cut).reason

    @given(st.binary())
    def test_no_bytes_make_a_check_raise(self, data):
        """Corrupt is exactly what the format's reader refuses."""
        for check in (check_entry, check_json, check_safetensors):
            report = check(data)
            assert report.corrupted == bool(report.reason)
        try:
            json.loads(data.decode())
        except (ValueError, RecursionError):
            assert check_json(data).corrupted


class TestSafetensorsCorruption(unittest.TestCase):
    @given(files)
    def test_every_whole_file_passes(self, data):
        """What the official writer writes is no corruption."""
        assert not check_entry(data).corrupted

    @given(files, st.data())
    def test_a_cut_or_longer_file_does_not_pass(self, data, draw):
        """A write that stopped, or a file written over a longer one."""
        cut = data[: draw.draw(st.integers(0, len(data) - 1))]
        assert check_safetensors(cut).corrupted
        if len(cut) > 8:  # of a length field alone nobody can tell that it was not JSON's "8"
            assert check_entry(cut).corrupted
        assert "trailing" in check_safetensors(data + b"\0").reason

    @given(files, st.data())
    def test_a_damaged_header_that_the_reader_refuses_is_refused(self, data, draw):
        """Nothing passes that would fail when it is loaded."""
        length = int.from_bytes(data[:8], "little")
        damaged = bytearray(data)
        position = draw.draw(st.integers(0, 7 + length))
        damaged[position] ^= 1 << draw.draw(st.integers(0, 7))
        if not officially_whole(bytes(damaged)):
            assert check_entry(bytes(damaged)).corrupted
            assert check_safetensors(bytes(damaged)).corrupted

    def test_each_flaw_of_a_header_is_named(self):
        """An operator reads what is wrong, and the official reader agrees that it is."""
        for data, words in (
            (b"short", "length field"),
            ((10**12).to_bytes(8, "little") + b"{}", "length 1,000,000,000,000 is impossible"),
            ((99).to_bytes(8, "little") + b"{}", "ends inside its header"),
            (with_header(b"[]"), "does not begin with {"),
            (with_header(b'{"a'), "is not JSON"),
            (with_header(b'{"\xff":1}'), "is not UTF-8"),
            (with_header(b'{"a":NaN}'), "holds NaN"),
            (with_header(b'{"a":' + b"[" * 100_000), "is not JSON"),
            (with_header({"__metadata__": {"a": 1}}), "__metadata__"),
            (with_header({"__metadata__": []}), "__metadata__"),
            (with_header({"a": []}), "not described"),
            (with_header({"a": {**tensor(), "more": 1}}, b"\0" * 4), "not described"),
            (with_header({"a": tensor(dtype="F31")}, b"\0" * 4), "unknown dtype"),
            (with_header({"a": tensor(dtype=["F32"])}, b"\0" * 4), "unknown dtype"),
            (with_header({"a": tensor(begin=-4, end=0)}), "list of sizes"),
            (with_header({"a": {**tensor(), "shape": [True]}}, b"\0" * 4), "list of sizes"),
            (with_header({"a": {**tensor(), "data_offsets": [0]}}), "list of sizes"),
            (with_header({"a": tensor(4, 0)}), "does not fit"),
            (with_header({"a": tensor(shape=[2])}, b"\0" * 4), "does not fit"),
            (with_header({"a": tensor(shape=[10**4000] * 500)}, b"\0" * 4), "does not fit"),
            (with_header({"a": tensor(shape=[0])}, b"\0" * 4), "does not fit"),
            (with_header({"a": tensor(4, 8)}, b"\0" * 8), "not begin at 0"),
            (with_header({"a": tensor(), "b": tensor(0, 4)}, b"\0" * 4), "overlap"),
            (with_header({"a": tensor(), "b": tensor(8, 12)}, b"\0" * 12), "hole"),
            (with_header({"a": tensor()}, b"\0" * 3), "truncated safetensors: 3 of 4 bytes"),
            (with_header({"a": tensor()}, b"\0" * 6), "2 trailing bytes"),
        ):
            with self.subTest(words):
                assert words in check_safetensors(data).reason

    def test_a_name_twice_is_refused(self):
        """Which of the two tensors was meant nobody can say."""
        one = json.dumps(tensor())
        data = with_header(f'{{"a":{one},"a":{one}}}'.encode(), b"\0" * 4)
        assert "twice" in check_safetensors(data).reason


class TestRetries(unittest.TestCase):
    @given(
        st.integers(0, 32),
        st.floats(min_value=0, max_value=1000),
        st.integers(0, 40),
    )
    def test_calls_and_delays(self, max_retries, backoff_ms, failures):
        """Calls stop at the first success or the limit; delays grow strictly, unless all are 0."""
        sleeps = []
        function = mock.Mock(side_effect=[*[TimeoutError()] * failures, "answer"])
        with mock.patch("time.sleep", side_effect=sleeps.append):
            if failures <= max_retries:
                assert RetryPolicy(max_retries, backoff_ms).call(function) == "answer"
            else:
                with pytest.raises(NetworkError, match=f"after {max_retries + 1} attempt"):
                    RetryPolicy(max_retries, backoff_ms).call(function)
        assert function.call_count == min(failures, max_retries) + 1
        assert len(sleeps) == function.call_count - 1
        assert all(math.isfinite(delay_s) for delay_s in sleeps)
        if backoff_ms > 1e-300:
            assert sleeps == sorted(set(sleeps))


class TestThreads(unittest.TestCase):
    def test_sixteen_threads_lose_no_count_and_never_deadlock(self):
        """Every method at once, from hooks too; each removed entry is counted exactly once."""
        cache, collector = dict.fromkeys(range(800), b"{}"), MetricsCollector()
        hook_calls = []
        handler = ErrorHandler(
            cache=cache,
            metrics=collector,
            memory_probe=lambda: 1,
            hooks=[lambda event: hook_calls.append(handler.check_degradation_status() and event)],
        )
        removed = []

        def work(number):
            for key in range(number * 50, number * 50 + 50):
                handler.record_cache_error(OSError())
                removed.append(handler.recover_from_cache_corruption(key)["status"])
                removed.append(handler.recover_from_cache_corruption(key)["status"])
                handler.record_cache_success()
                handler.rebuild_cache_entry(("new", number, key), b"[]")
                handler.sanitize_error_message("/a/b")
                handler.handle_cache_error(OSError(), log_level="debug")

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert removed.count("cleared") == removed.count("not_found") == 800
        assert collector.get_cache_stats()["corruption_recoveries"] == 800
        assert sum(event.kind == "cache_error" for event in hook_calls) == 1600
        assert handler.recover_from_total_corruption()["entries_cleared"] == 800


if __name__ == "__main__":
    unittest.main()
