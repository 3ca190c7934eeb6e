"""Approver: the person behind a call, by the caller's own SVID or by a verified identity token; never by a field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from broker.credential.token import Token
from broker.errors import Reason, Refusal
from broker.operations.attempt import ActivePolicy, Visit
from broker.operations.calls import Context
from broker.person.identity_token import VerifiedIdentity
from broker.policy.customers import CustomerSignIn, sign_ins_of
from broker.policy.entities import Operator, Service
from broker.policy.persons import Identity, Person, customer, is_subject

# With the audiences, by issuer, of those who may come as customers.
VerifyIdentity: TypeAlias = Callable[[Token, datetime, Mapping[str, frozenset[str]]], VerifiedIdentity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """Who says yes or no.

    Attributes:
        person: who, as the active bundle has it.
        spiffe_id: of the connection that it was said over.
        identity: what a token proved; None when the connection's own SVID did.
        sign_in: where a customer signed in, who says something about tasks that are theirs alone; None: no customer.

    """

    person: Person
    spiffe_id: str
    identity: VerifiedIdentity | None = None
    sign_in: CustomerSignIn | None = None

    @property
    def authenticated_at(self) -> datetime | None:
        """When the person last authenticated, UTC; None when nobody says: an SVID does not."""
        return self.identity.authenticated_at if self.identity else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvers:
    """Says who the person behind a call is.

    Attributes:
        policy: the active bundle, which says who is whom.
        verify: checks an identity token; raises Refusal IDENTITY_TOKEN_REFUSED, IDENTITY_UNAVAILABLE.

    """

    policy: ActivePolicy
    verify: VerifyIdentity

    def __call__(self, visit: Visit, context: Context) -> Approver:
        """Return the person.

        Raises:
            Refusal: PERSON_UNKNOWN, IDENTITY_TOKEN_REFUSED, IDENTITY_UNAVAILABLE, PRINCIPAL_UNKNOWN,
                POLICY_UNAVAILABLE.

        """
        register, who = self.policy().register, str(visit.principal.spiffe_id)
        caller = register.principal(who)
        if caller is None:
            raise Refusal(Reason.PRINCIPAL_UNKNOWN)
        if not isinstance(caller, Operator | Service):  # whatever token an agent has got hold of
            raise Refusal(Reason.PERSON_UNKNOWN, "agents approve nothing")
        own = register.person_of(who)
        if context.identity_token is None:
            if own is None:
                raise Refusal(Reason.PERSON_UNKNOWN, "a service says nothing of its own: send an identity token")
            return Approver(person=own, spiffe_id=who)
        customers = sign_ins_of(register, who)
        identity = self.verify(context.identity_token, visit.now, customers)
        person = register.person_of_identity(identity.issuer, identity.subject)
        if identity.audience in customers.get(identity.issuer, ()):
            # A customer, whoever else it is: what is shown to a front end gives nothing but what customers have.
            return _customer(person, who, identity)
        if person is None:
            raise Refusal(Reason.PERSON_UNKNOWN)
        if own is not None and own.name in register.persons and own != person:
            # Else whoever holds another's token would be two persons: one by the token, one by the SVID.
            raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "it is another person's than the connection's")
        return Approver(person=person, spiffe_id=who, identity=identity)


def _customer(known: Person | None, who: str, identity: VerifiedIdentity) -> Approver:
    if not is_subject(identity.subject):
        raise Refusal(Reason.IDENTITY_TOKEN_REFUSED, "sub")
    return Approver(
        person=known or customer(Identity(issuer=identity.issuer, subject=identity.subject)),
        spiffe_id=who,
        identity=identity,
        sign_in=CustomerSignIn(front_end=who, issuer=identity.issuer, audience=identity.audience),
    )
