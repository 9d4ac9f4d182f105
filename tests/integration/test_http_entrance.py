"""Who and what gets in: tokens, roles, tenants, schema, sizes; and what the edge says when its database is away."""

from __future__ import annotations

import socket
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
import structlog
from sqlalchemy import Engine, select

from domain.quotes import Quote
from domain.store import table_of
from domain.store.facts import ConflictLog
from tests.integration.test_http_commands import accept, count, decide, edit, is_problem
from tests.support.http import JWT_SECRET, Api, new_quote
from tests.support.offers import CUSTOMER, OWNER, Offers
from tests.support.waiting import eventually
from workers.http.auth import Role, issue_token
from workers.http.edge import HttpEdge, PortInUseError
from workers.http.limits import LARGEST_BODY_BYTES
from workers.runtime.database import connect

COMMANDS = [
    ("POST", "/quotes", Role.CUSTOMER),
    ("PATCH", "/quotes/{quote}", Role.CUSTOMER),
    ("POST", "/quotes/{quote}/price", Role.APPROVER_RSM),
    ("POST", "/quotes/{quote}/submissions", Role.PARTNER),
    ("POST", "/quotes/{quote}/documents", Role.CUSTOMER),
    ("POST", "/quotes/{quote}/acceptances", Role.SALES_AGENT),
    ("POST", "/approval-tasks/{task}/decisions", Role.SALES_AGENT),
]
READS = ["/quotes/{quote}", "/orders/{order}"]


def bodies_of(body: dict[str, Any], task_id: UUID) -> dict[str, Any]:
    """A body that fits each command, for a quote that was read."""
    names = ("revisionId", "configResultId", "priceResultId", "approvalRequestId", "documentId")
    ids = {name: body[name] or str(uuid4()) for name in names}
    decision = {
        "requirementId": str(task_id),
        "expectedRequirementVersion": 1,
        "quoteRevisionId": ids["revisionId"],
        "priceResultId": ids["priceResultId"],
        "decision": "APPROVE",
        "reasonCode": "WITHIN_POLICY",
    }
    return {
        "/quotes": new_quote(),
        "/quotes/{quote}": edit(body),
        "/quotes/{quote}/price": {"configResultId": ids["configResultId"], "catalogVersion": "any"},
        "/quotes/{quote}/submissions": {name: ids[name] for name in ("revisionId", "configResultId", "priceResultId")},
        "/quotes/{quote}/documents": {name: ids[name] for name in ("revisionId", "priceResultId")},
        "/quotes/{quote}/acceptances": {
            name: ids[name] for name in ("revisionId", "priceResultId", "approvalRequestId", "documentId")
        },
        "/approval-tasks/{task}/decisions": decision,
    }


class TestTokens:
    @pytest.mark.parametrize("path", ["/quotes", "/quotes/x", "/approval-tasks", "/orders", "/no-such-path", "/metrics/x"])
    def test_without_a_token_nothing_is_told(self, api: Api, path: str) -> None:
        response = api.client.get(path)

        is_problem(response, 401, "UNAUTHENTICATED")
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_the_token_is_asked_for_before_the_body_is_looked_at(self, api: Api) -> None:
        is_problem(api.client.post("/quotes", content=b"{"), 401, "UNAUTHENTICATED")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    def test_the_platform_needs_no_token(self, api: Api, path: str) -> None:
        assert api.client.get(path).status_code == 200

    def test_an_expired_token_is_refused(self, api: Api) -> None:
        late = api.caller(OWNER, Role.SALES_AGENT, lifetime=timedelta(seconds=-1))

        assert "expired" in is_problem(late.get("/quotes"), 401, "UNAUTHENTICATED")["detail"]

    @pytest.mark.parametrize(
        ("claims", "secret", "algorithm"),
        [
            ({}, "another secret, as long as the right one", "HS256"),
            ({}, JWT_SECRET * 2, "HS512"),
            ({"tenant": "everybody"}, JWT_SECRET, "HS256"),
            ({"tenant": None}, JWT_SECRET, "HS256"),
            ({"roles": "salesAgent"}, JWT_SECRET, "HS256"),
            ({"roles": [1]}, JWT_SECRET, "HS256"),
            ({"sub": ""}, JWT_SECRET, "HS256"),
            ({"exp": None}, JWT_SECRET, "HS256"),
        ],
    )
    def test_a_token_that_is_not_ours_is_refused(self, api: Api, claims: dict[str, Any], secret: str, algorithm: str) -> None:
        good = jwt.decode(api.sales.token, JWT_SECRET, ["HS256"])
        forged = {name: value for name, value in {**good, **claims}.items() if value is not None}
        token = jwt.encode(forged, secret, algorithm)

        is_problem(api.client.get("/quotes", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHENTICATED")

    def test_a_token_without_a_signature_is_refused(self, api: Api) -> None:
        claims = jwt.decode(api.sales.token, JWT_SECRET, ["HS256"])
        token = jwt.encode(claims, "", "none")

        is_problem(api.client.get("/quotes", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHENTICATED")

    def test_a_secret_that_keeps_nobody_out_is_refused_at_the_start(self, db: Engine) -> None:
        with pytest.raises(ValueError, match="Q2O_JWT_SECRET"):
            HttpEdge(db, jwt_secret="short", callback_secrets={})


class TestRolesAndTenants:
    @pytest.mark.parametrize(("method", "path", "role"), COMMANDS)
    def test_a_command_needs_its_role(self, api: Api, offers: Offers, method: str, path: str, role: Role) -> None:
        offer = offers.approved_quote()
        [task_id] = offers.requirement_ids(offer)
        body = bodies_of(offer.body, task_id)[path]
        target = path.format(quote=offer.quote_id, task=task_id)

        response = api.caller("eve", role).command(method, target, body, version=offer.version)

        is_problem(response, 403, "FORBIDDEN")
        assert offers.quote(offer.quote_id) == offer

    @pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in COMMANDS if path != "/quotes"])
    def test_another_tenants_quote_cannot_be_commanded(self, api: Api, offers: Offers, db: Engine, method: str, path: str) -> None:
        offer = offers.approved_quote()
        [task_id] = offers.requirement_ids(offer)
        other = Offers(db, uuid4())
        other.publish_prices()
        stranger = api.caller("eve", *Role, tenant_id=other.tenant_id)
        target = path.format(quote=offer.quote_id, task=task_id)

        response = stranger.command(method, target, bodies_of(offer.body, task_id)[path], version=offer.version)

        problem = is_problem(response, 404, "NOT_FOUND")
        assert {"currentVersion", "quoteId"}.isdisjoint(problem)
        assert offers.quote(offer.quote_id) == offer

    @pytest.mark.parametrize("path", READS)
    def test_another_tenants_value_is_404(self, api: Api, offers: Offers, db: Engine, path: str) -> None:
        offer = offers.accepted_quote()
        target = path.format(quote=offer.quote_id, order=offer.order_id)
        assert api.sales.get(target).status_code == 200

        is_problem(api.caller("eve", *Role, tenant_id=uuid4()).get(target), 404, "NOT_FOUND")
        assert count(db, ConflictLog) == 0

    @pytest.mark.parametrize("path", ["/quotes", "/orders", "/approval-tasks"])
    def test_a_list_holds_only_the_tenants_own(self, api: Api, offers: Offers, path: str) -> None:
        offers.accepted_quote()
        offers.quote_in_approval()
        assert api.approver.get(path).json()["items"]

        assert api.caller("eve", *Role, tenant_id=uuid4()).get(path).json()["items"] == []


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
            (b"[" * 100_000, 400),
        ],
    )
    def test_a_body_that_is_no_json_object_is_refused(self, api: Api, raw: bytes, status: int) -> None:
        headers = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}

        is_problem(api.client.post("/quotes", content=raw, headers=headers), status, "REQUEST_INVALID")

    def test_decimals_come_as_text_or_as_numbers(self, api: Api) -> None:
        lines = [
            {"productOfferingId": "FIBRE_1000", "quantity": 1, "termMonths": 12, "discountPercent": discount}
            for discount in ("12.50", 12.5, 12)
        ]

        created = api.sales.post("/quotes", new_quote(lines=lines)).json()

        assert [line["discountPercent"] for line in created["lines"]] == ["12.50", "12.50", "12.00"]

    def test_an_id_that_is_none_is_422(self, api: Api) -> None:
        is_problem(api.sales.get("/quotes/q-123"), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"), [("GET", "/nowhere", 404, "NOT_FOUND"), ("PUT", "/quotes", 405, "METHOD_NOT_ALLOWED")]
    )
    def test_what_is_not_there_is_a_problem_too(self, api: Api, method: str, path: str, status: int, code: str) -> None:
        is_problem(api.sales.command(method, path, {}), status, code)

    def test_a_body_above_the_cap_is_413_when_its_length_is_announced(self, api: Api) -> None:
        response = api.sales.post("/quotes", new_quote(customerId="x" * LARGEST_BODY_BYTES))

        is_problem(response, 413, "BODY_TOO_LARGE")

    def test_a_body_above_the_cap_is_413_when_its_length_is_not_announced(self, api: Api) -> None:
        headers = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}
        chunks = (b"x" * 65_536 for _ in range(LARGEST_BODY_BYTES // 65_536 + 1))

        is_problem(api.client.post("/quotes", content=chunks, headers=headers), 413, "BODY_TOO_LARGE")


class TestPages:
    def test_pages_follow_each_other_without_gap_or_repeat(self, api: Api, offers: Offers) -> None:
        made = {str(offers.draft_quote().quote_id) for _ in range(5)}
        seen: list[str] = []
        after: dict[str, Any] = {}

        while True:
            page = api.sales.get("/quotes", limit=2, **after).json()
            seen += [item["quoteId"] for item in page["items"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}

        assert len(seen) == 5
        assert set(seen) == made

    def test_quotes_are_found_by_status_and_customer(self, api: Api, offers: Offers) -> None:
        offers.draft_quote()
        wanted = offers.priced_quote(customer_id="wanted")

        found = api.sales.get("/quotes", status="PRICED", customerId="wanted").json()["items"]

        assert [item["quoteId"] for item in found] == [str(wanted.quote_id)]

    @pytest.mark.parametrize(
        "query", [{"limit": 201}, {"limit": 0}, {"status": "NO_SUCH"}, {"customerId": "nul\0"}, {"after": "x"}]
    )
    def test_a_question_that_makes_no_sense_is_422(self, api: Api, query: dict[str, Any]) -> None:
        is_problem(api.sales.get("/quotes", **query), 422, "REQUEST_INVALID")


class TestRefusalsAreExplained:
    def test_every_refusal_is_one_log_record_with_the_lessons_keys(self, api: Api, offers: Offers) -> None:
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

    def test_the_conflict_is_kept_with_its_command(self, api: Api, offers: Offers, db: Engine) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        decide(api.caller(OWNER, Role.APPROVER_RSM), offer, requirement_id)

        log = table_of(ConflictLog)
        with db.connect() as connection:
            kept = connection.execute(select(*log.c)).one()
        assert (kept.conflict_code, kept.command, kept.actor) == ("FOUR_EYES_VIOLATION", "decide-approval", OWNER)


class TestTheProcess:
    def test_a_taken_port_is_told_in_one_line(self, db: Engine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            with pytest.raises(PortInUseError, match=f"cannot listen on 127.0.0.1:{port}.*Q2O_HTTP_PORT") as refused:
                HttpEdge(db, jwt_secret=JWT_SECRET, callback_secrets={}, port=port)

        assert "\n" not in str(refused.value)

    def test_the_loop_serves_until_it_is_stopped(self, db: Engine) -> None:
        edge = HttpEdge(db, jwt_secret=JWT_SECRET, callback_secrets={})
        stop = Event()
        loop = Thread(target=edge.run, args=(stop,))

        loop.start()
        eventually(lambda: httpx.get(f"{edge.address}/healthz").is_success, "the edge serves")
        stop.set()
        loop.join(30)

        assert not loop.is_alive()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{edge.address}/healthz")

    def test_without_its_database_it_is_alive_but_not_ready(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        nobody = connect(f"postgresql+psycopg://q2o@127.0.0.1:{port}/q2o", "tests")
        edge = HttpEdge(nobody, jwt_secret=JWT_SECRET, callback_secrets={})
        edge.start()
        token = issue_token(JWT_SECRET, OWNER, uuid4(), [Role.SALES_AGENT], "EU", timedelta(hours=1))
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "1"}

        try:
            assert httpx.get(f"{edge.address}/healthz").is_success
            is_problem(httpx.get(f"{edge.address}/readyz"), 503, "TRY_AGAIN")
            command = httpx.post(f"{edge.address}/quotes", json=new_quote(), headers=headers)
            look = httpx.get(f"{edge.address}/quotes", headers=headers)
        finally:
            edge.stop()
            nobody.dispose()

        for response in (command, look):
            is_problem(response, 503, "TRY_AGAIN")
            assert response.headers["Retry-After"] == "1"
