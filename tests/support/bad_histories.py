"""Bad histories: statements that make a settled tenant wrong in one way each, and the check that must find it.

They are for a transaction that is rolled back, after UNPROTECT: with the product's own protection none of them would succeed.
"""

from __future__ import annotations

from tests.support.bad_records import IN_RECORDS
from tests.support.planting import ACCEPTED_QUOTE, NEW, ORDER, copy, one

CANCELLED = one("sales_order", "status = 'CANCELLED'")
OTHER_REVISION = one("quote_revision", "status <> 'ACCEPTED'")
OTHER_PRICE = one("price_result", "revision_id NOT IN (SELECT quote_revision_id FROM quote_acceptance)")
RETRIED_STEP = one("fulfillment_step", f"step_code = 'CHECK_SERVICEABILITY' AND order_id = {CANCELLED}")
CASES_OF_RETRIED_STEP = f"SELECT id FROM fallout_case WHERE step_id = {RETRIED_STEP}"
LATER_DECISION = "(SELECT id FROM approval_decision WHERE tenant_id = :tenant ORDER BY created_at DESC LIMIT 1)"
FORM = one("approval_decision", "shown_form_id IS NOT NULL", "shown_form_id")
GRANT = one("approval_decision", column="authority_snapshot ->> 'grantId'")
UNDO = "kind = 'COMPENSATE'"
ROUTER_STEP = one("fulfillment_step", f"step_code = 'SHIP_ROUTER' AND order_id = {ORDER}")
REOPEN_ORDER = (
    f"DELETE FROM transition_log WHERE transition_to = 'FULFILLED' AND aggregate_id = {ORDER}",
    f"UPDATE sales_order SET status = 'IN_PROGRESS', version = version - 1 WHERE id = {ORDER}",
)
IN_DATABASE: dict[str, tuple[str, tuple[str, ...]]] = {
    "a revision with two orders": (
        "I1",
        (
            "DROP INDEX uq_order_quote_revision_primary",
            copy(
                "transition_log",
                f"aggregate_id = {ORDER} AND aggregate_version = 1",
                id=NEW,
                aggregate_id=NEW,
                emitted_event_id=NEW,
            ),
            copy("consumer_inbox", "consumer_name = 'order-search'", event_id=NEW),
            copy("sales_order", f"id = {ORDER}", id=NEW, order_number="O-0", status="CREATED", version=1),
        ),
    ),
    "an order without acceptance": ("I1", (f"DELETE FROM quote_acceptance WHERE order_id = {ORDER}",)),
    "an acceptance without order": (
        "I1",
        (copy("quote_acceptance", "true", id=NEW, order_id=NEW, quote_revision_id=NEW),),
    ),
    "an acceptance of another price": (
        "I3",
        (f"UPDATE quote_acceptance SET price_result_id = {OTHER_PRICE} WHERE order_id = {ORDER}",),
    ),
    "an order of another revision": (
        "I3",
        (f"UPDATE sales_order SET quote_revision_id = {OTHER_REVISION} WHERE id = {ORDER}",),
    ),
    "an acceptance before its approval": (
        "I3",
        ("UPDATE quote_acceptance SET created_at = created_at - interval '1 day' WHERE tenant_id = :tenant",),
    ),
    "a signature decided twice": (
        "I4",
        (
            "ALTER TABLE approval_decision DROP CONSTRAINT uq_approval_decision_tenant_id_requirement_id",
            copy("approval_decision", "true", id=NEW, approval_task_id="again"),
        ),
    ),
    "a decision used for another revision": (
        "I4",
        (f"UPDATE approval_decision SET quote_revision_id = '{NEW}' WHERE id = {one('approval_decision')}",),
    ),
    "a decision by the owner of the quote": (
        "I4",
        (f"UPDATE quote SET owner_user_id = 'rita' WHERE id = {one('approval_decision', column='quote_id')}",),
    ),
    "a decision beyond its authority": (
        "I4",
        ("UPDATE authority_grant SET max_discount_percent = 1 WHERE tenant_id = :tenant",),
    ),
    "a decision by a grant of somebody else": (
        "I4",
        ("UPDATE authority_grant SET subject = 'sara' WHERE tenant_id = :tenant",),
    ),
    "a decision by a grant that is not there": (
        "I4",
        (f'UPDATE approval_decision SET authority_snapshot = \'{{"grantId": "{NEW}"}}\' WHERE id = {one("approval_decision")}',),
    ),
    "a decision after the grant had ended": (
        "I4",
        ("UPDATE authority_grant SET valid_until = valid_from + interval '1 microsecond' WHERE tenant_id = :tenant",),
    ),
    "a decision after the grant was revoked": (
        "I4",
        (
            copy("transition_log", "emitted_event_id IS NULL", id=NEW, aggregate_type="authority_grant", aggregate_version=1000),
            (
                "UPDATE transition_log SET transition_to = 'REVOKED', reason = 'REVOKE', created_at = created_at - interval '1 day', "
                f"aggregate_id = CAST({GRANT} AS uuid) WHERE id = '{NEW}'"
            ),
        ),
    ),
    "a signature reused from another quote": (
        "I4",
        (
            (
                "UPDATE approval_decision SET decision = 'REUSED', "
                f"basis_decision_id = (SELECT max(id::text)::uuid FROM approval_decision) WHERE id = {one('approval_decision')}"
            ),
        ),
    ),
    "a signature without decision": ("I4", (f"DELETE FROM approval_decision WHERE id = {one('approval_decision')}",)),
    "an acceptance after the offer ended": (
        "I6",
        (f"UPDATE quote SET valid_until = created_at WHERE id = {ACCEPTED_QUOTE}",),
    ),
    "an acceptance that did not see what had been published": (
        "I6",
        (
            copy("price_book_version", "true", price_book_version="p-0"),
            (
                "UPDATE quote_acceptance a SET active_version_published_at = b.published_at - interval '1 second' "
                "FROM price_book_version b WHERE b.tenant_id = a.tenant_id AND b.price_book_version = 'p-0'"
            ),
        ),
    ),
    "an acceptance of a stale price": (
        "I6",
        (
            (
                "UPDATE quote_acceptance SET active_price_book_version_seen = 'p-45', staleness_policy = 'REPRICE_REQUIRED_ON_PUBLISH' "
                f"WHERE order_id = {ORDER}"
            ),
        ),
    ),
    "a stale price that nobody signed for": (
        "I6",
        (
            (
                "UPDATE quote_acceptance SET active_price_book_version_seen = 'p-45', staleness_policy = 'APPROVAL_REQUIRED_IF_STALE' "
                f"WHERE order_id = {ORDER}"
            ),
        ),
    ),
    "a fulfilled order with an open step": (
        "I11",
        (
            copy("transition_log", f"aggregate_id = {ROUTER_STEP} AND aggregate_version = 1", id=NEW, aggregate_id=NEW),
            copy("fulfillment_step", f"id = {ROUTER_STEP}", id=NEW, step_code="MORE", status="PENDING", version=1),
        ),
    ),
    "a running order with every step done": ("I11", REOPEN_ORDER),
    "a cancelled order that was not undone": (
        "I11",
        (
            f"DELETE FROM transition_log WHERE transition_to = 'COMPLETED' AND aggregate_id = {one('fulfillment_step', UNDO)}",
            f"UPDATE fulfillment_step SET status = 'IN_PROGRESS', version = version - 1 WHERE id = {one('fulfillment_step', UNDO)}",
        ),
    ),
    "a cancellation that is done, of an order that is not": (
        "I11",
        (f"UPDATE cancellation_request SET order_id = {ORDER} WHERE tenant_id = :tenant",),
    ),
    "a contradiction that nobody was called to": ("I17", ("DELETE FROM fallout_case WHERE type = 'CONTRADICTORY_CALLBACK'",)),
    "an event of two contents that nobody was called to": (
        "I17",
        ("UPDATE fallout_case SET type = 'TECHNICAL' WHERE type = 'PROVIDER_CONFLICT'",),
    ),
    "a case that was taken from its owner": (
        "I17",
        ("UPDATE transition_log SET actor = 'bert' WHERE reason = 'CLAIM' AND transition_from = 'IN_PROGRESS'",),
    ),
    "a held step that nobody was called to": (
        "I17",
        (
            f"DELETE FROM transition_log WHERE aggregate_id = {RETRIED_STEP} AND aggregate_version > 3",
            f"UPDATE fulfillment_step SET status = 'HELD', version = 3 WHERE id = {RETRIED_STEP}",
        ),
    ),
    "a held step whose only case is resolved": (
        "I17",
        (
            f"DELETE FROM transition_log WHERE aggregate_id = {RETRIED_STEP} AND aggregate_version > 3",
            f"UPDATE fulfillment_step SET status = 'HELD', version = 3 WHERE id = {RETRIED_STEP}",
            f"DELETE FROM transition_log WHERE reason = 'VERIFY' AND aggregate_id IN ({CASES_OF_RETRIED_STEP})",
            f"UPDATE fallout_case SET status = 'RESOLVED', version = version - 1 WHERE id IN ({CASES_OF_RETRIED_STEP})",
        ),
    ),
    "a step completed by two callbacks": ("I13", (copy("external_callback_record", "true", external_event_id="again"),)),
    "a callback that nobody acted on": (
        "I13",
        ("UPDATE external_callback_record SET processed_status = 'RECEIVED' WHERE tenant_id = :tenant",),
    ),
    "a callback that acted twice": (
        "I13",
        (f"UPDATE transition_log SET external_event_id = 'e' WHERE aggregate_id = {ROUTER_STEP}",),
    ),
    "a step left unknown": (
        "I15",
        (
            *REOPEN_ORDER,
            f"DELETE FROM transition_log WHERE transition_to = 'COMPLETED' AND aggregate_id = {ROUTER_STEP}",
            f"UPDATE fulfillment_step SET status = 'UNKNOWN', version = version - 1 WHERE id = {ROUTER_STEP}",
        ),
    ),
    "a start left open": (
        "I15",
        (
            "DELETE FROM transition_log WHERE tenant_id = :tenant AND aggregate_type = 'workflow_correlation' AND transition_to = 'STARTED'",
            "UPDATE workflow_correlation SET status = 'REQUESTED', version = 1, process_instance_id = NULL WHERE tenant_id = :tenant",
        ),
    ),
    "a decision about another subject's form": (
        "I31",
        (f"UPDATE shown_form SET subject_id = '{NEW}' WHERE id = {FORM}",),
    ),
    "a decision in the process of something else": (
        "I31",
        (
            f"UPDATE shown_form SET process_instance_id = (SELECT min(process_instance_id) FROM workflow_instance) WHERE id = {FORM}",
        ),
    ),
    "a decision without a form": (
        "I31",
        (f"UPDATE approval_decision SET shown_form_id = NULL WHERE id = {LATER_DECISION}",),
    ),
    "a decision whose form showed another price": (
        "I31",
        (f"UPDATE shown_form SET facts = jsonb_set(facts, '{{price,netTotal}}', '\"1.00\"') WHERE id = {FORM}",),
    ),
    "a decision whose form showed no price": (
        "I31",
        (f"UPDATE shown_form SET facts = jsonb_set(facts, '{{price,netTotal}}', '\"much\"') WHERE id = {FORM}",),
    ),
    "a cancellation decided at no version": (
        "I31",
        ("UPDATE shown_form SET facts = jsonb_set(facts, '{request,version}', '\"late\"') WHERE facts ? 'request'",),
    ),
    "a cancellation decided at another version": (
        "I31",
        ("UPDATE shown_form SET facts = jsonb_set(facts, '{request,version}', '7') WHERE facts ? 'request'",),
    ),
    "a decision in the name of somebody else": (
        "I31",
        ("UPDATE transition_log SET actor = 'sara' WHERE aggregate_type = 'approval_requirement' AND reason = 'APPROVE'",),
    ),
    "a resolution in the name of somebody else": (
        "I31",
        ("UPDATE fallout_case SET resolved_by = 'mona' WHERE resolved_by IS NOT NULL",),
    ),
    "a cancellation in the name of somebody else": (
        "I31",
        ("UPDATE cancellation_request SET decided_by = 'frank' WHERE shown_form_id IS NOT NULL",),
    ),
    **IN_RECORDS,
}
