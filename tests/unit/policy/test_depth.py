"""A bundle that nests too deeply is a problem to be told, not the end of the process that reads it."""

import subprocess
import sys

import pytest

from broker.policy.bundle import BundleProblem, compile_bundle
from broker.policy.depth import MAX_CHAIN, MAX_NESTING, check_depth
from broker.policy.problem import Findings
from tests.unit.policy.bundles import EXAMPLE

DEEP = 5000
CONDITIONS = {
    "parentheses": "({}true{})".format("(" * DEEP, ")" * DEEP),
    "and": "true && " * DEEP + "true",
    "or": "true || " * DEEP + "true",
    "if": "if true then true else " * DEEP + "true",
    "sets": "[" * DEEP + "]" * DEEP + " == []",
    "records": "{a: " * DEEP + "1" + "}" * DEEP + " has a",
    "members": "principal" + ".a" * DEEP,
    "members-asked": "principal has a" + ".a" * DEEP,
    "indexes": "principal" + '["a"]' * DEEP,
    "methods": 'ip("1")' + ".isIpv4()" * DEEP,
    "sums": "1 + " * DEEP + "1 == 1",
    "products": "1 * " * DEEP + "1 == 1",
}
# In a process of its own: without the check it does not fail, it dies.
COMPILE = """
import sys
from broker.policy.bundle import BundleProblem, compile_bundle
from tests.unit.policy.bundles import EXAMPLE
from tests.unit.policy.test_depth import bundles
for name, files in bundles().items():
    print(name, flush=True)
    try:
        compile_bundle(files)
    except BundleProblem as problem:
        assert "nests" in str(problem) or "declarations" in str(problem), problem
    else:
        raise AssertionError(name)
"""


def bundles() -> dict[str, dict[str, bytes]]:
    """One bundle for each way of nesting."""
    policy = '\n@id("deep")\nforbid(principal, action, resource) when {{ {} }};'
    made = {name: {**EXAMPLE, "deep.cedar": policy.format(text).encode()} for name, text in CONDITIONS.items()}
    schemas = {
        "schema-sets": "type Deep = " + "Set<" * DEEP + "Long" + ">" * DEEP + ";",
        "schema-records": "type Deep = " + "{a: " * DEEP + "Long" + "}" * DEEP + ";",
        "schema-ancestors": "".join(f"entity A{number} in [A{number + 1}];" for number in range(DEEP)),
    }
    name = "schema.cedarschema"
    made |= {each: {**EXAMPLE, name: EXAMPLE[name] + text.encode()} for each, text in schemas.items()}
    tables = ("a = " + "[" * DEEP + "]" * DEEP).encode()
    return made | {file: {**EXAMPLE, file: tables} for file in ("entities.toml", "golden.toml")}


def test_what_nests_too_deeply_is_refused_and_nobody_dies() -> None:
    ran = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr)
    assert ran.stdout.split() == list(bundles())


def test_the_deepest_that_is_allowed_goes_on_to_the_engine() -> None:
    found = Findings()
    many = MAX_NESTING - 2
    condition = "(" * many + " && ".join(["true"] * 90) + ")" * many
    text = f'@id("a")\nforbid(principal, action, resource) when {{ {condition} }};\n' * 3
    check_depth({"a.cedar": text.encode()}, found)
    assert not found


def test_brackets_and_operators_in_text_and_comments_do_not_count() -> None:
    found = Findings()
    text = f'// {"(" * DEEP} \n@reason("{"." * DEEP} \\" {"[" * DEEP}")\nforbid(principal, action, resource);'
    check_depth({"a.cedar": text.encode()}, found)
    assert not found


def test_it_says_where() -> None:
    chain = " && ".join(["true"] * (MAX_CHAIN + 2))
    files = {
        **EXAMPLE,
        "deep.cedar": f'\n\n@id("a")\nforbid(principal, action, resource)\nwhen {{ {chain} }};'.encode(),
    }
    with pytest.raises(BundleProblem, match=r"deep\.cedar:5: nests"):
        compile_bundle(files)
