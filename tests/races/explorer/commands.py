"""The commands that meet: commands of the product, each with the versions that its scene shows.

Where two commands of one kind meet, `rank` distinguishes them: the second has other values, or another actor.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain import accepting, granting
from domain.catalog import CATALOG, FIBRE
from domain.offers import approving, deciding, documents, escalating, price_books, quoting, withdrawing
from domain.offers.approvals import Decision
from domain.offers.quotes import QuoteEvent, QuoteStatus
from domain.store import UnitOfWork
from tests.races.explorer.registry import ADMINISTRATOR, AUTHORITY, ENGINE, OFFER, OK, PRICES, SWEEP, command
from tests.races.explorer.scenes import AFTER_THE_END, DORA, FINANCE, FIONA, PETRA, RALPH, RITA, RSM, Scene
from tests.support.offers import CUSTOMER, ENTRIES, PRICE_BOOK, PRICE_BOOK_VERSION, SIGNATURE

RENEWED = datetime.now(UTC) + 2 * AFTER_THE_END


def named(kind: Any, scene: Scene, **values: Any) -> Any:
    """A command that names the ids and versions that the scene shows."""
    offer = scene.offer
    shown = {"expected_version": offer.version, "quote_revision_id": offer.revision_id}
    known = {field.name: shown.get(field.name) or getattr(offer, field.name, None) for field in fields(kind)}
    return kind(**{name: value for name, value in known.items() if value is not None} | values)


@command(QuoteEvent.EDIT)
def edit(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    renewal = RENEWED if scene.offer.status == QuoteStatus.EXPIRED else None
    quoting.edit(uow, named(quoting.EditQuote, scene, reason_code="LONGER", term_months=(24, 36)[rank], valid_until=renewal))
    return OK


@command(QuoteEvent.PRICE, touches=(OFFER, PRICES))
def price(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    quoting.price(uow, named(quoting.PriceQuote, scene, catalog_version=CATALOG.catalog_version))
    return OK


@command(QuoteEvent.SUBMIT)
def submit(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    quoting.submit(uow, named(quoting.SubmitQuote, scene))
    return OK


@command(QuoteEvent.OPEN_REQUIREMENTS, actor=ENGINE, has_key=False)
def open_requirements(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return _opened(scene, uow, SIGNATURE)


@command(QuoteEvent.NONE_REQUIRED, actor=ENGINE, has_key=False)
def require_nothing(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return _opened(scene, uow)


def _opened(scene: Scene, uow: UnitOfWork, *requirements: approving.Requirement, reuse: bool = False) -> str:
    policy = {"policy_definition_id": "approval-requirements:1", "process_instance_id": "instance"}
    opened = approving.open_requirements(
        uow, named(approving.OpenRequirements, scene, requirements=requirements, reuse=reuse, **policy)
    )
    return f"{OK} {opened.status}"


@command(
    states=(QuoteStatus.SUBMITTED_FOR_APPROVAL,),
    touches=(OFFER, PRICES),
    actor=ENGINE,
    has_key=False,
    checks=("quote.approval_facts",),
)
def collect_facts(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    offer = scene.offer
    facts = approving.collect_facts(uow, offer.quote_id, offer.revision_id, offer.price_result_id)
    return f"{OK} stale" if facts.price_stale else OK


@command(QuoteEvent.APPROVE, touches=(OFFER, AUTHORITY))
def approve(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.APPROVE, (RITA, RALPH)[rank])


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), touches=(OFFER, AUTHORITY))
def approve_for_finance(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.APPROVE, FIONA, requirement=1, role=FINANCE)


@command(QuoteEvent.REJECT, touches=(OFFER, AUTHORITY))
def reject(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.REJECT, (RITA, RALPH)[rank])


@command(QuoteEvent.REWORK, touches=(OFFER, AUTHORITY))
def send_back(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.REWORK, (RITA, RALPH)[rank])


def sign(scene: Scene, uow: UnitOfWork, decision: Decision, by: str, *, requirement: int = 0, role: str = RSM) -> str:
    """Decide on one of the scene's signatures."""
    signature = {
        "decision": decision,
        "decided_by": by,
        "roles": (role,),
        "reason_code": "TEST",
        "approval_task_id": f"task of {by}",
    }
    deciding.decide(
        uow, named(deciding.Decide, scene, expected_version=None, requirement_id=scene.requirement_ids[requirement], **signature)
    )
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), actor=SWEEP, has_key=False)
def escalate(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    escalating.escalate(
        uow,
        escalating.EscalateRequirement(
            requirement_id=scene.requirement_ids[0],
            expected_escalation_level=0,
            approver_group="approverDirector",
            sla=timedelta(hours=24),
        ),
    )
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,))
def hand_on(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    command = escalating.HandOn(
        requirement_id=scene.requirement_ids[0],
        expected_escalation_level=0,
        approver_group="approverDirector",
        sla=timedelta(hours=24),
        notice="Not mine.",
        decided_by=(RITA, RALPH)[rank],
        roles=(RSM,),
    )
    escalating.hand_on(uow, command)
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), actor=ENGINE, has_key=False)
def ask_again(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    deciding.ask_again(uow, scene.requirement_ids[0], "The form has changed.")
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), actor=SWEEP, has_key=False)
def remind(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    escalating.remind(uow, scene.requirement_ids[0])
    return OK


@command(QuoteEvent.RECALL)
def recall(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    withdrawing.recall(uow, named(withdrawing.RecallQuote, scene, reason_code="MISTAKE"))
    return OK


@command(QuoteEvent.ACCEPT, touches=(OFFER, PRICES), actor=CUSTOMER)
def accept(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    acceptance = accepting.accept(uow, scene.offers.acceptance(scene.offer))
    return OK if acceptance.is_new else f"{OK} before"


@command(QuoteEvent.DECLINE, actor=CUSTOMER)
def decline(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    withdrawing.decline(uow, named(withdrawing.DeclineQuote, scene, reason_code="TOO_EXPENSIVE"))
    return OK


@command(QuoteEvent.EXPIRE, actor=SWEEP, has_key=False)
def expire(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    withdrawing.expire(uow, named(withdrawing.ExpireQuote, scene))
    return OK


@command(QuoteEvent.CANCEL)
def cancel(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    withdrawing.cancel(uow, named(withdrawing.CancelQuote, scene, reason_code="GIVEN_UP"))
    return OK


@command(
    states=(QuoteStatus.PRICED, QuoteStatus.SUBMITTED_FOR_APPROVAL, QuoteStatus.APPROVAL_IN_PROGRESS, QuoteStatus.APPROVED),
    checks=("quote.document",),
)
def issue_document(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    documents.issue(uow, named(documents.IssueDocument, scene))
    return OK


@command(
    states=(QuoteStatus.DRAFT, QuoteStatus.PRICED, QuoteStatus.SUBMITTED_FOR_APPROVAL, QuoteStatus.APPROVED),
    touches=(PRICES,),
    actor=ADMINISTRATOR,
)
def publish(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    """Every price changes; the change is material for the fibre line."""
    price_books.publish(
        uow,
        price_books.PublishPriceBook(
            price_book=PRICE_BOOK,
            expected_active_version=PRICE_BOOK_VERSION,
            price_book_version=("p-45", "p-46")[rank],
            entries={offering: (listed + 1, cost) for offering, (listed, cost) in ENTRIES.items()},
            material_offering_ids=(FIBRE,),
        ),
    )
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), touches=(AUTHORITY,), actor=ADMINISTRATOR)
def grant(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    given = granting.GrantAuthority(
        subject=("gina", "greg")[rank],
        role=RSM,
        granted_by=ADMINISTRATOR,
        max_discount_percent=Decimal(20),
        max_deal_amount=Decimal(1000),
    )
    granting.grant(uow, given)
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), touches=(AUTHORITY,), actor=ADMINISTRATOR)
def confirm_grant(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    proposed = scene.grants[PETRA]
    confirmed_by = ("second admin", "third admin")[rank]
    confirmation = granting.ConfirmAuthority(grant_id=proposed.id, expected_version=proposed.version, confirmed_by=confirmed_by)
    granting.confirm(uow, confirmation)
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), touches=(AUTHORITY,), actor=RITA, checks=("authority_grant.delegate",))
def delegate(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    own = scene.grants[RITA]
    granting.delegate(
        uow,
        granting.DelegateAuthority(
            grant_id=own.id,
            expected_version=own.version,
            delegated_by=RITA,
            subject=("dora", "dan")[rank],
            valid_until=RENEWED,
        ),
    )
    return OK


@command(states=(QuoteStatus.APPROVAL_IN_PROGRESS,), touches=(AUTHORITY,), actor=ADMINISTRATOR)
def revoke(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    own = scene.grants[RITA]
    granting.revoke(
        uow,
        granting.RevokeAuthority(grant_id=own.id, expected_version=own.version, revoked_by=ADMINISTRATOR, as_administrator=True),
    )
    return OK


# The commands below meet only in worlds that are written by hand (`worlds`), not in every pair of a state.


@command(touches=(OFFER, AUTHORITY))
def approve_as_delegate(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.APPROVE, DORA)


@command(touches=(OFFER, AUTHORITY))
def approve_without_grant(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return sign(scene, uow, Decision.APPROVE, "gina")


@command(touches=(AUTHORITY,), actor=RITA)
def end_delegation(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    passed_on = scene.grants[DORA]
    granting.revoke(
        uow,
        granting.RevokeAuthority(
            grant_id=passed_on.id, expected_version=passed_on.version, revoked_by=RITA, as_administrator=False
        ),
    )
    return OK


@command(actor=ENGINE, has_key=False, touches=(OFFER, AUTHORITY))
def open_requirements_again(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return _opened(scene, uow, SIGNATURE, reuse=True)
