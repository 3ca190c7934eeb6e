"""Meaning: what a reason says, to whom, and of which category it is. The reasons themselves are in `errors`."""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Category(Enum):
    """What kind of "no" a refusal is; the server maps it to one gRPC status code."""

    UNAUTHENTICATED = "unauthenticated"
    INVALID = "invalid"
    DENIED = "denied"
    UNMET = "unmet"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    OUT_OF_RANGE = "out of range"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    TOKEN = "token"  # noqa: S105  # a category, no password


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a reason says to whom."""

    category: Category
    sentence: str
    next_step: str


IDENTITY = "I could not prove to the system who I am, so it did not let me do this."
REQUEST = "I asked for this in a way the system does not understand."
POLICY = "I am not allowed to do this."
LATER = "The system that checks what I may do is not available right now. Nothing was done."
SERVICE = "The service did not accept my permission for this."


def identity(next_step: str, *, sentence: str = IDENTITY) -> Meaning:
    """Return the meaning of: the caller could not be authenticated."""
    return Meaning(category=Category.UNAUTHENTICATED, sentence=sentence, next_step=next_step)


def invalid(next_step: str) -> Meaning:
    """Return the meaning of: the request cannot be understood."""
    return Meaning(category=Category.INVALID, sentence=REQUEST, next_step=next_step)


def denied(next_step: str, *, sentence: str = POLICY) -> Meaning:
    """Return the meaning of: understood, and not allowed."""
    return Meaning(category=Category.DENIED, sentence=sentence, next_step=next_step)


def unmet(sentence: str, next_step: str) -> Meaning:
    """Return the meaning of: allowed only after something else happens."""
    return Meaning(category=Category.UNMET, sentence=sentence, next_step=next_step)


def unknown(next_step: str) -> Meaning:
    """Return the meaning of: it names something that does not exist."""
    return Meaning(category=Category.UNKNOWN, sentence=REQUEST, next_step=next_step)


def cursor(next_step: str) -> Meaning:
    """Return the meaning of: a stream cannot go on from there."""
    return Meaning(category=Category.OUT_OF_RANGE, sentence=REQUEST, next_step=next_step)


def unavailable(next_step: str) -> Meaning:
    """Return the meaning of: the broker cannot, now."""
    return Meaning(category=Category.UNAVAILABLE, sentence=LATER, next_step=next_step)


def token(next_step: str) -> Meaning:
    """Return the meaning of: a validator will not accept this credential."""
    return Meaning(category=Category.TOKEN, sentence=SERVICE, next_step=next_step)
