"""What stands between the network and the routes: heads that never end, lengths that contradict each other, clients that hang up; gzip."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog

from tests.support.http import JWT_SECRET, PROVIDER, Api, edit, is_problem, new_quote, opened, serving
from tests.support.offers import Offers
from tests.support.raw import connected, head, rest, trickle
from tests.support.waiting import eventually
from workers.http.edge import HttpEdge
from workers.http.limits import Limits
from workers.http.tokens import local_tokens

HASTY = Limits(head_time=timedelta(milliseconds=200))
COMPRESSED = {"Accept-Encoding": "gzip"}


class TestSlowHeads:
    @pytest.mark.parametrize("beginning", [b"", b"GET /quotes HT", b"GET /quotes HTTP/1.1\r\nHost: edge\r\n"])
    def test_a_head_that_does_not_arrive_closes_the_connection(self, offers: Offers, beginning: bytes) -> None:
        with serving(offers.engine, offers.tenant_id, HASTY) as api, connected(api) as connection:
            connection.sendall(beginning)

            assert rest(connection) == b""

    def test_a_head_that_arrives_byte_by_byte_closes_the_connection(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, HASTY) as api, connected(api) as connection:
            connection.sendall(b"GET /quotes HTTP/1.1\r\nX-Slow: ")

            with pytest.raises(ConnectionError):
                while trickle(connection, b"x", 1000) == b"":
                    connection.sendall(b"x")

    def test_the_head_of_a_next_request_is_limited_too(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, HASTY) as api, connected(api) as connection:
            connection.sendall(b"GET /quotes HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")
            connection.sendall(b"GET /quo")

            assert b"HTTP/1.1" not in rest(connection)

    def test_a_body_may_take_longer_than_its_head(self, offers: Offers) -> None:
        body = json.dumps(new_quote()).encode()
        with serving(offers.engine, offers.tenant_id, HASTY) as api, connected(api) as connection:
            connection.sendall(head(api, f"Content-Length: {len(body) + 40}"))
            assert trickle(connection, b" ", 40) == b""
            connection.settimeout(30)
            connection.sendall(body)

            assert connection.recv(65_536).startswith(b"HTTP/1.1 201 ")


class TestIdleConnections:
    def test_the_edge_keeps_them_longer_than_proxies_use_them_again(self, offers: Offers) -> None:
        """Kills: closing an idle connection while a client sends a command on it. The client would not learn the outcome."""
        edge = HttpEdge(offers.engine, authenticate=local_tokens(JWT_SECRET), callback_secrets={})
        kept = edge._server.config.timeout_keep_alive
        edge.stop()

        assert timedelta(seconds=kept) == Limits().idle_time > timedelta(seconds=60)


class TestTwoLengths:
    @pytest.mark.parametrize("path", ["/quotes", f"/callbacks/{PROVIDER}"])
    def test_two_lengths_of_a_body_close_the_connection(self, api: Api, path: str) -> None:
        """Kills request smuggling: what one reader takes for a body, the next one takes for a request."""
        smuggled = b"GET /openapi.json HTTP/1.1\r\nHost: edge\r\n\r\n"
        with connected(api) as connection:
            connection.sendall(head(api, "Content-Length: 5", "Transfer-Encoding: chunked", path=path) + b"0\r\n\r\n" + smuggled)

            answer = rest(connection)

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer.lower()
        assert b'"code":"LENGTH_CONTRADICTORY"' in answer
        assert answer.count(b"HTTP/1.1 ") == 1


class TestHangingUp:
    @pytest.mark.parametrize("path", ["/quotes", f"/callbacks/{PROVIDER}"])
    def test_a_client_that_hangs_up_is_one_line_in_the_log(self, api: Api, path: str, caplog: pytest.LogCaptureFixture) -> None:
        with structlog.testing.capture_logs() as logs, caplog.at_level(logging.WARNING):
            with connected(api) as connection:
                connection.sendall(head(api, "Content-Length: 100", path=path) + b'{"customerId"')
            eventually(lambda: logs, "the edge notices")
            # A next request is served after whatever the first one still did.
            assert api.client.get("/openapi.json").is_success

        assert logs == [{"event": "client_hung_up", "log_level": "info", "method": "POST", "path": path, "receivedBytes": 13}]
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class TestPaths:
    def test_a_slash_at_the_end_is_no_redirect_to_a_host_that_the_client_chose(self, api: Api) -> None:
        for path in ("/quotes/", "/docs/", "/openapi.json/"):
            answer = api.sales.client.get(path, headers={"Host": "evil.example", "Authorization": f"Bearer {api.sales.token}"})

            is_problem(answer, 404, "NOT_FOUND")
            assert "location" not in answer.headers


class TestHeaders:
    @pytest.mark.parametrize("path", ["/quotes", "/no-such-path", "/openapi.json", "/docs"])
    def test_no_answer_is_guessed_framed_or_loads_from_elsewhere(self, api: Api, path: str) -> None:
        for answer in (api.sales.get(path), api.client.get(path)):
            assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert "Strict-Transport-Security" not in answer.headers

    def test_who_came_by_tls_is_told_to_come_by_tls_again(self, api: Api) -> None:
        answer = api.client.get("/openapi.json", headers={"X-Forwarded-Proto": "https"})

        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


class TestCompression:
    def test_an_answer_is_compressed_for_who_asks_for_it(self, api: Api) -> None:
        long = api.sales.post("/quotes", new_quote(lines=new_quote()["lines"] * 10)).json()
        path = f"/quotes/{long['quoteId']}"

        plain, compressed = (
            api.client.get(path, headers={"Authorization": f"Bearer {api.sales.token}", **asked}) for asked in ({}, COMPRESSED)
        )

        assert (plain.headers["ETag"], plain.headers.get("Content-Encoding")) == ('"1"', None)
        assert (compressed.headers["ETag"], compressed.headers["Content-Encoding"]) == ('"1-gzip"', "gzip")
        assert "accept-encoding" in compressed.headers["Vary"].lower()
        assert compressed.json() == plain.json()

    def test_a_short_answer_and_a_refusal_stay_as_they_are(self, api: Api) -> None:
        answer = api.client.get("/quotes", headers={**COMPRESSED})

        assert (answer.status_code, answer.headers.get("Content-Encoding")) == (401, None)

    @pytest.mark.parametrize("tag", ['"1"', '"1-gzip"'])
    def test_if_match_names_the_version_whatever_the_encoding(self, api: Api, tag: str) -> None:
        quote = opened(api)

        answer = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=24), **{"If-Match": tag})

        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')

    def test_a_repeat_with_the_tag_of_another_encoding_is_the_same_request(self, api: Api) -> None:
        quote, key = opened(api), str(uuid4())

        first, second = (
            api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=24), key=key, **{"If-Match": tag})
            for tag in ('"1"', '"1-gzip"')
        )

        assert (first.status_code, second.headers["Idempotent-Replayed"]) == (200, "true")

    @pytest.mark.parametrize("tag", ['W/"1"', 'W/"1-gzip"', '"1-br"', '"-gzip"'])
    def test_a_tag_that_a_proxy_has_changed_is_refused(self, api: Api, tag: str) -> None:
        quote = opened(api)

        answer = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=24), **{"If-Match": tag})

        is_problem(answer, 400, "PRECONDITION_INVALID")
