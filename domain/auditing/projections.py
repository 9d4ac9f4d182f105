"""Rules about projections: consumers saw every event once, and every view is both what the authority says and what the events add up to."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from domain.auditing.invariants import INVARIANTS
from domain.auditing.rule import COMMITTED, OLD_ENOUGH, WITHIN_MINUTES, Rule, cast, count
from domain.projections.tables import IDENTITY, TABLES, Projection, header_of
from domain.store.base import camel
from domain.store.outbox import INBOX_IS_WHOLE_FOR

_TRUTH = {
    Projection.QUOTES: "SELECT q.*, q.id AS quote_id, q.version AS aggregate_version FROM quote q",
    Projection.ORDERS: "SELECT o.*, o.id AS order_id, o.version AS aggregate_version FROM sales_order o",
    Projection.DECISIONS: (
        "SELECT d.*, d.id AS approval_decision_id, d.created_at AS decided_at, q.type, q.level FROM approval_decision d "
        "JOIN approval_requirement q ON q.tenant_id = d.tenant_id AND q.id = d.requirement_id"
    ),
}
_CHANGED = {Projection.QUOTES: "updated_at", Projection.ORDERS: "updated_at", Projection.DECISIONS: "decided_at"}
# The events of a row carry the columns of its header, except those that stand in the envelope; a decision is told by one event.
_TOLD = {
    Projection.QUOTES: ("quote", {"quote_id": "e.aggregate_id", "aggregate_version": "e.aggregate_version"}),
    Projection.ORDERS: ("sales_order", {"order_id": "e.aggregate_id", "aggregate_version": "e.aggregate_version"}),
    Projection.DECISIONS: (
        "approval_requirement",
        {"requirement_id": "e.aggregate_id", "decided_at": cast("(e.payload ->> 'updatedAt')", "TIMESTAMP WITH TIME ZONE")},
    ),
}


_POSTGRESQL = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def _columns(projection: Projection, of: str) -> str:
    return ", ".join(f"{of}.{column.name}" for column in header_of(projection))


CONSUMERS = {Projection.QUOTES: "quote-search", Projection.ORDERS: "order-search"}
"""The consumer of each view that shows the version of its aggregate."""
# Every row of a view, and the newest version of which its consumer has seen the event.
_SEEN = {
    view: f"""SELECT v.{IDENTITY[view]}, v.aggregate_version, s.version AS seen FROM {TABLES[view].name} v JOIN (
        SELECT l.aggregate_id, max(l.aggregate_version) AS version FROM consumer_inbox i
        JOIN transition_log l ON l.tenant_id = i.tenant_id AND l.aggregate_type = '{_TOLD[view][0]}' AND l.aggregate_id = i.aggregate_id
            AND l.emitted_event_id = i.event_id
        WHERE i.tenant_id = :tenant_id AND i.consumer_name = '{consumer}' GROUP BY l.aggregate_id) s ON s.aggregate_id = v.{IDENTITY[view]}
    WHERE v.tenant_id = :tenant_id AND v.aggregate_version < s.version"""  # noqa: S608 - names of the models
    for view, consumer in CONSUMERS.items()
}


def _unlike_the_truth(projection: Projection) -> str:
    identity, table = IDENTITY[projection], TABLES[projection].name
    return f"""SELECT format('In %s, the row of %s says %s, and the truth is %s.', '{table}', coalesce(p.{identity}, t.{identity}),
        coalesce(to_jsonb(p)::text, 'nothing'), coalesce(to_jsonb(t)::text, 'nothing'))
    FROM (SELECT {_columns(projection, "t")} FROM ({_TRUTH[projection]}) t WHERE t.tenant_id = :tenant_id) t
    FULL JOIN (SELECT {_columns(projection, "p")} FROM {table} p WHERE p.tenant_id = :tenant_id) p ON p.{identity} = t.{identity}
    WHERE t IS DISTINCT FROM p AND NOT EXISTS (
        SELECT FROM ({_TRUTH[projection]}) a WHERE a.tenant_id = :tenant_id AND a.{identity} = coalesce(p.{identity}, t.{identity})
        AND a.{_CHANGED[projection]} >= {OLD_ENOUGH}) {_told_apart(projection)}"""  # noqa: S608 - names of the models


def _told_apart(projection: Projection) -> str:
    """Leaves out the rows that have moved back, which I21 names."""
    if projection not in _SEEN:
        return ""
    identity = IDENTITY[projection]
    return f"AND NOT EXISTS (SELECT FROM ({_SEEN[projection]}) back WHERE back.{identity} = p.{identity})"


def _unlike_its_events(projection: Projection) -> str:
    """Compares each row with its newest event, which carries the whole header, as long as the outbox still has that event.

    Events of 0.1.0 lack members, and are left out.
    """
    identity, table, (aggregate, known) = IDENTITY[projection], TABLES[projection].name, _TOLD[projection]
    told = {column.name: column for column in header_of(projection) if column.name not in known}
    values = [
        known[column.name]
        if column.name in known
        else cast(f"(e.payload ->> '{camel(column.name)}')", column.type.compile(_POSTGRESQL))
        for column in header_of(projection)
    ]
    members = ", ".join(f"'{camel(name)}'" for name in told)
    same = "f.aggregate_version = p.aggregate_version" if "aggregate_version" in known else "true"
    return f"""SELECT format('In %s, the row of %s is not what its events add up to.', '{table}', p.{identity})
    FROM (SELECT {", ".join(f"{value} AS {column.name}" for value, column in zip(values, header_of(projection), strict=True))}
        FROM outbox_event e WHERE e.tenant_id = :tenant_id AND e.aggregate_type = '{aggregate}'
        AND jsonb_exists_all(e.payload, ARRAY[{members}])) f
    JOIN (SELECT {_columns(projection, "p")} FROM {table} p WHERE p.tenant_id = :tenant_id) p ON p.{identity} = f.{identity} AND {same}
    WHERE f IS DISTINCT FROM p"""  # noqa: S608 - names of the models


def _gaps(projection: Projection) -> str:
    table = TABLES[projection].name
    return f"""SELECT format('In %s, the row of %s has not seen the versions %s.', '{table}', {IDENTITY[projection]}, missing)
    FROM {table} WHERE tenant_id = :tenant_id AND gap_since < {OLD_ENOUGH}"""  # noqa: S608 - names of the models


PROJECTIONS = Rule(
    code="I20",
    title="consumers saw every event once, and their views are what the authority and the events say",
    counts={
        "consumed": count("consumer_inbox"),
        "quotes": count("quote"),
        "orders": count("sales_order"),
        "decisions": count("approval_decision"),
        "projected": " + ".join(f"({count(table.name)})" for table in TABLES.values()).join(("SELECT ", "")),
    },
    violations=(
        # An event of another tenant is told by I28. Other tenants are read only for what this one has not committed.
        f"""WITH strays AS MATERIALIZED (
            SELECT i.consumer_name, i.event_id, i.event_type FROM consumer_inbox i
            LEFT JOIN (SELECT o.id FROM {COMMITTED} o WHERE o.tenant_id = :tenant_id) own ON own.id = i.event_id
            WHERE i.tenant_id = :tenant_id AND own.id IS NULL),
        of_others AS MATERIALIZED (
            SELECT o.id FROM {COMMITTED} o WHERE EXISTS (SELECT FROM strays) AND o.id IN (SELECT event_id FROM strays))
        SELECT format('Consumer %s has event %s (%s), which no transaction committed.', consumer_name, event_id, event_type)
        FROM strays WHERE event_id NOT IN (SELECT id FROM of_others)""",  # noqa: S608 - names of the declarations
        f"""WITH consumers AS (
            SELECT DISTINCT i.consumer_name, o.topic FROM consumer_inbox i
            JOIN {COMMITTED} o ON o.id = i.event_id AND o.tenant_id = i.tenant_id WHERE i.tenant_id = :tenant_id)
        SELECT format('Consumer %s never saw %s of %s %s.', c.consumer_name, o.event_type, o.aggregate_type, o.aggregate_id)
        FROM consumers c JOIN {COMMITTED} o ON o.topic = c.topic AND o.is_published
            AND o.created_at < {OLD_ENOUGH} AND o.created_at > clock_timestamp() - CAST('{INBOX_IS_WHOLE_FOR.days} days' AS interval)
        LEFT JOIN consumer_inbox i ON i.consumer_name = c.consumer_name AND i.event_id = o.id
        WHERE o.tenant_id = :tenant_id AND i.event_id IS NULL""",  # noqa: S608 - names of the declarations
        *(_unlike_the_truth(projection) for projection in Projection),
        *(_unlike_its_events(projection) for projection in Projection),
        *(_gaps(projection) for projection in (Projection.QUOTES, Projection.ORDERS)),
    ),
    age=WITHIN_MINUTES,
)
NEVER_BACK = Rule(
    code="I21",
    title=INVARIANTS["I21"].title,
    counts={"views": " + ".join(f"({count(TABLES[each].name)})" for each in CONSUMERS).join(("SELECT ", ""))},
    violations=tuple(
        f"""SELECT format('%s of %s shows version %s, and its consumer has seen version %s.', '{TABLES[each].name}', v.{IDENTITY[each]},
            v.aggregate_version, v.seen)
        FROM ({_SEEN[each]}) v"""  # noqa: S608 - names of the models
        for each in CONSUMERS
    ),
)
RULES = (PROJECTIONS, NEVER_BACK)
