"""Hundreds of kills at random instants under load."""

import os
import random
import signal
import threading
import time

import psutil
import pytest

from tests.waiting import wait_until

PROMPTS = [f"{n} " + "some words " * (20 * n) for n in range(6)]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
HONEST_ERRORS = {"request_crashed_worker", "worker_crashed"}
DEADLINE_S = 60


class _Client(threading.Thread):
    """Asks one prompt after another and notes whatever is not as it should be."""

    def __init__(self, server, expected, seed):
        super().__init__(daemon=True)
        self.server, self.expected = server, expected
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.right, self.wrong = 0, []

    def run(self):
        while not self.stop.is_set():
            prompt = self.random.choice(PROMPTS)
            started = time.monotonic()
            try:
                answer = self.server.chat(prompt, max_tokens=24, stream=self.random.random() < 0.5)
            except OSError as error:
                self.wrong.append(f"no answer: {error!r}")
                continue
            self._judge(prompt, answer, time.monotonic() - started)

    def _judge(self, prompt, answer, took_s):
        if took_s > DEADLINE_S + 5:
            self.wrong.append(f"took {took_s:.0f} s")
        elif answer.error is not None:
            if answer.error.get("code") not in HONEST_ERRORS:
                self.wrong.append(f"error: {answer.error}")
        elif answer.text != self.expected[prompt]:
            self.wrong.append(f"text: {answer.text!r}")
        else:
            self.right += 1


def _figures(process):
    memory = process.memory_full_info().uss
    return process.num_threads(), process.num_fds(), memory


def _kill_rounds(server, rounds, seed):
    expected = {prompt: server.chat(prompt, max_tokens=24).text for prompt in PROMPTS}
    gateway = psutil.Process(server.pid)
    chance = random.Random(seed)
    clients = [_Client(server, expected, f"{seed}/{n}") for n in range(4)]
    for client in clients:
        client.start()
    early = None
    for number in range(rounds):
        pid = wait_until(
            lambda: (w := server.metrics("worker")["worker"])["ready"] and w["pid"],
            what="a worker is ready",
        )
        time.sleep(chance.uniform(0, 0.3))  # the random instant
        os.kill(pid, chance.choice(SIGNALS))
        wait_until(lambda pid=pid: server.worker_pid != pid, what="the kill was noticed")
        if number == rounds // 5:
            early = _figures(gateway)
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join(DEADLINE_S + 10)
        assert not client.is_alive(), "a client hangs"
    return clients, early, _figures(gateway)


@pytest.mark.parametrize(
    "rounds", [6, pytest.param(300, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_random_kills_cost_nobody_a_wrong_answer(make_mlx_server, rounds):
    """No refused connection, no hang, no wrong answer; the gateway grows in nothing."""
    seed = random.randrange(2**32)
    server = make_mlx_server("--request-timeout", str(DEADLINE_S))
    clients, early, late = _kill_rounds(server, rounds, seed)
    wrong = [complaint for client in clients for complaint in client.wrong]
    assert not wrong, f"seed {seed}: {wrong[:5]}"
    assert all(client.right for client in clients), f"seed {seed}"
    assert sum(server.metrics("worker")["worker"]["restarts"].values()) >= rounds
    if rounds >= 100:
        assert late[0] <= early[0] + 2, f"threads: {early[0]} to {late[0]}"
        assert late[1] <= early[1] + 12, f"open files: {early[1]} to {late[1]}"
        assert late[2] < early[2] * 1.2, f"memory: {early[2]} to {late[2]} bytes"
