"""Runs real Locust and harden stress as subprocesses against the server of known times."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harden.server_process import ServerProcess

HERE = Path(__file__).resolve().parent
STRESS = HERE.parent.parent / "loadtests" / "stress.py"
FAST_SERVER = ("--first-ms", "5", "--gap-ms", "0.5", "--tokens", "8")
SHORT_RUN = ("--warm-up", "5", "--requests", "25", "--rounds", "2")
DEADLINE_S = 60


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit code, all it wrote, and the report if it left one."""

    exit_code: int
    output: str
    report: dict[str, Any] | None


class LoadCase(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.progress_path = self.folder / "progress"
        self.report_path = self.folder / "report.json"

    def serve(self, *options: str) -> str:
        """Start the server of known times; return its URL."""
        command = [sys.executable, str(HERE / "sse_server.py"), *(options or FAST_SERVER)]
        return self.enterContext(ServerProcess(command, stop_timeout_s=5)).url

    def locust(self, *options: str, **environment: str) -> Ended:
        """Run stress.py to its end."""
        return self.wait(self.start_locust("--headless", *options, **environment))

    def harden_stress(self, *options: str) -> Ended:
        """Run ``harden stress`` to its end."""
        options = (*options, "--json", str(self.report_path))
        return self.wait(self.start([sys.executable, "-m", "harden", "stress", *options]))

    def start_locust(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "locust", "-f", str(STRESS), "--only-summary", *options]
        return self.start(command, **environment)

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(STRESS.parent.parent),
                "HARDEN_STRESS_PROGRESS": str(self.progress_path),
                "HARDEN_STRESS_VERDICT": str(self.report_path),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()

    def wait(self, process: subprocess.Popen[str]) -> Ended:
        output, _ = process.communicate(timeout=DEADLINE_S)
        report = None
        if self.report_path.exists():
            report = json.loads(self.report_path.read_text())
        return Ended(process.returncode, output, report)

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """Poll until a condition gives something true, and return that."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            time.sleep(0.02)
        return found

    def assert_ends(self, ended: Ended, exit_code: int, *patterns: str) -> None:
        self.assertEqual(ended.exit_code, exit_code, ended.output)
        self.assertNotIn("Traceback", ended.output)
        for pattern in patterns:
            self.assertRegex(ended.output, pattern)


def request(
    url: str, method: str, path: str, body: str | None = None, content_type: str = ""
) -> tuple[int, str]:
    """Send one request; return status and text."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
