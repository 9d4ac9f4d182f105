"""The audit of a tenant: it compares the database, the engine, Kafka, the provider and the archive.

It repairs nothing and trusts no side: every figure is counted, and every disagreement is a sentence with the ids that it is about. A side
that cannot be read is said to be not looked at, and is never counted as right. The same holds for a rule that fails on an odd row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import sqlalchemy

from domain import auditing
from domain.auditing import CheckResult, Snapshot
from domain.auditing.checking import RULES
from domain.auditing.invariants import INVARIANTS
from domain.auditing.outside import OUTSIDE_AGE
from domain.auditing.rule import ALWAYS
from domain.texts import reason_of
from reconciliation.archived_rows import load, seeing_archives
from reconciliation.audit_agreement import (
    LedgerEntry,
    one_instance,
    processes_agree,
    provider_agrees,
    reservations_balance,
    with_completions,
    with_deliveries,
    with_incidents,
)
from reconciliation.audit_clients import ClientRecord, clients_agree, with_answers
from reconciliation.audit_events import all_there, in_order, none_made_up
from reconciliation.audit_report import AuditReport
from reconciliation.audit_sources import AbsentError, EngineHistory, EventRecords, ReadBefore
from workers.runtime.outages import OutageError

Ledger = Callable[[], Sequence[LedgerEntry]]
Told = Callable[[str], object]
SIDES = ("the provider", "the engine", "Kafka")
STAGES = len(SIDES) + len(RULES)
"""How often `told` is called for one tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything that the database is compared with. `ledger`: the provider's entries as `GET /sandbox/ledger` gives them.

    Each may raise OutageError, or AbsentError when there is no such side; any other error counts as a look that has failed.
    """

    engine: EngineHistory
    events: EventRecords
    ledger: Ledger
    clients: ClientRecord = field(default_factory=ClientRecord)


class Audit:
    """Audits tenants. Raises the database's errors; another side that cannot be reached is named in the report."""

    def __init__(self, database: sqlalchemy.Engine, outside: Outside, archive: Path | None = None) -> None:
        self._database = database
        self._archive = archive
        self._outside = outside

    def run(self, tenant_id: UUID, *, settled: bool = True, told: Told = lambda _: None) -> AuditReport:
        """Audit one tenant; no transaction is open while another side is read.

        `settled`: nothing of the tenant is under way any more, and what is on its way counts as missing. Otherwise only what is old enough
        counts. `told` is called before each stage, with its name.
        """
        # What happens while the sides are read may be missing in those that are read first. An effect, and an instance, is asked for before
        # it is there, so these come first; an event is committed before it is in Kafka, so Kafka comes last.
        told(SIDES[0])
        ledger = _read(self._outside.ledger)
        told(SIDES[1])
        instances = _read(lambda: self._outside.engine.instances(tenant_id))
        snapshot, archive = self.inspect(tenant_id, settled=settled, told=told)
        told(SIDES[2])
        engine = ReadBefore(self._outside.engine, instances)
        return compare(snapshot, archive, replace(self._outside, engine=engine, ledger=ledger))

    def inspect(self, tenant_id: UUID, *, settled: bool = True, told: Told = lambda _: None) -> tuple[Snapshot, CheckResult]:
        """The database's side at one moment, with the rows that are archived, and whether the archive is whole."""
        with seeing_archives(self._database, self._archive) as connection:
            whole = load(connection, tenant_id, self._archive)
            keys = self._outside.clients.keys_of(tenant_id)
            return auditing.inspect(connection, tenant_id, settled=settled, told=told, keys=keys), whole


def compare(snapshot: Snapshot, archive: CheckResult, outside: Outside) -> AuditReport:
    """Compare the database's side with the others."""
    engine, tenant_id = outside.engine, snapshot.tenant_id
    age = OUTSIDE_AGE if snapshot.is_live else ALWAYS
    looked = _Looked({result.code: result for result in (*snapshot.results, archive)}, snapshot.unread)
    looked.at(("I13",), lambda: [with_deliveries(looked.results["I13"], snapshot, outside.ledger())], alone=True)
    looked.at(("I31",), lambda: [with_completions(looked.results["I31"], snapshot, engine)])
    looked.at(("I23",), lambda: [with_incidents(looked.results["I23"], snapshot, engine.instances(tenant_id), engine)])
    looked.at(("I8", "I12"), lambda: [side(snapshot, outside.ledger()) for side in (provider_agrees, reservations_balance)], age)
    looked.at(("I14",), lambda: [one_instance(snapshot, engine.instances(tenant_id), engine)], age)
    looked.at(("I16",), lambda: [processes_agree(snapshot, engine.instances(tenant_id))], age)
    records = _read(lambda: outside.events.read(tenant_id))
    looked.at(("I18",), lambda: [all_there(snapshot, records(), outside.events.kept())], age)
    looked.at(("I19",), lambda: [in_order(snapshot, records(), outside.events.replayed)], age)
    looked.at(("I22",), lambda: [none_made_up(snapshot, records())], age)
    looked.at(("I2",), lambda: [with_answers(looked.results["I2"], snapshot, outside.clients)], alone=True)
    looked.at(("I24", "I25", "I26", "I27", "I29"), lambda: clients_agree(snapshot, outside.clients))
    checks = sorted(looked.results.values(), key=lambda check: int(check.code[1:]))
    return AuditReport(tenant_id=tenant_id, checks=tuple(checks), out_of_reach=tuple(looked.out_of_reach))


class _Looked:
    """What has been looked at so far, by invariant, and why something was out of reach. `unread`: why the database's side is not whole."""

    def __init__(self, results: dict[str, CheckResult], unread: Sequence[str]) -> None:
        self.results = results
        self._unread = unread
        self.out_of_reach = {f"{code}: {each.failure}": None for code, each in results.items() if each.failure}

    def at(
        self,
        codes: Sequence[str],
        look: Callable[[], Sequence[CheckResult]],
        age: timedelta = ALWAYS,
        *,
        alone: bool = False,
    ) -> None:
        """Look at something, or note why that was not possible. `alone`: the invariant says enough without this side."""
        try:
            self._require_own_side()
            found = look()
        except AbsentError as error:
            found = () if alone else [self._unseen(code, str(error)) for code in codes]
        except OutageError as error:
            reason = str(error) or type(error).__name__
            self.out_of_reach[reason] = None
            found = () if alone else [self._unseen(code, reason) for code in codes]
        except Exception as error:  # noqa: BLE001 - an odd entry of one side must not keep the others from being compared
            reason = f"{type(error).__name__}: {reason_of(error)}"
            self.out_of_reach[f"{', '.join(codes)}: {reason}"] = None
            found = [self._unseen(code, reason) for code in codes]
        self.results |= {each.code: replace(each, age=max(each.age, age)) for each in found}

    def _require_own_side(self) -> None:
        if self._unread:
            raise UnreadError("; ".join(self._unread))

    def _unseen(self, code: str, reason: str) -> CheckResult:
        known = self.results.get(code) or CheckResult(code=code, title=INVARIANTS[code].title)
        return replace(known, unseen="; ".join(filter(None, (known.unseen, reason))))


class UnreadError(Exception):
    """The database's side could not be read, so there is nothing to compare the others with."""


T = TypeVar("T")


def _read(read: Callable[[], T]) -> Callable[[], T]:
    """Read a side now; returns what gives the result, or raises the error, whenever it is asked."""
    try:
        found = read()
    except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
        failure = error

        def fail() -> T:
            raise failure

        return fail
    return lambda: found
