"""What a worker's death costs the clients of `harden serve`: nothing that could be saved."""

import http.client
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from harden.exceptions import ServerStartError
from tests.waiting import wait_until

OK = 200
PROMPTS = [f"tell me about number {n}" for n in range(10)]
# Far enough outside that the write cannot land in memory that the process has.
SEGFAULT = {"logit_bias": {"2000000000": 5}}
THREAD_DEATH = {"top_k": 10**9, "temperature": 1}


def _ask_all(server, max_tokens, **fields):
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        ask = lambda prompt: server.chat(prompt, max_tokens=max_tokens, **fields)  # noqa: E731
        return list(pool.map(ask, PROMPTS))


def _while_running(server, action, max_tokens, **fields):
    """Ask all prompts at once, and act when all of them are at the worker."""
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(_ask_all, server, max_tokens, **fields)
        wait_until(
            lambda: server.metrics("requests")["requests"]["running"] >= len(PROMPTS),
            what="all requests are at the worker",
        )
        result = action()
        return answers.result(), result


def _is_ready(server):
    return server.request("GET", "/ready")[0] == OK


def _restarts(server):
    return sum(server.metrics("worker")["worker"]["restarts"].values())


@pytest.mark.parametrize(
    ("number", "stream"),
    [
        (signal.SIGKILL, True),
        (signal.SIGKILL, False),
        (signal.SIGSEGV, False),
        (signal.SIGABRT, True),
    ],
)
def test_unanswered_requests_survive_the_workers_death(make_mlx_server, number, stream):
    """Requests of which the client has nothing yet are replayed, and give the same answers."""
    server = make_mlx_server()
    prompts = [f"{n} " + "a long prompt of many words " * 60 for n in range(10)]

    def ask(prompt):
        return server.chat(prompt, max_tokens=12, stream=stream)

    undisturbed = [ask(prompt).text for prompt in prompts]
    psutil.Process(server.worker_pid).kill()
    wait_until(lambda: _restarts(server) == 1 and _is_ready(server), what="a worker with no cache")
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = pool.map(ask, prompts)
        wait_until(
            lambda: server.metrics("requests")["requests"]["running"] >= len(prompts),
            what="all requests are at the worker",
        )
        os.kill(server.worker_pid, number)
        answers = list(answers)
    complete = [answer for answer in answers if answer.error is None]
    assert [a.text for a in complete] == [
        text for text, a in zip(undisturbed, answers, strict=True) if a.error is None
    ]
    if not stream:
        assert len(complete) == len(prompts)
    else:  # a stream whose first tokens were out cannot be saved, and says so
        codes = {answer.error["code"] for answer in answers if answer.error}
        assert codes <= {"worker_crashed"}
    reasons = server.metrics("worker")["worker"]["restarts"]
    assert reasons.get(signal.Signals(number).name, 0) >= 1


def test_a_request_that_segfaults_the_worker_fails_alone(make_mlx_server):
    """Among ten users: exactly one 500, ten answers equal to those of an undisturbed run."""
    server = make_mlx_server()
    undisturbed = [answer.text for answer in _ask_all(server, 300, stream=False)]
    answers, guilty = _while_running(
        server, lambda: server.chat("x", max_tokens=4, stream=False, **SEGFAULT), 300, stream=False
    )
    assert guilty.status == 500
    assert guilty.error["code"] == "request_crashed_worker"
    assert [(answer.status, answer.text) for answer in answers] == [
        (OK, text) for text in undisturbed
    ]
    for _ in range(3):
        assert server.chat("x", max_tokens=4, **SEGFAULT).status == 500
    assert server.chat(PROMPTS[0], max_tokens=300).text == undisturbed[0]


def test_a_request_that_kills_the_generation_thread_fails_alone(make_mlx_server):
    """Exactly one 500, ten answers, the same process with its weights."""
    server = make_mlx_server()
    undisturbed = [answer.text for answer in _ask_all(server, 300, stream=False)]
    worker = server.worker_pid
    answers, guilty = _while_running(
        server,
        lambda: server.chat("x", max_tokens=4, stream=False, **THREAD_DEATH),
        300,
        stream=False,
    )
    assert guilty.status == 500
    assert [(answer.status, answer.text) for answer in answers] == [
        (OK, text) for text in undisturbed
    ]
    assert server.worker_pid == worker
    assert _restarts(server) == 0


def test_a_stream_cut_after_its_first_event_says_so(make_mlx_server):
    """A terminal error event and a closed connection, never a silent end."""
    server = make_mlx_server()
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    body = {"prompt": "x", "max_tokens": 20_000, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body))
    response = connection.getresponse()
    received = b""
    while b"data:" not in received:
        received += response.read1(65_536)
    os.kill(server.worker_pid, signal.SIGKILL)
    while chunk := response.read1(65_536):
        received += chunk
    connection.close()
    last = received.rstrip().split(b"\n\n")[-1].decode()
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["error"]["code"] == "worker_crashed"
    assert b"[DONE]" not in received


def test_a_worker_that_stalls_is_replaced(make_mlx_server):
    """SIGSTOP under load: no request that can be replayed fails, and the reason is counted."""
    server = make_mlx_server("--stall-timeout", "3")
    undisturbed = [answer.text for answer in _ask_all(server, 300, stream=False)]
    answers, _ = _while_running(
        server, lambda: os.kill(server.worker_pid, signal.SIGSTOP), 300, stream=False
    )
    assert [(answer.status, answer.text) for answer in answers] == [
        (OK, text) for text in undisturbed
    ]
    assert server.metrics("worker")["worker"]["restarts"] == {"stall": 1}


def test_a_drain_lets_running_streams_end(make_mlx_server):
    """SIGTERM: what runs ends properly, what comes gets 503 with Retry-After, nothing is left."""
    server = make_mlx_server()
    worker = psutil.Process(server.worker_pid)

    def drain():
        os.kill(server.pid, signal.SIGTERM)
        refused = wait_until(
            lambda: (a := server.chat("late", max_tokens=1)).status == 503 and a,
            what="the server refuses new requests",
        )
        assert refused.error["code"] == "draining"

    answers, _ = _while_running(server, drain, 400)
    assert [answer.finish_reason for answer in answers] == ["length"] * len(PROMPTS)
    wait_until(lambda: server.process.returncode is not None, what="the server has ended")
    assert server.process.returncode == 0
    assert not worker.is_running()


def test_what_does_not_end_in_time_ends_with_an_error(make_mlx_server):
    """After --drain-timeout the rest is told, and the server stops all the same."""
    server = make_mlx_server("--drain-timeout", "1")
    answers, _ = _while_running(server, lambda: os.kill(server.pid, signal.SIGTERM), 30_000)
    assert {answer.error["code"] for answer in answers} == {"draining"}
    wait_until(lambda: server.process.returncode is not None, what="the server has ended")
    assert server.process.returncode == 0


def test_a_second_signal_stops_at_once(make_mlx_server):
    """Whoever presses Ctrl-C twice does not want to wait for the drain."""
    server = make_mlx_server("--drain-timeout", "10m")

    def twice():
        os.kill(server.pid, signal.SIGINT)
        wait_until(lambda: server.chat("late").status == 503, what="it drains")
        os.kill(server.pid, signal.SIGINT)

    _while_running(server, twice, 30_000)
    wait_until(lambda: server.process.returncode is not None, what="the server has ended")


def test_a_worker_does_not_outlive_its_gateway(make_mlx_server):
    """After kill -9 of the gateway the worker is gone, though nobody told it."""
    server = make_mlx_server()
    worker = psutil.Process(server.worker_pid)
    sockets = [Path(c.laddr) for c in worker.net_connections("unix") if c.laddr]
    assert sockets
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not worker.is_running(), what="the worker has ended", within_s=10)
    assert not [path for path in sockets if path.parent.exists()]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(make_mlx_server, stream):
    """Streamed or not, its generation ends, proved by the worker's own token counter."""
    server = make_mlx_server()
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    body = {"prompt": "x", "max_tokens": 30_000, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body))
    generated = lambda: server.metrics("worker")["worker"]["generated_tokens"]  # noqa: E731
    wait_until(lambda: generated() > 10, what="it generates")
    connection.close()
    wait_until(
        lambda: server.metrics("requests")["requests"]["in_flight"] == 0, what="its place is free"
    )

    def stands_still():
        first = generated()
        time.sleep(0.3)  # the counter must be seen not to move
        return generated() == first

    wait_until(stands_still, what="the worker has stopped generating", within_s=10)
    assert generated() < 30_000
    assert server.metrics("requests")["requests"]["failed"] == {"499": 1}


def test_a_client_that_leaves_the_queue_frees_its_place_there(make_mlx_server):
    """A request that waits and whose client leaves is not generated when its turn comes."""
    server = make_mlx_server("--max-running", "1", "--max-waiting", "1")
    parts = urlsplit(server.url)
    connections = []
    for state in ("running", "waiting"):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        body = {"prompt": "x", "max_tokens": 30_000}
        connection.request("POST", "/v1/completions", json.dumps(body))
        connections.append(connection)
        wait_until(lambda s=state: server.metrics()["requests"][s] == 1, what=f"one is {state}")
    assert server.chat("one more").status == 429
    for connection in reversed(connections):
        connection.close()
    wait_until(lambda: server.metrics()["requests"]["in_flight"] == 0, what="both places are free")
    assert server.chat("hello", max_tokens=4).status == OK
    assert server.metrics()["requests"]["failed"] == {"429": 1, "499": 2}


def test_a_request_past_its_deadline_is_told_and_ended(make_mlx_server):
    """--request-timeout: 504, and the worker stops working on it."""
    server = make_mlx_server("--request-timeout", "1")
    answer = server.chat("x", max_tokens=30_000, stream=False)
    assert (answer.status, answer.error["code"]) == (504, "timeout")
    streamed = server.chat("x", max_tokens=30_000)
    assert streamed.error["code"] == "timeout"


def test_a_dying_worker_is_given_up_after_five_idle_deaths(make_mlx_server):
    """A server that can never start ends with a message and exit code 1, not with a loop."""
    command = "python3 -c 'import sys; sys.exit(\"cannot start {port}\")'"
    with pytest.raises(ServerStartError) as caught:
        make_mlx_server("--backend", command)
    assert caught.value.exit_code == 1
    assert "5 times in a row" in caught.value.log_tail
    assert "cannot start" in caught.value.log_tail


def test_a_worker_that_is_never_ready_is_given_up_too(make_mlx_server):
    """A server that starts and never answers is replaced, and after five times that is said."""
    with pytest.raises(ServerStartError) as caught:
        make_mlx_server("--backend", "sleep 60 {port}", "--start-timeout", "200ms")
    assert caught.value.exit_code == 1
    assert "start timeout" in caught.value.log_tail


def test_kills_of_an_idle_worker_never_end_the_server(make_mlx_server):
    """Kills from outside do not add up to a crash loop, however many there are in a row."""
    server = make_mlx_server()
    for kill in range(6):
        pid = wait_until(
            lambda: (w := server.metrics("worker")["worker"])["ready"] and w["pid"],
            what=f"the worker is back after {kill} kills",
        )
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: server.worker_pid != pid, what="the kill was noticed")
    assert server.chat("hello", max_tokens=4).status == OK
    assert server.metrics("worker")["worker"]["restarts"] == {"SIGKILL": 6}


def test_threads_do_not_pile_up(make_mlx_server):
    """Kills leave the gateway with the threads and descriptors that it had."""
    server = make_mlx_server()
    gateway = psutil.Process(server.pid)
    server.chat("warm up")

    def kill_and_ask():
        psutil.Process(server.worker_pid).kill()
        assert server.chat("again").status == OK

    kill_and_ask()
    before = (gateway.num_threads(), gateway.num_fds())
    for _ in range(3):
        kill_and_ask()
    wait_until(
        lambda: (gateway.num_threads(), gateway.num_fds()) <= before, what="nothing piled up"
    )
    assert threading.active_count() < 20
