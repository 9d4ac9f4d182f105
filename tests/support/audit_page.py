"""Writes the table of invariants in docs/audit.md from the tables that the audit uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from domain.auditing.checking import RULES
from domain.auditing.excerpts import Excerpts
from domain.auditing.invariants import INVARIANTS, Side
from domain.auditing.outside import OUTSIDE_AGE
from domain.auditing.rule import ALWAYS
from domain.retaining.dossiers import IDS_OF_SEVERAL, PARTS

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
BEGIN, END = "<!-- written by `make invariants` -->\n", "<!-- until here -->\n"


def page(now: str) -> str:
    """The page with its table as the invariants are now."""
    before, _, rest = now.partition(BEGIN)
    table = "\n".join(_lines())
    return f"{before}{BEGIN}\n{table}\n\n{END}{rest.partition(END)[2]}"


def _lines() -> Iterator[str]:
    ages = {rule.code: rule.age for rule in RULES}
    swept = {RULES[number].code for number, _ in Excerpts(IDS_OF_SEVERAL, PARTS).queries}
    yield "| code | what must hold | looked up in | once it is older than | all the time | violated, it means | what to do |"
    yield "|---|---|---|---|---|---|---|"
    for code, each in INVARIANTS.items():
        compared = OUTSIDE_AGE if each.side in {Side.ENGINE, Side.KAFKA, Side.LEDGER} else ALWAYS
        minutes = int(max(ages.get(code, ALWAYS), compared).total_seconds() // 60)
        age, sweep = f"{minutes} minutes" if minutes else "", "yes" if code in swept else ""
        yield f"| {code} | {each.title} | {each.side} | {age} | {sweep} | {each.means} | {each.remedy} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
