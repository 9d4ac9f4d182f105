"""Whether the engine and the provider agree with the database. Pure: rows in, one result per invariant out.

No side is trusted more than the others: each disagreement names the ids on both sides. What has changed since the sides were read may be on
its way, and proves nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from domain.auditing import CheckResult, Snapshot, StepOutcome, WantedWorkflow
from domain.auditing.invariants import INVARIANTS
from domain.delivery import steps
from reconciliation.audit_sources import EngineHistory
from workers.runtime.engine_history import EngineInstance

LedgerEntry = Mapping[str, Any]
RESERVING = "RESERVE_INVENTORY"
"""The step whose effect at the provider is a reservation. It is confirmed when its order is fulfilled."""


def provider_agrees(snapshot: Snapshot, ledger: Sequence[LedgerEntry]) -> CheckResult:
    """I8, by the provider's own ledger."""
    own = _own(snapshot, ledger)
    effects: Counter[str] = Counter()
    for entry in own:
        effects[str(entry["idempotencyKey"])] += int(entry["effects"])
    return CheckResult(
        code="I8",
        title=INVARIANTS["I8"].title,
        counted={
            "requests": sum(int(entry["requests"]) for entry in own),
            "keys": len(effects),
            "effects": effects.total(),
            "completedSteps": sum(step.status == "COMPLETED" for step in snapshot.steps),
        },
        violations=(*_effects(snapshot, effects), *_completions(snapshot, own)),
    )


def _own(snapshot: Snapshot, ledger: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    return [entry for entry in ledger if str(entry["stepRef"]).startswith(steps.business_keys(snapshot.tenant_id))]


def _effects(snapshot: Snapshot, effects: Counter[str]) -> Iterator[str]:
    for key, number in effects.items():
        if number > 1:
            yield f"The provider carried out {key} {number} times."
        if number and key not in snapshot.sent_keys:
            yield f"The provider carried out {key}, and no attempt of ours has that key."


def _completions(snapshot: Snapshot, own: Sequence[LedgerEntry]) -> Iterator[str]:
    left, released = _net(own), _released(own)
    for step in filter(lambda step: snapshot.is_old_enough(step.changed_at), snapshot.steps):
        key = steps.business_key(snapshot.tenant_id, step.step_id)
        is_there = left[key] > 0
        was_given_away = step.code == RESERVING and step.is_order_fulfilled and released[key] > 0  # which is told by I12
        if is_there != step.is_wanted and not step.is_open_to_doubt and not was_given_away:
            done = "has the effect of" if is_there else "has no effect of"
            yield f"The provider {done} step {step.step_id}, which is {step.status}{'' if step.is_wanted else ' or undone'}."


def _net(entries: Sequence[LedgerEntry]) -> Counter[str]:
    left: Counter[str] = Counter()
    for entry in entries:
        left[str(entry["stepRef"])] += int(entry["net"])
    return left


def _released(entries: Sequence[LedgerEntry]) -> Counter[str]:
    released: Counter[str] = Counter()
    for entry in entries:
        released[str(entry["stepRef"])] += int(entry["reversals"])
    return released


def reservations_balance(snapshot: Snapshot, ledger: Sequence[LedgerEntry]) -> CheckResult:
    """I12, by the provider's own ledger."""
    own = [entry for entry in _own(snapshot, ledger) if entry["stepCode"] == RESERVING]
    fulfilled = {
        steps.business_key(snapshot.tenant_id, step.step_id)
        for step in snapshot.steps
        if step.is_order_fulfilled and snapshot.is_old_enough(step.changed_at)
    }
    return CheckResult(
        code="I12",
        title=INVARIANTS["I12"].title,
        counted={
            "reserved": sum(int(entry["effects"]) for entry in own),
            "released": _released(own).total(),
            "confirmed": sum(int(entry["net"]) for entry in own if entry["stepRef"] in fulfilled),
            "held": sum(int(entry["net"]) for entry in own if entry["stepRef"] not in fulfilled),
        },
        violations=tuple(sentence for entry in own for sentence in _balance(entry, fulfilled)),
    )


def _balance(entry: LedgerEntry, fulfilled: set[str]) -> Iterator[str]:
    key, reserved, released, left = entry["idempotencyKey"], *(int(entry[name]) for name in ("effects", "reversals", "net"))
    if left < 0 or released + left != reserved:
        yield f"Of reservation {key}, {reserved} were made, {released} released, and {left} are left."
    elif released and entry["stepRef"] in fulfilled:
        yield f"Reservation {key} was released, and its order is fulfilled."


def one_instance(snapshot: Snapshot, instances: Sequence[EngineInstance], history: EngineHistory) -> CheckResult:
    """I14: however often a process was started, one instance did the work; one that was replaced has ended."""
    registered = {workflow.business_key: workflow.process_instance_id for workflow in snapshot.workflows}
    changed_at = {workflow.business_key: workflow.changed_at for workflow in snapshot.workflows}
    by_key: dict[str, list[EngineInstance]] = defaultdict(list)
    for instance in instances:
        by_key[instance.business_key].append(instance)
    others = [one for one in instances if registered.get(one.business_key) not in (None, one.id)]
    replaced = [one for one in others if one.id in snapshot.replaced_instances]
    extras = [one for one in others if one.id not in snapshot.replaced_instances]
    return CheckResult(
        code="I14",
        title=INVARIANTS["I14"].title,
        counted={"instances": len(instances), "businessKeys": len(by_key), "turnedAway": len(extras), "replaced": len(replaced)},
        violations=(
            *(f"{key} has {n} running instances." for key, n in _running(snapshot, by_key) if n > 1),
            *(
                f"Instance {one.id} of {one.business_key} was replaced, and still runs."
                for one in replaced
                if one.is_running and snapshot.is_old_enough(changed_at[one.business_key])
            ),
            *(sentence for extra in extras for sentence in _not_turned_away(snapshot, extra, history)),
        ),
    )


def _running(snapshot: Snapshot, by_key: Mapping[str, Sequence[EngineInstance]]) -> Iterator[tuple[str, int]]:
    for key, same in by_key.items():
        yield key, sum(one.is_running and snapshot.is_old_enough(one.started_at) for one in same)


def _not_turned_away(snapshot: Snapshot, extra: EngineInstance, history: EngineHistory) -> Iterator[str]:
    """A message may end an instance that waits at the gate, or give it tasks. Those are refused, so none of them completes."""
    if extra.is_running and snapshot.is_old_enough(extra.started_at):
        yield f"Instance {extra.id} of {extra.business_key} runs beside the registered one."
    if work := sorted(history.work_of(extra.id)):
        yield f"Instance {extra.id} of {extra.business_key} is not the registered one and did {', '.join(work)}."


def processes_agree(snapshot: Snapshot, instances: Sequence[EngineInstance]) -> CheckResult:
    """I16: no process without its aggregate, no aggregate without its process, and both over at the same time."""
    known = {one.id: one for one in instances}
    started = [workflow for workflow in snapshot.workflows if workflow.status in {"STARTED", "ENDED"}]
    return CheckResult(
        code="I16",
        title=INVARIANTS["I16"].title,
        counted={
            "workflows": len(snapshot.workflows),
            "started": len(started),
            "running": sum(one.is_running for one in instances),
            "settled": sum(workflow.is_settled for workflow in snapshot.workflows),
        },
        violations=(
            *(
                sentence
                for workflow in started
                if snapshot.is_old_enough(workflow.changed_at)
                for sentence in _together(workflow, known)
            ),
            *_orphans(snapshot, instances),
        ),
    )


def _together(workflow: WantedWorkflow, known: Mapping[str, EngineInstance]) -> Iterator[str]:
    instance = known.get(workflow.process_instance_id or "")
    if instance is None and workflow.is_settled and workflow.is_forgotten:
        return
    if instance is None:
        yield f"{workflow.business_key} is {workflow.status}, and its instance {workflow.process_instance_id} is not in the engine."
    elif instance.business_key != workflow.business_key:
        yield f"{workflow.business_key} is registered with instance {instance.id}, which belongs to {instance.business_key}."
    elif instance.is_running and (workflow.is_settled or workflow.status == "ENDED"):
        yield f"{workflow.business_key} is settled, and its instance {instance.id} still runs."
    elif workflow.is_settled and not instance.is_running and not (instance.is_completed or _may_be_ended(workflow)):
        yield f"{workflow.business_key} is settled, and its instance {instance.id} is {instance.state}."
    elif not workflow.is_settled and not instance.is_running:
        yield f"{workflow.business_key} is not settled, and its instance {instance.id} is {instance.state}: no instance goes on with it."


def _may_be_ended(workflow: WantedWorkflow) -> bool:
    """Whether nobody misses an instance that was ended from outside: it was cancelled, or reconciliation has recorded its end."""
    return workflow.is_cancelled or workflow.status == "ENDED"


def _orphans(snapshot: Snapshot, instances: Sequence[EngineInstance]) -> Iterator[str]:
    wanted = {workflow.business_key for workflow in snapshot.workflows} | snapshot.called_keys
    settled = {steps.business_key(snapshot.tenant_id, step.step_id): _is_settled(snapshot, step) for step in snapshot.steps}
    ours = steps.business_keys(snapshot.tenant_id)
    callers = {one.id for one in instances if one.business_key in wanted}
    for one in instances:
        is_known = one.business_key in (settled if one.business_key.startswith(ours) else wanted)
        # A called instance is recorded by its first task. One that its caller ended before that task has done nothing.
        is_new = not snapshot.is_old_enough(one.started_at)
        if not (is_known or (one.caller_id in callers and (is_new or not one.is_running))):
            yield f"Instance {one.id} has the business key {one.business_key}, which nobody asked for."
        elif one.is_running and settled.get(one.business_key):
            yield f"The order of {one.business_key} is settled, and instance {one.id} still runs."


def _is_settled(snapshot: Snapshot, step: StepOutcome) -> bool:
    return step.is_order_settled and snapshot.is_old_enough(step.changed_at)


def with_deliveries(result: CheckResult, snapshot: Snapshot, ledger: Sequence[LedgerEntry]) -> CheckResult:
    """I13, with how often the provider delivered what was taken in once."""
    own = _own(snapshot, ledger)
    delivered = sum(int(entry["callbacks"]) for entry in own)
    return replace(
        result, counted={**result.counted, "delivered": delivered, "deliveredAgain": max(delivered - snapshot.callbacks, 0)}
    )


def with_incidents(
    result: CheckResult, snapshot: Snapshot, instances: Sequence[EngineInstance], history: EngineHistory
) -> CheckResult:
    """I23, with the engine's incidents: a person must already know about the aggregate of each."""
    keys = {one.id: one.business_key for one in instances}
    own = [incident for incident in history.incidents() if incident.process_instance_id in keys]
    unexplained = tuple(
        f"Instance {incident.process_instance_id} of {keys[incident.process_instance_id]} stopped at {incident.activity_id}: "
        f"{incident.message}"
        for incident in own
        if keys[incident.process_instance_id] not in snapshot.explained_keys and snapshot.is_old_enough(incident.at)
    )
    return replace(result, counted={**result.counted, "incidents": len(own)}, violations=(*result.violations, *unexplained))


def with_completions(result: CheckResult, snapshot: Snapshot, history: EngineHistory) -> CheckResult:
    """I31, with the engine's operation log: whoever is named has completed a task of the process. An expired log proves nothing."""
    completed_by: dict[str, set[str]] = defaultdict(set)
    for instance_id, person in history.completions():
        completed_by[instance_id].add(person)
    known = [signature for signature in snapshot.signatures if signature.process_instance_id in completed_by]
    forged = tuple(
        f"The {signature.what} {signature.id} names {signature.person}, and the tasks of process {signature.process_instance_id} were "
        f"completed by {', '.join(sorted(completed_by[signature.process_instance_id]))}."
        for signature in known
        if signature.person not in completed_by[signature.process_instance_id]
    )
    return replace(result, counted={**result.counted, "inTasklist": len(known)}, violations=(*result.violations, *forged))
