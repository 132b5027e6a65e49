"""`harden serve` on the tiny model, over real HTTP."""

import json
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

OK = 200


def _post(server, path, body, **headers):
    status, raw = server.request("POST", path, json.dumps(body).encode(), **headers)
    return status, json.loads(raw)


def test_chat_streamed_and_not_give_the_same_text(mlx_server):
    """At temperature 0 the two forms of an answer are the same answer."""
    streamed = mlx_server.chat("hello there", max_tokens=24)
    status, whole = _post(
        mlx_server,
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 24},
    )
    assert (streamed.status, status) == (OK, OK)
    assert whole["choices"][0]["message"]["content"] == streamed.text
    assert whole["usage"]["completion_tokens"] == streamed.usage["completion_tokens"] == 24


def test_counters_equal_what_was_sent(mlx_server):
    """Requests, failures and tokens of /v1/metrics grow by exactly what the client saw."""
    before = mlx_server.metrics()
    answers = [mlx_server.chat(f"question {n}", max_tokens=5) for n in range(4)]
    refused = mlx_server.chat("x", max_tokens=5, model="unknown")
    after = mlx_server.metrics()
    assert refused.status == 404
    assert after["requests"]["received"] - before["requests"]["received"] == 5
    failed = after["requests"]["failed"].get("404", 0)
    assert failed - before["requests"]["failed"].get("404", 0) == 1
    for kind, key in (("prompt_tokens",) * 2, ("generation_tokens", "completion_tokens")):
        expected = sum(answer.usage[key] for answer in answers)
        assert after["tokens"][kind] - before["tokens"][kind] == expected


def test_usage_goes_only_to_clients_that_asked(mlx_server):
    """The gateway asks for usage itself, and keeps it from a client that did not."""
    assert not mlx_server.chat("hi", stream_options=None).usage
    assert mlx_server.chat("hi").usage


def test_ten_at_once_get_the_answer_that_one_gets(mlx_server):
    """Batching changes nothing at temperature 0."""
    alone = mlx_server.chat("the same for all", max_tokens=20).text
    with ThreadPoolExecutor(10) as pool:
        texts = list(
            pool.map(lambda _: mlx_server.chat("the same for all", max_tokens=20).text, range(10))
        )
    assert texts == [alone] * 10


def test_models_are_listed_by_name(mlx_server):
    """Clients see names, never paths."""
    status, raw = mlx_server.request("GET", "/v1/models")
    assert status == OK
    assert [model["id"] for model in json.loads(raw)["data"]] == ["tiny"]
    assert b"/" not in raw


def test_every_answer_carries_a_request_id(mlx_server):
    """A client's own X-Request-Id comes back; without one the server makes it."""
    for given in (None, "my-id-7"):
        request = urllib.request.Request(f"{mlx_server.url}/health")
        if given:
            request.add_header("X-Request-Id", given)
        with urllib.request.urlopen(request) as response:
            assert response.headers["X-Request-Id"] == (given or response.headers["X-Request-Id"])
            assert response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/v1/completions", None, 405),
        ("POST", "/v1/completions", b"{", 400),
        ("POST", "/v1/completions", b"[]", 400),
        ("POST", "/v1/completions", b"\xff", 400),
        ("POST", "/v1/chat/completions", b'{"messages": [], "model": "/etc"}', 404),
        ("POST", "/v1/chat/completions", b"{}", 400),
        ("POST", "/v1/completions", b"x" * 17_000_000, 413),
        ("POST", "/v1/metrics", b"", 405),
    ],
)
def test_errors_have_the_right_status_and_shape(mlx_server, method, path, body, status):
    """Every error is OpenAI's error object with the status that fits."""
    got, raw = mlx_server.request(method, path, body)
    error = json.loads(raw)["error"]
    assert got == status
    assert set(error) == {"message", "type", "param", "code"}
    assert "/etc" not in raw.decode()


def test_prometheus_format_and_its_alias(mlx_server):
    """/metrics is /v1/metrics?format=prometheus."""
    mlx_server.chat("hi")
    _, alias = mlx_server.request("GET", "/metrics")
    _, format_ = mlx_server.request("GET", "/v1/metrics?format=prometheus")
    for text in (alias.decode(), format_.decode()):
        assert "# TYPE mlx_time_to_first_token_seconds histogram" in text
        assert "mlx_num_requests_running 0.0" in text


def test_keys_guard_what_they_should(make_mlx_server):
    """HARDEN_API_KEY guards /v1/*, METRICS_API_KEY the metrics; health and readiness are open."""
    server = make_mlx_server(HARDEN_API_KEY="secret-one", METRICS_API_KEY="secret-two")

    def status(path, key, method="GET", body=None):
        return server.request(method, path, body, key=key)[0]

    completion = ("POST", b'{"prompt": "a", "max_tokens": 1}')
    for key, expected in ((None, 401), ("wrong", 401), ("secret-two", 401), ("secret-one", OK)):
        assert status("/v1/completions", key, *completion) == expected
        assert status("/v1/models", key) == expected
    for key, expected in ((None, 401), ("secret-one", 401), ("secret-two", OK)):
        assert status("/v1/metrics", key) == expected
    assert (status("/health", None), status("/ready", None)) == (OK, OK)
    assert "secret" not in server.log


def test_the_gateway_has_no_mlx_in_it_while_it_serves(mlx_server):
    """The process that talks to clients never loads native model code."""
    mlx_server.chat("hi")
    mapped = {entry.path for entry in psutil.Process(mlx_server.pid).memory_maps()}
    assert not [path for path in mapped if "/mlx/" in path or "libmlx" in path]
    worker = {entry.path for entry in psutil.Process(mlx_server.worker_pid).memory_maps()}
    assert [path for path in worker if "/mlx/" in path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_leaves_nothing(make_mlx_server, number):
    """Ctrl-C and SIGTERM end gateway and worker, with exit code 0 and no socket left."""
    server = make_mlx_server()
    worker = psutil.Process(server.worker_pid)
    sockets = [
        connection.laddr
        for connection in psutil.Process(worker.pid).net_connections("unix")
        if connection.laddr
    ]
    assert sockets
    psutil.Process(server.pid).send_signal(number)
    wait_until(lambda: server.process.returncode is not None, what="the gateway has ended")
    assert server.process.returncode == 0
    assert not worker.is_running()
    assert not [path for path in sockets if Path(path).exists()]


def test_a_worker_killed_between_two_requests_costs_nothing(make_mlx_server):
    """After kill -9 of the worker the next request is answered, and the restart is counted."""
    server = make_mlx_server()
    before = server.chat("hello", max_tokens=16)
    psutil.Process(server.worker_pid).kill()
    after = server.chat("hello", max_tokens=16)
    assert (after.status, after.text) == (OK, before.text)
    _, text = server.request("GET", "/metrics")
    assert 'mlx_worker_restarts_total{reason="SIGKILL"} 1.0' in text.decode()


def test_prompt_cache_bytes_reaches_the_cache(make_mlx_server):
    """Upstream parses --prompt-cache-bytes and forgets it; here the cache stays under it."""
    limited = make_mlx_server("--prompt-cache-bytes", "100KB", "--prompt-cache-size", "1000")
    for number in range(6):
        limited.chat(f"{number} " + "many words of a long prompt " * 20, max_tokens=2)
    repeated = limited.chat("0 " + "many words of a long prompt " * 20, max_tokens=2)
    assert repeated.usage["prompt_tokens_details"]["cached_tokens"] < 20


def test_building_the_model_leaves_nothing_in_the_gateway(make_mlx_server, tmp_path):
    """Also where the tiny model is built first, numpy and the tokenizer's library stay out."""
    server = make_mlx_server(HARDEN_CACHE_HOME=str(tmp_path))
    assert "Building the tiny model" in server.log
    mapped = {entry.path for entry in psutil.Process(server.pid).memory_maps()}
    assert not [path for path in mapped if "/numpy/" in path or "/tokenizers/" in path]


def test_neither_errors_nor_logs_quote_a_request(make_mlx_server):
    """Prompts and paths stay out of what clients and log files get, at the chattiest level too."""
    server = make_mlx_server("--log-level", "DEBUG")
    secret = "my very own secret sentence /home/somebody/diary.txt"
    odd = {"messages": [{"role": "user", "content": [{"type": "video", "text": secret}]}]}
    for body in (
        {"messages": [{"role": "user", "content": secret}], "max_tokens": 2},
        {**odd, "max_tokens": 2},
        {"messages": secret},
        {"prompt": secret, "stop": 5},
        {"prompt": {"a": secret}},
    ):
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        status, raw = server.request("POST", path, json.dumps(body).encode())
        assert (b"secret sentence" in raw, b"diary" in raw) == (False, False), (status, raw)
    assert "secret sentence" not in server.log
    assert "diary" not in server.log


def test_warming_up_costs_the_first_client_nothing(make_mlx_server):
    """KV_CACHE_WARMUP=1: a token was generated before the server said that it was ready."""
    server = make_mlx_server(KV_CACHE_WARMUP="1")
    worker = server.metrics("worker", "requests")
    assert worker["worker"]["generated_tokens"] == 1
    assert worker["requests"]["received"] == 0
