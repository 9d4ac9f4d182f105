"""What the platform asks every service process: alive (`/healthz`), ready (`/readyz`), metrics (`/metrics`).

The rule: it has a port of its own, which nobody outside reaches: metrics tell strangers how much business there is, and a question for
readiness asks the database.
"""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workers.runtime.environment import SettingError

REQUEST_SECONDS = 10  # a probe sends its request in one packet


def serve_health(host: str, port: int, ready: Callable[[], bool]) -> ThreadingHTTPServer:
    """Serve on a port until `shutdown()`. The process is alive as long as it responds; `ready` returns whether it can work.

    Raises SettingError when the port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            status, kind, body = _answer(self.path, ready)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
            """Log nothing: probes come every few seconds."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise SettingError(
            f"health and metrics cannot listen on {host}:{port} ({error.strerror}): set Q2O_HEALTH_PORT to a free port"
        ) from error
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _answer(path: str, ready: Callable[[], bool]) -> tuple[int, str, bytes]:
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    if path == "/healthz":
        return 200, "text/plain", b"alive\n"
    if path == "/readyz":
        return (200, "text/plain", b"ready\n") if ready() else (503, "text/plain", b"not ready\n")
    return 404, "text/plain", b"ask /healthz, /readyz or /metrics\n"
