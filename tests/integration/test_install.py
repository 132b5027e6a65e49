"""The three lines of harden.mlx.install under plain python."""

import http.client
import json
import sys
from urllib.parse import urlsplit

import pytest

from harden.models.tiny import tiny_model_path
from harden.server_handle import ServerHandle
from harden.server_process import ServerProcess

THREE_LINES = """
import mlx_lm.server, harden.mlx
harden.mlx.install(mlx_lm.server)
mlx_lm.server.main()
"""


def _start(**environment):
    command = [sys.executable, "-c", THREE_LINES]
    flags = ["--model", str(tiny_model_path()), "--port", "{port}", "--prompt-cache-bytes", "50MB"]
    return ServerProcess([*command, *flags], environment=environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with _start(HF_HOME=str(tmp_path_factory.mktemp("empty"))) as process:
        yield ServerHandle(process.url, process)


def test_an_ordinary_server_counts_its_requests(server):
    """mlx_lm.server with the three lines has /v1/metrics, and it counts."""
    before = server.metrics()["requests"]["received"]
    answer = server.chat("hello", max_tokens=9)
    after = server.metrics()
    assert (answer.status, answer.usage["completion_tokens"]) == (200, 9)
    assert after["requests"]["received"] == before + 1
    assert after["requests"]["in_flight"] == 0
    assert after["tokens"]["generation_tokens"] >= 9
    assert "mlx_generation_tokens_total" in server.request("GET", "/metrics")[1].decode()


def test_models_are_names_on_a_machine_without_a_model_cache(server):
    """GET /v1/models answers JSON without a path, where upstream answers with nothing."""
    status, raw = server.request("GET", "/v1/models")
    names = [model["id"] for model in json.loads(raw)["data"]]
    assert status == 200
    assert names
    assert not any("/" in name for name in names)


def test_a_completion_that_continues_its_own_answer_is_answered(server):
    """The valid request that kills upstream's generation thread is an ordinary one here."""

    def complete(prompt):
        body = json.dumps({"prompt": prompt, "max_tokens": 8}).encode()
        status, raw = server.request("POST", "/v1/completions", body)
        assert status == 200
        return json.loads(raw)["choices"][0]["text"]

    text = "Once upon a time"
    for _ in range(4):
        text += complete(text)
        complete(text)


@pytest.mark.parametrize(
    "fields", [{"stop": 5}, {"stop": [1]}, {"prompt": ""}, {"top_k": 10**9, "temperature": 1}]
)
def test_the_generation_thread_outlives_what_kills_upstreams(server, fields):
    """One such request fails, the thread starts over, and the next request is answered."""
    expected = server.chat("good", max_tokens=6).text
    body = json.dumps({"prompt": "x", "max_tokens": 4, **fields}).encode()
    status, raw = server.request("POST", "/v1/completions", body)
    assert status >= 400
    assert "error" in json.loads(raw)
    assert server.chat("good", max_tokens=6).text == expected


def test_an_unknown_model_is_a_404_without_a_path(server):
    """Upstream tries to load whatever path a client names; the name is refused here."""
    answer = server.chat("x", model="/etc")
    assert answer.status == 404
    assert "/etc" not in json.dumps(answer.error)


@pytest.mark.parametrize("stream", [True, False])
def test_the_worker_itself_enforces_a_deadline(server, stream):
    """The gateway hands a request's time limit on; past it the worker ends the generation."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    body = json.dumps({"prompt": "x", "max_tokens": 30_000, "stream": stream})
    connection.request("POST", "/v1/completions", body, {"X-Harden-Timeout-Ms": "300"})
    response = connection.getresponse()
    raw = response.read().rpartition(b"data: ")[2]
    connection.close()
    assert response.status == (200 if stream else 504)
    assert json.loads(raw)["error"]["code"] == "timeout"
    assert server.metrics()["requests"]["in_flight"] == 0


def test_a_key_guards_it_without_a_gateway_too():
    """HARDEN_API_KEY guards completions, models and metrics in one's own process as well."""
    body = b'{"prompt": "a", "max_tokens": 1}'
    with _start(HARDEN_API_KEY="one-key") as process:
        handle = ServerHandle(process.url, process)
        for key, expected in ((None, 401), ("other", 401), ("one-key", 200)):
            assert handle.request("POST", "/v1/completions", body, key=key)[0] == expected
            assert handle.request("GET", "/v1/models", key=key)[0] == expected
            assert handle.request("GET", "/v1/metrics", key=key)[0] == expected
