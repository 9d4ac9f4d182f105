"""What the platform asks every service process: alive (`/healthz`), ready (`/readyz`), metrics (`/metrics`).

The rule: it has a port of its own, which nobody outside reaches: metrics tell strangers how much business there is, and a question for
readiness asks the services (`workers.runtime.readiness`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workers.runtime.environment import SettingError
from workers.runtime.listening import remedy_of, system_reason

REQUEST_SECONDS = 10  # a probe sends its request in one packet


def serve_health(host: str, port: int, complaints: Callable[[], Sequence[str]]) -> ThreadingHTTPServer:
    """Serve on a port until `shutdown()`. The process is alive as long as it responds; `complaints` says why it cannot work, if it cannot.

    Raises SettingError when the port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            status, kind, body = _answer(self.path, complaints)
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
            f"health and metrics cannot listen on {host}:{port} ({system_reason(error)}): "
            + remedy_of(error, "Q2O_HTTP_HOST", "Q2O_HEALTH_PORT")
        ) from error
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _answer(path: str, complaints: Callable[[], Sequence[str]]) -> tuple[int, str, bytes]:
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    if path == "/healthz":
        return 200, "text/plain", b"alive\n"
    if path == "/readyz":
        lines = complaints()
        text = "".join(f"{line}\n" for line in lines) or "ready\n"
        return 503 if lines else 200, "text/plain; charset=utf-8", text.encode(errors="replace")
    return 404, "text/plain", b"ask /healthz, /readyz or /metrics\n"
