"""A real crash of what holds the keys leaves no core file, however much the system would allow (I8)."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.attacks.canary import Content, key_forms
from tests.cli.setups import House, build, clean_environment
from tests.polling import eventually

# Aborts with the broker's keys in memory, as the issuer has them.
CONTROL = "import os, pathlib, sys; keys = [p.read_bytes() for p in pathlib.Path(sys.argv[1]).iterdir()]; os.abort()"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = build(tmp_path)
    yield built
    built.spire.stop()


def crashing(place: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    """Start Python where cores would fall, with no limit to them."""
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["/bin/sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", sys.executable, *map(str, arguments)],
        cwd=place, env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def half(parent: int, role: str) -> int:
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(FileNotFoundError):
            if f"\0_{role}\0" in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
    return 0


def limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if "core file" in line).split()[4:6]


@pytest.mark.parametrize("option", ["", "--embedded"], ids=["halves", "embedded"])
async def test_i8_a_crash_leaves_no_core_file(house: House, tmp_path: Path, option: str) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY and os.geteuid():
        pytest.skip("core files are off here, and only root may allow them")
    place = tmp_path / "cores"
    process = crashing(place, "-m", "broker", "serve", "--config", house.config, *filter(None, [option]))
    try:
        assert process.stdout is not None
        assert "ready" in await asyncio.to_thread(process.stdout.readline)
        pid = process.pid if option else half(process.pid, "issuer")
        assert limit(pid) == ["1", "1"]
        os.kill(pid, signal.SIGABRT)
        assert await eventually(partial(_gone, process, pid))
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert list(place.iterdir()) == []
    _control(house, tmp_path / "control")


async def _gone(process: "subprocess.Popen[str]", pid: int) -> bool:
    await asyncio.sleep(0)
    return process.poll() == -signal.SIGABRT if pid == process.pid else half(process.pid, "issuer") not in (0, pid)


def _control(house: House, place: Path) -> None:
    """Anything else that crashes so leaves one, with the keys in it."""
    process = crashing(place, "-c", CONTROL, house.keys)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGABRT
    cores = list(place.iterdir())
    if not cores:
        pytest.skip("cores go elsewhere here: " + Path("/proc/sys/kernel/core_pattern").read_text().strip())
    found = Content.of(cores[0].read_bytes())
    keys = [key_forms(path.read_bytes())[0] for path in house.keys.glob("*.pem")]
    assert keys
    assert all(map(found.holds, keys))
