"""Checks of who persons are: the issuers whose word counts, and the persons of the bundle that they are for."""

import stat
from typing import Final

from broker.cli.doctor.finding import Check, Finding, ok, problem, warning
from broker.cli.doctor.places import quoted
from broker.cli.doctor.setup import Setup
from broker.person.identity_token import Provider
from broker.person.source import WELL_KNOWN, FetchProblem, ProviderSource, fetch_keys
from broker.policy.persons import everybody

_NONE: Final = "the configuration names no identity issuer; persons come by their operators' SVIDs"


def identity_issuers(setup: Setup) -> Finding:
    """Each issuer answers, is the one that it is to be, and publishes keys that can be used."""
    count = 0
    for each in setup.settings.oidc:
        if each.ca_file is not None and each.ca_file.is_file() and each.ca_file.stat().st_mode & stat.S_IWOTH:
            return problem(
                f"anybody may write {each.ca_file}",
                why="Whoever writes it decides who answers as the issuer, and so who is which person.",
                fix=f"chmod o-w {quoted(each.ca_file)}",
            )
        provider = Provider(issuer=each.issuer)
        try:
            count += len(fetch_keys(ProviderSource(provider=provider, ca_file=each.ca_file)))
        except FetchProblem as failure:
            return problem(
                f"no keys of {each.issuer}: {failure}",
                why="Its identity tokens are refused with IDENTITY_UNAVAILABLE: nobody can approve by one.",
                fix=f"curl {each.issuer.removesuffix('/')}{WELL_KNOWN}; then correct [[oidc]] issuer or ca_file.",
            )
    issuers = len(setup.settings.oidc)
    return ok(f"identity issuers: {issuers}, with {count} usable keys" if issuers else _NONE)


def persons(setup: Setup) -> Finding:
    """The issuers of the persons' identities are configured, and each that is configured knows somebody."""
    policy = setup.compiled
    known = {identity.issuer for person in policy.register.persons.values() for identity in person.identities}
    customers = {each.issuer for kind in policy.register.task_types.values() for each in kind.customers}
    configured = {each.issuer for each in setup.settings.oidc}
    if missing := sorted(known - configured):
        return warning(
            f"persons of the bundle are known to issuers that the configuration does not name: {', '.join(missing)}",
            why="Their identity tokens are refused.",
            fix=f"Add an [[oidc]] with that issuer to {setup.config}, byte for byte, and restart the broker.",
        )
    if idle := sorted(configured - known - customers):
        return warning(
            f"no person or customer of the bundle is known to {', '.join(idle)}",
            why="Whoever comes with its token is refused with PERSON_UNKNOWN.",
            fix=f"Give a [[person]] of {setup.settings.policy.dir} an identity there, or remove the [[oidc]].",
        )
    return ok(f"persons: {len(everybody(policy.register))}, each operator that nobody claims among them")


CHECKS: Final = (
    Check(id="identity-issuers", look=identity_issuers, above=("config",)),
    Check(id="persons", look=persons, above=("policy-loads",)),
)
