"""Every setting of the server: mlx_lm.server's flags first, then harden's own."""

from __future__ import annotations

from dataclasses import replace

from harden.setting_types import (
    Setting,
    between,
    number,
    parse_boolean,
    parse_duration,
    parse_json_object,
    parse_key,
    parse_names,
    parse_size,
    parse_text,
)

__all__ = ["SETTINGS"]

_MODEL = "model"
_NETWORK = "network"
_SAMPLING = "sampling defaults"
_BATCHING = "batching"
_CACHE = "prompt cache"
_LIMITS = "limits"
_SUPERVISION = "supervision"


def _switch(flag: str, help_text: str, group: str, *, default: bool = False) -> Setting:
    return Setting(flag, help_text, group, parse_boolean, default, switch=True)


# Names and defaults: mlx_lm/server.py, main(); tests/unit/test_settings.py compares them.
_UPSTREAM = (
    Setting(
        "--model",
        "a model folder, a hub id, or the embedded model tiny",
        _MODEL,
        parse_text,
        "tiny",
        environment="MLX_MODEL",
    ),
    Setting("--adapter-path", "folder of trained adapter weights", _MODEL, parse_text),
    Setting("--draft-model", "model for speculative decoding", _MODEL, parse_text),
    Setting(
        "--num-draft-tokens",
        "how far the draft model runs ahead",
        _MODEL,
        between(1),
        3,
        "tokens",
    ),
    _switch("--trust-remote-code", "run code that the tokenizer brings along", _MODEL),
    Setting("--chat-template", "chat template for the tokenizer", _MODEL, parse_text, ""),
    _switch("--use-default-chat-template", "use the tokenizer's default chat template", _MODEL),
    Setting(
        "--chat-template-args",
        "arguments of the chat template as a JSON object",
        _MODEL,
        parse_json_object,
        "{}",
    ),
    _switch("--pipeline", "split layers, not tensors, between machines", _MODEL),
    Setting("--host", "address to listen on", _NETWORK, parse_text, "127.0.0.1"),
    Setting(
        "--port",
        "port to listen on; 0: a free one",
        _NETWORK,
        between(0, 65535),
        8080,
        environment="MLX_PORT",
    ),
    Setting(
        "--allowed-origins",
        "web origins that browsers may call from, separated by commas",
        _NETWORK,
        parse_names,
        "*",
    ),
    Setting(
        "--log-level",
        "how much is logged",
        "logging",
        parse_text,
        "INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    ),
    Setting("--temp", "sampling temperature; 0 is greedy", _SAMPLING, number(0), 0.0),
    Setting("--top-p", "nucleus sampling", _SAMPLING, number(0, 1), 1.0),
    Setting("--top-k", "sample among so many; 0: among all", _SAMPLING, between(0), 0, "tokens"),
    Setting("--min-p", "least share of the best token's probability", _SAMPLING, number(0, 1), 0.0),
    Setting("--max-tokens", "longest answer", _SAMPLING, between(1), 512, "tokens"),
    Setting(
        "--decode-concurrency",
        "how many requests are decoded in one batch",
        _BATCHING,
        between(1),
        32,
        "requests",
    ),
    Setting(
        "--prompt-concurrency",
        "how many prompts are processed in one batch",
        _BATCHING,
        between(1),
        8,
        "requests",
    ),
    Setting(
        "--prefill-step-size", "prompt tokens in one step", _BATCHING, between(1), 2048, "tokens"
    ),
    Setting("--prompt-cache-size", "most caches held in memory", _CACHE, between(0), 10, "entries"),
    Setting(
        "--prompt-cache-bytes", "most memory for these caches", _CACHE, parse_size, unit="size"
    ),
    Setting(
        "--kv-bits",
        "quantise the KV cache; requests are then served one at a time",
        _CACHE,
        between(2, 8),
        unit="bits",
    ),
    Setting("--kv-group-size", "group of the quantisation", _CACHE, between(1), 64, "values"),
    Setting(
        "--quantized-kv-start", "first token that is quantised", _CACHE, between(0), 5000, "tokens"
    ),
)

_OWN = (
    Setting(
        "--served-model-name", "name under which /v1/models lists the model", _MODEL, parse_text
    ),
    Setting(
        "--backend",
        "command of another OpenAI-compatible server, with {port} and {model} in it",
        _MODEL,
        parse_text,
    ),
    _switch("--insecure", "allow another host than loopback without HARDEN_API_KEY", _NETWORK),
    Setting(
        "--max-connections", "most open connections", _NETWORK, between(1), 1024, "connections"
    ),
    Setting("--max-body-bytes", "largest request body", _NETWORK, parse_size, "16MB", "size"),
    Setting("--max-running", "requests in the model at once", _LIMITS, between(1), 32, "requests"),
    Setting(
        "--max-waiting",
        "requests that may queue; one more gets 429",
        _LIMITS,
        between(0),
        256,
        "requests",
    ),
    Setting(
        "--request-timeout",
        "longest time from arrival to the end of the answer",
        _LIMITS,
        parse_duration,
        600.0,
        "seconds",
    ),
    Setting("--memory-limit", "memory that the model may use", _LIMITS, parse_size, unit="size"),
    Setting("--cache-dir", "folder of the prompt cache on disk", _CACHE, parse_text),
    Setting("--cache-bytes", "most disk space for it", _CACHE, parse_size, unit="size"),
    replace(
        _switch("--kv-cache-warmup", "answer one short request before being ready", _CACHE),
        environment="KV_CACHE_WARMUP",
    ),
    Setting(
        "--drain-timeout",
        "how long running requests may take to end after SIGTERM",
        _SUPERVISION,
        parse_duration,
        30.0,
        "seconds",
    ),
    Setting(
        "--stall-timeout",
        "restart a worker that makes no progress for so long",
        _SUPERVISION,
        parse_duration,
        60.0,
        "seconds",
    ),
    Setting(
        "--start-timeout",
        "restart a worker that is not ready after so long",
        _SUPERVISION,
        parse_duration,
        600.0,
        "seconds",
    ),
    Setting(
        None,
        "key that clients of /v1 must send as a bearer token",
        "keys",
        parse_key,
        environment="HARDEN_API_KEY",
    ),
    Setting(
        None,
        "key for /v1/metrics and /metrics; HARDEN_API_KEY where it is not set",
        "keys",
        parse_key,
        environment="METRICS_API_KEY",
    ),
)

SETTINGS: tuple[Setting, ...] = tuple(replace(s, upstream=True) for s in _UPSTREAM) + _OWN
