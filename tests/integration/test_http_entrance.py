"""Requests at the edge: schema, sizes, pages; the explanation of refusals; and the health of the process without its database."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from sqlalchemy import Engine, select

from domain.offers.quotes import Quote
from domain.store import table_of
from domain.store.facts import ConflictLog
from tests.support import asking
from tests.support.database import count
from tests.support.http import JWT_SECRET, Api, accept, decide, edit, is_problem, new_quote
from tests.support.offers import CUSTOMER, OWNER, Offers
from tests.support.waiting import eventually
from workers.http.auth import Role
from workers.http.edge import HttpEdge, PortInUseError
from workers.http.limits import LARGEST_BODY_BYTES
from workers.http.tokens import issue_token, local_tokens
from workers.runtime.database import connect


class TestSchema:
    @pytest.mark.parametrize(
        "changes",
        [
            {"discount": 20},
            {"lines": []},
            {"customerId": ""},
            {"customerId": "nul\0"},
            {"customerId": "x" * 201},
            {"customerId": 7},
            {"customerId": " blank"},
            {"customerId": "two\nlines"},
            {"customerId": "turned \u202eround"},
            {"region": "un\u200bseen"},
            {"currency": "euro"},
            {"validUntil": "2030-01-01T00:00:00"},
            {"paymentTermDays": -1},
            {"lines": [{"productOfferingId": "X", "quantity": 0, "termMonths": 12}]},
            {"lines": [{"productOfferingId": "X", "quantity": 1, "termMonths": 12, "discountPercent": "100.01"}]},
            {"lines": [{"productOfferingId": "X", "quantity": 1, "termMonths": 12, "discountPercent": "NaN"}]},
            {"lines": [{"productOfferingId": "X", "quantity": 1, "termMonths": 12, "discountPercent": "0.001"}]},
            {"customer_id": "by another name"},
        ],
    )
    def test_a_body_that_does_not_fit_is_422_and_leaves_nothing(self, api: Api, db: Engine, changes: dict[str, Any]) -> None:
        response = api.sales.post("/quotes", new_quote(**changes))

        assert is_problem(response, 422, "REQUEST_INVALID")["errors"]
        assert count(db, Quote) == 0

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"{", 422),
            (b"", 422),
            (b"[]", 422),
            (b'{"customerId": "\\ud800"}', 422),
            (b'{"a": "\xff"}', 400),
            (b'{"a": "\xc3', 400),
            ('{"customerId": "a"}'.encode("utf-16-le"), 400),
            ('{"customerId": "a"}'.encode("utf-16"), 400),
            (b"[" * 100_000, 400),
        ],
    )
    def test_a_body_that_is_no_json_object_is_refused(self, api: Api, raw: bytes, status: int) -> None:
        headers = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}

        is_problem(api.client.post("/quotes", content=raw, headers=headers), status, "REQUEST_INVALID")

    def test_a_character_may_come_in_two_pieces(self, api: Api) -> None:
        headers = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}
        body = json.dumps(new_quote(customerId="Zoë"), ensure_ascii=False).encode()
        middle = body.index("ë".encode()) + 1

        response = api.client.post("/quotes", content=iter([body[:middle], body[middle:]]), headers=headers)

        assert (response.status_code, response.json()["customerId"]) == (201, "Zoë")

    @pytest.mark.parametrize(
        ("member", "value"),
        [("quantity", "1"), ("quantity", True), ("quantity", 1.5), ("discountPercent", True), ("discountPercent", None)],
    )
    def test_a_value_of_another_type_is_not_read_as_a_number(self, api: Api, member: str, value: Any) -> None:
        line = {"productOfferingId": "FIBRE_1000", "quantity": 1, "termMonths": 12, member: value}

        is_problem(api.sales.post("/quotes", new_quote(lines=[line])), 422, "REQUEST_INVALID")

    def test_a_whole_number_may_be_written_with_a_point(self, api: Api) -> None:
        line = {"productOfferingId": "FIBRE_1000", "quantity": 2.0, "termMonths": 12}

        assert api.sales.post("/quotes", new_quote(lines=[line])).json()["lines"][0]["quantity"] == 2

    @pytest.mark.parametrize("moment", [1924905600, "1924905600", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    def test_a_time_must_be_text_within_the_range_of_the_calendar(self, api: Api, moment: Any) -> None:
        is_problem(api.sales.post("/quotes", new_quote(validUntil=moment)), 422, "REQUEST_INVALID")

    def test_a_time_may_have_any_valid_offset(self, api: Api) -> None:
        """Kills: handing the offset to PostgreSQL, which refuses 16 hours and more."""
        quote = api.sales.post("/quotes", new_quote(validUntil="2030-12-31T23:59:59-21:25"))

        assert quote.status_code == 201
        assert datetime.fromisoformat(quote.json()["validUntil"]) == datetime(2031, 1, 1, 21, 24, 59, tzinfo=UTC)

    def test_the_number_of_lines_of_a_quote_is_limited(self, api: Api) -> None:
        line = {"productOfferingId": "FIBRE_1000", "quantity": 1, "termMonths": 12}
        quote = api.sales.post("/quotes", new_quote(lines=[line] * 200)).json()

        grown = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote, addLines=[line]), version=1)

        assert "200" in is_problem(grown, 422, "INVALID")["detail"]

    def test_decimals_come_as_text_or_as_numbers(self, api: Api) -> None:
        lines = [
            {"productOfferingId": "FIBRE_1000", "quantity": 1, "termMonths": 12, "discountPercent": discount}
            for discount in ("12.50", 12.5, 12)
        ]

        created = api.sales.post("/quotes", new_quote(lines=lines)).json()

        assert [line["discountPercent"] for line in created["lines"]] == ["12.50", "12.50", "12.00"]

    def test_an_id_that_is_no_uuid_is_422(self, api: Api) -> None:
        is_problem(api.sales.get("/quotes/q-123"), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"), [("GET", "/nowhere", 404, "NOT_FOUND"), ("PUT", "/quotes", 405, "METHOD_NOT_ALLOWED")]
    )
    def test_an_unknown_path_or_method_is_answered_by_a_problem_document(
        self, api: Api, method: str, path: str, status: int, code: str
    ) -> None:
        is_problem(api.sales.command(method, path, {}), status, code)

    def test_a_body_above_the_cap_is_413_when_its_length_is_announced(self, api: Api) -> None:
        response = api.sales.post("/quotes", new_quote(customerId="x" * LARGEST_BODY_BYTES))

        is_problem(response, 413, "BODY_TOO_LARGE")

    def test_a_body_above_the_cap_is_413_when_its_length_is_not_announced(self, api: Api) -> None:
        headers = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}
        chunks = (b"x" * 65_536 for _ in range(LARGEST_BODY_BYTES // 65_536 + 1))

        is_problem(api.client.post("/quotes", content=chunks, headers=headers), 413, "BODY_TOO_LARGE")


class TestQueries:
    @pytest.mark.parametrize(
        "query", [{"limit": 201}, {"limit": 0}, {"status": "NO_SUCH"}, {"customerId": "nul\0"}, {"after": "x"}]
    )
    def test_an_invalid_query_is_422(self, api: Api, query: dict[str, Any]) -> None:
        is_problem(api.sales.get("/quotes", **query), 422, "REQUEST_INVALID")


class TestRefusalsAreExplained:
    def test_every_refusal_is_one_log_record_with_the_agreed_keys(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()

        with structlog.testing.capture_logs() as logs:
            accept(api.customer, offer, version=offer.version - 1, key="accept-1")

        [record] = [log for log in logs if log["event"] == "command_refused"]
        assert {name: record[name] for name in ("conflictCode", "tenantId", "aggregateType", "aggregateId", "expectedVersion")} == {
            "conflictCode": "QUOTE_VERSION_CONFLICT",
            "tenantId": str(offers.tenant_id),
            "aggregateType": "quote",
            "aggregateId": str(offer.quote_id),
            "expectedVersion": offer.version - 1,
        }
        assert (record["actualVersion"], record["transitionFrom"], record["actor"]) == (offer.version, "APPROVED", CUSTOMER)
        assert UUID(record["commandId"])
        assert record["idempotencyKey"] != "accept-1"

    def test_the_conflict_is_recorded_with_its_command(self, api: Api, offers: Offers, db: Engine) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        decide(api.caller(OWNER, Role.APPROVER_RSM), offer, requirement_id)

        log = table_of(ConflictLog)
        with db.connect() as connection:
            kept = connection.execute(select(*log.c)).one()
        assert (kept.conflict_code, kept.command, kept.actor) == ("FOUR_EYES_VIOLATION", "decide-approval", OWNER)


class TestTheProcess:
    def test_a_taken_port_is_reported_in_one_line(self, db: Engine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            with pytest.raises(PortInUseError, match=f"cannot listen on 127.0.0.1:{port}.*Q2O_HTTP_PORT") as refused:
                HttpEdge(db, authenticate=local_tokens(JWT_SECRET), callback_secrets={}, port=port)

        assert "\n" not in str(refused.value)

    def test_the_loop_serves_until_it_is_stopped(self, db: Engine) -> None:
        edge = HttpEdge(db, authenticate=local_tokens(JWT_SECRET), callback_secrets={})
        stop = Event()
        loop = Thread(target=edge.run, args=(stop,))

        loop.start()
        eventually(lambda: asking.get(f"{edge.address}/openapi.json").is_success, "the edge serves")
        stop.set()
        loop.join(30)

        assert not loop.is_alive()
        with pytest.raises(httpx.ConnectError):
            asking.get(f"{edge.address}/openapi.json")

    def test_without_its_database_it_answers_that_nothing_was_changed(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        nobody = connect(f"postgresql+psycopg://q2o@127.0.0.1:{port}/q2o", "tests")
        edge = HttpEdge(nobody, authenticate=local_tokens(JWT_SECRET), callback_secrets={})
        edge.start()
        token = issue_token(JWT_SECRET, OWNER, uuid4(), [Role.SALES_AGENT], "EU", timedelta(hours=1))
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "1"}

        try:
            command = asking.post(f"{edge.address}/quotes", json=new_quote(), headers=headers)
            look = asking.get(f"{edge.address}/quotes", headers=headers)
        finally:
            edge.stop()
            nobody.dispose()

        for response in (command, look):
            is_problem(response, 503, "TRY_AGAIN")
            assert response.headers["Retry-After"] == "1"
