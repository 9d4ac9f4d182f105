"""The engine's password goes to the address of the settings and to no other."""

from __future__ import annotations

from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from workers.runtime.engine import Engine, EngineOutcomeUnknownError


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with (
                closing(Engine(f"http://127.0.0.1:{server.server_port}/engine-rest", "user", "password")) as engine,
                pytest.raises(EngineOutcomeUnknownError, match="is a redirect: is this address an engine's REST interface"),
            ):
                engine.may_deploy()
        finally:
            server.shutdown()
            thread.join()

    assert [path.partition("?")[0] for path in asked] == ["/engine-rest/authorization/check"]
