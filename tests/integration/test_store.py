"""The store on real PostgreSQL: one transaction per command, log and event beside the change, one answer per key, append-only evidence."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from domain import accepting
from domain.errors import IdempotencyKeyReused, IdempotentRequestInProgress, NotFound, OutcomeUnknownError, TryAgain
from domain.offers import quoting
from domain.offers.quotes import Quote, QuoteVersionConflict
from domain.store import Answer, Cause, UnitOfWork, once, remember, table_of, unit_of_work
from domain.store.facts import ConflictLog, OutboxEvent, TransitionLog
from tests.support.as_read import Offer
from tests.support.database import count
from tests.support.evidence import record
from tests.support.offers import CUSTOMER, Offers
from tests.support.waiting import eventually

QUOTE, CONFLICTS = table_of(Quote), table_of(ConflictLog)


def edit(offers: Offers, offer: Offer, uow: UnitOfWork) -> None:
    quoting.edit(
        uow,
        quoting.EditQuote(
            quote_id=offer.quote_id,
            expected_version=offer.version,
            revision_id=offer.revision_id,
            reason_code="TEST",
            term_months=36,
        ),
    )


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Record every statement that is sent to the database."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_change_its_reason_and_its_event_are_written_in_one_transaction(offers: Offers) -> None:
    offer = offers.draft_quote()

    with offers.uow() as uow:
        edit(offers, offer, uow)

    with offers.engine.connect() as connection:
        of_quote = [
            connection.execute(text(f"SELECT xmin FROM {table} WHERE {condition}"), {"id": offer.quote_id}).scalar_one()
            for table, condition in (
                ("quote", "id = :id"),
                ("transition_log", "aggregate_id = :id AND aggregate_version = 2"),
                ("outbox_event", "aggregate_id = :id AND aggregate_version = 2"),
            )
        ]
    assert len(set(of_quote)) == 1


def test_a_refused_command_leaves_only_the_record_of_its_refusal(offers: Offers) -> None:
    offer = offers.priced_quote()
    stale = Cause(tenant_id=offers.tenant_id, actor="bob", command="edit-quote", idempotency_key="k-1")
    before = {table: count(offers.engine, table) for table in (TransitionLog, OutboxEvent)}

    with pytest.raises(QuoteVersionConflict) as refused, unit_of_work(offers.engine, stale) as uow:
        quoting.edit(
            uow,
            quoting.EditQuote(quote_id=offer.quote_id, expected_version=1, revision_id=offer.revision_id, reason_code="TEST"),
        )

    assert (refused.value.expected_version, refused.value.current_version) == (1, 2)
    assert {table: count(offers.engine, table) for table in (TransitionLog, OutboxEvent)} == before
    with offers.engine.connect() as connection:
        logged = connection.execute(select(CONFLICTS)).one()
    assert (logged.conflict_code, logged.command, logged.actor, logged.command_id) == (
        "QUOTE_VERSION_CONFLICT",
        "edit-quote",
        "bob",
        stale.command_id,
    )
    assert (logged.expected_version, logged.actual_version, logged.idempotency_key) == (1, 2, "k-1")


def test_a_command_that_raises_leaves_no_rows(offers: Offers) -> None:
    offer = offers.draft_quote()

    with pytest.raises(ZeroDivisionError), offers.uow() as uow:
        edit(offers, offer, uow)
        _ = 1 / 0

    assert offers.quote(offer.quote_id).version == offer.version


def test_a_command_does_not_find_the_row_of_another_tenant(offers: Offers) -> None:
    offer = offers.draft_quote()
    stranger = Offers(offers.engine, uuid4())

    with pytest.raises(NotFound), stranger.uow() as uow:
        edit(stranger, offer, uow)


def test_all_log_rows_and_events_of_a_command_cost_one_statement(offers: Offers) -> None:
    offer = offers.approved_quote()

    with statements(offers.engine) as seen, offers.uow(CUSTOMER) as uow:
        accepting.accept(uow, offers.acceptance(offer))

    assert sum("jsonb_populate_recordset" in statement for statement in seen) == 1
    record("statements of an acceptance, all facts included", len(seen), "statements")


def claim(offers: Offers, key: str, request: str, *, command: str = "accept-quote") -> Answer:
    cause = Cause(tenant_id=offers.tenant_id, actor="carla", command=command, idempotency_key=key)
    with unit_of_work(offers.engine, cause) as uow:
        if stored := once(uow, key, {"request": request}):
            return stored
        answer = Answer(status=201, body={"answer": str(uuid4())})
        remember(uow, key, answer)
        return answer


def test_a_repeated_key_gets_the_first_answer(offers: Offers) -> None:
    first = claim(offers, "k-1", "accept it")
    again = claim(offers, "k-1", "accept it")

    assert (again.status, again.body, again.replayed) == (first.status, first.body, True)


def test_a_key_with_another_request_is_refused(offers: Offers) -> None:
    claim(offers, "k-1", "accept it")

    with pytest.raises(IdempotencyKeyReused):
        claim(offers, "k-1", "accept something else")


def test_keys_of_two_tenants_and_of_two_commands_do_not_collide(offers: Offers) -> None:
    answers = [
        claim(offers, "k-1", "accept it"),
        claim(offers, "k-1", "edit it", command="edit-quote"),
        claim(Offers(offers.engine, uuid4()), "k-1", "accept another"),
    ]

    assert [answer.replayed for answer in answers] == [False, False, False]


def in_progress(offers: Offers) -> Cause:
    return Cause(tenant_id=offers.tenant_id, actor="carla", command="accept-quote", idempotency_key="k-1")


def waiting_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def test_a_second_caller_waits_and_gets_the_answer_of_the_first(offers: Offers) -> None:
    with ThreadPoolExecutor(1) as pool, unit_of_work(offers.engine, in_progress(offers)) as uow:
        once(uow, "k-1", {"request": "accept it"})
        second = pool.submit(claim, offers, "k-1", "accept it")
        eventually(lambda: waiting_for_a_lock(offers.engine), "the second caller waits")
        remember(uow, "k-1", Answer(status=201, body={"answer": "once"}))
        uow.connection.commit()

        assert second.result().body == {"answer": "once"}
        assert second.result().replayed


def test_a_second_caller_claims_the_key_when_the_first_was_rolled_back(offers: Offers) -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), unit_of_work(offers.engine, in_progress(offers)) as uow:
            once(uow, "k-1", {"request": "accept it"})
            second = pool.submit(claim, offers, "k-1", "accept it")
            eventually(lambda: waiting_for_a_lock(offers.engine), "the second caller waits")
            _ = 1 / 0

        assert not second.result().replayed


def test_a_second_caller_that_waited_too_long_is_refused_as_in_progress(offers: Offers) -> None:
    with unit_of_work(offers.engine, in_progress(offers)) as uow:
        once(uow, "k-1", {"request": "accept it"})

        with pytest.raises(IdempotentRequestInProgress), unit_of_work(offers.engine, in_progress(offers)) as impatient:
            impatient.connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
            once(impatient, "k-1", {"request": "accept it"})


def test_a_row_that_stays_locked_is_refused_with_try_again(offers: Offers) -> None:
    offer = offers.draft_quote()

    with offers.engine.connect() as blocker:
        blocker.execute(select(QUOTE.c.id).with_for_update())
        with pytest.raises(TryAgain), offers.uow() as uow:
            uow.connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
            edit(offers, offer, uow)


def test_a_connection_that_dies_in_commit_is_an_unknown_outcome(offers: Offers) -> None:
    offer = offers.draft_quote()

    with pytest.raises(OutcomeUnknownError), offers.uow() as uow:
        edit(offers, offer, uow)
        uow.flush()
        process_id = uow.connection.scalar(text("SELECT pg_backend_pid()"))
        with offers.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": process_id})


EVIDENCE = ("transition_log", "price_result", "configuration_result", "quote_acceptance", "approval_decision", "quote_document")


@pytest.mark.parametrize("table", EVIDENCE)
@pytest.mark.parametrize("change", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}"])
def test_evidence_is_never_changed(offers: Offers, table: str, change: str) -> None:
    offers.accepted_quote()

    with pytest.raises(IntegrityError, match="never changed"), offers.engine.begin() as connection:
        connection.execute(text(change.format(table)))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE quote_line SET quantity = quantity + 1",
        "DELETE FROM quote_line",
        "INSERT INTO quote_line SELECT (jsonb_populate_record(l, jsonb_build_object('id', gen_random_uuid(), 'line_no', 9))).* FROM quote_line l",
        "UPDATE quote_revision SET content_hash = 'other'",
        "UPDATE quote_revision SET price_result_id = NULL",
    ],
)
def test_a_submitted_revision_is_never_changed(offers: Offers, change: str) -> None:
    offers.submitted_quote()

    with pytest.raises(DBAPIError, match="never changed"), offers.engine.begin() as connection:
        connection.execute(text(change))


@pytest.mark.parametrize("name", ["transition_log", "outbox_event"])
def test_one_version_has_one_reason_and_one_event_of_a_kind(offers: Offers, name: str) -> None:
    offers.draft_quote()
    columns = [column.name for column in Quote.metadata.tables[name].columns if column.name not in {"id", "position"}]
    again = f"INSERT INTO {name} (id, {', '.join(columns)}) SELECT gen_random_uuid(), {', '.join(columns)} FROM {name}"

    with pytest.raises(IntegrityError, match=f"uq_{name}"), offers.engine.begin() as connection:
        connection.execute(text(again))
