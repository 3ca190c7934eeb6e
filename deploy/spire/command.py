"""``up``, ``down`` and ``status`` at the command line."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from deploy.progress import say
from deploy.spire import deployment
from deploy.spire.deployment import Deployment
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts

_NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when done, 1 when it cannot be done, 2 for a wrong call, 3 from ``status`` when not all runs."""
    chosen = _parser().parse_args(arguments)
    act = {"up": _up, "down": _down, "status": _status}[chosen.action]
    try:
        with Interrupts():
            return act(chosen)
    except DeployError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="SPIRE on this host, for tests and demonstrations.")
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--dir", type=Path, default=deployment.default_directory(), help="the run directory")
    parser.add_argument("--svid-ttl", default="1h", help="lifetime of X.509-SVIDs (default: 1h)")
    parser.add_argument("--json", action="store_true", help="answer in JSON on standard output")
    return parser


def _up(chosen: argparse.Namespace) -> int:
    running = deployment.start(chosen.dir, svid_ttl=chosen.svid_ttl, detached=True)
    _show(running, as_json=chosen.json)
    return 0


def _down(chosen: argparse.Namespace) -> int:
    ended = deployment.stop(chosen.dir)
    if chosen.json:
        print(json.dumps({"ended": ended}))
    else:
        print(f"SPIRE is stopped: {ended} processes ended." if ended else "SPIRE was not running.")
    return 0


def _status(chosen: argparse.Namespace) -> int:
    found = deployment.find(chosen.dir)
    if found:
        _show(found, as_json=chosen.json)
        return 0 if found.running() else _NOT_RUNNING
    print(json.dumps({"running": False}) if chosen.json else f"SPIRE is not running in {chosen.dir}.")
    return _NOT_RUNNING


def describe(found: Deployment) -> dict[str, Any]:
    """Return what a program needs to know to use the deployment."""
    return {
        "running": found.running(),
        "directory": str(found.directory),
        "svid_ttl": found.svid_ttl,
        "trust_domains": [
            {
                "name": here.name,
                "workload_socket": found.workload_socket(here.name),
                "server_socket": str(here.server_socket),
                "server_port": here.server_port,
                "bundle_port": here.bundle_port,
                "server_pid": here.server_process.pid if here.server_process else None,
                "agent_pid": here.agent_process.pid if here.agent_process else None,
                "node_id": here.node_id,
                "server_log": str(here.server.log),
                "agent_log": str(here.agent.log),
            }
            for here in found.trust_domains
        ],
    }


def _show(found: Deployment, *, as_json: bool) -> None:
    told = describe(found)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"SPIRE in {told['directory']}: {'running' if told['running'] else 'NOT all running'}")
    for here in told["trust_domains"]:
        print(f"\n  {here['name']}")
        print(f"    Workload API   {here['workload_socket']}")
        print(f"    server API     {here['server_socket']}")
        print(f"    ports          server {here['server_port']}, bundle endpoint {here['bundle_port']}")
        print(f"    processes      server {here['server_pid'] or 'down'}, agent {here['agent_pid'] or 'down'}")
    first = found.trust_domains[0]
    print("\nNext, for example:")
    print(f"  export SPIFFE_ENDPOINT_SOCKET={found.workload_socket(first.name)}")
    print(f"  {first.binaries.server} bundle list -socketPath {first.server_socket}")
    sys.stdout.flush()
