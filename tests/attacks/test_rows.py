"""Each attack has its tests, which are there, or says what it waits for; the threat model shows that table."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests import results
from tests.attacks import rows
from tests.attacks.row import Row
from tests.attacks.rows import ROWS

TESTS = results.ROOT / "tests"
EXPECTED = {
    *(f"A{number}" for number in range(1, 12)),
    *(f"B{number}" for number in range(1, 8)),
    *(f"C{number}" for number in range(1, 6)),
    *(f"D{number}" for number in range(2, 6)),
    *(f"E{number}" for number in range(1, 7)),
    *(f"F{number}" for number in range(1, 4)),
    *(f"G{number}" for number in range(1, 6)),
    *(f"H{number}" for number in range(1, 7)),
    *(f"I{number}" for number in range(1, 10)),
}


@cache
def functions(path: Path) -> set[str]:
    """The names of the tests in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def exists(test: str) -> bool:
    """Whether a test is there: path::function, from tests/."""
    path, _, name = test.partition("::")
    return (TESTS / path).is_file() and name in functions(TESTS / path)


def test_every_row_is_there_once() -> None:
    names = [each.id for each in ROWS]
    assert set(names) == EXPECTED
    assert len(names) == len(set(names))


@pytest.mark.parametrize("each", ROWS, ids=[each.id for each in ROWS])
def test_a_row_has_tests_or_a_reason(each: Row) -> None:
    assert bool(each.tests) != bool(each.waits), "either tests or what it waits for"
    assert [test for test in each.tests if not exists(test)] == []


def test_the_page_shows_the_table() -> None:
    text = rows.PAGE.read_text()
    shown = re.search(r"<!-- rows -->\n(.*?)<!-- /rows -->", text, re.DOTALL)
    assert shown
    assert shown[1] == rows.table(), "python -m tests.attacks.rows"


def test_every_test_that_the_page_links_is_there() -> None:
    """A claim is linked to its test as `name` in a file; both have to be there."""
    linked = re.findall(r"\[`(test_\w+)`\]\(\.\./tests/([^)]+\.py)\)", rows.PAGE.read_text())
    assert len(linked) > 100
    assert [f"{path}::{name}" for name, path in linked if not exists(f"{path}::{name}")] == []
