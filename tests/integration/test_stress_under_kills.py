"""`harden stress --scenario concurrent` while its server's worker is killed ten times."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.waiting import wait_until

KILLS = 10
USERS = 10


def _stress(server, report, *flags):
    command = [sys.executable, "-m", "harden", "stress", "--url", server.url]
    command += ["--scenario", "concurrent", "--json", str(report), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _requests(server):
    return server.metrics("requests")["requests"]


def _kill_in_rounds(server, number, stress):
    """Kill when all users of a round are at the worker, and not again before the next round."""
    for kill in range(KILLS):
        wait_until(
            lambda: stress.poll() is not None or _requests(server)["running"] == USERS,
            what=f"round {kill} is at the worker",
            within_s=300,
        )
        assert stress.poll() is None, stress.communicate()[0]
        done = _requests(server)["finished"]
        os.kill(server.worker_pid, number)
        wait_until(
            lambda done=done: _requests(server)["finished"] >= done + USERS,
            what=f"round {kill} is answered",
            within_s=300,
        )


@pytest.mark.parametrize(
    ("number", "answers", "characters"),
    [
        (signal.SIGKILL, "whole", 1_000),
        pytest.param(signal.SIGSEGV, "whole", 1_000, marks=pytest.mark.slow),
        pytest.param(signal.SIGABRT, "whole", 1_000, marks=pytest.mark.slow),
        *(
            pytest.param(number, "streamed", 8_000, marks=pytest.mark.slow)
            for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
        ),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value),
)
def test_ten_kills_cost_no_request(make_mlx_server, tmp_path, number, answers, characters):
    """Every request succeeds, the verdict is PASS, and ten restarts are counted."""
    server, report = make_mlx_server(), tmp_path / "report.json"
    sizes = ("--prompt-characters", str(characters), "--max-tokens", "64")
    stress = _stress(server, report, "--rounds", str(KILLS + 1), "--answers", answers, *sizes)
    try:
        _kill_in_rounds(server, number, stress)
        output, _ = stress.communicate(timeout=600)
    finally:
        stress.kill()
        stress.wait()
    assert stress.returncode == 0, output
    assert json.loads(report.read_text())["verdict"] == "PASS"
    restarts = server.metrics("worker")["worker"]["restarts"]
    assert restarts == {number.name: KILLS}
    assert _requests(server)["failed"] == {}
