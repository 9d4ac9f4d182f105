"""A storm from its beginning to its judgement: business under faults, then healing, quiet, audit, and the checker of the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from time import monotonic

from reconciliation.audit_report import AuditReport
from tests.faults.storm import checker
from tests.faults.storm.clients import CaseWorker, Clients, RecordingApi
from tests.faults.storm.faults import FAULTS
from tests.faults.storm.history import History, Read, read
from tests.faults.storm.processes import Processes
from tests.faults.storm.quiet import Looks, still_open, undelivered
from tests.faults.storm.world import SHORT, World, linked
from tests.support.audits import wrong
from tests.support.suite import open_shop, prepared
from tests.support.waiting import eventually
from workers.demo.api import UnexpectedAnswerError
from workers.demo.command import as_manager
from workers.local.stack import LocalStack
from workers.runtime.secret_files import reveal

QUIET_SECONDS = 60.0
AT_ONCE = 2  # faults at the same time
LONGEST_PAUSE = 2.0  # seconds between two faults
SLOWNESS = 3  # so many times as long may a storm take on a slow machine to cause enough kinds of fault


@dataclass(slots=True)
class Progress:
    """What a storm shows while it goes on.

    `faults` counts the faults that struck something, and `idle` those that found nothing to strike. `failures` has a sentence for each fault
    that could not be caused, and for each client that could not go on.
    """

    phase: str = "starting"
    faults: Counter[str] = field(default_factory=Counter)
    idle: Counter[str] = field(default_factory=Counter)
    now: list[str] = field(default_factory=list)
    operations: int = 0
    unknown: int = 0
    quotes: int = 0
    cases: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a storm. `quiet_after`: seconds from healing until nothing was open; None: it never was."""

    history: Path
    found: Read
    faults: Counter[str]
    quiet_after: float | None
    report: AuditReport | None
    violations: list[str]

    @property
    def passed(self) -> bool:
        return not self.violations


def dealt(names: Sequence[str], seed: int) -> Iterator[tuple[str, Random]]:
    """Kinds of fault without an end, each with what it chooses by: a deck of all of them is shuffled, dealt, and shuffled again."""
    random, deck = Random(seed), list(names)  # noqa: S311 - a run must be repeatable
    while True:
        random.shuffle(deck)
        for name in deck:
            yield name, Random(random.random())  # noqa: S311


class Weather:
    """Causes the faults of a seed until the world is calm, and counts those that struck something."""

    def __init__(self, world: World, names: Sequence[str], seed: int, history: History, progress: Progress) -> None:
        self._world, self.history, self._progress = world, history, progress
        self._lock = Lock()
        self._deck = dealt(names, seed)
        self._threads = [Thread(target=self._blow, name="weather", daemon=True) for _ in range(AT_ONCE)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _blow(self) -> None:
        while not self._world.calm.is_set():
            with self._lock:
                name, random = next(self._deck)
                self._progress.now.append(name)
            self.history.note("fault", kind=name)
            has_struck = False
            try:
                has_struck = FAULTS[name](self._world, random)
            except Exception as error:  # noqa: BLE001 - a fault that could not be caused is told at the end
                self._progress.failures.append(f"the fault {name!r} failed: {type(error).__name__}: {error}")
            self.history.note("fault over", kind=name, struck=has_struck)
            with self._lock:
                self._progress.now.remove(name)
                (self._progress.faults if has_struck else self._progress.idle)[name] += 1
            self._world.last(random.uniform(0, LONGEST_PAUSE))


def storm(
    stack: LocalStack,
    history_file: Path,
    *,
    seconds: float,
    seed: int,
    faults: Sequence[str] = tuple(FAULTS),
    kinds: int = 0,
    clients: int = 6,
    quiet_within: float = QUIET_SECONDS,
    progress: Progress | None = None,
) -> Outcome:
    """Let clients work for so many seconds while faults happen, heal, wait until it is quiet, and judge.

    The storm goes on longer, at most three times as long, until at least `kinds` kinds of fault have struck. What is not quiet is not
    audited: work that goes on would count as missing, and hide what is wrong.
    """
    shown = progress or Progress()
    history = History(history_file)
    with closing(history), prepared(stack, **SHORT) as local, linked(stack, local) as (links, environments):
        history.note("begins", seed=seed, seconds=seconds, faults=list(faults))
        with open_shop(local) as shop:
            with Processes(environments, local.stack.data_dir / "logs") as processes:
                world = World(stack=stack, local=local, shop=shop, links=links, processes=processes)
                weather = Weather(world, faults, seed, history, shown)
                quiet_after, left = _weathered(
                    world, weather, shown, seconds=seconds, kinds=kinds, clients=clients, quiet_within=quiet_within
                )
            # The processes have ended: an event that reconciliation commits during the audit would look like one that nobody has committed.
            shown.phase = "judging"
            report = None if left else shop.audit()
            found = read(history_file.read_text().splitlines())
            truth = checker.truth_of(shop.database, shop.tenant_id)
    broken = wrong(report) if report else []
    late = [f"not quiet {quiet_within:g} s after healing: {sentence}" for sentence in left]
    judged = checker.violations(found.operations, truth)
    violations = [*broken, *judged, *late, *shown.failures, *processes.ends]
    return Outcome(
        history=history_file, found=found, faults=shown.faults, quiet_after=quiet_after, report=report, violations=violations
    )


def _weathered(
    world: World, weather: Weather, shown: Progress, *, seconds: float, kinds: int, clients: int, quiet_within: float
) -> tuple[float | None, list[str]]:
    """Storm, heal and wait. Returns after how many seconds it was quiet, and otherwise what was still open."""
    over, history = Event(), weather.history

    def api_of(client: str) -> RecordingApi:
        url = f"http://127.0.0.1:{world.links.edge.port}"
        return RecordingApi(client, url, (reveal(world.local.settings.jwt_secret), world.shop.tenant_id), history, over)

    with closing(as_manager(world.local)) as manager:
        people = Clients(clients, api_of, manager, over, shown.failures)
        cases = CaseWorker(api_of("case-worker"), over, shown.failures)

        def tell() -> None:
            shown.operations, shown.unknown = history.operations, history.unknown
            shown.quotes, shown.cases = len(people.finished), cases.resolved

        shown.phase = "processes start"
        eventually(lambda: _answers(world), "the edge answers", patience=120)
        people.start()
        cases.start()
        weather.start()
        shown.phase = "storm"
        _until(lambda: False, seconds, tell)
        _until(lambda: len(shown.faults) >= kinds, (SLOWNESS - 1) * seconds, tell)
        shown.phase = "healing"
        world.calm.set()
        people.leave()
        weather.join()
        world.heal()
        looks = Looks(world.shop)
        history.note("healed")
        healed = monotonic()
        is_quiet = _until(lambda: looks.are_over() and people.are_gone and not still_open(world.shop), quiet_within, tell)
        quiet_after = monotonic() - healed if is_quiet else None
        if is_quiet:
            # It closes resolved cases after a while, and what it tells the engine and Kafka then would be open when the others end.
            world.processes.end("reconcile")
            is_quiet = _until(lambda: not still_open(world.shop), quiet_within, tell)
        left = [] if is_quiet else [*people.waiting, *still_open(world.shop), *looks.left(), *undelivered(world.shop)]
        over.set()
        people.close()
        cases.close()
        tell()
        return quiet_after, left


def _answers(world: World) -> bool:
    try:
        world.shop.api.get("/quotes")
    except UnexpectedAnswerError:
        return False
    return True


def _until(is_over: Callable[[], bool], seconds: float, tell: Callable[[], None]) -> bool:
    ends = monotonic() + seconds
    pause = Event()
    while monotonic() < ends:
        tell()
        if is_over():
            return True
        pause.wait(0.5)
    return False
