"""Restarts the process instances that belong to no tenant: those that ran before the engine knew tenants (docs/upgrade.md).

The rule it keeps: the domain gives the place of an instance away before the instance is ended. So a run may break off at any point, and its
repeat goes on; an instance whose place was given away is only ended. No transaction is open while the engine is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Engine as Database

from domain.delivery import restarting
from domain.errors import NotFound, OutcomeUnknownError, Refusal, TryAgain
from domain.store import Cause
from domain.workflows import restarts
from domain.workflows.keys import BusinessKey, parse
from domain.workflows.restarts import Standing
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine, EngineOutcomeUnknownError, EngineRefusedError
from workers.runtime.engine_history import EngineInstance

COMMAND = "restart-instances"
REASON = "It belongs to no tenant: an instance of its tenant has its place."


class Outcome(StrEnum):
    """What became of an instance without tenant; in a dry run: what would become of it.

    ENDED: its place was given away before. LEFT: it runs on, and a person must see why. UNKNOWN: a repeat finds out.
    """

    RESTARTED = "restarted"
    ENDED = "ended"
    LEFT = "left"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An instance without tenant, what became of it, and what to do about it, if anything."""

    instance: EngineInstance
    outcome: Outcome
    remedy: str = ""


class Restarts:
    """Goes through the running instances of some processes (`definition_keys`); a dry run changes nothing."""

    def __init__(self, database: Database, engine: Engine, definition_keys: Collection[str], *, dry_run: bool) -> None:
        self._database = database
        self._engine = engine
        self._definition_keys = definition_keys
        self.is_dry_run = dry_run

    def run(self) -> Iterator[Result]:
        """Restart each instance; one that cannot be restarted stops no other. Raises EngineUnavailableError and the database's outages."""
        tenants = frozenset(self._engine.tenants())
        for instance in self._engine.running_without_tenant(self._definition_keys):
            yield self._restart(instance, tenants)

    def _restart(self, instance: EngineInstance, tenants: Collection[UUID]) -> Result:
        try:
            key = parse(instance.business_key)
        except ValueError:
            return _left(instance, f"{instance.business_key!r} is not a business key of this suite: end it in Cockpit")
        if key.tenant_id not in tenants:
            return _left(instance, f"the engine does not know its tenant: q2o deploy --tenant {key.tenant_id}")
        try:
            return self._act(instance, key)
        except NotFound:
            return _left(instance, "the domain has asked for no such process: end it in Cockpit")
        except (Refusal, TryAgain, EngineRefusedError) as error:
            return _left(instance, f"repeat the command: {error}")
        except (OutcomeUnknownError, EngineOutcomeUnknownError) as error:
            return Result(instance=instance, outcome=Outcome.UNKNOWN, remedy=f"repeat the command: {error}")

    def _act(self, instance: EngineInstance, key: BusinessKey) -> Result:
        cause = Cause(
            tenant_id=key.tenant_id,
            actor=COMMAND,
            command=COMMAND,
            process_instance_id=instance.id,
            business_key=instance.business_key,
        )
        with unit_of_work(self._database, cause) as uow:
            standing = restarts.standing(uow, instance.business_key, instance.id)
        if standing is Standing.UNSETTLED:
            return _left(instance, "its start is not settled yet: let q2o reconcile settle it, and repeat the command")
        outcome = Outcome.RESTARTED if standing is Standing.REGISTERED else Outcome.ENDED
        if not self.is_dry_run:
            if standing is Standing.REGISTERED:
                with unit_of_work(self._database, cause) as uow:
                    restarting.restart(uow, instance.business_key, instance.id)
            self._engine.delete_instance(instance.id, REASON)
        return Result(instance=instance, outcome=outcome)


def report(restarts: Restarts, say: Callable[[str], object]) -> bool:
    """Restart every instance; say a line about each, then the totals. Returns whether nothing is left for a person or for a repeat."""
    found: Counter[Outcome] = Counter()
    for result in restarts.run():
        found[result.outcome] += 1
        one = result.instance
        say(f"{one.definition_key} {one.id} ({one.business_key}): {result.outcome}{result.remedy and '; '}{result.remedy}")
    say(f"{', '.join(f'{found[outcome]} {outcome}' for outcome in Outcome)}{' (dry run)' if restarts.is_dry_run else ''}")
    return not (found[Outcome.LEFT] or found[Outcome.UNKNOWN])


def _left(instance: EngineInstance, remedy: str) -> Result:
    return Result(instance=instance, outcome=Outcome.LEFT, remedy=remedy)
