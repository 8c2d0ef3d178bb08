"""A small HTTP server on the loopback whose answers a test writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TAGS = {
    "models": [
        {"name": "llama3.2:latest", "digest": "d1"},
        {"name": "llama3.1:8b", "digest": "d2"},
        {"name": "registry:5000/team/judge:latest", "digest": "d3"},
    ]
}
# an address at which no server listens
NOBODY = "127.0.0.1:1"


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """``host:port`` of a server that gives each GET and POST to ``answer``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def tags(handler: BaseHTTPRequestHandler) -> None:
    """Answer as an Ollama that has the models of `TAGS`."""
    body = {"/api/tags": TAGS, "/api/show": {"details": {}, "model_info": {"llama.context_length": 8192}}}[handler.path]
    send(handler, 200, json.dumps(body).encode(), Content_Type="application/json")
