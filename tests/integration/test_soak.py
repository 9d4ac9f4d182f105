"""With retention, tables and indexes level off: the second half of the rounds needs no more room than the first half."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, text

from domain.retaining.dossiers import PARTS
from domain.store import Answer, Cause, once, outbox, remember, unit_of_work
from domain.store.unit_of_work import housekeeping
from reconciliation.retention import Retainer
from tests.support.database import acting
from tests.support.evidence import record
from tests.support.offers import Offers
from tests.support.retaining import AT_ONCE
from workers.runtime.ages import DAYS

ORDERS, ROUNDS = 2, 4
AGES = dict.fromkeys(DAYS, AT_ONCE)
BY_AGE = ("outbox_event", "consumer_inbox", "idempotency_record", "workflow_command", "conflict_log")
LEVELS = (*BY_AGE, *PARTS)
# Everything that is not old enough yet is one round of work: what belongs to it must fit into the room of the round before.
ALLOWED = 1.10
PAGE = 8192
SIZES = text("SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relname = ANY(:names)")
# What an engine and providers would do, in SQL: every request is carried out, and every order is fulfilled.
FINISH = """
UPDATE workflow_command SET status = 'DONE', version = version + 1 WHERE status = 'PENDING';
UPDATE workflow_correlation SET status = 'ENDED' WHERE status = 'REQUESTED';
UPDATE fulfillment_step SET status = 'COMPLETED';
UPDATE sales_order SET status = 'FULFILLED';
UPDATE idempotency_record SET expires_at = clock_timestamp()
"""


def work(offers: Offers) -> None:
    """One round of business, from quotes to fulfilled orders, with answers that clients may ask for again."""
    for _ in range(ORDERS):
        offers.running_order()
        cause = Cause(tenant_id=offers.tenant_id, actor="client", command="accept-quote")
        with unit_of_work(offers.engine, cause) as uow:
            key = str(uuid4())
            once(uow, key, {})
            remember(uow, key, Answer(status=200, body={"padding": "x" * 500}))
    with offers.engine.begin() as connection:
        connection.execute(text(FINISH))
    with housekeeping(offers.engine) as connection:
        while events := outbox.claim(connection, 1000, timedelta(minutes=1)):
            outbox.delete_published(connection, [event.position for event in events])


def sizes(db: Engine) -> Mapping[str, int]:
    """The bytes of each table with its indexes."""
    with db.connect() as connection:
        return {str(name): int(size) for name, size in connection.execute(SIZES, {"names": list(LEVELS)})}


def vacuum(db: Engine) -> None:
    """Do what autovacuum does by itself, at a time that the test knows."""
    with db.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM {', '.join(LEVELS)}"))


def test_tables_and_indexes_level_off(db: Engine, tmp_path: Path) -> None:
    """Kills: a table that no kind of retention reaches, and room that no later row can use."""
    retainer = Retainer(acting(db, "retain"), AGES, tmp_path)
    offers = Offers(db, uuid4())
    offers.publish_prices()
    offers.grant_staff()

    def rounds() -> Mapping[str, int]:
        for _ in range(ROUNDS):
            work(offers)
            assert not [each for each in retainer.run_once() if each.failed]
            vacuum(db)
        return sizes(db)

    before, after = rounds(), rounds()

    grown = {name: (before[name], size) for name, size in after.items() if size > ALLOWED * before[name] + PAGE}
    record("room of all tables after twice as many rounds", sum(after.values()) / sum(before.values()), "ratio")
    assert grown == {}
