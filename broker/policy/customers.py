"""Customers: people whom the bundle does not name, and whose word about their own task counts all the same.

A task type says by whom they are known: by an issuer of OpenID Connect, as users of one client of it, which is that of
one front end. A customer is who such an issuer says, and is nobody anywhere else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker.policy.persons import is_issuer
from broker.policy.table import Table

if TYPE_CHECKING:
    from broker.policy.entities import Register

_AUDIENCE: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerSignIn:
    """Where customers sign in.

    Attributes:
        front_end: SPIFFE ID of the one service that begins tasks for them, and brings their word.
        issuer: the `iss` of their ID tokens.
        audience: the `aud` of these: the front end's client id at that issuer, and of nothing else.

    """

    front_end: str
    issuer: str
    audience: str


def sign_ins_of(register: "Register", front_end: str) -> Mapping[str, frozenset[str]]:
    """Return the audiences at each issuer whose users are the customers of a front end, of whatever task type."""
    found: dict[str, frozenset[str]] = {}
    for kind in register.task_types.values():
        for each in kind.customers:
            if each.front_end == front_end:
                found[each.issuer] = found.get(each.issuer, frozenset()) | {each.audience}
    return found


def read_customers(table: Table) -> tuple[CustomerSignIn, ...]:
    """Read the `customers` of a task type; what is wrong is noted."""
    found = tuple(_sign_in(inner) for inner in table.tables("customers"))
    if len(set(found)) != len(found):
        table.problem("customers names one sign-in twice; name it once")
    return found


def _sign_in(table: Table) -> CustomerSignIn:
    sign_in = CustomerSignIn(
        front_end=table.spiffe_id("front_end"), issuer=table.text("issuer"), audience=table.text("audience")
    )
    if table.has("issuer") and not is_issuer(sign_in.issuer):
        table.problem("issuer is an https URL without query or fragment, exactly as its tokens have it in iss")
    if table.has("audience") and not _AUDIENCE.fullmatch(sign_in.audience):
        table.problem("audience is 1 to 255 characters of ASCII, exactly as the issuer's tokens have it in aud")
    table.done()
    return sign_in
