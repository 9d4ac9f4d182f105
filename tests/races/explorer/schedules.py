"""One schedule: which actor passes its next gate, from the first statement to the end of every program.

A token names a schedule: it has the letter of the chosen actor for each moment at which more than one could go on. After the token's end
the default holds: the actor whose turn it is goes on. So a token is short, and replays its schedule exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic

from tests.races.explorer.actors import Actor, Arrival, Haste, Program, Standing
from tests.races.explorer.stage import Stage

# Seconds of silence before the server is asked whether an actor is blocked: few where it was blocked before, more where it was not.
SILENCE_SECONDS = {True: 0.0002, None: 0.001, False: 0.02}
# A lock time-out ends a wait sooner; an actor that is silent for longer hangs.
PATIENCE_SECONDS = 20.0
ENDS = ("COMMIT", "ROLLBACK")


class StuckError(Exception):
    """An actor neither goes on nor waits for a lock of another actor."""


class NotReplayableError(Exception):
    """The token names an actor that cannot go on there: the program or the code has changed since the token was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A moment at which more than one actor could go on. `options`: their names, the default first.

    `is_forced`: the actor of the turn before cannot go on, so no option is a preemption; otherwise all but the first are.
    """

    options: str
    taken: str
    is_forced: bool
    labels: tuple[str, ...]

    def cost(self, option: str) -> int:
        """The number of preemptions of an option."""
        return int(not self.is_forced and option != self.options[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An actor passed a gate: the statement at which it stood, and where that led it (or others that had waited)."""

    actor: str
    label: str
    led_to: str


@dataclass(slots=True)
class Run:
    """A schedule that was carried out. `ended`: how each program ended; `steps`: only those at gates where an actor stopped."""

    choices: list[Choice] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ended: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """The name of the schedule; a dash stands for the schedule of defaults only."""
        last = max((number for number, choice in enumerate(self.choices) if choice.taken != choice.options[0]), default=-1)
        return "".join(choice.taken for choice in self.choices[: last + 1]) or "-"

    @property
    def preemptions(self) -> int:
        return sum(choice.cost(choice.taken) for choice in self.choices)


class Scheduler:
    """Lets actors through their gates, one at a time."""

    def __init__(self, stage: Stage, actors: int = 3) -> None:
        self.stage = stage
        self._arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self.actors = [Actor(name, stage.database_url, self._arrivals) for name in "ABCDEF"[:actors]]
        # Whether an actor had to wait when all actors stood where they stand now; this only decides how soon the server is asked.
        self._waited: dict[tuple[str, ...], bool] = {}

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            actor.dismiss()

    def restore(self) -> None:
        """Restore the tables that the actors' programs changed."""
        self.stage.restore(set[str]().union(*(actor.written for actor in self.actors)))
        for actor in self.actors:
            actor.written.clear()

    def run(self, programs: Sequence[Program], token: str = "", *, closely: bool = False) -> Run:
        """Carry out one schedule: the choices of the token, then the defaults. With `closely`, actors also stop at gates without a choice.

        Raises NotReplayableError, StuckError.
        """
        actors = self.actors[: len(programs)]
        for actor, program in zip(actors, programs, strict=True):
            actor.take(program)
        try:
            self._settle(actors, None)
            run = self._carry_out(actors, token.strip("-"), closely=closely)
        except BaseException:
            self._give_up(actors)
            raise
        run.ended = tuple(actor.ended for actor in actors)
        return run

    def _carry_out(self, actors: Sequence[Actor], token: str, *, closely: bool) -> Run:
        run, last = Run(), None
        while True:
            ready = [actor for actor in actors if actor.standing is Standing.AT_GATE]
            if not ready:
                if all(actor.standing is Standing.DONE for actor in actors):
                    return run
                self._await_the_server(actors)
                continue
            last = self._choose(run, ready, last, token)
            self._let_through(run, last, actors, closely=closely)

    def _choose(self, run: Run, ready: Sequence[Actor], last: Actor | None, token: str) -> Actor:
        if len(ready) == 1:
            return ready[0]
        ordered = sorted(ready, key=lambda actor: (actor is not last, actor.name))
        number, options = len(run.choices), "".join(actor.name for actor in ordered)
        taken = token[number] if number < len(token) else options[0]
        if taken not in options:
            raise NotReplayableError(f"{taken} cannot go on at choice {number + 1} of {token}, only {options} can")
        labels = tuple(actor.label for actor in ordered)
        run.choices.append(Choice(options=options, taken=taken, is_forced=ordered[0] is not last, labels=labels))
        return ordered[options.index(taken)]

    def _let_through(self, run: Run, actor: Actor, actors: Sequence[Actor], *, closely: bool) -> None:
        label, waiting = actor.label, [other for other in actors if other.standing is Standing.BLOCKED]
        position = (actor.name, *(part for other in actors for part in (other.label, other.standing.name)))
        actor.go_on(Haste.NONE if closely else self._haste(actor, actors))
        self._settle(actors, self._waited.get(position))
        self._waited[position] = actor.standing is Standing.BLOCKED
        # A transaction releases its locks when it ends, or when one of its statements fails.
        if waiting and (label in ENDS or actor.has_failed_statement):
            self._awaken(actors)
        led_to = [actor.standing.name] if actor.standing is not Standing.AT_GATE else []
        led_to += [f"{other.name} goes on" for other in waiting if other.standing is not Standing.BLOCKED]
        run.steps.append(Step(actor=actor.name, label=label, led_to=", ".join(led_to)))

    def _awaken(self, actors: Sequence[Actor]) -> None:
        """Let the actors that waited go on, to their next gate or lock."""
        for actor in actors:
            if actor.standing is Standing.BLOCKED:
                actor.standing = Standing.RUNNING
        self._settle(actors, None)

    @staticmethod
    def _haste(actor: Actor, actors: Sequence[Actor]) -> Haste:
        """Without a choice no actor needs to stop, except where its transaction ends: that may let others go on."""
        others = [other for other in actors if other is not actor]
        if all(other.standing is Standing.DONE for other in others):
            return Haste.TO_THE_END
        if actor.label in ENDS or any(other.standing is Standing.AT_GATE for other in others):
            return Haste.NONE
        return Haste.TO_THE_END_OF_THE_TRANSACTION

    def _settle(self, actors: Sequence[Actor], waited: bool | None) -> None:  # noqa: FBT001 - a hint that may be missing
        """Wait until every actor is at a gate, done, or blocked by a lock of another actor.

        Actors count as blocked when the server says so of all running ones, twice: one of them may be about to release its lock.
        """
        silence, end, was_blocked = SILENCE_SECONDS[waited], monotonic() + PATIENCE_SECONDS, False
        while running := [actor for actor in actors if actor.standing is Standing.RUNNING]:
            if self._has_arrival(silence):
                was_blocked = False
                continue
            is_blocked = all(self._is_blocked(actor, actors) for actor in running)
            if is_blocked and was_blocked:
                for actor in running:
                    actor.standing = Standing.BLOCKED
            was_blocked = is_blocked
            silence = SILENCE_SECONDS[is_blocked or None]
            if monotonic() > end:
                raise StuckError(", ".join(f"{actor.name} at {actor.label}" for actor in running) + ": neither goes on nor waits")

    def _is_blocked(self, actor: Actor, actors: Sequence[Actor]) -> bool:
        return self.stage.is_blocked(actor.pid, [other.pid for other in actors if other is not actor])

    def _has_arrival(self, seconds: float) -> bool:
        try:
            actor, standing, label = self._arrivals.get(timeout=seconds)
        except Empty:
            return False
        actor.standing, actor.label = standing, label
        return True

    def _await_the_server(self, actors: Sequence[Actor]) -> None:
        """Wait for the server to end a deadlock: it fails a statement of one actor, and the others go on."""
        if not self._has_arrival(PATIENCE_SECONDS):
            raise StuckError("every actor waits for a lock, and the server does not end it")
        self._awaken(actors)

    def _give_up(self, actors: Sequence[Actor]) -> None:
        """Let all actors run to their ends, whatever they are."""
        for actor in actors:
            if actor.standing is not Standing.DONE:
                actor.go_on(Haste.TO_THE_END)
        end = monotonic() + PATIENCE_SECONDS
        while any(actor.standing is not Standing.DONE for actor in actors) and monotonic() < end:
            self._has_arrival(SILENCE_SECONDS[False])
