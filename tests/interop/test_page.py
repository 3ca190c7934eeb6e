"""docs/other-languages.md: what it prints is what the client does. Its commands are what builds the client."""

import re
import textwrap

import pytest

from broker.errors import Reason
from tests.interop.build import HERE, PAGE

TEXT = PAGE.read_text()
SOURCE = "\n".join(path.read_text() for path in sorted(HERE.glob("*.go")))
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"```go\n(.*?)```", TEXT, re.DOTALL)]


def flat(code: str) -> str:
    """Return the lines without their indentation."""
    return "\n".join(line.strip() for line in code.strip().splitlines())


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_that_is_printed_is_the_clients(block: str) -> None:
    assert flat(block) in flat(SOURCE)


def test_what_is_named_is_there() -> None:
    links = [target for target in re.findall(r"\]\(([^)#]+)", TEXT) if "://" not in target]
    assert len(links) > 2
    assert [target for target in links if not (PAGE.parent / target).exists()] == []
    names = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", TEXT))
    assert len(names) > 3
    assert names - {reason.name for reason in Reason} == {"UNAVAILABLE", "RESOURCE_EXHAUSTED"} & names
    vectors = re.findall(r"`(\w+\.json)`", TEXT)
    assert [name for name in vectors if not (HERE.parent / "vectors" / name).exists()] == []
