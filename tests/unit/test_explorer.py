"""The race explorer plays every schedule once, sees which session waits for which, finds known faults, and replays them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import count
from math import comb

import pytest
from sqlalchemy import false, text
from sqlalchemy.exc import OperationalError

from domain.offers.quotes import QuoteVersionConflict
from domain.offers.quoting import EDIT
from domain.store import Guard
from tests.races.explorer.actors import Actor, Program
from tests.races.explorer.expected import expectations, objections, objections_to
from tests.races.explorer.exploring import Explorer
from tests.races.explorer.schedules import NotReplayableError, Run, Scheduler
from tests.races.explorer.search import Search
from tests.races.explorer.stage import Stage
from tests.races.explorer.worlds import WORLDS
from tests.support.guards import without

Play = Callable[[str], Run]
EDITS = WORLDS["DRAFT: edit | edit"]
# Both commands lock one of the signatures; when they do depends on the order of the ids.
WITH_TWO_SIGNATURES = WORLDS["APPROVAL_IN_PROGRESS: cancel | escalate"]


@pytest.fixture
def toys(stage: Stage) -> Iterator[Stage]:
    """Give two rows to write to, and a table of acceptances."""
    with stage.engine.begin() as connection:
        connection.execute(text("CREATE TABLE explorer.toy (id integer, value integer)"))
        connection.execute(text("CREATE TABLE explorer.accepted (by text)"))
        connection.execute(text("INSERT INTO explorer.toy VALUES (1, 0), (2, 0)"))
    yield stage
    with stage.engine.begin() as connection:
        connection.execute(text("DROP TABLE explorer.toy, explorer.accepted"))


def writing(*rows: int) -> Program:
    """A program that writes to these rows, one statement each, in one transaction."""

    def write(actor: Actor) -> str:
        try:
            with actor.engine.connect() as connection:
                for row in rows:
                    connection.execute(text("UPDATE explorer.toy SET value = value + 1 WHERE id = :row"), {"row": row})
                connection.commit()
        except OperationalError as error:
            return str(getattr(error.orig, "sqlstate", None))
        return "ok"

    return write


def unguarded_acceptance(actor: Actor) -> str:
    """A program that reads, runs another statement, and then acts on what it read."""
    with actor.engine.connect() as connection:
        is_free = connection.scalar(text("SELECT count(*) FROM explorer.accepted")) == 0
        connection.execute(text("SELECT 1"))
        if is_free:
            connection.execute(text("INSERT INTO explorer.accepted VALUES (:name)"), {"name": actor.name})
        connection.commit()
    return "accepted" if is_free else "refused"


def playing(toys: Stage, scheduler: Scheduler, *programs: Program, closely: bool = False) -> Play:
    def play(token: str) -> Run:
        with toys.engine.begin() as connection:
            connection.execute(text("DELETE FROM explorer.accepted"))
        return scheduler.run(programs, token, closely=closely)

    return play


def endings(runs: Iterable[Run]) -> Counter[tuple[str, ...]]:
    return Counter(run.ended for run in runs)


def test_it_finds_the_double_acceptance_of_a_command_that_reads_before_it_acts(toys: Stage, scheduler: Scheduler) -> None:
    """Five gates each: begin, read, another statement, act, commit. The result is right only when one ends before the other reads."""
    found = endings(Search(playing(toys, scheduler, unguarded_acceptance, unguarded_acceptance)))

    assert found.total() == comb(10, 5)
    assert found == {("accepted", "accepted"): 240, ("accepted", "refused"): 6, ("refused", "accepted"): 6}


@pytest.mark.parametrize(("first", "second"), [((1,), (2,)), ((1, 1), (2,)), ((1, 1), (2, 2))])
def test_programs_that_never_meet_have_one_schedule_for_each_way_to_interleave_them(
    first: tuple[int, ...], second: tuple[int, ...], toys: Stage, scheduler: Scheduler
) -> None:
    gates = len(first) + 2, len(second) + 2  # begin and commit

    tokens = [run.token for run in Search(playing(toys, scheduler, writing(*first), writing(*second)))]

    assert len(tokens) == len(set(tokens)) == comb(sum(gates), gates[0])


@pytest.mark.parametrize(("bound", "schedules"), [(0, 2), (1, 6), (2, 14), (3, 18), (4, 20)])
def test_a_bound_leaves_out_schedules_with_more_preemptions_and_says_so(
    bound: int, schedules: int, toys: Stage, scheduler: Scheduler
) -> None:
    """Three gates each. A schedule of n blocks has n - 2 preemptions; three gates are one, two or three blocks in 1, 2 or 1 ways."""
    search = Search(playing(toys, scheduler, writing(1), writing(2)), bound)

    runs = list(search)

    assert len(runs) == schedules
    assert max(run.preemptions for run in runs) <= bound
    assert search.is_cut == (schedules < comb(6, 3))


def test_it_sees_that_a_session_waits_for_another_one_and_goes_on_after_it(toys: Stage, scheduler: Scheduler) -> None:
    run = playing(toys, scheduler, writing(1), writing(1), closely=True)("AABB")

    assert [(step.actor, step.label.split()[0], step.led_to) for step in run.steps] == [
        ("A", "BEGIN", ""),
        ("A", "UPDATE", ""),
        ("B", "BEGIN", ""),
        ("B", "UPDATE", "BLOCKED"),
        ("A", "COMMIT", "DONE, B goes on"),
        ("B", "COMMIT", "DONE"),
    ]


def test_a_deadlock_is_an_outcome_like_any_other(toys: Stage, scheduler: Scheduler) -> None:
    """The server refuses one of two actors that wait for each other; it is not specified which one."""
    found = endings(Search(playing(toys, scheduler, writing(1, 2), writing(2, 1)), 1))

    deadlocks = {ended for ended in found if "40P01" in ended}
    assert set(found) - deadlocks == {("ok", "ok")}
    assert deadlocks
    assert deadlocks <= {("ok", "40P01"), ("40P01", "ok")}


def test_a_token_plays_its_schedule_again(toys: Stage, scheduler: Scheduler) -> None:
    play = playing(toys, scheduler, unguarded_acceptance, unguarded_acceptance)

    for run in list(Search(play, 2)):
        again = play(run.token)
        assert (again.token, again.ended, again.choices) == (run.token, run.ended, run.choices)


def test_a_token_of_another_program_is_refused(toys: Stage, scheduler: Scheduler) -> None:
    with pytest.raises(NotReplayableError, match="C cannot go on"):
        playing(toys, scheduler, writing(1), writing(2))("AC")


def test_a_program_that_is_not_deterministic_is_refused(toys: Stage, scheduler: Scheduler) -> None:
    times = count(1)

    def not_deterministic(actor: Actor) -> str:
        return writing(*[1] * next(times))(actor)

    with pytest.raises(NotReplayableError, match="choice"):
        list(Search(playing(toys, scheduler, not_deterministic, writing(2))))


def test_time_passes_only_when_a_schedule_says_so(stage: Stage) -> None:
    ahead = text("SELECT clock_timestamp() > pg_catalog.clock_timestamp() + interval '1 hour'")

    with stage.engine.connect() as connection:
        before = connection.scalar(ahead)
        stage.set_clock(timedelta(days=1))  # in the middle of a transaction
        after = connection.scalar(ahead)
    stage.set_clock(timedelta(0))

    assert (before, after) == (False, True)


def test_an_exploration_of_a_scene_that_is_prepared_again_is_the_same(explorer: Explorer) -> None:
    once = explorer.explore(WITH_TWO_SIGNATURES, 1)
    explorer.forget()
    again = explorer.explore(WITH_TWO_SIGNATURES, 1)

    assert (once.schedules, once.outcomes, once.tokens) == (again.schedules, again.outcomes, again.tokens)


def test_every_row_of_a_schedule_is_removed_before_the_next(explorer: Explorer) -> None:
    explorer.play(EDITS, "")

    explorer.scheduler.restore()

    assert explorer.stage.restore() == 0


def test_a_lost_update_is_reported_with_the_command_that_replays_it(explorer: Explorer) -> None:
    with without(EDIT, 0):
        complaints = objections(explorer.explore(EDITS, 1))
        [lost] = [
            complaint for complaint in complaints if complaint.startswith("unexpected: ok / ok -> quote DRAFT v+2, months 36")
        ]
        token = lost.removesuffix("'\")").rpartition(":")[2]
        again = explorer.play(EDITS, token)

    assert f"(make races ARGS=\"--schedule 'DRAFT: edit | edit:{token}'\")" in lost
    assert f"unexpected: {again.outcome} " in lost
    assert objections_to(EDITS.name, again) == [f"unexpected: {again.outcome}"]


def test_an_expected_outcome_that_never_comes_is_reported(explorer: Explorer) -> None:
    """A loss of liveness: both commands are refused although one must succeed."""
    kept = EDIT.guards
    EDIT.protect((Guard(QuoteVersionConflict, false()),))
    try:
        complaints = objections(explorer.explore(EDITS, 0))
    finally:
        EDIT.protect(kept)

    assert {f"never came: {outcome}" for outcome in expectations()[EDITS.name].outcomes} <= set(complaints)
