"""How soon the gateway notices what it must notice; to be run with nothing beside it."""

import contextlib
import http.client
import json
import os
import signal
import time
from urllib.parse import urlsplit

import psutil
import pytest

from tests.waiting import wait_until

pytestmark = pytest.mark.timing

LONG = 30_000


@contextlib.contextmanager
def _started(server, *, stream):
    """A long generation that is under way, as connection and (streamed) response."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    body = {"prompt": "x", "max_tokens": LONG, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body))
    response = connection.getresponse() if stream else None
    wait_until(lambda: _worker(server)["generated_tokens"] > 10, what="it generates")
    try:
        yield connection, response
    finally:
        connection.close()


def _worker(server):
    return server.metrics("worker")["worker"]


def _seconds_until(condition):
    started = time.monotonic()
    wait_until(condition, what="the condition of a timing test")
    return time.monotonic() - started


def test_a_death_is_recognised_within_200_ms(make_mlx_server):
    """From kill -9 to the count in /v1/metrics, the poll included."""
    server = make_mlx_server()
    os.kill(server.worker_pid, signal.SIGKILL)
    assert _seconds_until(lambda: _worker(server)["restarts"]) < 0.2


def test_a_cut_stream_ends_within_two_seconds(make_mlx_server):
    """The terminal error event and the end of the connection follow the kill at once."""
    server = make_mlx_server()
    with _started(server, stream=True) as (_, response):
        while b"data:" not in response.read1(65_536):
            pass
        os.kill(server.worker_pid, signal.SIGKILL)
        killed = time.monotonic()
        received = b""
        while chunk := response.read1(65_536):
            received += chunk
        assert time.monotonic() - killed < 2
        assert b"event: error" in received


@pytest.mark.parametrize("stream", [True, False])
def test_an_abandoned_generation_stops_within_a_second(make_mlx_server, stream):
    """The worker's own token counter stands still one second after the client has left."""
    server = make_mlx_server()
    with _started(server, stream=stream) as (connection, _):
        connection.close()
        time.sleep(1)  # what is being judged
        after_a_second = _worker(server)["generated_tokens"]
        time.sleep(1)
        assert _worker(server)["generated_tokens"] == after_a_second < LONG


def test_an_orphaned_worker_ends_within_two_seconds(make_mlx_server):
    """After kill -9 of the gateway, also in the middle of a generation."""
    server = make_mlx_server()
    worker = psutil.Process(server.worker_pid)
    with _started(server, stream=False):
        os.kill(server.pid, signal.SIGKILL)
        assert _seconds_until(lambda: not worker.is_running()) < 2
