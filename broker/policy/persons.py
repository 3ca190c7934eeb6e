"""Persons: who stands behind the identities that approve. One person counts once, by however many of them it comes."""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register

_SUBJECT: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """How an issuer of OpenID Connect knows a person; both are compared byte for byte."""

    issuer: str
    subject: str

    @property
    def name(self) -> str:
        """Return it as one text: no issuer has a '#', so there is one way to read it."""
        return f"{self.issuer}#{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person.

    Attributes:
        name: what the bundle calls it, personal; of one that an operator implies, the operator's SPIFFE ID; of a
            customer, issuer and subject.
        tenants: those that it speaks for.
        all_tenants: whether it speaks for every tenant.
        groups: those that it is in; approvals ask for groups.
        spiffe_ids: of the operators that it is.
        identities: by which issuers know it.

    """

    name: str
    tenants: tuple[str, ...]
    all_tenants: bool = False
    groups: tuple[str, ...] = ()
    spiffe_ids: tuple[str, ...] = ()
    identities: tuple[Identity, ...] = ()

    def speaks_for(self, tenant: str) -> bool:
        """Whether it may say something about what belongs to this tenant."""
        return self.all_tenants or tenant in self.tenants

    @property
    def names(self) -> tuple[str, ...]:
        """What a front end can have called it when it began a task: its name, or one of its identities."""
        return (self.name, *(each.name for each in self.identities if each.name != self.name))

    @property
    def known_as(self) -> frozenset[str]:
        """Everything that a front end or an agent may call it."""
        return frozenset({*self.names, *self.spiffe_ids, *(each.subject for each in self.identities)})

    @property
    def means(self) -> tuple[str, ...]:
        """What it can be recognised by, each as text."""
        return (*self.spiffe_ids, *(f"subject {each.subject!r} of {each.issuer}" for each in self.identities))


def person_of(register: "Register", spiffe_id: str) -> Person | None:
    """Return the person that an operator is; one that no [[person]] claims is a person of its own."""
    declared = next((each for each in register.persons.values() if spiffe_id in each.spiffe_ids), None)
    operator = register.operators.get(spiffe_id)
    if declared or operator is None:
        return declared
    return Person(
        name=spiffe_id,
        tenants=operator.tenants,
        all_tenants=operator.all_tenants,
        groups=operator.roles,
        spiffe_ids=(spiffe_id,),
    )


def person_of_identity(register: "Register", issuer: str, subject: str) -> Person | None:
    """Return the person whom an issuer knows by that subject; both match exactly, or nobody is found."""
    known = Identity(issuer=issuer, subject=subject)
    return next((each for each in register.persons.values() if known in each.identities), None)


def person_named(register: "Register", name: str) -> Person | None:
    """Return whom a name stands for: a person or operator of the bundle, or whoever has an identity."""
    found = register.persons.get(name) or person_of(register, name)
    identity = _identity_named(name)
    if found is not None or identity is None:
        return found
    return person_of_identity(register, identity.issuer, identity.subject) or customer(identity)


def customer(identity: Identity) -> Person:
    """Return the person behind an identity that the bundle does not know: of no tenant, and in no group."""
    return Person(name=identity.name, tenants=(), identities=(identity,))


def is_subject(text: str) -> bool:
    """Whether a text can be the subject of an identity."""
    return _SUBJECT.fullmatch(text) is not None


def _identity_named(name: str) -> Identity | None:
    issuer, _, subject = name.partition("#")
    return Identity(issuer=issuer, subject=subject) if is_issuer(issuer) and is_subject(subject) else None


def everybody(register: "Register") -> tuple[Person, ...]:
    """Return every person there is: those declared, and those that operators imply."""
    claimed = {spiffe_id for each in register.persons.values() for spiffe_id in each.spiffe_ids}
    implied = (person_of(register, spiffe_id) for spiffe_id in register.operators if spiffe_id not in claimed)
    return (*register.persons.values(), *(each for each in implied if each))


def read_person(table: Table, tenants: tuple[str, ...], operators: AbstractSet[str]) -> Person:
    """Read one [[person]]; what is wrong is noted. Who else has its identities is for whoever reads them all.

    Args:
        table: as it stands in the bundle.
        tenants: what it says about tenants, read already.
        operators: the SPIFFE IDs that it may have.

    """
    person = Person(
        # A name of the bundle's grammar: no two that look alike, and none that is a SPIFFE ID.
        name=table.name("name"),
        tenants=tenants,
        all_tenants=table.flag("all_tenants"),
        groups=table.names("groups", at_least=0),
        spiffe_ids=table.spiffe_ids("spiffe_ids") if table.has("spiffe_ids") else (),
        identities=tuple(_identity(inner) for inner in table.tables("identities")),
    )
    if person.all_tenants == bool(person.tenants):
        table.problem("give either tenants or all_tenants = true")
    if not person.identities and not table.has("spiffe_ids"):
        table.problem("give spiffe_ids, identities or both; nobody can be recognised by a name")
    for spiffe_id in person.spiffe_ids:
        if spiffe_id not in operators:
            table.problem(f"{spiffe_id} is not an [[operator]] of this file; add it or correct the name")
    table.done()
    return person


def _identity(table: Table) -> Identity:
    identity = Identity(issuer=table.text("issuer"), subject=table.text("subject"))
    if table.has("issuer") and not is_issuer(identity.issuer):
        table.problem("issuer is an https URL without query or fragment, exactly as its tokens have it in iss")
    if table.has("subject") and not is_subject(identity.subject):
        table.problem("subject is at most 255 characters of ASCII, exactly as the issuer's tokens have it")
    table.done()
    return identity


def is_issuer(text: str) -> bool:
    """Whether a text can be the `iss` of an issuer of OpenID Connect: an https URL without query or fragment."""
    try:
        parts = urlsplit(text)
        host = parts.hostname and parts.port != 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" ?#@\\")
    return bool(host and plain and text.startswith("https://"))
