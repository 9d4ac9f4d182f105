"""The outcomes that each world may have: no other, and each of them in some schedule.

`expected.txt` lists the outcomes under the name of their world. A tilde marks an outcome that no order of whole commands gives; the
comment before it says why it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.races.explorer.exploring import Exploration, Played

FILE = Path(__file__).with_name("expected.txt")


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcomes of a world. `interleaved` are those that only alternating statements can give."""

    outcomes: frozenset[str]
    interleaved: frozenset[str]


@cache
def expectations() -> Mapping[str, Expected]:
    """World -> its expected outcomes."""
    blocks = ([line for line in block.splitlines() if not line.startswith("#")] for block in FILE.read_text().split("\n\n"))
    return {block[0]: _expected(block[1:]) for block in blocks if block}


def _expected(lines: Sequence[str]) -> Expected:
    interleaved = [line for line in lines if line.strip().startswith("~")]
    return Expected(frozenset(map(_plain, lines)), frozenset(map(_plain, interleaved)))


def _plain(line: str) -> str:
    return line.strip().removeprefix("~ ")


def objections(found: Exploration) -> list[str]:
    """List what is wrong with an exploration, each with the command that plays the schedule again."""
    name = found.world.name
    expected = expectations().get(name)
    if expected is None:
        return [f"{FILE.name} has no outcomes for: {name}"]
    wrong = [f"{sentence} ({replay(name, token)})" for token, sentences in found.violations for sentence in sentences]
    unexpected = [outcome for outcome in found.outcomes if outcome not in expected.outcomes]
    wrong += [f"unexpected: {outcome} ({replay(name, found.tokens[outcome])})" for outcome in unexpected]
    wrong += [f"never came: {outcome}" for outcome in sorted(expected.outcomes - set(found.outcomes))]
    odd = set(found.outcomes) - found.serial - expected.interleaved - set(unexpected)
    wrong += [f"no order of the commands gives: {outcome} ({replay(name, found.tokens[outcome])})" for outcome in sorted(odd)]
    wrong += [
        f"an order of the commands gives it, so it needs no tilde: {each}" for each in sorted(found.serial & expected.interleaved)
    ]
    return wrong


def objections_to(name: str, played: Played) -> list[str]:
    """List what is wrong with one schedule."""
    expected = expectations().get(name)
    unexpected = [] if expected and played.outcome in expected.outcomes else [f"unexpected: {played.outcome}"]
    return [*played.violations, *unexpected]


def replay(name: str, token: str) -> str:
    """The command line that plays a schedule."""
    return f"make races ARGS=\"--schedule '{name}:{token}'\""


def as_written(found: Exploration) -> str:
    """The outcomes of an exploration as `expected.txt` has them."""
    lines = [f"  {'' if outcome in found.serial else '~ '}{outcome}" for outcome in sorted(found.outcomes)]
    return "\n".join([found.world.name, *lines])
