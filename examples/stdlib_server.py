"""A server on http.server with harden's start-up checks, cache recovery, metrics and redaction."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harden import CacheError, ConfigValidator, ErrorHandler, MetricsCollector
from harden.exposition import respond
from harden.redaction import redact
from harden.server_metrics import ServerMetrics

collector, cache = MetricsCollector(), dict[str, bytes]()
errors, metrics = ErrorHandler(cache=cache, metrics=collector), ServerMetrics(collector)


def complete(prompt: str) -> str:
    """Answer from a whole cache entry, else compute, and store the answer."""
    if entry := cache.get(prompt):
        found = errors.detect_cache_corruption(entry)
        if not found["corrupted"]:
            collector.record_cache_hit()
            return str(json.loads(entry))
        errors.handle_cache_error(CacheError(found["reason"]), cache_data=entry, in_request=True)
        errors.recover_from_cache_corruption(prompt)
    collector.record_cache_miss()
    errors.rebuild_cache_entry(prompt, json.dumps(prompt[::-1]).encode())
    return prompt[::-1]


class Handler(BaseHTTPRequestHandler):
    """GET answers the metrics, POST a prompt."""

    def do_GET(self) -> None:
        """Serve /v1/metrics; METRICS_API_KEY guards it."""
        query, key = self.path.partition("?")[2], os.environ.get("METRICS_API_KEY")
        found = respond("GET", query, self.headers["Authorization"], metrics, key)
        self.reply(found.status, found.body)

    def do_POST(self) -> None:
        """Answer {"prompt": …}; an error tells no path."""
        collector.record_request()
        try:
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            self.reply(200, json.dumps({"text": complete(prompt)}).encode())
        except (KeyError, TypeError, ValueError) as error:
            self.reply(400, json.dumps({"error": redact(f"bad request: {error!r}")}).encode())

    def reply(self, status: int, body: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if found := ConfigValidator().validate_complete_config()["errors"]:
        sys.exit("\n".join(found))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["MLX_PORT"])), Handler).serve_forever()
