"""The bench in its smallest form: what it says has the right shape, and no ratio has a side from elsewhere."""

import io
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker.store.interface import AddGrant, Committed, Item
from broker.store.sqlite import SqliteStore
from tests.bench import __main__ as command
from tests.bench import books
from tests.bench.figure import TOLERANCE, Figure, Goal
from tests.bench.figures import figures
from tests.bench.forgetful import ForgetfulStore
from tests.bench.measures import UNITS, Measures
from tests.bench.rounds import ALONE, LOADS, Plan
from tests.bench.stage import JOURNAL, RECORD
from tests.bench.table import show
from tests.contract.store_builders import entry, grant
from tests.operations.world import ROOT

ROUNDS = 2
REVOCATIONS = 3
TINY = ("--rounds", str(ROUNDS), "--seconds", "0.05", "--revocations", str(REVOCATIONS))


@pytest.fixture(scope="module")
def answer() -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--json", *TINY],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_side_of_every_figure_was_measured_in_this_run(answer: Any) -> None:
    measured = answer["measured"]
    for figure in answer["figures"]:
        assert figure["sides"], figure["name"]
        for side in figure["sides"]:
            rounds = REVOCATIONS if side == "revoke" else ROUNDS
            assert len(measured[side]["samples"]) == rounds, (figure["name"], side)
            assert all(sample > 0 for sample in measured[side]["samples"]), side


def test_nothing_is_measured_but_not_said(answer: Any) -> None:
    said = {side for figure in answer["figures"] for side in figure["sides"]}
    beside = {"check.pyjwt", "check.joserfc", "cpu.off.unary", "cpu.off.stream", "cpu.go.unary"}
    unsaid = {name for name in answer["measured"] if not name.startswith("client.")} - said
    assert unsaid == beside
    assert {name.partition(".")[0] for name in answer["measured"]} == set(UNITS)


def test_each_figure_says_what_it_compares_and_what_limits_it(answer: Any) -> None:
    names = [figure["name"] for figure in answer["figures"]]
    assert len(names) == len(set(names))
    for figure in answer["figures"]:
        assert figure.keys() == {
            "name", "says", "unit", "median", "low", "high", "sides", "goal", "met", "gated", "limit"
        }  # fmt: skip
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert len(figure["says"].split()) > 5
        assert figure["limit"]
        assert (figure["goal"] is None) == (figure["met"] is None)
    numbers = {figure["goal"]["number"] for figure in answer["figures"] if figure["goal"]}
    assert numbers == {1, 5, 7, 11, 12}
    assert "interleaved rounds" in answer["machine"]


@pytest.mark.parametrize(("kind", "kept"), [(SqliteStore, 2), (ForgetfulStore, 1)], ids=["real", "double"])
def test_the_double_forgets_grants_and_nothing_else(kind: type[SqliteStore], kept: int, tmp_path: Path) -> None:
    store = kind(tmp_path / "store.sqlite3", log_id="log_1", cursor_key=b"k" * 32)
    given = grant("1")
    granted = Item(writes=(AddGrant(grant=given),), accepted=lambda _: entry("granted"))
    refused = Item(accepted=lambda _: entry("refused"))
    for item in (granted, refused):
        (answer,) = store.commit([item])
        assert isinstance(answer, Committed)
    assert store.size() == kept
    assert (store.grant(given.credential_id) is None) is (kind is ForgetfulStore)
    store.close()


@pytest.mark.parametrize("changed", ["nothing", "durable", "off", "naive", "go"])
def test_a_run_does_not_count_when_a_store_holds_something_else(changed: str, tmp_path: Path) -> None:
    written = {"durable": 3, "off": 0, "naive": 3}
    for name, rows in written.items():
        place, table = ("naive.sqlite3", "event") if name == "naive" else (f"{name}/broker.sqlite3", "granted")
        (tmp_path / place).parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(tmp_path / place, isolation_level=None)) as connection:
            connection.execute(f"CREATE TABLE {table} (number)")
            connection.executemany(f"INSERT INTO {table} VALUES (?)", [(1,)] * (rows + (name == changed)))  # noqa: S608 - a test's own
    (tmp_path / JOURNAL).write_bytes(b"x" * RECORD * (3 + (changed == "go")))
    given = {"durable": 3, "off": 3, "naive": 3, "go": 3}
    if changed == "nothing":
        books.check(tmp_path, given)
    else:
        with pytest.raises(books.BooksWrong, match=f"{changed}: 3 credentials came"):
            books.check(tmp_path, given)


def run_of(value: float = 1.0, **changes: float) -> Measures:
    """Measures as a run leaves them, all alike but for these."""
    measured = Measures()
    names = [f"{kind}.{server}.{how}" for kind in ("rate", "cpu", "client") for server, how in LOADS]
    names += [f"wait.{server}" for server in ALONE]
    names += [f"floor.{name}" for name in ("policy", "sign", "audit")] + ["flush", "revoke"]
    names += [f"act.{name}" for name in ("read", "many", "once", "together", "exchange")]
    names += [f"check.{name}" for name in ("cached", "lookup", "uncached", "signature", "pyjwt", "joserfc")]
    for name in names:
        for number in range(3):
            measured.add(name, changes.get(name.replace(".", "_"), value) * (1 + number / 10))
    return measured


def test_a_ratio_is_taken_within_its_round() -> None:
    found = {each.name: each for each in figures(run_of(rate_durable_unary=3.0), epyc=True)}
    assert found["unary-to-naive"].values == pytest.approx([3.0, 3.0, 3.0])
    assert found["durable-alone"].values == pytest.approx([0.0, 0.0, 0.0])
    assert found["efficiency-unary"].values == pytest.approx([4.0, 4.0, 4.0])


def test_without_go_there_is_no_figure_of_it() -> None:
    measured = run_of()
    assert "unary-to-go" in {each.name for each in figures(measured, epyc=True)}
    del measured.samples["rate.go.unary"]
    assert "unary-to-go" not in {each.name for each in figures(measured, epyc=True)}


def test_the_goals_of_the_machine_count() -> None:
    for epyc, met in ((True, True), (False, False)):
        found = {each.name: each for each in figures(run_of(rate_durable_unary=3.0), epyc=epyc)}
        assert found["unary-to-naive"].met is met


GOALS = {
    "at-least-met": (Goal(number=1, better="at least", bound=2.0, gated=True), 2.0, True, False),
    "at-least-tolerated": (Goal(number=1, better="at least", bound=2.0, gated=True), 2.0 * TOLERANCE, False, False),
    "at-least-failed": (Goal(number=1, better="at least", bound=2.0, gated=True), 1.6, False, True),
    "at-most-met": (Goal(number=1, better="at most", bound=2.0, gated=True), 2.0, True, False),
    "at-most-tolerated": (Goal(number=1, better="at most", bound=2.0, gated=True), 2.3, False, False),
    "at-most-failed": (Goal(number=1, better="at most", bound=2.0, gated=True), 2.4, False, True),
    "not-gated": (Goal(number=1, better="at most", bound=2.0), 99.0, False, False),
}


@pytest.mark.parametrize(("goal", "value", "met", "fails"), GOALS.values(), ids=GOALS)
def test_a_goal_is_met_or_missed_and_a_gate_is_more_patient(goal: Goal, value: float, met: bool, fails: bool) -> None:
    figure = Figure(name="n", says="s", unit="x", values=[value], sides=("a", "b"), goal=goal, limit="1")
    assert (figure.met, figure.fails_gate) == (met, fails)


@pytest.mark.parametrize(("gate", "status"), [((), 0), (("--gate",), 1)], ids=["measured", "gate"])
def test_only_a_gate_fails_on_a_missed_goal(
    monkeypatch: pytest.MonkeyPatch, gate: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    class Stage:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(command, "open_stage", Stage)
    monkeypatch.setattr(command, "measure", lambda *_: run_of())
    done = CliRunner().invoke(command.bench, [*gate])
    assert done.exit_code == status, done.output
    assert ("unary-to-naive" in done.stderr) is bool(gate)
    assert "missed" in done.stdout


def test_the_table_shows_what_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    told = io.StringIO()
    found = figures(run_of(), epyc=True)
    show(found, "a machine", to=told)
    text = told.getvalue()
    assert "\x1b" not in text
    assert "a machine" in text
    met = sum(each.met is True for each in found)
    missed = sum(each.met is False for each in found)
    assert met
    assert missed
    assert text.splitlines()[-1] == f"{met + missed} goals: {met} met, {missed} missed"
    assert len(re.findall(r"\bmet\b", text)) == met + 1
    assert len(re.findall(r"\bmissed\b", text)) == missed + 1


def test_a_plan_has_the_rounds_that_a_median_needs() -> None:
    assert Plan().rounds >= 5
    assert Plan().revocations >= 20
