"""Persons: who is whom, and what keeps a bundle with a doubt about it from loading."""

import pytest

from broker.policy.bundle import BundleProblem, compile_bundle, read_bundle
from broker.policy.persons import Identity, Person, everybody, is_issuer, person_named
from tests.unit.policy.bundles import DESK, EXAMPLE, ORDERS, SECURITY, SUPPORT, added, replaced

LEAD = "spiffe://example.org/operator/refunds-lead"
DEPUTY = "spiffe://example.org/operator/refunds-deputy"
DUTY = "spiffe://example.org/operator/duty"
ISSUER = "https://login.example.org/realms/staff"
ANA = f"""
[[person]]
name = "ana"
tenants = ["retail"]
groups = ["refund-approvers", "duty"]
spiffe_ids = ["{DUTY}", "{DESK}"]
identities = [{{ issuer = "{ISSUER}", subject = "248289761001" }}]
"""
BEN = f"""
[[person]]
name = "ben"
all_tenants = true
identities = [{{ issuer = "{ISSUER}", subject = "B" }}, {{ issuer = "https://other.example/", subject = "B" }}]
"""


def test_one_person_is_found_by_each_of_its_identities_and_counts_once() -> None:
    register = compile_bundle(added("entities.toml", ANA + BEN)).register
    ana, ben = register.persons["ana"], register.persons["ben"]
    found = (register.person_of(DUTY), register.person_of(DESK), register.person_of_identity(ISSUER, "248289761001"))
    assert found == (ana, ana, ana)
    assert register.person_of_identity("https://other.example/", "B") == ben
    assert (ana.groups, ana.speaks_for("retail"), ana.speaks_for("wholesale")) == (
        ("refund-approvers", "duty"),
        True,
        False,
    )
    assert ben.speaks_for("wholesale")
    assert [each.name for each in everybody(register)] == ["ana", "ben", SECURITY, LEAD, DEPUTY]


def test_a_group_is_counted_in_persons() -> None:
    """Both operators of a group are one person: a quorum of two can never come together, and the bundle says so."""
    both = ANA.replace(DUTY, LEAD).replace(DESK, DEPUTY)
    assert compile_bundle(added("entities.toml", both)).register.members_of("refund-approvers") == {"ana"}
    quorum = r"\"owners\": \"excluded\"", r"\"quorum\": 2"
    compile_bundle(replaced("writes.cedar", *quorum))
    with pytest.raises(BundleProblem, match="which has 1 in entities"):
        compile_bundle(replaced("writes.cedar", *quorum, added("entities.toml", both)))


@pytest.mark.parametrize(
    ("issuer", "subject"),
    [
        (ISSUER, "b"),
        (ISSUER, "B "),
        (ISSUER + "/", "B"),
        (ISSUER.upper(), "B"),
        ("https://other.example", "B"),
        ("https://third.example/", "B"),
        (ISSUER, ""),
        ("", ""),
    ],
)
def test_an_identity_matches_exactly_or_not_at_all(issuer: str, subject: str) -> None:
    register = compile_bundle(added("entities.toml", BEN)).register
    assert register.person_of_identity(issuer, subject) is None
    assert register.person_of_identity(ISSUER, "B") is not None


def test_an_operator_whom_no_person_claims_is_one_of_its_own() -> None:
    register = compile_bundle(EXAMPLE).register
    assert register.person_of(DESK) == Person(name=DESK, tenants=("retail",), groups=("desk",), spiffe_ids=(DESK,))
    security = register.person_of(SECURITY)
    assert security is not None
    assert (security.all_tenants, security.groups) == (True, ("security",))
    assert [register.person_of(who) for who in (SUPPORT, ORDERS, "spiffe://example.org/operator/no", "")] == [None] * 4


def other(old: str, new: str) -> str:
    assert old in ANA
    return ANA.replace(old, new, 1)


@pytest.mark.parametrize(
    ("persons", "says"),
    [
        (other('name = "ana"\n', ""), "name is missing"),
        (other('"ana"', f'"{SECURITY}"'), "is not a name"),
        (other('"ana"', '"аna"'), "is not a name"),  # the first letter is Cyrillic
        (other('["retail"]', '["retial"]'), "tenant 'retial' is not declared"),
        (other('tenants = ["retail"]\n', ""), "either tenants or all_tenants"),
        (other('["retail"]', '["retail"]\nall_tenants = true'), "either tenants or all_tenants"),
        (other('"refund-approvers"', '"duty"'), "names one thing twice"),
        (other('"refund-approvers"', '"Refund approvers"'), "is not a name"),
        (other(DUTY, "spiffe://example.org/operator/none"), "operator/none is not an [[operator]]"),
        (other(DUTY, SUPPORT), "support-assistant is not an [[operator]]"),
        (other(DUTY, "duty"), "must be a list of SPIFFE IDs"),
        (other(ISSUER, "http://login.example.org"), "issuer is an https URL"),
        (other(ISSUER, ISSUER + "?a=b"), "issuer is an https URL"),
        (other("248289761001", "x" * 256), "subject is at most 255"),
        (other("248289761001", ""), "subject is at most 255"),
        (other("248289761001", "Ren\u00e9"), "subject is at most 255"),
        (other('subject = "248289761001"', "number = 1"), "subject is missing"),
        (other("subject =", "colour = 1, subject ="), "unknown key 'colour'"),
        (other("groups", "roles"), "unknown key 'roles'"),
        ('[[person]]\nname = "cy"\ntenants = ["retail"]', "give spiffe_ids, identities or both"),
        ('[[person]]\nname = "cy"\ntenants = ["retail"]\nspiffe_ids = []', "must be a list of SPIFFE IDs"),
        ('[[person]]\nname = "cy"\ntenants = ["retail"]\nidentities = []', "give spiffe_ids, identities or both"),
        (ANA + ANA, "person ana stands in the bundle twice"),
        (ANA + other('"ana"', '"cy"'), f"a person with {DUTY} stands in the bundle twice"),
        (ANA + other('"ana"', '"cy"'), "a person with subject '248289761001' of"),
    ],
)
def test_it_does_not_load(persons: str, says: str) -> None:
    with pytest.raises(BundleProblem) as problem:
        read_bundle(added("entities.toml", persons))
    assert says in str(problem.value)
    read_bundle(added("entities.toml", ANA + BEN))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (ISSUER, True),
        ("https://login.example.org", True),
        ("https://tenant.login.example/", True),
        ("https://127.0.0.1:8443/x", True),
        ("https://[::1]:8443", True),
        ("https://", False),
        ("https:///path", False),
        ("HTTPS://login.example.org", False),
        ("https://login.example.org/a b", False),
        ("https://user@login.example.org", False),
        ("https://login.example.org:port", False),
        ("https://login.example.org:0", False),
        ("https://l\u043egin.example.org", False),
        ("https://login.example.org/\n", False),
        ("https://login.example.org\\@evil.example", False),
        ("https://login.example.org#", False),
        ("login.example.org", False),
        ("", False),
    ],
)
def test_an_issuer_is_a_plain_https_url(text: str, good: bool) -> None:
    assert is_issuer(text) is good


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("ana", "ana"),
        (DUTY, "ana"),
        (SECURITY, SECURITY),
        (f"{ISSUER}#248289761001", "ana"),
        (f"{ISSUER}#7001", f"{ISSUER}#7001"),  # somebody whom nobody has named
        (f"{ISSUER}#a#b", f"{ISSUER}#a#b"),
        (f"{ISSUER}/#248289761001", f"{ISSUER}/#248289761001"),  # another issuer's
        (f"{ISSUER}#", None),
        (ISSUER, None),
        ("248289761001", None),
        ("#248289761001", None),
        ("http://login.example.org#7001", None),
        (f"{ISSUER}#caf\u00e9", None),
        (f"{ISSUER}#{'x' * 256}", None),
        (f"{ISSUER}#7001\n", None),
        ("Ana", None),
        ("", None),
    ],
)
def test_whom_a_name_stands_for(name: str, person: str | None) -> None:
    found = person_named(compile_bundle(added("entities.toml", ANA + BEN)).register, name)
    assert (found.name if found else None) == person
    if found is not None and "#" in found.name:
        assert (found.tenants, found.all_tenants, found.groups, found.spiffe_ids) == ((), False, (), ())
        assert found.names == (name,)
        assert not found.speaks_for("retail")


def test_by_what_a_front_end_may_call_somebody() -> None:
    ana = compile_bundle(added("entities.toml", ANA + BEN)).register.persons["ana"]
    assert ana.names == ("ana", f"{ISSUER}#248289761001")


def test_what_an_identity_is() -> None:
    assert Identity(issuer=ISSUER, subject="1") != Identity(issuer=ISSUER, subject="01")
