"""What people see: colour on a terminal only, completion, and help without the server's packages."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.setups import ROOT, House, clean_environment, invoke


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run a command with a terminal of its own and return what stands on it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments], cwd=ROOT, stdout=theirs, stderr=theirs,
        env=clean_environment(TERM="xterm-256color", COLUMNS="120", **environment),
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
        process.wait(30)
    return shown.decode()


def test_colour_stands_on_a_terminal_unless_it_is_not_wanted(house: House) -> None:
    arguments = ("doctor", "--config", str(house.config))
    assert "\x1b[32m" in on_a_terminal(*arguments)
    assert "\x1b[3" not in on_a_terminal(*arguments, NO_COLOR="1")
    assert "\x1b" not in invoke(*arguments).output


def test_what_click_colours_honours_no_color_too(tmp_path: Path) -> None:
    arguments = ("serve", "--config", str(tmp_path / "nothing.toml"))
    assert "\x1b[31m" in on_a_terminal(*arguments)
    assert "\x1b[31m" not in on_a_terminal(*arguments, NO_COLOR="1")


COMPLETIONS = {
    "commands": ("broker do", "1", "doctor"),
    "subcommands": ("broker task ", "2", "begin"),
    "options": ("broker doctor --ac", "2", "--accept"),
    "values": ("broker doctor --accept svid-t", "3", "svid-time"),
}


@pytest.mark.parametrize(("words", "index", "expected"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_the_shell_completes(words: str, index: str, expected: str) -> None:
    environment = clean_environment(_BROKER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=index)
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "broker"], env=environment, capture_output=True, text=True, check=False
    )
    assert f"plain,{expected}" in done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_start_up_file_gives_a_script(shell: str) -> None:
    assert f"_BROKER_COMPLETE={shell}_source broker" in (ROOT / "docs" / "cli.md").read_text()
    environment = clean_environment(_BROKER_COMPLETE=f"{shell}_source")
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "broker"], env=environment, capture_output=True, text=True, check=False
    )
    assert "_BROKER_COMPLETE" in done.stdout


def test_without_the_servers_packages_help_names_every_command(tmp_path: Path) -> None:
    hidden = "import sys\nsys.modules.update(pydantic=None, cedarpy=None)\nfrom broker.cli import broker\n"
    script = tmp_path / "without.py"
    script.write_text(hidden + "broker(sys.argv[1:], prog_name='broker')\n")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, script, *arguments], env=clean_environment(), capture_output=True, text=True, check=False
        )

    shown = run("--help")
    assert shown.returncode == 0, shown.stderr
    assert "needs the [server] extra" in shown.stdout
    assert "exchange" in shown.stdout
    asked = run("doctor", "--json")
    assert (asked.returncode, "spiffe-credential-broker[server]" in asked.stderr) == (1, True)
    assert run("exchange", "--help").returncode == 0
