"""loadtests/stress.py under real Locust, and harden stress: verdicts and exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import unittest

from load_case import FAST_SERVER, SHORT_RUN, LoadCase, request

CHAT = json.dumps({"messages": [{"role": "user", "content": "not one of yours"}]})


class TestVerdicts(LoadCase):
    def test_good_server_passes(self):
        """No scenario named: both run, end by themselves, all targets hold, exit 0."""
        ended = self.locust("--host", self.serve(), *SHORT_RUN)
        self.assert_ends(ended, 0, "sequential +success", "concurrent +complete", r"\nPASS\n")
        judged = [row for row in ended.report["rows"] if row["target"]]
        self.assertEqual({row["scenario"] for row in judged}, {"sequential", "concurrent"})
        self.assertEqual({row["verdict"] for row in judged}, {"PASS"})
        figures = ended.report["figures"]
        self.assertEqual(figures["sequential"]["requests"], 25)
        self.assertEqual(figures["concurrent"]["requests"], 20)
        self.assertEqual(figures["concurrent"]["ttft_ms"]["count"], 10)

    def test_locusts_own_statistics_have_the_true_times(self):
        """End-to-end and first-token times are rows of Locust's statistics, too."""
        ended = self.locust("--host", self.serve(), "--scenario", "sequential", *SHORT_RUN)
        self.assert_ends(ended, 0, "POST +sequential measured +25", "TTFT +sequential measured +25")

    def test_server_that_fails_every_fifth_request(self):
        """80% is not more than 90%: FAIL, exit 1; the ledgers still agree."""
        url = self.serve(*FAST_SERVER, "--fail-every", "5")
        ended = self.locust("--host", url, *SHORT_RUN)
        self.assert_ends(ended, 1, r"80\.0% \(20 of 25\) +FAIL", r"ledger .* PASS", "FAIL: ")

    def test_metrics_that_stop_half_way(self):
        """Without the server's own figures nothing is valid: exit 4, and why."""
        url = self.serve(*FAST_SERVER, "--metrics-end-after", "12")
        ended = self.locust("--host", url, *SHORT_RUN)
        self.assert_ends(ended, 4, "INVALID: .*metrics answered 503")

    def test_foreign_request(self):
        """Somebody else's request during the run: exit 4, and why."""
        url = self.serve()
        locust = self.start_locust("--headless", "--host", url, *SHORT_RUN)
        self.wait_until(self.progress_path.exists)
        self.assertEqual(request(url, "POST", "/v1/chat/completions", CHAT)[0], 200)
        self.assert_ends(self.wait(locust), 4, "INVALID: .*1 of someone else's requests")

    def test_interrupted_run(self):
        """Ctrl-C: what was not measured is INCONCLUSIVE, exit 3."""
        url = self.serve("--first-ms", "100", "--gap-ms", "10")
        locust = self.start_locust("--headless", "--host", url)
        self.wait_until(self.progress_path.exists)
        locust.send_signal(signal.SIGINT)
        self.assert_ends(self.wait(locust), 3, "INCONCLUSIVE: .*stopped before its end")

    def test_too_few_requests(self):
        """Five requests have no 95th percentile: INCONCLUSIVE, exit 3."""
        options = ("--scenario", "sequential", "--requests", "5")
        ended = self.locust("--host", self.serve(), *options)
        self.assert_ends(ended, 3, "5 samples of at least 20 +INCONCLUSIVE")


class TestBadInput(LoadCase):
    QUIET = ("--loglevel", "ERROR")  # Locust's own remarks on the machine are not what is asked

    def assert_one_line(self, output: str, prefix: str) -> None:
        lines = output.splitlines()
        self.assertEqual(len(lines), 1, output)
        self.assertTrue(lines[0].startswith(prefix), output)

    def test_unknown_scenario(self):
        """One line with the good names, exit 2; by option and by environment."""
        for ended in (
            self.locust(*self.QUIET, "--scenario", "sequential,parallel"),
            self.locust(*self.QUIET, HARDEN_SCENARIO="parallel"),
        ):
            self.assert_ends(ended, 2, "unknown scenario 'parallel'; choose among sequential")
            self.assert_one_line(ended.output, "stress: ")

    def test_nothing_to_send(self):
        """A run without requests is a usage error."""
        self.assert_ends(self.locust("--requests", "0"), 2, "--requests is 0")

    def test_unreachable_host(self):
        """One line that says what is wrong and what to do, exit 4."""
        ended = self.locust(*self.QUIET, "--host", "http://127.0.0.1:1")
        self.assert_ends(ended, 4, "INVALID: cannot read .*is the server running")
        self.assert_one_line(ended.output, "stress: ")

    def test_server_without_metrics(self):
        """A server that cannot be judged is INVALID, and the line says how to get metrics."""
        ended = self.locust(*self.QUIET, "--host", self.serve("--no-metrics"))
        self.assert_ends(ended, 4, "answered 404; .*harden serve")
        self.assert_one_line(ended.output, "stress: ")

    def test_host_that_is_no_url(self):
        """A host without a scheme is a usage error."""
        self.assert_ends(self.locust("--host", "localhost"), 2, "give one like http://")


class TestDistributed(LoadCase):
    def test_master_and_workers(self):
        """Users on two workers are released by the master, which judges all their records."""
        port = free_port()
        url = self.serve()
        master = self.start_locust(
            "--headless", "--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1",
            "--master-bind-port", port, "--host", url, *SHORT_RUN,
        )  # fmt: skip
        for _ in range(2):
            self.start_locust("--worker", "--master-port", port)
        ended = self.wait(master)
        self.assert_ends(ended, 0, r"25 of 25", r"20 of 20", r"\nPASS\n")


class TestHardenStress(LoadCase):
    def test_same_verdict_as_locust(self):
        """Table, closing line, JSON and exit code are those of Locust on the same server."""
        for options, exit_code, last_line in (
            (FAST_SERVER, 0, "PASS"),
            ((*FAST_SERVER, "--fail-every", "5"), 1, "FAIL: sequential success: 80.0%"),
        ):
            url = self.serve(*options)
            self.assertEqual(self.locust("--host", url, *SHORT_RUN).exit_code, exit_code)
            ended = self.harden_stress("--url", url, *SHORT_RUN)
            self.assert_ends(ended, exit_code, "target +measured +verdict")
            self.assertTrue(ended.output.splitlines()[-1].startswith(last_line), ended.output)
            self.assertEqual(ended.report["exit_code"], exit_code)

    def test_bad_input(self):
        """One line, the right exit code, no traceback."""
        for options, exit_code, pattern in (
            (("--url", "http://127.0.0.1:1"), 4, "INVALID: cannot read"),
            (("--url", self.serve("--no-metrics")), 4, "INVALID: .*404"),
            (("--url", "localhost:8080"), 2, "give one like"),
            (("--scenario", "parallel"), 2, "unknown scenario 'parallel'"),
            (("--rounds", "0"), 2, "--rounds is 0"),
        ):
            ended = self.harden_stress(*options)
            self.assert_ends(ended, exit_code, pattern)
            self.assertEqual(len(ended.output.splitlines()), 1, ended.output)

    def test_ctrl_c(self):
        """Locust ends with us, and the exit code is that of an interrupted program."""
        url = self.serve("--first-ms", "100", "--gap-ms", "10")
        command = [sys.executable, "-m", "harden", "stress", "--url", url]
        stress = self.start(command)
        self.wait_until(lambda: request(url, "GET", "/v1/metrics")[1].find('"received": 0') < 0)
        stress.send_signal(signal.SIGINT)
        self.assert_ends(self.wait(stress), 130)

    def test_importing_the_command_is_cheap(self):
        """Neither Locust nor gevent nor rich comes in before they are used."""
        code = (
            "import sys, harden.cli.stress; "
            "print([n for n in ('locust', 'gevent', 'rich', 'aiohttp', 'mlx') if n in sys.modules])"
        )
        output = subprocess.check_output([sys.executable, "-c", code], text=True)
        self.assertEqual(output.strip(), "[]")


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


if __name__ == "__main__":
    unittest.main()
