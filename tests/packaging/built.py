"""The wheel as a user gets it, and fresh virtual environments that it is installed into, without a network."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from deploy.bootstrap import REQUIREMENTS, TAG, cache_home, digest

ROOT = Path(__file__).resolve().parents[2]
# What `make setup` fetched: every pinned package, and nothing else.
WHEELHOUSE = cache_home() / "wheelhouse" / f"{digest(REQUIREMENTS)}-{TAG}-{sysconfig.get_platform()}"
DISTRIBUTION = "spiffe-credential-broker"


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def package_settings(*folders: Path) -> dict[str, str]:
    """Return the environment in which pip finds packages in folders alone."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": " ".join(map(str, (WHEELHOUSE, *folders))), "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull}  # fmt: skip


def environment(folder: Path, wheel: Path, *extras: str) -> Path:
    """Make a virtual environment with the wheel in it; return its folder of programs."""
    uv = [str(Path(sys.prefix) / "bin" / "uv"), "--quiet", "--offline", "--no-config"]
    wanted = f"{DISTRIBUTION}[{','.join(extras)}]" if extras else DISTRIBUTION
    settings = os.environ | {"UV_CACHE_DIR": str(cache_home() / "uv")}
    links = ["--no-index", "--find-links", str(WHEELHOUSE), "--find-links", str(wheel.parent)]
    for command in (
        ["venv", "--python", sys.executable, str(folder)],
        ["pip", "install", "--python", str(folder / "bin" / "python"), *links, wanted],
    ):
        done = subprocess.run([*uv, *command], capture_output=True, text=True, env=settings, check=False)
        assert done.returncode == 0, done.stderr
    return folder / "bin"
