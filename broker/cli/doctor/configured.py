"""Checks of the configuration itself: what loads, and still cannot work."""

import stat
from typing import Final
from urllib.parse import urlsplit

from broker.cli.doctor.finding import Check, Finding, ok, problem
from broker.cli.doctor.places import quoted
from broker.cli.doctor.setup import Setup

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def config(setup: Setup) -> Finding:
    """It was loaded, or nothing would be checked."""
    return ok(f"{setup.config} loads; the broker is {setup.own_id}")


def config_mode(setup: Setup) -> Finding:
    """Nobody else may write the configuration."""
    found = setup.config.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OTHERS_WRITE:
        return problem(
            f"{setup.config} has mode {mode:04o}: others may write it",
            why="Whoever writes it can name another policy, another store or another SPIRE agent.",
            fix=f"chmod go-w {quoted(setup.config)}",
        )
    return ok(f"mode {mode:04o}: nobody else may write it")


def issuer_name(setup: Setup) -> Finding:
    """The issuer's host is the trust domain, one below it, or one beside it in the same domain."""
    host = urlsplit(setup.settings.broker.issuer).hostname or ""
    domain = setup.own_id.trust_domain
    if _related(host, domain):
        return ok(f"{setup.settings.broker.issuer} belongs to the trust domain {domain}")
    return problem(
        f"the issuer {setup.settings.broker.issuer} and the trust domain {domain} have no name in common",
        why="One of them is often left over from an example. The issuer stands in every token and names the audit log, "
        "so it cannot be changed later without both ending.",
        fix=f'Set [broker] issuer to a name of yours, such as "https://broker.{domain}"; when both are meant so, '
        "--accept issuer-name.",
    )


def _related(host: str, domain: str) -> bool:
    one, other = host.split("."), domain.split(".")
    shared = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        shared += 1
    # Two labels make a name of one's own; a trust domain of one label has to be the host's last.
    return shared >= min(2, len(other))


CHECKS: Final = (
    Check(id="config", look=config),
    Check(id="config-mode", look=config_mode, above=("config",)),
    Check(id="issuer-name", look=issuer_name, above=("config",)),
)
