"""The state machines, cell by cell, against a second copy of each table, typed here by hand.

A cell is a state (the event moves there), `=` (no change), `!STATE` or `!` (contradiction, and the state after it), or `x` (refused).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from domain.delivery.cancellations import CANCELLATION_MATRIX, CancellationEvent
from domain.delivery.orders import ORDER_MATRIX, OrderEvent
from domain.delivery.steps import STEP_MATRIX, StepEvent
from domain.fallout.cases import FALLOUT_MATRIX, FalloutEvent
from domain.offers.approvals import REQUEST_MATRIX, REQUIREMENT_MATRIX
from domain.offers.quotes import QUOTE_MATRIX, QuoteEvent
from domain.store.matrix import CellKind, Matrix
from tests.support.state_machines import MATRICES, PAGE, page

QUOTE = """
                        EDIT  PRICE  SUBMIT OPEN_REQUIREMENTS NONE_REQUIRED APPROVE REJECT REWORK RECALL ACCEPT DECLINE EXPIRE CANCEL
DRAFT                   DRAFT PRICED x      x                 x             x       x      x      x      x      x       EXPIRED CANCELLED
PRICED                  DRAFT PRICED SUBMITTED_FOR_APPROVAL x x             x       x      x      x      x      x       EXPIRED CANCELLED
SUBMITTED_FOR_APPROVAL  DRAFT x      x      APPROVAL_IN_PROGRESS APPROVED   x       x      x      DRAFT  x      x       EXPIRED CANCELLED
APPROVAL_IN_PROGRESS    DRAFT x      x      =                 x             APPROVED REJECTED REWORK_REQUIRED DRAFT x x EXPIRED CANCELLED
APPROVED                DRAFT PRICED x      x                 x             =       x      x      x      ACCEPTED DECLINED EXPIRED CANCELLED
REWORK_REQUIRED         DRAFT x      x      x                 x             x       x      x      x      x      x       EXPIRED CANCELLED
REJECTED                DRAFT x      x      x                 x             x       x      x      x      x      x       EXPIRED CANCELLED
DECLINED                DRAFT x      x      x                 x             x       x      x      x      x      x       EXPIRED CANCELLED
EXPIRED                 DRAFT x      x      x                 x             x       x      x      x      x      x       =       CANCELLED
ACCEPTED                x     x      x      x                 x             x       x      x      x      x      x       x       x
CANCELLED               x     x      x      x                 x             x       x      x      x      x      x       x       =
"""
ORDER = """
                    SUBMIT VALIDATION_FAILED PLAN_READY ALL_STEPS_DONE ALL_REQUIRED_FAILED MIXED_FINAL BLOCKED UNBLOCKED REQUEST_CANCEL CANCEL_ACCEPTED CANCEL_DECLINED UNDO_SETTLED UNDO_INCOMPLETE
CREATED             SUBMITTED REJECTED x           x         x      x                   x    x           CANCELLED        x          x           x         x
SUBMITTED           =      REJECTED    IN_PROGRESS x         x      x                   HELD x           CANCEL_REQUESTED x          x           x         x
IN_PROGRESS         x      x           =           FULFILLED FAILED PARTIALLY_FULFILLED HELD =           CANCEL_REQUESTED x          x           x         x
HELD                x      x           x           FULFILLED FAILED PARTIALLY_FULFILLED =    IN_PROGRESS CANCEL_REQUESTED x          x           x         x
CANCEL_REQUESTED    x      x           x           FULFILLED FAILED PARTIALLY_FULFILLED =    =           x                CANCELLING IN_PROGRESS x         x
CANCELLING          x      x           x           =         =      =                   =    =           x                x          x           CANCELLED PARTIALLY_FULFILLED
FULFILLED           x      x           x           =         =      =                   =    =           x                x          x           =         =
PARTIALLY_FULFILLED x      x           x           =         =      =                   =    =           x                x          x           =         =
FAILED              x      x           x           =         =      =                   =    =           x                x          x           =         =
CANCELLED           x      x           x           =         =      =                   =    =           x                x          x           =         =
REJECTED            x      x           x           =         =      =                   =    =           x                x          x           =         =
"""
STEP = """
                 START       ACKNOWLEDGE COMPLETE  COMPLETE_OTHERWISE FAIL_WITHOUT_EFFECT FAIL_FINALLY TIME_OUT FIND_ABSENT FIND_UNCLEAR CANCEL           CANCEL_RELEASED  CONFIRM_CANCEL REFUSE_CANCEL RESOLVE_RETRY RESOLVE_REPAIRED RESOLVE_COMPLETED RESOLVE_SKIP RESOLVE_CANCEL RESOLVE_FAIL
PENDING          IN_PROGRESS !HELD       !HELD     x                  !                   !            =        =           =            CANCELLED        x                =              =             x             x                x                 x            x              x
IN_PROGRESS      x           =           COMPLETED !                  RETRYABLE           HELD         UNKNOWN  RETRYABLE   HELD         CANCEL_REQUESTED x                !HELD          =             x             x                x                 x            x              x
UNKNOWN          x           IN_PROGRESS COMPLETED !                  RETRYABLE           HELD         =        RETRYABLE   HELD         CANCEL_REQUESTED x                !HELD          =             x             x                x                 x            x              x
RETRYABLE        IN_PROGRESS !UNKNOWN    COMPLETED !                  =                   HELD         =        =           =            CANCELLED        CANCEL_REQUESTED =              =             x             x                x                 x            x              x
HELD             x           =           COMPLETED !                  =                   =            =        =           =            CANCEL_REQUESTED x                =              =             RETRYABLE     RETRYABLE        COMPLETED         SKIPPED      CANCELLED      FAILED
CANCEL_REQUESTED x           =           COMPLETED !                  CANCELLED           CANCELLED    =        CANCELLED   HELD         =                x                CANCELLED      IN_PROGRESS   x             x                x                 x            x              x
COMPLETED        =           =           =         !                  !                   !            =        !           =            =                x                !              =             x             x                x                 x            x              x
CANCELLED        x           !           !         !                  =                   =            =        =           =            =                x                =              !             x             x                x                 x            x              x
SKIPPED          x           !           !         !                  =                   =            =        =           =            =                x                =              =             x             x                x                 x            x              x
FAILED           x           !           !         !                  =                   =            =        =           =            =                x                =              =             x             x                x                 x            x              x
"""
CANCELLATION = """
              ASSESS    ACCEPT    DECLINE  FINISH FINISH_PARTLY
ACKNOWLEDGED  ASSESSING EXECUTING DECLINED x      x
ASSESSING     =         EXECUTING DECLINED x      x
EXECUTING     x         x         x        DONE   DONE_PARTIAL
DECLINED      =         x         =        =      =
DONE          =         x         x        =      =
DONE_PARTIAL  =         x         x        =      =
"""
FALLOUT = """
                     CLAIM       RELEASE EXPIRE_CLAIM REQUEST_INFORMATION RECEIVE_INFORMATION HOLD RESUME ESCALATE HAND_ON RESOLVE SELF_HEAL VERIFY REOPEN CANCEL
OPEN                 IN_PROGRESS =       =            x                    x           x       x           OPEN     OPEN    x        RESOLVED  x      x    CANCELLED
IN_PROGRESS          IN_PROGRESS OPEN    OPEN         AWAITING_INFORMATION x           ON_HOLD x           OPEN     OPEN    RESOLVED RESOLVED  x      x    CANCELLED
AWAITING_INFORMATION x           =       =            x                    IN_PROGRESS x       x           OPEN     OPEN    x        RESOLVED  x      x    CANCELLED
ON_HOLD              x           =       =            x                    x           x       IN_PROGRESS OPEN     OPEN    x        RESOLVED  x      x    CANCELLED
RESOLVED             x           x       x            x                    x           x       x           x        x          x        =         CLOSED OPEN x
CLOSED               x           x       x            x                    x           x       x           x        x          x        =         =      x    x
CANCELLED            x           x       x            x                    x           x       x           x        x          x        =         =      x    x
"""
TABLES = [
    pytest.param(QUOTE_MATRIX, QuoteEvent, QUOTE, id="quote"),
    pytest.param(ORDER_MATRIX, OrderEvent, ORDER, id="order"),
    pytest.param(STEP_MATRIX, StepEvent, STEP, id="step"),
    pytest.param(CANCELLATION_MATRIX, CancellationEvent, CANCELLATION, id="cancellation"),
    pytest.param(FALLOUT_MATRIX, FalloutEvent, FALLOUT, id="fallout"),
]
EVERY_MATRIX = list(MATRICES.values())


def written_cell(matrix: Matrix[Any, Any], event: StrEnum, state: StrEnum) -> str:
    cell = matrix.cell(event, state)
    if cell is None:
        return "x"
    if cell.kind is CellKind.KEEP:
        return "="
    mark = "!" if cell.kind is CellKind.CONTRADICTION else ""
    return mark if mark and cell.target == state else f"{mark}{cell.target}"


@pytest.mark.parametrize(("matrix", "events", "table"), TABLES)
def test_every_cell_is_as_typed_by_hand(matrix: Matrix[Any, Any], events: type[StrEnum], table: str) -> None:
    head, *rows = [line.split() for line in table.strip().splitlines()]
    written = {(row[0], event): cell for row in rows for event, cell in zip(head, row[1:], strict=True)}

    built = {(str(state), str(event)): written_cell(matrix, event, state) for state in matrix.states for event in events}

    assert built == written


@pytest.mark.parametrize("matrix", EVERY_MATRIX, ids=lambda matrix: str(matrix.states.__name__))
def test_every_event_has_a_cell_and_every_state_is_reached(matrix: Matrix[Any, Any]) -> None:
    reached = {cell.target for event in matrix.events for state in matrix.states if (cell := matrix.cell(event, state))}
    silent = [event for event in matrix.events if not any(matrix.cell(event, state) for state in matrix.states)]

    assert silent == []
    assert len([state for state in matrix.states if state not in reached]) <= 1, "only the first state is never reached"


@pytest.mark.parametrize("matrix", EVERY_MATRIX, ids=lambda matrix: str(matrix.states.__name__))
def test_the_check_constraint_names_every_state(matrix: Matrix[Any, Any]) -> None:
    text = str(matrix.check_status().sqltext)

    assert all(f"'{state.value}'" in text for state in matrix.states)


def test_the_page_of_state_machines_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make matrices`"


def test_two_cells_for_one_event_in_one_state_are_refused() -> None:
    class Light(StrEnum):
        RED = "RED"
        GREEN = "GREEN"

    class Push(StrEnum):
        BUTTON = "BUTTON"

    with pytest.raises(ValueError, match="two cells"):
        Matrix(Light, Push, moves={Push.BUTTON: {Light.RED: Light.GREEN}}, keeps={Push.BUTTON: frozenset({Light.RED})})


@pytest.mark.parametrize("matrix", [REQUEST_MATRIX, REQUIREMENT_MATRIX], ids=["request", "requirement"])
def test_requests_and_requirements_change_only_while_they_are_open_or_approved(matrix: Matrix[Any, Any]) -> None:
    starts = {str(state) for event in matrix.events for state in matrix.targets(event)}

    assert starts <= {"OPEN", "PENDING", "APPROVED"}
