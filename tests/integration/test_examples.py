"""The examples, driven over HTTP as their readers would."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import unittest
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path

import uvicorn

from harden.models.tiny import tiny_model_path
from harden.server_handle import ServerHandle
from harden.server_process import ServerProcess
from tests.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DAMAGED = b'"cut off'


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ServerExample:
    """What both examples do, asked over HTTP. A subclass says how its example is served."""

    name = ""

    def setUp(self):
        self.example = load(self.name)
        self.port = self.serve()

    def serve(self):
        raise AssertionError("a subclass serves")

    def request(self, method, path, body=None, **headers):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def complete(self, prompt):
        return self.request("POST", "/v1/complete", json.dumps({"prompt": prompt}))

    def test_it_is_shorter_than_sixty_lines(self):
        """What harden asks of a server's author fits on a screen."""
        lines = (EXAMPLES / f"{self.name}.py").read_text(encoding="utf-8").splitlines()
        self.assertLess(len(lines), 60)

    def test_a_damaged_cache_entry_costs_nothing_but_time(self):
        """Cold, warm and damaged answers are equal; metrics count a hit and a recovery."""
        answers = [self.complete("abc"), self.complete("abc")]
        self.example.cache["abc"] = DAMAGED
        with self.assertLogs("harden.error_handler", "WARNING") as logged:
            answers.append(self.complete("abc"))
        self.assertEqual(answers, [(200, {"text": "cba"})] * 3)
        self.assertNotIn("cut off", "".join(logged.output))
        cache = self.request("GET", "/v1/metrics?category=cache")[1]["cache"]
        self.assertEqual(
            (cache["cache_hits"], cache["cache_misses"], cache["corruption_recoveries"]), (1, 2, 1)
        )

    def test_metrics_are_guarded(self):
        """With METRICS_API_KEY set, a bearer token is asked for."""
        os.environ["METRICS_API_KEY"] = "s3cret"
        self.addCleanup(os.environ.pop, "METRICS_API_KEY")
        self.assertEqual(self.request("GET", "/v1/metrics")[0], 401)
        authorized = {"Authorization": "Bearer s3cret"}
        self.assertEqual(self.request("GET", "/v1/metrics", **authorized)[0], 200)

    def test_a_bad_environment_keeps_it_from_starting(self):
        """Every problem in one go, exit code 1, no traceback."""
        done = subprocess.run(
            [sys.executable, EXAMPLES / f"{self.name}.py"],
            env={**os.environ, "MLX_PORT": "http", "MLX_MODEL": "/nowhere"},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("MLX_PORT: 'http'", done.stderr)
        self.assertIn("/nowhere does not exist", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class TestStdlibServer(ServerExample, unittest.TestCase):
    name = "stdlib_server"

    def serve(self):
        self.example.Handler.log_message = lambda *_: None
        server = ThreadingHTTPServer(("127.0.0.1", 0), self.example.Handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    def test_errors_tell_no_path(self):
        """A bad request is a 400 that repeats no path."""
        status, answer = self.request("POST", "/", json.dumps({"/etc/passwd": 1}))
        self.assertEqual(status, 400)
        status, answer = self.request("POST", "/", "x", **{"Content-Length": "1"})
        self.assertEqual(status, 400)
        self.assertNotIn("/", answer["error"])


class TestFastapiServer(ServerExample, unittest.TestCase):
    name = "fastapi_server"

    def serve(self):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.example.app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
        self.addCleanup(listener.close)
        self.addCleanup(thread.join, 10)
        self.addCleanup(server.handle_exit, signal.SIGTERM, None)
        thread.start()
        wait_until(lambda: server.started, what="uvicorn has started")
        return listener.getsockname()[1]

    def complete(self, prompt):
        body = json.dumps({"prompt": prompt})
        return self.request("POST", "/v1/complete", body, **{"Content-Type": "application/json"})


class TestThreeLines(unittest.TestCase):
    def test_an_ordinary_server_has_metrics(self):
        """The example starts with upstream's flags, answers, and counts."""
        command = [sys.executable, str(EXAMPLES / "three_lines.py"), "--port", "{port}"]
        with ServerProcess([*command, "--model", str(tiny_model_path())]) as process:
            server = ServerHandle(process.url, process)
            self.assertEqual(server.chat("hi", max_tokens=4).status, 200)
            self.assertEqual(server.metrics()["requests"]["succeeded"], {"length": 1})


if __name__ == "__main__":
    unittest.main()
