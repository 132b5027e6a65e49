"""harden.exposition: what GET /v1/metrics answers, without any server around it."""

from __future__ import annotations

import json
import unittest
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from harden.bearer import bearer_matches
from harden.exposition import CATEGORIES, ExpositionResponse, respond
from harden.metrics_collector import MetricsCollector
from harden.server_metrics import RequestOutcome, ServerMetrics

SNAPSHOT = {
    "timestamp": "2026-01-31T12:00:00.000Z",
    "uptime_seconds": 1.5,
    **{name: {"of": name} for name in CATEGORIES},
}


class FixedSource:
    """Metrics that are always the same."""

    def snapshot(self):
        return dict(SNAPSHOT)

    def prometheus(self):
        return "# HELP up Whether.\n# TYPE up gauge\nup 1.0\n"


class BrokenSource:
    """Metrics that cannot be read, for a reason that nobody outside may learn."""

    def snapshot(self):
        raise OSError("/home/somebody/secret is gone")

    prometheus = snapshot


def get(query="", method="GET", authorization=None, key=None, source=None, **options):
    return respond(method, query, authorization, source or FixedSource(), key, **options)


class ExpositionCase(unittest.TestCase):
    def assert_error(self, response: ExpositionResponse, status, param=None):
        """Expect the error body that OpenAI's clients parse; return its message."""
        self.assertEqual(response.status, status)
        self.assertEqual(response.headers["Content-Type"], "application/json; charset=utf-8")
        error = json.loads(response.body)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual(error["param"], param)
        return error["message"]


class TestFormats(ExpositionCase):
    def test_json_is_the_default(self):
        """Without parameters the whole snapshot comes as JSON."""
        for query in ("", "format=json", {}, {"format": "json"}, "?format=json", "unknown=1"):
            with self.subTest(query=query):
                response = get(query)
                self.assertEqual(response.status, 200)
                self.assertEqual(json.loads(response.body), SNAPSHOT)
                self.assertEqual(
                    response.headers["Content-Type"], "application/json; charset=utf-8"
                )

    def test_prometheus_text(self):
        """`format=prometheus` answers the text format with the version that Prometheus wants."""
        response = get("format=prometheus")
        self.assertEqual(response.status, 200)
        self.assertEqual(
            response.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8"
        )
        self.assertEqual(response.body, FixedSource().prometheus().encode())

    def test_unknown_format(self):
        """Any other format is a 400 that names the two, and never echoes what was asked."""
        for query in ("format=xml", "format=", "format=JSON", "format=%2Fetc%2Fpasswd"):
            with self.subTest(query=query):
                message = self.assert_error(get(query), 400, param="format")
                self.assertEqual(message, "unknown format: expected json or prometheus")

    def test_length_is_that_of_the_body(self):
        """Content-Length is right, and nothing is to be cached."""
        for query in ("", "format=prometheus", "format=xml"):
            response = get(query)
            self.assertEqual(response.headers["Content-Length"], str(len(response.body)))
            self.assertEqual(response.headers["Cache-Control"], "no-store")


class TestCategories(ExpositionCase):
    def test_categories_are_kept(self):
        """`category` keeps those named, and always timestamp and uptime_seconds."""
        for query in (
            *("category=cache,latency", "category=cache&category=latency"),
            *("category=latency%2C%20cache", {"category": "cache,latency,cache"}),
        ):
            with self.subTest(query=query):
                self.assertEqual(
                    set(json.loads(get(query).body)),
                    {"cache", "latency", "timestamp", "uptime_seconds"},
                )

    def test_each_category(self):
        """Every category can be asked for alone."""
        for name in CATEGORIES:
            body = json.loads(get(f"category={name}").body)
            self.assertEqual(set(body), {name, "timestamp", "uptime_seconds"})

    def test_unknown_category(self):
        """An unknown, blank or reserved category is a 400 in both formats, without an echo."""
        for query in (
            *("category=nonsense", "category=cache,nonsense", "category=", "category=timestamp"),
            "category=nonsense&format=prometheus",
        ):
            with self.subTest(query=query):
                message = self.assert_error(get(query), 400, param="category")
                self.assertIn("throughput", message)
                self.assertNotIn("nonsense", message)


class TestMethods(ExpositionCase):
    def test_head_is_get_without_a_body(self):
        """HEAD has GET's status and headers, errors included, and no body."""
        for query in ("", "format=prometheus", "format=xml"):
            with self.subTest(query=query):
                head, whole = get(query, "HEAD"), get(query)
                self.assertEqual((head.status, head.headers), (whole.status, whole.headers))
                self.assertEqual(head.body, b"")

    def test_other_methods(self):
        """Anything that would change something is a 405 that says what is allowed."""
        for method in ("POST", "PUT", "DELETE", "PATCH", "get", ""):
            with self.subTest(method=method):
                response = get(method=method)
                self.assert_error(response, 405)
                self.assertEqual(response.headers["Allow"], "GET, HEAD, OPTIONS")

    def test_preflight(self):
        """OPTIONS needs no key, asks no source, and lets a page send its Authorization."""
        response = get(method="OPTIONS", key="k", source=BrokenSource())
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "*")
        self.assertEqual(response.headers["Access-Control-Allow-Headers"], "Authorization")
        self.assertIn("GET", response.headers["Access-Control-Allow-Methods"])
        self.assertNotIn("Content-Length", response.headers)

    def test_origin(self):
        """Pages may read by default; the origin can be narrowed, or not sent at all."""
        self.assertEqual(get().headers["Access-Control-Allow-Origin"], "*")
        narrowed = get(allow_origin="http://a.example").headers
        self.assertEqual(narrowed["Access-Control-Allow-Origin"], "http://a.example")
        self.assertNotIn("Access-Control-Allow-Origin", get(allow_origin=None).headers)


class TestKey(ExpositionCase):
    def test_right_key(self):
        """The bearer token opens; the scheme's case does not matter."""
        for authorization in ("Bearer s3cret", "bearer s3cret", "BEARER  s3cret "):
            with self.subTest(authorization=authorization):
                self.assertEqual(get(authorization=authorization, key="s3cret").status, 200)

    def test_wrong_key(self):
        """Anything else is a 401 that says how, tells neither key nor metrics, asks no source."""
        for authorization in (
            *(None, "", "Bearer", "Bearer ", "s3cret", "Basic s3cret", "Bearer s3cre"),
            *("Bearer s3cret!", "Bearer S3CRET", "Bearer s3cret s3cret", "Bearer\ts3cret"),
        ):
            with self.subTest(authorization=authorization):
                response = get(authorization=authorization, key="s3cret", source=BrokenSource())
                message = self.assert_error(response, 401)
                self.assertTrue(response.headers["WWW-Authenticate"].startswith("Bearer"))
                self.assertNotIn("s3cret", message)

    def test_no_key_is_open(self):
        """Without a key, or with a blank one, everybody may read."""
        self.assertEqual(get(key=None).status, 200)
        self.assertEqual(get(key="", authorization="Bearer anything").status, 200)

    def test_compared_in_constant_time(self):
        """The comparison is hmac.compare_digest, over bytes."""
        with mock.patch("hmac.compare_digest", return_value=False) as compare:
            self.assertFalse(bearer_matches("Bearer k", "k"))
        self.assertTrue(compare.called)
        self.assertTrue(
            all(isinstance(each, bytes) for call in compare.call_args_list for each in call.args)
        )

    def test_a_key_beyond_ascii(self):
        """A key in UTF-8 opens, whichever way the server decoded the header's bytes."""
        key = "clé-ключ"
        on_the_wire = f"Bearer {key}".encode()
        for decoded in (
            on_the_wire.decode(),
            on_the_wire.decode("latin-1"),
            on_the_wire.decode("ascii", "surrogateescape"),
        ):
            with self.subTest(decoded=decoded):
                self.assertTrue(bearer_matches(decoded, key))

    @given(st.text(alphabet=st.characters()), st.text(min_size=1))
    def test_no_header_raises(self, authorization, key):
        """Whatever stands in the header, the answer is yes or no."""
        self.assertIsInstance(bearer_matches(authorization, key), bool)
        self.assertIsInstance(bearer_matches(f"Bearer {authorization}", key), bool)

    @given(st.text(min_size=1).filter(lambda key: key == key.strip(" ")))
    def test_every_key_opens_its_own_door(self, key):
        """Any key matches itself and not a longer one."""
        self.assertTrue(bearer_matches(f"Bearer {key}", key))
        self.assertFalse(bearer_matches(f"Bearer {key}x", key))


class TestRobustness(ExpositionCase):
    @given(st.text(), st.text(), st.none() | st.text())
    def test_any_request_is_answered(self, method, query, authorization):
        """No method, query or header raises, and every status is one that is meant."""
        response = get(query, method, authorization, key="k")
        self.assertIn(response.status, {200, 204, 400, 401, 405})

    @given(st.text())
    def test_any_query_is_answered(self, query):
        """With the door open too."""
        self.assertIn(get(query).status, {200, 400})

    def test_broken_source(self):
        """A source that fails is our 500; neither answer nor log tells why in its words."""
        for query in ("", "format=prometheus"):
            with self.subTest(query=query), self.assertLogs("harden.exposition") as logs:
                response = get(query, source=BrokenSource())
                message = self.assert_error(response, 500)
                self.assertIn("OSError", logs.output[0])
                self.assertNotIn("secret", message + "".join(logs.output))

    def test_a_figure_that_json_cannot_hold(self):
        """NaN is no JSON: better a 500 than a body that no client can parse."""
        source = FixedSource()
        source.snapshot = lambda: {"uptime_seconds": float("nan")}
        with self.assertLogs("harden.exposition"):
            self.assert_error(get(source=source), 500)


class TestWithServerMetrics(ExpositionCase):
    def test_no_data_and_no_psutil(self):
        """A new server without psutil answers both formats: zeros and "unavailable"."""
        with mock.patch.dict("sys.modules", {"psutil": None}):
            source = ServerMetrics(MetricsCollector())
            body = json.loads(get(source=source).body)
            text = get("format=prometheus", source=source).body.decode()
        self.assertEqual(set(body), {*CATEGORIES, "timestamp", "uptime_seconds"})
        self.assertEqual(body["latency"]["count"], 0)
        self.assertEqual(body["memory"]["current_mb"], "unavailable")
        self.assertIn("\ncache_hit_total 0.0\n", text)

    def test_no_raw_latency(self):
        """Of a hundred latencies only the three percentiles are told."""
        source = ServerMetrics(MetricsCollector())
        for latency_ms in range(70_001, 70_101):
            source.request_received()
            source.request_finished(RequestOutcome(200, "stop", latency_s=latency_ms / 1000))
        # Only what is told of latency: the clock's decimals can hold any five digits.
        body = json.dumps(json.loads(get(source=source).body)["latency"])
        told = [ms for ms in range(70_001, 70_101) if str(ms) in body]
        self.assertEqual(told, [70_050, 70_095, 70_099])


if __name__ == "__main__":
    unittest.main()
