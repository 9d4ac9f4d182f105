"""What pages and docstrings refer to exists: paths, tests, anchors, modules, decisions."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("bpmn", "docker", "docs", "domain", "reconciliation", "tests", "workers")
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md") if "node_modules" not in page.parts),
    ]
)
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)
WIDTH = 140
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
A_PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`")
A_MODULE = re.compile(r"`((?:domain|workers|reconciliation|tests)\.[\w.]+)`")
# A test of a file: the file, then the names of tests in it.
TESTS_OF_A_FILE = re.compile(r"`(tests/[\w/]+\.py)`:\s(`test_\w+`(?:,\s`test_\w+`)*)")
A_TEST = re.compile(r"`(test_\w+)`")
A_PAGE = re.compile(r"\b([\w/-]+\.md)\b(?:#([\w-]+))?")
CODE = re.compile(r"^```.*?^```$|^    [^\n]*$|^#[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
REFERENCE = re.compile(r"\[([^\]\n]+)\](?![(:\]])")
DEFINITION = re.compile(r"^\[([^\]]+)\]: ", re.MULTILINE)
A_DECISION = re.compile(r"\bdecisions? (\d{4})\b")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def docstrings(path: Path) -> Sequence[str]:
    """The docstrings and comments of a module: everything a reader is told in words."""
    text = path.read_text(encoding="utf-8")
    nodes = (
        node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )
    return [*(node.value for node in nodes if isinstance(node.value, str)), *re.findall(r"#\s.*", text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[length:])
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        target, _, anchor = next(group for group in match.groups() if group).partition("#")
        if target.startswith(("http:", "https:")):
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            broken.append(match.group())

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_reference_of_a_page_is_defined(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = DEFINITION.sub("", re.sub(CODE, "", re.sub(r"\[`([^`\n]+)`\]", r"[\1]", text)))

    assert set(REFERENCE.findall(prose)) - set(DEFINITION.findall(text)) == set()


def test_every_path_that_a_page_or_a_docstring_names_exists() -> None:
    texts = [(page, page.read_text(encoding="utf-8")) for page in PAGES] + [
        (path, each) for path in SOURCES for each in docstrings(path)
    ]

    assert [
        f"{named(path)}: {found}" for path, text in texts for found in A_PATH.findall(text) if not (ROOT / found).exists()
    ] == []


def missing_tests(text: str) -> list[str]:
    """The tests that a text names and that are not in the file before them, or have no file before them."""
    of_files = [(ROOT / file, name) for file, names in TESTS_OF_A_FILE.findall(text) for name in A_TEST.findall(names)]
    return [
        *(f"{named(file)}: {name}" for file, name in of_files if name not in functions(file)),
        *(f"of no file: {name}" for name in A_TEST.findall(TESTS_OF_A_FILE.sub("", text))),
    ]


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the functions of a file, also of those in its classes; none when there is no such file."""
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    assert missing_tests(page.read_text(encoding="utf-8")) == []


def test_a_test_that_is_gone_is_missed() -> None:
    assert missing_tests(f"`{named(Path(__file__))}`: `test_a_test_that_is_gone_is_missed`, `test_that_is_gone`") == [
        f"{named(Path(__file__))}: test_that_is_gone"
    ]
    assert missing_tests("`tests/gone.py`: `test_that_is_gone`") == ["tests/gone.py: test_that_is_gone"]
    assert missing_tests("`test_of_anything`") == ["of no file: test_of_anything"]


def test_every_module_that_a_docstring_names_exists() -> None:
    texts = [(path, each) for path in SOURCES for each in docstrings(path)]

    assert [f"{named(path)}: {found}" for path, text in texts for found in A_MODULE.findall(text) if not resolves(found)] == []


def test_every_page_and_section_that_a_docstring_cites_exists() -> None:
    broken = []
    for path in SOURCES:
        for text in docstrings(path):
            for page, anchor in A_PAGE.findall(text):
                found = ROOT / page
                if page.startswith("build/"):
                    continue  # what a command writes
                if not found.exists() or (anchor and anchor not in anchors(found)):
                    broken.append(f"{named(path)}: {page}#{anchor}")

    assert broken == []


def test_every_decision_that_is_cited_exists() -> None:
    there = {page.name[:4] for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md")}
    texts = [(page, page.read_text(encoding="utf-8")) for page in PAGES] + [
        (path, each) for path in SOURCES for each in docstrings(path)
    ]

    assert [f"{named(path)}: {number}" for path, text in texts for number in A_DECISION.findall(text) if number not in there] == []


def test_no_docstring_cites_what_its_reader_does_not_have() -> None:
    texts = [(path, each) for path in SOURCES if path != Path(__file__) for each in docstrings(path)]

    assert [f"{named(path)}: {text[:80]}" for path, text in texts if re.search(r"\bthe lesson\b", text, re.IGNORECASE)] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_line_of_a_page_is_too_long_to_read(page: Path) -> None:
    # A row of a table cannot be wrapped; only the first page does without long rows, too.
    rows_count = page == ROOT / "README.md"
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)

    assert [number for number, line in lines if len(line) > WIDTH and (rows_count or not line.startswith("|"))] == []
