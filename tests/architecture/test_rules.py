"""Rules that import contracts cannot state, read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from domain.delivery.cancelling import POLICY
from workers.http.actors import UnusableNameError, person

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "workers", "reconciliation")


def sources(*rooms: str) -> Iterator[tuple[Path, ast.Module]]:
    for room in rooms:
        yield from parsed(room)


@cache
def parsed(room: str) -> Sequence[tuple[Path, ast.Module]]:
    paths = sorted(path for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts)
    return [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    yield from (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    )


def commits(tree: ast.AST) -> list[int]:
    """Lines that commit a database transaction; a Kafka consumer commits offsets, which is another thing."""
    return [call.lineno for call in calls(tree, "commit") if "consumer" not in ast.unparse(call.func).lower()]


def begins(tree: ast.AST) -> list[int]:
    """Lines that open a transaction which commits by itself."""
    return [call.lineno for call in calls(tree, "begin") if not ast.unparse(call.func).startswith("starts.")]


def test_only_the_unit_of_work_and_the_migrations_commit() -> None:
    found = {str(path) for path, tree in sources(*ROOMS) if commits(tree) or begins(tree)}

    # The sandbox provider is no part of the product: it keeps a ledger of its own.
    assert {path for path in found if "sandbox" not in path and "local" not in path} == {
        "domain/store/transactions.py",
        "domain/store/unit_of_work.py",
        "domain/migrations/__init__.py",
    }


def test_a_commit_elsewhere_would_be_found() -> None:
    assert commits(ast.parse("connection.commit()")) == [1]
    assert commits(ast.parse("self._consumer.commit(offsets)")) == []


def takes_the_domains(tree: ast.AST) -> bool:
    """Whether a module takes the unit of work that leaves no line in the log."""
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("domain.")]
    return any(alias.name == "unit_of_work" for node in taken for alias in node.names)


def test_every_process_opens_the_unit_of_work_that_leaves_a_line() -> None:
    found = {str(path) for path, tree in sources("workers", "reconciliation") if takes_the_domains(tree)}

    assert found == {"workers/runtime/commands.py"}


def test_docker_is_no_python_package() -> None:
    # A package of that name would hide the Docker SDK.
    assert list((ROOT / "docker").rglob("*.py")) == []


def test_the_domain_asks_no_clock_but_the_databases() -> None:
    found = [
        f"{path}:{call.lineno}"
        for path, tree in sources("domain")
        for name in ("now", "utcnow", "today")
        for call in calls(tree, name)
    ]

    assert [place for place in found if "func.now" not in place] == []


def test_log_events_are_constants() -> None:
    found = [
        f"{path}:{call.lineno}"
        for path, tree in sources(*ROOMS)
        for level in ("debug", "info", "warning", "error", "exception")
        for call in calls(tree, level)
        if ast.unparse(call.func).startswith(("_log.", "log.")) and not (call.args and isinstance(call.args[0], ast.Constant))
    ]

    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_says_what_it_is_for(room: str) -> None:
    # An __init__ without a word of code needs no word of explanation.
    silent = [str(path) for path, tree in sources(room) if tree.body and not ast.get_docstring(tree)]

    assert silent == []


def test_no_module_is_longer_than_its_reader_s_patience() -> None:
    long = [
        str(path)
        for path, _ in sources(*ROOMS, "tests")
        if len((ROOT / path).read_text(encoding="utf-8").splitlines()) > 300 and "versions" not in path.parts
    ]

    assert long == []


VIEWS = ("quote_search", "order_search_projection", "quote_approval_projection_decision")
MAY_NAME_VIEWS = ("domain/auditing/", "domain/migrations/", "domain/projections/", "domain/rights.py")


def test_no_statement_of_a_room_that_decides_names_a_projection() -> None:
    """An import contract holds the tables; this holds statements that are written as text."""
    named = [
        str(path)
        for path, tree in sources(*ROOMS)
        if not str(path).startswith(MAY_NAME_VIEWS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if any(f" {view}" in f" {node.value}" for view in VIEWS) and "SELECT" in node.value.upper()
    ]

    assert named == []


def actors_named(tree: ast.AST) -> list[str]:
    """The names under which a part of the product acts: the texts in `Cause(actor=…)`, of which an f-string gives its beginning."""
    causes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Cause"
    ]
    given = [keyword.value for cause in causes for keyword in cause.keywords if keyword.arg == "actor"]
    whole = {
        id(part): text for value in given for text in ast.walk(value) if isinstance(text, ast.JoinedStr) for part in text.values[1:]
    }
    texts = [text for value in given for text in ast.walk(value) if isinstance(text, ast.Constant) and id(text) not in whole]
    return [str(text.value) for text in texts]


def test_no_caller_can_have_a_name_under_which_a_part_of_the_product_acts() -> None:
    found = {name for _, tree in sources(*ROOMS) for name in actors_named(tree)} | {POLICY}

    assert {"worker:", "provider:", "reconciliation", "inbox"} <= found
    for name in found:
        with pytest.raises(UnusableNameError):
            person(name)


def test_the_names_of_actors_are_found_in_the_source() -> None:
    assert actors_named(ast.parse('Cause(actor=someone or f"robot:{name}:x", command="c")')) == ["robot:"]
    assert actors_named(ast.parse('Cause(actor="robot")')) == ["robot"]


LOOPS = {
    *(
        "workers.http.app",
        "workers.pod.pod",
        "workers.tasks.topics",
        "workers.dispatch",
        "workers.kafka.relay",
        "workers.kafka.inbox",
    ),
    *("reconciliation.loop", "reconciliation.retention", "workers.restarts"),
}


def test_a_service_process_imports_no_loop_before_it_knows_which_one_it_runs() -> None:
    """Importing every loop costs seconds of processor time, and a platform starts a process again whenever it ends."""
    code = "import sys, workers.cli, workers.needs, workers.suite; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    assert "workers.suite" in loaded
    assert sorted(LOOPS.intersection(loaded)) == []


def test_the_modules_of_the_loops_are_there() -> None:
    assert [name for name in sorted(LOOPS) if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []
