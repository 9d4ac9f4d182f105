"""The kinds of fault of a storm. Each is a function that causes the fault, lets it last, ends it, and says whether it has struck anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from random import Random
from threading import Event
from typing import TypeAlias

from tests.faults.storm import poison
from tests.faults.storm.processes import ALL
from tests.faults.storm.world import LOCK_SECONDS, World
from tests.support.links.link import Link
from tests.support.links.rules import Rule
from workers.runtime.engine import EngineError
from workers.sandbox.faults import FaultKind

Fault: TypeAlias = Callable[[World, Random], bool]
STRIKES_WITHIN = 6.0  # seconds
STOPPED = ("http", "dispatch", "relay", "inbox", "reconcile")
WITH_A_CLOCK = ("http", "tasks", "dispatch", "reconcile", "inbox")
CALLBACKS = {
    "provider loses its callback": FaultKind.LOSE_CALLBACK,
    "provider calls back twice": FaultKind.DUPLICATE_CALLBACK,
    "provider calls back late": FaultKind.DELAY_CALLBACK,
    "provider calls back before it answers": FaultKind.EARLY_CALLBACK,
    "provider rejects": FaultKind.REJECT,
}


def kill(name: str, world: World, _: Random) -> bool:
    world.processes.kill(name)
    return True


def stop_tasks(world: World, _: Random) -> bool:
    return _stopped(world, "tasks", LOCK_SECONDS + 1.5)


def stop_another(world: World, random: Random) -> bool:
    return _stopped(world, random.choice(STOPPED), random.uniform(1, 4))


def _stopped(world: World, name: str, seconds: float) -> bool:
    world.processes.stop(name)
    world.last(seconds)
    world.processes.go_on(name)
    return True


def cut_sessions(world: World, random: Random) -> bool:
    share = random.choice((3, 1))
    sessions = f"FROM pg_stat_activity WHERE datname = 'q2o' AND pid % {share} = 0"
    with world.heavy:
        return any(was_cut for (was_cut,) in world.as_superuser(f"SELECT pg_terminate_backend(pid) {sessions}"))


def fail_over(world: World, random: Random) -> bool:
    """Every session becomes read-only, as on a server that is no primary any more; then it is the primary again."""
    with world.heavy:
        world.as_superuser("ALTER SYSTEM SET default_transaction_read_only = on")
        world.as_superuser("SELECT pg_reload_conf()")
        world.last(random.uniform(1, 3))
        world.as_superuser("ALTER SYSTEM RESET default_transaction_read_only")
        world.as_superuser("SELECT pg_reload_conf()")
    return True


def restart_postgres(world: World, _: Random) -> bool:
    with world.heavy:
        world.stack.postgres.restart()
    return True


def kill_engine(world: World, _: Random) -> bool:
    with world.heavy:
        world.stack.engine.kill()
        world.stack.engine.start()
    return True


def kill_broker(world: World, _: Random) -> bool:
    with world.heavy:
        world.stack.kafka.kill()
        world.stack.kafka.start()
    return True


def silence(link_of: Callable[[World], Link], world: World, random: Random) -> bool:
    link = link_of(world)
    held = link.held
    link.silence()
    world.last(random.uniform(1, 5))
    link.mend()
    return link.held > held


def refuse(link_of: Callable[[World], Link], world: World, random: Random) -> bool:
    link = link_of(world)
    refused, lines = link.refused, link.cut()
    world.last(random.uniform(0.5, 2))
    link.mend()
    return bool(lines) or link.refused > refused


def break_exchanges(link_of: Callable[[World], Link], order: Callable[[Link], Rule], world: World, _: Random) -> bool:
    """Order a fault for some exchanges, and give them time to happen."""
    rule = order(link_of(world))
    world.last(2)
    link_of(world).forget(rule)
    return rule.struck > 0


def hold(link_of: Callable[[World], Link], match: str, seconds: float, world: World, _: Random) -> bool:
    """Hold answers back until their clients have given up; then deliver them."""
    return _released_after(seconds, lambda released: link_of(world).hold(match, released, times=3), link_of(world), world)


def delay(link_of: Callable[[World], Link], seconds: float, world: World, _: Random) -> bool:
    """Deliver requests after their clients have given up and sent them again."""
    return _released_after(seconds, lambda released: link_of(world).delay("POST", released, times=3), link_of(world), world)


def _released_after(seconds: float, order: Callable[[Event], Rule], link: Link, world: World) -> bool:
    released = Event()
    rule = order(released)
    world.last(seconds)
    link.forget(rule)
    released.set()
    return rule.struck > 0


def delete_instance(world: World, random: Random, *, is_called: bool) -> bool:
    """Delete a process instance behind everybody's back, as an operator may in Cockpit. `is_called`: one that another has called."""
    with suppress(EngineError):
        running = [each for each in world.shop.instances() if each.is_running and (each.caller_id is not None) is is_called]
        if running:
            world.shop.engine.delete_instance(random.choice(running).id, "storm")
            return True
    return False


def shift_clock(world: World, random: Random) -> bool:
    """Let a process work with a clock that is an hour ahead, or behind."""
    name = random.choice(WITH_A_CLOCK)
    world.processes.set_clock(name, random.choice((1, -1)))
    world.last(6)
    world.processes.set_clock(name, 0)
    return True


def slow_provider(world: World, _: Random) -> bool:
    return _misbehaves(world, FaultKind.HOLD_ANSWER, times=2, duration=timedelta(seconds=LOCK_SECONDS + 2))


def forgetful_provider(world: World, _: Random) -> bool:
    """The provider acts, and its answer is lost."""
    return _misbehaves(world, FaultKind.LOSE_ANSWER, times=2)


def callbacks(kind: FaultKind, world: World, _: Random) -> bool:
    return _misbehaves(world, kind, duration=timedelta(seconds=3))


def _misbehaves(world: World, kind: FaultKind, times: int = 1, duration: timedelta = timedelta(0)) -> bool:
    """Order a fault of the provider, and wait some seconds for the request that it strikes. It stays ordered when none comes."""
    faults = world.local.provider.faults
    ordered = faults.add(kind, times=times, duration=duration).fault_id
    return world.sees(
        lambda: any(each.fault_id == ordered and each.remaining < times for each in faults.all()), within=STRIKES_WITHIN
    )


def _database(world: World) -> Link:
    return world.links.database


def _engine(world: World) -> Link:
    return world.links.engine


def _kafka(world: World) -> Link:
    return world.links.kafka


def _provider(world: World) -> Link:
    return world.links.provider


def _edge(world: World) -> Link:
    return world.links.edge


def _callbacks(world: World) -> Link:
    return world.links.callbacks


FAULTS: dict[str, Fault] = {
    **{f"kill {name}": partial(kill, name) for name in ALL},
    "stop tasks beyond the lock": stop_tasks,
    "stop another process": stop_another,
    "cut sessions": cut_sessions,
    "fail over to read-only": fail_over,
    "restart PostgreSQL": restart_postgres,
    "kill engine": kill_engine,
    "kill broker": kill_broker,
    "delete an instance": partial(delete_instance, is_called=False),
    "delete a called instance": partial(delete_instance, is_called=True),
    "clock an hour off": shift_clock,
    "slow provider": slow_provider,
    "provider acts and its answer is lost": forgetful_provider,
    **{name: partial(callbacks, kind) for name, kind in CALLBACKS.items()},
    "poison in the topics": poison.in_the_topics,
    "poison among the callbacks": poison.among_the_callbacks,
    "poison among the external tasks": poison.among_the_external_tasks,
    "silent database": partial(silence, _database),
    "half-open database": partial(break_exchanges, _database, lambda link: link.half_open(times=3)),
    "reset database": partial(break_exchanges, _database, lambda link: link.reset(times=3)),
    "cut after COMMIT": partial(break_exchanges, _database, lambda link: link.cut_after_commit(times=5)),
    "silent engine": partial(silence, _engine),
    "answers of the engine lost": partial(break_exchanges, _engine, lambda link: link.drop_answer("POST", times=4)),
    "requests to the engine lost": partial(break_exchanges, _engine, lambda link: link.drop_request("POST", times=4)),
    "requests to the engine doubled": partial(break_exchanges, _engine, lambda link: link.duplicate("POST", times=4)),
    "answers of the engine held back": partial(hold, _engine, "POST", 12.0),
    "requests to the engine late": partial(delay, _engine, 4.0),
    "silent broker": partial(silence, _kafka),
    "answers of the broker lost": partial(break_exchanges, _kafka, lambda link: link.drop_answer("Produce", times=3)),
    "records doubled": partial(break_exchanges, _kafka, lambda link: link.duplicate("Produce", times=3)),
    "answers of the provider lost on the line": partial(break_exchanges, _provider, lambda link: link.drop_answer("POST", times=2)),
    "requests to the provider late": partial(delay, _provider, 4.0),
    "requests to the provider doubled": partial(break_exchanges, _provider, lambda link: link.duplicate("POST", times=2)),
    "provider refuses connections": partial(refuse, _provider),
    "callbacks lost on the line": partial(break_exchanges, _callbacks, lambda link: link.drop_request("POST", times=2)),
    "answers to callbacks lost on the line": partial(break_exchanges, _callbacks, lambda link: link.drop_answer("POST", times=2)),
    "callbacks doubled on the line": partial(break_exchanges, _callbacks, lambda link: link.duplicate("POST", times=2)),
    "callbacks late on the line": partial(delay, _callbacks, 6.0),
    "answers to clients lost": partial(break_exchanges, _edge, lambda link: link.drop_answer("POST", times=4)),
    "requests of clients lost": partial(break_exchanges, _edge, lambda link: link.drop_request("POST", times=4)),
    "requests of clients late": partial(delay, _edge, 4.0),
    "requests of clients doubled": partial(break_exchanges, _edge, lambda link: link.duplicate("POST", times=4)),
    "clients reset": partial(break_exchanges, _edge, lambda link: link.reset(times=3)),
}
"""Name -> fault. The names stand in the history."""
