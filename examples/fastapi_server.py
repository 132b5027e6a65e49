"""A FastAPI server with harden's start-up checks, cache recovery, metrics and redaction."""

import json
import os

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from harden import CacheError, ConfigValidator, ErrorHandler, MetricsCollector
from harden.exposition import respond
from harden.redaction import redact
from harden.server_metrics import ServerMetrics

collector, cache = MetricsCollector(), dict[str, bytes]()
errors, metrics = ErrorHandler(cache=cache, metrics=collector), ServerMetrics(collector)
app = FastAPI()


class Prompt(BaseModel):
    """What a client sends."""

    prompt: str


@app.post("/v1/complete")
def complete(request: Prompt) -> dict[str, str]:
    """Answer from a whole cache entry, else compute, and store the answer."""
    collector.record_request()
    if entry := cache.get(request.prompt):
        found = errors.detect_cache_corruption(entry)
        if not found["corrupted"]:
            collector.record_cache_hit()
            return {"text": json.loads(entry)}
        errors.handle_cache_error(CacheError(found["reason"]), cache_data=entry, in_request=True)
        errors.recover_from_cache_corruption(request.prompt)
    collector.record_cache_miss()
    errors.rebuild_cache_entry(request.prompt, json.dumps(request.prompt[::-1]).encode())
    return {"text": request.prompt[::-1]}


@app.exception_handler(CacheError)
def refuse(_: Request, error: CacheError) -> Response:
    """An error tells no path."""
    return Response(redact(str(error)), 500)


@app.get("/v1/metrics")
def read_metrics(request: Request) -> Response:
    """Serve the metrics; METRICS_API_KEY guards them."""
    query, key = dict(request.query_params), os.environ.get("METRICS_API_KEY")
    found = respond("GET", query, request.headers.get("Authorization"), metrics, key)
    return Response(found.body, found.status, dict(found.headers))


if __name__ == "__main__":
    if found := ConfigValidator().validate_complete_config()["errors"]:
        raise SystemExit("\n".join(found))
    uvicorn.run(app, port=int(os.environ["MLX_PORT"]), log_level="warning")
