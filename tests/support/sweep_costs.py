"""What the selection of each sweep reads, in buffers of PostgreSQL, beside finished work of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, event, text

from domain.delivery import unanswered, unsettled
from domain.delivery.contradictions import StepContradiction
from domain.delivery.orders import SalesOrder
from domain.delivery.steps import StepEvent
from domain.delivery.unanswered import Silence
from domain.fallout import casework
from domain.fallout.cases import FalloutCase
from domain.offers import withdrawing
from domain.offers.quotes import Quote, QuoteRevision
from domain.schema import METADATA
from domain.store.facts import OutboxEvent, WorkflowCommand
from domain.workflows import open_starts
from domain.workflows.starts import WorkflowCorrelation
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK, RESERVE, open_case
from tests.support.loading import copied_tenant, insert_copies, loading, numbered
from tests.support.offers import ANNA, Offers, offers_of_new_tenant

NONE = timedelta(0)
SILENCE = Silence(attempt_stale_after=NONE, request_safe_interval=NONE, give_up_after=timedelta(hours=1))
SELECTIONS: Mapping[str, Callable[[Connection], Any]] = {
    "silent steps": lambda connection: unanswered.silent_steps(connection, 100, None, SILENCE),
    "unanswered steps": lambda connection: unanswered.unanswered_steps(connection, 100, None, SILENCE),
    "unanswered cancellations": lambda connection: unanswered.unanswered_cancellations(connection, 100, None, SILENCE),
    "contradictions": lambda connection: unanswered.unsettled_contradictions(connection, 100, None, SILENCE),
    "starts": lambda connection: open_starts.unresolved_starts(connection, 100, None, NONE),
    "orders": lambda connection: unsettled.unevaluated_orders(connection, 100, NONE),
    "held steps": lambda connection: unsettled.held_without_case(connection, 100, NONE),
    "cases": lambda connection: casework.expired_claims(connection, 100),
    "quotes": lambda connection: withdrawing.expired_quotes(connection, 100),
}
"""Name of a sweep -> its selection, as a dry run makes it: the claim itself writes, and costs what the sweep then works on."""


def load_finished(connection: Connection, tenant_id: UUID, number: int, prefix: str) -> None:
    """Insert so many finished orders of one tenant, with a step, an attempt and the other rows that each leaves behind."""

    def insert(entity: Any, which: str = "true", **changes: str) -> None:
        mine = f"tenant_id = '{tenant_id}' AND {which}"
        table = entity if isinstance(entity, str) else entity.__tablename__
        one = f"SELECT min(id::text)::uuid FROM {table} WHERE {mine}"
        insert_copies(connection, METADATA.tables[table], number, changes, f"{mine} AND id = ({one})")

    def named(name: str) -> str:
        return numbered(f"{prefix} {name}")

    text_of = f"'{prefix}' || n"
    insert(
        Quote,
        id=named("quote"),
        current_revision_id=named("revision"),
        quote_number=f"'Q' || {text_of}",
        status="'ACCEPTED'",
    )
    insert(QuoteRevision, id=named("revision"), quote_id=named("quote"), status="'SUPERSEDED'")
    insert(SalesOrder, id=named("order"), order_number=f"'O' || {text_of}", order_kind="'CHANGE'", status="'FULFILLED'")
    insert("fulfillment_step", id=named("step"), order_id=named("order"), step_code=text_of, status="'COMPLETED'")
    settled = {"settled_at": "clock_timestamp()", "idempotency_key": text_of}
    insert("provider_attempt", step_id=named("step"), status="'SUCCEEDED'", **settled)
    insert(WorkflowCorrelation, aggregate_id=named("order"), business_key=text_of, status="'STARTED'")
    insert(WorkflowCommand, business_key=text_of, status="'DONE'")
    insert(OutboxEvent, aggregate_id=named("order"), status="'PUBLISHED'")
    closed = {"owner_user_id": "NULL", "claim_expires_at": "NULL", "status": "'CLOSED'"}
    insert(FalloutCase, case_number=f"'F' || {text_of}", dedupe_key=text_of, **closed)
    insert(StepContradiction, answer="'IN_EFFECT'", answered_at="clock_timestamp()")


def analyze(engine: Engine) -> None:
    """Gather statistics, and write what the hint bits need, as the server does by itself in time."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def buffers_of(engine: Engine, select: Callable[[Connection], Any]) -> int:
    """The buffers that a selection reads or finds in memory; it is rolled back."""
    read: list[int] = []

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.startswith(("EXPLAIN", "SET")):
            [[plan]] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters).scalars()
            read.append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain)
        select(connection)
        connection.rollback()
    return sum(read)


def make_open_work(engine: Engine, tenants: int) -> Offers:
    """Make open work of every kind for so many tenants; returns the builders of the first one, which gets the finished orders."""
    offers = offers_of_new_tenant(engine)
    work = Fulfilment.running(offers)
    work.start(CHECK)
    work.infer(CHECK, StepEvent.TIME_OUT)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    open_case(work)
    work.claim(ANNA)
    Fulfilment.contradicted(offers)
    with loading(engine) as connection:
        connection.execute(text("UPDATE step_contradiction SET answer = NULL, answered_at = NULL"))
        for _ in range(tenants - 1):
            copied_tenant(connection, offers.tenant_id)
    return offers
