"""The identity token of a person, as it goes with a call: looked at before it is sent, and shown nowhere."""

import re
from typing import Final

from broker.client.errors import refused
from broker.errors import Reason, Refusal

# What the broker takes at most.
MAX_LENGTH: Final = 12 * 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def is_token(text: str) -> bool:
    """Say whether a text can be a token at all: gRPC sends nothing else, and says so in words of its own."""
    return len(text) <= MAX_LENGTH and _TOKEN.fullmatch(text) is not None


def authorization(identity_token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that says which person calls; nothing for nobody but the caller itself.

    Raises:
        Unauthenticated: IDENTITY_TOKEN_REFUSED, this is no token; an empty one is none either.

    """
    if identity_token is None:
        return ()
    if not is_token(identity_token):
        problem = "size" if len(identity_token) > MAX_LENGTH else "form"
        raise refused(Refusal(Reason.IDENTITY_TOKEN_REFUSED, problem))
    return (("authorization", f"Bearer {identity_token}"),)
