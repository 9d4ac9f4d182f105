"""Links to tests and to files, as pages in `docs/` write them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]


def link_of(test: str) -> str:
    """A link to a test (`file::test`), named after its sentence."""
    path, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../{path})"


def is_there(test: str) -> bool:
    """Whether a test is in its file."""
    path, _, name = test.partition("::")
    return name in tests_of(path)


def text_of(test: str) -> str:
    """The text of the file of a test."""
    return (ROOT / test.partition("::")[0]).read_text(encoding="utf-8")


@cache
def tests_of(path: str) -> frozenset[str]:
    """The names of the tests in a file, also of those in classes; none when there is no such file."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8") if file.exists() else "")
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
