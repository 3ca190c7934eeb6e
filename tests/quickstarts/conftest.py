"""A clone of this repository, a SPIRE of the reader's own, and somebody who follows the pages."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.spire.deployment import Deployment
from tests.faults.spawned import free_port
from tests.packaging.built import ROOT, package_settings
from tests.quickstarts.page import Reader, plain_environment
from tests.spire.conftest import spire

__all__ = ["spire"]


@pytest.fixture(scope="module")
async def reader(spire: Deployment) -> AsyncIterator[Reader]:
    """Return a reader at a prompt in a clean clone, who runs a SPIRE already."""
    here = spire.trust_domain("example.org")
    broker, service = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="reader-") as folder:
        clone = Path(folder) / "clone"
        copy_checkout(clone)
        made = Reader(
            folder=clone,
            environment=plain_environment(
                PATH=f"{here.binaries.server.parent}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
                SPIRE_SERVER_PRIVATE_SOCKET=str(here.server_socket),
                SPIFFE_ENDPOINT_SOCKET=spire.workload_socket("example.org"),
                BROKER_LISTEN__ADDRESS=f"127.0.0.1:{broker}",
                **package_settings(),
            ),
            replaced={"127.0.0.1:8443": f"127.0.0.1:{broker}", "127.0.0.1:8444": f"127.0.0.1:{service}"},
        )
        try:
            yield made
        finally:
            await made.leave()


def copy_checkout(target: Path) -> None:
    """Copy what git would clone, as it stands now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (source := ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
