"""Bad records: statements that falsify how a settled tenant's history was recorded, in one way each, and the check that must find it.

Records are the log, events, stored answers, business keys, and the views that consumers keep. As `bad_histories`, for after UNPROTECT.
"""

from __future__ import annotations

from tests.support.planting import ACCEPTED_QUOTE, NEW, ORDER, OTHER_TENANT, copy, one

ACCEPTED_VERSION = one("quote", "status = 'ACCEPTED'", "version")
PRICED = one("transition_log", "emitted_event_type = 'QuotePriced'")
WITHOUT_EVENT = "UPDATE transition_log SET emitted_event_id = NULL, emitted_event_type = NULL WHERE"
BACK_IN_THE_OUTBOX = """INSERT INTO outbox_event (tenant_id, id, event_type, topic, aggregate_type, aggregate_id, aggregate_version, payload,
    command_id, status, created_at) SELECT tenant_id, emitted_event_id, emitted_event_type, 'cpq.quote.v1', aggregate_type, aggregate_id,
    aggregate_version, '{}', {command}, '{status}', created_at FROM transition_log WHERE id = {id}"""


def back_in_the_outbox(status: str, command: str = "command_id") -> str:
    """Put an event that was published into the outbox again."""
    return BACK_IN_THE_OUTBOX.replace("{command}", command).replace("{status}", status).replace("{id}", PRICED)


REVISED_QUOTE = one("quote", "status = 'PRICED'")
IN_RECORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a key still in progress": ("I2", ("UPDATE idempotency_record SET status = 'IN_PROGRESS' WHERE tenant_id = :tenant",)),
    "a key without answer": ("I2", ("UPDATE idempotency_record SET response_body = NULL WHERE tenant_id = :tenant",)),
    "a version that no log entry tells": ("I5", (f"UPDATE quote SET version = version + 1 WHERE id = {REVISED_QUOTE}",)),
    "a gap in the log": ("I5", ("DELETE FROM transition_log WHERE reason = 'PRICE' AND transition_from = 'PRICED'",)),
    "a gap in the revisions": (
        "I5",
        ("UPDATE quote_revision SET revision_no = 3 WHERE tenant_id = :tenant AND revision_no = 2",),
    ),
    "a refusal without code": ("I7", (f"UPDATE conflict_log SET conflict_code = '' WHERE id = {one('conflict_log')}",)),
    "a change without event": (
        "I7",
        (f"{WITHOUT_EVENT} id = {PRICED}",),
    ),
    "a birth without event": (
        "I7",
        (f"{WITHOUT_EVENT} emitted_event_type = 'QuoteCreated' AND aggregate_id = {ACCEPTED_QUOTE}",),
    ),
    "an event of another transaction": (
        "I7",
        (back_in_the_outbox("PUBLISHED", f"'{NEW}'"),),
    ),
    "a move that is no cell": (
        "I9",
        (f"UPDATE transition_log SET reason = 'SUBMIT' WHERE reason = 'PRICE' AND aggregate_id = {ACCEPTED_QUOTE}",),
    ),
    "a move from a state that it was not in": (
        "I9",
        (f"UPDATE transition_log SET transition_from = 'APPROVED' WHERE reason = 'PRICE' AND aggregate_id = {ACCEPTED_QUOTE}",),
    ),
    "a birth in the middle of life": (
        "I9",
        (f"UPDATE transition_log SET transition_to = 'PRICED' WHERE aggregate_version = 1 AND aggregate_id = {ACCEPTED_QUOTE}",),
    ),
    "a state that the log does not give": ("I9", (f"UPDATE quote SET status = 'REJECTED' WHERE id = {REVISED_QUOTE}",)),
    "a final state left": (
        "I10",
        (
            copy(
                "transition_log",
                f"transition_to = 'ACCEPTED' AND aggregate_id = {ACCEPTED_QUOTE}",
                id=NEW,
                transition_from="ACCEPTED",
                transition_to="APPROVED",
                reason="OPEN_REQUIREMENTS",
                aggregate_version=1000,
                emitted_event_id=NEW,
                emitted_event_type="QuoteApprovalStarted",
            ),
            f"UPDATE transition_log SET aggregate_version = 1 + {ACCEPTED_VERSION} WHERE id = '{NEW}'",
            copy("consumer_inbox", "consumer_name = 'quote-search'", event_id=NEW),
            f"UPDATE quote SET version = version + 1, status = 'APPROVED' WHERE id = {ACCEPTED_QUOTE}",
        ),
    ),
    "a contradiction that nobody was told": (
        "I10",
        ("UPDATE transition_log SET emitted_event_type = 'StepHeld' WHERE emitted_event_type = 'ContradictionRecorded'",),
    ),
    "a view behind its order": ("I20", (f"UPDATE order_search_projection SET status = 'CREATED' WHERE order_id = {ORDER}",)),
    "an order that is in no view": ("I20", (f"DELETE FROM order_search_projection WHERE order_id = {ORDER}",)),
    "a view of no order": ("I20", (copy("order_search_projection", "true", order_id=NEW),)),
    "a list of quotes behind its quote": ("I20", (f"UPDATE quote_search SET net_total = 1 WHERE quote_id = {ACCEPTED_QUOTE}",)),
    "a quote that is in no list": ("I20", (f"DELETE FROM quote_search WHERE quote_id = {ACCEPTED_QUOTE}",)),
    "a decision that no view counts": (
        "I20",
        ("DELETE FROM quote_approval_projection_decision WHERE tenant_id = :tenant",),
    ),
    "a decision that counts twice": (
        "I20",
        (copy("quote_approval_projection_decision", "true", approval_decision_id=NEW),),
    ),
    "a view and its quote that say what no event said": (
        "I20",
        (
            f"UPDATE quote_search SET customer_id = 'x' WHERE quote_id = {ACCEPTED_QUOTE}",
            f"UPDATE quote SET customer_id = 'x' WHERE id = {ACCEPTED_QUOTE}",
        ),
    ),
    "a view with a gap": (
        "I20",
        (f"UPDATE order_search_projection SET missing = '{{[2,3)}}', gap_since = created_at WHERE order_id = {ORDER}",),
    ),
    "an event that a consumer missed": (
        "I20",
        (f"DELETE FROM consumer_inbox WHERE event_id = {one('consumer_inbox', column='event_id')}",),
    ),
    "an event that a consumer made up": ("I20", (copy("consumer_inbox", "true", event_id=NEW),)),
    "a view that moved back": (
        "I21",
        (
            f"UPDATE order_search_projection SET status = 'IN_PROGRESS', aggregate_version = aggregate_version - 1 WHERE order_id = {ORDER}",
        ),
    ),
    "a key that was carried out twice": ("I27", ("UPDATE transition_log SET idempotency_key = 'key-1' WHERE tenant_id = :tenant",)),
    "a transaction that is open while its process waits": (
        "I30",
        (
            (
                "CREATE TEMPORARY TABLE pg_stat_activity AS SELECT 7 AS pid, 'q2o http' AS application_name, "
                "'idle in transaction' AS state, clock_timestamp() - interval '1 minute' AS state_change"
            ),
        ),
    ),
    "an archive that is not here": (
        "I32",
        (
            (
                "INSERT INTO archive_file (tenant_id, id, sequence, name, lines, first_hash, last_hash) "
                f"VALUES (:tenant, '{NEW}', 1, 'x', 1, '', '')"
            ),
        ),
    ),
    "an event that waits": ("I23", (back_in_the_outbox("PENDING"),)),
    "a workflow command that waits": (
        "I23",
        (
            "DELETE FROM transition_log WHERE tenant_id = :tenant AND aggregate_type = 'workflow_command'",
            "UPDATE workflow_command SET status = 'PENDING', version = 1 WHERE tenant_id = :tenant",
        ),
    ),
    "a row with another tenant's business key": (
        "I28",
        (f"UPDATE transition_log SET business_key = 'order:{OTHER_TENANT}:1' WHERE id = {one('transition_log')}",),
    ),
    "a change of another tenant's quote": (
        "I28",
        (
            copy("transition_log", "emitted_event_type = 'QuotePriced'", id=NEW, aggregate_version=1000),
            f"UPDATE transition_log SET aggregate_id = (SELECT min(id::text)::uuid FROM quote WHERE tenant_id = '{OTHER_TENANT}') WHERE id = '{NEW}'",
        ),
    ),
    "a consumer fed with another tenant's event": (
        "I28",
        (
            (
                "INSERT INTO consumer_inbox SELECT 'x', emitted_event_id, CAST(:tenant AS uuid), created_at, emitted_event_type, aggregate_id "
                f"FROM transition_log WHERE tenant_id = '{OTHER_TENANT}' AND emitted_event_id IS NOT NULL LIMIT 1"
            ),
        ),
    ),
}
