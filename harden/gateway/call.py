"""A completion request as it came in, and as it goes on to the worker; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from harden.gateway.refusal import Refusal

__all__ = ["CompletionCall", "parse_call"]


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """One request to a completion endpoint.

    Attributes:
        path: endpoint at the worker.
        body: JSON for the worker; a stream always asks for usage.
        stream: the answer is an event stream.
        wants_usage: the client itself asked for the usage event.
    """

    path: str
    body: bytes
    stream: bool
    wants_usage: bool


def parse_call(path: str, raw: bytes, model_name: str | None) -> CompletionCall:
    """Read a request body as far as the gateway has to.

    Args:
        path: the endpoint that was called.
        raw: the body.
        model_name: the only model served, or None to leave that to the backend.

    Raises:
        Refusal: 400 for what is no JSON object or has fields of the wrong type, 404 for another
            model.
    """
    fields = _json_object(raw)
    _check_model(fields, model_name)
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "must be true or false")
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _wrong("stream_options", "must be an object such as {'include_usage': true}")
    if not stream:
        if stream is None and "stream" not in fields and options is None:
            return CompletionCall(path, raw, stream=False, wants_usage=False)
        fields.pop("stream_options", None)
        fields["stream"] = False
        return CompletionCall(path, json.dumps(fields).encode(), stream=False, wants_usage=False)
    wants_usage = bool((options or {}).get("include_usage"))
    fields["stream_options"] = {**(options or {}), "include_usage": True}
    return CompletionCall(path, json.dumps(fields).encode(), stream=True, wants_usage=wants_usage)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(raw.decode())
    except UnicodeDecodeError:
        raise _wrong(None, "The body is not UTF-8 text.") from None
    except (ValueError, RecursionError):
        raise _wrong(None, "The body is not JSON that can be read.") from None
    if not isinstance(fields, dict):
        raise _wrong(None, "The body must be a JSON object.")
    return fields


def _check_model(fields: dict[str, Any], model_name: str | None) -> None:
    model = fields.get("model", model_name)
    if model_name is None or model in (model_name, "default_model"):
        return
    if not isinstance(model, str):
        raise _wrong("model", f"must be a string, such as {model_name!r}")
    raise Refusal(
        404,
        f"This server has only the model {model_name!r}.",
        code="model_not_found",
        param="model",
    )


def _wrong(param: str | None, what: str) -> Refusal:
    message = what if param is None else f"'{param}' {what}."
    return Refusal(400, message, code="invalid_request", param=param)
