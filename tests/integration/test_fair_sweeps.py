"""Questions to providers in fair shares: nobody waits for a backlog or for a provider that hangs, and reconcilers share the work by leases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event
from uuid import UUID

from sqlalchemy import text

from domain.delivery import unanswered
from domain.delivery.steps import StepEvent
from domain.store.claims import longer
from domain.store.unit_of_work import housekeeping
from reconciliation.questions import PLACES
from reconciliation.repairs import Repairs
from reconciliation.steps import Steps
from tests.support.database import acting
from tests.support.loading import copied_tenant, insert_attempted_steps, loading
from tests.support.offers import Offers
from tests.support.reconciling import OnlyAsked, Scripted, all_are_due, record, silence, status, time_out
from tests.support.waiting import PATIENCE, eventually
from workers.providers.port import Provider, ProviderReply, ReplyStatus

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"
LEASE, WAITS = timedelta(seconds=30), silence()
LONG_AGO = "clock_timestamp() - interval '1 hour'"
DONE = ProviderReply(status=ReplyStatus.COMPLETED, request_id="r-1", external_ref="e-1")
ACCEPTED = ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1")


class Ledger(OnlyAsked):
    """A provider that has accepted every request, and carried out one."""

    def __init__(self, completed: str) -> None:
        self.completed = completed

    def query(self, idempotency_key: str) -> ProviderReply:
        return DONE if idempotency_key == self.completed else ACCEPTED


class Hanging(OnlyAsked):
    """A provider that does not answer before it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = Event()

    def query(self, idempotency_key: str) -> ProviderReply:
        self.asked.append(idempotency_key)
        self.answers.wait(PATIENCE)
        return DONE


def sweeping(offers: Offers, **providers: Provider) -> Steps:
    database = acting(offers.engine, "reconcile")
    return Steps(database, providers, Repairs(database, dry_run=False), WAITS)


def unknown_step(offers: Offers, code: str = RESERVE) -> tuple[UUID, str]:
    """Make a step whose outcome is not known; its id, and the key of its request."""
    started = offers.start_step(offers.running_order().steps[code])
    time_out(offers, started)
    return started.step.id, started.idempotency_key


def copies(offers: Offers, number: int, step_id: UUID, code: str, tenant_id: UUID | None = None, **changes: str) -> None:
    with loading(offers.engine) as connection:
        insert_attempted_steps(connection, tenant_id or offers.tenant_id, number, code=code, step=str(step_id), **changes)


def claimed(offers: Offers, limit: int, lease: timedelta = LEASE) -> list[tuple[UUID, UUID]]:
    with housekeeping(acting(offers.engine, "reconcile")) as connection:
        rows = unanswered.unanswered_steps(connection, limit, lease, WAITS)
    return [(row.tenant_id, row.id) for row in rows]


def checks(offers: Offers) -> int:
    with offers.engine.connect() as connection:
        return int(connection.scalars(text("SELECT checks FROM provider_attempt")).one())


def test_an_unknown_step_behind_a_thousand_that_wait_for_a_callback_is_asked_about(offers: Offers) -> None:
    waiting = offers.start_step(offers.running_order().steps[CHECK]).step.id
    record(offers, waiting, StepEvent.ACKNOWLEDGE)
    copies(offers, 1000, waiting, "WAITING", next_check_at=LONG_AGO)
    step_id, key = unknown_step(offers)
    sweep = sweeping(offers, sandbox=Ledger(completed=key))

    eventually(lambda: sweep.sweep() >= 0 and status(offers, step_id) == "COMPLETED", "the unknown step is settled")


def test_a_provider_that_hangs_leaves_the_others_their_answers(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    copies(offers, 50, step_id, "HANGING", provider_name="'hanging'", next_check_at=LONG_AGO)
    hanging, answering = Hanging(), Scripted(lambda: DONE)

    changed = sweeping(offers, hanging=hanging, sandbox=answering).sweep()
    hanging.answers.set()

    assert (changed, status(offers, step_id)) == (1, "COMPLETED")
    assert len(hanging.asked) == PLACES


def test_an_answer_that_comes_after_its_sweep_counts_in_the_next_one(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    hanging = Hanging()
    sweep = sweeping(offers, sandbox=hanging)
    assert sweep.sweep() == 0

    hanging.answers.set()
    eventually(lambda: sweep.sweep() == 1, "the late answer is used")

    assert (len(hanging.asked), status(offers, step_id)) == (1, "COMPLETED")


def test_the_places_of_a_provider_that_hangs_stay_taken_and_its_other_steps_are_given_back(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    copies(offers, 20, step_id, "HANGING", provider_name="'hanging'")
    hanging = Hanging()
    sweep = sweeping(offers, hanging=hanging, sandbox=Scripted(lambda: DONE))

    sweep.sweep()
    sweep.sweep()

    assert len(hanging.asked) == PLACES
    assert len(claimed(offers, 100)) == 20 - PLACES
    hanging.answers.set()


def test_two_reconcilers_never_ask_about_the_same_step(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    copies(offers, 60, step_id, "UNKNOWN")
    provider, together = Scripted(lambda: DONE), Barrier(2)

    def run() -> int:
        sweep = sweeping(offers, sandbox=provider)
        together.wait()
        return sweep.sweep()

    with ThreadPoolExecutor(2) as reconcilers:
        changed = sum(done.result() for done in [reconcilers.submit(run) for _ in range(2)])
    changed += sweeping(offers, sandbox=provider).sweep()

    assert (changed, len(provider.asked), len(set(provider.asked))) == (61, 61, 61)


def test_the_rows_of_a_killed_reconciler_come_back_after_the_lease(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    of_the_killed = claimed(offers, 10)

    before_its_end = claimed(offers, 10)
    all_are_due(offers.engine)

    assert of_the_killed == [(offers.tenant_id, step_id)]
    assert (before_its_end, claimed(offers, 10)) == ([], of_the_killed)


def test_the_database_counts_the_questions_that_brought_no_news(offers: Offers) -> None:
    unknown_step(offers)
    sweeping(offers, sandbox=Scripted(lambda: ACCEPTED)).sweep()  # UNKNOWN becomes IN_PROGRESS, and waits for its callback

    for _ in range(2):
        all_are_due(offers.engine)
        sweeping(offers, sandbox=Scripted(lambda: ACCEPTED)).sweep()

    assert checks(offers) == 3


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [longer(number).total_seconds() for number in (1, 2, 3, 6, 7, 10_000)] == [1, 2, 4, 32, 60, 60]


def test_tenants_and_providers_take_turns_in_a_claim(offers: Offers) -> None:
    step_id, _ = unknown_step(offers)
    with loading(offers.engine) as connection:
        other = copied_tenant(connection, offers.tenant_id)
    copies(offers, 300, step_id, "FLOOD", next_check_at=LONG_AGO)
    copies(offers, 1, step_id, "QUIET", provider_name="'quiet'")

    first = claimed(offers, 6)

    assert [tenant for tenant, _ in first].count(other) == 1
    assert len(first[:3]) == len({*first[:3]}) == 3
    assert {tenant for tenant, _ in first[:3]} == {offers.tenant_id, other}
