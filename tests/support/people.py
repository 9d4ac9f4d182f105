"""People of two tenants who use the HTTP edge. Earlier responses, and the requests that schemathesis makes, decide what they do next.

The seed decides a whole scenario: who does what, with which of the requests. Ids are new each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from sqlalchemy import Engine

from tests.support.fuzzing import CUSTOMERS, SUBJECTS, Desk, Tenant, known_members, lines, prices, told
from tests.support.made_up import MadeUp, is_spoilt, same_again
from tests.support.offers import PRICE_BOOK
from workers.http.auth import APPROVERS, BUYERS, Role

# A person with every role who does not see a thing belongs to another tenant.
ALL = tuple(Role)
STAFF = tuple(role for role in Role if role not in BUYERS)


class Scenario:
    """Two new tenants, and everything that their people do in one `play`."""

    def __init__(self, desk: Desk, database: Engine, made_up: MadeUp, seed: int) -> None:
        self._desk = desk
        self._made_up = made_up
        self._chance = Random(seed)  # noqa: S311 - told again by its seed
        self._done: list[tuple[Case[Any], Tenant, Sequence[Role], Response]] = []
        self._tenants = [Tenant.new(database), Tenant.new(database)]
        desk.tenants = self._tenants

    def play(self, moves: int) -> None:
        """Set both tenants up, let their people act, and at the end try everything of one tenant with the tokens of the other."""
        for tenant in self._tenants:
            self._publish(tenant)
            self._create(tenant)
        doings: dict[Callable[[Tenant], None], int] = {
            self._go_on: 10,
            self._send_something: 8,
            self._pass_on: 1,
            self._trespass: 3,
            self._create: 2,
            self._repeat: 2,
            self._look_around: 1,
            self._let_end: 1,
        }
        for doing in self._chance.choices(list(doings), list(doings.values()), k=moves):
            doing(self._chance.choice(self._tenants))
        for tenant in self._tenants:
            self._try_everything_of(tenant)

    def _go_on(self, tenant: Tenant) -> None:
        """Send the next command for a quote, as it was read last: it may be stale by now."""
        quote = self._chance.choice(list(tenant.quotes.values()))
        steps: dict[str, list[Callable[[Tenant, dict[str, Any]], None]]] = {
            "DRAFT": [self._price, self._price, self._edit],
            "PRICED": [self._submit, self._submit, self._submit, self._edit],
            "SUBMITTED_FOR_APPROVAL": [self._ask, self._ask, self._ask_nobody, self._recall, self._cancel],
            "APPROVAL_IN_PROGRESS": [self._sign, self._sign, self._sign, self._recall],
            "APPROVED": [self._document, self._accept, self._accept, self._decline, self._edit],
            "EXPIRED": [self._edit],
        }
        self._chance.choice(steps.get(quote["status"], [self._look]))(tenant, quote)
        self._look(tenant, quote)

    def _send_something(self, tenant: Tenant) -> None:
        """Send a request that schemathesis made, with some known ids filled in, mostly as a person with the right role."""
        operation = self._chance.choice(list(self._desk.operations.values()))
        mode = self._chance.choice([GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        made_up = self._made_up.one(operation, mode)
        spoilt = is_spoilt(made_up)
        # Without its history: schemathesis would hold back the token from a request that it had made up without one.
        case = same_again(made_up)
        source = self._chance.choice([tenant, tenant, tenant, self._other(tenant)])
        names_it = self._fill(case, source, body=not spoilt and self._chance.random() < 0.7)
        may = [role for requirement in operation.definition.raw.get("security", []) for role in requirement["token"]]
        roles = [Role(self._chance.choice(may if may and self._chance.random() < 0.8 else list(Role)))]
        if self._chance.random() < 0.9 and "Idempotency-Key" in (case.headers or {}):
            case.headers["Idempotency-Key"] = str(uuid4())
        self._send(case, tenant, roles, foreign=names_it and source is not tenant, must_refuse=spoilt)

    def _trespass(self, tenant: Tenant) -> None:
        """Send a valid request with all roles about a thing of the other tenant."""
        operation = self._chance.choice([each for each in self._desk.operations.values() if each.path_parameters])
        case = self._made_up.one(operation, GenerationMode.POSITIVE)
        if "Idempotency-Key" in (case.headers or {}):
            case.headers["Idempotency-Key"] = str(uuid4())
        self._send(case, tenant, ALL, foreign=self._fill(case, self._other(tenant), body=True))

    def _repeat(self, _: Tenant) -> None:
        """Send a command again: the stored answer comes, whatever happened since."""
        if not self._done:
            return
        case, tenant, roles, first = self._chance.choice(self._done)
        again = self._desk.send(same_again(case), tenant, roles, foreign=False)
        same = (again.status_code, again.json()) == (first.status_code, first.json())
        if not same or again.headers.get("idempotent-replayed") != ["true"]:
            self._desk.tally.faults.append(f"another answer than the stored one\n{told(case, again)}\n{first.text}")

    def _pass_on(self, tenant: Tenant) -> None:
        """Let the owner of a grant delegate it, or an administrator revoke it."""
        self._get(tenant, "/authority-grants", STAFF)
        grant = self._chance.choice(list(tenant.grants.values()))
        path, ids = "/authority-grants/{grantId}", {"grantId": grant["grantId"]}
        if self._chance.random() < 0.7:
            body = {"subject": SUBJECTS[Role.APPROVER_DIRECTOR], "validUntil": _in_a_month()}
            self._command(tenant, f"{path}/delegations", [Role.APPROVER_RSM], body, grant["version"], **ids)
        elif grant["delegatedBy"]:
            self._command(tenant, f"{path}/revocations", [Role.AUTHORITY_ADMIN], {}, grant["version"], **ids)

    def _let_end(self, tenant: Tenant) -> None:
        if self._chance.random() < 0.5:
            return  # most offers live longer than a scenario
        tenant.end(self._chance.choice(list(tenant.quotes)))

    def _look_around(self, tenant: Tenant) -> None:
        for path, roles in (("/quotes", STAFF), ("/orders", STAFF), ("/quotes", [Role.CUSTOMER]), ("/orders", [Role.PARTNER])):
            self._get(tenant, path, roles)
        for path in ("/approval-tasks", "/authority-grants"):
            self._get(tenant, path, STAFF)

    def _try_everything_of(self, tenant: Tenant) -> None:
        stranger = self._other(tenant)
        for quote_id in tenant.quotes:
            self._get(stranger, "/quotes/{quoteId}", ALL, foreign=True, quoteId=quote_id)
            self._get(stranger, "/quotes/{quoteId}/approvals", ALL, foreign=True, quoteId=quote_id)
        for order_id in tenant.orders:
            self._get(stranger, "/orders/{orderId}", ALL, foreign=True, orderId=order_id)

    def _other(self, tenant: Tenant) -> Tenant:
        return next(each for each in self._tenants if each is not tenant)

    def _publish(self, tenant: Tenant) -> None:
        path = "/price-books/{priceBookId}/publications"
        self._command(tenant, path, [Role.PRICING_MANAGER], prices(None, "p-1"), priceBookId=PRICE_BOOK)

    def _create(self, tenant: Tenant) -> None:
        customer = CUSTOMERS[len(tenant.quotes) % 3 // 2]
        body = {"customerId": customer, "currency": "EUR", "region": "EU", "validUntil": _in_a_month(), "lines": lines()}
        self._command(tenant, "/quotes", [Role.SALES_AGENT], body)

    def _price(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/price", Role.SALES_AGENT, "configResultId", "catalogVersion")

    def _submit(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/submissions", Role.SALES_AGENT, "revisionId", "configResultId", "priceResultId")

    def _ask(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        tenant.answer_of_the_policy(quote["quoteId"], asks=True)

    def _ask_nobody(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        tenant.answer_of_the_policy(quote["quoteId"], asks=False)

    def _sign(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._get(tenant, "/approval-tasks", sorted(APPROVERS))
        task = next((task for task in tenant.tasks.values() if task["quoteId"] == quote["quoteId"]), None)
        if task:
            members = known_members({}, task, {})
            wanted = ("requirementId", "expectedRequirementVersion", "quoteRevisionId", "priceResultId")
            body = {**{name: members[name] for name in wanted}, "decision": "APPROVE", "reasonCode": "WITHIN_POLICY"}
            path = "/approval-tasks/{taskId}/decisions"
            self._command(tenant, path, [Role.APPROVER_RSM], body, taskId=task["taskId"])

    def _recall(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/recalls", Role.SALES_AGENT, "revisionId", reasonCode="WRONG")

    def _cancel(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/cancellations", Role.SALES_AGENT, "revisionId", reasonCode="NO_NEED")

    def _document(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/documents", Role.SALES_AGENT, "revisionId", "priceResultId")

    def _accept(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._document(tenant, quote)
        self._look(tenant, quote)
        quote = tenant.quotes[quote["quoteId"]]
        if quote["documentId"]:
            names = ("revisionId", "priceResultId", "approvalRequestId", "documentId")
            self._of_quote(tenant, quote, "/acceptances", Role.CUSTOMER, *names)

    def _decline(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        self._of_quote(tenant, quote, "/declines", Role.PARTNER, "revisionId", reasonCode="TOO_DEAR")

    def _edit(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        body = {"expectedRevisionId": quote["revisionId"], "reasonCode": "ASKED", "validUntil": _in_a_month()}
        self._command(tenant, "/quotes/{quoteId}", [Role.SALES_AGENT], body, quote["version"], "PATCH", quoteId=quote["quoteId"])

    def _look(self, tenant: Tenant, quote: dict[str, Any]) -> None:
        for path, roles in (
            ("/quotes/{quoteId}", STAFF),
            ("/quotes/{quoteId}/approvals", STAFF),
            ("/quotes/{quoteId}", [Role.CUSTOMER]),
        ):
            self._get(tenant, path, roles, quoteId=quote["quoteId"])

    def _of_quote(self, tenant: Tenant, quote: dict[str, Any], path: str, role: Role, *names: str, **more: str) -> None:
        body = {**{name: quote[name] for name in names}, **more}
        self._command(tenant, "/quotes/{quoteId}" + path, [role], body, quote["version"], quoteId=quote["quoteId"])

    def _command(  # noqa: PLR0917 - a request
        self,
        tenant: Tenant,
        path: str,
        roles: Sequence[Role],
        body: dict[str, Any],
        version: int | None = None,
        method: str = "POST",
        **ids: str,
    ) -> None:
        headers = {"Idempotency-Key": str(uuid4()), **({"If-Match": f'"{version}"'} if version else {})}
        case = self._desk.operations[f"{method} {path}"].Case(
            path_parameters=ids, headers=headers, body=body, media_type="application/json"
        )
        self._send(case, tenant, roles)

    def _get(self, tenant: Tenant, path: str, roles: Sequence[Role], *, foreign: bool = False, **ids: str) -> None:
        self._send(self._desk.operations[f"GET {path}"].Case(path_parameters=ids), tenant, roles, foreign=foreign)

    def _send(
        self, case: Case[Any], tenant: Tenant, roles: Sequence[Role], *, foreign: bool = False, must_refuse: bool = False
    ) -> None:
        kept = same_again(case)
        response = self._desk.send(case, tenant, roles, foreign=foreign, must_refuse=must_refuse)
        if case.method != "GET" and response.status_code < 300 and "callbacks" not in case.path:
            self._done.append((kept, tenant, roles, response))

    def _fill(self, case: Case[Any], source: Tenant, *, body: bool) -> bool:
        """Fill ids of `source` into a request; returns whether its path names one of them."""
        quote, task, grant, order = (
            self._chance.choice(list(known.values())) if known else {}
            for known in (source.quotes, source.tasks, source.grants, source.orders)
        )
        things = {"quoteId": quote, "taskId": task, "grantId": grant, "orderId": order}
        path = case.path_parameters or {}
        named = {name: thing[name] for name, thing in things.items() if name in path and thing}
        path.update(named)
        if "priceBookId" in path and self._chance.random() < 0.5:
            path["priceBookId"] = PRICE_BOOK
        thing = grant if "grantId" in path else quote
        if "If-Match" in (case.headers or {}) and thing and self._chance.random() < 0.8:
            case.headers["If-Match"] = f'"{thing["version"]}"'
        if body and isinstance(case.body, dict):
            known = known_members(quote, task, grant) | {"expectedActiveVersion": source.price_version, "validUntil": _in_a_month()}
            case.body.update({name: known[name] for name in case.body if known.get(name) is not None})
        return bool(named)


def _in_a_month() -> str:
    return (datetime.now(UTC) + timedelta(days=30)).isoformat()
