"""What goes with a call as a person's identity token: what the broker's door would take as one, and nothing else."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.client import Unauthenticated
from broker.client.identity_token import MAX_LENGTH, authorization
from broker.errors import Reason, Refusal
from broker.server.peer import identity_token_of


def taken(text: str) -> bool:
    """Whether the door takes this for a token."""
    try:
        found = identity_token_of([("authorization", f"Bearer {text}")])
    except Refusal:
        return False
    return found is not None and found.reveal() == text


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-z0-9._~+/-]{1,20}=*[ \n]?", fullmatch=True))
@example("")
@example(" a")
@example("a\n")
@example("a" * MAX_LENGTH)
@example("a" * (MAX_LENGTH + 1))
def test_it_is_what_the_door_takes(text: str) -> None:
    try:
        ((name, value),) = authorization(text)
    except Unauthenticated as refusal:
        assert refusal.reason is Reason.IDENTITY_TOKEN_REFUSED
        assert refusal.detail in {"form", "size"}
        assert not taken(text)
    else:
        assert (name, value) == ("authorization", f"Bearer {text}")
        assert taken(text)


def test_nobody_named_is_the_caller_itself() -> None:
    assert authorization(None) == ()
    with pytest.raises(Unauthenticated):
        authorization("")
