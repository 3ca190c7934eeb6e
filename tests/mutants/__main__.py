"""`make mutants`: take out one safeguard after the other, in a copy of the tree, and see its test turn red.

Exit status: 0 every mutant fell; 1 one survived, or could not be tried.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

import click

from tests import results
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS

TREES: Final = ("broker", "tests", "examples", "docs", "deploy", "proto")
FILES: Final = ("pyproject.toml", "README.md", "requirements.txt", "Makefile")
PATIENCE: Final = 300.0
# pytest: 0 all passed, 1 some failed; anything else means that the test was not run.
PASSED, FAILED = 0, 1


@dataclass(frozen=True, kw_only=True)
class Tried:
    """How one went."""

    mutant: Mutant
    outcome: str
    seconds: float
    said: str = ""

    @property
    def fell(self) -> bool:
        return self.outcome == "fell"


@click.command
@click.option("--part", default="1/1", metavar="N/M", help="Every M-th only, from the N-th on; any/M: by the commit.")
@click.option("--at-once", type=click.IntRange(1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("names", nargs=-1)
def mutants(*, part: str, at_once: int, as_json: bool, names: tuple[str, ...]) -> None:
    """Try mutants; all of them, those of a part, or those that are named."""
    chosen = _chosen(part, names)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(at_once) as pool:
        whole = Path(folder)
        base(whole)
        control = pool.submit(_control, whole, chosen)
        tried = list(pool.map(lambda each: _try(whole, each), chosen))
        untouched = control.result()
    if as_json:
        rows = [
            {"name": each.mutant.name, "outcome": each.outcome, "seconds": round(each.seconds, 1)} for each in tried
        ]
        click.echo(
            json.dumps({"commit": results.commit(), "control": untouched or "passed", "mutants": rows}, indent=1)
        )
    else:
        _show(tried)
    for each in tried:
        if not each.fell:
            click.echo(f"\n{each.mutant.name}: {each.outcome}\n{each.said}", err=True)
    if untouched:
        click.echo(f"\nthe tests do not pass with nothing taken out:\n{untouched}", err=True)
    sys.exit(bool(untouched) or not all(each.fell for each in tried))


def _chosen(part: str, names: Sequence[str]) -> Sequence[Mutant]:
    unknown = set(names) - {each.name for each in MUTANTS}
    if unknown:
        raise click.UsageError(f"no such mutant: {', '.join(sorted(unknown))}")
    if names:
        return [each for each in MUTANTS if each.name in names]
    number, _, of = part.partition("/")
    if not of.isdecimal() or not (number == "any" or number.isdecimal()) or number == "0" or of == "0":
        raise click.UsageError(f"a part is N/M or any/M, not {part}")
    # By the commit, so that the parts take turns as the history grows, and the same commit is tried the same way.
    begin = crc32(results.commit().encode()) % int(of) if number == "any" else int(number) - 1
    return MUTANTS[begin :: int(of)]


def _show(tried: Sequence[Tried]) -> None:
    width = max(len(each.mutant.name) for each in tried)
    for each in tried:
        words = f"{each.mutant.name:{width}}  {each.outcome:10} {each.seconds:5.1f} s  {each.mutant.safeguard}"
        click.echo(f"{words}\n{'':{width}}    {each.mutant.test}")
    click.echo(f"{sum(each.fell for each in tried)} of {len(tried)} fell; {len(MUTANTS)} there are; {results.commit()}")


def _control(whole: Path, chosen: Sequence[Mutant]) -> str:
    """Run every named test with nothing taken out; return what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        _linked(whole, Path(folder))
        ran = _pytest(Path(folder), sorted({each.test for each in chosen}))
        return "" if ran.returncode == PASSED else ran.stdout[-3000:] + ran.stderr[-2000:]


def _try(whole: Path, mutant: Mutant) -> Tried:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        folder = Path(directory)
        _linked(whole, folder)
        patched = folder / mutant.file
        text = patched.read_text() if patched.exists() else ""
        if text.count(mutant.old) != 1:
            said = f"{mutant.file} holds the text {text.count(mutant.old)} times: the patch does not apply any more"
            return Tried(mutant=mutant, outcome="no patch", seconds=0.0, said=said)
        patched.unlink()  # a link: the copy keeps its own
        patched.write_text(text.replace(mutant.old, mutant.new))
        try:
            compile(patched.read_text(), mutant.file, "exec")
            ran = _pytest(folder, [mutant.test])
        except SyntaxError as problem:
            return Tried(mutant=mutant, outcome="no patch", seconds=0.0, said=str(problem))
        except subprocess.TimeoutExpired:
            return Tried(mutant=mutant, outcome="no answer", seconds=time.monotonic() - begun)
    outcome = {PASSED: "SURVIVED", FAILED: "fell"}.get(ran.returncode, "no test")
    said = ran.stdout[-3000:] + ran.stderr[:3000]
    tried = Tried(mutant=mutant, outcome=outcome, seconds=time.monotonic() - begun, said=said)
    click.echo(f"{mutant.name}: {tried.outcome}", err=True)
    return tried


def base(folder: Path) -> None:
    """Copy what tests need, with the broker compiled; the checkout itself is never touched."""
    for name in TREES:
        shutil.copytree(results.ROOT / name, folder / name)
    for name in FILES:
        shutil.copy2(results.ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "broker"], cwd=folder, check=True)


def _linked(whole: Path, folder: Path) -> None:
    """Link every file of the copy into another folder, which costs no time and no space."""
    for name in TREES:
        shutil.copytree(whole / name, folder / name, copy_function=os.link)
    for name in FILES:
        os.link(whole / name, folder / name)


def _pytest(folder: Path, tests: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests]
    settings = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


if __name__ == "__main__":
    mutants()
