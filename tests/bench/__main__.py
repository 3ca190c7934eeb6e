"""`make bench`: what an exchange costs, as ratios of sides measured in one run, in interleaved rounds."""

import json
import platform
import sys
import tempfile
from pathlib import Path

import click

from deploy.progress import step
from tests.bench.figure import TOLERANCE
from tests.bench.figures import figures, on_epyc
from tests.bench.rounds import IN_FLIGHT, Plan, measure
from tests.bench.stage import open_stage
from tests.bench.table import show
from tests.interop.build import go_is_here


@click.command
@click.option("--json", "as_json", is_flag=True, help="For programs: every figure and every sample.")
@click.option("--gate", is_flag=True, help=f"Fail when a gated goal is missed by more than {1 - TOLERANCE:.0%}.")
@click.option("--rounds", type=click.IntRange(1), default=Plan().rounds, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.01), default=Plan().seconds, show_default=True, help="Of one turn.")
@click.option("--revocations", type=click.IntRange(1), default=Plan().revocations, show_default=True)
def bench(*, as_json: bool, gate: bool, rounds: int, seconds: float, revocations: int) -> None:
    """Measure, and say what is met and what is not. Exit status: 0 measured; 1 a gate failed."""
    plan = Plan(rounds=rounds, seconds=seconds, revocations=revocations)
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as folder, step("Measuring") as progress:
        with open_stage(Path(folder)) as stage:
            measured = measure(stage, plan, progress.update)
        machine = _machine(plan, Path(folder))
    found = figures(measured, epyc=on_epyc())
    if as_json:
        answer = {"machine": machine, "figures": [each.to_json() for each in found], "measured": measured.to_json()}
        click.echo(json.dumps(answer, indent=1))
    else:
        show(found, machine)
    failed = [each.name for each in found if each.fails_gate]
    if gate and failed:
        click.echo(f"bench: below {TOLERANCE:.0%} of the goal: {', '.join(failed)}", err=True)
        sys.exit(1)


def _machine(plan: Plan, folder: Path) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    cores = sum(line.startswith("processor") for line in lines)
    return (
        f"{cores} cores ({model}), Python {platform.python_version()}, stores on {_file_system(folder)}; "
        f"{plan.rounds} interleaved rounds, {IN_FLIGHT} in flight, median and spread; "
        "the client is Python on the same cores" + ("" if go_is_here() else "; no Go here, so no server in Go")
    )


def _file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on; on tmpfs a flush costs nothing and proves nothing."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "an unknown file system"))[1]


if __name__ == "__main__":
    bench()
