"""Whether the database agrees with what clients were told. Pure: their record in, one result per invariant out.

Only who sends the commands has this record: a test that disturbs the suite writes it as JSON lines (docs/audit.md#the-clients-record).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from httpx import codes

from domain.auditing import CheckResult, Snapshot
from domain.auditing.invariants import INVARIANTS
from domain.auditing.outside import Key
from domain.delivery.callbacks import ProviderConflict
from domain.errors import IdempotencyKeyReused
from domain.fallout.casework import FalloutCaseConflict
from domain.offers.approvals import ApprovalMissing, StaleApproval
from domain.offers.price_books import PriceBookConflict
from domain.offers.prices import StalePrice
from domain.offers.quotes import QuoteExpired
from domain.texts import json_from
from reconciliation.audit_sources import AbsentError

ABSENT = "no record of what clients were told is given (--clients)"
CALLBACK: Final = "receive-callback"
_OF_THE_DATABASE = re.compile(r"psycopg|SQLSTATE|duplicate key value|could not serialize|deadlock detected|violates .* constraint")


class Operation(NamedTuple):
    """A command that a client sent, or a callback that a provider delivered.

    `status` is None if the sender never got an answer. `replayed` says whether the answer had the header `Idempotent-Replayed`.
    """

    tenant_id: UUID
    command: str
    key: str
    status: int | None
    body: Any = None
    replayed: bool = False

    @property
    def identity(self) -> Key:
        return Key(self.command, self.key)

    @property
    def is_done(self) -> bool:
        return self.status is not None and codes.is_success(self.status)

    @property
    def is_refused(self) -> bool:
        return self.status is not None and codes.is_client_error(self.status)

    @property
    def is_callback(self) -> bool:
        """Whether it is a provider's: its key is the id of the event, and no answer is stored for it."""
        return self.command == CALLBACK

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return str(self.body.get("code", "")) if self.is_refused and isinstance(self.body, Mapping) else ""


METRICS: Final[Mapping[str, Callable[[Operation], bool]]] = {
    "q2o_optimistic_lock_conflicts_total": lambda told: (
        told.code.endswith("_VERSION_CONFLICT") or told.code == PriceBookConflict.code
    ),
    "q2o_stale_price_rejections_total": lambda told: told.code == StalePrice.code,
    "q2o_stale_approval_rejections_total": lambda told: told.code in {StaleApproval.code, ApprovalMissing.code},
    "q2o_quote_expired_rejections_total": lambda told: told.code == QuoteExpired.code,
    "q2o_idempotency_hash_conflicts_total": lambda told: told.code == IdempotencyKeyReused.code,
    "q2o_idempotency_replays_total": lambda told: told.replayed and not told.is_callback,
    "q2o_callback_duplicates_total": lambda told: told.is_callback and (told.replayed or told.code == ProviderConflict.code),
    "q2o_fallout_claim_conflicts_total": lambda told: told.code == FalloutCaseConflict.code,
}
"""Metric -> whether it counts a command that was answered so. The other metrics of races count what no client is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """What clients were told, and by how much each metric grew meanwhile. `operations` None: there is no such record."""

    operations: Sequence[Operation] | None = None
    increases: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a record. Raises OSError, and ValueError with the number of a line that cannot be read."""
        operations, increases = [], {}
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                entry = json_from(line)
                if "metric" in entry:
                    increases[str(entry["metric"])] = float(entry["increase"])
                else:
                    operations.append(_operation(entry))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"line {number} of {file} is no entry of a client's record ({error!r})") from error
        return cls(operations=operations, increases=increases)

    def keys_of(self, tenant_id: UUID) -> frozenset[Key]:
        """The keys that the clients of a tenant used."""
        return frozenset(each.identity for each in self.operations or () if each.tenant_id == tenant_id)

    def by_key(self, tenant_id: UUID) -> Mapping[Key, Sequence[Operation]]:
        """The operations of a tenant, by key. Raises AbsentError."""
        if self.operations is None:
            raise AbsentError(ABSENT)
        found: dict[Key, list[Operation]] = defaultdict(list)
        for each in self.operations:
            if each.tenant_id == tenant_id:
                found[each.identity].append(each)
        return found


def _operation(entry: Mapping[str, Any]) -> Operation:
    status = entry["status"]
    return Operation(
        tenant_id=UUID(entry["tenantId"]),
        command=str(entry["command"]),
        key=str(entry["idempotencyKey"]),
        status=None if status is None else int(status),
        body=entry.get("body"),
        replayed=bool(entry.get("replayed", False)),
    )


def clients_agree(snapshot: Snapshot, record: ClientRecord) -> list[CheckResult]:
    """I24 to I27 and I29. Raises AbsentError."""
    by_key = record.by_key(snapshot.tenant_id)
    sent = [each for operations in by_key.values() for each in operations]
    keyed = [(key, operations) for key, operations in by_key.items() if key.command != CALLBACK]
    found = {
        "I24": [sentence for each in sent for sentence in _faults(each)],
        "I25": [sentence for key, operations in keyed for sentence in _lost(snapshot, key, operations)],
        "I26": [sentence for key, operations in keyed for sentence in _leaked(snapshot, key, operations)],
        "I27": [sentence for key, operations in keyed for sentence in _twice(snapshot, key, operations)],
        "I29": list(_miscounted(record)),
    }
    counted = {
        "commands": len(sent),
        "done": sum(each.is_done for each in sent),
        "refused": sum(each.is_refused for each in sent),
        "unknown": sum(each.status is None for each in sent),
    }
    return [
        CheckResult(code=code, title=INVARIANTS[code].title, counted=counted, violations=tuple(violations))
        for code, violations in found.items()
    ]


def with_answers(result: CheckResult, snapshot: Snapshot, record: ClientRecord) -> CheckResult:
    """I2, with the answers that clients got: all that name a result are the stored one. Raises AbsentError."""
    violations = [
        f"Key {key.key} of {key.command} was answered {json.dumps(each.body)}, and its stored answer is another one."
        for key, operations in record.by_key(snapshot.tenant_id).items()
        for each in operations
        if each.is_done and key in snapshot.answers and each.body not in (None, snapshot.answers[key].body)
    ]
    return replace(result, violations=(*result.violations, *violations))


def _faults(each: Operation) -> Iterator[str]:
    told = json.dumps(each.body)
    if each.status is not None and codes.is_server_error(each.status) and _OF_THE_DATABASE.search(told):
        yield f"Key {each.key} of {each.command} was answered {each.status} with {told:.200}."


def _lost(snapshot: Snapshot, key: Key, operations: Sequence[Operation]) -> Iterator[str]:
    if key not in snapshot.answers and any(each.is_done for each in operations):
        yield f"Key {key.key} of {key.command} was answered as done, and nothing of it is stored."


def _leaked(snapshot: Snapshot, key: Key, operations: Sequence[Operation]) -> Iterator[str]:
    if key in snapshot.answers and all(each.is_refused for each in operations):
        yield f"Key {key.key} of {key.command} was only refused, and an answer is stored that says it is done."


def _twice(snapshot: Snapshot, key: Key, operations: Sequence[Operation]) -> Iterator[str]:
    commands = snapshot.effects.get(key.key, 0)
    if commands > 1 and len({known.command for known in snapshot.keys if known.key == key.key}) == 1:
        yield f"Key {key.key} of {key.command} was sent {len(operations)} times, and carried out by {commands} transactions."


def _miscounted(record: ClientRecord) -> Iterator[str]:
    """Metrics count for all tenants, and so does this. A command of unknown outcome may have been counted."""
    operations = record.operations or ()
    unknown = sum(each.status is None for each in operations)
    for metric, counts in METRICS.items():
        told, increase = sum(counts(each) for each in operations), record.increases.get(metric)
        if increase is not None and not told <= increase <= told + unknown:
            yield f"{metric} grew by {increase:g}, and clients got {told} such answers, with {unknown} outcomes unknown."
