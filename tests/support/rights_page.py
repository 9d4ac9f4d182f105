"""Writes the page docs/rights.md: what each process may do, a section for each system that it logs in to."""

from __future__ import annotations

from pathlib import Path

from domain.rights import ACROSS_TENANTS, PROCESSES, group_of, rights
from domain.schema import METADATA

PAGE = Path(__file__).parents[2] / "docs" / "rights.md"
HEAD = """# Rights

What each process may do, and nothing else. Written by `make rights` from the declarations that the rights are made of; do not edit.
"""
DATABASE = """
## Database

`q2o migrate` gives these rights to groups, and takes every other right from them. A login is a member of the group of its process
([settings.md](settings.md#database-roles)). S: SELECT, I: INSERT, U: UPDATE, D: DELETE, X: call. Only the owner of the tables,
who is the login of `q2o migrate`, may create, alter, truncate or drop anything, disable a trigger, or change a policy. `q2o_audit` is for
the audit and for reports.

"""
LETTERS = {"SELECT": "S", "INSERT": "I", "UPDATE": "U", "DELETE": "D", "EXECUTE": "X"}
SEVERAL_TENANTS = "rows of every tenant at once"


def page() -> str:
    """The whole page."""
    return HEAD + DATABASE + _database()


def _database() -> str:
    names = sorted(METADATA.tables) + sorted({right.name for right in rights()} - set(METADATA.tables))
    lines = [
        _line("", *(f"`{group_of(process)}`" for process in PROCESSES)),
        "|" + "---|" * (len(PROCESSES) + 1),
        _line(SEVERAL_TENANTS, *("yes" if process in ACROSS_TENANTS else "" for process in PROCESSES)),
        *(_line(f"`{name}`", *(_cell(process, name) for process in PROCESSES)) for name in names),
    ]
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(process: str, name: str) -> str:
    granted = [right for right in rights() if (right.process, right.name) == (process, name)]
    whole = [letter for privilege, letter in LETTERS.items() if any(r.privilege == privilege and not r.column for r in granted)]
    columns = sorted(f"`{right.column}`" for right in granted if right.column)
    return " ".join(whole) + (f" U ({', '.join(columns)})" if columns else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
