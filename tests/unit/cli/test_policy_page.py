"""The commands that docs/policy-decision-model.md prints, run as printed."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from broker.cli import broker

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "policy-decision-model.md").read_text()
COMMANDS: Final = [
    shlex.split(block.replace("\\\n", " ")) for block in re.findall(r"```sh\n(broker .*?)```", PAGE, re.DOTALL)
]
SAYS: Final = {
    "policy": (1, "parameters.amount 5000, not 9900  → permitted by support-may-refund"),
    "paths": (0, "8 paths; each was confirmed by a decision"),
}


def test_the_page_prints_both() -> None:
    assert {command[1] for command in COMMANDS} == SAYS.keys()
    assert SAYS["policy"][1] in PAGE


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_a_command_as_printed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(broker, command[1:])
    status, text = SAYS[command[1]]
    assert (result.exit_code, text in result.output) == (status, True), result.output
