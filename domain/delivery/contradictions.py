"""Contradictions: what a provider said of a step, against what was known of it. Both facts stay, with the verdict on them.

Nothing here decides which fact holds. The provider's own ledger does where it can be asked, otherwise a person does.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Base, Owned, check_in, ref, table_of
from domain.store.claims import Checked, Groups

UNANSWERED = "answer IS NULL"


class Verdict(StrEnum):
    """What settled a contradiction: the effect is there, it is not, or a person was called."""

    IN_EFFECT = "IN_EFFECT"
    REVERSED = "REVERSED"
    LEFT_TO_A_PERSON = "LEFT_TO_A_PERSON"


class StepContradiction(Owned, Checked, Base):
    """`said` is the event that came, `known` the state that it met; times are the provider's own clock beside ours (`created_at`).

    `answer` is the verdict; it is empty until the provider's ledger has settled the contradiction.
    """

    __tablename__ = "step_contradiction"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        check_in("answer", Verdict),
        CheckConstraint("(answer IS NULL) = (answered_at IS NULL)", name="answered"),
        Index("ix_step_contradiction_step", "tenant_id", "step_id"),
        Index("ix_step_contradiction_unanswered", "provider_name", "tenant_id", "next_check_at", postgresql_where=text(UNANSWERED)),
    )
    step_id: Mapped[UUID]
    # The default is for pods of the release before, which do not know this column.
    provider_name: Mapped[str] = mapped_column(server_default="")
    said: Mapped[str]
    known: Mapped[str]
    source: Mapped[str]
    external_ref: Mapped[str | None]
    external_event_id: Mapped[str | None]
    external_event_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    answer: Mapped[str | None]
    answered_at: Mapped[datetime | None]


CONTRADICTION = table_of(StepContradiction)
OF_PROVIDERS = Groups(by=(CONTRADICTION.c.provider_name, CONTRADICTION.c.tenant_id), among=UNANSWERED)
