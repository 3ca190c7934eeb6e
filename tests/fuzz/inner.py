"""One target in a process of its own: python -m tests.fuzz.inner NAME SECONDS SEED CORPUS FINDS.

With atheris, coverage guides it; without, chance does. What is found lies in the folder FINDS, one input a file.
"""

import hashlib
import random
import sys
import time
from pathlib import Path

from tests.fuzz.chance import mutated
from tests.fuzz.targets import TARGETS, target

HANG_SECONDS = 5
MEMORY_MB = 3072


def main(name: str, seconds: str, seed: str, corpus: str, finds: str) -> None:
    """Fuzz until the time is over; libFuzzer ends the process itself."""
    try:
        import atheris  # type: ignore[import-untyped]  # noqa: PLC0415 - has no types, and is not everywhere
    except ImportError:
        _by_chance(name, float(seconds), int(seed), Path(corpus), Path(finds))
        return
    with atheris.instrument_imports(include=["broker"]):
        found = target(name)
    atheris.enabled_hooks.add("RegEx")
    atheris.enabled_hooks.add("str")
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": TARGETS[name],
        "timeout": HANG_SECONDS,
        "rss_limit_mb": MEMORY_MB,
        "artifact_prefix": f"{finds}/",
        "print_final_stats": 1,
    }
    atheris.Setup([name, corpus, *(f"-{flag}={value}" for flag, value in flags.items())], found.one)
    atheris.Fuzz()


def _by_chance(name: str, seconds: float, seed: int, corpus: Path, finds: Path) -> None:
    one, chance = target(name).one, random.Random(seed)  # noqa: S311 - chance, no secret
    inputs = tuple(path.read_bytes() for path in sorted(corpus.iterdir()))
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(chance, chance.choice(inputs), inputs, TARGETS[name])
        try:
            one(data)
        except BaseException:
            (finds / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise
        done += 1
    print(f"stat::number_of_executed_units: {done}", file=sys.stderr)  # noqa: T201 - as libFuzzer says it


if __name__ == "__main__":
    main(*sys.argv[1:])
