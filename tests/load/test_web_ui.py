"""Locust's web UI with stress.py: the form, the start, the verdict as a tab."""

from __future__ import annotations

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import unittest
from urllib.parse import urlencode

from load_case import LoadCase, request

FORM = "application/x-www-form-urlencoded"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class WebUiCase(LoadCase):
    def start_web_ui(self) -> None:
        """Start Locust without flags but for the port of its own page."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        self.locust_process = self.start_locust("--web-port", port, "--web-host", "127.0.0.1")
        self.web_url = f"http://127.0.0.1:{port}"
        self.wait_until(self.answers)

    def answers(self) -> bool:
        self.assertIsNone(self.locust_process.poll(), "Locust ended")
        try:
            return request(self.web_url, "GET", "/")[0] == 200
        except OSError:
            return False

    def template(self) -> dict:
        """What the page is rendered from."""
        text = request(self.web_url, "GET", "/")[1]
        return json.loads(re.search(r"window\.templateArgs = (.*)", text).group(1))

    def swarm(self, **form: str) -> None:
        """Press Start."""
        status, text = request(self.web_url, "POST", "/swarm", urlencode(form), FORM)
        self.assertEqual(status, 200)
        self.assertTrue(json.loads(text)["success"])

    def rows(self) -> list[dict[str, str]]:
        """What the tab shows."""
        (tab,) = self.stats()["extended_stats"]
        return tab["data"]

    def stats(self) -> dict:
        return json.loads(request(self.web_url, "GET", "/stats/requests")[1])

    def verdict(self) -> str:
        """What the tab says once Locust, too, calls the test stopped."""
        self.wait_until(lambda: self.rows()[-1]["what"] == "all")
        self.wait_until(lambda: self.stats()["state"] == "stopped")
        return self.rows()[-1]["verdict"]


class TestOverHttp(WebUiCase):
    def test_form(self):
        """The host is preset, the scenario is a field, users and spawn rate are not asked for."""
        self.start_web_ui()
        template = self.template()
        self.assertEqual(template["host"], "http://127.0.0.1:8080")
        self.assertEqual(
            template["extra_options"]["scenario"]["default_value"], "sequential,concurrent"
        )
        self.assertTrue(template["hide_common_options"])
        self.assertEqual(template["extended_tabs"], [{"title": "Verdict", "key": "verdict"}])
        (table,) = template["extended_tables"]
        self.assertEqual({column["key"] for column in table["structure"]}, set(self.rows()[0]))

    def test_runs_follow_each_other(self):
        """A run ends by itself with its verdict; the next one starts afresh; exit by the last."""
        good = {"host": self.serve(), "requests": "20", "warm_up": "5", "rounds": "1"}
        self.start_web_ui()
        self.assertEqual(self.rows()[0]["scenario"], "")
        for form, verdict in (
            ({**good, "scenario": "concurrent"}, "PASS"),
            ({**good, "scenario": "parallel"}, "INVALID"),
            ({**good, "host": "http://127.0.0.1:1"}, "INVALID"),
            ({**good, "scenario": "sequential"}, "PASS"),
        ):
            self.swarm(**form)
            self.assertEqual(self.verdict(), verdict, form)
        self.locust_process.send_signal(signal.SIGINT)
        self.assert_ends(self.wait(self.locust_process), 0)

    def test_stop_button(self):
        """A run that is stopped is INCONCLUSIVE, and so is the exit code."""
        self.start_web_ui()
        self.swarm(host=self.serve("--first-ms", "100"), scenario="sequential")
        self.wait_until(lambda: self.rows()[0]["what"] == "progress")
        self.assertEqual(request(self.web_url, "POST", "/stop")[0], 200)
        self.assertEqual(self.verdict(), "INCONCLUSIVE")
        self.locust_process.send_signal(signal.SIGINT)
        self.assert_ends(self.wait(self.locust_process), 3)

    def test_nothing_run_is_no_pass(self):
        """Opening the page and leaving proves nothing: exit 3."""
        self.start_web_ui()
        self.locust_process.send_signal(signal.SIGINT)
        self.assert_ends(self.wait(self.locust_process), 3)


@unittest.skipUnless(CHROMIUM, "Chromium is not installed; apt-get install chromium")
class TestInChromium(WebUiCase):
    def page(self, query: str = "") -> str:
        """Return the page's text after its scripts have run."""
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={self.folder / 'profile'}", "--virtual-time-budget=8000",
            "--dump-dom", f"{self.web_url}/{query}",
        ]  # fmt: skip
        dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        self.assertNotIn("Something went wrong", dom)
        scripts = r"<(script|style)\b.*?</\1>"
        return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(scripts, "", dom, flags=re.DOTALL)))

    def test_verdict_is_seen(self):
        """The start page shows our fields, and after a run the tab shows the table."""
        self.start_web_ui()
        self.assertRegex(self.page(), "(?s)Start new load test.*Custom parameters.*Scenario")
        self.swarm(host=self.serve(), scenario="concurrent", rounds="1")
        self.assertEqual(self.verdict(), "PASS")
        text = self.page("?tab=verdict")
        self.assertRegex(text, r"(?s)Target +Measured +Verdict .*complete +all +10 of 10 +PASS")
        self.assertRegex(text, r"(?s)client = server +equal: 20 requests")


if __name__ == "__main__":
    unittest.main()
