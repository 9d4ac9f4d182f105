"""Writes the two tables of docs/settings.md from the table of settings and from the needs of the processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers.needs import NEEDS
from workers.runtime.environment import variable
from workers.runtime.setting_table import COMMANDS, OF_A_PROCESS, SETTINGS, Setting, read_by

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGIN, END = "<!-- written by `make settings` -->\n", "<!-- until here -->\n"
LABELS = {"audit": "`q2o audit`, `q2o explain`, `q2o status`"}
OWN = tuple(f"{process}_{name}" for name, processes in OF_A_PROCESS.items() for process in processes)


def tables() -> str:
    return "\n".join([*_commands(), "", *_settings()]) + "\n"


def page(now: str) -> str:
    """The page with its tables as they should be."""
    before, _, rest = now.partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


def _commands() -> Iterator[str]:
    yield "| command | does not start without | is ready while these answer |"
    yield "|---|---|---|"
    for command in sorted(
        COMMANDS - {"up"},
        key=[*NEEDS, "migrate", "deploy", "restart-instances", "rebuild", "audit", "dead-letters", "sandbox", "token"].index,
    ):
        needed = ", ".join(f"`{setting.variable}`" for setting in read_by(command) if command in setting.needed_by)
        name = LABELS.get(command, f"`q2o {command}`")
        yield f"| {name} | {needed} | {', '.join(NEEDS.get(command, ()))} |"


def _settings() -> Iterator[str]:
    yield "| variable | meaning | what it may be | default | read by |"
    yield "|---|---|---|---|---|"
    for name, setting in SETTINGS.items():
        if name not in OWN:
            yield f"| {_names(setting)} | {setting.says} | {setting.kind.wanted} | {setting.default or ''} | {_readers(setting)} |"


def _names(setting: Setting) -> str:
    own = [f"{process}_{setting.name}" for process in OF_A_PROCESS.get(setting.name, ())]
    return ", ".join(f"`{variable(name)}`" for name in [setting.name, *own])


def _readers(setting: Setting) -> str:
    return "every command" if setting.readers == COMMANDS else ", ".join(sorted(setting.readers)) or "other programs"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
