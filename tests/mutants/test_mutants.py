"""The table of mutants itself: each patch applies to what stands here, and names a test that is there."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests import results
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS

AT_LEAST = 40


@cache
def functions(path: Path) -> set[str]:
    """The names of the functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_enough_and_each_has_its_name() -> None:
    names = [each.name for each in MUTANTS]
    assert len(set(names)) == len(names) >= AT_LEAST
    assert len({(each.file, each.old) for each in MUTANTS}) >= len(MUTANTS) - 2, "one safeguard may have two tests"


@pytest.mark.parametrize("each", MUTANTS, ids=[each.name for each in MUTANTS])
def test_a_patch_applies_and_names_a_test(each: Mutant) -> None:
    text = (results.ROOT / each.file).read_text()
    assert text.count(each.old) == 1, "the text that is taken out is not there, or not once"
    ast.parse(text.replace(each.old, each.new))
    path, _, name = each.test.partition("::")
    assert name.partition("[")[0] in functions(results.ROOT / path)
