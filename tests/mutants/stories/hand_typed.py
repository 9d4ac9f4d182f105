"""Statements typed by hand that would rewrite what a customer saw or an approver signed; only a trigger refuses them."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from domain.schema import METADATA
from tests.mutants.populated_tenant import PopulatedTenant, of
from tests.mutants.rows import write
from tests.mutants.stories.commands import edit
from tests.mutants.telling import refused_by
from tests.support.offers import OWNER


@refused_by("quote_line_frozen")
def changes_of_the_lines_of_a_frozen_revision(tenant: PopulatedTenant) -> None:
    each_refused(
        tenant,
        "UPDATE quote_line SET discount_percent = 99 WHERE tenant_id = :tenant AND revision_id = :frozen",
        "DELETE FROM quote_line WHERE tenant_id = :tenant AND revision_id = :frozen",
        "UPDATE quote_line SET revision_id = :frozen, line_no = 99 WHERE tenant_id = :tenant AND revision_id = :draft AND line_no = 1",
        "UPDATE quote_line SET revision_id = :draft, line_no = 99 WHERE tenant_id = :tenant AND revision_id = :frozen AND line_no = 1",
        "INSERT INTO quote_line (tenant_id, id, revision_id, line_no, product_offering_id, action, quantity, term_months, "
        "discount_percent) VALUES (:tenant, gen_random_uuid(), :frozen, 99, 'FIBRE_1000', 'ADD', 1, 12, 0)",
    )


@refused_by("quote_revision_frozen")
def changes_of_a_frozen_revision(tenant: PopulatedTenant) -> None:
    changes = (
        "content_hash = 'by hand'",
        "price_result_id = NULL",
        "config_result_id = NULL",
        "revision_no = 99",
        "status = 'WORKING'",
    )
    rewriting = "UPDATE quote_revision SET {} WHERE tenant_id = :tenant AND id = :{}"
    # A foreign key that names both ids keeps a revision at its quote; no row refers to this revision.
    superseded = tenant.submitted_quote()
    edit(tenant, superseded)
    moved = rewriting.format("quote_id = :draft_quote, revision_no = 98", "superseded")
    each_refused(tenant, moved, *(rewriting.format(change, "frozen") for change in changes), superseded=superseded.revision_id)


def each_refused(tenant: PopulatedTenant, *statements: str, **more: UUID) -> None:
    given = {
        "frozen": tenant.in_approval.revision_id,
        "draft": tenant.draft.revision_id,
        "draft_quote": tenant.draft.quote_id,
        **more,
    }
    tenant.each_refused(*(partial(tenant.change, statement, **given) for statement in statements))


@refused_by("approval_decision_four_eyes")
def a_decision_of_the_owner(tenant: PopulatedTenant) -> None:
    elsewhere = of(tenant.priced_quote(owner_user_id="bob"))
    decision = partial(write, METADATA.tables["approval_decision"], tenant)
    tenant.each_refused(partial(decision, {"decided_by": OWNER}), partial(decision, {"decided_by": OWNER, **elsewhere}))
