"""Checks of the SPIRE agent and of what it gives: an SVID that is ours, in time and vouched for; bundles; the clock."""

import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from broker.cli.doctor.finding import Check, Finding, Level, ok, problem, warning
from broker.cli.doctor.policy import trust_domains
from broker.cli.doctor.setup import Setup
from broker.cli.doctor.workload import Given, NotGiven, Offer
from broker.errors import Refusal
from broker.store.interface import StoreUnavailable
from broker.svid.authenticate import SvidVerifier
from broker.svid.leaf import UnverifiedSvid, examine

LEEWAY: Final = timedelta(seconds=5)
_NOBODY: Final = "Without an SVID the broker can prove itself to nobody; it does not start."
_UNIX: Final = "unix:"


def workload_socket(setup: Setup) -> Finding:
    """There is a socket where the SPIRE agent is to answer."""
    named = setup.workload_socket
    if not named:
        return problem(
            "neither [workload_api] socket nor SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers",
            why=_NOBODY,
            fix='Set [workload_api] socket = "unix:/run/spire/agent.sock" to the socket that your agent serves '
            "(socket_path in agent.conf).",
        )
    path = Path(named.removeprefix(_UNIX))
    if not named.startswith(_UNIX) or not path.is_absolute():
        return problem(
            f"{named} is no unix socket",
            why="An answer over the network would be anybody's.",
            fix="Write it as unix:/path/to/agent.sock.",
        )
    try:
        found = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        found = False
    if not found:
        return problem(
            f"there is no socket at {path}",
            why=_NOBODY,
            fix=f"Start the SPIRE agent, or name the socket that it serves: spire-agent healthcheck -socketPath {path}",
        )
    return ok(f"{path} is a socket")


def workload_api(setup: Setup) -> Finding:
    """The SPIRE agent answers."""
    for _, _, answer in setup.workloads:
        if isinstance(answer, NotGiven) and not answer.denied:
            return problem(
                f"the SPIRE agent does not answer: {answer.detail}",
                why=_NOBODY,
                fix=f"spire-agent healthcheck -socketPath {setup.workload_socket.removeprefix(_UNIX)}",
            )
    return ok("the SPIRE agent answers")


def workload_entry(setup: Setup) -> Finding:
    """SPIRE has an entry for this process, or for each half's user."""
    given = []
    for name, uid, answer in setup.workloads:
        if isinstance(answer, NotGiven) or not answer.offers:
            return _no_entry(setup, name, uid)
        given.append(f"{name} {len(answer.offers)} SVID{'s' if len(answer.offers) > 1 else ''}")
    return ok(f"SPIRE gives {' and '.join(given)}")


def _no_entry(setup: Setup, name: str, uid: int) -> Finding:
    if len(setup.workloads) > 1:
        return problem(
            f"SPIRE has no entry for {name}, user {uid} (PERMISSION_DENIED)",
            why="Issuer and door each take the broker's SVID and the trust bundles from SPIRE; neither starts without.",
            fix=f"{_create(setup, uid)}: one entry for each half's user, both of the same SPIFFE ID.",
        )
    return problem(
        "SPIRE has no entry for this process (PERMISSION_DENIED)",
        why=_NOBODY + " The agent judges `broker doctor` by its own user and path.",
        fix=f"{_create(setup, uid)}; when there is one, run `broker doctor` as the user that it names. A new one "
        "reaches the agent within seconds.",
    )


def _create(setup: Setup, uid: int) -> str:
    return (
        f"spire-server entry create -spiffeID {setup.own_id} -parentID <the agent's SPIFFE ID> -selector unix:uid:{uid}"
    )


def svid_choice(setup: Setup) -> Finding:
    """The broker's own SVID is among those given, once, and no other is."""
    found = [_choice(setup, name, uid, answer) for name, uid, answer in setup.workloads if isinstance(answer, Given)]
    return next((each for each in found if each.level is not Level.OK), found[-1])


def _choice(setup: Setup, name: str, uid: int, given: Given) -> Finding:
    own = setup.own_id
    names = ", ".join(offer.spiffe_id for offer in given.offers)
    matching = given.own(str(own))
    if not matching:
        return _not_ours(setup, uid, given, names)
    if len(matching) > 1:
        return problem(
            f"SPIRE gives {name} {len(matching)} SVIDs of {own}",
            why="Nothing says which one is meant, so the broker does not start.",
            fix=f"spire-server entry show -spiffeID {own}, then spire-server entry delete -entryID <one of them>",
        )
    if len(given.offers) > 1:
        return warning(
            f"{name} has several SVIDs: {names}",
            why="The broker takes its own by name. But whoever matches these selectors can be each of them.",
            fix=f"spire-server entry show -selector unix:uid:{uid}, and give each workload selectors of its own.",
        )
    return ok(f"SPIRE gives {own}, and nothing else")


def _not_ours(setup: Setup, uid: int, given: Given, names: str) -> Finding:
    own = setup.own_id
    domains = {offer.spiffe_id.removeprefix("spiffe://").partition("/")[0] for offer in given.offers}
    if own.trust_domain not in domains:
        return problem(
            f"this SPIRE is of the trust domain {', '.join(sorted(domains))}; the configuration names {own}",
            why="The broker would wait for an SVID that this SPIRE never gives.",
            fix=f'Set [broker] spiffe_id to an ID of that trust domain, such as "{given.offers[0].spiffe_id}", or '
            "[workload_api] socket to the right agent.",
        )
    return problem(
        f"SPIRE gives {names}, not {own}",
        why=_NOBODY,
        fix=f"{_create(setup, uid)}, or set [broker] spiffe_id to what is given.",
    )


def svid_form(setup: Setup) -> Finding:
    """The SVID is one that peers accept."""
    offer = _own(setup)
    defect = offer.defect
    if not defect:
        try:
            examine(offer.leaf, offer.chain)
        except Refusal as refusal:
            defect = f"{refusal.reason.name} {refusal.detail}".strip()
    if defect:
        return problem(
            f"the SVID is not as an X.509-SVID has to be: {defect}",
            why="Agents and services refuse it.",
            fix="See how the SPIRE server signs: ca_key_type ec-p256, ec-p384 or rsa-2048 to rsa-4096, and no "
            "credential composer that changes leaves.",
        )
    return ok("the SVID has the right form")


def svid_time(setup: Setup) -> Finding:
    """The SVID has not ended."""
    end = _examined(setup).not_after
    if setup.now >= end:
        return problem(
            f"the SVID ended at {end:%Y-%m-%d %H:%M:%S} UTC",
            why="Nobody accepts it. The agent hands out what it could not renew, or this machine's clock is ahead.",
            fix="spire-agent healthcheck, and the agent's log; for the clock: timedatectl",
        )
    return ok(f"the SVID is valid until {end:%Y-%m-%d %H:%M:%S} UTC")


def trust_bundle(setup: Setup) -> Finding:
    """There is a bundle of the own trust domain, with an authority that is in time."""
    domain = setup.own_id.trust_domain
    authorities = _given(setup).bundles.authorities.get(domain, ())
    if not authorities:
        return problem(
            f"SPIRE gives no trust bundle of {domain}",
            why="Without it nobody can be verified, and every call is refused.",
            fix="spire-server bundle show, then restart the SPIRE agent.",
        )
    now = setup.now
    if not any(each.not_valid_before_utc - LEEWAY <= now < each.not_valid_after_utc for each in authorities):
        return problem(
            f"no authority of the trust bundle of {domain} is valid now",
            why="Nobody can be verified, and every call is refused.",
            fix="spire-server bundle show; for the clock: timedatectl",
        )
    return ok(f"{len(authorities)} authorit{'y' if len(authorities) == 1 else 'ies'} for {domain}")


def svid_chain(setup: Setup) -> Finding:
    """The bundle vouches for the SVID."""
    offer, now = _own(setup), setup.now
    try:
        SvidVerifier().verify(offer.leaf, offer.chain, _given(setup).bundles, max(now, _examined(setup).not_before))
    except Refusal as refusal:
        return problem(
            f"the trust bundle does not vouch for the SVID: {refusal.reason.name}",
            why="Agents and services refuse the broker; two SPIRE servers of one trust domain's name look like this.",
            fix="spire-server bundle show, and compare: the agent's trust_bundle_path may be another server's.",
        )
    return ok("the trust bundle vouches for the SVID")


def federation(setup: Setup) -> Finding:
    """There is a bundle for each trust domain that the policy names."""
    policy = setup.compiled
    missing = sorted(trust_domains(policy) - set(_given(setup).bundles.authorities) - {setup.own_id.trust_domain})
    if missing:
        options = " ".join(f"-federatesWith spiffe://{domain}" for domain in missing)
        return problem(
            f"the policy names {', '.join(missing)}, and SPIRE gives no trust bundle of it",
            why="Everybody of that trust domain is refused (SVID_TRUST_DOMAIN_UNKNOWN).",
            fix=f"spire-server entry update -entryID <the broker's> ... {options}; and federate the servers.",
        )
    return ok("there is a trust bundle for each trust domain that the policy names")


def clock(setup: Setup) -> Finding:
    """This machine's clock is not behind what others have signed and the log has recorded."""
    now = setup.now
    begin = _beginning(setup)
    if begin is not None and begin > now + LEEWAY:
        return problem(
            f"the clock is behind: the SVID begins only at {begin:%Y-%m-%d %H:%M:%S} UTC",
            why="Tokens would be dated wrongly, and what has expired would pass.",
            fix="timedatectl set-ntp true",
        )
    try:
        newest = setup.stored.newest if setup.stored else None
    except StoreUnavailable:
        newest = None  # store-content says so
    if newest is not None and newest > now + LEEWAY:
        return problem(
            f"the clock is behind: the newest event of the log is of {newest:%Y-%m-%d %H:%M:%S} UTC",
            why="Credentials that have expired would pass again, and the log would no longer be in order of time.",
            fix="timedatectl set-ntp true",
        )
    return ok(f"it is {now:%Y-%m-%d %H:%M:%S} UTC; nothing that was signed or logged is later")


def _beginning(setup: Setup) -> datetime | None:
    path = Path(setup.workload_socket.removeprefix(_UNIX))
    if not setup.workload_socket.startswith(_UNIX) or not path.is_socket() or isinstance(setup.workload, NotGiven):
        return None
    try:
        begins = [examine(offer.leaf, offer.chain).not_before for offer in setup.workload.offers if offer.leaf]
    except Refusal:
        return None  # svid-form says so
    return max(begins, default=None)


def _given(setup: Setup) -> Given:
    if isinstance(setup.workload, NotGiven):
        raise AssertionError("this check stands above workload-entry")  # noqa: TRY004  # a defect of ours
    return setup.workload


def _own(setup: Setup) -> Offer:
    (own, *_) = _given(setup).own(str(setup.own_id))
    return own


def _examined(setup: Setup) -> UnverifiedSvid:
    offer = _own(setup)
    return examine(offer.leaf, offer.chain)


CHECKS: Final = (
    Check(id="workload-socket", look=workload_socket, above=("config",)),
    Check(id="workload-api", look=workload_api, above=("workload-socket", "issuer-reach", "door-reach")),
    Check(id="workload-entry", look=workload_entry, above=("workload-api",)),
    Check(id="svid-choice", look=svid_choice, above=("workload-entry",)),
    Check(id="svid-form", look=svid_form, above=("svid-choice",)),
    Check(id="svid-time", look=svid_time, above=("svid-form",)),
    Check(id="trust-bundle", look=trust_bundle, above=("workload-entry",)),
    Check(id="svid-chain", look=svid_chain, above=("svid-time", "trust-bundle")),
    Check(id="federation", look=federation, above=("workload-entry", "policy-loads")),
    Check(id="clock", look=clock, above=("config",)),
)
