"""Every refusal, and the other errors that a command can raise.

A refusal is named after the fact. Its code is stable, and means the same in HTTP, BPMN, logs and metrics.

    DomainError
    ├── Refusal                     the command was understood and must not happen; nothing was changed
    │   ├── NotFound                the tenant has no such thing (404)
    │   ├── Conflict                the state of things does not allow it (409)
    │   ├── Forbidden               the actor lacks the right (403)
    │   └── Invalid                 the request makes no sense in any state (422)
    ├── TryAgain                    the database was too busy to decide; nothing was changed
    └── OutcomeUnknownError         the connection was lost during COMMIT: a repeat under the same key gets the outcome
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, ClassVar, Self
from uuid import UUID


class SafeAction(StrEnum):
    """What a person or a client may safely do after a refusal: `safeUserAction` (docs/domain.md#refusals-logs-and-metrics)."""

    RELOAD_AND_REAPPLY = "RELOAD_AND_REAPPLY"
    REPRICE = "REPRICE"
    RECONFIGURE = "RECONFIGURE"
    REQUEST_APPROVAL = "REQUEST_APPROVAL"
    RENEW_QUOTE = "RENEW_QUOTE"
    REISSUE_DOCUMENT = "REISSUE_DOCUMENT"
    ASK_SOMEONE_WITH_AUTHORITY = "ASK_SOMEONE_WITH_AUTHORITY"
    CORRECT_THE_REQUEST = "CORRECT_THE_REQUEST"
    USE_A_NEW_KEY = "USE_A_NEW_KEY"
    RETRY_WITH_SAME_KEY = "RETRY_WITH_SAME_KEY"
    NOTHING_TO_DO = "NOTHING_TO_DO"


class DomainError(Exception):
    """Base of everything above."""

    code: ClassVar[str] = "DOMAIN_ERROR"
    safe_action: ClassVar[SafeAction] = SafeAction.RELOAD_AND_REAPPLY

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).upper()

    def __init__(self, detail: str | None = None) -> None:
        # The docstring is the sentence that people read: it is written once, and shown everywhere.
        super().__init__(detail or (self.__doc__ or self.code).strip().splitlines()[0])


class Refusal(DomainError):
    """A command that must not happen now.

    `expected_version` and `current_version` are versions of the named aggregate, where the command named one.
    `aggregate` is the table of the rows that a refusal is about, for refusals that are always about rows of one table.
    """

    aggregate: ClassVar[str | None] = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        aggregate_type: str | None = None,
        aggregate_id: UUID | None = None,
        expected_version: int | None = None,
        current_version: int | None = None,
        current_status: str | None = None,
        **evidence: Any,
    ) -> None:
        super().__init__(detail)
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.expected_version = expected_version
        self.current_version = current_version
        self.current_status = current_status
        self.evidence = evidence

    @classmethod
    def about(cls, row: Any, detail: str | None = None, **more: Any) -> Self:
        """This refusal with the id of a row of `aggregate`, and its version and status where it has them; `more` overrides and adds."""
        facts = {
            "aggregate_type": cls.aggregate,
            "aggregate_id": row.id,
            "current_version": getattr(row, "version", None),
            "current_status": getattr(row, "status", None),
        }
        return cls(detail, **{**facts, **more})


class NotFound(Refusal):
    """There is no such thing here."""

    safe_action = SafeAction.CORRECT_THE_REQUEST


class Conflict(Refusal):
    """Something changed in the meantime."""


class Forbidden(Refusal):
    """You have no right to do this."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class Invalid(Refusal):
    """The request makes no sense in any state."""

    safe_action = SafeAction.CORRECT_THE_REQUEST


class InvalidTransition(Conflict):
    """This cannot happen in the current state."""


class AlreadyExists(Conflict):
    """It exists already."""


class IdempotencyKeyReused(Invalid):
    """This idempotency key was used before with another request."""

    safe_action = SafeAction.USE_A_NEW_KEY


class IdempotentRequestInProgress(Conflict):
    """The same request is being carried out right now."""

    safe_action = SafeAction.RETRY_WITH_SAME_KEY


class TryAgain(DomainError):
    """Too much happened at once to decide; nothing was changed."""

    safe_action = SafeAction.RETRY_WITH_SAME_KEY


class UnknownTenantError(DomainError):
    """The stepRef names a tenant for which nothing was ever asked of a provider: correct the stepRef."""

    # No refusal, because a refusal is logged in its tenant, and nobody would see it there.
    safe_action = SafeAction.CORRECT_THE_REQUEST


class OutcomeUnknownError(DomainError):
    """The connection to the database was lost during the commit: it is not known yet whether the command took effect."""

    safe_action = SafeAction.RETRY_WITH_SAME_KEY
