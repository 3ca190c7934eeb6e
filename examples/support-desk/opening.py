"""The first steps: SPIRE, the broker, and who everybody is."""

from datetime import UTC, datetime

from narrator import Narrator, require
from stage import BROKER_ID, PARTNER, TRUST_DOMAIN, WORKLOADS, Stage


def spire_comes_up(narrator: Narrator, stage: Stage) -> None:
    """Start SPIRE for two trust domains."""
    narrator.begin("SPIRE comes up")
    narrator.asked(f"a SPIRE server and agent for {TRUST_DOMAIN}, and for {PARTNER}, which it federates with")
    deployment = stage.start_spire()
    require(deployment.running(), "SPIRE's servers and agents run")
    trusted = {name: deployment.bundle(name) for name in (TRUST_DOMAIN, PARTNER)}
    require(all('"keys"' in bundle for bundle in trusted.values()), "each server has a trust bundle")
    ports = ", ".join(f"{here.name} on port {here.server_port}" for here in deployment.trust_domains)
    narrator.came_back(f"two servers ({ports}), two agents")
    narrator.note(f"{len(WORKLOADS)} workloads are registered, each by the path of the program it runs")


def broker_comes_up(narrator: Narrator, stage: Stage) -> None:
    """Start the broker, and see who answers."""
    narrator.begin("The broker comes up, known to SPIRE by its own SVID")
    narrator.asked("broker serve: issuer (keys, policy, log) and door (gRPC) as processes of their own")
    sign_in = stage.start_sign_in()
    said = stage.start_broker(sign_in)
    narrator.came_back(said)
    narrator.note(f"customers sign in at {sign_in}, by OpenID Connect: the broker knows it, SPIRE does not")
    halves = {role: stage.process_of(role) for role in ("_issuer", "_door")}
    require(all(halves.values()), "issuer and door are processes of their own")
    narrator.note(f"issuer is process {halves['_issuer']}, door is process {halves['_door']}")
    stage.start_workloads()
    keys = stage.workers["security"].get("keys")
    require(keys["issuer"].startswith("https://"), "the broker publishes its keys")
    narrator.decided(f"the caller's TLS handshake went through only because {BROKER_ID} answered", good=True)


def agents_have_svids(narrator: Narrator, stage: Stage) -> None:
    """Ask each process who SPIRE says it is."""
    narrator.begin("The support assistant gets its SVID")
    narrator.asked("the Workload API, with no secret: who am I?")
    found = {name: stage.workers[name].get("identity") for name in ("support-assistant", "wholesale-assistant")}
    for name, identity in found.items():
        require(identity["spiffe_id"] == WORKLOADS[name], f"{name} is {WORKLOADS[name]}")
        require(identity["program"] == str(stage.interpreters[name]), f"{name} runs its own program")
    own = found["support-assistant"]
    require(PARTNER in own["trusts"], f"the assistant trusts {PARTNER} too")
    narrator.decided(f"SPIRE's agent looked at the process: it runs {_short(own['program'])}", good=True)
    minutes = (datetime.fromisoformat(own["not_after"]) - datetime.now(UTC)).total_seconds() / 60
    narrator.came_back(f"an X.509-SVID: {own['spiffe_id']}, for {minutes:.0f} minutes")
    narrator.note(f"its key's certificate, as credentials will name it: {own['thumbprint']}")
    narrator.note("the same way: the wholesale assistant, the orders service, the security desk")


def _short(program: str) -> str:
    return "…/" + "/".join(program.split("/")[-3:])
