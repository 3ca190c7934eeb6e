"""Canaries: secrets and personal values go through everything, and come out nowhere but where they belong (I8)."""

from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from tests.attacks.canary import Canary, Content, Place
from tests.attacks.canary_kept import Run, canary
from tests.attacks.canary_run import canary_run
from tests.attacks.house import open_house
from tests.attacks.talkative import talkative

# The table: what goes through. Everything else about a row stands where it is sent, in canary_run and canary_ends.
SECRETS = (
    "token of an exchange", "token of a conversation", "token of a read", "token that a service accepted",
    "token that is none", "identity token", "refused identity token", "key of tokens", "key of checkpoints",
    "key of cursors", "key of broker", "key of support-assistant", "key of wholesale-assistant", "key of orders",
    "key of chat", "key of approvals", "key of security", "key of duty",
    "key of a redemption", "salt of a commitment", "environment", "secret in the configuration",
    "file that is no identity token", "metadata traceparent", "metadata authorization", "metadata x-api-key",
    "approver's subject",
)  # fmt: skip
PERSONAL = (
    "parameter", "refused parameter", "held parameter", "person acted for", "person of a task", "approver's name",
    "conversation", "prompt's digest", "prompt reference", "tool call reference", "digest of what was asked",
    "intent's digest", "call's digest", "reference of an outcome", "who undid it", "reason of a denial",
    "reason of a withdrawal", "reason of a revocation", "reason of a lift", "reason of an override", "reason to go on",
    "reason of a rotation", "reason of a narrowing", "reason to resume", "reason of a cancellation",
)  # fmt: skip
BAD = (
    "bad parameter name", "bad parameters", "bad parameter of a stream", "bad purpose", "bad action", "bad audience",
    "bad task", "bad resource", "bad person", "bad request id", "bad conversation", "bad tenant", "bad agent",
    "bad approval", "bad credential", "bad text", "bad message", "bad cursor",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Done:
    """A run that is over, and what came out, ready to be searched."""

    run: Run
    places: Mapping[Place, Content]


@pytest.fixture(scope="module")
async def done(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Done]:
    with talkative() as lines:
        async with open_house() as house, canary_run(house, tmp_path_factory.mktemp("canaries")) as run:
            run.keep(Place.LOGS, *lines)
            yield Done(run=run, places={place: Content.of(bytes(run.places[place])) for place in Place})


@pytest.mark.parametrize("name", SECRETS + PERSONAL + BAD)
def test_i8_it_comes_out_where_it_belongs_and_nowhere_else(done: Done, name: str) -> None:
    one = done.run.canaries[name]
    found = one.found(done.places)
    assert one.home in found, "it is not even where it has to be: the row proves nothing"
    assert found <= one.allowed()


def test_i8_every_canary_has_a_row(done: Done) -> None:
    assert sorted(done.run.canaries) == sorted([*SECRETS, *PERSONAL, *BAD])
    assert len(SECRETS) >= 20
    assert len(done.run.canaries) >= 30


# What must be in a place, so that nothing was found in it because nobody looked.
CONTROLS = {
    Place.LOGS: (b"/broker.v1.ExchangeService/Exchange", b"grpc", b"IDENTITY_TOKEN_REFUSED"),
    Place.ERRORS: (b"POLICY_FORBIDDEN", b"REQUEST_INVALID"),
    Place.EVENTS: (b"credential.granted", b"outcome.reported", b"approval.", b"task.resumed"),
    Place.STREAM: (b"credential.granted", b"outcome.reported", b"override."),
    Place.PERSONAL: (b"credential.granted", b"openings"),
    Place.FEED: (b"revoked {", b"status_indexes"),
    Place.STATUS: (b"spiffe://example.org/broker",),
    Place.EXPORTS: (b"credential.granted", b"class_uid", b"timeUnixNano"),
    Place.COMMANDS: (b"credential.granted", b"class_uid", b"holds no identity token"),
    Place.APPROVERS: (b"appr_",),
    Place.ANSWERS: (b"cred_",),
    Place.STORE: (b"SQLite format 3",),
    Place.KEYS: (b"PRIVATE KEY",),
    Place.SPOOL: (canary("reference of an outcome").encode(),),
    Place.SENT: (b"PRIVATE KEY",),
}


@pytest.mark.parametrize("place", Place, ids=lambda each: each.name)
def test_i8_every_place_was_looked_into(done: Done, place: Place) -> None:
    for known in CONTROLS[place]:
        assert known in done.places[place].whole, known


# --- the searcher ----------------------------------------------------------------------------------------------------

SECRET = b"\x00\xffcanary, of 24 bytes?\xfe\x01"
LEAKS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "base64": b64encode,
    "base64 in lines": encodebytes,
    "base64url without padding": lambda value: urlsafe_b64encode(value).rstrip(b"="),
    "base64 one later": lambda value: b64encode(b"{" + value + b"}"),
    "base64 two later": lambda value: b64encode(b"{{" + value + b"}}"),
    "base64url in a token": lambda value: urlsafe_b64encode(b'{"a":"' + value + b'"}').rstrip(b"="),
    "hexadecimal": lambda value: value.hex().encode(),
    "hexadecimal in capitals": lambda value: value.hex().upper().encode(),
    "hexadecimal with colons": lambda value: value.hex(":").encode(),
    "hexadecimal in lines": lambda value: b"\n  ".join(value.hex().encode()[n : n + 8] for n in range(0, 48, 8)),
    "repr": lambda value: repr(value).encode(),
    "percent": lambda value: quote(value, safe="").encode(),
    "by lines": lambda value: value[:9] + b"\n    " + value[9:15] + b'"\n + "' + value[15:],
    "by escaped lines": lambda value: value[:9] + rb"\n" + value[9:],
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_would_be_found(leak: str) -> None:
    content = Content.of(b"level=info event=call " + LEAKS[leak](SECRET) + b" status=OK")
    assert content.holds(SECRET)
    assert not content.holds(SECRET[::-1])


@pytest.mark.parametrize("place", Place, ids=lambda each: each.name)
def test_a_leak_at_any_place_would_be_told(place: Place) -> None:
    places = {each: Content.of(SECRET if each in (place, Place.KEYS) else b"nothing to see") for each in Place}
    one = Canary(name="a secret", forms=(b"another form of it", SECRET), home=Place.KEYS)
    assert (one.found(places) <= one.allowed()) == (place in (Place.KEYS, Place.SENT))
