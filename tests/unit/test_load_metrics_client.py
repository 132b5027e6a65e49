"""harden.load.metrics_client: figures or an error that says what to do; never a silent zero."""

from __future__ import annotations

import copy
import http.server
import json
import os
import threading
import unittest
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from harden.load.metrics_client import (
    MetricsClient,
    ServerMetricsError,
    metrics_key,
    parse_snapshot,
)

DOCUMENT: dict[str, Any] = {
    "timestamp": "2026-01-01T00:00:00Z",
    "uptime_seconds": 12.5,
    "requests": {
        "received": 7,
        "finished": 6,
        "in_flight": 1,
        "succeeded": {"stop": 3, "length": 1},
        "failed": {"500": 2},
    },
    "tokens": {"prompt_tokens": 40, "generation_tokens": 90, "requests_with_usage": 4},
    "memory": {
        "current_mb": 1.0,
        "gateway": {"rss_mb": 50.0, "anonymous_mb": 30.0},
        "worker": {"rss_mb": 90.0, "anonymous_mb": 80.0, "mlx_active_mb": 5, "mlx_cache_mb": 6},
    },
    "worker": {"ready": True, "starts": 2},
}
NEEDED = [
    ("uptime_seconds",),
    *(("requests", name) for name in DOCUMENT["requests"]),
    *(("tokens", name) for name in DOCUMENT["tokens"]),
]


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return document


class TestParse(unittest.TestCase):
    def test_figures(self):
        """Every figure of the endpoint's JSON arrives under its name."""
        found = parse_snapshot(DOCUMENT)
        self.assertEqual((found.received, found.finished, found.in_flight), (7, 6, 1))
        self.assertEqual(found.succeeded, {"stop": 3, "length": 1})
        self.assertEqual(found.failed, {"500": 2})
        self.assertEqual((found.prompt_tokens, found.generation_tokens), (40, 90))
        self.assertEqual(found.requests_with_usage, 4)
        self.assertEqual(found.uptime_s, 12.5)
        self.assertEqual(found.worker_starts, 2)
        self.assertEqual(found.mlx_active_mb, 5)

    def test_a_missing_or_impossible_figure_is_an_error_that_names_it(self):
        """Nothing that the ledger needs is ever taken for zero."""
        for path in NEEDED:
            for value in (
                None,
                "7",
                True,
                -1 if path[0] != "uptime_seconds" else None,
                float("nan"),
            ):
                with self.assertRaisesRegex(ServerMetricsError, ".".join(path)):
                    parse_snapshot(changed(path, value))
        for document in ([], None, {}, "text"):
            with self.assertRaises(ServerMetricsError):
                parse_snapshot(document)

    def test_memory_prefers_what_is_the_processs_own(self):
        """Anonymous memory before RSS; a text such as "unavailable" is no figure."""
        self.assertEqual(parse_snapshot(DOCUMENT).memory_mb, {"gateway": 30.0, "worker": 80.0})
        rss = changed(("memory", "gateway", "anonymous_mb"), "unavailable")
        self.assertEqual(parse_snapshot(rss).memory_mb["gateway"], 50.0)
        for value in (None, "unavailable", {"rss_mb": "unavailable"}, {"rss_mb": 0}):
            found = parse_snapshot(changed(("memory", "gateway"), value))
            self.assertEqual(set(found.memory_mb), {"worker"}, value)
        self.assertEqual(parse_snapshot(changed(("memory",), None)).memory_mb, {})

    def test_metal_memory_beyond_the_process_counts(self):
        """Where MLX holds more than the process shows, that is the figure."""
        found = parse_snapshot(changed(("memory", "worker", "mlx_active_mb"), 500))
        self.assertEqual(found.memory_mb["worker"], 506)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
            lambda inner: st.dictionaries(
                st.sampled_from([*DOCUMENT, *DOCUMENT["requests"], "rss_mb", "stop"]), inner
            ),
        )
    )
    def test_any_document_is_figures_or_our_error(self, document):
        """Nothing else is ever raised."""
        try:
            parse_snapshot(document)
        except ServerMetricsError:
            return

    def test_restart(self):
        """A counter or a clock that went backwards is named; growth and rest are fine."""
        later = parse_snapshot(DOCUMENT)
        self.assertIsNone(later.restart_since(later))
        for path, name in (
            (("uptime_seconds",), "uptime_s"),
            (("requests", "received"), "received"),
            (("requests", "finished"), "finished"),
            (("tokens", "generation_tokens"), "generation_tokens"),
        ):
            earlier = parse_snapshot(changed(path, 1000))
            self.assertIn(name, later.restart_since(earlier) or "")
            self.assertIsNone(earlier.restart_since(later))


class Answers(http.server.BaseHTTPRequestHandler):
    """Plays a list of answers, the last one for ever."""

    script: list[tuple[int, bytes]]
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        status, body = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def metrics(in_flight: int) -> tuple[int, bytes]:
    return 200, json.dumps(changed(("requests", "in_flight"), in_flight)).encode()


class TestClient(unittest.TestCase):
    def serve(self, *script: tuple[int, bytes]) -> str:
        self.seen: list[tuple[str, str | None]] = []
        handler = type("Handler", (Answers,), {"script": list(script), "seen": self.seen})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def client(self, url: str, **options: Any) -> MetricsClient:
        """A client whose waits advance its own clock instead of taking time."""
        now_s = [0.0]

        def sleep(seconds: float) -> None:
            now_s[0] += seconds

        return MetricsClient(url, clock=lambda: now_s[0], sleep=sleep, timeout_s=5, **options)

    def test_scrape(self):
        """One GET of /v1/metrics with the key."""
        url = self.serve(metrics(0))
        self.assertEqual(self.client(url, api_key="k").scrape().received, 7)
        self.assertEqual(self.seen, [("/v1/metrics", "Bearer k")])

    def test_keys_of_the_environment(self):
        """METRICS_API_KEY first, then HARDEN_API_KEY; blank is none."""
        both = {"METRICS_API_KEY": "m", "HARDEN_API_KEY": "h"}
        for environment, key in (
            (both, "m"),
            ({"HARDEN_API_KEY": "h"}, "h"),
            ({"METRICS_API_KEY": "", "HARDEN_API_KEY": "h"}, "h"),
            ({}, None),
        ):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual(metrics_key(), key)

    def test_failures_say_what_to_do(self):
        """Each way of not getting figures has its own advice."""
        for answer, advice in (
            ((404, b""), "harden serve"),
            ((401, b""), "METRICS_API_KEY"),
            ((503, b""), "log"),
            ((200, b"<html>"), "not JSON"),
            ((200, b"{}"), "requests.received|uptime_seconds"),
        ):
            with self.assertRaisesRegex(ServerMetricsError, advice):
                self.client(self.serve(answer)).scrape()
        with self.assertRaisesRegex(ServerMetricsError, "cannot read .*: Connection refused"):
            self.client("http://127.0.0.1:1").scrape()

    def test_settle_waits_for_rest(self):
        """Only a reading with nothing in flight is a baseline."""
        url = self.serve(metrics(2), metrics(1), metrics(0))
        self.assertEqual(self.client(url).settle(5).in_flight, 0)
        self.assertEqual(len(self.seen), 3)

    def test_settle_ends(self):
        """A server that never rests is an error, and so is one that stops answering."""
        with self.assertRaisesRegex(ServerMetricsError, "2 requests in flight after 1 s"):
            self.client(self.serve(metrics(2))).settle(1)
        with self.assertRaises(ServerMetricsError):
            self.client(self.serve(metrics(2), (503, b""))).settle(5)


if __name__ == "__main__":
    unittest.main()
