"""harden.server_process: ready or a clear error, and nothing left behind."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import psutil

from harden import server_process
from harden.exceptions import ServerStartError
from harden.server_process import ServerProcess

SERVER = """
import http.server, os, signal, subprocess, sys
port, *modes = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    polls = 0
    def do_GET(self):
        Handler.polls += 1
        ready = self.path == "/ready" and Handler.polls >= 3
        self.send_response(200 if ready else 503)
        self.end_headers()
    def log_message(self, *arguments):
        pass
for mode in modes:
    if mode.startswith("child="):
        code = "import time\\nwhile True: time.sleep(9)"
        separate = {"start_new_session": True} if "separate" in modes else {}
        child = subprocess.Popen([sys.executable, "-c", code], **separate)
        open(mode.removeprefix("child="), "w").write(str(child.pid))
if "stubborn" in modes:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "die" in modes:
    print("no such model: tiny2; name a folder", flush=True)
    sys.exit(3)
server = http.server.HTTPServer(("127.0.0.1", int(port)), Handler)
print("value:", os.environ.get("HARDEN_TEST_VALUE"), flush=True)
print(f"[banner] Listening on http://127.0.0.1:{server.server_port}", flush=True)
if "mute" in modes:
    server.socket.close()
    while True: signal.pause()
server.serve_forever()
"""


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class ServerProcessTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.script = self.folder / "server.py"
        self.script.write_text(SERVER)
        self.child_file = self.folder / "child"

    def command(self, port: str, *modes: str) -> list[str]:
        return [sys.executable, str(self.script), port, *modes]

    def taken_port(self) -> int:
        holder = self.enterContext(socket.socket())
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]

    def assert_child_ended(self):
        self.assertTrue(has_ended(int(self.child_file.read_text())))


class TestStart(ServerProcessTest):
    def test_url_is_read_from_the_output(self):
        """Port 0: the server says where it listens, and is waited for until /ready is 200."""
        with ServerProcess(self.command("0")) as server:
            self.assertIsNone(server.returncode)
            self.assertEqual(server.url, f"http://127.0.0.1:{server.port}")
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            self.addCleanup(connection.close)
            connection.request("GET", "/ready")
            self.assertEqual(connection.getresponse().status, 200)

    def test_free_port_is_substituted(self):
        """The placeholder becomes a free port."""
        with ServerProcess(self.command("{port}")) as server:
            self.assertGreater(server.port, 0)
            self.assertIn(f"127.0.0.1:{server.port}", server.log_tail())

    def test_placeholder_of_a_server_that_announces_its_port(self):
        """A placeholder that is the server's own business reaches it as it is."""
        command = self.command("0", "--backend", "serve {port}")
        with ServerProcess(command, announces_port=True) as server:
            self.assertIn("serve {port}", psutil.Process(server.pid).cmdline())

    def test_taken_port_is_tried_again(self):
        """When somebody was faster, the next free port is used."""
        taken = self.taken_port()
        ports = iter([taken, server_process._free_port()])
        with (
            mock.patch.object(server_process, "_free_port", side_effect=ports),
            ServerProcess(self.command("{port}")) as server,
        ):
            self.assertNotEqual(server.port, taken)

    def test_environment_is_added(self):
        """Variables are set on top of this process's own."""
        with ServerProcess(
            self.command("0"), environment={"HARDEN_TEST_VALUE": "of the test"}
        ) as server:
            self.assertIn("value: of the test", server.log_tail())

    def test_proxies_of_the_environment_are_not_used(self):
        """The readiness request goes straight to the server."""
        nowhere = "http://127.0.0.1:9"
        with (
            mock.patch.dict(os.environ, {"http_proxy": nowhere, "HTTP_PROXY": nowhere}),
            ServerProcess(self.command("0")) as server,
        ):
            self.assertIsNone(server.returncode)


class TestStartFails(ServerProcessTest):
    def test_server_that_ends(self):
        """The error carries exit code and log, and names the last line."""
        server = ServerProcess(self.command("0", "die"))
        with self.assertRaisesRegex(ServerStartError, "exit code 3.*no such model") as caught:
            server.start()
        self.assertEqual(caught.exception.exit_code, 3)
        self.assertIn("no such model", caught.exception.log_tail)
        self.assertFalse(server.log_path.exists())

    def test_server_that_is_never_ready(self):
        """A deadline ends the wait, and the server with it."""
        server = ServerProcess(self.command("0", "mute"), start_timeout_s=1.5)
        with self.assertRaisesRegex(ServerStartError, r"not ready within 1\.5 s"):
            server.start()
        self.assertIsNotNone(server.returncode)

    def test_server_that_says_nothing(self):
        """Without a line that names the URL nothing can be asked: that is a timeout too."""
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        with self.assertRaisesRegex(ServerStartError, "wrote nothing"):
            ServerProcess(command, start_timeout_s=0.5).start()

    def test_the_command_is_named(self):
        """The error says which server it was, by program and arguments."""
        with self.assertRaisesRegex(ServerStartError, r"\(python\S* .*server\.py 0 die\)"):
            ServerProcess(self.command("0", "die")).start()

    def test_program_that_does_not_exist(self):
        """The error names the program."""
        with self.assertRaisesRegex(ServerStartError, "no-such-program"):
            ServerProcess(["no-such-program"]).start()

    def test_every_port_taken(self):
        """After some ports the error is given up to the caller."""
        taken = self.taken_port()
        with (
            mock.patch.object(server_process, "_free_port", return_value=taken),
            self.assertRaisesRegex(ServerStartError, "in use"),
        ):
            ServerProcess(self.command("{port}"), ready_path="/none").start()


class TestStop(ServerProcessTest):
    def test_stop_is_sigterm_first(self):
        """A server that obeys ends by SIGTERM, and its exit code is reported."""
        with ServerProcess(self.command("0")) as server:
            self.assertEqual(server.stop(10), -15)
            self.assertEqual(server.returncode, -15)
            self.assertEqual(server.stop(), -15)

    def test_stubborn_server_and_its_child_are_killed(self):
        """After the wait the whole tree goes, however it reacts to SIGTERM."""
        modes = (f"child={self.child_file}", "stubborn")
        with ServerProcess(self.command("0", *modes)) as server:
            self.assertEqual(server.stop(0.3), -9)
        self.assert_child_ended()

    def test_child_in_a_session_of_its_own(self):
        """A child that left the session is found as well."""
        modes = (f"child={self.child_file}", "separate")
        with ServerProcess(self.command("0", *modes), stop_timeout_s=5):
            pass
        self.assert_child_ended()

    def test_orphan_of_a_crashed_server(self):
        """A server that died leaves a child in its session: it goes too."""
        with ServerProcess(self.command("0", f"child={self.child_file}")) as server:
            psutil.Process(server.pid).kill()
            deadline = time.monotonic() + 10
            while server.returncode is None and time.monotonic() < deadline:
                time.sleep(0.01)
        self.assertEqual(server.returncode, -9)
        self.assert_child_ended()

    def test_exceptions_leave_nothing(self):
        """Ctrl-C while waiting, or an error inside ``with``, ends the server."""
        server = ServerProcess(self.command("0", f"child={self.child_file}"))
        with (
            mock.patch.object(server_process, "_answers", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            server.start()
        self.assertTrue(has_ended(server.pid))
        self.assert_child_ended()
        with self.assertRaises(ZeroDivisionError), ServerProcess(self.command("0")) as server:
            raise ZeroDivisionError
        self.assertTrue(has_ended(server.pid))


class TestLog(ServerProcessTest):
    def test_temporary_log_goes_and_its_tail_stays(self):
        """The file is removed at the end; what it said can still be asked."""
        with ServerProcess(self.command("0")) as server:
            self.assertTrue(server.log_path.exists())
        self.assertFalse(server.log_path.exists())
        self.assertIn("Listening on", server.log_tail())
        self.assertEqual(len(server.log_tail(1).splitlines()), 1)

    def test_named_log_is_appended_to_and_kept(self):
        """An older server's lines stay, and are not read for this one's URL."""
        log_path = self.folder / "server.log"
        log_path.write_text("Listening on http://127.0.0.1:9\n")
        with ServerProcess(self.command("0"), log_path=log_path) as server:
            self.assertNotEqual(server.port, 9)
        lines = log_path.read_text().splitlines()
        self.assertEqual(lines[0], "Listening on http://127.0.0.1:9")
        self.assertIn(str(server.port), lines[-1])


if __name__ == "__main__":
    unittest.main()
