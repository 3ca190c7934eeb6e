"""Each broken set-up is made for real; the doctor names it, by its check, with its fix, and everything else is well."""

import fcntl
import os
import socket
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from broker.credential.keys import thumbprint
from broker.override import Override, Stop, StopKind
from broker.store.interface import AddOverride, Item
from tests.cli.setups import House, invoke, listener, now, open_store, served
from tests.fakes.oidc_issuer import OidcIssuer, certificates
from tests.fakes.trust_domain import AUTHORITY_USAGE, TrustDomain
from tests.fakes.workload_api import Given

Break = Callable[[House], None]


def test_a_healthy_set_up_is_all_green(house: House) -> None:
    status, found = house.doctor()
    assert (status, {each["level"] for each in found.values()}) == (0, {"ok"})
    assert len(found) >= 25


def test_a_set_up_that_has_served_is_all_green(house: House) -> None:
    served(house)
    before = tree(house.folder)
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})
    assert int(found["store-content"]["what"].partition(" events")[0]) > 0
    assert "all 2 keys" in found["key-ring"]["what"]
    assert "is there" in found["checkpoint-key"]["what"]
    assert tree(house.folder) == before, "it looks only"


def test_a_store_of_the_release_before_is_all_green(house: House) -> None:
    of_an_earlier_release(house, same_key=True)
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})
    assert "is the one that signed" in found["checkpoint-key"]["what"]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its mode and the time of its last change."""
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


# --- configuration --------------------------------------------------------------------------------------------------


def config_others_write(house: House) -> None:
    house.config.chmod(0o666)


def issuer_of_another(house: House) -> None:
    house.edit("https://broker.example.org", "https://tokens.acme.internal")


# --- files ----------------------------------------------------------------------------------------------------------


def admin_path_too_long(house: House) -> None:
    house.edit("/data/door/admin.sock", f"/data/{'x' * 108}.sock")


def admin_path_taken(house: House) -> None:
    (house.door / "admin.sock").write_text("not a socket")


def store_nowhere(house: House) -> None:
    house.edit("/data/issuer/broker.sqlite3", "/nowhere/broker.sqlite3")


def store_read_by_others(house: House) -> None:
    open_store(house).close()
    house.store.chmod(0o644)


def store_is_a_link(house: House) -> None:
    house.store.symlink_to(house.folder / "elsewhere")


def store_replaceable(house: House) -> None:
    (house.data / "open").mkdir()
    (house.data / "open").chmod(0o777)
    house.edit("/data/issuer/broker.sqlite3", "/data/open/broker.sqlite3")


def store_locked(house: House) -> None:
    descriptor = os.open(f"{house.store}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, b"4711\n")
    house.kept.append(descriptor)


def store_held_by_another_broker(house: House) -> None:
    house.kept.append(open_store(house))


def store_is_something_else(house: House) -> None:
    house.store.write_bytes(b"not a database " * 100)
    house.store.chmod(0o600)


def store_tampered(house: House) -> None:
    served(house)
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("UPDATE event SET content = x'7b7d' WHERE position = 0")


def store_of_a_later_release(house: House) -> None:
    open_store(house).close()
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (9000, 'later')")


def everything_stopped(house: House) -> None:
    store = open_store(house)
    stop = Stop(kind=StopKind.EVERYTHING)
    override = Override(id="ovr_1", stop=stop, at=now(), by="spiffe://example.org/operator/security", text="a test")
    store.commit([Item(writes=(AddOverride(override=override),))])
    store.close()


# --- keys -----------------------------------------------------------------------------------------------------------


def keys_directory_open(house: House) -> None:
    house.keys.mkdir(mode=0o755)


def keys_directory_is_a_link(house: House) -> None:
    (house.folder / "real").mkdir(mode=0o700)
    house.keys.symlink_to(house.folder / "real")


def key_read_by_others(house: House) -> None:
    served(house)
    next(house.keys.glob("checkpoint-*.pem")).chmod(0o640)


def key_garbage(house: House) -> None:
    house.keys.mkdir(mode=0o700)
    (house.keys / "checkpoint.pem").touch(0o600)


def key_misnamed(house: House) -> None:
    house.keys.mkdir(mode=0o700)
    write_key(house.keys / f"{'A' * 43}.pem", ec.generate_private_key(ec.SECP256R1()))


def key_gone(house: House) -> None:
    served(house)
    for path in house.keys.glob("*.pem"):
        if not path.name.startswith("checkpoint-"):
            path.unlink()


def checkpoint_key_gone(house: House) -> None:
    served(house)
    for path in house.keys.glob("checkpoint-*.pem"):
        path.unlink()


def checkpoint_key_misnamed(house: House) -> None:
    house.keys.mkdir(mode=0o700)
    write_key(house.keys / f"checkpoint-{'A' * 43}.pem", ed25519.Ed25519PrivateKey.generate())


def of_an_earlier_release(house: House, *, same_key: bool) -> None:
    """Leave a store and a checkpoint key as a release left them that had one for good."""
    served(house)
    with closing(sqlite3.connect(house.store)) as connection, connection:
        (kid,) = connection.execute(
            "SELECT kid FROM key_ring WHERE use = 'checkpoint' AND state = 'current'"
        ).fetchone()
        connection.execute("DELETE FROM key_ring WHERE use = 'checkpoint'")
        for column in ("use", "published", "activated", "until", "endorsement"):
            connection.execute(f"ALTER TABLE key_ring DROP COLUMN {column}")
        connection.execute("DROP TABLE key_request")
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    path = house.keys / "checkpoint.pem"
    (house.keys / f"checkpoint-{kid}.pem").rename(path)
    for left in house.keys.glob("checkpoint-*.pem"):
        left.unlink()
    if not same_key:
        write_key(path, ed25519.Ed25519PrivateKey.generate())


def checkpoint_key_replaced(house: House) -> None:
    of_an_earlier_release(house, same_key=False)


def key_put_back(house: House) -> None:
    served(house)
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("UPDATE key_ring SET state = 'removed' WHERE use = 'token' AND state = 'next'")


def key_of_nobody(house: House) -> None:
    served(house)
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(house.keys / f"{thumbprint(key.public_key())}.pem", key)


def rotation_overdue(house: House) -> None:
    served(house)
    month = 31 * 24 * 3600 * 10**6
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("UPDATE key_ring SET since = since - ? WHERE use = 'token'", (month,))


def next_key_of_a_clock_ahead(house: House) -> None:
    served(house)
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("UPDATE key_ring SET since = since + 3600000000 WHERE use = 'token' AND state = 'next'")


def checkpoint_rotation_overdue(house: House) -> None:
    served(house)
    house.edit('# rotate_checkpoints_every = "P365D"', 'rotate_checkpoints_every = "P1D"')
    with closing(sqlite3.connect(house.store)) as connection, connection:
        connection.execute("UPDATE key_ring SET since = since - 90000000000 WHERE use = 'checkpoint'")


def issuer_renamed(house: House) -> None:
    served(house)
    house.edit("https://broker.example.org", "https://tokens.example.org")


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    path.chmod(0o600)


# --- policy ---------------------------------------------------------------------------------------------------------


def policy_nowhere(house: House) -> None:
    house.edit("/policy", "/no-policy")


def policy_others_write(house: House) -> None:
    (house.policy / "policies.cedar").chmod(0o666)


def policy_does_not_load(house: House) -> None:
    house.edit("permit (", "permitt (", file=house.policy / "policies.cedar")


def policy_golden_case_fails(house: House) -> None:
    house.edit("amount > 5000", "amount > 5001", file=house.policy / "policies.cedar")
    house.edit('"max\\": 5000', '"max\\": 9000', file=house.policy / "policies.cedar")


def policy_without_owner(house: House) -> None:
    another_agent(house, "spiffe://example.org/agent/orphan", ('"Information Security"', '""'))


def policy_nobody_may_stop(house: House) -> None:
    without_golden_cases_of(house, "operator")
    for role in ("security", "duty"):
        without_policy(house, f"{role}-stops-and-lets-go-on")


def without_policy(house: House, name: str) -> None:
    text = (house.policy / "policies.cedar").read_text()
    before, at, rest = text.partition(f'@id("{name}")')
    assert at
    (house.policy / "policies.cedar").write_text(before + rest.partition(";\n")[2])


def policy_without_redemption(house: House) -> None:
    without_policy(house, "services-redeem-what-is-for-them")


def policy_without_reports(house: House) -> None:
    without_policy(house, "services-report-their-own-outcomes")


def policy_that_lets_another_redeem(house: House) -> None:
    text = (house.policy / "policies.cedar").read_text()
    before, at, rest = text.partition('@id("services-redeem-what-is-for-them")')
    assert at
    changed = rest.replace("resource == principal", "resource != principal", 1)
    (house.policy / "policies.cedar").write_text(before + at + changed)


def policy_without_a_second_person(house: House) -> None:
    without_golden_cases_of(house, "duty")
    entities = house.policy / "entities.toml"
    entities.write_text(entities.read_text().partition("# The second person")[0])
    text = (house.policy / "policies.cedar").read_text().replace('\\"duty\\"', '\\"security\\"')
    before, _, rest = text.partition('@id("duty-stops-and-lets-go-on")')
    text = (before + rest.partition(");\n")[2]).replace('Role::"duty"', 'Role::"security"')
    (house.policy / "policies.cedar").write_text(text)


def policy_with_one_person_for_both(house: House) -> None:
    domain = house.domain.name
    both = ", ".join(f'"spiffe://{domain}/operator/{name}"' for name in ("security", "duty"))
    with (house.policy / "entities.toml").open("a") as entities:
        entities.write(f'\n[[person]]\nname = "ana"\nall_tenants = true\ngroups = ["duty"]\nspiffe_ids = [{both}]\n')


def identity_issuer(house: House) -> OidcIssuer:
    """An issuer that answers, configured, with a person who is known to it."""
    (house.folder / "oidc").mkdir()
    issuer = OidcIssuer(folder=house.folder / "oidc").start()
    house.kept.append(issuer)
    with house.config.open("a") as config:
        config.write(f'\n[[oidc]]\nissuer = "{issuer.url}"\naudience = "a"\nca_file = "{issuer.ca_file}"\n')
    person(house, issuer.url)
    return issuer


def person(house: House, issuer: str) -> None:
    identities = f'[{{ issuer = "{issuer}", subject = "1" }}]'
    with (house.policy / "entities.toml").open("a") as entities:
        entities.write(f'\n[[person]]\nname = "ben"\nall_tenants = true\nidentities = {identities}\n')


def test_an_identity_issuer_that_answers_is_well(house: House) -> None:
    identity_issuer(house)
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})
    assert found["identity-issuers"]["what"] == "identity issuers: 1, with 1 usable keys"


def issuer_down(house: House) -> None:
    identity_issuer(house).stop()


def issuer_of_another_name(house: House) -> None:
    identity_issuer(house).document = {"issuer": "https://login.example.org"}


def issuer_without_keys(house: House) -> None:
    identity_issuer(house).keys = []


def issuer_of_another_authority(house: House) -> None:
    identity_issuer(house).ca_file.write_bytes(certificates(("127.0.0.1",))[0])


def authorities_others_write(house: House) -> None:
    identity_issuer(house).ca_file.chmod(0o666)


def person_of_an_unconfigured_issuer(house: House) -> None:
    person(house, "https://login.example.org")


def issuer_that_knows_nobody(house: House) -> None:
    identity_issuer(house)
    entities = house.policy / "entities.toml"
    entities.write_text(entities.read_text().partition("[[person]]")[0])


def customers_of(house: House, *, issuer: str, audience: str = "shop", permitted: bool = True) -> None:
    """Let the first bundle's service begin tasks for customers of an issuer."""
    service = "spiffe://example.org/service/orders"
    sign_in = f'{{ front_end = "{service}", issuer = "{issuer}", audience = "{audience}" }}'
    kind = f'name = "customer-case"\nbegun_by = ["agent", "{service}"]\ncustomers = [{sign_in}]'
    house.edit('name = "customer-case"', kind, file=house.policy / "entities.toml")
    rule = f'permit (principal == Service::"{service}", action == Action::"broker.approval.confirm", resource is Task);'
    if permitted:
        with (house.policy / "policies.cedar").open("a") as policies:
            policies.write(f'\n@id("customers")\n{rule}\n')


def test_customers_of_an_issuer_are_well(house: House) -> None:
    issuer = identity_issuer(house)
    customers_of(house, issuer=issuer.url)
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})
    assert found["customers"]["what"] == "customers: of 1 clients of their issuers"


def customers_of_an_unconfigured_issuer(house: House) -> None:
    customers_of(house, issuer="https://login.example.org")


def customers_by_another_claim(house: House) -> None:
    customers_of(house, issuer=identity_issuer(house).url)
    with house.config.open("a") as config:
        config.write('subject_claim = "email"\n')


def customers_of_the_approvers_client(house: House) -> None:
    customers_of(house, issuer=identity_issuer(house).url, audience="a")


def customers_whom_nobody_may_bring(house: House) -> None:
    customers_of(house, issuer=identity_issuer(house).url, permitted=False)


TOOL = "spiffe://example.org/service/orders"
ANSWERS = 'action in [Action::"broker.approval.decide", Action::"broker.approval.read"],\n    resource is Task\n);'


def group_that_may_not_answer(house: House) -> None:
    without_golden_cases_of(house, "duty")
    without_policy(house, "duty-answers-held-requests")


def group_that_may_only_look(house: House) -> None:
    looks = ANSWERS.replace('Action::"broker.approval.decide", ', "")
    without_golden_cases_of(house, "duty")
    house.edit(ANSWERS, looks, file=house.policy / "policies.cedar")


def group_of_whom_too_few_may_answer(house: House) -> None:
    with (house.policy / "entities.toml").open("a") as entities:
        entities.write(
            '\n[[operator]]\nspiffe_id = "spiffe://example.org/operator/ben"\nroles = ["helper"]\nall_tenants = true\n'
            '\n[[person]]\nname = "ben"\nall_tenants = true\ngroups = ["duty"]\n'
            'spiffe_ids = ["spiffe://example.org/operator/ben"]\n'
        )
    house.edit('\\"duty\\",', '\\"duty\\", \\"quorum\\": 2,', file=house.policy / "policies.cedar")


def group_at_the_end_of_an_escalation(house: House) -> None:
    with (house.policy / "entities.toml").open("a") as entities:
        entities.write('\n[[approver_group]]\nname = "duty"\nescalate_to = "security"\nescalate_after = "PT10M"\n')


def drifting(house: House) -> None:
    """Let the operators of security be told when a task of the first bundle's type drifts."""
    drift = 'drift = { refusals = 3, within = "PT10M", then = "suspend", escalate_to = "security" }'
    house.edit('maximum_age = "PT8H"', f'maximum_age = "PT8H"\n{drift}', file=house.policy / "entities.toml")


def group_that_drift_is_told_to_in_vain(house: House) -> None:
    drifting(house)
    without_policy(house, "security-resumes-tasks")


def test_who_may_resume_tasks_needs_no_right_to_decide(house: House) -> None:
    drifting(house)
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})
    assert found["groups"]["what"] == "groups that are asked, and may answer: 2"


def test_a_group_that_answers_by_tokens_through_a_tool_is_well(house: House) -> None:
    group_that_may_not_answer(house)
    identity_issuer(house)
    house.edit('name = "ben"', 'name = "ben"\ngroups = ["duty"]', file=house.policy / "entities.toml")
    assert house.doctor()[1]["groups"]["level"] == "warning"
    with (house.policy / "policies.cedar").open("a") as policies:
        policies.write(f'\n@id("tool")\npermit (\n    principal == Service::"{TOOL}",\n    {ANSWERS}\n')
    status, found = house.doctor()
    assert (status, {name: each for name, each in found.items() if each["level"] != "ok"}) == (0, {})


def test_a_group_that_may_not_answer_is_named_with_who_and_what(house: House) -> None:
    group_that_may_only_look(house)
    (said,) = [each["what"] for name, each in house.doctor()[1].items() if name == "groups"]
    assert said == (
        "group duty (spiffe://example.org/operator/duty) is asked about what policy "
        "assistant-may-refund-more-once-approved holds, and no policy lets any of them do broker.approval.decide"
    )


def without_golden_cases_of(house: House, word: str) -> None:
    golden = house.policy / "golden.toml"
    head, *cases = golden.read_text().split("[[case]]")
    golden.write_text("[[case]]".join([head, *(case for case in cases if f"{word}" not in case)]))


def another_agent(house: House, spiffe_id: str, *changes: tuple[str, str]) -> None:
    """Register an agent like the first one."""
    text = (house.policy / "entities.toml").read_text()
    block = text.partition("[[agent]]")[2].partition("# What credentials")[0]
    for old, new in (("spiffe://example.org/agent/assistant", spiffe_id), *changes):
        assert old in block
        block = block.replace(old, new)
    (house.policy / "entities.toml").write_text(f"{text}\n[[agent]]{block}")


def policy_of_another_trust_domain(house: House) -> None:
    for path in house.policy.iterdir():
        path.write_text(path.read_text().replace("spiffe://example.org", "spiffe://acme.internal"))
    house.spire.give(given(house), federated=(TrustDomain("acme.internal"),))


def given(house: House, path: str = "/broker", **form: object) -> Given:
    return Given(svid=house.domain.svid(path, **form), domain=house.domain)  # type: ignore[arg-type]  # a Form's words


# --- SPIRE ----------------------------------------------------------------------------------------------------------


def socket_not_named(house: House) -> None:
    house.edit(f'socket = "{house.spire.socket}"', "")


def socket_gone(house: House) -> None:
    house.spire.stop()


def agent_dead(house: House) -> None:
    house.spire.stop()
    path = house.spire.socket.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as left:  # the file stays when its process is gone
        left.bind(path)


def agent_refuses(house: House) -> None:
    house.spire.refuse(grpc.StatusCode.INTERNAL)


def no_entry(house: House) -> None:
    house.spire.refuse()


def entry_of_another(house: House) -> None:
    house.spire.give(given(house, "/agent/assistant"))


def wrong_trust_domain(house: House) -> None:
    other = TrustDomain("acme.internal")
    house.spire.give_svid(other.svid("/broker"), other, house.domain)


def several_svids(house: House) -> None:
    house.spire.give(given(house), given(house, "/agent/assistant"))


def same_svid_twice(house: House) -> None:
    house.spire.give(given(house), given(house))


def svid_can_sign(house: House) -> None:
    house.spire.give(given(house, usage=AUTHORITY_USAGE))


def svid_of_a_weak_key(house: House) -> None:
    house.spire.give(given(house, key="p521"))


def svid_expired(house: House) -> None:
    house.spire.give(given(house, start=timedelta(hours=-2), ttl=timedelta(minutes=-1)))


def bundle_missing(house: House) -> None:
    one = given(house)
    house.domain.authorities.clear()
    house.spire.give(one)


def bundle_expired(house: House) -> None:
    old = TrustDomain("example.org", authorities=[])
    old.authorities.clear()
    old.add_authority(start=timedelta(days=-2), ttl=timedelta(days=-1))
    house.spire.give(Given(svid=old.svid("/broker"), domain=old))


def bundle_of_another_server(house: House) -> None:
    house.spire.give(Given(svid=house.domain.svid("/broker"), domain=TrustDomain("example.org")))


def federated_bundle_missing(house: House) -> None:
    another_agent(house, "spiffe://partner.example/agent/courier")


def clock_behind_spire(house: House) -> None:
    house.spire.give(given(house, start=timedelta(minutes=10), ttl=timedelta(hours=1)))


def clock_behind_the_log(house: House) -> None:
    from tests.cli.events import started_at  # noqa: PLC0415

    started_at(house, timedelta(minutes=10))


# --- ports ----------------------------------------------------------------------------------------------------------


def port_taken(house: House) -> None:
    house.kept.append(listener(house.port))


def address_of_another_machine(house: House) -> None:
    house.edit(f"127.0.0.1:{house.port}", f"192.0.2.1:{house.port}")


def address_without_a_port(house: House) -> None:
    house.edit(f"127.0.0.1:{house.port}", "127.0.0.1:0")


def admin_socket_of_something_else(house: House) -> None:
    house.edit('# call_deadline = "PT10S"', 'call_deadline = "PT0.1S"')
    mute = socket.socket(socket.AF_UNIX)
    mute.bind(str(house.door / "admin.sock"))
    mute.listen()
    house.kept.append(mute)


# check, level, how it is broken, and what the fix says.
BROKEN: list[tuple[str, str, Break, str]] = [
    ("config-mode", "problem", config_others_write, "chmod go-w "),
    ("issuer-name", "problem", issuer_of_another, '"https://broker.example.org"'),
    ("admin-socket", "problem", admin_path_too_long, "shorter path"),
    ("admin-socket", "problem", admin_path_taken, "mv "),
    ("store-file", "problem", store_nowhere, "mkdir -p -m 700 "),
    ("store-file", "problem", store_read_by_others, "chmod 600 "),
    ("store-file", "problem", store_is_a_link, "the file itself"),
    ("store-file", "problem", store_replaceable, "chmod o-w "),
    ("store-lock", "problem", store_locked, "kill 4711"),
    ("store-lock", "problem", store_held_by_another_broker, f"kill {os.getpid()}"),
    ("store-content", "problem", store_is_something_else, "restore the newest backup"),
    ("store-content", "problem", store_tampered, "Keep the file as evidence"),
    ("store-content", "problem", store_of_a_later_release, "Start the release that wrote it"),
    ("overrides", "warning", everything_stopped, "broker stop lift"),
    ("keys-directory", "problem", keys_directory_open, "chmod 700 "),
    ("keys-directory", "problem", keys_directory_is_a_link, "Set [keys] dir to the directory itself"),
    ("key-files", "problem", key_read_by_others, "chmod 600 "),
    ("key-files", "problem", key_garbage, "Restore it from the backup, or: mv "),
    ("key-files", "problem", key_misnamed, "Restore it from the backup, or: mv "),
    ("key-files", "problem", checkpoint_key_misnamed, "Restore it from the backup, or: mv "),
    ("key-rotation", "warning", rotation_overdue, "Start the broker"),
    ("key-rotation", "warning", checkpoint_rotation_overdue, "Start the broker"),
    ("key-rotation", "warning", next_key_of_a_clock_ahead, "rotate --emergency"),
    ("key-leftovers", "warning", key_put_back, "shred -u "),
    ("key-leftovers", "warning", key_of_nobody, "shred -u "),
    ("key-ring", "problem", key_gone, "Restore it from the backup that belongs to this store"),
    ("checkpoint-key", "problem", checkpoint_key_gone, "Restore it from the backup that belongs to this store"),
    ("checkpoint-key", "problem", checkpoint_key_replaced, "Restore it from the backup that belongs to this store"),
    ("checkpoint-key", "problem", issuer_renamed, 'back to "https://broker.example.org"'),
    ("policy-directory", "problem", policy_nowhere, "broker init"),
    ("policy-directory", "problem", policy_others_write, "chmod -R o-w "),
    ("policy-loads", "problem", policy_does_not_load, "broker policy check "),
    ("policy-loads", "problem", policy_golden_case_fails, "broker policy check "),
    ("policy-owners", "warning", policy_without_owner, "business_owner and security_owner"),
    ("policy-stoppers", "warning", policy_nobody_may_stop, "broker.override.impose"),
    ("policy-stoppers", "warning", policy_without_a_second_person, "Add a second operator"),
    ("policy-stoppers", "warning", policy_with_one_person_for_both, "of another person"),
    ("policy-spending", "warning", policy_without_redemption, "Permit broker.redeem to services"),
    ("policy-spending", "warning", policy_that_lets_another_redeem, "Permit broker.redeem to services"),
    ("policy-spending", "warning", policy_without_reports, "Permit broker.outcome.report to services"),
    ("identity-issuers", "problem", issuer_down, "curl https://127.0.0.1:"),
    ("identity-issuers", "problem", issuer_of_another_name, "correct [[oidc]] issuer"),
    ("identity-issuers", "problem", issuer_without_keys, "curl https://127.0.0.1:"),
    ("identity-issuers", "problem", issuer_of_another_authority, "ca_file"),
    ("identity-issuers", "problem", authorities_others_write, "chmod o-w "),
    ("persons", "warning", person_of_an_unconfigured_issuer, "Add an [[oidc]]"),
    ("persons", "warning", issuer_that_knows_nobody, "remove the [[oidc]]"),
    ("customers", "warning", customers_of_an_unconfigured_issuer, "Add an [[oidc]]"),
    ("customers", "warning", customers_by_another_claim, "Leave subject_claim"),
    ("customers", "warning", customers_of_the_approvers_client, "a client of its own"),
    ("customers", "warning", customers_whom_nobody_may_bring, "Permit broker.approval.confirm"),
    ("groups", "warning", group_that_may_not_answer, 'to Role::"duty"'),
    ("groups", "warning", group_that_may_only_look, "Permit broker.approval.read and broker.approval.decide"),
    ("groups", "warning", group_of_whom_too_few_may_answer, 'to Role::"duty"'),
    ("groups", "warning", group_at_the_end_of_an_escalation, 'to Role::"security"'),
    ("groups", "warning", group_that_drift_is_told_to_in_vain, 'to Role::"security"'),
    ("policy-domains", "problem", policy_of_another_trust_domain, "Put spiffe://example.org/"),
    ("workload-socket", "problem", socket_not_named, "Set [workload_api] socket"),
    ("workload-socket", "problem", socket_gone, "spire-agent healthcheck"),
    ("workload-api", "problem", agent_dead, "spire-agent healthcheck"),
    ("workload-api", "problem", agent_refuses, "spire-agent healthcheck"),
    ("workload-entry", "problem", no_entry, "spire-server entry create -spiffeID spiffe://example.org/broker"),
    ("svid-choice", "problem", entry_of_another, "spire-server entry create -spiffeID spiffe://example.org/broker"),
    ("svid-choice", "problem", wrong_trust_domain, '"spiffe://acme.internal/broker"'),
    ("svid-choice", "warning", several_svids, "selectors of its own"),
    ("svid-choice", "problem", same_svid_twice, "spire-server entry delete"),
    ("svid-form", "problem", svid_can_sign, "ca_key_type"),
    ("svid-form", "problem", svid_of_a_weak_key, "ca_key_type"),
    ("svid-time", "problem", svid_expired, "timedatectl"),
    ("trust-bundle", "problem", bundle_missing, "spire-server bundle show"),
    ("trust-bundle", "problem", bundle_expired, "spire-server bundle show"),
    ("svid-chain", "problem", bundle_of_another_server, "spire-server bundle show, and compare"),
    ("federation", "problem", federated_bundle_missing, "-federatesWith spiffe://partner.example"),
    ("clock", "problem", clock_behind_spire, "timedatectl set-ntp true"),
    ("clock", "problem", clock_behind_the_log, "timedatectl set-ntp true"),
    ("port", "problem", port_taken, "ss -ltnp"),
    ("port", "problem", address_of_another_machine, "an address of this machine"),
    ("port", "warning", address_without_a_port, "a port of your choice"),
    ("running", "problem", admin_socket_of_something_else, "ss -lxp"),
]


@pytest.mark.parametrize(
    ("check", "level", "broken", "fix"), BROKEN, ids=[f"{row[0]}-{row[2].__name__}" for row in BROKEN]
)
def test_a_broken_set_up(house: House, check: str, level: str, broken: Break, fix: str) -> None:
    broken(house)
    status, found = house.doctor()
    shown = {name: each for name, each in found.items() if each["level"] not in ("ok", "not run")}
    assert set(shown) == {check}, shown
    assert (shown[check]["level"], status) == (level, int(level == "problem"))
    assert fix in shown[check]["fix"]
    assert shown[check]["what"]
    assert shown[check]["why"]


UNUSABLE: dict[str, tuple[Callable[[House], object], str]] = {
    "not-there": (lambda house: house.config.unlink(), "broker init"),
    "not-toml": (lambda house: house.config.write_text("[broker"), "Correct the keys"),
    "unknown-key": (lambda house: house.edit("[limits]", "[limits]\nheart = 1"), "Correct the keys"),
    "missing-key": (lambda house: house.edit("issuer = ", "# issuer = "), "Correct the keys"),
    "bad-value": (lambda house: house.edit('"https://', '"http://'), "Correct the keys"),
}


@pytest.mark.parametrize(("broken", "fix"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_configuration_that_cannot_be_used(house: House, broken: Break, fix: str) -> None:
    broken(house)
    status, found = house.doctor()
    assert (status, list(found)) == (78, ["config"])
    assert (found["config"]["level"], fix in found["config"]["fix"]) == ("problem", True)


def test_a_misspelt_variable_is_named(house: House) -> None:
    status, found = house.doctor(BROKER_STORE__ULR="x")
    assert (status, "BROKER_STORE__ULR" in found["config"]["what"]) == (78, True)
    assert "Unset the variable" in found["config"]["fix"]


def test_what_stands_above_a_problem_is_not_run_and_says_why(house: House) -> None:
    house.spire.refuse()
    _, found = house.doctor()
    above = {name for name, each in found.items() if each["level"] == "not run"}
    assert above == {"svid-choice", "svid-form", "svid-time", "trust-bundle", "svid-chain", "federation"}
    assert found["svid-choice"]["what"] == "cannot be checked before workload-entry is right"
    assert (found["clock"]["level"], found["port"]["level"]) == ("ok", "ok")


def test_a_finding_that_is_accepted_does_not_count(house: House) -> None:
    issuer_of_another(house)
    assert house.doctor()[0] == 1
    status, found = house.doctor("--accept", "issuer-name")
    assert (status, found["issuer-name"]["level"]) == (0, "accepted")
    assert invoke("doctor", "--accept", "nonsense").exit_code == 2


def test_the_environment_names_the_socket_when_the_file_does_not(house: House) -> None:
    socket_not_named(house)
    assert house.doctor(SPIFFE_ENDPOINT_SOCKET=house.spire.socket)[0] == 0
    status, found = house.doctor(SPIFFE_ENDPOINT_SOCKET="tcp://127.0.0.1:1")
    assert (status, "unix:/path" in found["workload-socket"]["fix"]) == (1, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
def test_a_store_of_another_user(house: House) -> None:
    open_store(house).close()
    os.chown(house.store, 12345, -1)
    status, found = house.doctor()
    assert (status, found["store-file"]["level"]) == (1, "problem")
    assert "12345" in found["store-file"]["what"]
    assert f"chown {os.geteuid()} " in found["store-file"]["fix"]


def test_people_get_a_table_without_colour_where_nobody_looks(house: House) -> None:
    port_taken(house)
    shown = invoke("doctor", "--config", house.config)
    assert shown.exit_code == 1
    assert "PROBLEM  port" in shown.output
    assert "→ See who listens" in shown.output
    assert "1 problem" in shown.output
    assert "\x1b" not in shown.output


def test_what_stands_in_files_is_shown_and_not_interpreted(house: House) -> None:
    house.edit("[limits]", '[limits]\n"[red]\\u001b[31mheart" = 1')
    shown = invoke("doctor", "--config", house.config)
    assert shown.exit_code == 78
    assert "[red]" in shown.output
    assert "\x1b" not in shown.output


def test_no_key_is_ever_shown(house: House) -> None:
    served(house)
    for path in house.keys.glob("*.pem"):
        path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IROTH)
    _, found = house.doctor()
    shown = str(found)
    for path in house.keys.glob("*.pem"):
        assert path.read_text().splitlines()[1] not in shown
