"""Lists every mutant: what is taken away, what it protects, which story notices, and which other layers mask it.

`make mutants` writes the whole list to the directory `build`, and its head with the number of each kind to docs/mutants.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.mutants.conditions import ON, guard_of
from tests.mutants.constraints import APPEND_ONLY, CONSTRAINTS, POLICIES, protected_by
from tests.mutants.layers import GUARDS, MOVES
from tests.mutants.rivalry import RIVALRIES
from tests.mutants.stories import (  # noqa: F401 - imported for the stories that they register
    accepting,
    accepting_conditions,
    approving,
    assessing,
    authority,
    cancelling,
    case_authority,
    casework,
    commands_kept_by_constraints,
    delivery_conditions,
    delivery_kept_by_constraints,
    escalating,
    fulfilment,
    hand_typed,
    limits,
    price_books,
    quoting,
    resolving,
    rivals,
    rivals_of_delivery,
    states_of_delivery,
    withdrawing,
    workflows,
)
from tests.mutants.telling import COMMANDS, STORIES, Story

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutants.md"
LIST = ROOT / "build" / "mutants.md"
HEAD = """# Mutants

A mutant is the product without one layer that protects it: one guard, one condition of a guard, one state that a move looks at, one
constraint, one lock, one clock or one claim. Each mutant has a *story*: a short sequence of commands, or a statement typed by hand, that
only this layer refuses. With the layer the story ends as it should; without it the story must end otherwise, or the test fails.

The stories are in [`tests/mutants/stories`](../tests/mutants/stories) and
[`tests/mutants/constraints.py`](../tests/mutants/constraints.py). The registry of moves and PostgreSQL's catalogue say which layers there
are, so no layer can be left without a story. Locks, clocks and claims are shown with two commands at once.

    make mutants                                 list every mutant in build/mutants.md, then tell every story
    make mutants ARGS="-k STALE_APPROVAL"        tell only the stories whose name contains this

"""
COLUMNS = """*Masked by* names the layers that would refuse the story where this layer is away: those before it (→) and those behind it (⇢). Such a story is told once more
without all of them, and then does the harm that they prevent.

"""
FOOT = """
Three things have no mutant. The tenant in a guard's conditions: row level security and the keys, which all begin with the tenant, stand
behind it everywhere. The state of `price_book_head.publish`: a price book has only one. NOT NULL. Some guards are needed only for an exact
refusal: without `quote.accept/STALE_APPROVAL` three other guards would refuse as well, but would say less.
"""
TRIGGERS = {
    "approval_decision_four_eyes": "The owner of a quote does not decide on it, not by a statement typed by hand either.",
    "quote_line_frozen": "The lines of a revision that was submitted stay as its customer and its approvers saw them.",
    "quote_revision_frozen": "A revision that was submitted keeps its content, price and number, and is never thawed.",
    **{name: f"What was written into `{table.name}` is never changed or deleted." for name, table in APPEND_ONLY.items()},
}


class Mutant(NamedTuple):
    """One row of the list."""

    layer: str
    mutant: str
    protects: str
    killed_by: str
    masked_by: str


def mutants() -> Iterator[Mutant]:
    """Every mutant with the story that kills it."""
    for layer, story in STORIES.items():
        yield Mutant(kind_of(layer), f"`{layer}`", protects(layer), killers(layer, story), masks(layer, story))
    for layer, rivalry in RIVALRIES.items():
        title = f"{rivalry.tell.__name__.replace('_', ' ')} (rivals)"
        yield Mutant(rivalry.kind, layer, rivalry.protects, title, "")


def kind_of(layer: str) -> str:
    """The kind of a layer: guard, condition, state or constraint."""
    if layer in GUARDS:
        return "guard"
    if ON in layer:
        return "condition"
    return "state" if layer in MOVES else "constraint"


def protects(layer: str) -> str:
    """Say what a layer protects."""
    if layer in GUARDS or ON in layer:
        sentence = str(guard_of(layer).guard.refusal.__doc__).strip().splitlines()[0]
        return f"No more than this is refused: {sentence}" if STORIES[layer].is_right else sentence
    if layer in MOVES:
        move = MOVES[layer]
        return f"`{move.name}` is made in {', '.join(sorted(move.targets))} only."
    if layer in POLICIES:
        return f"A transaction sees the rows of `{POLICIES[layer].name}` of the tenant that it names."
    return TRIGGERS[layer] if layer in TRIGGERS else protected_by(*CONSTRAINTS[layer])


def killers(layer: str, story: Story) -> str:
    """The titles of a layer's stories; a constraint also has a command that does harm without it."""
    told = [each for each in (story, COMMANDS.get(layer)) if each is not None]
    return "; ".join(f"{each.title} ({each.function.__module__.rpartition('.')[2]})" for each in told)


def masks(layer: str, story: Story) -> str:
    """The layers that refuse the story before this one, and after it."""
    command = COMMANDS.get(layer, story)
    before = [*story.behind, *(() if command is story else command.behind)]
    before += [other for other, each in STORIES.items() if layer in each.masked_by and kind_of(layer) == "constraint"]
    behind = [*story.masked_by, *(() if command is story else command.masked_by)]
    return ", ".join([f"→ {each}" for each in dict.fromkeys(before)] + [f"⇢ {each}" for each in dict.fromkeys(behind)])


def page() -> str:
    """The head of the list, for docs/mutants.md: what a mutant is, and how many there are of each kind."""
    rows = list(mutants())
    kinds = Counter(row.layer for row in rows)
    masked = sum(bool(row.masked_by) for row in rows)
    lines = [
        f"There are **{len(rows)} mutants, and every one is killed**. {masked} of them are masked by another layer, and shown without it.",
        "",
        "| taken away | mutants |",
        "|---|---|",
    ]
    lines += [f"| {kind} | {number} |" for kind, number in sorted(kinds.items())]
    return HEAD + "\n".join(lines) + "\n" + FOOT


def whole_list() -> str:
    """Every mutant in a table, for the directory `build`."""
    lines = ["| taken away | mutant | protects | killed by | masked by |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in sorted(mutants())]
    return "# Every mutant\n\n" + COLUMNS + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text(whole_list(), encoding="utf-8")
    sys.stdout.write(f"{LIST.relative_to(ROOT)}\n")
