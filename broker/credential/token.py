"""Token and Credential: what a caller holds. A token cannot print itself."""

from dataclasses import dataclass
from typing import NoReturn

from broker.credential.grant import Grant
from broker.intent import digest


class Token:
    """A signed token whose repr, str and format are the credential's id; pickling and copying by value are refused."""

    __slots__ = ("_credential_id", "_text")

    def __init__(self, text: str, *, credential_id: str) -> None:
        self._text = text
        self._credential_id = credential_id

    def reveal(self) -> str:
        """Return the token itself, to put it on the wire. The only way to see it."""
        return self._text

    def digest(self) -> str:
        """Return SHA-256 over the token's ASCII text; what the audit log names it by."""
        return digest(self._text.encode("ascii"))

    def __repr__(self) -> str:
        """Return the credential's id."""
        return f"<token of {self._credential_id}>"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        """Return the credential's id, whatever the format."""
        return repr(self)

    def __reduce__(self) -> NoReturn:
        """Refuse to be serialised by accident."""
        message = "a token is not serialised; reveal() it onto the wire"
        raise TypeError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The signed token that carries a grant, and the decision behind it."""

    token: Token
    grant: Grant
    decision_id: str
